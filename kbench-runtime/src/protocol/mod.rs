//! The worker protocol: one JSON value a line, [`Request`]s on the worker's stdin, [`Event`]s on its stdout.
//!
//! Every number is resolved before it is sent: the worker knows nothing of manifests, toggles or expressions, and
//! every file it needs arrives as a [`Request::Blob`]. That is why the same worker runs behind `srun` or `ssh`.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod case;
pub mod external;
mod failure;
mod job;
pub(crate) mod pattern;
mod report;
mod sampling;

pub use crate::data::codec::Number;
pub use case::*;
pub use failure::*;
pub use job::*;
pub use pattern::Pattern;
pub use report::*;
pub use sampling::{Convergence, Disturbance, Sampling, SmClock};

/// The version of this protocol, exchanged in the first line each way; both sides must agree exactly.
pub const VERSION: u32 = 2;

/// Time between two [heartbeats](Event::Heartbeat) of a worker.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_millis(500);

/// Requests of the driver to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// The first line: opens the device.
    Hello {
        /// [`VERSION`] of the driver.
        protocol: u32,
        /// Which kind of device to open.
        device: DeviceKind,
        /// Which of the devices of that kind, counted from 0.
        index: u32,
        /// A folder for reference results, created if it can be; without one they live in memory only.
        cache: Option<PathBuf>,
        /// What is wrong with every launch of one kernel, in an audit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mutation: Option<Mutation>,
    },
    /// A file that later jobs name by its hash: machine code or a tensor's data.
    Blob {
        /// The name that jobs use: the blake3 hash of `data`, in hex.
        hash: String,
        /// The bytes, base64 on the wire.
        data: Bytes,
    },
    /// How long a launch or a sample of a C kernel may take in later jobs: its process is ended then, and the worker goes on.
    Limit {
        /// Seconds.
        seconds: f64,
    },
    /// Compare a kernel with its reference.
    Check(Box<CheckJob>),
    /// Compare outputs of another program with the reference.
    Inspect(Box<InspectJob>),
    /// Measure one or more kernels, interleaved.
    Time(Box<TimeJob>),
    /// Run a kernel once, for a tool that watches the worker. The worker's last job.
    Run(Box<RunJob>),
    /// Ask whether the device can tell the energy of a launch.
    Meter {
        /// Repeated in the answer.
        id: u64,
    },
}

/// Events of the worker for the driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The first line: the device is open.
    Hello {
        /// [`VERSION`] of the worker.
        protocol: u32,
        /// The device that was opened.
        device: DeviceInfo,
        /// UUIDs of the CUDA devices that the worker sees, by index; empty for other kinds.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        visible: Vec<String>,
    },
    /// No device could be opened; the worker exits.
    NoDevice {
        /// Why, for the user.
        message: String,
    },
    /// A job entered a stage. Sent before the stage starts, so that a hang can be placed, and often
    /// enough while timing that silence means a hang.
    Stage {
        /// The job's id.
        id: u64,
        /// What starts now.
        stage: Stage,
    },
    /// The worker is alive. Sent every [`HEARTBEAT`], whatever the worker does.
    #[serde(rename = "beat")]
    Heartbeat,
    /// The end of a [`Request::Check`] or [`Request::Inspect`] that ran to its end.
    Checked {
        /// The job's id.
        id: u64,
        /// One report a seed, in the job's order.
        seeds: Vec<SeedReport>,
    },
    /// The end of a [`Request::Time`] that ran to its end.
    Timed {
        /// The job's id.
        id: u64,
        /// One timing a case, in the job's order.
        timings: Vec<Timing>,
    },
    /// The end of a [`Request::Run`]; the worker frees what it holds and exits, so that the tool around it can report.
    Ran {
        /// The job's id.
        id: u64,
        /// What was counted where [`RunJob::count`] asked for it, or why nothing was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counts: Option<Result<Counts, String>>,
    },
    /// The answer to a [`Request::Meter`].
    Metered {
        /// The job's id.
        id: u64,
        /// Why the device cannot tell, where it cannot.
        energy: Result<(), String>,
    },
    /// The end of a job that could not be finished. After a [fatal](Failure::is_fatal) failure the worker exits.
    Failed {
        /// The job's id.
        id: u64,
        /// Index of the case of a [`TimeJob`] that failed; 0 for a check.
        case: usize,
        /// Why.
        failure: Failure,
    },
}

/// Where inside a job the worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Generating and uploading inputs.
    Inputs,
    /// Running the reference.
    Reference,
    /// Running the kernel for correctness: from here on silence is the kernel's fault.
    Launch,
    /// Comparing outputs on the host.
    Compare,
    /// Untimed launches before the samples.
    Warmup,
    /// Taking samples.
    Timing,
    /// Not a stage: from here on the case of this index runs. Always said where cases run one after another, and before
    /// each launch where [`TimeJob::announce`] asks for it.
    Case(usize),
}

/// When that was, to stand behind what happened.
impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Stage::Inputs => "while inputs were made",
            Stage::Reference => "in the reference",
            Stage::Launch => "in a launch",
            Stage::Compare => "while outputs were compared",
            Stage::Warmup => "in the launches before timing",
            Stage::Timing => "while it was timed",
            Stage::Case(_) => "between two kernels",
        })
    }
}

impl Stage {
    /// Whether the user's kernel runs in this stage, so that its deadline is the kernel's.
    pub fn runs_kernel(self) -> bool {
        matches!(self, Stage::Launch | Stage::Warmup | Stage::Timing)
    }
}

/// Which kind of device runs a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// An NVIDIA GPU, through the CUDA driver API.
    Cuda,
    /// This machine's CPU, through a shared object.
    Host,
    /// No device: a model of one, for tests of everything around it.
    Fake,
}

/// What is known of an open device. Zero or `None` where a kind has no such thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeviceInfo {
    /// Its kind.
    pub kind: DeviceKind,
    /// Its index among the devices of its kind.
    pub index: u32,
    /// The name the driver or the CPU gives.
    pub name: String,
    /// CUDA driver version (`13.0`), or the operating system's release.
    pub driver: String,
    /// Compute capability, major and minor.
    pub compute_capability: Option<(u32, u32)>,
    /// Streaming multiprocessors, or logical cores.
    pub multiprocessors: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Bytes of L2 (CUDA) or of the last-level cache (host).
    pub cache_bytes: u64,
    /// Most threads a block.
    pub max_threads_per_block: u32,
    /// Most bytes of shared memory a block may opt in to.
    pub max_shared_per_block: u32,
    /// Highest clock in kHz, 0 where unknown.
    pub clock_khz: u32,
}

impl DeviceInfo {
    /// Whether another device is of the same model, under a driver of the same version: their times may stand in one ranking.
    pub fn is_same_model(&self, other: &Self) -> bool {
        let model = |info: &Self| {
            (info.kind, info.name.clone(), info.driver.clone(), info.compute_capability, info.multiprocessors)
        };
        model(self) == model(other)
    }

    /// The properties of the model device of that index.
    pub fn fake(index: u32) -> Self {
        Self {
            kind: DeviceKind::Fake,
            index,
            name: "fake".into(),
            driver: "0".into(),
            compute_capability: None,
            multiprocessors: 1,
            memory_bytes: 1 << 30,
            cache_bytes: 1 << 20,
            max_threads_per_block: 1024,
            max_shared_per_block: 49_152,
            clock_khz: 1_000_000,
        }
    }
}

/// Bytes that travel as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD.decode(&*text).map(Bytes).map_err(serde::de::Error::custom)
    }
}

//! The worker protocol: one JSON value on each line, [`Request`]s on the worker's stdin, [`Event`]s on its stdout.
//!
//! Every number is computed before it is sent: the worker knows no manifests, toggles or expressions, and every needed
//! file arrives as a [`Request::Blob`]. So the same worker runs through `srun` or `ssh`.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use base64::Engine as _;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod case;
pub mod external;
mod failure;
mod job;
mod line;
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

/// Version of this protocol, exchanged in the first line in each direction; both sides must have the same.
pub const VERSION: u32 = 5;

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
        /// Kind of the device.
        device: DeviceKind,
        /// Index among the devices of that kind, from 0.
        index: u32,
        /// Folder for reference results, created if possible; without one they are kept in memory only.
        cache: Option<PathBuf>,
        /// Fault of every launch of one kernel, in an audit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mutation: Option<Mutation>,
    },
    /// A file that later jobs name by its hash: machine code or a tensor's data.
    Blob {
        /// Name for jobs: the blake3 hash of `data`, in hex.
        hash: String,
        /// The bytes.
        data: Data,
    },
    /// A result of a reference program, which the driver ran: later jobs look for it by its key.
    Result {
        /// See [`reference::key`](crate::driver::reference::key).
        key: String,
        /// See [`reference::encode`](crate::driver::reference::encode).
        data: Data,
    },
    /// Deadline of a launch or a sample of a C kernel in later jobs: then its process is ended, and the worker
    /// continues.
    Limit {
        /// Deadline in seconds.
        seconds: f64,
    },
    /// Compare a kernel with its reference.
    Check(Box<CheckJob>),
    /// Compare outputs of another program with the reference.
    Inspect(Box<InspectJob>),
    /// Measure one or more kernels, interleaved.
    Time(Box<TimeJob>),
    /// Run kernels once, for a tool that observes the worker. The worker's last job.
    Run(Box<RunJob>),
    /// Ask whether the device can measure the energy of a launch.
    Meter {
        /// Number of the job, repeated in the answer.
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
        /// Reason for the user.
        message: String,
    },
    /// A job entered a stage. Sent before the stage starts, so that a hang can be located, and during timing so often
    /// that silence means a hang.
    Stage {
        /// The job's id.
        id: u64,
        /// The stage that starts.
        stage: Stage,
    },
    /// The worker is alive. Sent every [`HEARTBEAT`], during any activity.
    #[serde(rename = "beat")]
    Heartbeat,
    /// The end of a [`Request::Check`] or [`Request::Inspect`] that ran to its end.
    Checked {
        /// The job's id.
        id: u64,
        /// One report for each set of inputs, in the job's order.
        seeds: Vec<SeedReport>,
    },
    /// The end of a [`Request::Time`] that ran to its end.
    Timed {
        /// The job's id.
        id: u64,
        /// One timing for each case, in the job's order.
        timings: Vec<Timing>,
    },
    /// The end of a [`Request::Run`]; the worker frees all memory and exits, so that the tool around it can report.
    Ran {
        /// The job's id.
        id: u64,
        /// The counts that [`RunJob::count`] asked for, or the reason why there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counts: Option<Result<Counts, String>>,
    },
    /// The answer to a [`Request::Meter`].
    Metered {
        /// The job's id.
        id: u64,
        /// Reason why the device cannot measure energy; none if it can.
        energy: Result<(), String>,
    },
    /// The end of a job that could not be finished. After a [fatal](Failure::is_fatal) failure the worker exits.
    Failed {
        /// The job's id.
        id: u64,
        /// Index of the case of a [`TimeJob`] that failed; 0 for a check.
        case: usize,
        /// Reason.
        failure: Failure,
    },
}

/// Stage of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Generating and uploading inputs.
    Inputs,
    /// Running the reference.
    Reference,
    /// Running the kernel for correctness: from here on the kernel causes a silence.
    Launch,
    /// Comparing outputs on the host.
    Compare,
    /// Untimed launches before the samples.
    Warmup,
    /// Taking samples.
    Timing,
    /// Not a stage: from here on the case of this index runs. Always sent if cases run one after another, and before
    /// each launch with [`TimeJob::announce`].
    Case(usize),
}

/// Text for the place in a message.
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

/// Kind of device of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// An NVIDIA GPU, through the CUDA driver API.
    Cuda,
    /// This machine's CPU, through a shared object.
    Host,
    /// A model of a device, for tests.
    Fake,
}

/// Properties of an open device; 0 or `None` if its kind lacks a property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DeviceInfo {
    /// Kind.
    pub kind: DeviceKind,
    /// Index among the devices of its kind.
    pub index: u32,
    /// Name from the driver or the CPU.
    pub name: String,
    /// CUDA driver version (`13.0`), or the operating system's release.
    pub driver: String,
    /// Compute capability, major and minor.
    pub compute_capability: Option<(u32, u32)>,
    /// Number of streaming multiprocessors, or of logical cores.
    pub multiprocessors: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Size of the L2 (CUDA) or of the last-level cache (host) in bytes.
    pub cache_bytes: u64,
    /// Largest number of threads of a block.
    pub max_threads_per_block: u32,
    /// Largest number of bytes of shared memory that a block may opt in to.
    pub max_shared_per_block: u32,
    /// Highest clock in kHz; 0 if unknown.
    pub clock_khz: u32,
}

impl DeviceInfo {
    /// Whether another device has the same model and driver version, so that their times can be ranked together.
    pub fn is_same_model(&self, other: &Self) -> bool {
        let model = |info: &Self| {
            (info.kind, info.name.clone(), info.driver.clone(), info.compute_capability, info.multiprocessors)
        };
        model(self) == model(other)
    }

    /// Properties of the model device with an index.
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

/// Data of any length: base64 on the wire, of compressed bytes where the way is long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// The bytes.
    Plain(Bytes),
    /// The bytes, deflated.
    Deflated(Bytes),
}

impl Data {
    /// Compressed data, if that is shorter.
    pub fn deflated(bytes: Vec<u8>) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        match encoder.write_all(&bytes).and_then(|()| encoder.finish()) {
            Ok(deflated) if deflated.len() < bytes.len() => Self::Deflated(Bytes(deflated)),
            _ => Self::Plain(Bytes(bytes)),
        }
    }

    /// The bytes, decompressed; an error if the compressed bytes are damaged.
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(bytes) => Ok(bytes.0),
            Self::Deflated(deflated) => {
                let mut bytes = Vec::new();
                DeflateDecoder::new(&*deflated.0).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_same_after_the_way() {
        let sparse = vec![0; 100_000];
        let short = b"short".to_vec();
        for bytes in [sparse.clone(), short.clone(), Vec::new()] {
            for data in [Data::deflated(bytes.clone()), Data::Plain(Bytes(bytes.clone()))] {
                let line = serde_json::to_string(&data).unwrap();
                assert_eq!(serde_json::from_str::<Data>(&line).unwrap().into_bytes().unwrap(), bytes);
            }
        }
        assert!(matches!(Data::deflated(sparse), Data::Deflated(Bytes(deflated)) if deflated.len() < 1000));
        assert!(matches!(Data::deflated(short), Data::Plain(_)), "no longer than it was");
        assert!(Data::Deflated(Bytes(b"damaged".to_vec())).into_bytes().is_err());
    }
}

//! The worker protocol: one JSON value a line, [`Request`]s on the worker's stdin, [`Event`]s on its stdout.
//!
//! Every number is resolved before it is sent: the worker knows nothing of manifests, toggles or expressions, and
//! every file it needs arrives as a [`Request::Blob`]. That is why the same worker runs behind `srun` or `ssh`.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dtype::DType;
pub use crate::pattern::Pattern;

pub mod external;
mod sampling;

pub use sampling::{Convergence, Disturbance, Sampling, SmClock};

/// The version of this protocol, exchanged in the first line each way; both sides must agree exactly.
pub const VERSION: u32 = 1;

/// What the driver tells the worker.
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

/// What the worker tells the driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The first line: the device is open.
    Hello {
        /// [`VERSION`] of the worker.
        protocol: u32,
        /// The device that was opened.
        device: DeviceInfo,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// A fault that an audit gives to a kernel, to see which gate notices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mutation {
    /// The blobs whose kernels have it.
    pub blobs: Vec<String>,
    /// What is wrong.
    pub fault: Fault,
    /// The outputs with which it is wrong: places in the kernel's signature, and element types.
    pub outputs: Vec<(usize, DType)>,
    /// The place in the signature of the input that [`Fault::Clobber`] writes.
    pub input: Option<usize>,
}

/// What is wrong with each launch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The outputs stay as they were.
    NoOp,
    /// The outputs are those of the first launch ever.
    First,
    /// The outputs are those of the launch before, and the first launch leaves none: a launch that returns before its work is
    /// done, ordered by nothing, at its latest.
    Late,
    /// The last elements stay as they were: 16, or half of fewer than 32.
    Tail,
    /// Zero everywhere.
    Zeros,
    /// The mean of the outputs everywhere.
    Mean,
    /// The last byte of an input changes.
    Clobber,
    /// Some elements are off by `by + of_rms * max(rms(output), |element|)`: a share of them, and one more.
    Some {
        /// The share, 0 to 1.
        share: f64,
        /// Absolute.
        by: f64,
        /// Relative.
        of_rms: f64,
    },
    /// Every element is off by `by + of_rms * rms(output)`.
    All {
        /// Absolute.
        by: f64,
        /// Relative.
        of_rms: f64,
    },
    /// Every element is off by its `by`-fold.
    Scale {
        /// Relative.
        by: f64,
    },
}

/// A kernel at one shape: its tensors and how to launch it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Every declared tensor, inputs before what is quantised from them.
    pub tensors: Vec<TensorSpec>,
    /// The kernel.
    pub launch: Launch,
}

/// A tensor with its sizes resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name; the random stream of its initialiser depends on it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first, row-major.
    pub dims: Vec<u64>,
    /// How the kernel uses it.
    pub role: Role,
    /// Where its first contents come from.
    pub source: Source,
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product::<u64>() as usize
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

/// How a kernel uses a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Read only; must be unchanged afterwards.
    #[default]
    In,
    /// Written in full; poisoned before every checked launch.
    Out,
    /// Read and written; restored before every checked launch.
    Inout,
    /// Written and read by the kernel alone; contents mean nothing. Poisoned before every checked launch.
    Scratch,
}

/// Where a tensor's first contents come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Normal distribution.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Uniform distribution over `[low, high)`.
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// Uniform integers over `low..=high`.
    Integers {
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
    },
    /// `start + step * i` in row-major order.
    Arange {
        /// First value.
        start: f64,
        /// Difference of neighbours.
        step: f64,
    },
    /// The same value everywhere.
    Constant(f64),
    /// A `.npy` file, or a tensor of a `.safetensors` file, sent as a blob.
    File {
        /// The blob.
        hash: String,
        /// The tensor's name in a `.safetensors` file; `None` means the blob is a `.npy` file.
        tensor: Option<String>,
    },
    /// Quantised from another tensor of the case: `value = round(from / scale)`.
    Quantize {
        /// Index of the tensor that holds the values.
        from: usize,
        /// Index of the tensor that receives the scales.
        scale: usize,
        /// For each dimension of the scale tensor, the dimension of `from` that it indexes;
        /// all other dimensions of `from` are reduced (absmax).
        scale_dims: Vec<usize>,
    },
    /// Written by the [`Source::Quantize`] of another tensor.
    Scale,
    /// Nothing: an output or scratch.
    None,
}

/// How to launch one kernel of a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Which device runs it. A reference may run on the host while its kernel runs on CUDA.
    pub device: DeviceKind,
    /// The machine code: a cubin (CUDA), a shared object (host), a fake model.
    pub blob: String,
    /// The symbol in the machine code.
    pub entry: String,
    /// Arguments in the order of the kernel's signature, symbols anywhere among them.
    pub args: Vec<Arg>,
    /// Grid, block and shared memory.
    pub geometry: Geometry,
}

/// One argument of a launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arg {
    /// The address of a tensor's first element: an index into [`Case::tensors`].
    Tensor(usize),
    /// A scalar passed by value.
    Scalar {
        /// Its type in the signature.
        dtype: DType,
        /// Its value.
        value: Number,
    },
    /// A `CUtensorMap` passed by value (`__grid_constant__ const`).
    TensorMap(TensorMap),
    /// The tensor's contents copied to a `__constant__` or `__device__` symbol before the launch; not in the signature.
    Symbol {
        /// Name of the symbol in the machine code.
        symbol: String,
        /// Index into [`Case::tensors`].
        tensor: usize,
    },
}

/// A tiled tensor map over one tensor (`cuTensorMapEncodeTiled`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMap {
    /// Index into [`Case::tensors`].
    pub tensor: usize,
    /// The tensor's sizes as the map sees them, outermost first (its dims, or dims merged by the table).
    pub dims: Vec<u64>,
    /// Box sizes, outermost first.
    pub r#box: Vec<u32>,
    /// Swizzle in bytes: 0, 32, 64 or 128.
    pub swizzle: u32,
}

/// A number that keeps its kind, since an i64 does not fit an f64.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

/// Launch geometry, in CUDA's terms. Ignored by the host device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Geometry {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads a block in x, y, z.
    pub block: [u32; 3],
    /// Blocks a thread-block cluster, where clusters are used.
    pub cluster: Option<[u32; 3]>,
    /// Dynamic shared memory in bytes.
    pub dynamic_shared: u32,
    /// Whether to launch cooperatively (grid-wide synchronisation).
    pub cooperative: bool,
}

impl Default for Geometry {
    fn default() -> Self {
        Self { grid: [1; 3], block: [1; 3], cluster: None, dynamic_shared: 0, cooperative: false }
    }
}

/// A reference implementation over the tensors of the case it stands beside.
///
/// Every floating-point tensor is handed to it as `precision`, inputs widened exactly, whatever their own type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The kernel; its args index the case's tensors.
    pub launch: Launch,
    /// `F64` or `F32`.
    pub precision: DType,
    /// Whether it is a program rather than machine code. The driver runs those, and puts their results where the worker looks
    /// them up; of `launch`, `blob` says which program it is, and `args` what it gets.
    #[serde(default)]
    pub program: bool,
}

/// What a check looks at beside the errors on random inputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Depth {
    /// Inputs in patterns, made from the seed 0. Those that change no tensor are left out.
    pub patterns: Vec<Pattern>,
    /// The relative error that is tolerated. In a pattern, the reference runs once more on inputs that are off by as much: an
    /// output that is right for such inputs is as good as one can ask for.
    pub tolerance: f64,
    /// A plain implementation in the kernel's own precision, whose errors are reported beside the kernel's.
    pub naive: Option<Launch>,
    /// Whether the kernel passed a check before, so that one launch a seed does where nothing is odd about it.
    #[serde(default)]
    pub again: bool,
}

/// Compare one case with its reference on several seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckJob {
    /// Repeated in every event of this job.
    pub id: u64,
    /// What is checked.
    pub case: Case,
    /// What it is compared with.
    pub reference: Reference,
    /// Seeds of the inputs.
    pub seeds: Vec<u64>,
    /// An element whose absolute error exceeds this counts as bad.
    pub bad_above: f64,
    /// What else is looked at.
    #[serde(default)]
    pub depth: Depth,
}

/// Run one case once. Nothing is compared and nothing hides a fault from a sanitizer: every buffer is an allocation of
/// exactly its tensor's size, without guard bands, and outputs and scratch are never written before the kernel does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunJob {
    /// Repeated in every event of this job.
    pub id: u64,
    /// What is run.
    pub case: Case,
    /// Seed of the inputs.
    pub seed: u64,
    /// Whether the processor's own counters are read around the launch, after another one that warms code and data.
    #[serde(default)]
    pub count: bool,
}

/// What a CPU counted during one launch, on the thread that called the kernel and in user mode only. `None`: this CPU does not
/// count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Instructions retired.
    pub instructions: u64,
    /// Core cycles.
    pub cycles: Option<u64>,
    /// Accesses that missed the last-level cache.
    pub cache_misses: Option<u64>,
    /// Branches predicted wrongly.
    pub branch_misses: Option<u64>,
}

/// Compare outputs that another program made of the inputs of one seed with the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InspectJob {
    /// Repeated in every event of this job.
    pub id: u64,
    /// Every declared tensor.
    pub tensors: Vec<TensorSpec>,
    /// What the outputs are compared with.
    pub reference: Reference,
    /// Seed of the inputs.
    pub seed: u64,
    /// The outputs: indices into `tensors`, and their bytes.
    pub outputs: Vec<(usize, Bytes)>,
    /// See [`CheckJob::bad_above`].
    pub bad_above: f64,
}

/// Measure cases interleaved: one sample of each in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimeJob {
    /// Repeated in every event of this job.
    pub id: u64,
    /// What is measured, each checked against its reference once more after its last sample.
    pub cases: Vec<TimedCase>,
    /// Seed of the inputs.
    pub seed: u64,
    /// Seed of other inputs, which take turns with the first at random, so that no result of an earlier sample is of use. Memory
    /// permitting.
    #[serde(default)]
    pub other_seed: Option<u64>,
    /// Untimed launches of each case first.
    pub warmup: u32,
    /// Samples of each case: exactly so many, or at least where `until` is given.
    pub iterations: u32,
    /// When to stop after that.
    #[serde(default)]
    pub until: Option<Convergence>,
    /// Whether fewer samples than `iterations` may do, from ten milliseconds of them on and seven at least: for a rank, not for the
    /// record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hurry: bool,
    /// Nanoseconds a launch. A job of one case ends early, from a few samples on, once the median lies clearly above: all of three are
    /// at least 50 % more, of five 20 %, of seven 5 %, or the lower end of its 99.9 % interval is at least 2 % more.
    #[serde(default)]
    pub stop_above_ns: Option<f64>,
    /// State of the cache before each sample.
    pub cache: CacheMode,
    /// See [`CheckJob::bad_above`].
    pub bad_above: f64,
    /// Whether to name the case before each of its launches, to find out which of several ends the worker. Disturbs the
    /// samples.
    #[serde(default)]
    pub announce: bool,
    /// Whether to measure the energy of a launch too, after the samples.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub energy: bool,
}

/// One of the cases of a [`TimeJob`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedCase {
    /// What is measured.
    pub case: Case,
    /// What its outputs are compared with afterwards.
    pub reference: Reference,
}

/// State of the cache before each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// The last-level cache holds none of the inputs.
    #[default]
    Cold,
    /// The inputs are where the launch before left them.
    Hot,
}

/// What one seed's check found. Facts only; limits are the driver's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// The pattern that the inputs had; `None` for random ones.
    #[serde(default)]
    pub pattern: Option<Pattern>,
    /// One report for each `out` and `inout` tensor.
    pub outputs: Vec<OutputReport>,
    /// Names of `in` tensors whose bytes changed.
    pub inputs_changed: Vec<String>,
    /// Writes outside a buffer, one entry a buffer and side.
    pub out_of_bounds: Vec<OutOfBounds>,
    /// Elements whose bits differ between two launches on the same inputs and the same poison.
    pub unrepeatable: u64,
    /// Elements whose bits differ when the outputs held other contents before the launch.
    pub stale: u64,
}

impl SeedReport {
    /// One that found nothing yet.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            pattern: None,
            outputs: Vec::new(),
            inputs_changed: Vec::new(),
            out_of_bounds: Vec::new(),
            unrepeatable: 0,
            stale: 0,
        }
    }
}

/// Errors of one output tensor against the reference. Finite numbers always; errors over finite elements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputReport {
    /// Its name.
    pub tensor: String,
    /// Elements in all.
    pub elements: u64,
    /// Elements that no launch wrote.
    pub unwritten: u64,
    /// Row-major index of the first unwritten element.
    pub first_unwritten: Option<u64>,
    /// NaN or infinite where the reference is finite (or the other way round).
    pub nonfinite: u64,
    /// Largest absolute error.
    pub max_abs_err: f64,
    /// Row-major index of the largest error.
    pub max_abs_err_at: u64,
    /// Output there.
    pub output_at: f64,
    /// Reference there.
    pub reference_at: f64,
    /// Mean absolute error.
    pub mean_abs_err: f64,
    /// Mean signed error.
    pub bias: f64,
    /// Root mean square of the error.
    pub rms_err: f64,
    /// Root mean square of the reference.
    pub rms_ref: f64,
    /// Elements whose absolute error exceeds the job's `bad_above`.
    pub bad: u64,
    /// Other errors of the same output, to judge these by.
    #[serde(default)]
    pub beside: Beside,
}

/// Errors to judge those of a kernel by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// What the tolerated error makes of the reference, in a pattern: see [`Depth::tolerance`].
    pub sensitivity: Option<ErrorSizes>,
    /// Errors of the naive implementation.
    pub naive: Option<ErrorSizes>,
    /// What quantising made of the result: the reference against itself on the values before they were quantised.
    pub quantization: Option<ErrorSizes>,
    /// The kernel against the reference on the values before they were quantised: both errors together.
    pub total: Option<ErrorSizes>,
}

/// The sizes of errors. Finite numbers always.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorSizes {
    /// Largest absolute error.
    pub max_abs_err: f64,
    /// Mean absolute error.
    pub mean_abs_err: f64,
    /// Root mean square of the error.
    pub rms_err: f64,
    /// Root mean square of what it is compared with.
    pub rms_ref: f64,
}

impl From<&OutputReport> for ErrorSizes {
    fn from(report: &OutputReport) -> Self {
        let OutputReport { max_abs_err, mean_abs_err, rms_err, rms_ref, .. } = *report;
        Self { max_abs_err, mean_abs_err, rms_err, rms_ref }
    }
}

/// A write outside a buffer, seen in its guard band.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfBounds {
    /// The tensor whose guard band was written.
    pub tensor: String,
    /// Bytes from the tensor's first byte (negative: before it) of the write nearest to it.
    pub offset: i64,
    /// Changed bytes in that guard band.
    pub bytes: u64,
}

/// The samples of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Nanoseconds a launch, in the order taken.
    pub samples: Vec<f64>,
    /// Launches a sample.
    pub batch: u32,
    /// What was read: `cuda-event`, `cuda-graph`, `monotonic`, `fake`.
    pub clock: String,
    /// The check after the last sample, and of what the last sample itself left behind.
    pub after: SeedReport,
    /// How they were taken.
    pub sampling: Sampling,
    /// Set if the kernel does less where its outputs are right already: its samples are not those of its work.
    #[serde(default)]
    pub skips_work: Option<SkipsWork>,
    /// Set if the kernel is faster where its inputs are those of the launch before: time from new ones over that time.
    #[serde(default)]
    pub keeps_results: Option<f64>,
    /// Joules a launch, one figure for each stretch of launches back to back; empty unless [`TimeJob::energy`] asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<f64>,
}

/// How a kernel was seen to skip work whose result lay in its outputs already.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SkipsWork {
    /// Time of a launch on poisoned outputs over that of a launch on right ones, both at the lower quartile. Finite; near 1 where
    /// only `left_alone` gave it away.
    pub ratio: f64,
    /// Elements that a launch left poisoned among right ones.
    pub left_alone: u64,
}

/// Why a job could not be finished. Typed, so that no one has to match on messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Failure {
    /// The machine code was refused.
    #[error("the machine code could not be loaded: {message}")]
    LoadFailed {
        /// The loader's words.
        message: String,
    },
    /// The machine code has no such symbol.
    #[error("no symbol `{symbol}` in the machine code")]
    SymbolNotFound {
        /// The symbol.
        symbol: String,
    },
    /// The device refused the launch; the kernel never ran.
    #[error("launch refused: {message}")]
    LaunchRefused {
        /// The driver's error name and words.
        message: String,
    },
    /// The kernel read or wrote outside its memory.
    #[error("illegal memory access: {message}")]
    IllegalAccess {
        /// The driver's error name and words.
        message: String,
    },
    /// The kernel was stopped by another device-side error (trap, misaligned address, …).
    #[error("the kernel faulted: {message}")]
    DeviceFault {
        /// The driver's error name and words.
        message: String,
    },
    /// A buffer could not be had.
    #[error("out of memory: {bytes} bytes asked for")]
    OutOfMemory {
        /// The size asked for.
        bytes: u64,
    },
    /// The reference failed, not the kernel.
    #[error("the reference failed: {message}")]
    Reference {
        /// Its own failure, as words.
        message: String,
    },
    /// The inputs could not be made (a bad tensor file, say).
    #[error("the inputs could not be made: {message}")]
    Inputs {
        /// Why.
        message: String,
    },
    /// The device cannot do what the launch asks.
    #[error("not supported by this device: {message}")]
    Unsupported {
        /// What.
        message: String,
    },
    /// No event before the deadline; said by the driver.
    #[error("no sign of life for {seconds} s {stage}")]
    Hang {
        /// The deadline.
        seconds: u64,
        /// The last stage entered.
        stage: Stage,
    },
    /// The worker was ended by a signal; said by the driver.
    #[error("killed by {name}")]
    Signal {
        /// Its number.
        signal: i32,
        /// Its name, `SIGSEGV`.
        name: String,
    },
    /// The worker ended by itself in mid-job; said by the driver.
    #[error("the process exited with status {code}{}", after_colon(stderr))]
    Exited {
        /// Its status.
        code: i32,
        /// The end of its stderr.
        stderr: String,
    },
    /// The worker said something that is not the protocol; said by the driver.
    #[error("protocol error: {message}")]
    Protocol {
        /// What.
        message: String,
    },
}

/// What there is to say, if anything.
fn after_colon(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl Failure {
    /// Whether the worker that met this failure cannot go on: its context or process is lost. A failed reference counts,
    /// since what it did to the context is not known; nothing can be judged after it anyway.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Failure::IllegalAccess { .. }
                | Failure::DeviceFault { .. }
                | Failure::Reference { .. }
                | Failure::Hang { .. }
                | Failure::Signal { .. }
                | Failure::Exited { .. }
                | Failure::Protocol { .. }
        )
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

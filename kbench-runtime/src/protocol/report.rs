//! What a worker found.

use serde::{Deserialize, Serialize};

use super::{Pattern, Sampling};

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
    /// What launches leave that is no output.
    #[serde(default, skip_serializing_if = "LeftBehind::is_nothing")]
    pub left_behind: LeftBehind,
}

/// What launches leave that is no output, the most of any launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Bytes that a launch printed.
    pub printed: u64,
    /// Bytes of the device's heap that are gone since the first launch.
    pub heap: u64,
}

impl LeftBehind {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
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
            left_behind: LeftBehind::default(),
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
    /// By how much they may be too long, in the mean: what context switches may have added.
    #[serde(default)]
    pub slack: f64,
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

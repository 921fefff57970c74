//! Reports: the results of jobs.

use serde::{Deserialize, Serialize};

use super::{Pattern, Sampling};

/// Findings of the check of one seed. Facts only: the driver applies the limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    /// Seed of the inputs.
    pub seed: u64,
    /// Pattern of the inputs; `None` for random inputs.
    #[serde(default)]
    pub pattern: Option<Pattern>,
    /// One report for each `out` and `inout` tensor.
    pub outputs: Vec<OutputReport>,
    /// Names of `in` tensors whose bytes changed.
    pub inputs_changed: Vec<String>,
    /// Writes outside a tensor, one entry for each tensor and side.
    pub out_of_bounds: Vec<OutOfBounds>,
    /// Number of elements whose bits differ between two launches on the same inputs and the same poison.
    pub unrepeatable: u64,
    /// Number of elements whose bits depend on the contents of the outputs before the launch.
    pub stale: u64,
    /// Effects of launches beside their outputs.
    #[serde(default, rename = "left_behind", skip_serializing_if = "SideEffects::are_none")]
    pub side_effects: SideEffects,
}

/// Effects of launches beside their outputs: the maximum over all launches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideEffects {
    /// Number of bytes that a launch printed.
    pub printed: u64,
    /// Bytes of the device's heap that launches allocated and did not free since the first launch.
    pub heap: u64,
}

impl SideEffects {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

impl SeedReport {
    /// A report without findings.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            pattern: None,
            outputs: Vec::new(),
            inputs_changed: Vec::new(),
            out_of_bounds: Vec::new(),
            unrepeatable: 0,
            stale: 0,
            side_effects: SideEffects::default(),
        }
    }
}

/// Errors of one output tensor against the reference, over the elements that are finite on both sides. All numbers are finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputReport {
    /// Name of the tensor.
    pub tensor: String,
    /// Number of elements.
    pub elements: u64,
    /// Number of elements that no launch wrote.
    pub unwritten: u64,
    /// Row-major index of the first unwritten element.
    pub first_unwritten: Option<u64>,
    /// Number of elements that are NaN or infinite where the reference is finite, or finite where the reference is not.
    pub nonfinite: u64,
    /// Largest absolute error.
    pub max_abs_err: f64,
    /// Row-major index of the largest error.
    pub max_abs_err_at: u64,
    /// Value of the output at the largest error.
    pub output_at: f64,
    /// Value of the reference at the largest error.
    pub reference_at: f64,
    /// Mean absolute error.
    pub mean_abs_err: f64,
    /// Mean signed error.
    pub bias: f64,
    /// Root mean square of the error.
    pub rms_err: f64,
    /// Root mean square of the reference.
    pub rms_ref: f64,
    /// Number of elements whose absolute error exceeds the job's `bad_above`.
    pub bad: u64,
    /// Further errors of the same output, with which these errors are compared.
    #[serde(default, rename = "beside")]
    pub related: RelatedErrors,
}

/// Further errors of an output, with which the kernel's errors are compared. `None`: not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RelatedErrors {
    /// Errors of the reference on inputs that are off by the tolerated error, in a pattern: see
    /// [`CheckOptions::tolerance`](super::CheckOptions::tolerance).
    pub sensitivity: Option<ErrorSizes>,
    /// Errors of the naive implementation.
    pub naive: Option<ErrorSizes>,
    /// Errors from quantising the inputs: the reference on quantised values against the reference on the original values.
    pub quantization: Option<ErrorSizes>,
    /// Errors of the kernel against the reference on the original values: the kernel's errors and those from quantising together.
    pub total: Option<ErrorSizes>,
}

/// Sizes of errors. All numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ErrorSizes {
    /// Largest absolute error.
    pub max_abs_err: f64,
    /// Mean absolute error.
    pub mean_abs_err: f64,
    /// Root mean square of the error.
    pub rms_err: f64,
    /// Root mean square of the reference.
    pub rms_ref: f64,
}

impl From<&OutputReport> for ErrorSizes {
    fn from(report: &OutputReport) -> Self {
        let OutputReport { max_abs_err, mean_abs_err, rms_err, rms_ref, .. } = *report;
        Self { max_abs_err, mean_abs_err, rms_err, rms_ref }
    }
}

/// A write outside a tensor, found in its guard band.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfBounds {
    /// Name of the tensor whose guard band was written.
    pub tensor: String,
    /// Offset of the write nearest to the tensor, in bytes from the tensor's first byte; negative before it.
    pub offset: i64,
    /// Number of changed bytes in the guard band.
    pub bytes: u64,
}

/// Samples of one case and the check after them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Nanoseconds a launch, in the order taken.
    pub samples: Vec<f64>,
    /// Largest mean time, in nanoseconds a launch, that context switches may have added to the samples.
    #[serde(default)]
    pub slack: f64,
    /// Number of launches a sample.
    pub batch: u32,
    /// Name of the clock: `cuda-event`, `cuda-graph`, `monotonic`, `fake`.
    pub clock: String,
    /// The check after the last sample, and of the outputs that the last sample itself left.
    pub after: SeedReport,
    /// Settings and course of sampling.
    pub sampling: Sampling,
    /// Set if the kernel does less work when its outputs are right already: the samples are not times of its full work.
    #[serde(default)]
    pub skips_work: Option<SkipsWork>,
    /// Set if the kernel memoises results: time on inputs that it has not seen, over time on inputs that it has. At least 1.
    #[serde(default, rename = "keeps_results")]
    pub memoises: Option<f64>,
    /// Set if launches back to back do less work: time of a launch after a pause, divided by the time of a launch in a
    /// batch.
    #[serde(default)]
    pub back_to_back: Option<f64>,
    /// Energy in joules a launch, one figure for each window of launches back to back. Empty unless
    /// [`TimeJob::energy`](super::TimeJob::energy) asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<f64>,
    /// Launches by two clocks. `None` unless [`TimeJob::second_clock`](super::TimeJob::second_clock) asked for it and the device has two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_clock: Option<TwoClocks>,
}

impl Timing {
    /// Samples of single launches, in nanoseconds, beside which nothing was found.
    pub fn new(samples: Vec<f64>, clock: &str, after: SeedReport) -> Self {
        Self {
            samples,
            slack: 0.0,
            batch: 1,
            clock: clock.to_owned(),
            after,
            sampling: Sampling::default(),
            skips_work: None,
            memoises: None,
            back_to_back: None,
            energy: Vec::new(),
            second_clock: None,
        }
    }
}

/// The time of the same launches back to back by two clocks, each less the time that it shows around no launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TwoClocks {
    /// Name of the clock of the samples: `cuda-event`.
    pub first: String,
    /// Nanoseconds a launch by this clock, the median of some readings.
    pub first_ns: f64,
    /// Name of the other clock: `globaltimer`.
    pub second: String,
    /// Nanoseconds a launch by the other clock, in the same readings.
    pub second_ns: f64,
    /// Number of launches of a reading.
    pub launches: u32,
}

/// Evidence that a kernel skips work when the result is in its outputs already.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SkipsWork {
    /// Time of a launch on poisoned outputs over the time of a launch on right outputs, both at the lower quartile. Finite; near 1 if
    /// only `left_alone` shows it.
    pub ratio: f64,
    /// Number of poisoned elements among right ones that a launch left poisoned.
    pub left_alone: u64,
}

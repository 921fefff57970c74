//! The record of a tried variant, which the journal keeps, strategies learn from and reports print.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use kbench_runtime::float::Float;
use kbench_runtime::protocol::{Disturbance, RelatedErrors, Sampling, SeedReport};
use kbench_runtime::stats::Summary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::{Function, Resources};
use crate::config::DEFAULT;
use crate::record::objective::{ApplicationRecord, ObjectiveValue};
use crate::space::Settings;

mod rejection;

pub use rejection::{GateName, Reason, Rejection};

/// A tried variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Evaluation {
    /// Toggles.
    pub toggles: Settings,
    /// The source, if a proposer wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// Hash of the jobs of the worker, machine code, inputs and device included. Equal keys mean that one measurement
    /// serves both: identical code within a run, or the journal's record. Empty if the variant was rejected before.
    pub key: String,
    /// Outcome.
    pub outcome: Judgement,
    /// Toggles of the measured variant, if this variant has the same machine code and launch.
    #[serde(rename = "twin")]
    pub identical_code: Option<Settings>,
    /// Whether an earlier run measured it.
    #[serde(default, rename = "recalled", skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Whether the run that is resumed measured the variant; not in the journal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Findings of gates at level `warn`.
    pub warnings: Vec<String>,
    /// The builds, one for each set of macros that the shapes need.
    pub builds: Vec<BuildRecord>,
    /// Errors of the outputs, one entry for each checked shape.
    pub errors: Vec<ShapeErrors>,
    /// Extent of the check.
    #[serde(default)]
    pub checked: Checked,
    /// Median time with its interval; none if the variant was not timed.
    pub timing: Option<TimingRecord>,
    /// Times at other shapes, for a mean objective.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_timings: Vec<TimingRecord>,
    /// Joules a launch, each sample over a stretch of launches back to back, if energy is an objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Summary>,
    /// Numbers of the user's program, where that is an objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationRecord>,
    /// Values of the table's objectives, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveValue>,
}

impl Evaluation {
    /// A variant without findings, which counts as passed until a gate rejects it.
    pub fn new(toggles: Settings, warnings: Vec<String>) -> Self {
        Self {
            toggles,
            source: None,
            key: String::new(),
            outcome: Judgement::Passed,
            identical_code: None,
            cached: false,
            resumed: false,
            warnings,
            builds: Vec::new(),
            errors: Vec::new(),
            checked: Checked::default(),
            timing: None,
            more_timings: Vec::new(),
            energy: None,
            application: None,
            objectives: Vec::new(),
        }
    }

    /// Label: toggles, and the name of a proposed source.
    pub fn label(&self) -> String {
        SourceRecord::label(self.source.as_ref(), &self.toggles.to_string())
    }

    /// Value of the first objective for strategies, for a variant that passed: p50 by default.
    pub fn objective(&self) -> Option<f64> {
        let p50 = self.p50();
        p50.map(|p50| self.objectives.first().map_or(p50, ObjectiveValue::told))
    }

    /// p50 in nanoseconds at the search's shape, for a variant that passed.
    pub fn p50(&self) -> Option<f64> {
        match self.outcome {
            Judgement::Passed => self.timing.as_ref().map(|timing| timing.summary.p50),
            Judgement::Rejected(_) => None,
        }
    }

    /// Whether sampling ended early: see [`TimingRecord::is_cut_short`].
    pub fn is_cut_short(&self) -> bool {
        self.timing.as_ref().is_some_and(TimingRecord::is_cut_short)
    }

    /// Records that the variant passed the whole check, with these errors; `warnings` are all warnings of the check.
    pub fn check_is(&mut self, errors: Vec<ShapeErrors>, warnings: Vec<String>) {
        (self.checked, self.errors, self.warnings) = (Checked::InFull, errors, warnings);
    }

    /// Records a rejection.
    pub fn reject(&mut self, rejection: Rejection) {
        self.outcome = Judgement::Rejected(rejection);
    }

    /// The rejection, if there is one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.outcome {
            Judgement::Passed => None,
            Judgement::Rejected(rejection) => Some(rejection),
        }
    }
}

/// A source that a proposer sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Name that the proposer gave.
    pub name: String,
    /// blake3 hash of the text.
    pub hash: String,
    /// File of the source, relative to the folder of elite.json.
    pub path: PathBuf,
}

impl SourceRecord {
    /// Label of a variant of a source: toggles, and the name of a proposed source. The only variant of a kernel without
    /// toggles is its default.
    pub fn label(source: Option<&Self>, toggles: &str) -> String {
        match source {
            None if toggles.is_empty() => DEFAULT.to_owned(),
            None => toggles.to_owned(),
            Some(source) if toggles.is_empty() => source.to_string(),
            Some(source) => format!("{toggles} of {source}"),
        }
    }
}

impl fmt::Display for SourceRecord {
    /// Name such as `unroll-4@1a2b3c4d`: names of proposers may repeat.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.hash.get(..8).unwrap_or(&self.hash)))
    }
}

/// Extent of the check of a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// One seed at each shape, before the timing of a search.
    OneSeed,
    /// All seeds, sizes and patterns of the table, and new inputs after timing.
    #[default]
    InFull,
}

/// Outcome of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// The variant passed every gate that rejects.
    Passed,
    /// A gate rejected the variant.
    Rejected(Rejection),
}

/// Result of the sanitizers for a variant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Sanitized {
    /// The rejection, if there is one.
    pub rejection: Option<Rejection>,
    /// Warnings of tools, findings at level `warn`, and missing tools.
    pub warnings: Vec<String>,
    /// The runs, such as `memcheck at small`.
    pub runs: Vec<String>,
}

/// One build of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildRecord {
    /// Shapes of the build.
    pub shapes: Vec<String>,
    /// The exact compile command, to be run in the package's folder.
    pub command: Vec<String>,
    /// The link command; empty if there is none.
    pub link: Vec<String>,
    /// The compiler's version line.
    pub compiler: String,
    /// blake3 of the sources and headers.
    pub source_hash: String,
    /// blake3 of the binary.
    pub binary_hash: String,
    /// Registers, shared memory and spills: the largest value of all its functions.
    pub resources: Resources,
    /// The launched functions, with the resources of each.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// Warnings of the compiler; not in the journal.
    #[serde(skip)]
    pub messages: String,
}

/// Worst errors over the seeds of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShapeErrors {
    /// Name of the shape.
    pub shape: String,
    /// Number of checked seeds.
    pub seeds: usize,
    /// Largest absolute error.
    #[serde(with = "Float")]
    pub max_abs_err: f64,
    /// Largest mean absolute error of a seed.
    #[serde(with = "Float")]
    pub mean_abs_err: f64,
    /// Largest `rms(error) / rms(reference)` of a seed.
    #[serde(with = "Float")]
    pub rms_err: f64,
    /// Mean signed error over `rms(reference)`, of the seed where it is largest.
    #[serde(with = "Float")]
    pub bias: f64,
    /// `rms(error) / rms(reference)` of the naive implementation, if the table names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naive_rms_err: Option<f64>,
    /// Errors due to quantised inputs, if inputs are quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationErrors>,
    /// Input patterns that passed too. Errors are those of random inputs alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
}

/// Two errors. The error of quantisation compares the reference on quantised inputs with the reference on the original
/// inputs. The total error compares the kernel with the reference on the original inputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::struct_field_names, reason = "the keys of the format")]
pub struct QuantizationErrors {
    /// Largest absolute error of quantising.
    #[serde(with = "Float")]
    pub max_abs_err: f64,
    /// Largest mean absolute error of a seed.
    #[serde(with = "Float")]
    pub mean_abs_err: f64,
    /// Largest `rms(error) / rms(reference)` of a seed.
    #[serde(with = "Float")]
    pub rms_err: f64,
    /// Largest absolute total error.
    #[serde(with = "Float")]
    pub total_max_abs_err: f64,
    /// Largest mean absolute total error of a seed.
    #[serde(with = "Float")]
    pub total_mean_abs_err: f64,
    /// Largest total `rms(error) / rms(reference)` of a seed.
    #[serde(with = "Float")]
    pub total_rms_err: f64,
}

impl QuantizationErrors {
    fn of(beside: &RelatedErrors) -> Option<Self> {
        let (own, total) = beside.quantization.zip(beside.total)?;
        Some(Self {
            max_abs_err: own.max_abs_err,
            mean_abs_err: own.mean_abs_err,
            rms_err: relative(own.rms_err, own.rms_ref),
            total_max_abs_err: total.max_abs_err,
            total_mean_abs_err: total.mean_abs_err,
            total_rms_err: relative(total.rms_err, total.rms_ref),
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            max_abs_err: self.max_abs_err.max(other.max_abs_err),
            mean_abs_err: self.mean_abs_err.max(other.mean_abs_err),
            rms_err: self.rms_err.max(other.rms_err),
            total_max_abs_err: self.total_max_abs_err.max(other.total_max_abs_err),
            total_mean_abs_err: self.total_mean_abs_err.max(other.total_mean_abs_err),
            total_rms_err: self.total_rms_err.max(other.total_rms_err),
        }
    }
}

impl ShapeErrors {
    /// The largest errors over all seeds and outputs.
    pub fn worst(shape: &str, seeds: &[SeedReport]) -> Self {
        let patterns = seeds.iter().filter_map(|seed| Some(seed.pattern?.name().to_owned())).collect();
        let random = || seeds.iter().filter(|seed| seed.pattern.is_none());
        let mut worst = Self {
            shape: shape.to_owned(),
            seeds: random().count(),
            max_abs_err: 0.0,
            mean_abs_err: 0.0,
            rms_err: 0.0,
            bias: 0.0,
            naive_rms_err: None,
            quantization: None,
            patterns,
        };
        for output in random().flat_map(|seed| &seed.outputs) {
            worst.max_abs_err = worst.max_abs_err.max(output.max_abs_err);
            worst.mean_abs_err = worst.mean_abs_err.max(output.mean_abs_err);
            worst.rms_err = worst.rms_err.max(relative(output.rms_err, output.rms_ref));
            let bias = relative(output.bias, output.rms_ref);
            if bias.abs() > worst.bias.abs() {
                worst.bias = bias;
            }
            let naive = output.related.naive.map(|naive| relative(naive.rms_err, naive.rms_ref));
            worst.naive_rms_err = worst.naive_rms_err.into_iter().chain(naive).reduce(f64::max);
            let quantization = QuantizationErrors::of(&output.related);
            worst.quantization = worst.quantization.into_iter().chain(quantization).reduce(QuantizationErrors::max);
        }
        worst
    }
}

/// `error` over the size of the reference; an all-zero reference leaves the error absolute.
pub fn relative(error: f64, rms_ref: f64) -> f64 {
    if rms_ref > 0.0 { error / rms_ref } else { error }
}

/// A measured time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimingRecord {
    /// Name of the shape.
    pub shape: String,
    /// Median with its interval, in nanoseconds a launch.
    pub summary: Summary,
    /// Number of launches in a sample.
    pub batch: u32,
    /// Name of the clock: `cuda-event`, `cuda-graph`, `monotonic`, `fake`.
    pub clock: String,
    /// Settings and course of sampling; none in records of versions that did not record them.
    #[serde(default)]
    pub sampling: Option<Sampling>,
}

/// Share of disturbed samples from which on the disturbance may determine the median.
const UNKNOWN: f64 = 0.2;

impl TimingRecord {
    /// Whether another process used the device during sampling.
    pub fn is_in_use(&self) -> bool {
        self.sampling.as_ref().is_some_and(|sampling| sampling.in_use.is_some())
    }

    /// Whether p50 is known. It is unknown for a kernel that lost its core in many samples by an unknown time, and on a
    /// GPU that another process used.
    pub fn is_known(&self) -> bool {
        let disturbed = |sampling: &Sampling| sampling.disturbed.get(&Disturbance::InvoluntaryContextSwitch).copied();
        let disturbed = self.sampling.as_ref().and_then(disturbed).unwrap_or(0);
        // A GPU alternates between processes, and no clock measures the lost time.
        let shared = self.is_in_use() && self.clock.starts_with("cuda");
        !shared && disturbed as f64 <= UNKNOWN * self.summary.n as f64
    }

    /// Whether sampling ended early because the variant was clearly slower than the time to beat. Its p50 is an
    /// estimate that only strategies use.
    pub fn is_cut_short(&self) -> bool {
        self.sampling.as_ref().is_some_and(|sampling| sampling.cut_short)
    }
}

/// A baseline that is a program, measured in a process of its own, by its own clock, in turn with the kernels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalRecord {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The clock and versions that the program states.
    pub versions: BTreeMap<String, String>,
    /// Number of samples that the program and the kernels take in turn at first; later turns are longer.
    pub turn: u32,
    /// Errors of the outputs before and after timing.
    pub errors: ShapeErrors,
}

//! What is known of a variant once it was tried: the record that the journal keeps, strategies learn from and
//! reports print.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use kbench_runtime::float::Float;
use kbench_runtime::protocol::{Disturbance, RelatedErrors, Sampling, SeedReport};
use kbench_runtime::stats::Summary;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::{Function, Resources};
use crate::record::objective::{ApplicationRecord, ObjectiveValue};
use crate::space::Settings;

mod rejection;

pub use rejection::{GateName, Reason, Rejection};

/// One variant, tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Evaluation {
    /// Its toggles.
    pub toggles: Settings,
    /// The source, where it is a proposer's and not the kernel's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// Hash of all that was asked of the worker, machine code, inputs and device included. Equal keys mean that
    /// one measurement serves both: identical code within a run, or the journal's record. Empty where the variant did not get that far.
    pub key: String,
    /// The result.
    pub outcome: Judgement,
    /// The toggles of the variant whose measurement this is, where machine code and launch are the same.
    #[serde(rename = "twin")]
    pub identical_code: Option<Settings>,
    /// Whether an earlier run measured it.
    #[serde(default, rename = "recalled", skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Whether the run that is resumed measured it; not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// Findings of gates at level `warn`.
    pub warnings: Vec<String>,
    /// The builds, one for each set of macros that the shapes need.
    pub builds: Vec<BuildRecord>,
    /// Errors of its outputs, one entry a shape checked.
    pub errors: Vec<ShapeErrors>,
    /// Extent of the check.
    #[serde(default)]
    pub checked: Checked,
    /// Its time, where it got that far.
    pub timing: Option<TimingRecord>,
    /// Its times at other shapes, where an objective needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_timings: Vec<TimingRecord>,
    /// Joules a launch, each sample over a stretch of launches back to back, where that is an objective.
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
    /// A variant of which nothing is known yet, passed until a gate says otherwise.
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

    /// Its name: its toggles, and its source where that is not the kernel's own.
    pub fn label(&self) -> String {
        SourceRecord::label(self.source.as_ref(), &self.toggles.to_string())
    }

    /// The first objective as strategies are told it, of a variant that passed: p50, unless the record says otherwise.
    pub fn objective(&self) -> Option<f64> {
        let p50 = self.p50();
        p50.map(|p50| self.objectives.first().map_or(p50, ObjectiveValue::told))
    }

    /// p50 in nanoseconds at the search's shape, of a variant that passed.
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

    /// It passed the whole check, with these errors; `warnings` are all there are.
    pub fn check_is(&mut self, errors: Vec<ShapeErrors>, warnings: Vec<String>) {
        (self.checked, self.errors, self.warnings) = (Checked::InFull, errors, warnings);
    }

    /// A gate rejected it.
    pub fn reject(&mut self, rejection: Rejection) {
        self.outcome = Judgement::Rejected(rejection);
    }

    /// Why it was rejected.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.outcome {
            Judgement::Passed => None,
            Judgement::Rejected(rejection) => Some(rejection),
        }
    }
}

/// A source that a proposer handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// The name that the proposer gave it.
    pub name: String,
    /// blake3 of its text.
    pub hash: String,
    /// The file that keeps it, relative to the folder of elite.json.
    pub path: PathBuf,
}

impl SourceRecord {
    /// How a variant of a source is named: its toggles, and the source where it is not the kernel's own.
    pub fn label(source: Option<&Self>, toggles: &str) -> String {
        match source {
            None => toggles.to_owned(),
            Some(source) if toggles.is_empty() => source.to_string(),
            Some(source) => format!("{toggles} of {source}"),
        }
    }
}

impl fmt::Display for SourceRecord {
    /// `unroll-4@1a2b3c4d`: names need not be unique.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.hash.get(..8).unwrap_or(&self.hash)))
    }
}

/// Extent of the check of a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// On one seed at each shape, before it was timed in a search.
    OneSeed,
    /// On all seeds, sizes and patterns of the table, and on new inputs after timing.
    #[default]
    InFull,
}

/// Outcome of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// It passed every gate that rejects.
    Passed,
    /// A gate rejected it.
    Rejected(Rejection),
}

/// Result of the sanitizers for a variant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Sanitized {
    /// Why it is rejected.
    pub rejection: Option<Rejection>,
    /// Warnings of tools, findings at level `warn`, and missing tools.
    pub warnings: Vec<String>,
    /// The runs, `memcheck at small`.
    pub runs: Vec<String>,
}

/// One build of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildRecord {
    /// The shapes it serves.
    pub shapes: Vec<String>,
    /// The exact compile command, run in the package's folder.
    pub command: Vec<String>,
    /// The link command; empty where there is none.
    pub link: Vec<String>,
    /// The compiler's version line.
    pub compiler: String,
    /// blake3 of the sources and headers.
    pub source_hash: String,
    /// blake3 of the binary.
    pub binary_hash: String,
    /// Registers, shared memory, spills: the most that any of its functions uses.
    pub resources: Resources,
    /// The functions that are launched, with what each uses.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// Warnings of the compiler; not kept.
    #[serde(skip)]
    pub messages: String,
}

/// Worst errors over the seeds of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShapeErrors {
    /// The shape.
    pub shape: String,
    /// Seeds checked.
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
    /// `rms(error) / rms(reference)` of the naive implementation, where the table names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naive_rms_err: Option<f64>,
    /// Error of the result due to quantised inputs, where they are quantised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationErrors>,
    /// Patterns of the inputs that passed too. Errors are those of random inputs alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
}

/// The error of quantising the inputs: the reference on quantised inputs against the reference on what they were quantised from;
/// and the total error: the kernel against the latter.
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
    /// The worst over all seeds and outputs.
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
    /// The shape.
    pub shape: String,
    /// Nanoseconds a launch.
    pub summary: Summary,
    /// Launches a sample.
    pub batch: u32,
    /// Name of the clock: `cuda-event`, `cuda-graph`, `monotonic`, `fake`.
    pub clock: String,
    /// Settings and course of sampling; none in records of versions that did not say.
    #[serde(default)]
    pub sampling: Option<Sampling>,
}

/// Share of the samples from which on a disturbance that is still in them decides what their median is.
const UNKNOWN: f64 = 0.2;

impl TimingRecord {
    /// Whether something else used the device meanwhile.
    pub fn is_in_use(&self) -> bool {
        self.sampling.as_ref().is_some_and(|sampling| sampling.in_use.is_some())
    }

    /// Whether p50 is known. Of a kernel that lost its core in many samples, and of which nobody can tell what it
    /// lost, it is not; nor on a GPU that another process used.
    pub fn is_known(&self) -> bool {
        let disturbed = |sampling: &Sampling| sampling.disturbed.get(&Disturbance::InvoluntaryContextSwitch).copied();
        let disturbed = self.sampling.as_ref().and_then(disturbed).unwrap_or(0);
        // A GPU gives each process its turn, and no clock says how long.
        let shared = self.is_in_use() && self.clock.starts_with("cuda");
        !shared && disturbed as f64 <= UNKNOWN * self.summary.n as f64
    }

    /// Whether sampling ended early because the variant was clearly slower than what it had to beat. Its p50 tells a strategy
    /// where not to look, and nobody else anything.
    pub fn is_cut_short(&self) -> bool {
        self.sampling.as_ref().is_some_and(|sampling| sampling.cut_short)
    }
}

/// A baseline that is a program. It was measured in a process of its own, by its own clock, in turn with the kernels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalRecord {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The clock and versions that the program states.
    pub versions: BTreeMap<String, String>,
    /// Samples that it and the kernels took in turn at first; turns grow where more samples are needed.
    pub turn: u32,
    /// Errors of its outputs, before and after timing.
    pub errors: ShapeErrors,
}

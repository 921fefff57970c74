//! What is asked of a worker.

use serde::{Deserialize, Serialize};

use super::Bytes;
use super::{Case, Convergence, Launch, Pattern, Reference, TensorSpec};
use crate::data::dtype::DType;

/// What a check looks at beside the errors on random inputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Depth {
    /// Inputs in patterns, made from the seed 0. Those that change no tensor are left out.
    pub patterns: Vec<Pattern>,
    /// The relative error that is tolerated. In a pattern, the reference runs once more on inputs that are off by as much: an
    /// output that is right for such inputs is as good as one can ask for. `None` where nobody needs to know.
    #[serde(default)]
    pub tolerance: Option<f64>,
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

impl CheckJob {
    /// The inputs that it asks about, a report each: those of its seeds, then the patterns that change any of the tensors.
    pub fn asked(&self) -> impl Iterator<Item = (u64, Option<Pattern>)> {
        let tensors = &self.case.tensors;
        let changes = |pattern: &Pattern| tensors.iter().any(|spec| pattern.applies_to(spec.dtype, &spec.source));
        let patterns = self.depth.patterns.iter().filter(move |pattern| changes(pattern));
        self.seeds.iter().map(|seed| (*seed, None)).chain(patterns.map(|pattern| (0, Some(*pattern))))
    }
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
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own")]
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
    /// Untimed launches of each case first, at most: fewer where their times are steady, or where they take long.
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
    /// Whether the kernels must also do on inputs that are new in every element what they do on known ones: in half of the samples,
    /// where each is one launch on cold caches, and in looks after them. What they leave there is compared with a fresh load's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renew: bool,
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

/// A fault that an audit gives to a kernel, to see which gate notices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mutation {
    /// The blobs whose kernels have it.
    pub blobs: Vec<String>,
    /// What is wrong.
    pub fault: Fault,
    /// The outputs with which it is wrong: places in the kernel's signature, and element types.
    pub outputs: Vec<(usize, DType)>,
    /// The place in the signature of the input that [`Fault::Clobber`] writes and [`Fault::Memoised`] looks at.
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
    /// The outputs of eight inputs are kept, told apart by a few bytes of one tensor, and given again in no time.
    Memoised,
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

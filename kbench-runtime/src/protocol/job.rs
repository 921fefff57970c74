//! Jobs: the work that the driver sends to a worker.

use serde::{Deserialize, Serialize};

use super::Bytes;
use super::{Case, Convergence, Pattern, Reference, Sequence, TensorSpec};
use crate::data::dtype::DType;

/// Parts of a check beside the errors on random inputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckOptions {
    /// Patterns of further inputs, made from seed 0. A pattern that changes no tensor is left out.
    pub patterns: Vec<Pattern>,
    /// The tolerated relative error. In a pattern the reference runs a second time, on inputs that are off by this error, so that the
    /// report can say how sensitive the result is. `None`: the sensitivity is not measured.
    #[serde(default)]
    pub tolerance: Option<f64>,
    /// A naive implementation in the kernel's own precision. Its errors are reported beside the kernel's.
    pub naive: Option<Sequence>,
    /// Whether the kernel passed a check before. One launch a seed is then enough, unless its outputs are suspicious.
    #[serde(default, rename = "again")]
    pub passed_before: bool,
}

/// Compares one case with its reference on several seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckJob {
    /// Number of the job, repeated in its events.
    pub id: u64,
    /// The kernel that is checked.
    pub case: Case,
    /// The reference that its outputs are compared with.
    pub reference: Reference,
    /// Seeds of the random inputs.
    pub seeds: Vec<u64>,
    /// Largest absolute error of an element that does not count as bad.
    pub bad_above: f64,
    /// Parts of the check beside the errors on random inputs.
    #[serde(default, rename = "depth")]
    pub options: CheckOptions,
}

impl CheckJob {
    /// Seed and pattern of each set of inputs, in the order of the reports: the random inputs of every seed, then every pattern that
    /// changes at least one tensor.
    pub fn asked(&self) -> impl Iterator<Item = (u64, Option<Pattern>)> {
        let tensors = &self.case.tensors;
        let changes = |pattern: &Pattern| tensors.iter().any(|spec| pattern.applies_to(spec.dtype, &spec.source));
        let patterns = self.options.patterns.iter().filter(move |pattern| changes(pattern));
        self.seeds.iter().map(|seed| (*seed, None)).chain(patterns.map(|pattern| (0, Some(*pattern))))
    }
}

/// Runs cases once each, one after the other, for a sanitizer or profiler that observes the worker. Nothing is compared. Every buffer is an
/// allocation of exactly its tensor's size, without guard bands, and only the kernel writes to outputs and scratch. The memory of a case is
/// freed before that of the next is allocated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunJob {
    /// Number of the job, repeated in its events.
    pub id: u64,
    /// The kernels that are run.
    pub cases: Vec<Case>,
    /// Seed of the inputs.
    pub seed: u64,
    /// Whether the processor's performance counters are read around the last launch, after one more launch that warms code and data.
    #[serde(default)]
    pub count: bool,
}

/// Performance counters of a CPU over one launch, of the thread that called the kernel, in user mode only. `None`: this CPU has no such
/// counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Number of instructions retired.
    pub instructions: u64,
    /// Number of core cycles.
    pub cycles: Option<u64>,
    /// Number of accesses that missed the last-level cache.
    pub cache_misses: Option<u64>,
    /// Number of mispredicted branches.
    pub branch_misses: Option<u64>,
}

/// Compares the outputs that another program computed, from the inputs of one seed, with the reference. Without outputs, the worker
/// computes the reference and keeps it for later checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InspectJob {
    /// Number of the job, repeated in its events.
    pub id: u64,
    /// Every declared tensor.
    pub tensors: Vec<TensorSpec>,
    /// The reference that the outputs are compared with.
    pub reference: Reference,
    /// Seed of the inputs.
    pub seed: u64,
    /// Pattern of the inputs; `None` for random inputs.
    pub pattern: Option<Pattern>,
    /// The outputs: index into `tensors` and contents of each.
    pub outputs: Vec<(usize, Bytes)>,
    /// See [`CheckJob::bad_above`].
    pub bad_above: f64,
}

/// Times cases interleaved: one sample of each in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
pub struct TimeJob {
    /// Number of the job, repeated in its events.
    pub id: u64,
    /// The cases that are timed. Each is checked against its reference again after its last sample.
    pub cases: Vec<TimedCase>,
    /// Seed of the inputs.
    pub seed: u64,
    /// Seed of a second set of inputs. Samples alternate between the sets at random, so that a kernel gains nothing from the results of
    /// earlier samples. Ignored where memory does not suffice.
    #[serde(default)]
    pub other_seed: Option<u64>,
    /// Largest number of untimed launches of each case before its samples. Fewer are made once their times are steady, or if they take
    /// long.
    pub warmup: u32,
    /// Number of samples of each case; with `until` the smallest number.
    pub iterations: u32,
    /// Condition that ends sampling after `iterations` samples. `None`: sampling ends after exactly `iterations`
    /// samples.
    #[serde(default)]
    pub until: Option<Convergence>,
    /// Whether the times only rank variants and are not published: fewer samples than `iterations` are enough then, from 10 ms of
    /// samples and seven samples on.
    #[serde(default, rename = "hurry", skip_serializing_if = "std::ops::Not::not")]
    pub rank_only: bool,
    /// Whether kernels are also launched on inputs that are new in every element, to detect kernels that memoise results: in half of the
    /// samples, if each sample is one launch on cold caches, and in launches after the samples. The outputs are compared with those of a
    /// freshly loaded copy of the kernel.
    #[serde(default, rename = "renew", skip_serializing_if = "std::ops::Not::not")]
    pub new_inputs: bool,
    /// Indices of cases that are far slower than another one: their samples are compared, and they are not examined for skipped work, since
    /// no kernel skips work to become slow. The outputs of their last launch are compared with the reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<usize>,
    /// Nanoseconds a launch above which a job of one case is cut short. The median lies clearly above if all of three samples exceed the
    /// cutoff by 50 %, all of five by 20 %, all of seven by 5 %, or the lower end of the median's 99.9 % interval by 2 %.
    #[serde(default, rename = "stop_above_ns")]
    pub cutoff_ns: Option<f64>,
    /// State of the cache before each sample.
    pub cache: CacheMode,
    /// Launch mode of a sample on a GPU.
    #[serde(default, skip_serializing_if = "LaunchMode::is_default")]
    pub launch: LaunchMode,
    /// See [`CheckJob::bad_above`].
    pub bad_above: f64,
    /// Whether [`Stage::Case`](super::Stage::Case) is sent before each launch, to find the case that ends the worker. It disturbs the
    /// samples.
    #[serde(default)]
    pub announce: bool,
    /// Whether the energy of a launch is measured after the samples.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub energy: bool,
    /// Whether launches are also timed by a second clock of the device, after the samples.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_clock: bool,
}

/// One of the cases of a [`TimeJob`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedCase {
    /// The kernel that is timed.
    pub case: Case,
    /// The reference that its outputs are compared with afterwards.
    pub reference: Reference,
}

/// State of the cache before each sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// The last-level cache was flushed and holds none of the inputs.
    #[default]
    Cold,
    /// The caches are as the launch before left them.
    Hot,
}

/// Meaning of a sample on a GPU. A C kernel is called in each mode, and the sample is the time of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchMode {
    /// The time of the device: launches of a CUDA graph back to back, or one launch that the device does not wait for.
    #[default]
    Graph,
    /// One launch on an idle stream between two events: the time of the device and the wait for the launch.
    Stream,
    /// One launch on an idle stream and the wait for its end, by the clock of the host.
    Host,
}

impl LaunchMode {
    /// Every mode with its name in the table.
    pub const ALL: [(&'static str, Self); 3] = [("graph", Self::Graph), ("stream", Self::Stream), ("host", Self::Host)];

    /// Whether this is [`LaunchMode::Graph`].
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub fn is_default(&self) -> bool {
        *self == Self::Graph
    }

    /// The mode with a name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(name, mode)| (name == word).then_some(mode))
    }

    /// Name in the table.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mode)| *mode == self).expect("every mode has a name").0
    }
}

/// A fault that an audit gives to a kernel, to test the gates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mutation {
    /// Blobs of the kernels with the fault.
    pub blobs: Vec<String>,
    /// The fault.
    pub fault: Fault,
    /// The wrong outputs: indices into [`Case::tensors`], and element types.
    pub outputs: Vec<(usize, DType)>,
    /// The input that [`Fault::Clobber`] writes and [`Fault::Memoised`] looks at: an index into [`Case::tensors`].
    pub input: Option<usize>,
}

/// Fault of each launch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The outputs keep their previous contents.
    NoOp,
    /// The launch with this index in the [sequence](Sequence) is left out.
    Skipped(usize),
    /// The outputs are those of the first launch.
    First,
    /// The outputs are those of the previous launch, and the first launch writes none: a launch that returns before its
    /// work is done, at the latest possible time.
    Late,
    /// The last elements keep their previous contents: 16, or half of fewer than 32.
    Tail,
    /// All outputs are zero.
    Zeros,
    /// All elements are the mean of the outputs.
    Mean,
    /// The last byte of an input changes.
    Clobber,
    /// The outputs of eight inputs are kept, distinguished by a few bytes of one tensor, and returned in no time.
    Memoised,
    /// Some elements are wrong by `by + of_rms * max(rms(output), |element|)`: a share of them, and one more.
    Some {
        /// Share of the elements, 0 to 1.
        share: f64,
        /// Absolute error.
        by: f64,
        /// Relative error.
        of_rms: f64,
    },
    /// Every element is wrong by `by + of_rms * rms(output)`.
    All {
        /// Absolute error.
        by: f64,
        /// Relative error.
        of_rms: f64,
    },
    /// Every element is wrong by `by` times its value.
    Scale {
        /// Relative error.
        by: f64,
    },
}

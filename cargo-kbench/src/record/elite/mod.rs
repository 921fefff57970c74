//! `elite.json`: the best variants of each kernel, device and shape, with the conditions of their measurement.

use std::collections::BTreeMap;
use std::fmt;

use kbench_runtime::protocol::{CacheMode, DeviceInfo, DeviceKind, LaunchMode};
use kbench_runtime::stats::Speedup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Timing;
use crate::record::evaluation::{BuildRecord, ExternalRecord, ShapeErrors, SourceRecord, TimingRecord};
use crate::record::objective::{ObjectiveRecord, ObjectiveValue};
use crate::space::{Partition, Settings};

mod elite_file;
mod merge;
mod portfolio;

pub use elite_file::EliteFile;
pub use merge::{Mismatch, merged};

pub use portfolio::{LeftOut, MeasuredVariant, PortfolioRecord, ServedShape, distance};

/// The version of the file.
pub const VERSION: u32 = 1;

/// Result of tuning one kernel on one device at one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EliteEntry {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// The device of all measurements.
    pub device: DeviceRecord,
    /// Shape of the objective.
    pub shape: String,
    /// Sizes of the shape by dimension.
    pub dims: BTreeMap<String, i64>,
    /// Settings of timing.
    pub timing: TimingSettings,
    /// The best variants, best first, measured together with the baselines.
    pub elite: Vec<EliteVariant>,
    /// The default variant and the baselines, measured in the same run.
    pub baselines: Vec<BaselineRecord>,
    /// Baselines without a measurement, with the reason.
    pub unavailable: BTreeMap<String, String>,
    /// The search.
    pub search: SearchRecord,
    /// Date, UTC, RFC 3339.
    pub date: String,
    /// Version of cargo-kbench.
    pub kbench: String,
    /// The question of the search; none in files of versions that did not record it. Only entries with the same
    /// question merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
}

/// Conditions of a search beside its device and its own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Fingerprint of the kernel's table, without the keys that change no measurement (`search`, `runner`, `workers`).
    pub table: String,
    /// blake3 of the sources and headers of the default variant, one for each of its builds.
    pub sources: Vec<String>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRecord {
    /// `cuda`, `host` or `fake`.
    pub kind: String,
    /// Name of the device.
    pub name: String,
    /// CUDA driver version, or operating system.
    pub driver: String,
    /// Compute capability such as `9.0`; none for a CPU.
    pub compute_capability: Option<String>,
    /// Number of streaming multiprocessors, or of logical cores.
    pub multiprocessors: u32,
    /// Highest clock in kHz; 0 if unknown.
    pub clock_khz: u32,
}

/// Settings of timing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimingSettings {
    /// Number of untimed launches before the first sample.
    pub warmup: u32,
    /// Smallest number of samples.
    pub iterations: u32,
    /// Half width of the interval of p50, as a share of p50, at which sampling ended.
    #[serde(default)]
    pub precision: Option<f64>,
    /// Longest time of sampling in seconds, for each kernel.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// State of the cache before each sample: `cold` or `hot`.
    pub cache: String,
    /// Launch mode of a sample: `graph`, `stream` or `host`.
    #[serde(default, skip_serializing_if = "LaunchMode::is_default")]
    pub launch: LaunchMode,
}

/// One of the best variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EliteVariant {
    /// Rank from 1.
    pub rank: usize,
    /// Toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// The source, if a proposer wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// Median time in nanoseconds a launch, with its interval, from the interleaved finals.
    pub timing: TimingRecord,
    /// Times at the other shapes of a mean objective, from interleaved finals there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_timings: Vec<TimingRecord>,
    /// Values in the order of the search's objectives; times are those of the finals. The first objective determines
    /// the rank.
    #[serde(default)]
    pub objectives: Vec<ObjectiveValue>,
    /// In a search with two objectives, whether no other variant is certainly better in one of them and no worse in the
    /// other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub front: bool,
    /// Speed-up over the default variant and each baseline: the interquartile mean of the paired ratios, with its 95 %
    /// interval.
    pub speedups: BTreeMap<String, Speedup>,
    /// Errors of the outputs, one entry for each shape.
    pub errors: Vec<ShapeErrors>,
    /// Commands, hashes and resources.
    pub builds: Vec<BuildRecord>,
    /// Hash of machine code and launch, equal for identical code; empty in files of versions that did not record it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
}

impl EliteVariant {
    /// Label: toggles, and the name of a proposed source.
    pub fn label(&self) -> String {
        SourceRecord::label(self.source.as_ref(), &self.toggles.to_string())
    }
}

/// The default variant or a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineRecord {
    /// `default`, or name of the baseline.
    pub name: String,
    /// Toggles of the default variant; none for a baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub toggles: Option<Settings>,
    /// Median time with its interval.
    pub timing: TimingRecord,
    /// Values of the default variant, in the order of the search's objectives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveValue>,
    /// Record of the program, if it is a baseline by `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRecord>,
}

/// A search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRecord {
    /// Name of the strategy.
    pub strategy: String,
    /// Seed of the strategy.
    pub seed: u64,
    /// Objectives; p50 in files of versions that did not record them.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRecord>,
    /// Number of valid variants in the space; none if there are too many to count.
    pub space: Option<u64>,
    /// Number of tried variants.
    pub evaluated: u64,
    /// Number of tried variants that an earlier run measured, with the same machine code and conditions. The times of
    /// elite and baselines are always measured in this run.
    #[serde(default, rename = "recalled", skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Numbers of rejected variants by `gate/reason`.
    pub rejected: BTreeMap<String, u64>,
    /// Toggles that never changed machine code or launch.
    pub dead_toggles: Vec<String>,
    /// Difference between two measurements of the winner in the finals: 0.004 for 0.4 %. Smaller differences are ties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<f64>,
    /// Variants that no measurement distinguished from the fastest, and the rule that chose the winner; none without a
    /// tie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie: Option<TieRecord>,
    /// Variants of earlier elites, tried right after the default, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm_start: Vec<WarmVariant>,
    /// Record of the proposer; none if the table names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposer: Option<ProposerRecord>,
    /// Whether the user ended the search before the end of its budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
    /// The searched part of the space, such as `2/4`; none for the whole space. The default, which every part measures,
    /// counts in `evaluated` and `rejected` only if it belongs to the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// The searches whose results were merged into this entry; empty for the result of one search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<MergedRun>,
}

/// One of the searches whose results were merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergedRun {
    /// The searched part of the space; none for the whole space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Name of the strategy.
    pub strategy: String,
    /// Seed of the strategy.
    pub seed: u64,
    /// Number of tried variants.
    pub evaluated: u64,
    /// Number of variants that an earlier run measured.
    #[serde(default, rename = "recalled", skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Numbers of rejected variants by `gate/reason`.
    pub rejected: BTreeMap<String, u64>,
    /// Toggles that never changed machine code or launch.
    pub dead_toggles: Vec<String>,
    /// Relative difference between two measurements of the winner.
    pub noise_floor: Option<f64>,
    /// Whether a variant was certainly faster than the default.
    pub beats_default: bool,
    /// Whether the user ended the search before the end of its budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
    /// Date, UTC, RFC 3339.
    pub date: String,
}

/// A tie for the first place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TieRecord {
    /// Labels of the variants, the winner first.
    pub variants: Vec<String>,
    /// Rule that chose the winner.
    pub by: TieRule,
}

/// Rule that chooses among variants that tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TieRule {
    /// The winner is the default.
    Default,
    /// The winner is that of the earlier elite.json.
    Elite,
    /// The winner uses the fewest registers, or, among equals, the fewest bytes of shared memory, spills, stack and
    /// code.
    Resources,
    /// The winner is the first in the space.
    Order,
}

impl fmt::Display for TieRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TieRule::Default => "it is the default",
            TieRule::Elite => "elite.json named it before",
            TieRule::Resources => "it uses the fewest registers and bytes",
            TieRule::Order => "it comes first in the space",
        })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A variant of an earlier elite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WarmVariant {
    /// Toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// The device of the earlier search.
    pub device: String,
    /// The shape of the earlier search.
    pub shape: String,
    /// Rank in the earlier search.
    pub rank: usize,
}

/// Record of a proposer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposerRecord {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Number of rounds with proposals.
    pub rounds: u64,
    /// Number of tried proposals, beside the variants of the space.
    pub evaluated: u64,
    /// Number of proposals that were not tried: known already, too long, or not a variant of the space.
    pub refused: u64,
    /// Numbers of rejected proposals by `gate/reason`.
    pub rejected: BTreeMap<String, u64>,
    /// Failure that ended the proposer, such as `hang: …`; none if it ended by itself or by the budget.
    pub failed: Option<String>,
}

impl From<&DeviceInfo> for DeviceRecord {
    fn from(info: &DeviceInfo) -> Self {
        let kind = match info.kind {
            DeviceKind::Cuda => "cuda",
            DeviceKind::Host => "host",
            DeviceKind::Fake => "fake",
        };
        Self {
            kind: kind.to_owned(),
            name: info.name.clone(),
            driver: info.driver.clone(),
            compute_capability: info.compute_capability.map(|(major, minor)| format!("{major}.{minor}")),
            multiprocessors: info.multiprocessors,
            clock_khz: info.clock_khz,
        }
    }
}

impl From<&Timing> for TimingSettings {
    fn from(timing: &Timing) -> Self {
        let cache = match timing.cache {
            CacheMode::Cold => "cold",
            CacheMode::Hot => "hot",
        };
        Self {
            warmup: timing.warmup,
            iterations: timing.iterations,
            precision: Some(timing.precision),
            max_seconds: Some(timing.max_seconds),
            cache: cache.to_owned(),
            launch: timing.launch,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

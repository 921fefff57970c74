//! `elite.json`: the best variants of each kernel, device and shape, with all that is needed to believe them.

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
    /// The device that everything here was measured on.
    pub device: DeviceRecord,
    /// Shape that the objective was measured on.
    pub shape: String,
    /// Its sizes.
    pub dims: BTreeMap<String, i64>,
    /// Settings of timing.
    pub timing: TimingSettings,
    /// The best variants, best first, measured together with each other and the baselines.
    pub elite: Vec<EliteVariant>,
    /// The default variant and the baselines, measured in the same run.
    pub baselines: Vec<BaselineRecord>,
    /// Baselines that could not be measured, and why.
    pub unavailable: BTreeMap<String, String>,
    /// The search that found them.
    pub search: SearchRecord,
    /// UTC, RFC 3339.
    pub date: String,
    /// Version of cargo-kbench.
    pub kbench: String,
    /// The question that the entry answers; none in files of versions that did not say. Only entries of the same question merge.
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
    /// Its name.
    pub name: String,
    /// CUDA driver version, or operating system.
    pub driver: String,
    /// `9.0`; none for a CPU.
    pub compute_capability: Option<String>,
    /// Streaming multiprocessors, or logical cores.
    pub multiprocessors: u32,
    /// Highest clock in kHz; 0 where unknown.
    pub clock_khz: u32,
}

/// Settings of timing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimingSettings {
    /// Untimed launches first.
    pub warmup: u32,
    /// Samples asked for at least.
    pub iterations: u32,
    /// Half-width of the interval of p50 that ended sampling, as a share of p50.
    #[serde(default)]
    pub precision: Option<f64>,
    /// Most seconds of sampling, for each kernel measured.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// `cold` or `hot`.
    pub cache: String,
    /// Launch mode of a sample: `graph`, `stream` or `host`.
    #[serde(default, skip_serializing_if = "LaunchMode::is_default")]
    pub launch: LaunchMode,
}

/// One of the best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EliteVariant {
    /// 1 is the best.
    pub rank: usize,
    /// Its toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// The source, where it is a proposer's and not the kernel's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRecord>,
    /// Nanoseconds a launch, from the interleaved final.
    pub timing: TimingRecord,
    /// Its times at the other shapes that an objective is a mean of, from interleaved finals there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_timings: Vec<TimingRecord>,
    /// What it comes to, in the order of the search's objectives; times are those of the finals. Ranks are by the first.
    #[serde(default)]
    pub objectives: Vec<ObjectiveValue>,
    /// Of a search with two objectives: whether no other variant is better for sure in one of them and no worse in the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub front: bool,
    /// Speed-up over the default variant and each baseline: their time over this one's by the middle half of the rounds' ratios, 95 % interval from paired rounds.
    pub speedups: BTreeMap<String, Speedup>,
    /// Errors of its outputs on each shape.
    pub errors: Vec<ShapeErrors>,
    /// Commands, hashes and resources.
    pub builds: Vec<BuildRecord>,
    /// Hash of machine code and launch: equal for identical code; empty in files of versions that did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
}

impl EliteVariant {
    /// Its name: its toggles, and its source where that is not the kernel's own.
    pub fn label(&self) -> String {
        SourceRecord::label(self.source.as_ref(), &self.toggles.to_string())
    }
}

/// The default variant or a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BaselineRecord {
    /// `default`, or the baseline's name.
    pub name: String,
    /// The default variant's toggles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub toggles: Option<Settings>,
    /// Its time.
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
    /// Strategy.
    pub strategy: String,
    /// Seed.
    pub seed: u64,
    /// Objectives; p50 in files of versions that did not say.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRecord>,
    /// Valid variants in the space; none where they are too many to count.
    pub space: Option<u64>,
    /// Variants tried.
    pub evaluated: u64,
    /// Those among them that an earlier run measured, with the same machine code and under the same circumstances. The times of
    /// elite and baselines are always this run's.
    #[serde(default, rename = "recalled", skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Rejected variants by `gate/reason`.
    pub rejected: BTreeMap<String, u64>,
    /// Toggles that never changed machine code or launch.
    pub dead_toggles: Vec<String>,
    /// By how much the winner, measured twice beside the others, differed from itself: 0.004 for 0.4 %. No smaller difference is
    /// called one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<f64>,
    /// Variants that no measurement told apart from the fastest, and what chose the winner among them; none where nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tie: Option<TieRecord>,
    /// Variants of earlier elites, tried right after the default, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm_start: Vec<WarmVariant>,
    /// Record of the proposer; none where the table names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposer: Option<ProposerRecord>,
    /// Whether the user ended the search before its budget did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
    /// The part of the space that was searched, `2/4`; none where the whole space was. The default, which every part measures, counts
    /// in `evaluated` and `rejected` only where it belongs to the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// The searches whose results were merged into this entry; empty where it is the result of one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<MergedRun>,
}

/// One of the searches whose results were merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergedRun {
    /// The part of the space that it searched; none where it searched the whole space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Strategy.
    pub strategy: String,
    /// Seed.
    pub seed: u64,
    /// Variants tried.
    pub evaluated: u64,
    /// Number of those that an earlier run measured.
    #[serde(default, rename = "recalled", skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Rejected variants by `gate/reason`.
    pub rejected: BTreeMap<String, u64>,
    /// Toggles that never changed machine code or launch.
    pub dead_toggles: Vec<String>,
    /// Relative difference between two measurements of its winner.
    pub noise_floor: Option<f64>,
    /// Whether a variant was faster than the default for sure.
    pub beats_default: bool,
    /// Whether the user ended it before its budget did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
    /// UTC, RFC 3339.
    pub date: String,
}

/// A tie for the first place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TieRecord {
    /// Their labels, the winner first.
    pub variants: Vec<String>,
    /// Why it is the winner.
    pub by: TieRule,
}

/// Rule that chooses among variants that tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TieRule {
    /// It is the default.
    Default,
    /// It is the winner that elite.json named before.
    Elite,
    /// It uses the fewest registers, or of as many the fewest bytes of shared memory, spills, stack and code.
    Resources,
    /// It comes first in the space.
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
    /// Its toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// The device that it was found on.
    pub device: String,
    /// The shape that it was found for.
    pub shape: String,
    /// Its rank there.
    pub rank: usize,
}

/// Record of a proposer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposerRecord {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Rounds in which it proposed something.
    pub rounds: u64,
    /// Proposals tried, beside the variants of the space.
    pub evaluated: u64,
    /// Proposals that were not tried: known already, too long, no variant of the space.
    pub refused: u64,
    /// Rejected proposals by `gate/reason`.
    pub rejected: BTreeMap<String, u64>,
    /// Failure that ended it, `hang: …`; none if it ended by itself or by the budget.
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
mod tests;

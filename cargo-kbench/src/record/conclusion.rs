//! End of a search: the last line of its journal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::elite::EliteEntry;
use crate::record::evaluation::Rejection;
use crate::record::verdict::JudgedSpeedup;

/// Reason why a search ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// The user ended the search.
    #[serde(rename = "Ctrl-C")]
    CtrlC,
    /// The number of evaluations reached the budget.
    Evaluations,
    /// The best variant reached the share of a ceiling in `search.stop.roofline`.
    Roofline,
    /// The time reached the budget.
    Seconds,
}

/// The end of a search that ended by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// The entry for elite.json; its `elite` is empty if no variant survived.
    pub entry: EliteEntry,
    /// Speed-up of the winner over the default variant, if both were measured.
    pub over_default: Option<JudgedSpeedup>,
    /// Speed-up of the winner over the runner-up.
    pub over_second: Option<JudgedSpeedup>,
    /// Performance limits at the search's shape that the winner misses.
    pub missed: Vec<Rejection>,
    /// Whether a missed limit fails the run: the level of the performance gate is `deny`.
    pub missed_fails: bool,
    /// Warnings of the gates about the winner, and of the search.
    pub warnings: Vec<String>,
    /// Reason why the search ended early; none if it ended by itself.
    pub stopped: Option<Stopped>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Wall time by activity.
    pub spent: Spent,
    /// Data of a roofline plot, if the table has `work` and the ceilings of the device were measured.
    pub roofline: Option<RooflineRecord>,
}

/// The data of a roofline plot at the shape of the search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RooflineRecord {
    /// Work of one launch of each variant of the finals.
    pub work: Vec<WorkRecord>,
    /// The measured ceilings of the device.
    pub ceilings: Vec<CeilingRecord>,
}

/// Work of one launch of a variant, from the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkRecord {
    /// Label of the variant.
    pub label: String,
    /// Floating-point operations.
    pub flops: f64,
    /// Moved bytes.
    pub bytes: f64,
}

/// A measured ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CeilingRecord {
    /// `copy`, `fp32`, `tensor-f16` or `tensor-f8`.
    pub name: String,
    /// Bytes or operations a second.
    pub rate: f64,
    /// Whether `rate` counts bytes.
    pub is_memory: bool,
    /// Kernel that measured the ceiling.
    pub how: String,
}

/// Wall time of a search by activity, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spent {
    /// Time of compilers, summed over all threads; most of it runs at the same time as the rest, some before.
    pub compile: f64,
    /// Time of checks.
    pub verify: f64,
    /// Time of timings, the finals included.
    pub time: f64,
    /// Time of sanitizers and profilers.
    pub tools: f64,
    /// Time in which the device waited for a compiler.
    pub idle: f64,
    /// Time in which the search waited for the proposer.
    pub proposer: f64,
    /// All other time.
    #[serde(rename = "own")]
    pub overhead: f64,
    /// Share of the cores that compiled while the device waited, 0 to 1; none if it hardly waited.
    pub utilisation: Option<f64>,
}

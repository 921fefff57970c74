//! End of a search: the last line of its journal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::elite::EliteEntry;
use crate::record::evaluation::Rejection;
use crate::record::verdict::JudgedSpeedup;

/// Why a search ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// The user ended it.
    #[serde(rename = "Ctrl-C")]
    CtrlC,
    /// The number of evaluations in its budget.
    Evaluations,
    /// The best variant reached the share of a ceiling that `search.stop.roofline` states.
    Roofline,
    /// The seconds in its budget.
    Seconds,
}

/// The end of a search that ended by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// The entry for elite.json; its `elite` is empty where no variant survived.
    pub entry: EliteEntry,
    /// The winner against the default variant, where both were measured.
    pub over_default: Option<JudgedSpeedup>,
    /// The winner against the runner-up.
    pub over_second: Option<JudgedSpeedup>,
    /// Performance limits at the search's shape that the winner misses.
    pub missed: Vec<Rejection>,
    /// Whether a missed limit fails the run: the level of the performance gate is `deny`.
    pub missed_fails: bool,
    /// Warnings of the gates about the winner, and of the search.
    pub warnings: Vec<String>,
    /// Why the search ended early; none if it ended by itself.
    pub stopped: Option<Stopped>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Its parts.
    pub spent: Spent,
    /// The data of a roofline, where the table has `work` and the ceilings of the device were measured.
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

/// The work of one launch of a variant, by the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkRecord {
    /// The label of the variant.
    pub label: String,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes.
    pub bytes: f64,
}

/// A measured ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CeilingRecord {
    /// `copy`, `fp32`, `tensor-f16`, `tensor-f8`.
    pub name: String,
    /// Bytes or operations per second.
    pub rate: f64,
    /// Whether `rate` counts bytes.
    pub is_memory: bool,
    /// The way it was measured.
    pub how: String,
}

/// Parts of the wall time of a search, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spent {
    /// Compiling, all threads together; most of it beside the rest, some of it before.
    pub compile: f64,
    /// Checking variants.
    pub verify: f64,
    /// Timing them, the finals included.
    pub time: f64,
    /// Sanitizers and profilers.
    pub tools: f64,
    /// The device waiting for a compiler.
    pub idle: f64,
    /// Waiting for the proposer.
    pub proposer: f64,
    /// Everything else.
    #[serde(rename = "own")]
    pub overhead: f64,
    /// Part of the cores that compiled while the device waited, 0 to 1; none where it hardly did.
    pub utilisation: Option<f64>,
}

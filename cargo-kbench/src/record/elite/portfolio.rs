//! Record of a portfolio in elite.json: the fewest variants that serve several shapes.

use std::collections::BTreeMap;

use kbench_runtime::float::Float;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeviceRecord;
use crate::space::Settings;

/// The elites of all shapes of one kernel on one device, measured at every shape, and the fewest that serve all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortfolioRecord {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// The device that everything here was measured on.
    pub device: DeviceRecord,
    /// Largest loss of a shape to its fastest variant, as a share of the latter's time.
    pub limit: f64,
    /// The fewest variants of which one keeps the limit at each shape.
    #[schemars(with = "Vec<BTreeMap<String, serde_json::Value>>")]
    pub variants: Vec<Settings>,
    /// Whether no smaller set would do; else they were chosen one by one.
    pub is_smallest: bool,
    /// The shapes, in the table's order.
    pub shapes: Vec<ServedShape>,
    /// All that was measured, at each shape interleaved with each other.
    pub measured: Vec<MeasuredVariant>,
    /// UTC, RFC 3339.
    pub date: String,
    /// Version of cargo-kbench.
    pub kbench: String,
}

/// A shape, and what serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServedShape {
    /// Its name.
    pub shape: String,
    /// Its sizes.
    pub dims: BTreeMap<String, i64>,
    /// The variant that serves it: an index into [`PortfolioRecord::variants`].
    pub variant: usize,
    /// The variant's time over that of the fastest one measured, by the middle half of the rounds' ratios, less 1; 0 at least.
    #[serde(with = "Float")]
    pub loss: f64,
    /// The 95 % interval of that, from paired rounds; none of the fastest one itself, and of too few samples.
    pub interval: Option<(f64, f64)>,
    /// The variant that exported programs would choose for this shape if it had not been tuned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// A shape that was not tuned is served by the winner of the tuned shape with the nearest sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The other shape whose sizes are nearest.
    pub nearest: String,
    /// Loss of that shape's winner at this shape, as [`ServedShape::loss`]; none where it could not be measured.
    pub loss: Option<f64>,
}

/// How far apart sizes are: of each size the ratio's logarithm without its sign, added up. Exported programs choose by the same rule.
pub fn distance(a: &[(String, i64)], b: &[(String, i64)]) -> f64 {
    let ratio =
        |((_, a), (_, b)): (&(String, i64), &(String, i64))| ((*a).max(1) as f64 / (*b).max(1) as f64).ln().abs();
    a.iter().zip(b).map(ratio).sum()
}

/// A variant at all shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasuredVariant {
    /// Its toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// Median in nanoseconds a launch, by shape; without the shapes where it could not be measured.
    pub p50_ns: BTreeMap<String, f64>,
    /// As [`ServedShape::loss`], by shape.
    #[serde(default)]
    pub losses: BTreeMap<String, f64>,
}

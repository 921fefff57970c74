//! Record of a portfolio in elite.json: the smallest set of variants that serves several shapes.

use std::collections::BTreeMap;

use kbench_runtime::float::Float;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeviceRecord;
use crate::space::Settings;

/// The elites of all shapes of one kernel on one device, measured at every shape, and the smallest set that serves all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortfolioRecord {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// The device of all measurements.
    pub device: DeviceRecord,
    /// Largest loss of a shape to its fastest variant, as a share of the fastest time.
    pub limit: f64,
    /// The smallest set of variants such that, at each shape, one of them keeps the limit.
    #[schemars(with = "Vec<BTreeMap<String, serde_json::Value>>")]
    pub variants: Vec<Settings>,
    /// Whether no smaller set exists; otherwise the variants were chosen one by one.
    pub is_smallest: bool,
    /// The shapes, in the table's order.
    pub shapes: Vec<ServedShape>,
    /// All measured variants; those at one shape were interleaved.
    pub measured: Vec<MeasuredVariant>,
    /// Date, UTC, RFC 3339.
    pub date: String,
    /// Version of cargo-kbench.
    pub kbench: String,
}

/// A shape, and the variant that serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServedShape {
    /// Name of the shape.
    pub shape: String,
    /// Sizes of the shape by dimension.
    pub dims: BTreeMap<String, i64>,
    /// The variant that serves it: an index into [`PortfolioRecord::variants`].
    pub variant: usize,
    /// Time of the variant over that of the fastest measured one, by the interquartile mean of the paired ratios, less
    /// 1; at least 0.
    #[serde(with = "Float")]
    pub loss: f64,
    /// The 95 % interval of the loss, from paired rounds; none for the fastest variant, and with too few samples.
    pub interval: Option<(f64, f64)>,
    /// The variant that exported programs would choose for this shape without its own search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// The choice for a shape without a search: the winner of the tuned shape with the nearest sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The other shape whose sizes are nearest.
    pub nearest: String,
    /// Loss of that shape's winner at this shape, as [`ServedShape::loss`]; none if it could not be measured.
    pub loss: Option<f64>,
}

/// Distance of sizes: the sum over all sizes of the absolute logarithm of their ratio. Exported programs choose by the
/// same rule.
pub fn distance(a: &[(String, i64)], b: &[(String, i64)]) -> f64 {
    let ratio =
        |((_, a), (_, b)): (&(String, i64), &(String, i64))| ((*a).max(1) as f64 / (*b).max(1) as f64).ln().abs();
    a.iter().zip(b).map(ratio).sum()
}

/// A variant at all shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasuredVariant {
    /// Toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// Median in nanoseconds a launch, by shape; shapes without a measurement are missing.
    pub p50_ns: BTreeMap<String, f64>,
    /// Losses as [`ServedShape::loss`], by shape.
    #[serde(default)]
    pub losses: BTreeMap<String, f64>,
}

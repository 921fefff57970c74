//! Quantiles by nearest rank: always one of the values.

use std::borrow::Borrow;

/// The value at rank `part` (0 to 1) of values in any order; 0 without values.
pub fn quantile(values: impl IntoIterator<Item: Borrow<f64>>, part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().map(|value| *value.borrow()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f64 * part).round() as usize).copied().unwrap_or(0.0)
}

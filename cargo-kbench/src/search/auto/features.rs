//! Features of a variant: numbers from 0 to 1.
//!
//! Each toggle with two or more values gives a feature for its value, half by rank and half by logarithm, since most
//! effects of sizes depend on ratios. Each pair of sizes gives the product of both, since a kernel's work and memory
//! depend on products of sizes. Sizes that are not all powers of two give the number of times that two divides them,
//! which alignment and vector widths depend on. Texts give one feature for each value, so that all distances are equal.

use crate::expr::Value;
use crate::space::{Toggle, Variant};

/// Prior length scale of most features, length scale of divisibility, and the number of features for which these scales
/// hold. Typical distances, and with them length scales, grow with the square root of the number of features.
const SCALE: f64 = 3.0;
const DIVISIBILITY_SCALE: f64 = 4.0;
const TYPICAL: f64 = 14.0;

/// Largest number of powers of two that counts.
const POWERS: u32 = 8;

/// Maps variants of one space to features.
#[derive(Debug)]
pub struct Features {
    features: Vec<Feature>,
    /// Prior length scale of each feature.
    pub scales: Vec<f64>,
}

#[derive(Debug)]
enum Feature {
    /// A number for each value of a toggle.
    Table { toggle: usize, values: Vec<f32> },
    /// A sum of two such numbers, scaled to 0 to 1.
    Product { toggles: [usize; 2], values: [Vec<f32>; 2], low: f32, span: f32 },
}

impl Features {
    /// Features for these toggles; products are scaled over `sample`.
    pub fn new(toggles: &[Toggle], sample: &[Variant]) -> Self {
        let mut features = Vec::new();
        let mut scales = Vec::new();
        for (index, toggle) in toggles.iter().enumerate().filter(|(_, toggle)| toggle.values.len() > 1) {
            match numbers(toggle) {
                Some(numbers) => {
                    features.push(Feature::Table { toggle: index, values: position(&numbers) });
                    scales.push(SCALE);
                }
                None => {
                    for value in 0..toggle.values.len() {
                        // Two texts differ in two coordinates, so that their distance is 1.
                        let is = |at: usize| if at == value { std::f32::consts::FRAC_1_SQRT_2 } else { 0.0 };
                        let values = (0..toggle.values.len()).map(is).collect();
                        features.push(Feature::Table { toggle: index, values });
                        scales.push(SCALE);
                    }
                }
            }
        }
        let sizes: Vec<(usize, Vec<f64>)> =
            (0..toggles.len()).filter_map(|index| Some((index, size(&toggles[index])?))).collect();
        for (at, (first, a)) in sizes.iter().enumerate() {
            for (second, b) in &sizes[at + 1..] {
                let logs = [a, b].map(|values| values.iter().map(|value| value.ln() as f32).collect::<Vec<_>>());
                let sum = |variant: &Variant| {
                    logs[0][usize::from(variant.0[*first])] + logs[1][usize::from(variant.0[*second])]
                };
                let (low, high) = range(sample.iter().map(sum));
                if high > low {
                    features.push(Feature::Product { toggles: [*first, *second], values: logs, low, span: high - low });
                    scales.push(SCALE);
                }
            }
        }
        for (toggle, values) in &sizes {
            if let Some(powers) = divisibility(values) {
                features.push(Feature::Table { toggle: *toggle, values: powers });
                scales.push(DIVISIBILITY_SCALE);
            }
        }
        let factor = (features.len() as f64 / TYPICAL).sqrt();
        for scale in &mut scales {
            *scale *= factor;
        }
        Self { features, scales }
    }

    /// Number of features.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// One feature of a variant.
    pub fn get(&self, feature: usize, variant: &Variant) -> f32 {
        match &self.features[feature] {
            Feature::Table { toggle, values } => values[usize::from(variant.0[*toggle])],
            Feature::Product { toggles: [a, b], values, low, span } => {
                let sum = values[0][usize::from(variant.0[*a])] + values[1][usize::from(variant.0[*b])];
                (sum - low) / span
            }
        }
    }

    /// All features of a variant.
    pub fn of(&self, variant: &Variant) -> Vec<f32> {
        (0..self.len()).map(|feature| self.get(feature, variant)).collect()
    }
}

/// The values as numbers; none if one is a text.
fn numbers(toggle: &Toggle) -> Option<Vec<f64>> {
    toggle.values.iter().map(Value::as_float).collect()
}

/// The values of a size: three or more numbers, all above 0.
fn size(toggle: &Toggle) -> Option<Vec<f64>> {
    numbers(toggle).filter(|values| values.len() >= 3 && values.iter().all(|&value| value > 0.0))
}

/// Each value between the smallest, 0, and the largest, 1: the mean of its positions by rank and by logarithm.
fn position(values: &[f64]) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.dedup();
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    if sorted.len() == 1 {
        return vec![0.0; values.len()];
    }
    let place = |value: f64| {
        let rank = sorted.partition_point(|&other| other < value) as f64 / (sorted.len() - 1) as f64;
        let along = if low > 0.0 { (value / low).ln() / (high / low).ln() } else { (value - low) / (high - low) };
        f64::midpoint(rank, along) as f32
    };
    values.iter().map(|&value| place(value)).collect()
}

/// Number of times that two divides each of four or more integers that are not all powers of two; `None` for other
/// values.
fn divisibility(values: &[f64]) -> Option<Vec<f32>> {
    let whole = values.iter().all(|value| value.fract() == 0.0 && *value < 9e15);
    if values.len() < 4 || !whole || values.iter().all(|&value| (value as u64).is_power_of_two()) {
        return None;
    }
    let powers: Vec<f32> = values.iter().map(|&value| (value as u64).trailing_zeros().min(POWERS) as f32).collect();
    let (low, high) = range(powers.iter().copied());
    (high > low).then(|| powers.iter().map(|power| (power - low) / (high - low)).collect())
}

fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

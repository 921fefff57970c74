//! The candidates of the process, with data for fast updates: each observation adds one row of `V = L^-1
//! K(observations, pool)`, whose columns give the mean and variance of a candidate.

use super::features::Features;
use super::gp::{Factor, Parameters, kernel};
use crate::space::Variant;

/// Columns of a block, which stays in the cache over the rows.
const WIDTH: usize = 512;

/// A pool of candidates with the process.
#[derive(Default)]
pub struct Pool {
    pub blocks: Vec<Block>,
    /// Features of the observations, divided by the length scales.
    x: Vec<Vec<f32>>,
    factor: Factor,
    inverse_scales: Vec<f32>,
    noise: f64,
}

/// A block of candidates.
pub struct Block {
    pub variants: Vec<Variant>,
    /// Whether each candidate was proposed.
    pub seen: Vec<bool>,
    /// Features, one feature after the other.
    features: Vec<f32>,
    /// Features divided by the length scales.
    scaled: Vec<f32>,
    /// Rows of `V`.
    v: Vec<f32>,
    /// Sum of the squares of each column of `v`.
    explained: Vec<f32>,
}

impl Pool {
    /// A pool with other parameters, without observations.
    pub fn reset(&mut self, parameters: &Parameters) {
        self.inverse_scales = parameters.inverse_scales().iter().map(|&inverse| inverse as f32).collect();
        self.noise = parameters.noise();
        self.x.clear();
        self.factor = Factor::default();
        for block in &mut self.blocks {
            block.reset(&self.inverse_scales);
        }
    }

    /// Adds candidates.
    pub fn add(&mut self, features: &Features, variants: Vec<Variant>) {
        let mut variants = variants.into_iter().peekable();
        while variants.peek().is_some() {
            let chunk: Vec<Variant> = variants.by_ref().take(WIDTH).collect();
            let mut block = Block {
                seen: vec![false; chunk.len()],
                features: Vec::with_capacity(features.len() * chunk.len()),
                scaled: Vec::new(),
                v: Vec::new(),
                explained: Vec::new(),
                variants: chunk,
            };
            for feature in 0..features.len() {
                block.features.extend(block.variants.iter().map(|variant| features.get(feature, variant)));
            }
            block.reset(&self.inverse_scales);
            for row in 0..self.x.len() {
                block.append(&self.x[row], self.factor.row(row));
            }
            self.blocks.push(block);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Adds an observation at these features.
    pub fn observe(&mut self, x: &[f32]) {
        let x: Vec<f32> = x.iter().zip(&self.inverse_scales).map(|(x, inverse)| x * inverse).collect();
        let row = self.factor.solve(self.x.iter().map(|other| kernel(&x, other)).collect());
        let pivot = 1.0 + self.noise - row.iter().map(|value| value * value).sum::<f64>();
        self.factor.push(row, pivot.max(self.noise).sqrt());
        let row = self.factor.row(self.x.len());
        for block in &mut self.blocks {
            block.append(&x, row);
        }
        self.x.push(x);
    }

    /// Removes all observations after the first `rows`.
    pub fn truncate(&mut self, rows: usize) {
        if rows == self.x.len() {
            return;
        }
        self.x.truncate(rows);
        self.factor.truncate(rows);
        for block in &mut self.blocks {
            block.truncate(rows);
        }
    }

    /// The mean, the weight of each observation, and the variance of the signal, from the values of the first
    /// observations. Observations without a value have their expected value, which does not change the mean.
    pub fn weights(&self, y: &[f64]) -> (f64, Vec<f32>, f64) {
        let (mean, scaled) = self.factor.generalized_mean(y);
        let variance = scaled.iter().map(|z| z * z).sum::<f64>() / y.len() as f64;
        (mean, scaled.iter().map(|&z| z as f32).collect(), variance)
    }
}

impl Block {
    fn reset(&mut self, inverse_scales: &[f32]) {
        let width = self.variants.len();
        self.scaled.clear();
        for (feature, inverse) in self.features.chunks(width).zip(inverse_scales) {
            self.scaled.extend(feature.iter().map(|value| value * inverse));
        }
        self.v.clear();
        self.explained.clear();
        self.explained.resize(width, 0.0);
    }

    fn truncate(&mut self, rows: usize) {
        let width = self.variants.len();
        self.v.truncate(rows * width);
        self.explained.fill(0.0);
        // In the order of the rows, so that removed rows leave no trace.
        for row in self.v.chunks(width) {
            for (explained, value) in self.explained.iter_mut().zip(row) {
                *explained += value * value;
            }
        }
    }

    /// For each constant and its weights the constant plus `sum over rows of weight * v`. One pass serves all, since
    /// `v` is larger than a cache.
    pub fn combine(&self, sums: &[(f64, &[f32])]) -> Vec<Vec<f32>> {
        let mut combined: Vec<Vec<f32>> =
            sums.iter().map(|&(constant, _)| vec![constant as f32; self.variants.len()]).collect();
        for (at, row) in self.v.chunks(self.variants.len()).enumerate() {
            for (sum, (_, weights)) in combined.iter_mut().zip(sums) {
                if let Some(&weight) = weights.get(at) {
                    add(sum, weight, row);
                }
            }
        }
        combined
    }

    /// Variance of a candidate's value, relative to the signal's.
    pub fn unexplained(&self, column: usize) -> f32 {
        (1.0 - self.explained[column]).max(1e-9)
    }

    /// The row of an observation: `x` are its features, `factor` its row of the factor, pivot last.
    fn append(&mut self, x: &[f32], factor: &[f64]) {
        let width = self.variants.len();
        let mut row = vec![0.0f32; width];
        for (feature, x) in self.scaled.chunks(width).zip(x) {
            for (sum, value) in row.iter_mut().zip(feature) {
                let delta = value - x;
                *sum += delta * delta;
            }
        }
        for value in &mut row {
            let r = ROOT_5 * value.sqrt();
            *value = (1.0 + r + r * r / 3.0) * decay(r);
        }
        let (pivot, factor) = factor.split_last().expect("a row has a pivot");
        for (earlier, &l) in self.v.chunks(width).zip(factor) {
            add(&mut row, -l as f32, earlier);
        }
        let inverse = (1.0 / pivot) as f32;
        for (value, explained) in row.iter_mut().zip(&mut self.explained) {
            *value *= inverse;
            *explained += *value * *value;
        }
        self.v.extend(row);
    }
}

const ROOT_5: f32 = 2.236_068;

fn add(sum: &mut [f32], factor: f32, row: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += factor * value;
    }
}

/// `exp(-r)` for r >= 0, with an error of about 1e-6, in a form that compilers vectorize.
fn decay(r: f32) -> f32 {
    // exp(-r) = 2^-(whole + part), the part by a polynomial from -0.5 to 0.5.
    let power = (r * -std::f32::consts::LOG2_E).max(-120.0);
    let whole = (power + 12_582_912.0) - 12_582_912.0;
    let part = (power - whole) * std::f32::consts::LN_2;
    let series = 1.0 + part * (1.0 + part * (0.5 + part * (1.0 / 6.0 + part * (1.0 / 24.0 + part * (1.0 / 120.0)))));
    f32::from_bits(((whole as i32 + 127) as u32) << 23) * series
}

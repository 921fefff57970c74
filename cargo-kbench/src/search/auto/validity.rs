//! The probability that a candidate passes, from the failures so far: the process with failures in place of times.
//!
//! If the resource gate rejected variants, and one quantity of the compiler separates all of them from all that passed,
//! the quantity itself is predicted: registers that grow with a tile size show where the limit is.

use super::Observation;
use super::pool::{Block, Pool};
use crate::search::{Failure, Outcome, Resources};

/// Smallest probability: no candidate is excluded for certain.
const LEAST: f64 = 0.02;

/// The model of validity.
pub struct Validity {
    /// Mean and weights of the share of failures, if there are any.
    failures: Option<(f64, Vec<f32>)>,
    limits: Vec<Limit>,
}

/// The logarithm of a quantity of the compiler, and bounds on the gate's limit.
struct Limit {
    mean: f64,
    weights: Vec<f32>,
    variance: f64,
    most: f64,
}

impl Validity {
    /// The model of the observations of the pool, in their order.
    pub fn new<'o>(pool: &Pool, observations: impl Iterator<Item = &'o Observation> + Clone) -> Self {
        let limits = QUANTITIES
            .iter()
            .filter_map(|quantity| Limit::new(pool, *quantity, observations.clone()))
            .collect::<Vec<_>>();
        let failed = |observation: &Observation| match observation.outcome {
            // A failure that a limit explains is left out here.
            Outcome::Failed(Failure::Resources) if !limits.is_empty() => 0.0,
            Outcome::Failed(_) => 1.0,
            Outcome::Measured(_) | Outcome::Identical(_) => 0.0,
        };
        let failed: Vec<f64> = observations.map(failed).collect();
        let failures = failed.iter().any(|&failed| failed > 0.0).then(|| {
            let (mean, weights, _) = pool.weights(&failed);
            (mean, weights)
        });
        Self { failures, limits }
    }

    /// The inputs of [`log_chances`](Self::log_chances) for a block.
    pub fn sums(&self) -> impl Iterator<Item = (f64, &[f32])> {
        let failures = self.failures.iter().map(|(mean, weights)| (*mean, weights.as_slice()));
        failures.chain(self.limits.iter().map(|limit| (limit.mean, limit.weights.as_slice())))
    }

    /// Logarithm of each candidate's probability; `None` if no variant failed yet. `combined` are the sums of the
    /// block.
    pub fn log_chances(&self, block: &Block, mut combined: &[Vec<f32>]) -> Option<Vec<f64>> {
        if combined.is_empty() {
            return None;
        }
        let mut chances = vec![1.0; block.variants.len()];
        if self.failures.is_some()
            && let Some((failing, rest)) = combined.split_first()
        {
            combined = rest;
            for (chance, &failing) in chances.iter_mut().zip(failing) {
                // Failures already count as slow; a candidate that most likely fails is lowered further.
                *chance = (2.0 * (1.0 - f64::from(failing))).clamp(0.0, 1.0);
            }
        }
        for (limit, means) in self.limits.iter().zip(combined) {
            for (column, &mean) in means.iter().enumerate() {
                let deviation = (limit.variance * f64::from(block.unexplained(column))).sqrt();
                chances[column] *= below((limit.most - f64::from(mean)) / deviation.max(1e-6));
            }
        }
        Some(chances.into_iter().map(|chance: f64| chance.max(LEAST).ln()).collect())
    }
}

type Quantity = fn(&Resources) -> Option<u64>;

const QUANTITIES: [Quantity; 5] = [
    |resources| resources.registers,
    |resources| resources.static_shared,
    |resources| resources.spills,
    |resources| resources.stack,
    |resources| resources.code_bytes,
];

impl Limit {
    /// The limit of a quantity; `None` unless the quantity is known for all, and larger in all that the resource gate
    /// rejected than in all others.
    fn new<'o>(pool: &Pool, quantity: Quantity, observations: impl Iterator<Item = &'o Observation>) -> Option<Self> {
        let (mut allowed, mut rejected) = (f64::NEG_INFINITY, f64::INFINITY);
        let mut values = Vec::new();
        for observation in observations {
            let value = (quantity(observation.resources.as_ref()?)? as f64).ln_1p();
            match observation.outcome {
                Outcome::Failed(Failure::Resources) => rejected = rejected.min(value),
                _ => allowed = allowed.max(value),
            }
            values.push(value);
        }
        if !rejected.is_finite() || allowed >= rejected {
            return None;
        }
        let (mean, weights, variance) = pool.weights(&values);
        let most = if allowed.is_finite() { f64::midpoint(allowed, rejected) } else { rejected };
        Some(Self { mean, weights, variance, most })
    }
}

/// Probability that a standard normal value is below `z`, with an error of about 1e-4.
fn below(z: f64) -> f64 {
    // Page's logistic form, which errs by less than 2e-4.
    1.0 / (1.0 + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044_715 * z * z * z)).exp())
}

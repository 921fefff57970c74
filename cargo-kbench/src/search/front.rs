//! Two objectives for strategies that know one: each variant is asked for under weights of its own, drawn at random.
//!
//! What is told is the augmented Chebyshev sum of both objectives, as in `ParEGO` (Knowles 2006): of their logarithms, between the
//! least of each and the most that a variant of the front has. Unlike a plain weighted sum it also leads to where the front bends
//! inwards. Before each variant is asked for, all that is known is told anew under its weights.

use std::collections::BTreeMap;

use rand::RngExt as _;

use super::{Candidates, Outcome, Strategy, generator, strategy};
use crate::compile::Resources;
use crate::config::Search;
use crate::space::Variant;

/// Weights are multiples of one over this, so that each objective is at times pursued alone.
const STEPS: u32 = 10;

/// The weight of the plain sum, which tells apart what is equal in the objective that counts.
const PLAIN: f64 = 0.05;

/// The least range of an objective's logarithm: differences of a front this narrow are noise.
const NARROW: f64 = 0.05;

/// See the module.
pub struct Front {
    inner: Box<dyn Strategy>,
    seed: u64,
    asked: u64,
    /// Logarithms of both objectives.
    values: BTreeMap<Variant, [f64; 2]>,
    /// What was told; failures until they are passed on.
    told: BTreeMap<Variant, Outcome>,
}

/// The strategy that the table names, for so many objectives.
pub fn strategy_for(objectives: usize, candidates: &Candidates, search: &Search) -> Box<dyn Strategy> {
    let inner = strategy(candidates, search);
    if objectives < 2 { inner } else { Box::new(Front::new(inner, search.seed)) }
}

impl Front {
    /// A search for the front by `inner`.
    pub fn new(inner: Box<dyn Strategy>, seed: u64) -> Self {
        Self { inner, seed, asked: 0, values: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// The least of each objective and the range of each on the front.
    fn scale(&self) -> [(f64, f64); 2] {
        let mut points: Vec<[f64; 2]> =
            self.told.keys().filter_map(|variant| self.values.get(variant)).copied().collect();
        points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
        let mut least = f64::INFINITY;
        points.retain(|point| {
            let is_less = point[1] < least;
            least = least.min(point[1]);
            is_less
        });
        [0, 1].map(|of| {
            let ends = points.iter().map(|point| point[of]);
            let (low, high) =
                ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
            (low, (high - low).max(NARROW))
        })
    }

    /// Tells all that is known under the weights of the next variant.
    fn tell_all(&mut self) {
        // A stream for each, so that the weights depend on nothing but the seed and the place in the search.
        let first = f64::from(generator(self.seed, (1 << 32) | self.asked).random_range(0..=STEPS)) / f64::from(STEPS);
        let weights = [first, 1.0 - first];
        let scale = self.scale();
        for (variant, outcome) in &self.told {
            let Some(values) = self.values.get(variant) else {
                self.inner.tell(variant, *outcome);
                continue;
            };
            let weighted = [0, 1].map(|of| weights[of] * (values[of] - scale[of].0) / scale[of].1);
            let sum = (weighted[0].max(weighted[1]) + PLAIN * (weighted[0] + weighted[1])).exp();
            let outcome = if matches!(outcome, Outcome::Twin(_)) { Outcome::Twin(sum) } else { Outcome::Measured(sum) };
            self.inner.tell(variant, outcome);
        }
        self.told.retain(|variant, _| self.values.contains_key(variant));
    }
}

impl Strategy for Front {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        let mut batch = Vec::new();
        while batch.len() < n {
            self.tell_all();
            let Some(variant) = self.inner.ask(1).pop() else { break };
            self.asked += 1;
            batch.push(variant);
        }
        batch
    }

    fn batch(&self) -> usize {
        self.inner.batch()
    }

    fn likely(&mut self, n: usize) -> Vec<Variant> {
        self.inner.likely(n)
    }

    fn measured(&mut self, variant: &Variant, objectives: [f64; 2]) {
        self.values.insert(variant.clone(), objectives.map(f64::ln));
    }

    fn tell(&mut self, variant: &Variant, outcome: Outcome) {
        if outcome.objective().is_none() {
            self.values.remove(variant);
        }
        self.told.insert(variant.clone(), outcome);
    }

    fn compiled(&mut self, variant: &Variant, resources: &Resources) {
        self.inner.compiled(variant, resources);
    }

    fn remaining(&self) -> u64 {
        self.inner.remaining()
    }
}

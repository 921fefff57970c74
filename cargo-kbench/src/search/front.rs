//! Two objectives for strategies with one: each variant is chosen under weights of its own, drawn at random.
//!
//! The strategy gets the augmented Chebyshev sum of both objectives, as in `ParEGO` (Knowles 2006): of their
//! logarithms, scaled from the smallest value of each to the largest on the front. Unlike a weighted sum, it also finds
//! concave parts of a front. Before each variant, all outcomes are reported again under its weights.

use std::collections::BTreeMap;

use rand::RngExt as _;

use super::{Candidates, Outcome, Resources, Strategy, generator, strategy};
use crate::config::Search;
use crate::space::Variant;

/// Weights are multiples of the reciprocal of this number, so that sometimes only one objective counts.
const STEPS: u32 = 10;

/// Weight of the plain sum, which distinguishes variants that are equal in the larger term.
const PLAIN: f64 = 0.05;

/// Smallest range of an objective's logarithm: differences of a narrower front are noise.
const NARROW: f64 = 0.05;

/// The state of the search.
pub struct Front {
    inner: Box<dyn Strategy>,
    seed: u64,
    asked: u64,
    /// Logarithms of both objectives.
    values: BTreeMap<Variant, [f64; 2]>,
    /// Outcomes; failures are kept until they are passed on.
    told: BTreeMap<Variant, Outcome>,
}

/// The strategy of the table, for this number of objectives.
pub fn strategy_for(objectives: usize, candidates: &Candidates, search: &Search) -> Box<dyn Strategy> {
    let inner = strategy(candidates, search);
    if objectives < 2 { inner } else { Box::new(Front::new(inner, search.seed)) }
}

impl Front {
    /// A search for the front by `inner`.
    pub fn new(inner: Box<dyn Strategy>, seed: u64) -> Self {
        Self { inner, seed, asked: 0, values: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// The smallest value of each objective, and the range of each on the front.
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

    /// Reports all outcomes under the weights of the next variant.
    fn tell_all(&mut self) {
        // A random stream for each variant, so that the weights depend only on the seed and the index of the variant.
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
            let outcome =
                if matches!(outcome, Outcome::Identical(_)) { Outcome::Identical(sum) } else { Outcome::Measured(sum) };
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

    fn likely(&mut self, n: usize, enough: &dyn Fn() -> bool) -> Vec<Variant> {
        self.inner.likely(n, enough)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::StrategyName;
    use crate::expr::Value;
    use crate::search::Failure;
    use crate::space::{Layer, Reach, Space, Toggle};

    /// 2,000 variants.
    fn space() -> Space {
        let toggle = |name: &str, values: i64, layer| Toggle {
            name: name.into(),
            values: (0..values).map(Value::Int).collect(),
            layer,
            reach: Reach::Macro,
        };
        let toggles = vec![
            toggle("A", 10, Layer::Macro),
            toggle("B", 10, Layer::Macro),
            toggle("C", 5, Layer::Macro),
            toggle("D", 4, Layer::Micro),
        ];
        Space { toggles, constraints: vec![], default: Variant(vec![0; 4]) }
    }

    /// A larger A is faster and uses more; all other toggles have one best value. Some variants fail.
    fn objectives(variant: &Variant) -> Option<[f64; 2]> {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| f64::from(variant.0[at]));
        let waste = 1.0 + 0.02 * (b - 6.0).powi(2) + 0.1 * (c - 1.0).abs() + 0.05 * (d - 2.0).abs();
        (variant.0[0] != 5 || variant.0[1] < 8).then_some([waste * 100.0 / (1.0 + a), waste.sqrt() * (20.0 + 6.0 * a)])
    }

    /// The variants in the order of evaluation, and those that no tried variant dominates.
    fn run(strategy: StrategyName, seed: u64, batch: usize) -> (Vec<Variant>, Vec<[f64; 2]>) {
        let space = space();
        let search = Search {
            strategy,
            elite: 3,
            seed,
            evaluations: Some(100),
            seconds: None,
            shape: 0,
            proposer: None,
            roofline: None,
            partition: None,
        };
        let mut front = strategy_for(2, &Candidates::new(&space), &search);
        let mut tried = Vec::new();
        loop {
            let mut asked = front.ask(batch);
            if asked.is_empty() || tried.len() + asked.len() > 100 {
                break;
            }
            tried.extend(asked.iter().cloned());
            // The order of telling has no influence.
            asked.reverse();
            for variant in &asked {
                match objectives(variant) {
                    Some(values) => {
                        front.measured(variant, values);
                        front.tell(variant, Outcome::Measured(values[0]));
                    }
                    None => front.tell(variant, Outcome::Failed(Failure::Launch)),
                }
            }
        }
        let points: Vec<[f64; 2]> = tried.iter().filter_map(objectives).collect();
        let dominated = |[x, y]: &[f64; 2]| points.iter().any(|[a, b]| a <= x && b <= y && (a < x || b < y));
        let best = points.iter().filter(|point| !dominated(point)).copied().collect();
        (tried, best)
    }

    /// Area that a front dominates, in logarithms, below a point that is worse than the default.
    fn volume(mut front: Vec<[f64; 2]>) -> f64 {
        front.sort_by(|a, b| a[0].total_cmp(&b[0]));
        let (mut volume, mut above) = (0.0, 200.0_f64.ln());
        for [x, y] in front.iter().map(|point| point.map(f64::ln)) {
            volume += (400.0_f64.ln() - x).max(0.0) * (above - y).max(0.0);
            above = above.min(y);
        }
        volume
    }

    #[test]
    fn the_model_comes_closer_to_the_front_than_chance() {
        let all: Vec<[f64; 2]> = space().variants().filter_map(|variant| objectives(&variant)).collect();
        let most = volume(all);
        for seed in 0..3 {
            let share = |strategy| volume(run(strategy, seed, 1).1) / most;
            let (auto, random) = (share(StrategyName::Auto), share(StrategyName::Random));
            assert!(auto > 0.97 && auto > random, "seed {seed}: {auto} of the area, at random {random}");
        }
    }

    #[test]
    fn every_strategy_searches_for_a_front_without_repeating_itself() {
        for (name, strategy) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
            let (tried, best) = run(strategy, 7, 4);
            assert_eq!(tried[0], space().default, "{name}");
            assert_eq!(tried.iter().collect::<HashSet<_>>().len(), tried.len(), "{name}");
            // The first hundred of all variants have one A.
            assert!(best.len() > 1 || strategy == StrategyName::Exhaustive, "{name}");
            assert_eq!(run(strategy, 7, 4).0, tried, "{name}: the seed decides");
        }
    }

    #[test]
    fn a_second_result_of_a_variant_replaces_the_first() {
        let space = space();
        let value = |variant: &Variant| {
            objectives(variant).map_or(Outcome::Failed(Failure::Launch), |[x, _]| Outcome::Measured(x))
        };
        for (name, strategy) in StrategyName::ALL.map(|strategy| (strategy.name(), strategy)) {
            let search = Search {
                strategy,
                elite: 3,
                seed: 1,
                evaluations: Some(60),
                seconds: None,
                shape: 0,
                proposer: None,
                roofline: None,
                partition: None,
            };
            let trajectory = |wrong_first: bool| {
                let mut strategy = super::strategy(&Candidates::new(&space), &search);
                let mut tried = Vec::new();
                loop {
                    let asked = strategy.ask(4);
                    let measured = |variant: &&Variant| objectives(variant).is_some();
                    for variant in asked.iter().filter(measured).filter(|_| wrong_first) {
                        strategy.tell(variant, Outcome::Measured(1.0 + f64::from(variant.0[1])));
                    }
                    for variant in &asked {
                        strategy.tell(variant, value(variant));
                    }
                    if asked.is_empty() {
                        return tried;
                    }
                    tried.extend(asked);
                }
            };
            assert_eq!(trajectory(true), trajectory(false), "{name}");
        }
    }
}

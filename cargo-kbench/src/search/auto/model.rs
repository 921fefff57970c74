//! The Gaussian process over a pool of candidates: fits it, keeps it up to date, and proposes.

use std::collections::HashSet;

use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::features::Features;
use super::gp::Parameters;
use super::pool::Pool;
use super::validity::Validity;
use super::{Observation, Targets, improvement};
use crate::search::{Candidates, Unseen};
use crate::space::Variant;

/// Most candidates in the pool: all of a smaller space, else neighbours of the best and a random sample, drawn anew with
/// each fit.
const POOL: usize = 6000;

/// Neighbours of so many of the best are in the pool.
const BEST: usize = 5;

/// Fitted anew once there are so many times more observations.
const REFIT: f64 = 1.3;

/// Most observations that parameters are fitted to, and that the process holds; half of them are the best.
const FITTED: usize = 120;
const HELD: usize = 400;

/// What the process says of its own uncertainty is too little by this factor: its parameters are uncertain too.
const INFLATION: f64 = 1.5;

/// See the module.
pub struct Model {
    rng: ChaCha8Rng,
    prior: Vec<f64>,
    parameters: Parameters,
    pool: Pool,
    /// The observations that the process holds.
    rows: Vec<usize>,
    /// Observations at the last fit, and those that have been considered.
    fitted: usize,
    seen: usize,
    /// Variants in a pool that is not the whole space.
    pooled: HashSet<Variant>,
}

impl Model {
    pub fn new(features: &Features, rng: ChaCha8Rng) -> Self {
        Self {
            rng,
            prior: features.scales.clone(),
            parameters: Parameters::prior(&features.scales),
            pool: Pool::default(),
            rows: Vec::new(),
            fitted: 0,
            seen: 0,
            pooled: HashSet::new(),
        }
    }

    /// Takes in observations since the last time.
    pub fn learn(
        &mut self,
        candidates: &Candidates,
        features: &Features,
        unseen: &Unseen,
        observations: &[Observation],
        targets: &Targets,
    ) {
        let n = observations.len();
        if self.fitted == 0 || n as f64 >= (REFIT * self.fitted as f64).ceil() {
            self.fit(observations, targets);
            self.fill(candidates, features, unseen, observations, targets);
            self.fitted = n;
            self.seen = n;
        }
        for (at, observation) in observations.iter().enumerate().skip(self.seen) {
            self.pool.observe(&observation.x);
            self.rows.push(at);
        }
        // A new best: what is near it becomes interesting.
        if targets.order[0] >= self.seen && !self.pooled.is_empty() {
            let fresh = self.fresh(candidates.neighbours(&observations[targets.order[0]].variant), unseen);
            self.pool.add(features, fresh);
        }
        self.seen = n;
    }

    fn fit(&mut self, observations: &[Observation], targets: &Targets) {
        let held = self.chosen(HELD, targets);
        let fitted = if held.len() <= FITTED { held.clone() } else { self.chosen(FITTED, targets) };
        let x: Vec<&[f32]> = fitted.iter().map(|&at| observations[at].x.as_slice()).collect();
        let y: Vec<f64> = fitted.iter().map(|&at| targets.y[at]).collect();
        self.parameters.fit(&x, &y, &self.prior);
        self.rows = held;
    }

    /// So many observations, half of them the best, the others at random; in the order of asking.
    fn chosen(&mut self, most: usize, targets: &Targets) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..targets.y.len()).collect();
        if chosen.len() > most {
            chosen.sort_by(|&a, &b| targets.y[a].total_cmp(&targets.y[b]));
            chosen[most / 2..].shuffle(&mut self.rng);
            chosen.truncate(most);
            chosen.sort_unstable();
        }
        chosen
    }

    /// Fills the pool and observes.
    fn fill(
        &mut self,
        candidates: &Candidates,
        features: &Features,
        unseen: &Unseen,
        observations: &[Observation],
        targets: &Targets,
    ) {
        let whole = candidates.list().filter(|list| list.len() <= POOL);
        if whole.is_none() {
            self.pool = Pool::default();
            self.pooled.clear();
        }
        self.pool.reset(&self.parameters);
        for &at in &self.rows {
            self.pool.observe(&observations[at].x);
        }
        match whole {
            Some(list) if self.pool.is_empty() => self.pool.add(features, list.to_vec()),
            Some(_) => {}
            None => {
                let best = targets.order.iter().take(BEST);
                let near = best.flat_map(|&at| candidates.neighbours(&observations[at].variant)).collect();
                let mut fresh = self.fresh(near, unseen);
                // Twice as many draws as are wanted: in a small space many are known.
                let draws: Vec<Variant> = (0..2 * POOL).filter_map(|_| candidates.sample(&mut self.rng)).collect();
                fresh.extend(self.fresh(draws, unseen));
                fresh.truncate(POOL);
                self.pool.add(features, fresh);
            }
        }
    }

    /// Those that are neither in the pool nor proposed.
    fn fresh(&mut self, variants: Vec<Variant>, unseen: &Unseen) -> Vec<Variant> {
        let mut is_fresh = |variant: &Variant| !unseen.contains(variant) && self.pooled.insert(variant.clone());
        variants.into_iter().filter(|variant| is_fresh(variant)).collect()
    }

    /// How many pending variants have been imagined.
    pub fn imagined(&self) -> usize {
        self.pool.rows() - self.rows.len()
    }

    /// Goes on as if a pending variant had met its expectation.
    pub fn imagine(&mut self, x: &[f32]) {
        if self.imagined() == 0 {
            self.pool.keep();
        }
        self.pool.observe(x);
    }

    /// Takes back all that was imagined.
    pub fn forget(&mut self) {
        self.pool.forget();
    }

    /// Whether there is anything to propose by.
    pub fn is_fitted(&self) -> bool {
        self.fitted > 0
    }

    /// The candidate with the highest chance of being valid times expected improvement, but for those in `but`.
    pub fn propose(
        &mut self,
        unseen: &Unseen,
        but: &[Variant],
        observations: &[Observation],
        targets: &Targets,
    ) -> Option<Variant> {
        let y: Vec<f64> = self.rows.iter().map(|&at| targets.y[at]).collect();
        let (mean, weights, variance) = self.pool.weights(&y);
        let validity = Validity::new(&self.pool, self.rows.iter().map(|&at| &observations[at]));
        let mut best: Option<(f64, &Variant)> = None;
        let (mut most_gap, mut most_deviation) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for block in &mut self.pool.blocks {
            let means = block.combine(mean, &weights);
            let valid = validity.log_chances(block);
            for column in 0..means.len() {
                if block.seen[column] {
                    continue;
                }
                let deviation = INFLATION * (variance * f64::from(block.unexplained(column))).sqrt();
                let gap = targets.best - f64::from(means[column]);
                // Expected improvement grows with both, so whoever has less of both is out.
                if gap <= most_gap && deviation <= most_deviation {
                    continue;
                }
                let chance = valid.as_ref().map_or(0.0, |valid| valid[column]);
                let score = improvement::log_expected(gap, deviation) + chance;
                if best.is_none_or(|(most, _)| score > most) {
                    if unseen.contains(&block.variants[column]) {
                        block.seen[column] = true;
                        continue;
                    }
                    if but.contains(&block.variants[column]) {
                        continue;
                    }
                    best = Some((score, &block.variants[column]));
                    if valid.is_none() {
                        (most_gap, most_deviation) = (gap, deviation);
                    }
                }
            }
        }
        best.filter(|(score, _)| score.is_finite()).map(|(_, variant)| variant.clone())
    }
}

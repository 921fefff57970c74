//! The Gaussian process over a pool of candidates: fits, updates and proposes.

use std::collections::{HashSet, VecDeque};

use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::features::Features;
use super::gp::Parameters;
use super::pool::Pool;
use super::validity::Validity;
use super::{Observation, Targets, improvement};
use crate::search::{Candidates, Unseen};
use crate::space::Variant;

/// Largest number of candidates in the pool: all of a small space, otherwise neighbours of the best and a random
/// sample, which is redrawn each time the pool is filled. The number is smaller with many observations, so that their
/// product, which is the cost of a proposal, stays below a bound.
const POOL: usize = 6000;
const CELLS: usize = 200 * POOL;

/// Number of the best whose neighbours are in the pool.
const BEST: usize = 5;

/// Growth of the number of observations after which the parameters are fitted again.
const REFIT: f64 = 1.3;

/// Largest number of observations for a fit, and for the process when it is filled; half of them are the best. The
/// process is filled again after this growth.
const FITTED: usize = 120;
const HELD: usize = 400;
const REFILL: f64 = 1.3;

/// Factor on the model's uncertainty: the model is too certain, since its parameters are uncertain too.
const INFLATION: f64 = 1.5;

/// The process with its pool.
pub struct Model {
    rng: ChaCha8Rng,
    prior: Vec<f64>,
    parameters: Parameters,
    pool: Pool,
    /// The observations in the process.
    rows: Vec<usize>,
    /// Serials of the pending variants in the process, which follow the observations with their expected values.
    imagined: VecDeque<usize>,
    /// Number of observations at the last fit, and number that have been considered.
    fitted: usize,
    seen: usize,
    /// The variants in a pool that is not the whole space.
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
            imagined: VecDeque::new(),
            fitted: 0,
            seen: 0,
            pooled: HashSet::new(),
        }
    }

    /// Adds the observations since the last call.
    pub fn learn(
        &mut self,
        candidates: &Candidates,
        features: &Features,
        unseen: &Unseen,
        observations: &[Observation],
        targets: &Targets,
    ) {
        let n = observations.len();
        let refit = self.fitted == 0 || n as f64 >= (REFIT * self.fitted as f64).ceil();
        if refit || self.rows.len() as f64 >= REFILL * HELD as f64 {
            self.rows = chosen(HELD, targets, &mut self.rng);
            if refit {
                self.fit(observations, targets);
                self.fitted = n;
            }
            self.fill(candidates, features, unseen, observations, targets);
            self.seen = n;
        }
        for (at, observation) in observations.iter().enumerate().skip(self.seen) {
            // Observations that arrive in the order of asking are in their place already.
            if self.imagined.front() == Some(&observation.serial) {
                self.imagined.pop_front();
            } else {
                self.forget();
                self.pool.observe(&observation.x);
            }
            self.rows.push(at);
        }
        // After a new best, its neighbours become candidates.
        if targets.order[0] >= self.seen && !self.pooled.is_empty() {
            let fresh = self.fresh(candidates.neighbours(&observations[targets.order[0]].variant), unseen);
            self.pool.add(features, fresh);
        }
        self.seen = n;
    }

    fn fit(&mut self, observations: &[Observation], targets: &Targets) {
        let fitted = if self.rows.len() <= FITTED { self.rows.clone() } else { chosen(FITTED, targets, &mut self.rng) };
        let x: Vec<&[f32]> = fitted.iter().map(|&at| observations[at].x.as_slice()).collect();
        let y: Vec<f64> = fitted.iter().map(|&at| targets.y[at]).collect();
        self.parameters.fit(&x, &y, &self.prior);
    }

    /// Fills the pool and adds the observations.
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
        self.imagined.clear();
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
                let most = POOL.min(CELLS / self.rows.len().max(1));
                // Twice as many draws as needed: in a small space many are known.
                let draws: Vec<Variant> = (0..2 * most).filter_map(|_| candidates.sample(&mut self.rng)).collect();
                fresh.extend(self.fresh(draws, unseen));
                fresh.truncate(most);
                self.pool.add(features, fresh);
            }
        }
    }

    /// Variants that are neither in the pool nor proposed.
    fn fresh(&mut self, variants: Vec<Variant>, unseen: &Unseen) -> Vec<Variant> {
        let mut is_fresh = |variant: &Variant| !unseen.contains(variant) && self.pooled.insert(variant.clone());
        variants.into_iter().filter(|variant| is_fresh(variant)).collect()
    }

    /// Adds exactly these pending variants, by serial with their features, with their expected values.
    pub fn imagine<'x>(&mut self, pending: impl Iterator<Item = (usize, &'x [f32])> + Clone) {
        let same = self.imagined.iter().zip(pending.clone()).take_while(|(one, (other, _))| *one == other).count();
        self.imagined.truncate(same);
        self.pool.truncate(self.rows.len() + same);
        for (serial, x) in pending.skip(same) {
            self.pool.observe(x);
            self.imagined.push_back(serial);
        }
    }

    /// Removes all pending variants from the process.
    fn forget(&mut self) {
        self.imagined.clear();
        self.pool.truncate(self.rows.len());
    }

    /// The next proposals, at most `n`, if all pending variants and each proposal had their expected values; `enough`
    /// ends the list.
    pub fn proposals(
        &mut self,
        n: usize,
        features: &Features,
        unseen: &Unseen,
        observations: &[Observation],
        targets: &Targets,
        enough: &dyn Fn() -> bool,
    ) -> Vec<Variant> {
        let mut proposals = Vec::new();
        while proposals.len() < n && !enough() {
            let Some(variant) = self.propose(unseen, &proposals, observations, targets) else { break };
            self.pool.observe(&features.of(&variant));
            proposals.push(variant);
        }
        self.pool.truncate(self.rows.len() + self.imagined.len());
        proposals
    }

    /// Whether the process can propose.
    pub fn is_fitted(&self) -> bool {
        self.fitted > 0
    }

    /// The candidate with the highest product of the probability of being valid and expected improvement, without those
    /// in `but`.
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
        let sums: Vec<(f64, &[f32])> = [(mean, weights.as_slice())].into_iter().chain(validity.sums()).collect();
        let mut best: Option<(f64, &Variant)> = None;
        let mut most = [f64::NEG_INFINITY; 3];
        for block in &mut self.pool.blocks {
            let combined = block.combine(&sums);
            let valid = validity.log_chances(block, &combined[1..]);
            for (column, &mean) in combined[0].iter().enumerate() {
                if block.seen[column] {
                    continue;
                }
                let deviation = INFLATION * (variance * f64::from(block.unexplained(column))).sqrt();
                let gap = targets.best - f64::from(mean);
                let chance = valid.as_ref().map_or(0.0, |valid| valid[column]);
                // The score grows with all three quantities, so a candidate that is lower in all of them is skipped.
                if gap <= most[0] && deviation <= most[1] && chance <= most[2] {
                    continue;
                }
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
                    most = [gap, deviation, chance];
                }
            }
        }
        best.filter(|(score, _)| score.is_finite()).map(|(_, variant)| variant.clone())
    }
}

/// This number of observations, half of them the best, the others random; in the order of asking.
pub fn chosen(most: usize, targets: &Targets, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..targets.y.len()).collect();
    if chosen.len() > most {
        chosen.sort_by(|&a, &b| targets.y[a].total_cmp(&targets.y[b]));
        chosen[most / 2..].shuffle(rng);
        chosen.truncate(most);
        chosen.sort_unstable();
    }
    chosen
}

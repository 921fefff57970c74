//! A model-based search: expected improvement of a Gaussian process on features of the toggles, and sometimes of a
//! forest of random trees.
//!
//! The search starts with variants of earlier elites and with points far from each other. Failed variants count as slow
//! in the model of times, and lower the probability that similar variants are valid. Pending variants count as if they
//! had their expected times. The search needs no budget and no settings.

use std::collections::{BTreeMap, HashMap};

use rand_chacha::ChaCha8Rng;

use kbench_runtime::stats::percentile;

use super::{Candidates, Outcome, Resources, Strategy, Unseen, generator, planned};
use crate::config::Search;
use crate::space::Variant;
use features::Features;
use model::Model;
use trees::Forest;

mod features;
mod gp;
mod improvement;
mod model;
mod pool;
mod trees;
mod validity;

/// Number of first points, and number of random candidates of which each is the farthest.
const START: usize = 6;
/// Both numbers if there are variants of earlier elites, which have more information than distant points.
const WARM_START: usize = 4;
const DRAWS: usize = 50;

/// Share of the fastest variants whose times are distinguished; slower variants count as equally slow.
const CLIP: f64 = 0.7;

/// Largest number of pending variants as a share of the asked variants, within limits: with more observations, the
/// latest ones change less, and more compilers can work.
const PENDING: usize = 8;
const LEAST_PENDING: usize = 4;
const MOST_PENDING: usize = 32;

/// Number of likely variants, each of which is a proposal of the model; later ones are rarely asked for.
const LIKELY: usize = 12;

/// Interval of proposals of the trees.
const TREES_EVERY: usize = 4;

/// Largest number of observations for the trees; half of them are the best.
const FITTED: usize = 400;
/// Candidates of the trees: random ones, and neighbours of the best.
const RANDOM: usize = 1000;
const BEST: usize = 5;

/// The state of the search.
pub struct Auto {
    candidates: Candidates,
    features: Features,
    planned: u64,
    /// Whether every candidate will be asked for, for any outcomes.
    exhausts: bool,
    rng: ChaCha8Rng,
    unseen: Unseen,
    asked: Vec<Asked>,
    by_variant: HashMap<Variant, usize>,
    /// Outcomes since the last ask, in the order of asking.
    news: BTreeMap<usize, Outcome>,
    /// Variants that were asked for and whose outcome is unknown.
    pending: Vec<usize>,
    observations: Vec<Observation>,
    model: Model,
}

struct Asked {
    variant: Variant,
    x: Vec<f32>,
    resources: Option<Resources>,
    /// Index among the observations, once it is one.
    observed: Option<usize>,
}

/// A variant with its outcome.
pub struct Observation {
    /// Index in the order of asking.
    serial: usize,
    variant: Variant,
    x: Vec<f32>,
    outcome: Outcome,
    resources: Option<Resources>,
}

/// Targets of the models.
pub struct Targets {
    /// Logarithm of the time of each observation, clipped and standardized; lower is better.
    pub y: Vec<f64>,
    /// The smallest target.
    pub best: f64,
    /// The observations that passed, best first.
    pub order: Vec<usize>,
}

impl Auto {
    /// A search of `candidates`.
    pub fn new(candidates: Candidates, search: &Search) -> Self {
        /// Number of random variants by which the features of a large space are scaled.
        const SAMPLE: usize = 4096;
        let mut rng = generator(search.seed, 1);
        let drawn: Vec<Variant>;
        let sample = if let Some(list) = candidates.list() {
            list
        } else {
            drawn = (0..SAMPLE).filter_map(|_| candidates.sample(&mut rng)).collect();
            &drawn
        };
        let features = Features::new(candidates.toggles(), sample);
        let planned = planned(&candidates, search);
        Self {
            planned,
            exhausts: candidates.len() == Some(planned.into()) && search.seconds.is_none(),
            unseen: Unseen::new(&candidates, generator(search.seed, 0)),
            rng,
            model: Model::new(&features, generator(search.seed, 2)),
            features,
            candidates,
            asked: Vec::new(),
            by_variant: HashMap::new(),
            news: BTreeMap::new(),
            pending: Vec::new(),
            observations: Vec::new(),
        }
    }

    /// The first points. If variants of earlier elites are slower here than the default or a distant point, one more
    /// distant point is added.
    /// then there is another, beside them.
    fn start(&self) -> usize {
        let first = self.candidates.first();
        let is_warm = |variant: &Variant| variant != self.candidates.default() && first.contains(variant);
        let warm = first.iter().filter(|variant| is_warm(variant)).count();
        if warm == 0 {
            return START;
        }
        let start = WARM_START.max(first.len());
        let (mut best_warm, mut best_other) = (f64::INFINITY, f64::INFINITY);
        for observation in self.observations.iter().filter(|other| other.serial < start) {
            let best = if is_warm(&observation.variant) { &mut best_warm } else { &mut best_other };
            *best = observation.outcome.objective().map_or(*best, |objective| objective.min(*best));
        }
        if best_other < best_warm { START + warm } else { start }
    }

    /// A candidate far from all that were asked for.
    fn far(&mut self) -> Option<Variant> {
        if self.asked.is_empty() || self.unseen.first().is_some() {
            return self.unseen.peek();
        }
        let weights: Vec<f32> = self.features.scales.iter().map(|scale| (scale * scale).recip() as f32).collect();
        let mut best: Option<(f32, Variant)> = None;
        for _ in 0..DRAWS {
            let variant = self.unseen.peek()?;
            let x = self.features.of(&variant);
            let distance = |other: &Asked| {
                let each = x.iter().zip(&other.x).zip(&weights).map(|((a, b), weight)| (a - b) * (a - b) * weight);
                each.sum::<f32>()
            };
            let nearest = self.asked.iter().map(distance).fold(f32::INFINITY, f32::min);
            if best.as_ref().is_none_or(|(most, _)| nearest > *most) {
                best = Some((nearest, variant));
            }
        }
        best.map(|(_, variant)| variant)
    }

    /// The targets; `None` while all outcomes are equal.
    fn targets(&self) -> Option<Targets> {
        let logs: Vec<Option<f64>> =
            self.observations.iter().map(|observation| observation.outcome.objective().map(f64::ln)).collect();
        let mut order: Vec<usize> = (0..logs.len()).filter(|&at| logs[at].is_some()).collect();
        // The sort is stable, so that the order of asking breaks ties.
        order.sort_by(|&a, &b| logs[a].unwrap_or_default().total_cmp(&logs[b].unwrap_or_default()));
        let passed: Vec<f64> = order.iter().filter_map(|&at| logs[at]).collect();
        let clip = (!passed.is_empty()).then(|| percentile(&passed, CLIP))?;
        let mut y: Vec<f64> = logs.iter().map(|log| log.map_or(clip, |log| log.min(clip))).collect();
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let spread = (y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / y.len() as f64).sqrt();
        if spread < 1e-9 {
            return None;
        }
        for y in &mut y {
            *y = (*y - mean) / spread;
        }
        Some(Targets { best: y[order[0]], y, order })
    }

    fn by_trees(&mut self, targets: &Targets) -> Option<Variant> {
        let rows = model::chosen(FITTED, targets, &mut self.rng);
        let x: Vec<&[f32]> = rows.iter().map(|&at| self.observations[at].x.as_slice()).collect();
        let y: Vec<f64> = rows.iter().map(|&at| targets.y[at]).collect();
        let forest = Forest::fit(&x, &y, &mut self.rng);
        let best = targets.order.iter().take(BEST);
        let mut pool: Vec<Variant> =
            best.flat_map(|&at| self.candidates.neighbours(&self.observations[at].variant)).collect();
        pool.extend((0..RANDOM).filter_map(|_| self.candidates.sample(&mut self.rng)));
        let rows: Vec<Vec<f32>> = pool.iter().map(|variant| self.features.of(variant)).collect();
        let mut best: Option<(f64, Variant)> = None;
        for (variant, (mean, variance)) in pool.into_iter().zip(forest.predict(&rows)) {
            let score = improvement::log_expected(targets.best - mean, variance.sqrt());
            if best.as_ref().is_none_or(|(most, _)| score > *most) && !self.unseen.contains(&variant) {
                best = Some((score, variant));
            }
        }
        best.filter(|(score, _)| score.is_finite()).map(|(_, variant)| variant)
    }

    fn next(&mut self) -> Option<Variant> {
        if self.asked.len() < self.start() {
            return self.far();
        }
        let Some(targets) = self.targets() else { return self.far() };
        self.model.learn(&self.candidates, &self.features, &self.unseen, &self.observations, &targets);
        self.imagine_pending();
        let found = if self.asked.len() % TREES_EVERY == TREES_EVERY - 1 {
            self.by_trees(&targets)
        } else {
            self.model.propose(&self.unseen, &[], &self.observations, &targets)
        };
        found.or_else(|| self.unseen.peek())
    }

    fn imagine_pending(&mut self) {
        let asked = &self.asked;
        self.model.imagine(self.pending.iter().map(|&serial| (serial, asked[serial].x.as_slice())));
    }
}

impl Strategy for Auto {
    /// The first points depend on no outcome.
    fn batch(&self) -> usize {
        let asked = self.asked.len();
        let pending = (asked / PENDING).clamp(LEAST_PENDING, MOST_PENDING);
        if asked < self.start() { self.start().max(pending) } else { pending }
    }

    fn likely(&mut self, n: usize, enough: &dyn Fn() -> bool) -> Vec<Variant> {
        let most = n.min(LIKELY).min(self.remaining() as usize);
        let mut likely = Vec::new();
        if let Some(targets) = self.targets().filter(|_| self.model.is_fitted()) {
            self.imagine_pending();
            let Self { features, unseen, observations, model, .. } = self;
            likely = model.proposals(most, features, unseen, observations, &targets, enough);
        }
        if self.exhausts {
            let left = self.candidates.list().unwrap_or_default().iter();
            let left = left.filter(|variant| !self.unseen.contains(variant) && !likely.contains(variant));
            let left: Vec<Variant> = left.take(n - likely.len()).cloned().collect();
            likely.extend(left);
        }
        likely
    }

    fn ask(&mut self, n: usize) -> Vec<Variant> {
        for (serial, outcome) in std::mem::take(&mut self.news) {
            let Asked { variant, x, resources, observed } = &mut self.asked[serial];
            if let Some(at) = *observed {
                self.observations[at].outcome = outcome;
                continue;
            }
            *observed = Some(self.observations.len());
            self.pending.retain(|&other| other != serial);
            let (variant, x, resources) = (variant.clone(), x.clone(), *resources);
            self.observations.push(Observation { serial, variant, x, outcome, resources });
        }
        let mut batch = Vec::new();
        while batch.len() < n && self.remaining() > 0 {
            // Later points need some outcomes of the first.
            if self.asked.len() >= self.start()
                && self.observations.len() < self.start() / 2
                && !self.pending.is_empty()
            {
                break;
            }
            let Some(variant) = self.next() else { break };
            self.unseen.insert(&variant);
            self.by_variant.insert(variant.clone(), self.asked.len());
            self.pending.push(self.asked.len());
            let x = self.features.of(&variant);
            self.asked.push(Asked { x, variant: variant.clone(), resources: None, observed: None });
            batch.push(variant);
        }
        batch
    }

    fn tell(&mut self, variant: &Variant, outcome: Outcome) {
        if let Some(&serial) = self.by_variant.get(variant) {
            self.news.insert(serial, outcome);
        }
    }

    fn compiled(&mut self, variant: &Variant, resources: &Resources) {
        if let Some(&serial) = self.by_variant.get(variant) {
            self.asked[serial].resources = Some(*resources);
        }
    }

    fn remaining(&self) -> u64 {
        self.planned - self.asked.len() as u64
    }
}

#[cfg(test)]
mod tests;

//! A model-based search: expected improvement of a Gaussian process on features of the toggles, and sometimes of a
//! forest of random trees.
//!
//! The search starts with the best variant of earlier elites and with points far from each other. Failed variants count
//! as slow in the model of times, and lower the probability that similar variants are valid. Pending variants count as
//! if they had their expected times. The search needs no budget and no settings.

use std::collections::{BTreeMap, HashMap};

use rand_chacha::ChaCha8Rng;

use kbench_runtime::stats::percentile;

use super::{Candidates, Outcome, Resources, Strategy, Unseen, generator, planned};
use crate::config::Search;
use crate::space::Variant;
use earlier::Known;
use features::Features;
use model::Model;
use trees::Forest;

mod earlier;
mod features;
mod gp;
mod improvement;
mod model;
mod pool;
mod trees;
mod validity;

/// Number of first points, and number of random candidates of which each is the farthest.
const START: usize = 6;
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
    /// Variants of earlier elites, best first.
    earlier: Vec<Variant>,
    /// The model that knows all, and one that knows no variant that follows earlier elites.
    models: [Model; 2],
}

struct Asked {
    variant: Variant,
    x: Vec<f32>,
    resources: Option<Resources>,
    /// Index among the observations, once it is one.
    observed: Option<usize>,
    /// Whether this is a variant of an earlier elite, or was proposed because one led.
    follows: bool,
}

/// A variant with its outcome.
#[derive(Clone)]
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
        let (earlier, start) = earlier::split(&candidates);
        Self {
            planned,
            exhausts: candidates.len() == Some(planned.into()) && search.seconds.is_none(),
            unseen: Unseen::new(&start, generator(search.seed, 0)),
            rng,
            models: [2, 3].map(|stream| Model::new(&features, generator(search.seed, stream))),
            earlier,
            features,
            candidates,
            asked: Vec::new(),
            by_variant: HashMap::new(),
            news: BTreeMap::new(),
            pending: Vec::new(),
            observations: Vec::new(),
        }
    }

    /// A candidate far from all that were asked for, or from those that did not follow earlier elites: with slow
    /// earlier elites, the search then has the points that it would have without.
    fn far(&mut self) -> Option<Variant> {
        if self.asked.iter().all(|other| other.follows) || self.unseen.first().is_some() {
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
            let others = self.asked.iter().filter(|other| !other.follows);
            let nearest = others.map(distance).fold(f32::INFINITY, f32::min);
            if best.as_ref().is_none_or(|(most, _)| nearest > *most) {
                best = Some((nearest, variant));
            }
        }
        best.map(|(_, variant)| variant)
    }

    fn by_trees(&mut self, observations: &[Observation], targets: &Targets) -> Option<Variant> {
        let rows = model::chosen(FITTED, targets, &mut self.rng);
        let x: Vec<&[f32]> = rows.iter().map(|&at| observations[at].x.as_slice()).collect();
        let y: Vec<f64> = rows.iter().map(|&at| targets.y[at]).collect();
        let forest = Forest::fit(&x, &y, &mut self.rng);
        let best = targets.order.iter().take(BEST);
        let mut pool: Vec<Variant> =
            best.flat_map(|&at| self.candidates.neighbours(&observations[at].variant)).collect();
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

    /// The next variant, and whether it follows earlier elites.
    fn next(&mut self) -> Option<(Variant, bool)> {
        if self.asked.len() < START {
            return self.far().map(|variant| (variant.clone(), self.earlier.contains(&variant)));
        }
        let known = self.known();
        let follows = known == Known::Followed;
        let untried = self.untried().next().filter(|_| follows).cloned();
        let found = untried.or_else(|| self.with(known, |auto, observations| auto.propose(known, observations)));
        found.map(|variant| (variant, follows))
    }

    /// Calls `f` with the observations that are known.
    fn with<T>(&mut self, known: Known, f: impl FnOnce(&mut Self, &[Observation]) -> T) -> T {
        let all = std::mem::take(&mut self.observations);
        let observations = self.of(known, &all);
        let result = f(self, &observations);
        drop(observations);
        self.observations = all;
        result
    }

    fn propose(&mut self, known: Known, observations: &[Observation]) -> Option<Variant> {
        let Some(targets) = targets(observations) else { return self.far() };
        self.models[known.model()].learn(&self.candidates, &self.features, &self.unseen, observations, &targets);
        self.imagine_pending(known);
        let asked = self.asked.iter().filter(|asked| known.includes(asked)).count();
        let found = if asked % TREES_EVERY == TREES_EVERY - 1 {
            self.by_trees(observations, &targets)
        } else {
            self.models[known.model()].propose(&self.unseen, &[], observations, &targets)
        };
        found.or_else(|| self.unseen.peek())
    }

    /// Gives the model of what is known the pending variants.
    fn imagine_pending(&mut self, known: Known) {
        let asked = &self.asked;
        let pending = self.pending.iter().filter(|&&serial| known.includes(&asked[serial]));
        self.models[known.model()].imagine(pending.map(|&serial| (serial, asked[serial].x.as_slice())));
    }
}

/// The targets; `None` while all outcomes are equal.
fn targets(observations: &[Observation]) -> Option<Targets> {
    let logs: Vec<Option<f64>> =
        observations.iter().map(|observation| observation.outcome.objective().map(f64::ln)).collect();
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

impl Strategy for Auto {
    /// The first points depend on no outcome.
    fn batch(&self) -> usize {
        let asked = self.asked.len();
        let pending = (asked / PENDING).clamp(LEAST_PENDING, MOST_PENDING);
        if asked < START { START.max(pending) } else { pending }
    }

    fn likely(&mut self, n: usize, enough: &dyn Fn() -> bool) -> Vec<Variant> {
        let most = n.min(LIKELY).min(self.remaining() as usize);
        let known = self.known();
        let mut likely: Vec<Variant> = Vec::new();
        if known == Known::Followed && self.asked.len() >= START {
            likely.extend(self.untried().take(most).cloned());
        }
        if likely.is_empty() && self.models[known.model()].is_fitted() {
            likely = self.with(known, |auto, observations| {
                let Some(targets) = targets(observations) else { return Vec::new() };
                auto.imagine_pending(known);
                let Self { features, unseen, models, .. } = auto;
                models[known.model()].proposals(most, features, unseen, observations, &targets, enough)
            });
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
            let Asked { variant, x, resources, observed, .. } = &mut self.asked[serial];
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
            if self.asked.len() >= START && self.observations.len() < START / 2 && !self.pending.is_empty() {
                break;
            }
            let Some((variant, follows)) = self.next() else { break };
            self.unseen.insert(&variant);
            self.by_variant.insert(variant.clone(), self.asked.len());
            self.pending.push(self.asked.len());
            let x = self.features.of(&variant);
            self.asked.push(Asked { x, variant: variant.clone(), resources: None, observed: None, follows });
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

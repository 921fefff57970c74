//! A model-based search: a Gaussian process on features of the toggles proposes where improvement is expected, and every
//! fourth time a forest of random trees does.

use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};

use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{Candidates, Outcome, Strategy, Unseen, generator, planned};
use crate::config::Search;
use crate::space::Variant;
use features::Features;
use gp::Parameters;
use pool::Pool;
use trees::Forest;

mod features;
mod gp;
mod improvement;
mod pool;
mod trees;

/// TEMPORARY
pub fn knob(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Knobs {
    start: usize,
    draws: usize,
    clip: f64,
    inflate: f64,
    tree_every: usize,
    valid: f64,
    pool: usize,
    refit: f64,
}

/// See the module.
pub struct Auto {
    k: Knobs,
    candidates: Candidates,
    features: Features,
    planned: u64,
    rng: ChaCha8Rng,
    unseen: Unseen,
    /// In the order of asking.
    asked: Vec<Variant>,
    serial: HashMap<Variant, usize>,
    /// Told since the last ask, by the order of asking.
    news: BTreeMap<usize, Outcome>,
    pending: BTreeMap<usize, ()>,
    observations: Vec<Observation>,
    parameters: Parameters,
    pool: Pool,
    fitted: usize,
    pooled: HashSet<Variant>,
    best_seen: f64,
    /// Real rows of the pool.
    rows: Vec<usize>,
}

struct Observation {
    variant: Variant,
    x: Vec<f32>,
    /// Logarithm of the objective; `None` for a failure.
    y: Option<f64>,
}

struct Targets {
    y: Vec<f64>,
    best: f64,
    failed: Vec<f64>,
}

impl Auto {
    /// A search of `candidates`.
    pub fn new(candidates: Candidates, search: &Search) -> Self {
        let mut rng = generator(search.seed, 1);
        let sample: Vec<Variant> = match candidates.list() {
            Some(list) => list.to_vec(),
            None => (0..4096).filter_map(|_| candidates.sample(&mut rng)).collect(),
        };
        let features = Features::new(candidates.toggles(), &sample);
        let parameters = Parameters::prior(&features.scales);
        let k = Knobs {
            start: knob("START", 10.) as usize,
            draws: knob("DRAWS", 10.) as usize,
            clip: knob("CLIP", 0.7),
            inflate: knob("INFLATE", 1.15),
            tree_every: knob("TREE", 4.) as usize,
            valid: knob("VALID", 0.),
            pool: knob("POOL", 1e6) as usize,
            refit: knob("REFIT", 1.3),
        };
        Self {
            k,
            planned: planned(&candidates, search),
            unseen: Unseen::new(&candidates, generator(search.seed, 0)),
            rng,
            pool: Pool::default(),
            parameters,
            features,
            candidates,
            asked: Vec::new(),
            serial: HashMap::new(),
            news: BTreeMap::new(),
            pending: BTreeMap::new(),
            observations: Vec::new(),
            fitted: 0,
            pooled: HashSet::new(),
            best_seen: f64::INFINITY,
            rows: Vec::new(),
        }
    }

    fn start(&mut self) -> Option<Variant> {
        let weights: Vec<f64> = self.features.scales.iter().map(|scale| 1.0 / (scale * scale)).collect();
        let mut best: Option<(f64, Variant)> = None;
        for _ in 0..self.k.draws {
            let variant = self.unseen.peek()?;
            let x = self.features.of(&variant);
            let distance = self
                .asked
                .iter()
                .map(|other| {
                    let other = self.features.of(other);
                    x.iter().zip(&other).zip(&weights).map(|((a, b), w)| f64::from(a - b).powi(2) * w).sum::<f64>()
                })
                .fold(f64::INFINITY, f64::min);
            if best.as_ref().is_none_or(|(most, _)| distance > *most) {
                best = Some((distance, variant));
            }
        }
        best.map(|(_, variant)| variant)
    }

    fn targets(&self) -> Option<Targets> {
        let mut valid: Vec<f64> = self.observations.iter().filter_map(|o| o.y).collect();
        if valid.len() < 2 {
            return None;
        }
        valid.sort_by(f64::total_cmp);
        let at = self.k.clip * (valid.len() - 1) as f64;
        let (low, part) = (at.floor() as usize, at.fract());
        let clip = valid[low] + part * (valid[(low + 1).min(valid.len() - 1)] - valid[low]);
        let mut y: Vec<f64> = self.observations.iter().map(|o| o.y.map_or(clip, |y| y.min(clip))).collect();
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        let spread = (y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / y.len() as f64).sqrt();
        if spread <= 1e-12 {
            return None;
        }
        y.iter_mut().for_each(|y| *y = (*y - mean) / spread);
        let best = y.iter().copied().fold(f64::INFINITY, f64::min);
        Some(Targets { y, best, failed: self.observations.iter().map(|o| f64::from(u8::from(o.y.is_none()))).collect() })
    }

    fn refit(&mut self, targets: &Targets) {
        let mut order: Vec<usize> = (0..self.observations.len()).collect();
        if order.len() > 120 {
            order.sort_by(|&a, &b| targets.y[a].total_cmp(&targets.y[b]));
            order[60..].shuffle(&mut self.rng);
            order.truncate(120);
            order.sort_unstable();
        }
        let x: Vec<Vec<f32>> = order.iter().map(|&i| self.observations[i].x.clone()).collect();
        let y: Vec<f64> = order.iter().map(|&i| targets.y[i]).collect();
        self.parameters.fit(&x, &y, &self.features.scales);
        self.pool.reset(&self.parameters);
        match self.candidates.list() {
            Some(list) if list.len() <= self.k.pool => {
                if self.pool.blocks.is_empty() {
                    self.pool.add(&self.features, list.to_vec(), |_| false);
                }
            }
            _ => {
                let mut set: HashSet<Variant> = HashSet::new();
                let mut fresh: Vec<Variant> = Vec::new();
                let mut order: Vec<usize> = (0..targets.y.len()).filter(|&i| self.observations[i].y.is_some()).collect();
                order.sort_by(|&a, &b| targets.y[a].total_cmp(&targets.y[b]));
                for &i in order.iter().take(5) {
                    for v in self.candidates.neighbours(&self.observations[i].variant) {
                        if !self.unseen.contains(&v) && set.insert(v.clone()) { fresh.push(v); }
                    }
                }
                let mut tries = 0;
                while fresh.len() < self.k.pool && tries < 2 * self.k.pool {
                    tries += 1;
                    let Some(v) = self.candidates.sample(&mut self.rng) else { break };
                    if !self.unseen.contains(&v) && set.insert(v.clone()) { fresh.push(v); }
                }
                self.pool.blocks.clear();
                self.pool.add(&self.features, fresh, |_| false);
                self.pooled = set;
            }
        }
        for observation in &self.observations {
            self.pool.observe(&observation.x);
        }
        self.fitted = self.observations.len();
    }

    fn by_process(&mut self, targets: &Targets) -> Option<Variant> {
        let (mean, weights, variance) = self.pool.weights(&targets.y);
        let validity = (self.k.valid > 0.0 && targets.failed.iter().any(|&f| f > 0.0)).then(|| {
            let (mean, weights, _) = self.pool.weights(&targets.failed);
            let _ = mean;
            (mean, weights)
        });
        let mut best: Option<(f64, usize, usize)> = None;
        let (mut most_gap, mut most_sd) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for (at, block) in self.pool.blocks.iter_mut().enumerate() {
            let means = block.combine(mean, &weights);
            let failing = validity.as_ref().map(|(mean, weights)| block.combine(*mean, weights));
            let unexplained: Vec<f32> = block.unexplained().collect();
            for column in 0..means.len() {
                if block.seen[column] {
                    continue;
                }
                let sd = self.k.inflate * (variance * f64::from(unexplained[column])).sqrt();
                let gap = targets.best - f64::from(means[column]);
                // Expected improvement grows with both, so whoever has less of both is out.
                if gap <= most_gap && sd <= most_sd {
                    continue;
                }
                let mut score = improvement::log_expected(gap, sd);
                if let Some(failing) = &failing {
                    score += self.k.valid * (1.0 - f64::from(failing[column])).clamp(0.01, 1.0).ln();
                }
                if best.is_none_or(|(most, ..)| score > most) {
                    if self.unseen.contains(&block.variants[column]) {
                        block.seen[column] = true;
                        continue;
                    }
                    best = Some((score, at, column));
                    if validity.is_none() { (most_gap, most_sd) = (gap, sd); }
                }
            }
        }
        let (score, at, column) = best?;
        score.is_finite().then(|| self.pool.blocks[at].variants[column].clone())
    }

    fn by_trees(&mut self, targets: &Targets) -> Option<Variant> {
        let x: Vec<Vec<f32>> = self.observations.iter().map(|o| o.x.clone()).collect();
        let forest = Forest::fit(&x, &targets.y, &mut self.rng);
        let mut order: Vec<usize> = (0..targets.y.len()).filter(|&i| self.observations[i].y.is_some()).collect();
        order.sort_by(|&a, &b| targets.y[a].total_cmp(&targets.y[b]));
        let mut pool: Vec<Variant> = Vec::new();
        for &i in order.iter().take(5) {
            pool.extend(self.candidates.neighbours(&self.observations[i].variant));
        }
        pool.extend((0..1000).filter_map(|_| self.candidates.sample(&mut self.rng)));
        let mut best: Option<(f64, Variant)> = None;
        let rows: Vec<Vec<f32>> = pool.iter().map(|variant| self.features.of(variant)).collect();
        for (variant, (mean, variance)) in pool.into_iter().zip(forest.predict(&rows)) {
            let score = improvement::log_expected(targets.best - mean, variance.sqrt());
            if best.as_ref().is_none_or(|(most, _)| score > *most) && !self.unseen.contains(&variant) {
                best = Some((score, variant));
            }
        }
        best.filter(|(score, _)| score.is_finite()).map(|(_, variant)| variant)
    }

    fn next(&mut self) -> Option<Variant> {
        if self.asked.len() < self.k.start {
            return self.start();
        }
        let Some(targets) = self.targets() else { return self.unseen.peek() };
        if self.fitted == 0 || self.observations.len() as f64 >= (self.k.refit * self.fitted as f64).ceil() {
            self.refit(&targets);
        }
        for row in self.pool.rows()..self.observations.len() {
            let x = self.observations[row].x.clone();
            self.pool.observe(&x);
        }
        if let Some(best) = self.observations.iter().filter(|o| o.y.is_some()).min_by(|a, b| a.y.partial_cmp(&b.y).unwrap())
            && best.y.unwrap() < self.best_seen {
            self.best_seen = best.y.unwrap();
            if self.candidates.len().is_none_or(|len| len > self.k.pool) {
                let fresh: Vec<Variant> = self.candidates.neighbours(&best.variant).into_iter().filter(|v| !self.unseen.contains(v) && self.pooled.insert(v.clone())).collect();
                if !fresh.is_empty() { self.pool.add(&self.features, fresh, |_| false); }
            }
        }
        let found = if self.k.tree_every > 0 && self.asked.len() % self.k.tree_every == self.k.tree_every - 1 {
            self.by_trees(&targets)
        } else {
            self.by_process(&targets)
        };
        found.or_else(|| self.unseen.peek())
    }
}

impl Strategy for Auto {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        for (serial, outcome) in std::mem::take(&mut self.news) {
            let variant = self.asked[serial].clone();
            let x = self.features.of(&variant);
            self.observations.push(Observation { variant, x, y: outcome.objective().map(f64::ln) });
        }
        let mut batch = Vec::new();
        while batch.len() < n && self.remaining() > 0 {
            let Some(variant) = self.next() else { break };
            self.unseen.insert(&variant);
            self.serial.insert(variant.clone(), self.asked.len());
            self.asked.push(variant.clone());
            batch.push(variant);
        }
        batch
    }

    fn tell(&mut self, variant: &Variant, outcome: Outcome) {
        if let Some(&serial) = self.serial.get(variant) {
            self.news.insert(serial, outcome);
        }
    }

    fn remaining(&self) -> u64 {
        self.planned - self.asked.len() as u64
    }
}

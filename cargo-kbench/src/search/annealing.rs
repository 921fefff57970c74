//! Simulated annealing: a walk over neighbours that accepts slower variants with a falling probability.
//!
//! The temperature falls with the share of planned evaluations that are spent, so that a small budget ends as cold as a
//! large one. While an outcome is pending, more neighbours of the same variant are proposed.

use std::collections::HashMap;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{Candidates, Outcome, Strategy, Unseen, generator, planned};
use crate::config::Search;
use crate::space::Variant;

/// Temperatures at the start and at the end: a variant that is slower by this share is accepted with a probability of
/// 1/e.
const HOT: f64 = 0.5;
const COLD: f64 = 0.005;

/// The state of the walk.
pub struct Annealing {
    candidates: Candidates,
    unseen: Unseen,
    rng: ChaCha8Rng,
    planned: u64,
    asked: Vec<Variant>,
    told: HashMap<Variant, Outcome>,
    /// Number of outcomes that were considered, in the order of asking.
    considered: usize,
    /// Present variant of the walk, with the logarithm of its objective.
    place: Option<(Variant, f64)>,
}

impl Annealing {
    /// A walk over `candidates`.
    pub fn new(candidates: Candidates, search: &Search) -> Self {
        Self {
            unseen: Unseen::new(&candidates, generator(search.seed, 0)),
            rng: generator(search.seed, 1),
            planned: planned(&candidates, search),
            candidates,
            asked: Vec::new(),
            told: HashMap::new(),
            considered: 0,
            place: None,
        }
    }

    /// Considers each outcome in the order of asking, up to the first that is missing, so that the order of telling has
    /// no influence.
    fn consider(&mut self) {
        while let Some(outcome) = self.asked.get(self.considered).and_then(|variant| self.told.remove(variant)) {
            let variant = &self.asked[self.considered];
            let spent = self.considered as f64 / self.planned as f64;
            self.considered += 1;
            let Some(objective) = outcome.objective().map(f64::ln) else { continue };
            let chance: f64 = self.rng.random();
            let temperature = HOT * (COLD / HOT).powf(spent);
            let takes =
                |&(_, here): &(Variant, f64)| objective <= here || chance < ((here - objective) / temperature).exp();
            if self.place.as_ref().is_none_or(takes) {
                self.place = Some((variant.clone(), objective));
            }
        }
    }

    fn next(&mut self) -> Option<Variant> {
        let Some((place, _)) = self.place.as_ref().filter(|_| self.unseen.first().is_none()) else {
            return self.unseen.draw();
        };
        let mut neighbours = self.candidates.neighbours(place);
        neighbours.shuffle(&mut self.rng);
        if let Some(variant) = neighbours.into_iter().find(|variant| !self.unseen.contains(variant)) {
            self.unseen.insert(&variant);
            return Some(variant);
        }
        // All neighbours are known: the walk restarts at another variant.
        self.place = None;
        self.unseen.draw()
    }
}

impl Strategy for Annealing {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        self.consider();
        let n = n.min(self.remaining() as usize);
        let batch: Vec<Variant> = std::iter::from_fn(|| self.next()).take(n).collect();
        self.asked.extend(batch.iter().cloned());
        batch
    }

    fn tell(&mut self, variant: &Variant, outcome: Outcome) {
        match (&mut self.place, outcome.objective()) {
            (Some((place, here)), Some(objective)) if place == variant => *here = objective.ln(),
            _ => drop(self.told.insert(variant.clone(), outcome)),
        }
    }

    fn remaining(&self) -> u64 {
        self.planned - self.asked.len() as u64
    }
}

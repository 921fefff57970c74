//! A genetic algorithm: children mix the values of two parents among the best, and some mutate.
//!
//! There are no generations, which would wait for their slowest: the parents of each child are the best at that time.

use std::collections::BTreeMap;
use std::collections::HashMap;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{Candidates, Outcome, Strategy, Unseen, generator, planned};
use crate::config::Search;
use crate::space::Variant;

/// Number of the best that may be parents, and of random variants at the start.
const POPULATION: usize = 20;

/// Number of tries for a child that is a candidate and new.
const TRIES: usize = 20;

/// The state of the search.
pub struct Genetic {
    candidates: Candidates,
    unseen: Unseen,
    rng: ChaCha8Rng,
    left: u64,
    /// Variants in the order of asking.
    asked: HashMap<Variant, usize>,
    news: BTreeMap<usize, (Variant, f64)>,
    /// The best, best first.
    population: Vec<(Variant, f64)>,
}

impl Genetic {
    /// A search of `candidates`.
    pub fn new(candidates: Candidates, search: &Search) -> Self {
        Self {
            unseen: Unseen::new(&candidates, generator(search.seed, 0)),
            rng: generator(search.seed, 1),
            left: planned(&candidates, search),
            candidates,
            asked: HashMap::new(),
            news: BTreeMap::new(),
            population: Vec::new(),
        }
    }

    /// A member of the population: the better of two random ones.
    fn parent(&mut self) -> Variant {
        let draws = [0; 2].map(|_| self.rng.random_range(0..self.population.len()));
        self.population[draws[0].min(draws[1])].0.clone()
    }

    fn child(&mut self) -> Variant {
        let (mut child, other) = (self.parent(), self.parent());
        let toggles = self.candidates.toggles();
        for (at, toggle) in toggles.iter().enumerate() {
            if self.rng.random_bool(0.5) {
                child.0[at] = other.0[at];
            }
            if self.rng.random_range(0..toggles.len()) == 0 {
                child.0[at] = self.rng.random_range(0..toggle.values.len()) as u16;
            }
        }
        child
    }

    fn next(&mut self) -> Option<Variant> {
        if self.asked.len() < POPULATION || self.population.len() < 2 {
            return self.unseen.draw();
        }
        for _ in 0..TRIES {
            let child = self.child();
            if !self.unseen.contains(&child) && self.candidates.contains(&child) {
                self.unseen.insert(&child);
                return Some(child);
            }
        }
        self.unseen.draw()
    }
}

impl Strategy for Genetic {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        let news: Vec<(Variant, f64)> = std::mem::take(&mut self.news).into_values().collect();
        self.population.retain(|(known, _)| news.iter().all(|(variant, _)| variant != known));
        self.population.extend(news);
        self.population.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        self.population.truncate(POPULATION);
        let mut batch = Vec::new();
        while batch.len() < n && self.left > 0 {
            let Some(variant) = self.next() else { break };
            self.asked.insert(variant.clone(), self.asked.len());
            self.left -= 1;
            batch.push(variant);
        }
        batch
    }

    fn tell(&mut self, variant: &Variant, outcome: Outcome) {
        if let Outcome::Measured(objective) = outcome
            && let Some(&order) = self.asked.get(variant)
        {
            self.news.insert(order, (variant.clone(), objective));
        }
    }

    fn remaining(&self) -> u64 {
        self.left
    }
}

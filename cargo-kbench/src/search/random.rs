//! Random candidates, each once: the baseline of all other strategies.

use super::{Candidates, Outcome, Strategy, Unseen, generator, planned};
use crate::config::Search;
use crate::space::Variant;

/// The state of the search.
pub struct Random {
    unseen: Unseen,
    left: u64,
}

impl Random {
    /// A search of `candidates`.
    pub fn new(candidates: &Candidates, search: &Search) -> Self {
        Self { unseen: Unseen::new(candidates, generator(search.seed, 0)), left: planned(candidates, search) }
    }
}

impl Strategy for Random {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        let batch: Vec<Variant> = std::iter::from_fn(|| self.unseen.draw()).take(n.min(self.left as usize)).collect();
        self.left -= batch.len() as u64;
        batch
    }

    fn tell(&mut self, _variant: &Variant, _outcome: Outcome) {}

    fn remaining(&self) -> u64 {
        self.left
    }
}

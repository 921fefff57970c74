//! Every candidate, in the space's order but for the default, which is first.

use super::{Candidates, Outcome, Strategy};
use crate::space::Variant;

/// See the module.
pub struct Exhaustive {
    candidates: Candidates,
    asked: usize,
}

impl Exhaustive {
    /// A walk over `candidates`.
    pub fn new(candidates: Candidates) -> Self {
        Self { candidates, asked: 0 }
    }
}

impl Strategy for Exhaustive {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        let first = self.candidates.first();
        let others = self.candidates.each().filter(|variant| Some(variant) != first);
        let batch: Vec<Variant> = first.cloned().into_iter().chain(others).skip(self.asked).take(n).collect();
        self.asked += batch.len();
        batch
    }

    fn tell(&mut self, _variant: &Variant, _outcome: Outcome) {}

    fn remaining(&self) -> u64 {
        self.candidates.len().map_or(u64::MAX, |len| (len - self.asked) as u64)
    }
}

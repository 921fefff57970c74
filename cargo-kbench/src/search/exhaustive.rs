//! Every candidate, in the space's order, after those that every search tries first.

use super::{Candidates, Outcome, Strategy};
use crate::space::Variant;

/// The state of the search.
pub struct Exhaustive {
    candidates: Candidates,
    each: Box<dyn Iterator<Item = Variant> + Send>,
    asked: u64,
}

impl Exhaustive {
    /// A walk over `candidates`.
    pub fn new(candidates: Candidates) -> Self {
        Self { each: candidates.each(), candidates, asked: 0 }
    }
}

impl Strategy for Exhaustive {
    fn ask(&mut self, n: usize) -> Vec<Variant> {
        let first = self.candidates.first();
        let begun = first.get(self.asked as usize..).unwrap_or_default().iter().cloned();
        let others = self.each.by_ref().filter(|variant| !first.contains(variant));
        let batch: Vec<Variant> = begun.chain(others).take(n).collect();
        self.asked += batch.len() as u64;
        batch
    }

    /// No variant depends on an outcome, so the compilers may know many and begin with the longest compilations.
    fn batch(&self) -> usize {
        256
    }

    fn tell(&mut self, _variant: &Variant, _outcome: Outcome) {}

    fn remaining(&self) -> u64 {
        self.candidates.len().map_or(u64::MAX, |len| u64::try_from(len - u128::from(self.asked)).unwrap_or(u64::MAX))
    }
}

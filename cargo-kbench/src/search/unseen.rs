//! Draws candidates without repetition, those that every search begins with first.

use std::collections::HashSet;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::Candidates;
use crate::space::Variant;

/// Draws of a space too large to list before it counts as exhausted: the remaining variants are then too rare to be found
/// by chance.
const DRAWS: usize = 1000;

/// Which candidates were proposed, and a random order of the others.
pub struct Unseen {
    candidates: Candidates,
    rng: ChaCha8Rng,
    seen: HashSet<Variant>,
    /// Positions in the list that may be unseen; drawn ones are swapped out.
    left: Vec<u32>,
}

impl Unseen {
    pub fn new(candidates: &Candidates, rng: ChaCha8Rng) -> Self {
        let left = (0..candidates.list().map_or(0, <[Variant]>::len) as u32).collect();
        Self { candidates: candidates.clone(), rng, seen: HashSet::new(), left }
    }

    /// Marks a variant as proposed; `false` where it was.
    pub fn insert(&mut self, variant: &Variant) -> bool {
        self.seen.insert(variant.clone())
    }

    pub fn contains(&self, variant: &Variant) -> bool {
        self.seen.contains(variant)
    }

    /// A random candidate that was not proposed, and that now is.
    pub fn draw(&mut self) -> Option<Variant> {
        let variant = self.peek()?;
        self.seen.insert(variant.clone());
        Some(variant)
    }

    /// The next of those that every search begins with.
    pub fn first(&self) -> Option<&Variant> {
        let first = self.candidates.first();
        // If more variants are proposed than these, all of these were.
        first.iter().filter(|_| self.seen.len() < first.len()).find(|variant| !self.seen.contains(*variant))
    }

    /// A random candidate that was not proposed, left unmarked; those that every search begins with before all others.
    pub fn peek(&mut self) -> Option<Variant> {
        if let Some(first) = self.first() {
            return Some(first.clone());
        }
        let Some(list) = self.candidates.list() else {
            for _ in 0..DRAWS {
                let variant = self.candidates.sample(&mut self.rng)?;
                if !self.seen.contains(&variant) {
                    return Some(variant);
                }
            }
            return None;
        };
        while !self.left.is_empty() {
            let at = self.rng.random_range(0..self.left.len());
            let variant = &list[self.left[at] as usize];
            if !self.seen.contains(variant) {
                return Some(variant.clone());
            }
            self.left.swap_remove(at);
        }
        None
    }
}

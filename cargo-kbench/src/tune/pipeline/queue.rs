//! The order of compilations.
//!
//! The device takes the wanted variants in their order and waits where one of them is not built. Most compilers take the next one; some
//! take the one with the longest expected compilation, since a long compilation that starts last is what the device waits for.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Duration;

use crate::space::Variant;
use crate::tune::MATTERS;

/// One in this number of wanted variants is the one with the longest expected compilation, the others are the next ones.
const LONGEST: usize = 4;

/// Largest number of wanted variants, and of the last compilations, among which the longest is looked for.
const LOOKED_AT: usize = 256;

/// Variants that are to be compiled, and the times of compilations so far.
#[derive(Debug, Default)]
pub(super) struct Queue {
    wanted: VecDeque<Variant>,
    /// Likely variants, likeliest first.
    likely: VecDeque<Variant>,
    building: Vec<Variant>,
    /// Duration of each of the last compilations, also of cached ones.
    took: VecDeque<(Variant, Duration)>,
    /// Number of builds that were begun.
    pub(super) begun: usize,
    /// Whether any build ran a compiler: with cached builds only, there is no wait, and neither the longest nor likely variants matter.
    pub(super) compiles: bool,
}

impl Queue {
    /// A queue; `compiles`: whether earlier builds of the search ran a compiler.
    pub(super) fn new(compiles: bool) -> Self {
        Self { compiles, ..Self::default() }
    }

    pub(super) fn want(&mut self, variant: Variant) {
        self.likely.retain(|likely| *likely != variant);
        self.wanted.push_back(variant);
    }

    /// Sets the likely variants in place of the previous ones.
    pub(super) fn speculate(&mut self, likely: impl IntoIterator<Item = Variant>) {
        self.likely = likely.into_iter().collect();
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn building(&self) -> usize {
        self.building.len()
    }

    pub(super) fn is_building(&self, variant: &Variant) -> bool {
        self.building.contains(variant)
    }

    /// Begins a wanted build, or a likely one if there is none and `speculates`. `threads`: the number of compilers.
    pub(super) fn next(&mut self, threads: usize, speculates: bool) -> Option<Variant> {
        self.next_wanted(threads).or_else(|| if speculates { self.next_likely() } else { None })
    }

    /// Begins a wanted build, if there is one. If there are no more wanted variants than compilers, their order does not matter.
    fn next_wanted(&mut self, threads: usize) -> Option<Variant> {
        let is_waited_for = self.took.is_empty() || self.compiles;
        let is_next = !is_waited_for || self.wanted.len() <= threads || self.begun % LONGEST != LONGEST - 1;
        let at = if is_next { 0 } else { self.longest(&self.wanted)? };
        let variant = self.wanted.remove(at)?;
        Some(self.begin(variant))
    }

    /// Begins the build of the likely variant with the longest expected compilation.
    fn next_likely(&mut self) -> Option<Variant> {
        let variant = self.likely.remove(self.longest(&self.likely)?)?;
        Some(self.begin(variant))
    }

    fn begin(&mut self, variant: Variant) -> Variant {
        self.begun += 1;
        self.building.push(variant.clone());
        variant
    }

    /// Ends a build. `elapsed`: its time; `took`: that of the compilation, which may be a cached one.
    pub(super) fn ended(&mut self, variant: &Variant, elapsed: Duration, took: Duration) {
        self.building.retain(|building| building != variant);
        self.took.push_back((variant.clone(), took));
        if self.took.len() > LOOKED_AT {
            self.took.pop_front();
        }
        self.compiles |= elapsed.as_secs_f64() > MATTERS;
    }

    /// Index of the variant with the longest expected compilation, the first of equals: a variant takes as long as the most similar one, and
    /// a running compilation as long as the longest so far. Of equals, and as long as no time is known, large tiles and unrolled loops
    /// take long, which come late in the lists of values.
    fn longest(&self, variants: &VecDeque<Variant>) -> Option<usize> {
        let longest = self.took.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let expected = |variant: &Variant| {
            let shared = |other: &Variant| variant.0.iter().zip(&other.0).filter(|(one, other)| one == other).count();
            let took = self.took.iter().map(|(other, took)| (shared(other), *took));
            took.chain(self.building.iter().map(|other| (shared(other), longest))).max().map(|(_, took)| took)
        };
        let values = |variant: &Variant| variant.0.iter().map(|&value| u32::from(value)).sum::<u32>();
        (0..variants.len().min(LOOKED_AT))
            .max_by_key(|&at| (expected(&variants[at]), values(&variants[at]), Reverse(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(indices: &[[u16; 2]]) -> Vec<Variant> {
        indices.iter().map(|indices| Variant(indices.to_vec())).collect()
    }

    fn queue(wanted: &[[u16; 2]], likely: &[[u16; 2]]) -> Queue {
        let mut queue = Queue::default();
        for variant in of(wanted) {
            queue.want(variant);
        }
        queue.speculate(of(likely));
        queue
    }

    #[test]
    fn long_builds_of_likely_variants_start_first() {
        let mut queue = queue(&[[2, 0]], &[[0, 1], [1, 1], [1, 2], [2, 1]]);
        queue.next_wanted(1);
        for (variant, seconds) in of(&[[0, 0], [1, 0]]).iter().zip([1, 9].map(Duration::from_secs)) {
            queue.ended(variant, seconds, seconds);
        }
        let order: Vec<Variant> = std::iter::from_fn(|| queue.next_likely()).collect();
        // Near a variant that took long or still compiles, late values first, then the likelier one.
        assert_eq!(order, of(&[[1, 2], [2, 1], [1, 1], [0, 1]]));
    }

    #[test]
    fn one_in_four_wanted_variants_is_the_longest() {
        let all: Vec<[u16; 2]> = (0..9).map(|at| [at / 3, at % 3]).collect();
        let mut queue = queue(&all, &[]);
        let order: Vec<Variant> = std::iter::from_fn(|| queue.next_wanted(2)).collect();
        let expected = [[0, 0], [0, 1], [0, 2], [2, 2], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1]];
        assert_eq!(order, of(&expected), "the last two are as many as the compilers");
        assert_eq!(queue.building(), 9);
    }

    #[test]
    fn a_wanted_variant_is_no_longer_likely() {
        let mut queue = queue(&[], &[[0, 0], [0, 1]]);
        queue.want(Variant(vec![0, 1]));
        assert_eq!(queue.next_likely(), Some(Variant(vec![0, 0])));
        assert_eq!(queue.next_likely(), None);
    }

    #[test]
    fn a_search_compiles_once_a_build_takes_long() {
        let mut queue = queue(&[], &[]);
        let cached = Duration::from_secs(9);
        queue.ended(&Variant(vec![0, 0]), Duration::from_millis(1), cached);
        assert!(!queue.compiles);
        queue.ended(&Variant(vec![0, 1]), cached, cached);
        assert!(queue.compiles);
    }
}

//! The budget and the strategy of a search.

use super::warm::WarmStart;
use crate::config::{self, Kernel};
use crate::search::{self, Candidates};
use crate::space::Variant;

/// The budget of the space.
pub(super) fn limits(kernel: &Kernel) -> config::Search {
    let mut limits = kernel.search.clone();
    if limits.proposer.is_some() {
        limits.evaluations = limits.evaluations.map(|most| most.div_ceil(2));
        limits.seconds = limits.seconds.map(|most| most.div_ceil(2));
    }
    limits
}

/// The strategy of a search, which tries the variants of a warm start first.
pub(super) fn strategy(
    candidates: Candidates,
    kernel: &Kernel,
    limits: &config::Search,
    warm: &WarmStart,
) -> Box<dyn search::Strategy> {
    let candidates = candidates.beginning_with(warm.variants.iter().cloned());
    search::front::strategy_for(kernel.objectives.len(), &candidates, limits)
}

/// The first variants of a search without a warm start, and at most `n` likely next ones.
pub(super) fn first(candidates: Candidates, kernel: &Kernel, n: usize) -> [Vec<Variant>; 2] {
    let limits = limits(kernel);
    let budget = limits.evaluations.map_or(usize::MAX, |budget| budget as usize);
    let mut strategy = strategy(candidates, kernel, &limits, &WarmStart::default());
    let asked = strategy.ask(strategy.batch().min(budget));
    let likely = strategy.likely(n.min(budget - asked.len()), &|| false);
    [asked, likely]
}

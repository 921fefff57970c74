//! Search strategies. A strategy gets only candidates and outcomes, so it runs the same on a GPU, a CPU and a recorded
//! space.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::config::{Search, StrategyName};
use crate::space::Variant;

pub mod annealing;
pub mod auto;
mod candidates;
pub mod evo;
pub mod exhaustive;
pub mod front;
pub mod genetic;
mod outcome;
pub mod random;
mod unseen;

pub use candidates::Candidates;
pub use outcome::{Failure, Outcome, Resources};
use unseen::Unseen;

/// Number of evaluations of a search without a budget, for a strategy without an end of its own; fewer if the space is
/// smaller. On recorded spaces of 4,000 to 11,000 variants [`auto`] is within 1 % of the optimum by then.
pub const EVALUATIONS: u64 = 200;

/// Proposes variants and learns from their outcomes.
///
/// Several variants may be pending, that is, asked for without an outcome, and outcomes may arrive in any order: the
/// next proposal depends on the set of outcomes, never on their order.
pub trait Strategy: Send {
    /// At most `n` variants to try next, none of them proposed before. Fewer, or none, if the proposals depend on
    /// pending outcomes; none while no variant is pending ends the search.
    fn ask(&mut self, n: usize) -> Vec<Variant>;

    /// Largest number of pending variants that does not make proposals worse. The number depends on the strategy, never
    /// on the machine, so that the tried variants do not depend on the number of cores.
    fn batch(&self) -> usize {
        32
    }

    /// At most `n` variants that the strategy would ask for next if pending variants had their expected outcomes: an
    /// idle core may compile them. The call has no influence on later proposals. The strategy tests `enough` before
    /// each variant, and stops once it is true.
    fn likely(&mut self, _n: usize, _enough: &dyn Fn() -> bool) -> Vec<Variant> {
        Vec::new()
    }

    /// The outcome of a variant that was asked for. A second outcome of the same variant, with another objective,
    /// replaces the first.
    fn tell(&mut self, variant: &Variant, outcome: Outcome);

    /// The resources of a variant that was asked for, before its outcome.
    fn compiled(&mut self, _variant: &Variant, _resources: &Resources) {}

    /// Both objectives of a variant that was asked for, each above 0, before its outcome; for searches with two
    /// objectives.
    fn measured(&mut self, _variant: &Variant, _objectives: [f64; 2]) {}

    /// Largest number of further proposals, for a progress bar.
    fn remaining(&self) -> u64;
}

/// The strategy of the table.
pub fn strategy(candidates: &Candidates, search: &Search) -> Box<dyn Strategy> {
    let candidates = candidates.clone();
    match search.strategy {
        StrategyName::Auto => Box::new(auto::Auto::new(candidates, search)),
        StrategyName::Evo => Box::new(evo::Evo::new(candidates, search)),
        StrategyName::Random => Box::new(random::Random::new(&candidates, search)),
        StrategyName::Annealing => Box::new(annealing::Annealing::new(candidates, search)),
        StrategyName::Genetic => Box::new(genetic::Genetic::new(candidates, search)),
        StrategyName::Exhaustive => Box::new(exhaustive::Exhaustive::new(candidates)),
    }
}

/// Number of evaluations that a strategy without an end of its own plans for: the budget, or [`EVALUATIONS`] if neither
/// evaluations nor seconds are limited, and never more than there are candidates.
fn planned(candidates: &Candidates, search: &Search) -> u64 {
    let budget = search.evaluations.unwrap_or(if search.seconds.is_some() { u64::MAX } else { EVALUATIONS });
    candidates.len().map_or(budget, |len| budget.min(u64::try_from(len).unwrap_or(u64::MAX)))
}

/// The random generator of a search: a stream for each use, so that an additional draw in one use does not change the
/// others.
fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

#[cfg(test)]
mod tests;

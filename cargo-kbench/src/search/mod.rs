//! Search strategies. A strategy sees the candidates and outcomes, nothing else, so it runs the same on a GPU, a CPU and a
//! recorded space.

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

/// Evaluations of a search that has no budget, where its strategy has no end of its own; fewer where the space is
/// smaller. On recorded spaces of 4,000 to 11,000 variants [`auto`] is within 1 % of the optimum by then.
pub const EVALUATIONS: u64 = 200;

/// Proposes variants and learns what came of them.
///
/// Several variants may be pending, asked for and not told yet, and they may be told in any order: what is proposed next depends
/// on what has been told, never on the order.
pub trait Strategy: Send {
    /// At most `n` variants to try next, none of them proposed before. Fewer, even none, where more depends on what is
    /// pending; none while nothing is pending is the end of the search.
    fn ask(&mut self, n: usize) -> Vec<Variant>;

    /// Most variants that may be pending without making it propose worse ones. A number of its own, never of the machine's, so
    /// that what is tried depends on no core.
    fn batch(&self) -> usize {
        32
    }

    /// At most `n` variants that it would ask for next if what is pending met its expectations: worth compiling on a core that
    /// would be idle. Leaves no trace in what it asks for. It looks at `enough` before each, and goes no further once that is true.
    fn likely(&mut self, _n: usize, _enough: &dyn Fn() -> bool) -> Vec<Variant> {
        Vec::new()
    }

    /// What came of a variant that was asked for. Said again of the same variant, with another objective, it replaces what was said.
    fn tell(&mut self, variant: &Variant, outcome: Outcome);

    /// What the compiler says of a variant that was asked for, before it is told.
    fn compiled(&mut self, _variant: &Variant, _resources: &Resources) {}

    /// Both objectives of a variant that was asked for, each above 0, before it is told; where there are two.
    fn measured(&mut self, _variant: &Variant, _objectives: [f64; 2]) {}

    /// Most variants it will yet propose, for an honest progress bar.
    fn remaining(&self) -> u64;
}

/// The strategy that the table names.
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

/// Evaluations that a strategy without an end of its own plans for: the budget, or [`EVALUATIONS`] where neither evaluations
/// nor seconds are limited, and never more than there are candidates.
fn planned(candidates: &Candidates, search: &Search) -> u64 {
    let budget = search.evaluations.unwrap_or(if search.seconds.is_some() { u64::MAX } else { EVALUATIONS });
    candidates.len().map_or(budget, |len| budget.min(u64::try_from(len).unwrap_or(u64::MAX)))
}

/// The generator of a search: a stream of its own for each use, so that one more draw here never shifts what is drawn there.
fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

#[cfg(test)]
mod tests;

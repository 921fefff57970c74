//! Search strategies. A strategy sees the space and outcomes, nothing else, so it runs the same on a GPU, a CPU and a
//! recorded space.

use crate::config::{Search, StrategyName};
use crate::space::{Space, Variant};

pub mod evo;

/// Proposes variants and learns what came of them.
pub trait Strategy {
    /// The next variants to try, never one proposed before; empty when the search is over. All but twins are told before
    /// the next ask.
    fn ask(&mut self) -> Vec<Variant>;

    /// What came of a variant: its objective (lower is better), or `None` where it was rejected.
    fn tell(&mut self, variant: &Variant, objective: Option<f64>);

    /// Most variants it will yet propose, for an honest progress bar.
    fn remaining(&self) -> u64;
}

/// The strategy that the table names.
pub fn strategy(space: &Space, search: &Search) -> Box<dyn Strategy> {
    match search.strategy {
        StrategyName::Evo => Box::new(evo::Evo::new(space.clone(), search)),
    }
}

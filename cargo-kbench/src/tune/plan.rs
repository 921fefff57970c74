//! The plan of a search without a device: the first variants, the largest number of variants, and an estimate of the
//! time.

use super::{space_size, strategy};
use crate::config::{Kernel, StrategyName};
use crate::record::run::Run;
use crate::search::{Candidates, EVALUATIONS};
use crate::space::Settings;

/// The plan of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The variants that the strategy asks for first.
    pub first: Vec<Settings>,
    /// Largest number of variants that are tried; none if they cannot be counted.
    pub most: Option<u64>,
    /// Estimate of the time in seconds, from the last search of the kernel, limited by the budget.
    pub seconds: Option<f64>,
    /// The last search: number of variants and seconds.
    pub last: Option<(u64, f64)>,
}

/// Largest number of named variants.
const NAMED: usize = 10;

impl Plan {
    /// The plan of a search, from the last recorded one.
    pub fn new(kernel: &Kernel, last: Option<&Run>) -> Self {
        let candidates = Candidates::of_part(&kernel.space, kernel.search.partition);
        let size = candidates.len().and_then(|size| u64::try_from(size).ok()).or_else(|| space_size(kernel));
        let stated = kernel.search.evaluations;
        let budget = match kernel.search.strategy {
            StrategyName::Evo | StrategyName::Exhaustive => stated,
            _ if kernel.search.seconds.is_some() => stated,
            _ => stated.or(Some(EVALUATIONS)),
        };
        let most = [size, budget].into_iter().flatten().min();
        let last = last.and_then(|run| {
            let conclusion = run.conclusion.as_ref()?;
            Some((conclusion.entry.search.evaluated, conclusion.seconds)).filter(|(evaluated, _)| *evaluated > 0)
        });
        let alike = last.zip(most).map(|((evaluated, seconds), most)| seconds / evaluated as f64 * most as f64);
        let most_seconds = kernel.search.seconds.map(|seconds| seconds as f64);
        let seconds = [alike, most_seconds].into_iter().flatten().reduce(f64::min);
        let first = strategy::first(candidates, kernel, NAMED).into_iter().flatten().take(NAMED);
        let first = first.map(|variant| kernel.space.settings(&variant)).collect();
        Self { first, most, seconds, last }
    }
}

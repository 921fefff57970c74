//! Replays recorded, brute-forced spaces: a strategy chooses, the record has the results.
//!
//! Every run has a new strategy, so that no run learns from another.

use std::collections::VecDeque;
use std::time::Instant;

use rayon::prelude::*;

use crate::config::{Search, StrategyName};
use crate::search;

pub mod methodology;
mod problem;
mod read;
mod recorded;
pub mod scores;

pub use read::read;
pub use recorded::Recorded;
pub use scores::{Overall, Scores};

/// Settings of a replay.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The strategy.
    pub strategy: StrategyName,
    /// Number of runs, with the seeds 0, 1, ….
    pub seeds: u64,
    /// Number of evaluations of a run.
    pub budget: u64,
    /// Variants that are pending at a time, as where several workers measure.
    pub batch: usize,
}

impl Options {
    /// The strategy's name in the table.
    pub fn name(&self) -> &'static str {
        self.strategy.name()
    }
}

/// Number of best variants that a strategy with an elite keeps: the default of the table.
const ELITE: usize = 3;

/// A record with the runs on it.
#[derive(Debug)]
pub struct Replayed {
    /// The record.
    pub recorded: Recorded,
    /// The runs, by seed.
    pub runs: Vec<Run>,
    /// Scores of the runs.
    pub scores: Scores,
}

impl Replayed {
    /// Replays a record and scores the runs.
    pub fn new(recorded: Recorded, options: &Options) -> Self {
        let runs = replay(&recorded, options);
        let scores = scores::score(&recorded, &runs, options.budget);
        Self { recorded, runs, scores }
    }
}

/// One run on a recorded space.
#[derive(Debug, Clone)]
pub struct Run {
    /// Seed of the strategy.
    pub seed: u64,
    /// The evaluations in order.
    pub trajectory: Vec<Step>,
    /// Wall time of the strategy and the look-ups, in seconds.
    pub seconds: f64,
}

/// One evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Index of the configuration in the sorted record.
    pub configuration: usize,
    /// Time in the record's unit; `None` if the configuration failed.
    pub time: Option<f64>,
}

/// Runs of one record, several seeds at the same time on several cores.
pub fn replay(recorded: &Recorded, options: &Options) -> Vec<Run> {
    (0..options.seeds).into_par_iter().map(|seed| run(recorded, options, seed)).collect()
}

fn run(recorded: &Recorded, options: &Options, seed: u64) -> Run {
    let started = Instant::now();
    let search = Search {
        strategy: options.strategy,
        elite: ELITE,
        seed,
        evaluations: Some(options.budget),
        seconds: None,
        shape: 0,
        proposer: None,
        roofline: None,
        partition: None,
    };
    let mut strategy = search::strategy(&recorded.candidates, &search);
    let mut trajectory = Vec::with_capacity(options.budget as usize);
    let mut pending = VecDeque::new();
    while (trajectory.len() as u64) < options.budget {
        let left = options.budget as usize - trajectory.len() - pending.len();
        pending.extend(strategy.ask(left.min(options.batch - pending.len())));
        let Some(variant) = pending.pop_front() else { break };
        let configuration = recorded.candidates.position(&variant).expect("strategies propose candidates");
        let outcome = recorded.entries[configuration].outcome;
        strategy.tell(&variant, outcome);
        trajectory.push(Step { configuration, time: outcome.objective() });
    }
    Run { seed, trajectory, seconds: started.elapsed().as_secs_f64() }
}

impl Run {
    /// The best time so far after each evaluation; a failure counts as `worst`.
    pub fn best(&self, worst: f64) -> impl Iterator<Item = f64> + '_ {
        self.trajectory.iter().scan(worst, move |best, step| {
            *best = best.min(step.time.unwrap_or(worst));
            Some(*best)
        })
    }
}

#[cfg(test)]
mod tests;

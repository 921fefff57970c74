//! Scores of runs.

use serde::Serialize;

use super::methodology;
use super::{Recorded, Replayed, Run};

/// Numbers of evaluations in [`Scores::best`].
pub const CHECKPOINTS: [usize; 4] = [25, 50, 100, 200];

/// Numbers of evaluations in the average of P200.
const WINDOW: std::ops::RangeInclusive<usize> = 10..=200;

/// Scores of the runs on one record.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Scores {
    /// Name of the record.
    pub name: String,
    /// Number of configurations, failed ones included.
    pub configurations: usize,
    /// Number of configurations that passed.
    pub passed: usize,
    /// Best time in the record's unit.
    pub optimum: f64,
    /// Best over optimum after each number of evaluations, geometric mean over seeds; `None` beyond the budget.
    pub best: Vec<(usize, Option<f64>)>,
    /// Number of evaluations until within 5 % of the optimum.
    pub to_5: Reached,
    /// Number of evaluations until within 1 % of the optimum.
    pub to_1: Reached,
    /// Share of random search's distance from the optimum that is saved, mean over 10 to 200 evaluations (or to the
    /// budget): 0 for random search, 1 for the optimum at once. `None` if the budget is smaller, or random search has
    /// no distance left.
    pub p200: Option<f64>,
    /// The performance score of the auto-tuning methodology; `None` if the record has no costs of evaluations.
    pub p: Option<f64>,
    /// Number of failed evaluations, mean over seeds.
    pub failed: f64,
    /// Time of the strategy for one evaluation in microseconds, mean over seeds, several of which may run at the same
    /// time.
    pub micros: f64,
}

/// Number of evaluations until a goal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Reached {
    /// Median over seeds; `None` if half of them did not reach the goal.
    pub median: Option<usize>,
    /// Share of the seeds that reached the goal.
    pub share: f64,
}

/// Scores of the runs on all records.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Overall {
    /// Best over optimum after each number of evaluations, geometric mean over records and seeds.
    pub best: Vec<(usize, Option<f64>)>,
    /// Number of evaluations until within 5 % of the optimum, over all runs.
    pub to_5: Reached,
    /// Number of evaluations until within 1 % of the optimum, over all runs.
    pub to_1: Reached,
    /// Mean of the records' P200; `None` if a record has none.
    pub p200: Option<f64>,
    /// Mean of the records' P; `None` if a record has none.
    pub p: Option<f64>,
    /// Number of failed evaluations, mean over all runs.
    pub failed: f64,
    /// Time of the strategy for one evaluation in microseconds.
    pub micros: f64,
}

/// Scores the runs on one record.
pub fn score(recorded: &Recorded, runs: &[Run], budget: u64) -> Scores {
    let (optimum, worst) = (recorded.optimum(), recorded.worst());
    let curves: Vec<Vec<f64>> = runs.iter().map(|run| run.best(worst).collect()).collect();
    let goal = |share: f64| reached(&curves, optimum * (1.0 + share));
    let last = WINDOW.end().to_owned().min(budget as usize);
    let base = random_baseline(recorded, last);
    let saved: Vec<f64> = (*WINDOW.start()..=last)
        .filter(|&k| base[k] > optimum)
        .map(|k| {
            let mean = curves.iter().map(|curve| after(curve, k, worst)).sum::<f64>() / curves.len() as f64;
            (base[k] - mean) / (base[k] - optimum)
        })
        .collect();
    let evaluations: usize = runs.iter().map(|run| run.trajectory.len()).sum();
    let failed = runs.iter().flat_map(|run| &run.trajectory).filter(|step| step.time.is_none()).count();
    Scores {
        name: recorded.name.clone(),
        configurations: recorded.entries.len(),
        passed: recorded.times.len(),
        optimum,
        best: CHECKPOINTS
            .map(|k| {
                let logs = curves.iter().map(|curve| (after(curve, k, worst) / optimum).ln());
                (k, (k as u64 <= budget).then(|| (logs.sum::<f64>() / curves.len() as f64).exp()))
            })
            .to_vec(),
        to_5: goal(0.05),
        to_1: goal(0.01),
        p200: (!saved.is_empty()).then(|| mean(&saved)),
        p: methodology::score(recorded, runs),
        failed: failed as f64 / runs.len() as f64,
        micros: runs.iter().map(|run| run.seconds).sum::<f64>() * 1e6 / evaluations.max(1) as f64,
    }
}

/// Scores over several records.
pub fn overall(records: &[Replayed]) -> Overall {
    let scores: Vec<&Scores> = records.iter().map(|replayed| &replayed.scores).collect();
    let goal = |share: f64| {
        let each = records.iter().flat_map(|Replayed { recorded, runs, .. }| {
            let limit = recorded.optimum() * (1.0 + share);
            runs.iter().map(move |run| run.best(recorded.worst()).position(|best| best <= limit).map(|at| at + 1))
        });
        Reached::of(each.collect())
    };
    let of_all = |score: fn(&Scores) -> Option<f64>| {
        scores.iter().map(|scores| score(scores)).collect::<Option<Vec<f64>>>().map(|each| mean(&each))
    };
    Overall {
        best: CHECKPOINTS
            .iter()
            .enumerate()
            .map(|(at, &k)| {
                let logs: Option<Vec<f64>> = scores.iter().map(|scores| scores.best[at].1.map(f64::ln)).collect();
                (k, logs.map(|logs| mean(&logs).exp()))
            })
            .collect(),
        to_5: goal(0.05),
        to_1: goal(0.01),
        p200: of_all(|scores| scores.p200),
        p: of_all(|scores| scores.p),
        failed: mean(&scores.iter().map(|scores| scores.failed).collect::<Vec<_>>()),
        micros: mean(&scores.iter().map(|scores| scores.micros).collect::<Vec<_>>()),
    }
}

impl Reached {
    fn of(mut each: Vec<Option<usize>>) -> Self {
        each.sort_by_key(|evaluations| evaluations.unwrap_or(usize::MAX));
        let share = each.iter().flatten().count() as f64 / each.len() as f64;
        Self { median: each[each.len() / 2], share }
    }
}

fn reached(curves: &[Vec<f64>], limit: f64) -> Reached {
    Reached::of(curves.iter().map(|curve| curve.iter().position(|&best| best <= limit).map(|at| at + 1)).collect())
}

/// The best time after `k` evaluations, which is constant after a strategy stops.
fn after(curve: &[f64], k: usize, worst: f64) -> f64 {
    curve.get(k - 1).or(curve.last()).copied().unwrap_or(worst)
}

/// For k from 0 to `last`, the exact expected best of k draws without replacement from all configurations; a failed
/// configuration counts as the worst time.
fn random_baseline(recorded: &Recorded, last: usize) -> Vec<f64> {
    let n = recorded.entries.len();
    let sorted: Vec<f64> =
        recorded.times.iter().copied().chain(std::iter::repeat_n(recorded.worst(), n - recorded.times.len())).collect();
    (0..=last)
        .map(|k| {
            // S_j, the probability that none of the j best is drawn.
            let mut none = 1.0;
            let mut expected = 0.0;
            for (j, time) in sorted.iter().enumerate() {
                let next = if j + k < n { none * (n - j - k) as f64 / (n - j) as f64 } else { 0.0 };
                expected += time * (none - next);
                none = next;
            }
            expected
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

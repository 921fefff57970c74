//! The gate `performance`: p50 and speed-ups over baselines that are measured beside the candidate, against the table's
//! limits.

use std::time::Duration;

use kbench_runtime::driver::stopping;

use super::{Gate, Trial, allowed, at_level};
use crate::config::{BaselineKind, Kernel, Level, Objective, PerformanceBound};
use crate::harness::{DeviceTimes, Event, Halt, Harness, Reporter, RunError};
use crate::record::evaluation::GateName;
use crate::text::list;

mod compare;
mod controls;
mod impossible;
mod limits;
mod timing;
mod verdict;

pub use compare::{Compared, Entrant, EntrantId, Measured, compare_uncounted};
pub use controls::{Controls, controls};
pub use impossible::Demand;
pub use limits::missed_limits;
pub use timing::{impossible, time, time_job};
pub use verdict::{JudgedSpeedup, Verdict, is_noise, verdict, verdict_within};

/// The gate `performance`.
pub struct Performance;

impl Gate for Performance {
    fn name(&self) -> GateName {
        GateName::Performance
    }

    fn limits(&self, kernel: &Kernel) -> Option<(Level, Vec<String>)> {
        let limits = kernel.gates.performance.iter().map(|limit| {
            let shape = &kernel.shapes[limit.shape].name;
            match &limit.limit {
                PerformanceBound::MaxP50Us(most) => format!("p50 <= {most} µs at {shape}"),
                PerformanceBound::MinSpeedup { ratio, over } => {
                    format!("{ratio} x {} at {shape}", kernel.baselines[*over].name)
                }
            }
        });
        Some((kernel.gates.performance_level, limits.collect()))
    }

    fn unjudged(&self, kernel: &Kernel, _trial: &Trial) -> Option<String> {
        let gates = &kernel.gates;
        allowed(gates.performance_level).or_else(|| {
            gates.performance.is_empty().then(|| match &gates.performance_left_out[..] {
                [] => "no limits".to_owned(),
                left_out => {
                    format!("no limit here: the table has limits at {}", list(&kernel.shape_names(left_out)))
                }
            })
        })
    }

    fn is_joint(&self) -> bool {
        true
    }

    fn run(&self, harness: &mut Harness<'_>, trial: &mut Trial, reporter: &mut dyn Reporter) -> Result<(), Halt> {
        let kernel = harness.kernel();
        let mut shapes: Vec<usize> = kernel.gates.performance.iter().map(|limit| limit.shape).collect();
        if !kernel.baselines.is_empty() {
            shapes.push(kernel.search.shape);
        }
        shapes.sort_unstable();
        shapes.dedup();
        let id = EntrantId::from(trial.candidate.clone());
        let mut rejection = None;
        for shape in shapes {
            let mut entrants = vec![Entrant::Candidate(trial.candidate.clone())];
            if is_limited(kernel, shape) {
                // The difference of identical machine code is the noise floor.
                entrants.push(Entrant::Again(trial.candidate.clone()));
            }
            entrants.extend((0..kernel.baselines.len()).map(Entrant::Baseline));
            reporter.event(finals(kernel, &entrants));
            let compared = compare(harness, shape, &entrants)?;
            rejection = compared.rejection(&id).cloned().or(rejection);
            for limit in kernel.gates.performance.iter().filter(|limit| limit.shape == shape) {
                let finding = limits::judge_limit(kernel, shape, &limit.limit, &id, &compared);
                let finding = at_level(kernel.gates.performance_level, finding, &mut trial.evaluation.warnings);
                rejection = rejection.or(finding);
            }
            trial.evaluation.warnings.extend(compared.warnings.iter().cloned());
            trial.compared.push((shape, compared));
        }
        rejection.map_or(Ok(()), |rejection| Err(rejection.into()))
    }
}

/// Measures entrants interleaved at one shape. An entrant that fails is left out and named; the rest is measured again,
/// so that all compared times were measured together.
pub fn compare(harness: &mut Harness<'_>, shape: usize, entrants: &[Entrant]) -> Result<Compared, RunError> {
    harness.counted_as(|times: &mut DeviceTimes| &mut times.time, |harness| compare_uncounted(harness, shape, entrants))
}

/// Compares the finalists of a search, whose times are known: `longest` is the largest p50 among them, in nanoseconds. `slow`: an entrant
/// that cannot win.
/// Unless the table states a number, fewer samples than 100 are enough of long launches, which vary little.
pub fn compare_finalists(
    harness: &mut Harness<'_>,
    shape: usize,
    entrants: &[Entrant],
    slow: Option<&EntrantId>,
    longest: f64,
) -> Result<Compared, RunError> {
    let timing = &harness.kernel().timing;
    let fewest =
        if timing.iterations_stated { timing.iterations } else { fewest_of_finals(timing.iterations, longest) };
    let extent = compare::Extent { fewest, slow, decides: verdicts_are_all(harness.kernel(), shape) };
    let compare = |harness: &mut Harness<'_>| compare::compare_until(harness, shape, entrants, extent);
    harness.counted_as(|times: &mut DeviceTimes| &mut times.time, compare)
}

/// Whether nothing but the verdicts on p50 depends on a comparison at a shape: a limit needs precise ratios.
fn verdicts_are_all(kernel: &Kernel, shape: usize) -> bool {
    kernel.objectives == [Objective::P50] && !is_limited(kernel, shape)
}

/// Whether a limit on the performance is judged at a shape.
fn is_limited(kernel: &Kernel, shape: usize) -> bool {
    let has_limit = kernel.gates.performance.iter().any(|limit| limit.shape == shape);
    has_limit && allowed(kernel.gates.performance_level).is_none()
}

/// Smallest number of samples in the finals, at most `usual`: enough for 0.1 s of the longest kernel, but 30 of them, unless these
/// take more than 1 s.
fn fewest_of_finals(usual: u32, longest: f64) -> u32 {
    const ENOUGH: f64 = 1e8;
    const FEWEST: f64 = 30.0;
    const LONG_ENOUGH: f64 = 1e9;
    let within = |nanoseconds: f64| (nanoseconds / longest.max(1.0)).ceil();
    let fewest = within(ENOUGH).max(within(LONG_ENOUGH).min(FEWEST));
    (fewest as u32).max(stopping::FEWEST as u32).min(usual)
}

/// The event of a comparison, with the longest duration of sampling.
pub fn finals(kernel: &Kernel, entrants: &[Entrant]) -> Event<'static> {
    let is_program = |entrant: &&Entrant| matches!(entrant, Entrant::Baseline(index) if matches!(kernel.baselines[*index].kind, BaselineKind::Command(_)));
    let programs = entrants.iter().filter(is_program).count();
    Event::Finals { entrants: entrants.len(), programs, at_most: sampling(kernel, entrants.len()) }
}

/// Longest duration of sampling of a number of entrants.
pub fn sampling(kernel: &Kernel, entrants: usize) -> Duration {
    Duration::try_from_secs_f64(kernel.timing.max_seconds * entrants as f64).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixture;
    use crate::space::Variant;

    #[test]
    fn finals_name_their_entrants_their_programs_and_their_longest_time() {
        let baselines = "baselines = { program = { command = [\"p\"] }, naive = { source = \"k.c\", entry = \"k\" } }";
        let project = fixture::project(&format!("timing.max_seconds = 1.5\n{baselines}"));
        let kernel = &project.packages[0].kernels[0];
        let candidate = Entrant::Candidate((&Variant(vec![0])).into());
        let of = |entrants: &[Entrant]| match finals(kernel, entrants) {
            Event::Finals { entrants, programs, at_most } => (entrants, programs, at_most.as_secs_f64()),
            _ => unreachable!(),
        };
        let all = [candidate, Entrant::Baseline(0), Entrant::Baseline(1)];
        assert_eq!((of(&all), of(&all[..1])), ((3, 1, 4.5), (1, 0, 1.5)));
    }

    #[test]
    fn a_limit_that_is_judged_and_another_objective_need_precise_ratios() {
        let mut project = fixture::project("gates.performance = [{ max_p50_us = 2 }]");
        let kernel = &mut project.packages[0].kernels[0];
        let shape = kernel.gates.performance[0].shape;
        assert!(!verdicts_are_all(kernel, shape) && verdicts_are_all(kernel, shape + 1));
        kernel.gates.performance_level = Level::Allow;
        assert!(verdicts_are_all(kernel, shape));
        kernel.objectives = vec![Objective::Energy];
        assert!(!verdicts_are_all(kernel, shape));
    }

    #[test]
    fn finals_of_long_launches_take_fewer_samples() {
        let fewest = |longest| fewest_of_finals(100, longest);
        assert_eq!([1e3, 1e6, 2e6, 4e6, 3e7, 1e8, 1e9].map(fewest), [100, 100, 50, 30, 30, 10, 7]);
        assert_eq!((fewest(0.0), fewest_of_finals(8, 4e6)), (100, 8));
    }
}

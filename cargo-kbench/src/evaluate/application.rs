//! An objective of the user's own: a program that launches the exported kernel, run in turn with the default and with a variant.
//!
//! The program is compiled once for a variant: the export holds the variant and the default, and an environment variable chooses the default.
//! So both numbers of a round come from the same executable.

use kbench_runtime::stats::Speedup;

use crate::config::{Application, Kernel, Objective};
use crate::export::{self, Export, ExportError, Only, Replaced};
use crate::harness::{Candidate, DeviceTimes, Halt, Harness, RunError, Step, caught};
use crate::process::application::{self, RunFailed};
use crate::process::program::Refusal;
use crate::record::evaluation::Evaluation;
use crate::record::objective::{ApplicationRecord, ObjectiveValue};

/// Rounds of a measurement. It ends early once the interval of the cost is [narrow](NARROW).
struct Rounds {
    least: usize,
    most: usize,
}

/// Enough to rank variants in a search.
const SEARCH: Rounds = Rounds { least: 6, most: 10 };

/// Enough to bootstrap an interval, of a variant that may win.
const FINALS: Rounds = Rounds { least: 12, most: 24 };

/// Width of the interval of a cost, over the cost, below which no more rounds are run.
const NARROW: f64 = 0.01;

/// The objective of the context that is a program of the user.
fn of(objectives: &[Objective]) -> Option<&Application> {
    objectives.iter().find_map(|objective| match objective {
        Objective::Application(application) => Some(application),
        _ => None,
    })
}

/// Whether evaluations run a program of the user: they depend on unknown files of that program, so that no result of an
/// earlier run is reused.
pub(super) fn is_wanted(objectives: &[Objective]) -> bool {
    of(objectives).is_some()
}

/// Measures a candidate that passed by the user's program, if that is an objective.
pub(super) fn measure(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    evaluation: &mut Evaluation,
) -> Result<(), Halt> {
    let Some(application) = of(&harness.context.objectives).cloned() else { return Ok(()) };
    evaluation.application = Some(run(harness, candidate, &application, &SEARCH)?);
    if let (true, Some(cost)) = (candidate.is_default(harness.kernel()), cost(evaluation, &application))
        && !(cost.low..=cost.high).contains(&1.0)
    {
        let (low, high) = (cost.low, cost.high);
        evaluation.warnings.push(format!(
            "the program of `objective` compared the default with itself: cost {low:.3} to {high:.3} in place of 1; its numbers drift"
        ));
    }
    Ok(())
}

/// Measures a candidate that may win again, with a program of the user as the objective, until the interval of its cost is
/// narrow.
pub(super) fn measure_again(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    evaluation: &mut Evaluation,
) -> Result<(), RunError> {
    let Some(application) = of(&harness.context.objectives).cloned() else { return Ok(()) };
    let rounds = evaluation.application.as_ref().map_or(0, |record| record.variant.len());
    if evaluation.rejection().is_some() || rounds >= FINALS.least {
        return Ok(());
    }
    match caught(run(harness, candidate, &application, &FINALS))? {
        Ok(record) => evaluation.application = Some(record),
        Err(rejection) => {
            evaluation.reject(rejection);
            return Ok(());
        }
    }
    let is_default = candidate.is_default(harness.kernel());
    for (objective, value) in harness.context.objectives.iter().zip(&mut evaluation.objectives) {
        if let Some(again) = value_of(objective, evaluation.application.as_ref(), is_default) {
            *value = again;
        }
    }
    Ok(())
}

/// The value of a candidate, if the objective is a program of the user. The default costs as much as itself; its interval is that of the noise.
pub(super) fn value_of(
    objective: &Objective,
    record: Option<&ApplicationRecord>,
    is_default: bool,
) -> Option<ObjectiveValue> {
    let value = ObjectiveValue::of_application(objective, record)?;
    Some(if is_default {
        ObjectiveValue { value: 1.0, low: value.low.min(1.0), high: value.high.max(1.0), ..value }
    } else {
        value
    })
}

fn cost(evaluation: &Evaluation, application: &Application) -> Option<Speedup> {
    evaluation.application.as_ref()?.cost(application.better)
}

/// Exports the candidate into the user's package, and runs the program in rounds; the package has its former export again afterwards.
fn run(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    application: &Application,
    rounds: &Rounds,
) -> Result<ApplicationRecord, Halt> {
    harness.doing.set(Step::Timing);
    harness.counted_as(
        |times: &mut DeviceTimes| &mut times.time,
        |harness| {
            let export = exported(harness, candidate, application)?;
            let copy = harness.context.setup.work_directory.join("export-before");
            let replaced = Replaced::write(&export, &copy).map_err(|error| failed(harness, error))?;
            let record = in_rounds(harness, candidate, application, rounds);
            replaced.end().map_err(RunError::from)?;
            record
        },
    )
}

fn exported(harness: &Harness<'_>, candidate: &Candidate, application: &Application) -> Result<Export, Halt> {
    let context = &harness.context;
    let package = context.builder.package;
    // The kernel as this run has it, and the others with their winners.
    let is_own = |kernel: &Kernel| kernel.name == context.kernel.name;
    let of_run = package.kernels.iter().map(|kernel| if is_own(kernel) { context.kernel } else { kernel });
    let kernels: Vec<&Kernel> = of_run.collect();
    let request = export::Request {
        elite_path: &context.elite_path,
        scratch: context.setup.work_directory.join("export").join(&package.name),
        package,
        kernels: &kernels,
        compiler: context.builder.compiler,
        language: application.language,
        folder: package.directory.join(&application.out),
        archs: context.builder.arch.as_slice(),
        only: Some(Only { kernel: &context.kernel.name, candidate, device: &context.device }),
    };
    export::export(&request).map_err(|error| failed(harness, error).into())
}

fn in_rounds(
    harness: &Harness<'_>,
    candidate: &Candidate,
    application: &Application,
    rounds: &Rounds,
) -> Result<ApplicationRecord, Halt> {
    let kernel = harness.kernel();
    let package = &harness.context.builder.package.directory;
    let variable = export::variable(kernel);
    let number = |value: Option<&str>| -> Result<f64, Halt> {
        application::run(&application.command, package, (&variable, value)).map_err(|failed| match failed {
            RunFailed::Io(error) => error.into(),
            RunFailed::Program(refusal) => {
                let is_default = value.is_some() || candidate.is_default(kernel);
                out(harness, refusal, is_default)
            }
        })
    };
    let (of_default, of_variant) = (|| number(Some("default")), || number(None));
    // The first run compiles the program, and both fill caches.
    of_default()?;
    of_variant()?;
    let mut record = ApplicationRecord { variant: Vec::new(), default: Vec::new() };
    while record.variant.len() < rounds.most {
        // In turn, so that a drift favours neither.
        let (variant, default) = if record.variant.len().is_multiple_of(2) {
            let default = of_default()?;
            (of_variant()?, default)
        } else {
            (of_variant()?, of_default()?)
        };
        record.variant.push(variant);
        record.default.push(default);
        let is_narrow = |cost: Speedup| cost.high / cost.low < 1.0 + NARROW;
        if record.variant.len() >= rounds.least && record.cost(application.better).is_some_and(is_narrow) {
            break;
        }
    }
    Ok(record)
}

/// The consequence of a run without a number: with the default the search ends, since no variant can be compared with it.
fn out(harness: &Harness<'_>, refusal: Refusal, is_default: bool) -> Halt {
    let kernel = harness.kernel();
    if is_default {
        let Some((_, message)) = refusal.reason() else { return interrupted().into() };
        return RunError::Application {
            kernel: kernel.name.clone(),
            message: format!("with the default variant, {message}"),
        }
        .into();
    }
    match refusal.rejection(harness.context.shape_name(kernel.search.shape)) {
        Some(rejection) => rejection.into(),
        None => interrupted().into(),
    }
}

fn interrupted() -> RunError {
    RunError::Executor(crate::process::executor::ExecutorError::Interrupted)
}

/// The end of the run where there is no export.
fn failed(harness: &Harness<'_>, error: ExportError) -> RunError {
    match error {
        ExportError::Run(error) => error,
        error => RunError::Application { kernel: harness.kernel().name.clone(), message: error.to_string() },
    }
}

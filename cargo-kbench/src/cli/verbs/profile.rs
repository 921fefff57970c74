//! `cargo kbench profile`: the bottleneck of one variant of each kernel.

use super::candidate::plan;
use super::{Exit, overridden, selected, setup, skip, subject, variant};
use crate::cli::{MeasureArgs, TrialArgs};
use crate::config::Kernel;
use crate::evaluate::{evaluate, try_build};
use crate::gates::counters::profile;
use crate::harness::{Candidate, Halt, Harness, Opening, caught};
use crate::profile::Profile;
use crate::record::evaluation::Evaluation;
use crate::report::{self, Finding, Output};

/// Runs the verb.
pub fn run(args: &TrialArgs, output: Output) -> anyhow::Result<Exit> {
    let TrialArgs { select, bundle, tools, candidate, measure } = args;
    let subject = subject(select, bundle, Some(measure.device()), output)?;
    let (project, select) = (&subject.project, &subject.select);
    let elite = candidate.elite(project)?;
    let compiler = subject.compiler(tools);
    let work_directory = project.work_directory();
    let mut exit = Exit::Pass;
    for (package, kernel) in selected(project, select) {
        let kernel = narrowed(overridden(kernel, measure)?, measure);
        let asked = variant(&kernel, &candidate.variant)?;
        let setup = setup(&compiler, measure.device(), &work_directory);
        let opening = Opening { first: elite.is_none().then_some(&asked), ..Opening::default() };
        let mut harness = match Harness::open(setup, package, &kernel, opening) {
            Ok(harness) => harness,
            Err(error) => {
                exit = exit.max(skip(&kernel, error)?);
                continue;
            }
        };
        let device = harness.context.device.clone();
        let shapes = harness.context.builder.shapes().to_vec();
        let plan = plan(elite.as_ref(), &asked, project, &kernel, &device, &shapes)?;
        let mut tried: Option<(Candidate, Evaluation)> = None;
        for (shape, candidate) in plan {
            let (title, name) = (report::title(&kernel), &kernel.shapes[shape].name);
            output.status("Profiling", format_args!("{title} at {name} on {}", device.name));
            match profiled(&mut harness, &candidate, shape, &mut tried) {
                Ok(profile) => output.show(&Finding::Profile(&profile)),
                Err(Halt::Variant(evaluation)) => {
                    exit = exit.max(Exit::Failed);
                    output.show(&Finding::NotProfiled(&kernel, &evaluation));
                }
                Err(Halt::Run(error)) => {
                    exit = exit.max(skip(&kernel, error)?);
                    break;
                }
            }
        }
    }
    Ok(exit)
}

/// The kernel with the shape of its search alone, unless shapes were selected.
fn narrowed(mut kernel: Kernel, measure: &MeasureArgs) -> Kernel {
    if measure.shapes.is_empty() {
        kernel.gates.correctness.shapes = vec![kernel.search.shape];
    }
    kernel.gates.performance.clear();
    kernel.gates.counters.shapes.clear();
    kernel
}

/// The profile, or the record of a candidate that failed a gate.
fn profiled(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    shape: usize,
    tried: &mut Option<(Candidate, Evaluation)>,
) -> Result<Profile, Halt<Box<Evaluation>>> {
    if tried.as_ref().is_none_or(|(before, _)| before != candidate) {
        let outcome = try_build(&harness.context.builder, candidate)?;
        *tried = Some((candidate.clone(), evaluate(harness, candidate, outcome, None)?));
    }
    let (_, evaluation) = tried.as_ref().expect("just set");
    if evaluation.rejection().is_some() {
        return Err(Halt::Variant(Box::new(evaluation.clone())));
    }
    caught(profile(harness, candidate, shape, evaluation))?.map_err(|rejection| {
        let mut evaluation = evaluation.clone();
        evaluation.reject(rejection);
        Halt::Variant(Box::new(evaluation))
    })
}

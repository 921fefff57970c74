//! `cargo kbench gate`: one variant through every gate.

use super::candidate::plan;
use super::{Exit, fallback_arch, overridden, selected, setup, skip, subject, variant};
use crate::cli::TrialArgs;
use crate::config::{Backend, Kernel, Package, Project};
use crate::evaluate::{self, try_build};
use crate::gates::Trial;
use crate::harness::{Builder, Harness, Opening, RunError, Setup};
use crate::process::executor::ExecutorError;
use crate::record::elite::EliteFile;
use crate::record::evaluation::Evaluation;
use crate::report::{Finding, Output};
use crate::space::Variant;

/// Runs the verb.
pub fn run(args: &TrialArgs, output: Output) -> anyhow::Result<Exit> {
    let TrialArgs { select, bundle, tools, candidate, measure } = args;
    let subject = subject(select, bundle, Some(measure.device()), output)?;
    let (project, select) = (&subject.project, &subject.select);
    let elite = candidate.elite(project)?;
    let compiler = subject.compiler(tools);
    let work_directory = project.work_directory();
    let setup = setup(&compiler, measure.device(), &work_directory);
    let mut exit = Exit::Pass;
    let kernels = selected(project, select);
    let several = kernels.len() > 1;
    let (mut passed, mut total) = (0, 0);
    for (package, kernel) in kernels {
        let kernel = overridden(kernel, measure)?;
        let asked = Asked { variant: variant(&kernel, &candidate.variant)?, elite: elite.as_ref() };
        let of_kernel = gate(project, package, &kernel, setup, &asked, output)?;
        total += 1;
        passed += u32::from(of_kernel == Exit::Pass);
        exit = exit.max(of_kernel);
    }
    if several {
        output.show(&Finding::Passed(passed, total));
    }
    Ok(exit)
}

/// The selected variant, or the file with the winner in its place.
struct Asked<'a> {
    variant: Variant,
    elite: Option<&'a EliteFile>,
}

/// Gates a kernel; an error that ends no more than this kernel is its exit code.
fn gate(
    project: &Project,
    package: &Package,
    kernel: &Kernel,
    setup: Setup<'_>,
    asked: &Asked<'_>,
    output: Output,
) -> anyhow::Result<Exit> {
    let opening = Opening { first: asked.elite.is_none().then_some(&asked.variant), ..Opening::default() };
    let mut harness = match Harness::open(setup, package, kernel, opening) {
        Ok(harness) => harness,
        Err(RunError::Executor(ExecutorError::NoDevice(why))) if asked.elite.is_none() => {
            let builder = Builder::new(package, kernel, setup.compiler);
            return without_device(builder, &asked.variant, &why, output).or_else(|error| skip(kernel, error));
        }
        Err(error) => return skip(kernel, error),
    };
    let device = harness.context.device.clone();
    let plan = plan(asked.elite, &asked.variant, project, kernel, &device, &[kernel.search.shape])?;
    let (_, candidate) = plan.into_iter().next().expect("a plan for one shape");
    let trial = evaluate::gate(&mut harness, candidate, &mut *output.reporter(kernel));
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => return skip(kernel, error),
    };
    output.show(&Finding::Gated(kernel, &trial));
    Ok(if trial.evaluation.rejection().is_some() { Exit::Failed } else { Exit::Pass })
}

/// Runs gate 1, which needs no device, for every architecture of the table, and reports the missing device.
fn without_device(mut builder: Builder<'_>, variant: &Variant, why: &str, output: Output) -> Result<Exit, RunError> {
    let kernel = builder.kernel;
    let no_device = || RunError::Executor(ExecutorError::NoDevice(why.to_owned()));
    let archs = match kernel.implementation.backend {
        Backend::Cuda if kernel.arch.is_empty() => vec![Some(fallback_arch(kernel))],
        Backend::Cuda => kernel.arch.iter().cloned().map(Some).collect(),
        Backend::C | Backend::Fake => vec![None],
    };
    let mut failed = false;
    for arch in archs {
        builder.arch.clone_from(&arch);
        let outcome = try_build(&builder, &variant.into())?;
        let mut evaluation = Evaluation::new(kernel.space.settings(variant), outcome.warnings);
        match outcome.result {
            Ok(built) => evaluation.builds = built.records(kernel),
            Err(failure) => {
                failed = true;
                evaluation.builds = failure.built.map(|built| built.records(kernel)).unwrap_or_default();
                evaluation.reject(failure.rejection);
            }
        }
        let trial = Trial::new(variant.into(), evaluation);
        output.show(&Finding::WithoutDevice(kernel, &trial, arch.as_deref()));
    }
    if failed { Ok(Exit::Failed) } else { Err(no_device()) }
}

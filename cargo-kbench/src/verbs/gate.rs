//! `cargo kbench gate`: one variant through every gate.

use std::fmt::Write as _;

use super::{Exit, compiler, fallback_arch, load, overridden, selected, skip, variant};
use crate::cli::{MeasureArgs, OutputArgs, SelectArgs, ToolArgs, VariantArgs};
use crate::compile::Compiler;
use crate::config::{Backend, Kernel, Package, Project};
use crate::evaluation::{Evaluation, Outcome};
use crate::executor::ExecutorError;
use crate::report::{
    self,
    json::Json,
    outln,
    terminal::{self, Terminal},
};
use crate::session::{self, Gated};
use crate::space::Variant;
use crate::workbench::{RunError, Workbench};

/// Runs the verb.
pub fn run(
    select: &SelectArgs,
    tools: &ToolArgs,
    variant_args: &VariantArgs,
    measure: &MeasureArgs,
    output: &OutputArgs,
) -> anyhow::Result<Exit> {
    let project = match load(select)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let compiler = compiler(&project, tools);
    let mut exit = Exit::Pass;
    let kernels = selected(&project, select);
    let several = kernels.len() > 1;
    let (mut passed, mut total) = (0, 0);
    for (package, kernel) in kernels {
        let kernel = overridden(kernel, measure)?;
        let variant = variant(&kernel, variant_args)?;
        let of_kernel = match gate(&project, package, &kernel, &compiler, measure.device, &variant, output) {
            Ok(of_kernel) => of_kernel,
            Err(error) => skip(&kernel, error)?,
        };
        total += 1;
        passed += u32::from(of_kernel == Exit::Pass);
        exit = exit.max(of_kernel);
    }
    if several && !output.json() {
        outln!("{passed} of {total} kernels pass");
    }
    Ok(exit)
}

fn gate(
    project: &Project,
    package: &Package,
    kernel: &Kernel,
    compiler: &Compiler,
    device: u32,
    variant: &Variant,
    output: &OutputArgs,
) -> Result<Exit, RunError> {
    let mut bench = Workbench::new(package, kernel, compiler, device, project.work_directory().join("references"));
    let gated = match bench.open() {
        Ok(device) if output.json() => session::gate(&mut bench, &device, variant, &mut Json::new(kernel))?,
        Ok(device) => session::gate(&mut bench, &device, variant, &mut Terminal::new(output.verbosity()))?,
        Err(RunError::Executor(ExecutorError::NoDevice(why))) => {
            return without_device(&mut bench, variant, &why, output);
        }
        Err(error) => return Err(error),
    };
    let rejection = gated.evaluation.rejection();
    if output.json() {
        report::json::comparisons(kernel, &gated);
        let status = if rejection.is_some() { "fail" } else { "pass" };
        report::json::verdict(kernel, &gated.evaluation, status, rejection);
    } else {
        outln!("{}", terminal::gated(&gated, kernel, output.verbosity()));
    }
    Ok(if rejection.is_some() { Exit::Failed } else { Exit::Pass })
}

/// Gate 1 needs no device, so it is run for every architecture of the table; then the user hears what is missing.
fn without_device(
    bench: &mut Workbench<'_>,
    variant: &Variant,
    why: &str,
    output: &OutputArgs,
) -> Result<Exit, RunError> {
    let kernel = bench.kernel;
    let no_device = || RunError::Executor(ExecutorError::NoDevice(why.to_owned()));
    let archs = match kernel.implementation.backend {
        Backend::Cuda if kernel.arch.is_empty() => vec![Some(fallback_arch(kernel))],
        Backend::Cuda => kernel.arch.iter().cloned().map(Some).collect(),
        Backend::C | Backend::Fake => vec![None],
    };
    let mut failed = false;
    for arch in archs {
        bench.builder.arch.clone_from(&arch);
        let attempt = bench.builder.build(variant)?;
        let mut evaluation = Evaluation::new(kernel.space.settings(variant), attempt.warnings);
        match attempt.result {
            Ok(built) => evaluation.builds = built.records(kernel),
            Err(failure) => {
                failed = true;
                evaluation.builds = failure.built.map(|built| built.records(kernel)).unwrap_or_default();
                evaluation.outcome = Outcome::Rejected(failure.rejection);
            }
        }
        let rejection = evaluation.rejection().cloned();
        if output.json() {
            let status = if rejection.is_some() { "fail" } else { "skip" };
            report::json::verdict(kernel, &evaluation, status, rejection.as_ref());
        } else {
            let mut label = kernel.space.label(variant);
            if let Some(arch) = arch {
                let _ = write!(label, " for {arch}");
            }
            let gated = Gated { evaluation, sanitized: Vec::new(), profiles: Vec::new(), compared: Vec::new(), label };
            outln!("{}", terminal::gate_1(&gated, kernel));
        }
    }
    if failed { Ok(Exit::Failed) } else { Err(no_device()) }
}

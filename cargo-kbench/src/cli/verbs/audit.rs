//! `cargo kbench audit`: mutants of a kernel through its own gates.

use kbench_runtime::protocol::DeviceInfo;

use super::{Exit, compiler, load, overridden, selected, setup, skip, variant};
use crate::audit::plan::Mutant;
use crate::audit::{Audit, AuditOutcome, Audited, Observer};
use crate::cli::{MeasureArgs, OutputArgs, SelectArgs, ToolArgs, VariantArgs};
use crate::config::Kernel;
use crate::report::{self, Verbosity, out, outln};

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
    let work_directory = project.work_directory();
    let mut exit = Exit::Pass;
    for (package, kernel) in selected(&project, select) {
        let kernel = &overridden(kernel, measure)?;
        let variant = &variant(kernel, variant_args)?;
        let setup = setup(&compiler, measure.device, &work_directory);
        let audit = Audit { package, kernel, setup, variant };
        let mut observer = Printer { kernel, output, width: 0 };
        let outcome = match audit.run(&mut observer) {
            Ok(outcome) => outcome,
            Err(error) => {
                exit = exit.max(skip(kernel, error)?);
                continue;
            }
        };
        exit = exit.max(tell(kernel, &outcome, output));
    }
    Ok(exit)
}

fn tell(kernel: &Kernel, outcome: &AuditOutcome, output: &OutputArgs) -> Exit {
    match outcome {
        AuditOutcome::Unfit(evaluation) => {
            if output.json() {
                report::json::verdict(kernel, evaluation, "fail", evaluation.rejection());
            } else {
                let why = evaluation.rejection().map(report::rejection).unwrap_or_default();
                report::error(format_args!(
                    "{} does not pass its own gates, so that its mutants would tell nothing: {why}",
                    report::title(kernel)
                ));
            }
            Exit::Failed
        }
        AuditOutcome::Done(found) => {
            if output.json() {
                report::json::audited(found);
            } else {
                out!("{}", report::audit::summary(found));
            }
            if found.counts()[1] > 0 { Exit::Failed } else { Exit::Pass }
        }
    }
}

struct Printer<'a> {
    kernel: &'a Kernel,
    output: &'a OutputArgs,
    width: usize,
}

impl Observer for Printer<'_> {
    fn planned(&mut self, device: &DeviceInfo, mutants: &[Mutant]) {
        self.width = mutants.iter().map(|mutant| mutant.name.chars().count()).max().unwrap_or(0);
        if !self.output.json() && self.output.verbosity() > Verbosity::Quiet {
            report::status("Auditing", format_args!("{} on {}", report::title(self.kernel), device.name));
        }
    }

    fn audited(&mut self, audited: &Audited, done: usize, total: usize) {
        if self.output.json() {
            report::json::mutant(self.kernel, audited, done, total);
            return;
        }
        out!("{}", report::audit::mutant(audited, self.width));
        if self.output.verbosity() == Verbosity::Verbose
            && let Some(message) = report::audit::message(audited)
        {
            outln!("{:>10}{message}", "");
        }
    }
}

//! `cargo kbench audit`: mutants of a kernel through its own gates.

use kbench_runtime::protocol::DeviceInfo;

use super::{Exit, compiler, load_to_run, overridden, selected, setup, skip, variant};
use crate::audit::plan::Mutant;
use crate::audit::{Audit, AuditOutcome, Audited, Observer};
use crate::cli::{MeasureArgs, SelectArgs, ToolArgs, VariantArgs};
use crate::config::Kernel;
use crate::report::{self, Finding, Output};

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Places of tools.
    #[command(flatten)]
    pub tools: ToolArgs,
    /// Selection of the variant.
    #[command(flatten)]
    pub variant: VariantArgs,
    /// Overrides of the table.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { select, tools, variant: variant_args, measure } = args;
    let project = load_to_run(select, measure.device(), output)?;
    let compiler = compiler(&project, tools);
    let work_directory = project.work_directory();
    let mut exit = Exit::Pass;
    for (package, kernel) in selected(&project, select) {
        let kernel = &overridden(kernel, measure)?;
        let variant = &variant(kernel, variant_args)?;
        let setup = setup(&compiler, measure.device(), &work_directory);
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

fn tell(kernel: &Kernel, outcome: &AuditOutcome, output: Output) -> Exit {
    match outcome {
        AuditOutcome::Unfit(evaluation) => {
            output.show(&Finding::Unfit(kernel, evaluation));
            Exit::Failed
        }
        AuditOutcome::Done(found) => {
            output.show(&Finding::Audited(found));
            if found.counts()[1] > 0 { Exit::Failed } else { Exit::Pass }
        }
    }
}

struct Printer<'a> {
    kernel: &'a Kernel,
    output: Output,
    width: usize,
}

impl Observer for Printer<'_> {
    fn planned(&mut self, device: &DeviceInfo, mutants: &[Mutant]) {
        self.width = mutants.iter().map(|mutant| mutant.name.chars().count()).max().unwrap_or(0);
        self.output.status("Auditing", format_args!("{} on {}", report::title(self.kernel), device.name));
    }

    fn audited(&mut self, audited: &Audited, done: usize, total: usize) {
        self.output.show(&Finding::Mutant(self.kernel, audited, (done, total), self.width));
    }
}

//! `cargo kbench bench`: one variant side by side with the default and the baselines.

use std::path::PathBuf;

use super::candidate::plan;
use super::{Exit, overridden, selected, setup, skip, subject, variant};
use crate::cli::TrialArgs;
use crate::compare::bench::{BenchFile, SideBySide};
use crate::file;
use crate::harness::{Harness, Opening};
use crate::report::{self, Finding, Output, Verbosity};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of the variant and of kernels, and settings.
    #[command(flatten)]
    pub trial: TrialArgs,
    /// Write the result to a file, for `compare`
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { trial: TrialArgs { select, bundle, tools, candidate, measure }, save } = args;
    let subject = subject(select, bundle, Some(measure.device()), output)?;
    let (project, select) = (&subject.project, &subject.select);
    // Whether the result can be kept is known before the measurements.
    save.as_deref().map_or(Ok(()), file::check_writable)?;
    let elite = candidate.elite(project)?;
    let compiler = subject.compiler(tools);
    let work_directory = project.work_directory();
    let mut exit = Exit::Pass;
    let mut entries = Vec::new();
    for (package, kernel) in selected(project, select) {
        let kernel = overridden(kernel, measure)?;
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
        let timed = |shape: &usize| !kernel.shapes[*shape].check_only;
        let shapes: Vec<usize> = harness.context.builder.shapes().iter().copied().filter(timed).collect();
        let plan = plan(elite.as_ref(), &asked, project, &kernel, &device, &shapes)?;
        let mut side_by_side = SideBySide::new(&mut harness);
        for (shape, candidate) in plan {
            let (title, name) = (report::title(&kernel), &kernel.shapes[shape].name);
            output.status("Measuring", format_args!("{title} at {name} on {}", device.name));
            match side_by_side.measure(shape, &candidate, output.verbosity() >= Verbosity::Verbose) {
                Ok(entry) => {
                    output.show(&Finding::SideBySide(&entry));
                    exit = exit.max(if entry.rejection().is_some() { Exit::Failed } else { Exit::Pass });
                    entries.push(entry);
                }
                Err(error) => {
                    exit = exit.max(skip(&kernel, error)?);
                    break;
                }
            }
        }
    }
    // A file without a time must not replace an older one.
    if let Some(path) = save.as_deref().filter(|_| !entries.is_empty()) {
        BenchFile::new(entries).write(path)?;
        output.status("Saved", path.display());
    }
    Ok(exit)
}

//! `cargo kbench autotune`: the search, and elite.json.

use super::{Exit, compiler, load, overridden, selected, skip};
use crate::cli::{MeasureArgs, OutputArgs, SelectArgs, ToolArgs};
use crate::compile::Compiler;
use crate::config::{Kernel, Package, Project};
use crate::elite::EliteFile;
use crate::report::{
    self, Verbosity,
    json::Json,
    out,
    terminal::{self, Terminal},
};
use crate::session::{self, TuneOptions};
use crate::workbench::{RunError, Workbench};

/// Runs the verb.
pub fn run(
    select: &SelectArgs,
    tools: &ToolArgs,
    measure: &MeasureArgs,
    resume: bool,
    output: &OutputArgs,
) -> anyhow::Result<Exit> {
    let project = match load(select)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    // A file that cannot be added to is better known before the search than after it.
    EliteFile::read(&project.elite_path())?;
    let compiler = compiler(&project, tools);
    let mut exit = Exit::Pass;
    for (package, kernel) in selected(&project, select) {
        let kernel = overridden(kernel, measure)?;
        match tune(&project, package, &kernel, &compiler, measure.device, resume, output) {
            Ok(of_kernel) => exit = exit.max(of_kernel),
            Err(error) => exit = exit.max(skip(&kernel, error)?),
        }
    }
    Ok(exit)
}

fn tune(
    project: &Project,
    package: &Package,
    kernel: &Kernel,
    compiler: &Compiler,
    device: u32,
    resume: bool,
    output: &OutputArgs,
) -> Result<Exit, RunError> {
    let work = project.work_directory();
    let mut bench = Workbench::new(package, kernel, compiler, device, work.join("references"));
    let device = bench.open()?;
    let journal = work.join("journal").join(&kernel.package).join(format!("{}.jsonl", kernel.name));
    let path = project.elite_path();
    let (proposed, root) = (work.join("proposed"), path.parent().unwrap_or(&path));
    let options = TuneOptions { journal: &journal, resume, proposed: &proposed, root };
    let tuned = if output.json() {
        session::autotune(&mut bench, &device, &options, &mut Json::new(kernel))?
    } else {
        session::autotune(&mut bench, &device, &options, &mut Terminal::new(output.verbosity()))?
    };
    let survived = !tuned.entry.elite.is_empty();
    if survived {
        EliteFile::add(&path, &work.join("elite.lock"), tuned.entry.clone())?;
    }
    if output.json() {
        report::json::tuned(&tuned);
    } else {
        out!("{}", terminal::tuned(&tuned, kernel, &path));
        if output.verbosity() > Verbosity::Quiet {
            if output.verbosity() == Verbosity::Verbose {
                report::status("Spent", terminal::spent(&tuned.spent));
            }
            report::status("Finished", format_args!("in {:.1} s; journal in {}", tuned.seconds, journal.display()));
        }
    }
    Ok(if survived { Exit::Pass } else { Exit::Failed })
}

//! `cargo kbench doctor`: tools and devices of this machine, and those that a package needs.

use std::path::Path;

use super::{Exit, compiler, load, selected};
use crate::build::{Compiler, CompilerOptions};
use crate::cli::{SelectArgs, ToolArgs};
use crate::config;
use crate::doctor::{Need, examine, needs};
use crate::report::{Finding, Output};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    tools: ToolArgs,
    /// Skip the measurement of this machine's noise, which takes 5 s
    #[arg(long)]
    no_noise: bool,
    /// Print JSON, as with `--message-format json`
    #[arg(long)]
    json: bool,
}

/// Runs the verb. Without a package, only the machine is examined.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { select, tools, no_noise, json } = args;
    let output = if *json { output.in_json() } else { output };
    let is_of_package = !select.package.is_empty() || !select.kernel.is_empty() || select.manifest_path.is_some();
    let project = is_of_package.then(|| load(select, output)).transpose()?;
    let scratch = tempfile::tempdir()?;
    let work_directory = project.as_ref().map_or_else(|| scratch.path().to_owned(), config::Project::work_directory);
    let compiler = match &project {
        Some(project) => compiler(project, tools),
        None => {
            Compiler::new(&work_directory, CompilerOptions { nvcc: tools.nvcc.clone(), ..CompilerOptions::default() })
        }
    };
    output.status("Examining", if *no_noise { "this machine" } else { "this machine; its noise takes 5 s" });
    // The free space of the target directory matters, not that of the folder for temporary files.
    let disk = if project.is_some() { work_directory.as_path() } else { Path::new(".") };
    let found = examine(&compiler, disk, !no_noise);
    if crate::interrupt::is_interrupted() {
        return Ok(Exit::Interrupted);
    }
    let kernels = project.as_ref().map(|project| selected(project, select)).unwrap_or_default();
    let needs: Vec<Need> = kernels.iter().flat_map(|(package, kernel)| needs(&package.name, kernel, &found)).collect();
    output.show(&Finding::Examined(&found, is_of_package.then_some(&*needs)));
    Ok(if needs.iter().all(|need| need.is_met) { Exit::Pass } else { Exit::Missing })
}

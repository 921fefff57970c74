//! `cargo kbench export`: code that launches the winners, for a program to contain.

use std::path::PathBuf;

use anyhow::anyhow;

use super::{Exit, compiler, load, selected};
use crate::cli::{SelectArgs, ToolArgs};
use crate::config::Kernel;
use crate::export::{self, Export, ExportError, Language, Request};
use crate::report::{self, Finding, Output};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Places of tools.
    #[command(flatten)]
    pub tools: ToolArgs,
    /// Language of the program that launches the kernels
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value_t)]
    pub lang: Language,
    /// Folder of the output, relative to the package's; by default src/kbench, include/kbench or python/kbench
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Architectures for kernels in CUDA; by default those of the table, else those of the winners in elite.json
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub arch: Vec<String>,
    /// Write nothing; fail if sources, toggles, elite.json or the compiler have changed since the export
    #[arg(long)]
    pub check: bool,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let project = load(&args.select, output)?;
    let compiler = compiler(&project, &args.tools);
    let selected = selected(&project, &args.select);
    let mut exit = Exit::Pass;
    for package in &project.packages {
        let of_package = selected.iter().filter(|(of, _)| of.name == package.name);
        let kernels: Vec<&Kernel> = of_package.map(|(_, kernel)| *kernel).collect();
        if kernels.is_empty() {
            continue;
        }
        let folder = package.directory.join(args.out.as_deref().unwrap_or(args.lang.folder()));
        if !args.check {
            Export::check_folder(&folder, args.lang).map_err(edge)?;
        }
        let request = Request {
            elite_path: &project.elite_path(),
            scratch: project.own_directory().join("export").join(&package.name),
            package,
            kernels: &kernels,
            compiler: &compiler,
            language: args.lang,
            folder,
            archs: &args.arch,
            only: None,
        };
        let export = export::export(&request).map_err(edge)?;
        let stale = if args.check { Some(export.stale()?) } else { None };
        match &stale {
            None => export.write()?,
            Some(stale) => exit = exit.max(judged(stale, &export)),
        }
        output.show(&Finding::Exported(&package.name, &export, stale.as_deref()));
    }
    Ok(exit)
}

/// The exit code: failed if the folder differs from a new export.
fn judged(stale: &[String], export: &Export) -> Exit {
    if stale.is_empty() {
        return Exit::Pass;
    }
    for why in stale {
        report::error(why);
    }
    report::error(format_args!("{} is stale; run `cargo kbench export` and commit it", export.folder.display()));
    Exit::Failed
}

/// An error that ends a run keeps its exit code.
fn edge(error: ExportError) -> anyhow::Error {
    match error {
        ExportError::Run(error) => error.into(),
        error => anyhow!(error),
    }
}

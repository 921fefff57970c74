//! `cargo kbench bundle`: one file for machines without compilers and sources.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};

use super::{Exit, compiler, load, selected};
use crate::bundle::{Contents, Unsuitable, suitable, write};
use crate::cli::{SelectArgs, ToolArgs};
use crate::config::Backend;
use crate::report::{self, Finding, Output};

/// Arguments of `bundle`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Places of tools.
    #[command(flatten)]
    pub tools: ToolArgs,
    /// Architecture to compile for, such as `sm_90a` (repeatable); by default the architectures of the table
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "kbench.bundle")]
    pub output: PathBuf,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { select, tools, arch, output: path } = args;
    let project = load(select, output)?;
    crate::file::check_writable(path)?;
    let kernels = selected(&project, select);
    // All kernels are tested for a bundle before the first variant is compiled.
    for (package, kernel) in &kernels {
        suitable(kernel, package, &project.root).with_context(|| report::title(kernel))?;
    }
    let compiler = compiler(&project, tools);
    let mut contents = Contents::new(&project, &compiler);
    for (package, kernel) in kernels {
        let archs = if arch.is_empty() { &kernel.arch } else { arch };
        if archs.is_empty() && kernel.implementation.backend == Backend::Cuda {
            return Err(anyhow::Error::from(Unsuitable::Arch).context(report::title(kernel)));
        }
        let mut kernel = kernel.clone();
        let programs = kernel.leave_out_programs();
        if !programs.is_empty() {
            let (title, names) = (report::title(&kernel), crate::text::list(&programs));
            report::status("Note", format_args!("{title}: a bundle carries no programs: without baseline {names}"));
        }
        output.status("Compiling", format_args!("{}", report::title(&kernel)));
        contents.add(package, &kernel, archs).with_context(|| report::title(&kernel))?;
    }
    if crate::interrupt::is_interrupted() {
        return Err(anyhow!("interrupted"));
    }
    let bytes = write(&contents, path)?;
    output.show(&Finding::Bundled(path, bytes, contents.kernels()));
    Ok(Exit::Pass)
}

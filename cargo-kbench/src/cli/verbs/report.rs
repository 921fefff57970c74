//! `cargo kbench report`: documents about the last search.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::{Exit, load, selected};
use crate::cli::SelectArgs;
use crate::config::{Kernel, Project};
use crate::file;
use crate::page::Document;
use crate::record::run::Run;
use crate::report::Output;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Write the plots as SVG files into this folder too
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let project = load(&args.select)?;
    let mut written = 0;
    for (_, kernel) in selected(&project, &args.select) {
        for journal in journals(&project, kernel) {
            let run = Run::read(&journal)?;
            let document = Document::new(&run);
            if document.is_empty() {
                continue;
            }
            written += 1;
            let page = page_of(&project, &journal);
            write(&page, &document.html())?;
            output.status("Report", format_args!("{}: {}", document.title(), page.display()));
            if let Some(folder) = &args.plots {
                for (name, plot) in document.plots() {
                    write(&folder.join(&kernel.name).join(name), &plot)?;
                }
            }
        }
    }
    if written == 0 {
        return Err(anyhow!("no search is on record; run `cargo kbench autotune` first"));
    }
    Ok(Exit::Pass)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
    }
    Ok(file::write(path, text.as_bytes())?)
}

/// The journals of a kernel: of its search, and of one for each shape where it was tuned shape by shape.
fn journals(project: &Project, kernel: &Kernel) -> Vec<PathBuf> {
    let folder = project.own_directory().join("journal").join(&kernel.package);
    let mut all = vec![folder.join(format!("{}.jsonl", kernel.name))];
    let of_shapes = kernel.shapes.iter().map(|shape| format!("{}.jsonl", shape.name.replace('/', "_")));
    all.extend(of_shapes.map(|name| folder.join(&kernel.name).join(name)));
    all.retain(|journal| journal.is_file());
    all
}

/// The page of a journal.
fn page_of(project: &Project, journal: &Path) -> PathBuf {
    let own = project.own_directory();
    let below = journal.strip_prefix(own.join("journal")).unwrap_or(journal);
    own.join("report").join(below).with_extension("html")
}

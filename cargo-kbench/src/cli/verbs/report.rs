//! `cargo kbench report`: documents about the last search, or about two files.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::{Exit, load, selected};
use crate::cli::SelectArgs;
use crate::compare::{self, Condition};
use crate::config::{Kernel, Project};
use crate::file;
use crate::page::{self, Document, Format};
use crate::record::run::Run;
use crate::report::{Finding, Output, out};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Format of the output: a page in the target directory, or another format on stdout
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    pub format: Format,
    /// Write the plots as SVG files to this folder too
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Compare two elite.json, journals or files of `bench --save` instead, on stdout
    #[arg(long, value_names = ["OLD", "NEW"], num_args = 2, conflicts_with_all = ["plots", "package", "kernel"])]
    pub compare: Option<Vec<PathBuf>>,
    /// Conditions that may differ between the two files
    #[arg(long, value_name = "WHAT", value_delimiter = ',', requires = "compare")]
    pub allow: Vec<Condition>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    if let Some([old, new]) = args.compare.as_deref() {
        return side_by_side(old, new, &args.allow, args.format);
    }
    let runs = recorded(&args.select, output)?;
    let documents = searches(&runs)?;
    if let Some(folder) = &args.plots {
        for (recorded, document) in runs.iter().zip(&documents) {
            let folder = folder.join(&recorded.kernel);
            document.plots().iter().try_for_each(|(name, plot)| write(&folder.join(name), plot))?;
            output.status("Plots", format_args!("{}: {}", document.title(), folder.display()));
        }
    }
    if args.format == Format::Html {
        let mut pages = Vec::new();
        for (recorded, document) in runs.iter().zip(&documents) {
            let page = &recorded.page;
            write(page, &document.html())?;
            output.status("Report", format_args!("{}: {}", document.title(), page.display()));
            pages.push(page.clone());
        }
        output.show(&Finding::Created(&pages, None));
        return Ok(Exit::Pass);
    }
    let text = match args.format {
        Format::Csv | Format::T4 | Format::Cachefile if documents.len() > 1 => {
            return Err(anyhow!("the variants of several searches do not fit one table; name one with -p or --kernel"));
        }
        Format::Csv => documents[0].csv(),
        Format::T4 => documents[0].t4(),
        Format::Cachefile => documents[0].cachefile(),
        Format::Json => page::json(&documents),
        Format::Junit => page::junit(&documents),
        Format::Md | Format::Html => documents.iter().map(Document::markdown).collect(),
    };
    out!("{text}");
    Ok(Exit::Pass)
}

/// A recorded search.
pub(super) struct Recorded {
    /// Name of the kernel.
    kernel: String,
    /// Path of the page.
    page: PathBuf,
    run: Run,
}

/// The recorded searches of the selected kernels that tried at least one variant.
pub(super) fn recorded(select: &SelectArgs, output: Output) -> anyhow::Result<Vec<Recorded>> {
    let project = load(select, output)?;
    let mut all = Vec::new();
    for (_, kernel) in selected(&project, select) {
        for journal in journals(&project, kernel) {
            let run = Run::read(&journal)?;
            if !run.evaluations.is_empty() {
                all.push(Recorded { kernel: kernel.name.clone(), page: page_of(&project, &journal), run });
            }
        }
    }
    Ok(all)
}

/// A document for each search; an error if there is none.
pub(super) fn searches(all: &[Recorded]) -> anyhow::Result<Vec<Document<'_>>> {
    if all.is_empty() {
        return Err(anyhow!("no search is on record; run `cargo kbench autotune` first"));
    }
    Ok(all.iter().map(|recorded| Document::new(&recorded.run)).collect())
}

fn side_by_side(old: &Path, new: &Path, allow: &[Condition], format: Format) -> anyhow::Result<Exit> {
    let ((before, _), (after, _)) = (compare::read(old)?, compare::read(new)?);
    let diff = compare::compare(&before, &after, allow, compare::THRESHOLD).map_err(|refused| {
        anyhow!("not compared: {}", refused.join(" compares them anyway; ") + " compares them anyway")
    })?;
    let names = (&*old.to_string_lossy(), &*new.to_string_lossy());
    let Some(document) = page::compare::document(&diff, names, format) else {
        return Err(anyhow!("T4 and cachefiles hold one search; `--compare` writes html, md, csv, json or junit"));
    };
    out!("{document}");
    Ok(Exit::Pass)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
    }
    Ok(file::write(path, text.as_bytes())?)
}

/// The journals of a kernel: of its search, and one for each shape after `--per-shape`.
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

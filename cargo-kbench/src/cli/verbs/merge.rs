//! `cargo kbench merge FILE…`: merges the results of several searches into this project's elite.json and journals.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::{Exit, load_for_results, selected};
use crate::cli::SelectArgs;
use crate::config::{Kernel, Package, Project};
use crate::evaluate::dead_toggles;
use crate::file;
use crate::record::conclusion::Conclusion;
use crate::record::elite::{self, EliteEntry, EliteFile, EliteVariant, Mismatch, PortfolioRecord, Question};
use crate::record::journal::merge::{self as searches, Search};
use crate::record::journal::{self, Journal, Reuse};
use crate::report::{self, Finding, Output};
use crate::space::{Partition, Settings, Variant};

/// Arguments of `merge`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Files to merge: each an elite.json or a journal
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// The results of one kernel at one shape on one device.
#[derive(Default)]
struct Results {
    /// Entries of elite.json, each with its file.
    entries: Vec<(PathBuf, EliteEntry)>,
    /// Searches of journals, each with its file.
    searches: Vec<(PathBuf, Search)>,
}

/// Package, kernel, shape and device.
type Key = (String, String, String, String);

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let project = load_for_results(&args.select, output)?;
    let kernels = selected(&project, &args.select);
    let elite_path = project.elite_path();
    EliteFile::check(&elite_path)?;
    let mut all: BTreeMap<Key, Results> = BTreeMap::new();
    let mut portfolios = Vec::new();
    for path in &args.files {
        read(path, &kernels, &mut all, &mut portfolios).with_context(|| path.display().to_string())?;
    }
    if all.is_empty() {
        bail!("nothing to merge: the files hold no finished measurement");
    }
    // All results are tested before any file is written.
    let mut merged = Vec::new();
    for (key, results) in all {
        let kernel = kernel(&kernels, &key.0, &key.1)?;
        merged.push(put_together(&project, kernel, &key, results)?);
    }
    for Merged { entry, journal, records } in merged {
        let before = EliteFile::read(&elite_path)?.kernels;
        let mut changed = false;
        if let Some(entry) = &entry {
            changed = !before.contains(entry);
            EliteFile::change(&elite_path, |file| file.insert(entry.clone()))?;
        }
        if let Some(records) = records {
            let text = std::fs::read(&journal).unwrap_or_default();
            if !searches::ends_with(&text, &records) {
                changed = true;
                let (mut journal, _) = Journal::open(&journal, Reuse::Nothing)?;
                records.iter().try_for_each(|record| journal.append(record))?;
            }
        }
        match &entry {
            Some(entry) => output.show(&Finding::Merged(entry, &missing(entry), changed)),
            None => output.status("Merged", format_args!("{}; no variant survived", journal.display())),
        }
    }
    if !portfolios.is_empty() {
        EliteFile::change(&elite_path, |file| insert_later(file, portfolios))?;
    }
    output.status("Finished", format_args!("{}", elite_path.display()));
    Ok(Exit::Pass)
}

/// Reads a file of either kind.
fn read(
    path: &Path,
    kernels: &[(&Package, &Kernel)],
    all: &mut BTreeMap<Key, Results>,
    portfolios: &mut Vec<PortfolioRecord>,
) -> anyhow::Result<()> {
    let text = file::read_bytes(path)?;
    let value: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    if value.is_some_and(|value| value.get("kernels").is_some()) {
        let file = EliteFile::read(path)?;
        for entry in file.kernels {
            let kernel = kernel(kernels, &entry.package, &entry.kernel)?;
            let question = entry.question.as_ref().ok_or(Mismatch::NoQuestion)?;
            check_table(kernel, &question.table)?;
            check_variants(kernel, &entry)?;
            let EliteEntry { package, kernel, shape, device, .. } = &entry;
            let key = (package.clone(), kernel.clone(), shape.clone(), device.name.clone());
            all.entry(key).or_default().entries.push((path.to_owned(), entry));
        }
        for portfolio in file.portfolios {
            kernel(kernels, &portfolio.package, &portfolio.kernel)?;
            portfolios.push(portfolio);
        }
        return Ok(());
    }
    let (found, damaged) = searches::searches(&text);
    if found.is_empty() {
        let why = if damaged > 0 { "neither an elite.json nor a journal" } else { "a journal without evaluations" };
        bail!("{why}");
    }
    if damaged > 0 {
        report::status("Warning", format_args!("{}: {}", path.display(), journal::damaged_lines(damaged)));
    }
    for search in found {
        let start = search.start();
        let (package, name) = start.kernel.split_once('/').ok_or_else(|| anyhow!("a journal without a kernel"))?;
        let kernel = kernel(kernels, package, name)?;
        check_table(kernel, &start.table)?;
        if let Some(conclusion) = search.conclusion() {
            check_variants(kernel, &conclusion.entry)?;
        }
        let shape = search.shape().unwrap_or(&kernel.shapes[kernel.search.shape].name);
        let key = (package.to_owned(), name.to_owned(), shape.to_owned(), start.device.clone());
        all.entry(key).or_default().searches.push((path.to_owned(), search));
    }
    Ok(())
}

fn kernel<'k>(kernels: &[(&Package, &'k Kernel)], package: &str, name: &str) -> anyhow::Result<&'k Kernel> {
    let mut all = kernels.iter().map(|(_, kernel)| *kernel);
    all.find(|kernel| (&*kernel.package, &*kernel.name) == (package, name))
        .ok_or_else(|| anyhow!("a result of kernel `{package}/{name}`, which is not among the selected kernels"))
}

fn check_table(kernel: &Kernel, table: &str) -> anyhow::Result<()> {
    if table.is_empty() {
        return Err(Mismatch::NoQuestion.into());
    }
    if table != kernel.table {
        let title = report::title(kernel);
        bail!("a result of another table of kernel {title} than that of Cargo.toml; tune again, or restore the table");
    }
    Ok(())
}

/// Checks that the variants of a file belong to the space.
fn check_variants(kernel: &Kernel, entry: &EliteEntry) -> anyhow::Result<()> {
    for variant in &entry.elite {
        kernel.space.variant(&variant.toggles).with_context(|| format!("variant {}", variant.label()))?;
    }
    Ok(())
}

/// Merged results, and their destination.
struct Merged {
    /// The entry; none if no variant survived.
    entry: Option<EliteEntry>,
    journal: PathBuf,
    /// The journal; none if there was none.
    records: Option<Vec<journal::Record>>,
}

/// The question of a search, if the search measured the default.
fn question(search: &Search) -> Option<Question> {
    search.default().map(|default| Question::of(search.start().table.clone(), default))
}

/// The question that all results answer; `None` if none of them states it. An error if two results differ.
fn common_question(results: &Results) -> anyhow::Result<Option<Question>> {
    for ((path, one), (other_path, other)) in results.entries.iter().zip(results.entries.iter().skip(1)) {
        let paths = || format!("{} and {}", path.display(), other_path.display());
        one.check_same_question(other).with_context(paths)?;
    }
    let of_searches = results.searches.iter().filter_map(|(path, search)| Some((path, question(search)?)));
    let stated = results.entries.iter().filter_map(|(path, entry)| Some((path, entry.question.clone()?)));
    let questions: Vec<(&PathBuf, Question)> = of_searches.chain(stated).collect();
    if let Some(pair) = questions.windows(2).find(|pair| pair[0].1 != pair[1].1) {
        let paths = format!("{} and {}", pair[0].0.display(), pair[1].0.display());
        return Err(anyhow::Error::from(Mismatch::Sources).context(paths));
    }
    Ok(questions.into_iter().next().map(|(_, question)| question))
}

/// Merges the results of one kernel, shape and device with those of this project.
fn put_together(project: &Project, kernel: &Kernel, key: &Key, mut results: Results) -> anyhow::Result<Merged> {
    let (_, _, shape, device) = key;
    let folder = project.own_directory().join("journal").join(&kernel.package);
    let of_search = kernel.shapes[kernel.search.shape].name == *shape;
    let journal = if of_search {
        folder.join(format!("{}.jsonl", kernel.name))
    } else {
        folder.join(&kernel.name).join(format!("{}.jsonl", shape.replace('/', "_")))
    };
    let concluded = results.searches.iter().filter_map(|(path, search)| {
        let entry = &search.conclusion()?.entry;
        Some((path.clone(), entry.clone()))
    });
    results.entries.extend(concluded.collect::<Vec<_>>());
    let asked = common_question(&results)?;

    // Existing results take part if they answer the same question; otherwise they are replaced, as by a new search.
    let here = EliteFile::read(&project.elite_path())?.kernels;
    let here = here.into_iter().filter(|entry| {
        (&entry.package, &entry.kernel, &entry.shape, &entry.device.name)
            == (&kernel.package, &kernel.name, shape, device)
    });
    let mut entries: Vec<EliteEntry> = results.entries.into_iter().map(|(_, entry)| entry).collect();
    for entry in here {
        match entries.first().map_or(Ok(()), |first| first.check_same_question(&entry)) {
            Ok(()) => entries.push(entry),
            Err(why) => {
                report::status("Replacing", format_args!("the entry of {} on {device}: {why}", report::title(kernel)));
            }
        }
    }
    let is_here = |search: &Search| {
        search.start().device == *device && search.shape().is_none_or(|of| of == shape) && question(search) == asked
    };
    let text = std::fs::read(&journal).unwrap_or_default();
    let mut all: Vec<Search> = results.searches.into_iter().map(|(_, search)| search).collect();
    if !all.is_empty() {
        all.extend(searches::searches(&text).0.into_iter().filter(is_here));
    }
    entries.extend(all.iter().filter_map(|search| Some(search.conclusion()?.entry.clone())));

    let place = |settings: &Settings| kernel.space.variant(settings).map_or_else(|_| vec![u16::MAX], |of| of.0);
    let mut entry = match &entries[..] {
        [] => None,
        entries => Some(elite::merged(entries, kernel.search.elite, &place)?),
    };
    if let Some(entry) = &mut entry {
        let known: u64 = all.iter().filter_map(|search| Some(search.conclusion()?.entry.search.evaluated)).sum();
        // Only journals have pairs of variants of different parts.
        if entry.search.runs.len() > 1 && known >= entry.search.evaluated {
            entry.search.dead_toggles = dead_toggles(&kernel.space, &tried(kernel, &all));
        }
    }
    let records = (!all.is_empty()).then(|| {
        let winner = entry.as_ref().and_then(|entry| entry.elite.first()).map(EliteVariant::label);
        let is_of_winner = |search: &Search| {
            let conclusion = search.conclusion();
            let first = conclusion.and_then(|conclusion| conclusion.entry.elite.first());
            first.is_some_and(|first| Some(first.label()) == winner)
        };
        let all = searches::distinct(all, is_of_winner);
        let conclusion = entry.clone().and_then(|entry| concluded_as(&all, entry));
        match &all[..] {
            [one] => one.records(),
            _ => searches::merged(&all, conclusion),
        }
    });
    let entry = entry.filter(|entry| !entry.elite.is_empty());
    Ok(Merged { entry, journal, records })
}

/// The variants of all searches, with the keys of their evaluations.
fn tried(kernel: &Kernel, searches: &[Search]) -> Vec<(Variant, String)> {
    let evaluations = searches.iter().flat_map(Search::evaluations).filter(|evaluation| evaluation.source.is_none());
    evaluations
        .filter_map(|evaluation| Some((kernel.space.variant(&evaluation.toggles).ok()?, evaluation.key.clone())))
        .collect()
}

/// The conclusion of the search with the overall winner, with the merged entry.
fn concluded_as(searches: &[Search], entry: EliteEntry) -> Option<Conclusion> {
    let last = searches.iter().rev().find_map(Search::conclusion)?.clone();
    let all = || searches.iter().filter_map(Search::conclusion);
    let mut warnings: Vec<String> = all().flat_map(|conclusion| conclusion.warnings.clone()).collect();
    warnings.sort();
    warnings.dedup();
    let stopped = all().filter_map(|conclusion| conclusion.stopped).min();
    let seconds = all().map(|conclusion| conclusion.seconds).sum();
    Some(Conclusion { entry, over_second: None, warnings, stopped, seconds, ..last })
}

/// The parts of the space that no run searched, if all runs searched parts.
fn missing(entry: &EliteEntry) -> Vec<Partition> {
    let search = &entry.search;
    let runs: Vec<Option<Partition>> = match &search.runs[..] {
        [] => vec![search.partition],
        runs => runs.iter().map(|run| run.partition).collect(),
    };
    let Some(parts) = runs.into_iter().collect::<Option<BTreeSet<Partition>>>() else { return Vec::new() };
    let is_whole = |of: u32| parts.iter().filter(|part| part.of() == of).count() as u32 == of;
    let Some(of) = parts.iter().map(|part| part.of()).max().filter(|_| !parts.iter().any(|part| is_whole(part.of())))
    else {
        return Vec::new();
    };
    Partition::all(of).filter(|part| !parts.contains(part)).collect()
}

/// For each kernel and device, inserts the portfolio that was measured last.
fn insert_later(file: &mut EliteFile, portfolios: Vec<PortfolioRecord>) {
    for portfolio in portfolios {
        let is_later = |other: &PortfolioRecord| {
            (&other.package, &other.kernel, &other.device.name)
                == (&portfolio.package, &portfolio.kernel, &portfolio.device.name)
                && other.date >= portfolio.date
        };
        if !file.portfolios.iter().any(is_later) {
            file.insert_portfolio(portfolio);
        }
    }
}

//! `cargo kbench autotune`: the search, and elite.json.

mod settings;

use std::path::{Path, PathBuf};
use std::thread;

use settings::TuneArgs;

use super::{Exit, overridden, selected, setup, skip, subject};
use crate::cli::{BundleArgs, MeasureArgs, SelectArgs, ToolArgs};
use crate::config::{Kernel, Level, Package, Project};
use crate::harness::{Builder, Harness, Opening, Results, RunError, Setup, workers_of_table};
use crate::process::executor::WorkerOptions;
use crate::record::elite::{EliteEntry, EliteFile};
use crate::record::journal::{Journal, Reuse};
use crate::record::run::Run;
use crate::report::{self, Finding, Output, Verbosity};
use crate::space::Variant;
use crate::tune::warm::{self, WarmStart};
use crate::tune::{self, Ahead, Plan, Stopped, TuneOptions, per_shape, repeat};

/// Arguments of `autotune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// A bundle in place of a package.
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// Places of tools.
    #[command(flatten)]
    pub tools: ToolArgs,
    /// Overrides of the table.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Settings of the search.
    #[command(flatten)]
    pub tune: TuneArgs,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { select, bundle, tools, measure, tune } = args;
    let subject = subject(select, bundle, (!tune.dry_run).then(|| measure.device()), output)?;
    let (project, select) = (&subject.project, &subject.select);
    // A file that cannot be written is reported before the search, not after it.
    EliteFile::check(&project.elite_path())?;
    let mut from = Vec::new();
    for path in &tune.from {
        // A missing file is empty for a writer, and a mistake here.
        std::fs::metadata(path).map_err(|error| anyhow::anyhow!("--from {}: {error}", path.display()))?;
        from.extend(EliteFile::read(path)?.kernels);
    }
    let compiler = subject.compiler(tools);
    let work_directory = project.work_directory();
    let setup = setup(&compiler, measure.device(), &work_directory);
    let mut exit = Exit::Pass;
    for (package, kernel) in selected(project, select) {
        let mut kernel = overridden(kernel, measure)?;
        tune.override_search(&mut kernel)?;
        let flags = flags_of_gate(&args.select, bundle, tools, measure);
        let only = measure.device.is_some();
        let tuning = Tuning { project, package, setup, tune, output, flags: &flags, only };
        if tune.dry_run {
            tuning.plan(&kernel)?;
            continue;
        }
        let from: Vec<&EliteEntry> = from.iter().filter(|entry| entry.kernel == kernel.name).collect();
        let tuned = match tune.repeat {
            Some(runs) => tuning.repeatedly(&kernel, runs),
            None if tune.per_shape => tuning.each_shape(&kernel, &from),
            None => tuning.whole(&kernel, &from),
        };
        match tuned {
            Ok(of_kernel) => exit = exit.max(of_kernel),
            Err(error) => exit = exit.max(skip(&kernel, error)?),
        }
        if exit == Exit::Interrupted {
            break;
        }
    }
    Ok(exit)
}

/// Result of a search.
struct Found {
    /// The entry for elite.json; its `elite` is empty if no variant survived.
    entry: EliteEntry,
    /// [`Exit::Failed`] if no variant survived, or if the winner misses a limit of level `deny`.
    exit: Exit,
    /// Settings of the workers of another device model.
    elsewhere: Vec<WorkerOptions>,
}

/// State that all searches of a run share.
#[derive(Clone, Copy)]
struct Tuning<'a> {
    project: &'a Project,
    package: &'a Package,
    setup: Setup<'a>,
    tune: &'a TuneArgs,
    output: Output,
    /// Flags of this run that a `gate` of the winner needs.
    flags: &'a [String],
    /// Whether the command line names the device.
    only: bool,
}

/// One search: its kernel at one shape, and its files.
#[derive(Clone, Copy)]
struct Search<'s> {
    kernel: &'s Kernel,
    /// The journal of the search.
    journal: &'s Path,
    /// Entries of other files for the warm start.
    from: &'s [&'s EliteEntry],
    /// Shapes whose entries on this device the warm start does not use.
    but: &'s [&'s str],
}

/// Flags with places and settings of the measurement, for a `gate` of the same variant.
fn flags_of_gate(select: &SelectArgs, bundle: &BundleArgs, tools: &ToolArgs, measure: &MeasureArgs) -> Vec<String> {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let shapes = (!measure.shapes.is_empty()).then(|| measure.shapes.join(","));
    let device = measure.device.map(|device| device.to_string());
    let flags = [
        ("--manifest-path", path(&select.manifest_path)),
        ("--bundle", path(&bundle.bundle)),
        ("--target-dir", path(&select.target_dir)),
        ("--nvcc", path(&tools.nvcc)),
        ("--shapes", shapes),
        ("--launch", measure.launch.map(|launch| launch.name().to_owned())),
        ("--device", device),
    ];
    flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
}

impl<'a> Tuning<'a> {
    /// Prints the plan of a search.
    fn plan(self, kernel: &Kernel) -> anyhow::Result<()> {
        let journal = self.journal(kernel);
        let last = if journal.is_file() { Some(Run::read(&journal)?) } else { None };
        self.output.show(&Finding::Space(kernel));
        self.output.show(&Finding::Planned(kernel, &Plan::new(kernel, last.as_ref())));
        Ok(())
    }

    /// Tunes a kernel for the shape of its search.
    fn whole(self, kernel: &Kernel, from: &[&EliteEntry]) -> Result<Exit, RunError> {
        let journal = self.journal(kernel);
        let shape = &kernel.shapes[kernel.search.shape].name;
        Ok(self.search(Search { kernel, journal: &journal, from, but: &[shape] })?.exit)
    }

    /// Tunes a kernel for one shape after the other, each with a journal of its own; then measures the elites of all
    /// shapes at every shape.
    fn each_shape(self, kernel: &Kernel, from: &[&EliteEntry]) -> Result<Exit, RunError> {
        let shapes = per_shape::shapes(kernel);
        // A variant that is measured at every shape must be right at every shape.
        let mut kernel = kernel.clone();
        kernel.gates.correctness.shapes.clone_from(&shapes);
        let kernel = &kernel;
        let folder = self.journal_folder(kernel).join(&kernel.name);
        let mut union: Vec<Variant> = Vec::new();
        let mut winners: Vec<Variant> = Vec::new();
        let mut exit = Exit::Pass;
        let mut all_survived = true;
        for (at, &shape) in shapes.iter().enumerate() {
            let mut kernel = kernel.clone();
            kernel.search.shape = shape;
            let name = &kernel.shapes[shape].name;
            self.output.status("Shape", format_args!("{name}, {} of {}", at + 1, shapes.len()));
            // Entries of earlier runs at the later shapes are not used, so that two runs of the same command do the
            // same.
            let to_come: Vec<&str> = shapes[at..].iter().map(|&shape| kernel.shapes[shape].name.as_str()).collect();
            let journal = folder.join(format!("{}.jsonl", name.replace('/', "_")));
            let found = self.search(Search { kernel: &kernel, journal: &journal, from, but: &to_come })?;
            exit = exit.max(found.exit);
            if exit == Exit::Interrupted {
                return Ok(exit);
            }
            all_survived &= !found.entry.elite.is_empty();
            for elite in &found.entry.elite {
                let variant = kernel.space.variant(&elite.toggles).expect("it was tried");
                if elite.rank == 1 {
                    winners.push(variant.clone());
                }
                if !union.contains(&variant) {
                    union.push(variant);
                }
            }
        }
        if all_survived && shapes.len() > 1 {
            exit = exit.max(self.portfolio(kernel, &shapes, &union, &winners)?);
        }
        Ok(exit)
    }

    /// Runs several independent searches, then measures the winners of all interleaved. elite.json gets the entry of
    /// the run with the fastest winner.
    fn repeatedly(self, kernel: &Kernel, runs: u64) -> Result<Exit, RunError> {
        let tune = TuneArgs { cold: true, fresh: true, ..self.tune.clone() };
        let tuning = Tuning { tune: &tune, ..self };
        let folder = self.journal_folder(kernel).join(&kernel.name);
        let mut found: Vec<(u64, EliteEntry)> = Vec::new();
        let mut exit = Exit::Pass;
        for run in 0..runs {
            let mut kernel = kernel.clone();
            kernel.search.seed = kernel.search.seed.wrapping_add(run);
            self.output.status("Run", format_args!("{} of {runs}, seed {}", run + 1, kernel.search.seed));
            let journal = folder.join(format!("repeat-{}.jsonl", run + 1));
            let of_run = tuning.search(Search { kernel: &kernel, journal: &journal, from: &[], but: &[] })?;
            found.push((kernel.search.seed, of_run.entry));
            exit = exit.max(of_run.exit);
            if exit == Exit::Interrupted {
                return Ok(exit);
            }
        }
        let mut harness = self.open_recorded(kernel, &folder.join("repeat.jsonl"), Reuse::Nothing)?;
        let repeated = repeat::conclude(&mut harness, &found, &mut *self.output.reporter(kernel))?;
        let Some(repeated) = repeated else { return Ok(Exit::Failed) };
        self.output.show(&Finding::Repeated(&repeated));
        let best = repeated.runs.iter().position(|run| run.winner == Some(0));
        if let Some(best) = best {
            EliteFile::change(&self.project.elite_path(), |file| file.insert(found.swap_remove(best).1))?;
        }
        Ok(exit)
    }

    /// Runs a search and adds its result to elite.json.
    fn search(self, search: Search<'_>) -> Result<Found, RunError> {
        let mut found = self.search_one_model(search, None)?;
        // Times of different device models are never ranked together: each model has a search, a journal and an entry
        // of its own.
        let mut models = 1;
        while !found.elsewhere.is_empty() && found.exit != Exit::Interrupted {
            models += 1;
            let journal = search.journal.with_extension(format!("model-{models}.jsonl"));
            let workers = report::count(found.elsewhere.len() as u64, "worker");
            self.output
                .status("Splitting", format_args!("{workers} with another model of the device, a search of their own"));
            let other = self.search_one_model(Search { journal: &journal, ..search }, Some(&found.elsewhere))?;
            (found.elsewhere, found.exit) = (other.elsewhere, found.exit.max(other.exit));
        }
        Ok(found)
    }

    /// Searches with workers whose devices are of one model; `None` means the workers of the table.
    fn search_one_model(self, search: Search<'_>, workers: Option<&[WorkerOptions]>) -> Result<Found, RunError> {
        let ahead = Ahead::default();
        let builder = Builder::new(self.package, search.kernel, self.setup.compiler);
        thread::scope(|scope| {
            let first = Some(&search.kernel.space.default).filter(|_| !ahead.compile(scope, &builder));
            let found = self.search_beside_compilers(search, workers, &ahead, first);
            ahead.end();
            found
        })
    }

    /// Searches while `ahead` compiles variants on threads of its own; the device opens beside the compilation of `first`.
    fn search_beside_compilers(
        self,
        search: Search<'_>,
        workers: Option<&[WorkerOptions]>,
        ahead: &Ahead,
        first: Option<&Variant>,
    ) -> Result<Found, RunError> {
        let Search { kernel, journal, from, but } = search;
        let choices = workers.map_or_else(|| workers_of_table(self.setup, kernel), <[_]>::to_vec);
        let mut harness = self.open(kernel, first, choices)?;
        let device = harness.context.device.clone();
        let path = self.project.elite_path();
        let warm = if self.tune.cold {
            WarmStart::default()
        } else {
            let file = EliteFile::read(&path)?;
            let own = warm::earlier(&file.kernels, kernel, &device.name, but);
            WarmStart::new(kernel, from.iter().copied().chain(own))
        };
        self.say_start(&warm);
        let shape = &kernel.shapes[kernel.search.shape];
        let on_file = EliteFile::read(&path)?.winner(&kernel.package, &kernel.name, &device.name, &shape.name);
        let (proposed, root) = (self.project.own_directory().join("proposed"), path.parent().unwrap_or(&path));
        let reuse = match self.tune {
            TuneArgs { resume: true, .. } => Reuse::Run,
            TuneArgs { fresh: true, .. } => Reuse::Nothing,
            TuneArgs { .. } => Reuse::Variants,
        };
        let on_file = on_file.as_ref();
        let workers = match workers {
            Some(workers) => workers.to_vec(),
            None => tune::pool::plan(&harness, self.tune.workers.map(|workers| workers as usize), self.only)?,
        };
        let (workers, proposed, warm) = (&workers[..], &*proposed, &warm);
        let options = TuneOptions { journal, reuse, proposed, root, workers, warm, ahead, on_file };
        let tuned = tune::autotune(&mut harness, &options, &mut *self.output.reporter(kernel))?;
        let survived = !tuned.entry.elite.is_empty();
        let kept = if survived { EliteFile::change(&path, |file| file.insert(tuned.entry.clone())) } else { Ok(()) };
        self.output.show(&Finding::Tuned(&tuned, kernel, &path, self.flags));
        self.output.status_from(Verbosity::Verbose, "Spent", report::tuned::spent(&tuned.spent));
        let seconds = tuned.seconds;
        self.output.status("Finished", format_args!("in {seconds:.1} s; journal in {}", journal.display()));
        // The result was printed before it is written, so that an error of the file does not hide it.
        kept?;
        let misses = !tuned.missed.is_empty() && kernel.gates.performance_level == Level::Deny;
        let exit = match tuned.stopped {
            Some(Stopped::CtrlC) => Exit::Interrupted,
            _ if survived && !misses => Exit::Pass,
            _ => Exit::Failed,
        };
        Ok(Found { entry: tuned.entry, exit, elsewhere: tuned.elsewhere })
    }

    fn portfolio(
        self,
        kernel: &Kernel,
        shapes: &[usize],
        union: &[Variant],
        winners: &[Variant],
    ) -> Result<Exit, RunError> {
        let reuse = if self.tune.resume { Reuse::Run } else { Reuse::Nothing };
        let mut harness = self.open_recorded(kernel, &self.journal(kernel), reuse)?;
        let portfolio = per_shape::portfolio(&mut harness, shapes, union, winners, &mut *self.output.reporter(kernel))?;
        let Some(portfolio) = portfolio else { return Ok(Exit::Failed) };
        self.output.show(&Finding::Portfolio(&portfolio));
        EliteFile::change(&self.project.elite_path(), |file| file.insert_portfolio(portfolio))?;
        Ok(Exit::Pass)
    }

    /// Opens the device for a comparison after searches, with a journal for it.
    fn open_recorded<'k>(self, kernel: &'k Kernel, path: &Path, reuse: Reuse) -> Result<Harness<'k>, RunError>
    where
        'a: 'k,
    {
        let mut harness = self.open(kernel, None, Vec::new())?;
        let (mut journal, known) = Journal::open(path, reuse)?;
        journal.start(tune::start(kernel, &harness.context.device, reuse == Reuse::Run))?;
        harness.results = Results::new(journal, known);
        Ok(harness)
    }

    fn open<'k>(
        self,
        kernel: &'k Kernel,
        first: Option<&Variant>,
        workers: Vec<WorkerOptions>,
    ) -> Result<Harness<'k>, RunError>
    where
        'a: 'k,
    {
        Harness::open(self.setup, self.package, kernel, Opening { first, workers, ..Opening::default() })
    }

    fn journal_folder(self, kernel: &Kernel) -> PathBuf {
        self.project.own_directory().join("journal").join(&kernel.package)
    }

    fn journal(self, kernel: &Kernel) -> PathBuf {
        self.journal_folder(kernel).join(format!("{}.jsonl", kernel.name))
    }

    fn say_start(self, warm: &WarmStart) {
        if let (first, Some(record)) = (warm.records.len() as u64, warm.records.first()) {
            let best = format_args!("{} ({} on {})", record.toggles, record.shape, record.device);
            let variants = report::count(first, "variant");
            self.output.status("Warm start", format_args!("{variants} from earlier elites, first {best}"));
        }
        if !warm.dropped.is_empty() {
            let dropped = report::count(warm.dropped.len() as u64, "variant");
            self.output.status_from(
                Verbosity::Verbose,
                "Dropped",
                format_args!("{dropped} from earlier elites, not in this space"),
            );
        }
        for dropped in &warm.dropped {
            self.output.status_from(Verbosity::Verbose, "Dropped", dropped);
        }
    }
}

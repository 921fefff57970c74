//! The loop of a search: ask, build, evaluate, tell; then the finals with the default and the baselines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kbench_runtime::protocol::DeviceInfo;
use serde::Serialize;

use crate::config::Kernel;
use crate::evaluate::{BuildOutcome, try_build};
use crate::gates::performance::{self, Compared, Entrant, EntrantId, JudgedSpeedup, finals, sampling};
use crate::harness::{Builder, DeviceTimes, Event, Harness, Notice, Reporter, Results, RunError, caught};
use crate::interrupt;
use crate::process::executor::{ExecutorError, WorkerOptions};
pub use crate::record::conclusion::{Spent, Stopped};
use crate::record::elite::EliteEntry;
use crate::record::evaluation::{Evaluation, Rejection};
use crate::record::journal::{self, Journal, Record, Reuse};
use crate::record::objective::ObjectiveRecord;
use crate::space::{Settings, Variant};
use crate::tune::warm::WarmStart;

mod asker;
mod conclusion;
mod finalists;
pub mod headroom;
mod likely;
mod objectives;
pub mod per_shape;
mod pipeline;
mod plan;
pub mod pool;
pub mod portfolio;
mod proposals;
pub mod proposer;
mod rejects;
pub mod repeat;
mod search;
mod strategy;
mod tie;
pub mod warm;

pub use pipeline::Ahead;
pub use plan::Plan;

use headroom::Headroom;
use pipeline::{CompileTimes, Meanwhile, Pipeline};
use pool::Pool;
use proposals::Proposals;
use search::{Search, Tried};

/// Shortest time of a build, or of a wait for one, that is reported, in seconds.
const MATTERS: f64 = 0.05;

/// Settings of `autotune`.
#[derive(Debug, Clone)]
pub struct TuneOptions<'a> {
    /// Path of the journal.
    pub journal: &'a Path,
    /// The measurements of earlier runs to reuse.
    pub reuse: Reuse,
    /// Folder of proposed sources.
    pub proposed: &'a Path,
    /// Folder of elite.json, which names sources relative to it.
    pub root: &'a Path,
    /// Settings of the workers; the first is the harness's own.
    pub workers: &'a [WorkerOptions],
    /// Variants that are tried right after the default.
    pub warm: &'a WarmStart,
    /// Builds that started before the search.
    pub ahead: &'a Ahead,
    /// The winner in elite.json for this kernel, device and shape; none if it is a proposed source.
    pub on_file: Option<&'a Settings>,
}

/// Result of tuning a kernel.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Tuned {
    /// The entry for elite.json; its `elite` is empty if no variant survived.
    pub entry: EliteEntry,
    /// Speed-up of the winner over the default variant, if both were measured.
    pub over_default: Option<JudgedSpeedup>,
    /// Speed-up of the winner over the runner-up.
    pub over_second: Option<JudgedSpeedup>,
    /// Performance limits at the search's shape that the winner misses.
    pub missed: Vec<Rejection>,
    /// Findings of gates at level `warn` about the winner.
    pub warnings: Vec<String>,
    /// Examples of rejections: label and message of the first variant for each `gate/reason`.
    pub examples: BTreeMap<String, (String, String)>,
    /// Share of the winner in the roofline, if the table has `work` and the ceilings of the device are known.
    pub headroom: Option<Headroom>,
    /// Number of variants with the measurement of another.
    #[serde(rename = "twins")]
    pub identical_code: u64,
    /// Number of variants that an earlier run measured.
    #[serde(rename = "recalled")]
    pub cached: u64,
    /// Number of variants that the resumed run measured.
    pub resumed: u64,
    /// Whether the resumed run measured the finals too.
    pub finals_resumed: bool,
    /// Reason why the search ended early; none if it ended by itself.
    pub stopped: Option<Stopped>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Wall time by activity.
    pub spent: Spent,
    /// Settings of workers that took no part since their device is of another model.
    #[serde(skip)]
    pub elsewhere: Vec<WorkerOptions>,
}

/// Compiles variants on all cores, without a device.
pub fn build_all(
    builder: &Builder<'_>,
    variants: &[Variant],
    reporter: &mut dyn Reporter,
) -> Result<Vec<BuildOutcome>, RunError> {
    let total = variants.len() as u64;
    let build = |pipeline: &Pipeline<'_>| {
        pipeline.want(variants);
        let mut outcomes = Vec::with_capacity(variants.len());
        for variant in variants {
            let taken = outcomes.len() as u64;
            let outcome =
                pipeline.take(variant, None, |built, _| reporter.event(Event::Built { done: taken + built, total }));
            outcomes.push(outcome.expect("there is no deadline")?);
        }
        reporter.event(Event::Built { done: total, total });
        Ok(outcomes)
    };
    let ended = AtomicBool::new(false);
    let builder = builder.until(&ended);
    pipeline::run(&|variant| try_build(&builder, &variant.into()), Meanwhile::Compile, Duration::ZERO, &ended, build)?.0
}

/// Searches a kernel's space.
pub fn autotune(
    harness: &mut Harness<'_>,
    options: &TuneOptions<'_>,
    reporter: &mut dyn Reporter,
) -> Result<Tuned, RunError> {
    let started = Instant::now();
    let kernel = harness.kernel();
    let device = &harness.context.device.clone();
    harness.pursue_objectives(options.root)?;
    let (mut journal, known) = Journal::open(options.journal, options.reuse)?;
    let damaged = known.damaged;
    journal.start(start(kernel, device, options.reuse == Reuse::Run))?;
    harness.results = Results::new(journal, known);

    let mut search = Search::new(kernel, options.ahead.candidates(kernel), options.warm);
    // The elite, the default, the second measurement of the winner, and the baselines.
    let at_most = sampling(kernel, kernel.search.elite + 2 + kernel.baselines.len());
    if kernel.search.roofline.is_some() {
        search.aim(caught(harness.ceilings_to_reach())?);
    }
    let doing = harness.doing.clone();
    reporter.event(Event::Started {
        kernel,
        device: Some(device),
        total: search.total,
        doing: &doing,
        finals: at_most,
    });
    let (mut compile, of_workers) = search_space(&mut search, harness, options, started, reporter)?;
    let rounds = if search.stopped == Some(Stopped::CtrlC) {
        None
    } else {
        Proposals::new(options, device, started, reporter).run(&mut search, harness, &mut compile)?
    };

    let (finalists, compared, elsewhere) = compare_finalists(&mut search, harness, reporter)?;
    let candidates = search.with_default(finalists, &compared, harness, reporter)?;
    let mut tuned = search.conclude(device, &candidates, &compared, &elsewhere, options.on_file);
    if let Some(why) = harness.results.discarded() {
        tuned.warnings.push(format!("cached measurements discarded: the machine changed: {why}"));
    }
    tuned.warnings.extend(search.aimless.clone());
    if damaged > 0 {
        tuned.warnings.push(journal::damaged_lines(damaged));
    }
    let (warnings, other_models) = of_workers;
    tuned.warnings.extend(warnings);
    tuned.elsewhere = other_models;
    tuned.seconds = started.elapsed().as_secs_f64();
    let thinking = rounds.as_ref().map_or(0.0, |rounds| rounds.thinking.as_secs_f64());
    tuned.spent = spent(tuned.seconds, thinking, harness.compiled(), &compile, &harness.times);
    if let Some(rounds) = rounds {
        tuned
            .warnings
            .extend(rounds.record.failed.iter().map(|why| format!("the proposer failed and was ended: {why}")));
        tuned.entry.search.evaluated -= rounds.record.evaluated;
        tuned.entry.search.proposer = Some(rounds.record);
    }
    tuned.headroom = tuned.entry.elite.first().and_then(|winner| {
        let candidate = candidates.iter().find(|tried| tried.evaluation.label() == winner.label())?;
        Headroom::of(&harness.context, &harness.known_ceilings()?, &candidate.candidate, &winner.timing)
    });
    let conclusion = Some(Box::new(tuned.on_record(harness, &candidates)));
    harness.record(&Record::End { evaluations: search.evaluated, conclusion })?;
    Ok(tuned)
}

/// Warnings about the workers of a search, and those with a device of another model.
type OfWorkers = (Vec<String>, Vec<WorkerOptions>);

/// Searches on the harness's own worker, or on those of a pool.
fn run<'h>(
    search: &mut Search<'_>,
    harness: &mut Harness<'h>,
    pool: Option<&mut Pool<'h>>,
    ahead: &Ahead,
    started: Instant,
    reporter: &mut dyn Reporter,
) -> Result<CompileTimes, RunError> {
    ahead.begin();
    let builder = harness.context.builder.until(&ahead.ended);
    let meanwhile = pipeline::meanwhile(search.kernel);
    let build = |variant: &Variant| try_build(&builder, &variant.into());
    let (searched, times) =
        pipeline::run(&build, meanwhile, harness.compiled(), &ahead.ended, |pipeline| match pool {
            Some(pool) => search.run_on_pool(pipeline, harness, pool, started, reporter),
            None => search.run_on_own_worker(pipeline, harness, started, reporter),
        })?;
    searched.map(|()| times)
}

/// Searches on the harness's worker, or on those of a pool, until the search ends.
fn search_space(
    search: &mut Search<'_>,
    harness: &mut Harness<'_>,
    options: &TuneOptions<'_>,
    started: Instant,
    reporter: &mut dyn Reporter,
) -> Result<(CompileTimes, OfWorkers), RunError> {
    // A worker behind a runner may be lost and come back, also a single one.
    let is_pool = options.workers.len() > 1 || options.workers.iter().any(|options| !options.runner.is_empty());
    let mut pool = is_pool.then(|| Pool::new(harness, options.workers));
    let searched = run(search, harness, pool.as_mut(), options.ahead, started, reporter);
    let (mut of_workers, mut other_models) = (Vec::new(), Vec::new());
    if let Some(mut pool) = pool {
        other_models = pool.elsewhere();
        let compared = if searched.is_ok() {
            pool.calibrate(search, harness).and_then(|warnings| {
                of_workers = warnings;
                pool.examine(search, harness)
            })
        } else {
            Ok(())
        };
        pool.give_back(harness);
        compared?;
    }
    let compile = match searched {
        // The finals have information that a journal lacks, and a second Ctrl-C ends them.
        Err(RunError::Executor(ExecutorError::Interrupted)) if search.has_finalists() => {
            interrupt::forget();
            search.stopped = Some(Stopped::CtrlC);
            (harness.context.setup.notify)(&Notice::CutOff);
            CompileTimes::default()
        }
        searched => searched?,
    };
    Ok((compile, (of_workers, other_models)))
}

/// Measures the finalists beside each other. Where all of them are out, the next best take their place.
fn compare_finalists(
    search: &mut Search<'_>,
    harness: &mut Harness<'_>,
    reporter: &mut dyn Reporter,
) -> Result<(Vec<Tried>, Compared, objectives::Elsewhere), RunError> {
    let kernel = harness.kernel();
    let default = EntrantId::from(&kernel.space.default);
    let mut trusts_search = true;
    loop {
        let finalists = search.finalists(harness, reporter)?;
        let may_win = !trusts_search || finalists.first().is_none_or(|best| search.default_may_win(best));
        if !finalists.is_empty() {
            search.complete_default(harness, may_win)?;
        }
        let entrants = entrants(search, &finalists);
        reporter.event(finals(kernel, &entrants));
        let of_default = search.of_space(&kernel.space.default).and_then(Evaluation::p50);
        let p50s = finalists.iter().filter_map(|finalist| finalist.evaluation.p50());
        let longest = p50s.chain(of_default).fold(0.0, f64::max);
        let slow = (!may_win).then_some(&default);
        let compared = performance::compare_finalists(harness, kernel.search.shape, &entrants, slow, longest)?;
        if !may_win && tie::ties_with_fastest(&compared, &finalists, &default) {
            // The times of the search were wrong.
            trusts_search = false;
            continue;
        }
        let elsewhere = objectives::compare_elsewhere(harness, &entrants)?;
        for finalist in &finalists {
            if let Some(rejection) = objectives::rejection(&finalist.id(), &compared, &elsewhere) {
                let key = finalist.evaluation.key.clone();
                search.revoke(&key, rejection);
                harness.record(&Record::Revoked { key, rejection: rejection.clone(), by_check: false })?;
            }
        }
        let is_out = |finalist: &Tried| objectives::rejection(&finalist.id(), &compared, &elsewhere).is_some();
        if finalists.is_empty() || !finalists.iter().all(is_out) {
            return Ok((finalists, compared, elsewhere));
        }
    }
}

/// The first line of a run's journal.
pub fn start(kernel: &Kernel, device: &DeviceInfo, resumed: bool) -> journal::Start {
    let shapes = kernel.shapes.iter().filter(|shape| !shape.check_only);
    journal::Start {
        kernel: format!("{}/{}", kernel.package, kernel.name),
        device: device.name.clone(),
        time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        resumed,
        shapes: shapes.map(|shape| (shape.name.clone(), shape.dims.iter().cloned().collect())).collect(),
        timing: Some((&kernel.timing).into()),
        default: kernel.space.settings(&kernel.space.default),
        objectives: ObjectiveRecord::all(kernel),
        table: kernel.table.clone(),
        partition: kernel.search.partition,
        ..journal::Start::default()
    }
}

fn spent(wall: f64, proposer: f64, compiled: Duration, compile: &CompileTimes, device: &DeviceTimes) -> Spent {
    let spent = [device.verify, device.time, device.tools, compile.waited];
    let [verify, time, tools, idle] = spent.map(|spent| spent.as_secs_f64());
    let cores = idle * compile.threads as f64;
    Spent {
        compile: compiled.as_secs_f64(),
        verify,
        time,
        tools,
        idle,
        proposer,
        overhead: (wall - verify - time - tools - idle - proposer).max(0.0),
        utilisation: (idle > MATTERS).then(|| compile.busy_while_waited.as_secs_f64() / cores),
    }
}

/// Entrants of the finals: the finalists, the best of them a second time, the default and the baselines.
fn entrants(search: &Search<'_>, finalists: &[Tried]) -> Vec<Entrant> {
    let Some(best) = finalists.first() else { return Vec::new() };
    let mut entrants: Vec<Entrant> =
        finalists.iter().map(|finalist| Entrant::Candidate(finalist.candidate.clone())).collect();
    entrants.push(Entrant::Again(best.candidate.clone()));
    let default = &search.kernel.space.default;
    // A finalist with the same machine code represents the default.
    if search.survived(default) && !finalists.iter().any(|finalist| search.is_identical(finalist, default)) {
        entrants.push(Entrant::Candidate(default.into()));
    }
    entrants.extend((0..search.kernel.baselines.len()).map(Entrant::Baseline));
    entrants
}

/// Number of valid variants, if they can be counted.
pub fn space_size(kernel: &Kernel) -> Option<u64> {
    kernel.space.solve().count().and_then(|valid| u64::try_from(valid).ok())
}

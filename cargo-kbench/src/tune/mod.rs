//! The one loop: ask, build, evaluate, tell; then the finalists against each other and the baselines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kbench_runtime::protocol::DeviceInfo;
use kbench_runtime::stats::Speedup;
use serde::{Deserialize, Serialize};

use crate::config::{BaselineKind, Kernel};
use crate::evaluate::{Attempt, Builder, Compared, DeviceTimes, Doing, Entrant, Judged, RunError, Workbench};
use crate::gates;
use crate::gates::performance::Verdict;
use crate::profile::Profile;
use crate::record::elite::EliteEntry;
use crate::record::evaluation::{Evaluation, Outcome, Rejection, Sanitized};
use crate::record::journal::{self, Journal, Recall, Record};
use crate::record::objective::ObjectiveRecord;
use crate::space::{Settings, Variant};
use crate::tune::warm::WarmStart;

mod asker;
mod conclusion;
pub mod cover;
mod gate;
mod objectives;
pub mod per_shape;
mod pipeline;
mod proposals;
pub mod proposer;
mod search;
mod tie;
pub mod warm;

pub use gate::{Gated, gate, gates_of};
pub use pipeline::Ahead;

use pipeline::{CompileTimes, Meanwhile, Pipeline};
use proposals::Proposals;
use search::{Search, Tried};

/// Seconds of a build or of waiting for one that matter.
const MATTERS: f64 = 0.05;

/// What happens, for reporters.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Work on a kernel begins.
    Started {
        /// The kernel.
        kernel: &'a Kernel,
        /// The device, once one is open.
        device: Option<&'a DeviceInfo>,
        /// Most variants that will be tried.
        total: u64,
        /// What is done with them.
        doing: &'a Doing,
        /// How long the finals may take.
        finals: Duration,
    },
    /// Some of a batch have been compiled.
    Built {
        /// So many.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// A variant was tried.
    Evaluated {
        /// Its record.
        evaluation: &'a Evaluation,
        /// Its label.
        label: &'a str,
        /// Variants tried so far.
        done: u64,
        /// Most that will be tried.
        total: u64,
        /// Label of the best so far, and its first objective.
        best: Option<(&'a str, f64)>,
    },
    /// A proposer handed in sources.
    Proposed {
        /// Which round, from 1.
        round: u64,
        /// How many will be tried.
        proposals: usize,
    },
    /// A variant ran under the sanitizers.
    Sanitized {
        /// Its label.
        label: &'a str,
        /// What they said.
        sanitized: &'a Sanitized,
    },
    /// A variant was profiled for the counters gate.
    Profiled {
        /// Its label.
        label: &'a str,
        /// What was found.
        judged: &'a Judged,
    },
    /// The finalists are measured together.
    Finals {
        /// How many, baselines included.
        entrants: usize,
        /// So many of them are programs.
        programs: usize,
        /// How long that may take.
        at_most: Duration,
    },
}

/// Whoever wants to know what happens.
pub trait Reporter: Send {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
}

/// How to autotune.
#[derive(Debug, Clone)]
pub struct TuneOptions<'a> {
    /// Where the journal is.
    pub journal: &'a Path,
    /// What the journal knows and need not be measured again.
    pub recall: Recall,
    /// Where sources of a proposer are kept.
    pub proposed: &'a Path,
    /// The folder of elite.json, which names them relative to it.
    pub root: &'a Path,
    /// What to try right after the default.
    pub warm: &'a WarmStart,
    /// What was begun before.
    pub ahead: &'a Ahead,
    /// The winner that elite.json names for this kernel, device and shape, where it is no proposal.
    pub on_file: Option<&'a Settings>,
}

/// What tuning a kernel found.
#[derive(Debug, Clone, Serialize)]
pub struct Tuned {
    /// The entry for elite.json; its `elite` is empty where no variant survived.
    pub entry: EliteEntry,
    /// The winner against the default variant, where both were measured.
    pub over_default: Option<Comparison>,
    /// The winner against the runner-up.
    pub over_second: Option<Comparison>,
    /// Performance limits at the search's shape that the winner misses.
    pub missed: Vec<Rejection>,
    /// What gates at level `warn` found of the winner.
    pub warnings: Vec<String>,
    /// Examples of rejections: for each `gate/reason` the first variant's label and message.
    pub examples: BTreeMap<String, (String, String)>,
    /// Variants whose measurement another's served.
    pub twins: u64,
    /// Variants that an earlier run measured.
    pub recalled: u64,
    /// Variants that the run which is resumed measured.
    pub resumed: u64,
    /// Whether it measured the finals too.
    pub finals_resumed: bool,
    /// Why the search ended early, where it did.
    pub stopped: Option<&'static str>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Where it went.
    pub spent: Spent,
}

/// Where the wall time of a search went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
    /// Compiling, all threads together; most of it beside the rest, some of it before.
    pub compile: f64,
    /// Checking variants.
    pub verify: f64,
    /// Timing them, the finals included.
    pub time: f64,
    /// Sanitizers and profilers.
    pub tools: f64,
    /// The device waiting for a compiler.
    pub idle: f64,
    /// Waiting for the proposer.
    pub proposer: f64,
    /// Everything else.
    pub own: f64,
    /// Part of the cores that compiled while the device waited, 0 to 1; none where it hardly did.
    pub utilisation: Option<f64>,
}

/// A speed-up with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// By the rounds' ratios, with its interval.
    pub speedup: Speedup,
    /// What it means.
    pub verdict: Verdict,
}

impl Comparison {
    /// Of `name` over `other`; none where they were not measured together. Identical machine code is never faster or
    /// slower, whatever the samples say, and no difference counts that identical machine code showed in the same comparison. A p50 that
    /// is not known decides nothing.
    pub fn of(compared: &Compared, name: &str, other: &str) -> Option<Self> {
        let speedup = compared.speedup(name, other).ok()?;
        let same = compared.same_program(name, other);
        let is_known = compared.is_known(name) && compared.is_known(other);
        let is_noise = || compared.noise_floor().is_some_and(|floor| (speedup.ratio - 1.0).abs() <= floor);
        let verdict = match gates::performance::verdict(&speedup) {
            _ if same => Verdict::Same,
            _ if !is_known => Verdict::Undecided,
            Verdict::Faster | Verdict::Slower if is_noise() => Verdict::Undecided,
            verdict => verdict,
        };
        Some(Self { speedup, verdict })
    }
}

/// Compiles variants on all cores, without a device.
pub fn build_all(
    builder: &Builder<'_>,
    variants: &[Variant],
    reporter: &mut dyn Reporter,
) -> Result<Vec<Attempt>, RunError> {
    let total = variants.len() as u64;
    let build = |pipeline: &Pipeline<'_>| {
        for variant in variants {
            pipeline.want(variant);
        }
        let mut attempts = Vec::with_capacity(variants.len());
        for variant in variants {
            let taken = attempts.len() as u64;
            let attempt =
                pipeline.take(variant, None, |built, _| reporter.event(Event::Built { done: taken + built, total }));
            attempts.push(attempt.expect("there is no deadline")?);
        }
        reporter.event(Event::Built { done: total, total });
        Ok(attempts)
    };
    let ended = AtomicBool::new(false);
    let builder = builder.until(&ended);
    pipeline::run(&|variant| builder.build(variant), Meanwhile::Compile, Duration::ZERO, &ended, build).0
}

/// Searches a kernel's space on an open bench.
pub fn autotune(
    bench: &mut Workbench<'_>,
    device: &DeviceInfo,
    options: &TuneOptions<'_>,
    reporter: &mut dyn Reporter,
) -> Result<Tuned, RunError> {
    let started = Instant::now();
    let kernel = bench.kernel;
    bench.pursue_objectives()?;
    let (mut journal, known) = Journal::open(options.journal, options.recall)?;
    let damaged = known.damaged;
    journal.start(start(kernel, device, options.recall == Recall::Run))?;
    bench.attach(journal, known);

    let mut search = Search::new(kernel, options.ahead.candidates(kernel), options.warm);
    // The elite, the default, the winner once more, and the baselines.
    let at_most = sampling(kernel, kernel.search.elite + 2 + kernel.baselines.len());
    let doing = bench.doing.clone();
    reporter.event(Event::Started {
        kernel,
        device: Some(device),
        total: search.total,
        doing: &doing,
        finals: at_most,
    });
    let mut compile = search.run(bench, options.ahead, started, reporter)?;
    let rounds = Proposals::new(options, device, started, reporter).run(&mut search, bench, &mut compile)?;

    // Finalists that are all out make room for the next best.
    let (finalists, compared, elsewhere) = loop {
        let finalists = search.finalists(bench, reporter)?;
        if !finalists.is_empty() {
            search.complete_default(bench)?;
        }
        let entrants = entrants(&search, &finalists);
        reporter.event(finals(kernel, &entrants));
        let compared = bench.as_timing(|bench| bench.compare(kernel.search.shape, &entrants))?;
        let elsewhere = bench.as_timing(|bench| objectives::compare_elsewhere(bench, &entrants))?;
        for Tried { evaluation, .. } in &finalists {
            if let Some(rejection) = compared.unavailable.get(&evaluation.label()) {
                bench.record(&Record::Revoked { key: evaluation.key.clone(), rejection: rejection.clone() })?;
                search.revoke(&evaluation.key, rejection);
            }
        }
        let is_out = |finalist: &Tried| compared.unavailable.contains_key(&finalist.evaluation.label());
        if finalists.is_empty() || !finalists.iter().all(is_out) {
            break (finalists, compared, elsewhere);
        }
    };
    let candidates = search.with_default(finalists, &compared, bench, reporter)?;
    bench.record(&Record::End { evaluations: search.evaluated })?;
    let mut tuned = search.conclude(device, &candidates, &compared, &elsewhere, options.on_file);
    if let Some(why) = bench.drifted() {
        tuned.warnings.push(format!("what earlier runs measured counts for nothing: {why}"));
    }
    if damaged > 0 {
        tuned.warnings.push(journal::damage(damaged));
    }
    tuned.seconds = started.elapsed().as_secs_f64();
    let thinking = rounds.as_ref().map_or(0.0, |rounds| rounds.thinking.as_secs_f64());
    tuned.spent = spent(tuned.seconds, thinking, bench.compiled(), &compile, &bench.times);
    if let Some(rounds) = rounds {
        tuned.warnings.extend(rounds.record.failed.iter().map(|why| format!("the proposer was given up: {why}")));
        tuned.entry.search.evaluated -= rounds.record.evaluated;
        tuned.entry.search.proposer = Some(rounds.record);
    }
    Ok(tuned)
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
        ..journal::Start::default()
    }
}

/// Runs a variant that passed so far under the sanitizers; gives their runs, none where the table asks for none.
fn sanitize(
    bench: &mut Workbench<'_>,
    variant: &Variant,
    evaluation: &mut Evaluation,
    reporter: &mut dyn Reporter,
) -> Result<Vec<String>, RunError> {
    if evaluation.rejection().is_some() {
        return Ok(Vec::new());
    }
    let Some(sanitized) = bench.under_tools(|bench| bench.sanitize(variant))? else { return Ok(Vec::new()) };
    reporter.event(Event::Sanitized { label: &bench.label(variant), sanitized: &sanitized });
    evaluation.warnings.extend(sanitized.warnings);
    if let Some(rejection) = sanitized.rejection {
        evaluation.outcome = Outcome::Rejected(rejection);
    }
    Ok(sanitized.runs)
}

/// Judges the counters of a variant that passed so far; gives its profiles, none where the table asks for none.
fn judge_counters(
    bench: &mut Workbench<'_>,
    variant: &Variant,
    evaluation: &mut Evaluation,
    reporter: &mut dyn Reporter,
) -> Result<Vec<Profile>, RunError> {
    if evaluation.rejection().is_some() {
        return Ok(Vec::new());
    }
    let judged = bench.under_tools(|bench| bench.judge_counters(variant, evaluation))?;
    let Some(judged) = judged else { return Ok(Vec::new()) };
    reporter.event(Event::Profiled { label: &bench.label(variant), judged: &judged });
    evaluation.warnings.extend(judged.warnings);
    if let Some(rejection) = judged.rejection {
        evaluation.outcome = Outcome::Rejected(rejection);
    }
    Ok(judged.profiles)
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
        own: (wall - verify - time - tools - idle - proposer).max(0.0),
        utilisation: (idle > MATTERS).then(|| compile.busy_while_waited.as_secs_f64() / cores),
    }
}

/// Who takes part in the finals: the finalists, the best of them once more, the default and the baselines.
fn entrants(search: &Search<'_>, finalists: &[Tried]) -> Vec<Entrant> {
    let Some(best) = finalists.first() else { return Vec::new() };
    let mut entrants: Vec<Entrant> = finalists.iter().map(Tried::entrant).collect();
    entrants.push(Entrant::Again(best.entrant().into()));
    let default = &search.kernel.space.default;
    // Its twin among the finalists stands for it.
    if search.survived(default) && !finalists.iter().any(|finalist| search.is_twin(finalist, default)) {
        entrants.push(Entrant::Variant(default.clone()));
    }
    entrants.extend((0..search.kernel.baselines.len()).map(Entrant::Baseline));
    entrants
}

fn finals(kernel: &Kernel, entrants: &[Entrant]) -> Event<'static> {
    let is_program = |entrant: &&Entrant| matches!(entrant, Entrant::Baseline(index) if matches!(kernel.baselines[*index].kind, BaselineKind::Command(_)));
    let programs = entrants.iter().filter(is_program).count();
    Event::Finals { entrants: entrants.len(), programs, at_most: sampling(kernel, entrants.len()) }
}

/// How long the samples of so many entrants may take.
fn sampling(kernel: &Kernel, entrants: usize) -> Duration {
    Duration::try_from_secs_f64(kernel.timing.max_seconds * entrants as f64).unwrap_or(Duration::MAX)
}

/// Valid variants, where they can be counted.
pub fn space_size(kernel: &Kernel) -> Option<u64> {
    kernel.space.solve().count().and_then(|valid| u64::try_from(valid).ok())
}

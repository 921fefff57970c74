//! The one loop: ask, build, evaluate, tell; then the finalists against each other and the baselines.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kbench_runtime::protocol::DeviceInfo;
use kbench_runtime::stats::Speedup;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::{BaselineKind, Kernel, PerformanceBound};
use crate::elite::{BaselineRecord, EliteEntry, EliteVariant, SearchRecord};
use crate::evaluation::{Evaluation, Outcome, Rejection, Sanitized};
use crate::executor::{ExecutorError, INTERRUPTED};
use crate::gates;
use crate::gates::performance::Verdict;
use crate::journal::{self, Journal, Record};
use crate::search;
use crate::space::Variant;
use crate::workbench::{Attempt, Builder, Compared, Entrant, RunError, Workbench, dead_toggles};

/// The name that the default variant has among the baselines.
pub const DEFAULT: &str = "default";

/// Variants that each core compiles before they are measured.
const CHUNK: usize = 4;

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
        /// Label and p50 in nanoseconds of the best so far.
        best: Option<(&'a str, f64)>,
    },
    /// A variant ran under the sanitizers.
    Sanitized {
        /// Its label.
        label: &'a str,
        /// What they said.
        sanitized: &'a Sanitized,
    },
    /// The finalists are measured together.
    Finals {
        /// How many, baselines included.
        entrants: usize,
        /// So many of them are programs.
        programs: usize,
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
    /// Whether to go on from what the journal knows.
    pub resume: bool,
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
    /// Performance limits that the winner misses.
    pub missed: Vec<Rejection>,
    /// What gates at level `warn` found of the winner.
    pub warnings: Vec<String>,
    /// Examples of rejections: for each `gate/reason` the first variant's label and message.
    pub examples: BTreeMap<String, (String, String)>,
    /// Variants whose measurement another's served.
    pub twins: u64,
    /// Why the search ended early, where it did.
    pub stopped: Option<&'static str>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// A speed-up with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The ratio of p50s and its interval.
    pub speedup: Speedup,
    /// What it means.
    pub verdict: Verdict,
}

impl Comparison {
    /// Of `name` over `other`; none where they were not measured together. Identical machine code is never faster or
    /// slower, whatever the samples say.
    pub fn of(compared: &Compared, name: &str, other: &str) -> Option<Self> {
        let speedup = compared.speedup(name, other).ok()?;
        let same = compared.same_program(name, other);
        let verdict = if same { Verdict::Same } else { gates::performance::verdict(&speedup) };
        Some(Self { speedup, verdict })
    }
}

/// Compiles a batch on all cores.
pub fn build_all(
    builder: &Builder<'_>,
    variants: &[Variant],
    reporter: &Mutex<&mut dyn Reporter>,
) -> Result<Vec<Attempt>, RunError> {
    let total = variants.len() as u64;
    let done = std::sync::atomic::AtomicU64::new(0);
    variants
        .par_iter()
        .map(|variant| {
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(ExecutorError::Interrupted.into());
            }
            let attempt = builder.build(variant);
            // A compiler that died of Ctrl-C is no verdict on the variant.
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(ExecutorError::Interrupted.into());
            }
            let attempt = attempt?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            reporter.lock().expect("no panic while held").event(Event::Built { done, total });
            Ok(attempt)
        })
        .collect()
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
    let (mut journal, known) = Journal::open(options.journal, options.resume)?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    journal.start(journal::Start {
        kernel: format!("{}/{}", kernel.package, kernel.name),
        device: device.name.clone(),
        time,
        resumed: options.resume,
        shapes: kernel.shapes.iter().map(|shape| (shape.name.clone(), shape.dims.iter().cloned().collect())).collect(),
        timing: Some((&kernel.timing).into()),
        default: kernel.space.settings(&kernel.space.default),
        ..journal::Start::default()
    })?;
    bench.attach(journal, known);

    let mut search = Search::new(kernel);
    reporter.event(Event::Started { kernel, device: Some(device), total: search.total() });
    search.run(bench, started, reporter)?;

    let finalists = search.finalists(bench, reporter)?;
    let mut entrants: Vec<Entrant> = finalists.iter().map(|(variant, _)| Entrant::Variant(variant.clone())).collect();
    let mut default_entrant = None;
    if !entrants.is_empty() {
        let default = &kernel.space.default;
        // Its twin among the finalists stands for it.
        if search.survived(default) && !finalists.iter().any(|(variant, _)| search.are_twins(variant, default)) {
            default_entrant = Some(Entrant::Variant(default.clone()));
        }
        entrants.extend(default_entrant.clone());
        entrants.extend((0..kernel.baselines.len()).map(Entrant::Baseline));
    }
    reporter.event(finals(kernel, &entrants));
    let compared = bench.compare(kernel.search.shape, &entrants)?;
    bench.record(&Record::End { evaluations: search.evaluated })?;
    Ok(search.conclude(device, &finalists, &compared, started))
}

/// The state of one search.
struct Search<'a> {
    kernel: &'a Kernel,
    strategy: Box<dyn search::Strategy>,
    evaluated: u64,
    twins: u64,
    tried: Vec<(Variant, Evaluation)>,
    best: Option<(String, f64)>,
    stopped: Option<&'static str>,
}

impl<'a> Search<'a> {
    fn new(kernel: &'a Kernel) -> Self {
        Self {
            kernel,
            strategy: search::strategy(&kernel.space, &kernel.search),
            evaluated: 0,
            twins: 0,
            tried: Vec::new(),
            best: None,
            stopped: None,
        }
    }

    /// Most variants that will be tried, as far as is known now.
    fn total(&self) -> u64 {
        let total = self.evaluated + self.strategy.remaining();
        self.kernel.search.evaluations.map_or(total, |budget| total.min(budget))
    }

    fn run(
        &mut self,
        bench: &mut Workbench<'_>,
        started: Instant,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        while self.stopped.is_none() {
            let remaining = self.strategy.remaining();
            let mut batch = self.strategy.ask();
            if batch.is_empty() {
                break;
            }
            let later = remaining.saturating_sub(batch.len() as u64);
            let budget = self.kernel.search.evaluations.map_or(u64::MAX, |budget| budget - self.evaluated);
            if batch.len() as u64 > budget {
                batch.truncate(budget as usize);
                self.stopped = Some("evaluations");
            }
            let total =
                (self.evaluated + batch.len() as u64 + later).min(self.kernel.search.evaluations.unwrap_or(u64::MAX));
            // In chunks, so that a budget of seconds is not spent on compiling what will never be measured.
            for chunk in batch.chunks(CHUNK * rayon::current_num_threads()) {
                let attempts = build_all(&bench.builder, chunk, &Mutex::new(reporter))?;
                for (variant, attempt) in chunk.iter().zip(attempts) {
                    // The default is always tried: everything is compared with it.
                    if self.evaluated > 0 && self.is_out_of_time(started) {
                        self.stopped = Some("seconds");
                        return Ok(());
                    }
                    self.evaluate(bench, variant, attempt, total, reporter)?;
                }
            }
        }
        Ok(())
    }

    fn is_out_of_time(&self, started: Instant) -> bool {
        self.kernel.search.seconds.is_some_and(|limit| started.elapsed() > Duration::from_secs(limit))
    }

    fn evaluate(
        &mut self,
        bench: &mut Workbench<'_>,
        variant: &Variant,
        attempt: Attempt,
        total: u64,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        let evaluation = bench.evaluate(variant, attempt)?;
        self.learn(variant, &evaluation);
        let label = self.kernel.space.label(variant);
        reporter.event(Event::Evaluated {
            evaluation: &evaluation,
            label: &label,
            done: self.evaluated,
            total,
            best: self.best.as_ref().map(|(label, p50)| (label.as_str(), *p50)),
        });
        self.tried.push((variant.clone(), evaluation));
        Ok(())
    }

    fn learn(&mut self, variant: &Variant, evaluation: &Evaluation) {
        self.evaluated += 1;
        self.twins += u64::from(evaluation.twin.is_some());
        let p50 = evaluation.p50();
        // Of twins the first stands for all: an elite should hold different programs.
        if evaluation.twin.is_none() {
            self.strategy.tell(variant, p50);
        }
        if let Some(p50) = p50.filter(|&p50| self.best.as_ref().is_none_or(|&(_, best)| p50 < best)) {
            self.best = Some((self.kernel.space.label(variant), p50));
        }
    }

    fn are_twins(&self, variant: &Variant, other: &Variant) -> bool {
        let key =
            |variant| self.tried.iter().find(|(tried, _)| tried == variant).map(|(_, evaluation)| &evaluation.key);
        variant == other || (key(variant).is_some() && key(variant) == key(other))
    }

    fn survived(&self, variant: &Variant) -> bool {
        self.tried.iter().any(|(tried, evaluation)| tried == variant && evaluation.p50().is_some())
    }

    /// The K best that are not twins of a better one and that the sanitizers let pass, best first.
    fn finalists(
        &mut self,
        bench: &mut Workbench<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<(Variant, Evaluation)>, RunError> {
        let p50 = |tried: &[(Variant, Evaluation)], index: usize| tried[index].1.p50().unwrap_or(f64::INFINITY);
        let mut ranked: Vec<usize> =
            (0..self.tried.len()).filter(|&index| self.tried[index].1.p50().is_some()).collect();
        // Stable: of twins the one tried first stands for both.
        ranked.sort_by(|&a, &b| p50(&self.tried, a).total_cmp(&p50(&self.tried, b)));
        let mut finalists: Vec<(Variant, Evaluation)> = Vec::new();
        let mut unsound: BTreeMap<String, Rejection> = BTreeMap::new();
        for index in ranked {
            if finalists.len() == self.kernel.search.elite {
                break;
            }
            let (variant, evaluation) = &mut self.tried[index];
            if finalists.iter().any(|(_, finalist)| finalist.key == evaluation.key) {
                continue;
            }
            if let Some(rejection) = unsound.get(&evaluation.key) {
                evaluation.outcome = Outcome::Rejected(rejection.clone());
                continue;
            }
            sanitize(bench, variant, evaluation, reporter)?;
            match evaluation.rejection() {
                Some(rejection) => drop(unsound.insert(evaluation.key.clone(), rejection.clone())),
                None => finalists.push((variant.clone(), evaluation.clone())),
            }
        }
        Ok(finalists)
    }

    fn conclude(
        &self,
        device: &DeviceInfo,
        finalists: &[(Variant, Evaluation)],
        compared: &Compared,
        started: Instant,
    ) -> Tuned {
        let kernel = self.kernel;
        let shape = &kernel.shapes[kernel.search.shape];
        let default_label = kernel.space.label(&kernel.space.default);
        let shown = |label: &str| if label == default_label { DEFAULT.to_owned() } else { label.to_owned() };

        let mut elite: Vec<(String, EliteVariant)> = finalists
            .iter()
            .filter_map(|(variant, evaluation)| {
                let label = kernel.space.label(variant);
                let timing = compared.entry(&label)?.timing.clone();
                let elite = EliteVariant {
                    rank: 0,
                    toggles: evaluation.toggles.clone(),
                    timing,
                    speedups: BTreeMap::new(),
                    errors: evaluation.errors.clone(),
                    builds: evaluation.builds.clone(),
                };
                Some((label, elite))
            })
            .collect();
        elite.sort_by(|(_, a), (_, b)| a.timing.summary.p50.total_cmp(&b.timing.summary.p50));
        let is_elite = |name: &str| elite.iter().any(|(label, _)| label == name);
        let baselines: Vec<BaselineRecord> = compared
            .entries
            .iter()
            .filter(|entry| entry.name == default_label || !is_elite(&entry.name))
            .map(|entry| BaselineRecord {
                name: shown(&entry.name),
                toggles: (entry.name == default_label).then(|| kernel.space.settings(&kernel.space.default)),
                timing: entry.timing.clone(),
                external: entry.external.clone(),
            })
            .collect();
        let others: Vec<String> = compared
            .entries
            .iter()
            .map(|entry| entry.name.clone())
            .filter(|name| *name == default_label || !is_elite(name))
            .collect();
        for (rank, (label, variant)) in elite.iter_mut().enumerate() {
            variant.rank = rank + 1;
            variant.speedups = others
                .iter()
                .filter(|name| *name != label)
                .filter_map(|name| Some((shown(name), compared.speedup(label, name).ok()?)))
                .collect();
        }
        let winner = elite.first().map(|(label, _)| label.clone());
        let over_default = winner
            .as_ref()
            .filter(|winner| **winner != default_label)
            .and_then(|winner| Comparison::of(compared, winner, &default_label));
        let over_second = winner
            .as_ref()
            .zip(elite.get(1))
            .and_then(|(winner, (second, _))| Comparison::of(compared, winner, second));
        let mut warnings = compared.warnings.clone();
        if let Some(winner) = &winner {
            let of_winner = finalists.iter().find(|(variant, _)| kernel.space.label(variant) == *winner);
            warnings.extend(of_winner.into_iter().flat_map(|(_, evaluation)| evaluation.warnings.clone()));
        }
        warnings.sort();
        warnings.dedup();
        let missed = winner.map(|winner| missed_limits(kernel, &winner, compared)).unwrap_or_default();

        let mut rejected = BTreeMap::new();
        let mut examples = BTreeMap::new();
        for (variant, evaluation) in &self.tried {
            if let Outcome::Rejected(rejection) = &evaluation.outcome {
                let reason = format!("{}/{}", rejection.gate, rejection.code);
                *rejected.entry(reason.clone()).or_insert(0) += 1;
                let example = || (kernel.space.label(variant), rejection.message.clone());
                examples.entry(reason).or_insert_with(example);
            }
        }
        let tried: Vec<(Variant, String)> =
            self.tried.iter().map(|(variant, evaluation)| (variant.clone(), evaluation.key.clone())).collect();
        let entry = EliteEntry {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            device: device.into(),
            shape: shape.name.clone(),
            dims: shape.dims.iter().cloned().collect(),
            timing: (&kernel.timing).into(),
            elite: elite.into_iter().map(|(_, variant)| variant).collect(),
            baselines,
            unavailable: compared.unavailable.iter().map(|(name, why)| (shown(name), why.to_string())).collect(),
            search: SearchRecord {
                strategy: serde_name(kernel.search.strategy),
                seed: kernel.search.seed,
                space: space_size(kernel),
                evaluated: self.evaluated,
                rejected,
                dead_toggles: dead_toggles(&kernel.space, &tried),
            },
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            kbench: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Tuned {
            entry,
            over_default,
            over_second,
            missed,
            warnings,
            examples,
            twins: self.twins,
            stopped: self.stopped,
            seconds: started.elapsed().as_secs_f64(),
        }
    }
}

/// Runs a variant that passed so far under the sanitizers; gives their runs, none where the table asks for none.
fn sanitize(
    bench: &mut Workbench<'_>,
    variant: &Variant,
    evaluation: &mut Evaluation,
    reporter: &mut dyn Reporter,
) -> Result<Vec<String>, RunError> {
    let Some(sanitized) = bench.sanitize(variant)? else { return Ok(Vec::new()) };
    reporter.event(Event::Sanitized { label: &bench.kernel.space.label(variant), sanitized: &sanitized });
    evaluation.warnings.extend(sanitized.warnings);
    if let Some(rejection) = sanitized.rejection {
        evaluation.outcome = Outcome::Rejected(rejection);
    }
    Ok(sanitized.runs)
}

fn finals(kernel: &Kernel, entrants: &[Entrant]) -> Event<'static> {
    let is_program = |entrant: &&Entrant| matches!(entrant, Entrant::Baseline(index) if matches!(kernel.baselines[*index].kind, BaselineKind::Command(_)));
    Event::Finals { entrants: entrants.len(), programs: entrants.iter().filter(is_program).count() }
}

/// Valid variants, where they can be counted.
pub fn space_size(kernel: &Kernel) -> Option<u64> {
    kernel.space.solve().count().and_then(|valid| u64::try_from(valid).ok())
}

/// A unit variant's name as users write it.
fn serde_name(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("not a unit variant: {other:?}"),
    }
}

/// The performance limits that a measured variant misses, at the shape of the comparison.
fn missed_limits(kernel: &Kernel, name: &str, compared: &Compared) -> Vec<Rejection> {
    let limits = kernel.gates.performance.iter().filter(|limit| limit.shape == kernel.search.shape);
    limits.filter_map(|limit| judge_limit(kernel, limit.shape, &limit.limit, name, compared)).collect()
}

/// One performance limit against a comparison at its shape.
fn judge_limit(
    kernel: &Kernel,
    shape: usize,
    bound: &PerformanceBound,
    name: &str,
    compared: &Compared,
) -> Option<Rejection> {
    let entry = compared.entry(name)?;
    let (baseline, speedup) = match bound {
        PerformanceBound::MaxP50Us(_) => (String::new(), Err(String::new())),
        PerformanceBound::MinSpeedup { over, .. } => {
            let baseline = &kernel.baselines[*over];
            // A baseline that is a variant was measured under the variant's label where it is one of the entrants.
            let label = match &baseline.kind {
                BaselineKind::Variant(variant) => kernel.space.label(variant),
                _ => baseline.name.clone(),
            };
            let speedup =
                compared.speedup(name, &baseline.name).or_else(|why| compared.speedup(name, &label).map_err(|_| why));
            (baseline.name.clone(), speedup)
        }
    };
    gates::performance::judge(bound, &kernel.shapes[shape].name, &entry.timing.summary, &baseline, speedup)
}

/// What gating one variant found.
#[derive(Debug, Clone)]
pub struct Gated {
    /// Its record; the outcome includes gate 3.
    pub evaluation: Evaluation,
    /// Runs under sanitizers, `memcheck at small`.
    pub sanitized: Vec<String>,
    /// The comparisons that gate 3 was judged by, with their shapes' indices; empty where an earlier gate rejected.
    pub compared: Vec<(usize, Compared)>,
    /// Its name in them.
    pub label: String,
}

/// Runs one variant through gates 1 to 3, and between the last two under the sanitizers, on an open bench.
pub fn gate(
    bench: &mut Workbench<'_>,
    device: &DeviceInfo,
    variant: &Variant,
    reporter: &mut dyn Reporter,
) -> Result<Gated, RunError> {
    let kernel = bench.kernel;
    reporter.event(Event::Started { kernel, device: Some(device), total: 1 });
    let attempt = bench.builder.build(variant)?;
    let evaluation = bench.evaluate(variant, attempt)?;
    let label = kernel.space.label(variant);
    let mut gated = Gated { evaluation, sanitized: Vec::new(), compared: Vec::new(), label: label.clone() };
    if gated.evaluation.rejection().is_none() {
        gated.sanitized = sanitize(bench, variant, &mut gated.evaluation, reporter)?;
    }
    if gated.evaluation.rejection().is_some() {
        return Ok(gated);
    }
    let mut shapes: Vec<usize> = kernel.gates.performance.iter().map(|limit| limit.shape).collect();
    if !kernel.baselines.is_empty() {
        shapes.push(kernel.search.shape);
    }
    shapes.sort_unstable();
    shapes.dedup();
    let mut entrants = vec![Entrant::Variant(variant.clone())];
    entrants.extend((0..kernel.baselines.len()).map(Entrant::Baseline));
    for shape in shapes {
        reporter.event(finals(kernel, &entrants));
        let compared = bench.compare(shape, &entrants)?;
        if let Some(rejection) = compared.unavailable.get(&label) {
            gated.evaluation.outcome = Outcome::Rejected(rejection.clone());
        }
        let limits = kernel.gates.performance.iter().filter(|limit| limit.shape == shape);
        for limit in limits {
            let finding = judge_limit(kernel, shape, &limit.limit, &label, &compared);
            let level = kernel.gates.performance_level;
            let finding = gates::at_level(level, finding, &mut gated.evaluation.warnings);
            if let Some(rejection) = finding.filter(|_| gated.evaluation.rejection().is_none()) {
                gated.evaluation.outcome = Outcome::Rejected(rejection);
            }
        }
        gated.evaluation.warnings.extend(compared.warnings.iter().cloned());
        gated.compared.push((shape, compared));
    }
    Ok(gated)
}

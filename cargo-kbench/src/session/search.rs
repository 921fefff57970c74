//! The search's side of the session: ask, build, evaluate, tell; and who is in the finals.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pipeline::{self, CompileTimes, Meanwhile, Pipeline};
use super::{Event, Reporter, judge_counters, sanitize};
use crate::compile::Resources;
use crate::config::{self, BaselineKind, Kernel, Objective};
use crate::elite::WarmVariant;
use crate::evaluation::{Evaluation, Outcome, Rejection};
use crate::search::{self, Candidates};
use crate::space::Variant;
use crate::warm::WarmStart;
use crate::workbench::{Attempt, Entrant, Proposed, Race, RunError, Workbench};

/// Variants that each core compiles before they are measured, where these cores are the device.
const CHUNK: usize = 4;

/// Variants that each core may compile between two looks at what is likely.
const LIKELY: usize = 4;

/// A variant with its record.
#[derive(Clone)]
pub(super) struct Tried {
    pub(super) variant: Variant,
    /// Its source, where that is not the kernel's own.
    pub(super) source: Option<Arc<Proposed>>,
    pub(super) evaluation: Evaluation,
}

impl Tried {
    pub(super) fn entrant(&self) -> Entrant {
        match &self.source {
            None => Entrant::Variant(self.variant.clone()),
            Some(source) => Entrant::Proposed(Arc::clone(source), self.variant.clone()),
        }
    }
}

/// The state of one search.
pub(super) struct Search<'a> {
    pub(super) kernel: &'a Kernel,
    /// The budget of the space: half of the whole where there is a proposer.
    limits: config::Search,
    /// What it begins with beside the default.
    pub(super) warm: Vec<WarmVariant>,
    strategy: Box<dyn search::Strategy>,
    /// Asked for and not yet tried, in the order of asking.
    pending: VecDeque<Variant>,
    pub(super) evaluated: u64,
    pub(super) twins: u64,
    pub(super) recalled: u64,
    /// All that was tried, in that order; proposals after the variants of the space.
    pub(super) tried: Vec<Tried>,
    best: Option<(String, f64)>,
    /// Why the search ended early.
    pub(super) stopped: Option<&'static str>,
}

/// The budget of the space.
fn limits(kernel: &Kernel) -> config::Search {
    let mut limits = kernel.search.clone();
    if limits.proposer.is_some() {
        limits.evaluations = limits.evaluations.map(|most| most.div_ceil(2));
        limits.seconds = limits.seconds.map(|most| most.div_ceil(2));
    }
    limits
}

fn strategy(kernel: &Kernel, limits: &config::Search, warm: &WarmStart) -> Box<dyn search::Strategy> {
    let candidates = Candidates::new(&kernel.space).beginning_with(warm.variants.iter().cloned());
    search::front::strategy_for(kernel.objectives.len(), &candidates, limits)
}

/// What a search asks for first, where nothing did well elsewhere; if these are fewer than `n`, also what is likely.
pub(super) fn first(kernel: &Kernel, n: usize) -> Vec<Variant> {
    let limits = limits(kernel);
    let most = limits.evaluations.map_or(n, |budget| n.min(budget as usize));
    let mut strategy = strategy(kernel, &limits, &WarmStart::default());
    let mut first = strategy.ask(strategy.batch().min(most));
    first.extend(strategy.likely(most - first.len()));
    first
}

impl<'a> Search<'a> {
    pub(super) fn new(kernel: &'a Kernel, warm: &WarmStart) -> Self {
        let limits = limits(kernel);
        Self {
            kernel,
            strategy: strategy(kernel, &limits, warm),
            limits,
            warm: warm.records.clone(),
            pending: VecDeque::new(),
            evaluated: 0,
            twins: 0,
            recalled: 0,
            tried: Vec::new(),
            best: None,
            stopped: None,
        }
    }

    /// Most variants that will be tried, as far as is known now.
    pub(super) fn total(&self) -> u64 {
        (self.evaluated + self.pending.len() as u64 + self.strategy.remaining()).min(self.budget())
    }

    pub(super) fn run(
        &mut self,
        bench: &mut Workbench<'_>,
        started: Instant,
        reporter: &mut dyn Reporter,
    ) -> Result<CompileTimes, RunError> {
        let builder = bench.builder.clone();
        let meanwhile = pipeline::meanwhile(self.kernel);
        let (searched, times) =
            pipeline::run(&|variant| builder.build(variant), meanwhile, bench.compiled(), |pipeline| {
                self.run_beside(pipeline, bench, started, reporter)
            });
        searched.map(|()| times)
    }

    fn run_beside(
        &mut self,
        pipeline: &Pipeline<'_>,
        bench: &mut Workbench<'_>,
        started: Instant,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        while self.ask(pipeline) {
            let variant = self.pending.pop_front().expect("something was asked for");
            let progress = |done, total| reporter.event(Event::Built { done, total });
            let attempt = pipeline.take(&variant, progress)?;
            // The default is always tried: everything is compared with it.
            if self.evaluated > 0 && self.is_out_of_time(started) {
                self.stopped = Some("seconds");
                break;
            }
            self.evaluate(bench, &variant, attempt, reporter)?;
        }
        Ok(())
    }

    /// Has the compilers build what comes next; false when nothing does.
    fn ask(&mut self, pipeline: &Pipeline<'_>) -> bool {
        let most = self.strategy.batch();
        let (room, threads) = match pipeline::meanwhile(self.kernel) {
            // One comes for each that goes, so that there is always something to compile.
            Meanwhile::Compile => (most.saturating_sub(self.pending.len()), pipeline.threads()),
            // All at once, since the compilers rest until the last one is measured; but what a budget of seconds may
            // never get to is not compiled first.
            Meanwhile::Rest if self.pending.is_empty() => {
                (if self.limits.seconds.is_some() { most.min(CHUNK * pipeline.threads()) } else { most }, 0)
            }
            Meanwhile::Rest => (0, 0),
        };
        let left = self.budget().saturating_sub(self.evaluated + self.pending.len() as u64);
        if left == 0 && self.strategy.remaining() > 0 {
            self.stopped = Some("evaluations");
        } else if room > 0 && self.stopped.is_none() {
            for variant in self.strategy.ask(room.min(left as usize)) {
                pipeline.want(&variant);
                self.pending.push_back(variant);
            }
            // What is pending is built soon; until the next look there is to be enough for all cores.
            if self.pending.len() < threads {
                let likely = self.strategy.likely((LIKELY * threads).min(left as usize));
                // The finals measure baselines, come what may.
                let baselines = self.kernel.baselines.iter().filter_map(|baseline| match &baseline.kind {
                    BaselineKind::Variant(variant) => Some(variant.clone()),
                    _ => None,
                });
                pipeline.speculate(likely.into_iter().chain(baselines));
            }
        }
        !self.pending.is_empty()
    }

    fn budget(&self) -> u64 {
        self.limits.evaluations.unwrap_or(u64::MAX)
    }

    fn is_out_of_time(&self, started: Instant) -> bool {
        self.limits.seconds.is_some_and(|limit| started.elapsed() > Duration::from_secs(limit))
    }

    fn evaluate(
        &mut self,
        bench: &mut Workbench<'_>,
        variant: &Variant,
        attempt: Attempt,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        let evaluation = bench.evaluate(variant, attempt, Some(Race { bar: self.bar() }))?;
        self.learn(variant, &evaluation);
        self.keep(Tried { variant: variant.clone(), source: None, evaluation }, reporter);
        Ok(())
    }

    /// Nanoseconds that a variant has to beat to be in the finals; none until there are enough others, or where other things than
    /// this time count.
    pub(super) fn bar(&self) -> Option<f64> {
        if self.kernel.objectives != [Objective::P50] {
            return None;
        }
        let finished = self.tried.iter().map(|tried| &tried.evaluation);
        let finished = finished.filter(|evaluation| evaluation.twin.is_none() && !evaluation.is_raced());
        let mut p50s: Vec<f64> = finished.filter_map(Evaluation::p50).collect();
        p50s.sort_unstable_by(f64::total_cmp);
        p50s.get(self.kernel.search.elite - 1).copied()
    }

    fn learn(&mut self, variant: &Variant, evaluation: &Evaluation) {
        if let Some(build) = evaluation.builds.first() {
            self.strategy.compiled(variant, &build.resources);
        }
        if let [first, second] = &evaluation.objectives[..] {
            self.strategy.measured(variant, [first.told(), second.told()]);
        }
        self.strategy.tell(variant, evaluation.into());
    }

    /// Keeps what was tried, and tells of it.
    pub(super) fn keep(&mut self, tried: Tried, reporter: &mut dyn Reporter) {
        let evaluation = &tried.evaluation;
        self.evaluated += 1;
        self.twins += u64::from(evaluation.twin.is_some());
        self.recalled += u64::from(evaluation.recalled);
        let label = evaluation.label();
        let value =
            evaluation.objectives.first().map(|objective| objective.value).filter(|_| evaluation.p50().is_some());
        if let Some(value) = value.filter(|&value| self.best.as_ref().is_none_or(|&(_, best)| value < best)) {
            self.best = Some((label.clone(), value));
        }
        let total = if tried.source.is_none() { self.total() } else { self.evaluated };
        reporter.event(Event::Evaluated {
            evaluation,
            label: &label,
            done: self.evaluated,
            total,
            best: self.best.as_ref().map(|(label, value)| (label.as_str(), *value)),
        });
        self.tried.push(tried);
    }

    /// Variants of the space that were tried.
    pub(super) fn variants(&self) -> u64 {
        self.tried.iter().filter(|tried| tried.source.is_none()).count() as u64
    }

    pub(super) fn of_space(&self, variant: &Variant) -> Option<&Evaluation> {
        let tried = self.tried.iter().find(|tried| tried.source.is_none() && tried.variant == *variant);
        tried.map(|tried| &tried.evaluation)
    }

    /// Whether something tried is a variant of the space, or the same program.
    pub(super) fn is_twin(&self, tried: &Tried, other: &Variant) -> bool {
        let same = tried.source.is_none() && tried.variant == *other;
        same || self.of_space(other).is_some_and(|other| other.key == tried.evaluation.key)
    }

    pub(super) fn survived(&self, variant: &Variant) -> bool {
        self.of_space(variant).is_some_and(|evaluation| evaluation.p50().is_some())
    }

    /// What the compiler said of a variant, at the search's shape.
    pub(super) fn resources(&self, evaluation: &Evaluation) -> Option<Resources> {
        let shape = &self.kernel.shapes[self.kernel.search.shape].name;
        evaluation.builds.iter().find(|build| build.shapes.contains(shape)).map(|build| build.resources)
    }

    /// Places of what has a time, best first. Of equal objectives, as counts may be, the faster one is better.
    fn ranked(&self) -> Vec<usize> {
        let rank = |index: usize| {
            let evaluation = &self.tried[index].evaluation;
            [evaluation.objective(), evaluation.p50()].map(|value| value.unwrap_or(f64::INFINITY))
        };
        let has_time = |evaluation: &Evaluation| evaluation.p50().is_some() && !evaluation.is_raced();
        let mut ranked: Vec<usize> =
            (0..self.tried.len()).filter(|&index| has_time(&self.tried[index].evaluation)).collect();
        // Stable: of twins the one tried first stands for both.
        ranked.sort_by(|&a, &b| {
            let ([of_a, p50_of_a], [of_b, p50_of_b]) = (rank(a), rank(b));
            of_a.total_cmp(&of_b).then(p50_of_a.total_cmp(&p50_of_b))
        });
        ranked
    }

    /// The K best that are different programs, best first.
    pub(super) fn best_distinct(&self) -> Vec<&Tried> {
        let mut best: Vec<&Tried> = Vec::new();
        for index in self.ranked() {
            let tried = &self.tried[index];
            if best.len() < self.limits.elite && best.iter().all(|other| other.evaluation.key != tried.evaluation.key) {
                best.push(tried);
            }
        }
        best
    }

    /// The K best that are not twins of a better one and that the sanitizers let pass, best first.
    pub(super) fn finalists(
        &mut self,
        bench: &mut Workbench<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Tried>, RunError> {
        if self.kernel.objectives.len() > 1 {
            return self.front_finalists(bench, reporter);
        }
        let mut finalists: Vec<Tried> = Vec::new();
        let mut unsound: BTreeMap<String, Rejection> = BTreeMap::new();
        for index in self.ranked() {
            if finalists.len() == self.kernel.search.elite {
                break;
            }
            let Tried { variant, source, evaluation } = &mut self.tried[index];
            if finalists.iter().any(|finalist| finalist.evaluation.key == evaluation.key) {
                continue;
            }
            if let Some(rejection) = unsound.get(&evaluation.key) {
                evaluation.outcome = Outcome::Rejected(rejection.clone());
                continue;
            }
            bench.on(source.as_ref(), |bench| -> Result<(), RunError> {
                sanitize(bench, variant, evaluation, reporter)?;
                judge_counters(bench, variant, evaluation, reporter)?;
                Ok(())
            })?;
            match evaluation.rejection() {
                Some(rejection) => drop(unsound.insert(evaluation.key.clone(), rejection.clone())),
                None => finalists.push(self.tried[index].clone()),
            }
        }
        Ok(finalists)
    }
}

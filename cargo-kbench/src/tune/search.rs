//! The state of a search: ask, build, evaluate, tell.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kbench_runtime::driver::threads;

use super::asker::{self, Asked, Asker, Learned};
use super::pipeline::Pipeline;
use super::strategy::{limits, strategy};
use crate::build::Resources;
use crate::config::{self, Kernel, Objective};
use crate::evaluate::{Anticipated, BuildOutcome, complete, complete_as_baseline, evaluate_shared};
use crate::gates::performance::EntrantId;
use crate::harness::{Candidate, Event, Harness, Reporter, RunError, Step};
use crate::profile::ceilings::Ceilings;
use crate::record::conclusion::Stopped;
use crate::record::elite::WarmVariant;
use crate::record::evaluation::Evaluation;
use crate::search::{self, Candidates};
use crate::space::Variant;
use crate::tune::headroom::Headroom;
use crate::tune::warm::WarmStart;

/// A candidate with its record.
#[derive(Clone)]
pub(super) struct Tried {
    pub(super) candidate: Candidate,
    pub(super) evaluation: Arc<Evaluation>,
}

impl Tried {
    /// Identity in comparisons.
    pub(super) fn id(&self) -> EntrantId {
        self.candidate.clone().into()
    }
}

/// The state of one search.
pub(super) struct Search<'a> {
    pub(super) kernel: &'a Kernel,
    /// Budget of the space: half of the whole if there is a proposer.
    pub(super) limits: config::Search,
    /// Variants that the search tries first, beside the default.
    pub(super) warm: Vec<WarmVariant>,
    /// The strategy, until the search runs.
    strategy: Option<Box<dyn search::Strategy>>,
    /// Largest number of variants that will be tried, as far as is known.
    pub(super) total: u64,
    /// Whether the finals compare all variants but those that are clearly slower: there are no more than the elite and the default.
    pub(super) has_coarse_ranks: bool,
    pub(super) evaluated: u64,
    pub(super) identical_code: u64,
    pub(super) cached: u64,
    pub(super) resumed: u64,
    /// All tried variants in order; proposals follow the variants of the space.
    pub(super) tried: Vec<Tried>,
    best: Option<(String, f64)>,
    /// Indices of the fastest variants that were timed to the end, fastest first; as many as there are finalists.
    pub(super) fastest: Vec<usize>,
    /// Share of the nearest ceiling, in percent, at which the search ends, and the ceilings.
    aim: Option<(f64, Ceilings)>,
    /// Number of tried variants that were compared with that share.
    aimed: usize,
    /// Reason why the share in the table cannot be judged.
    pub(super) aimless: Option<String>,
    /// Factor of the worker that measured the variant of a key, if that worker is slower than others: `1.05` is 5 %
    /// slower.
    pub(super) slowness: HashMap<String, f64>,
    /// Reason why the search ended early.
    pub(super) stopped: Option<Stopped>,
}

/// Outcome of an evaluation for the strategy.
pub(super) fn learned(variant: &Variant, evaluation: &Evaluation) -> Learned {
    let objectives = match &evaluation.objectives[..] {
        [first, second] => Some([first.told(), second.told()]),
        _ => None,
    };
    Learned {
        variant: variant.clone(),
        resources: evaluation.builds.first().map(|build| (&build.resources).into()),
        objectives,
        outcome: evaluation.into(),
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(kernel: &'a Kernel, candidates: Candidates, warm: &WarmStart) -> Self {
        let limits = limits(kernel);
        // The total is no bound: a strategy may learn of more variants later.
        let budget = limits.evaluations.map(u128::from);
        let most = [budget, candidates.len()].into_iter().flatten().min();
        let strategy = strategy(candidates, kernel, &limits, warm);
        Self {
            kernel,
            total: asker::total(&limits, &*strategy, 0),
            has_coarse_ranks: kernel.objectives == [Objective::P50]
                && kernel.search.proposer.is_none()
                && most.is_some_and(|most| most <= kernel.search.elite as u128 + 1),
            strategy: Some(strategy),
            limits,
            warm: warm.records.clone(),
            evaluated: 0,
            identical_code: 0,
            cached: 0,
            resumed: 0,
            tried: Vec::new(),
            best: None,
            fastest: Vec::new(),
            aim: None,
            aimed: 0,
            aimless: None,
            slowness: HashMap::new(),
            stopped: None,
        }
    }

    /// The strategy, to run on a thread of its own.
    pub(super) fn asker<'p, 'b>(
        &mut self,
        limits: &'p config::Search,
        pipeline: &'p Pipeline<'b>,
        workers: usize,
    ) -> Asker<'p, 'b>
    where
        'a: 'p,
    {
        let strategy = self.strategy.take().expect("a search runs once");
        Asker { kernel: self.kernel, limits, strategy, pipeline, workers, pending: 0, evaluated: 0, stopped: None }
    }

    /// Searches on the harness's own worker.
    pub(super) fn run_on_own_worker(
        &mut self,
        pipeline: &Pipeline<'_>,
        harness: &mut Harness<'_>,
        started: Instant,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        let limits = self.limits.clone();
        let doing = harness.doing.clone();
        let asker = self.asker(&limits, pipeline, 1);
        let (to_try, asked) = mpsc::channel();
        let (told, learned) = mpsc::channel();
        thread::scope(|scope| {
            let asker = threads::spawn_scoped(scope, move || asker.run(&learned, &|asked| to_try.send(asked).is_ok()))?;
            let mut anticipated = Anticipated::new(harness)?;
            // The asker ends the search by dropping its end of the channel; otherwise the budget or an error ends it.
            let each = |Asked { variants, total }| variants.into_iter().map(move |variant| (variant, total));
            let tried = asked.into_iter().flat_map(each).try_for_each(|(variant, total)| {
                self.total = total;
                doing.set(Step::Compiling);
                while !pipeline.is_built(&variant) && anticipated.compute(harness)? {}
                let mut progress = |done, total| reporter.event(Event::Built { done, total });
                let mut built = pipeline.take(&variant, self.deadline(started), &mut progress);
                if built.is_none() && self.evaluated == 0 {
                    // The default is always tried, since all variants are compared with it.
                    pipeline.want_only(&variant);
                    built = pipeline.take(&variant, None, &mut progress);
                }
                let Some(outcome) = built.transpose()? else {
                    self.stopped = Some(Stopped::Seconds);
                    return Err(None);
                };
                let learned = self.evaluate(harness, &variant, outcome, reporter)?;
                if self.has_arrived(harness) {
                    return Err(None);
                }
                // The channel is closed only after a panic of the asker's thread, which is reported below.
                told.send(learned).map_err(|_| None)
            });
            drop(told);
            let stopped = asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.stopped = self.stopped.or(stopped);
            match tried {
                Err(Some(error)) => Err(error),
                Ok(()) | Err(None) => Ok(()),
            }
        })
    }

    /// Sets the end of the search at the table's share of the nearest ceiling. The inner error is the reason why there
    /// is no ceiling.
    pub(super) fn aim(&mut self, ceilings: Result<Ceilings, String>) {
        match (self.kernel.search.roofline, ceilings) {
            (Some(share), Ok(ceilings)) => self.aim = Some((100.0 * share, ceilings)),
            (Some(_), Err(why)) => self.aimless = Some(format!("`search.stop.roofline` was not judged: {why}")),
            (None, _) => {}
        }
    }

    /// Whether a variant that was tried since the last call reaches the share of a ceiling at which the search ends.
    pub(super) fn has_arrived(&mut self, harness: &Harness<'_>) -> bool {
        let Some((share, ceilings)) = &self.aim else { return false };
        let arrives = |Tried { candidate, evaluation }: &Tried| {
            let timing = evaluation.timing.as_ref().filter(|_| evaluation.rejection().is_none())?;
            Headroom::of(&harness.context, ceilings, candidate, timing).filter(|headroom| headroom.percent >= *share)
        };
        let has_arrived = self.tried[self.aimed..].iter().any(|tried| arrives(tried).is_some());
        self.aimed = self.tried.len();
        if has_arrived {
            self.stopped = Some(Stopped::Roofline);
        }
        has_arrived
    }

    /// Deadline of a budget of seconds; none if no clock reaches it.
    pub(super) fn deadline(&self, started: Instant) -> Option<Instant> {
        self.limits.seconds.and_then(|limit| started.checked_add(Duration::from_secs(limit)))
    }

    fn evaluate(
        &mut self,
        harness: &mut Harness<'_>,
        variant: &Variant,
        outcome: BuildOutcome,
        reporter: &mut dyn Reporter,
    ) -> Result<Learned, RunError> {
        let candidate = Candidate::from(variant);
        let evaluation = evaluate_shared(harness, &candidate, outcome, Some(self.race()))?;
        let learned = learned(variant, &evaluation);
        self.keep(Tried { candidate, evaluation }, reporter);
        Ok(learned)
    }

    /// Records an evaluation and reports it.
    pub(super) fn keep(&mut self, tried: Tried, reporter: &mut dyn Reporter) {
        let evaluation = &tried.evaluation;
        self.evaluated += 1;
        self.identical_code += u64::from(evaluation.identical_code.is_some());
        self.cached += u64::from(evaluation.cached);
        self.resumed += u64::from(evaluation.resumed);
        let label = evaluation.label();
        let value =
            evaluation.objectives.first().map(|objective| objective.value).filter(|_| evaluation.p50().is_some());
        if let Some(value) = value.filter(|&value| self.best.as_ref().is_none_or(|&(_, best)| value < best)) {
            self.best = Some((label.clone(), value));
        }
        let total = if tried.candidate.source.is_none() { self.total } else { self.evaluated };
        reporter.event(Event::Evaluated {
            evaluation,
            label: &label,
            done: self.evaluated,
            total,
            best: self.best.as_ref().map(|(label, value)| (label.as_str(), *value)),
        });
        self.tried.push(tried);
        self.rank(self.tried.len() - 1);
    }

    /// Number of tried variants of the space.
    pub(super) fn variants(&self) -> u64 {
        self.tried.iter().filter(|tried| tried.candidate.source.is_none()).count() as u64
    }

    pub(super) fn of_space(&self, variant: &Variant) -> Option<&Evaluation> {
        let tried = self.tried.iter().find(|tried| tried.candidate.is(variant));
        tried.map(|tried| &*tried.evaluation)
    }

    /// Whether a tried variant is in the space, or is the same program as one that is.
    pub(super) fn is_identical(&self, tried: &Tried, other: &Variant) -> bool {
        tried.candidate.is(other) || self.of_space(other).is_some_and(|other| other.key == tried.evaluation.key)
    }

    pub(super) fn survived(&self, variant: &Variant) -> bool {
        self.of_space(variant).is_some_and(|evaluation| evaluation.p50().is_some())
    }

    /// Checks the default, if it has passed so far, since all variants are compared with it: in full if it may win beside the best
    /// finalist, else as a baseline.
    pub(super) fn complete_default(&mut self, harness: &mut Harness<'_>, may_win: bool) -> Result<(), RunError> {
        let default = &self.kernel.space.default;
        let of_default = self.tried.iter_mut().find(|tried| tried.candidate.is(default));
        let complete = if may_win { complete } else { complete_as_baseline };
        of_default.map_or(Ok(()), |tried| complete(harness, &tried.candidate, Arc::make_mut(&mut tried.evaluation)))
    }

    /// Resources of a variant at the search's shape, from the compiler.
    pub(super) fn resources(&self, evaluation: &Evaluation) -> Option<Resources> {
        let shape = &self.kernel.shapes[self.kernel.search.shape].name;
        evaluation.builds.iter().find(|build| build.shapes.contains(shape)).map(|build| build.resources)
    }
}

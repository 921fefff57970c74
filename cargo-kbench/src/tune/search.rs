//! The state of a search: ask, build, evaluate, tell; and the choice of finalists.
//!
//! Above 400 lines: the state of a search and all its changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kbench_runtime::driver::threads;

use super::asker::{self, Asked, Asker, Learned};
use super::pipeline::Pipeline;
use super::strategy::{limits, strategy};
use super::tie;
use crate::build::Resources;
use crate::config::{self, Kernel, Objective};
use crate::evaluate::{Anticipated, BuildOutcome, Race, complete, complete_as_baseline, evaluate_shared, judge_alone};
use crate::gates::performance::{Compared, EntrantId};
use crate::harness::{Candidate, Event, Harness, Reporter, RunError, Step};
use crate::profile::ceilings::Ceilings;
use crate::record::conclusion::Stopped;
use crate::record::elite::WarmVariant;
use crate::record::evaluation::{Checked, Evaluation, Rejection};
use crate::search::{self, Candidates};
use crate::space::Variant;
use crate::tune::headroom::Headroom;
use crate::tune::warm::WarmStart;

/// Nanoseconds a launch from which on only variants that may win are in the finals, and the factor by which the others are slower.
const LONG: f64 = 5e7;
const HOPELESS: f64 = 1.5;

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
    has_coarse_ranks: bool,
    pub(super) evaluated: u64,
    pub(super) identical_code: u64,
    pub(super) cached: u64,
    pub(super) resumed: u64,
    /// All tried variants in order; proposals follow the variants of the space.
    pub(super) tried: Vec<Tried>,
    best: Option<(String, f64)>,
    /// Indices of the fastest variants that were timed to the end, fastest first; as many as there are finalists.
    fastest: Vec<usize>,
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
                // The default is always tried, since all variants are compared with it.
                let deadline = self.deadline(started).filter(|_| self.evaluated > 0);
                doing.set(Step::Compiling);
                while !pipeline.is_built(&variant) && anticipated.compute(harness)? {}
                let progress = |done, total| reporter.event(Event::Built { done, total });
                let Some(outcome) = pipeline.take(&variant, deadline, progress).transpose()? else {
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

    /// The race of the next variant.
    pub(super) fn race(&mut self) -> Race {
        Race { is_coarse: self.has_coarse_ranks, bar: self.bar() }
    }

    /// Whether a variant may be in the finals beside those before it: one more than the elite if ranks are coarse and do not show that
    /// it is slower.
    fn has_room(&self, finalists: &[Tried], evaluation: &Evaluation) -> bool {
        let elite = self.kernel.search.elite;
        let last = || finalists.last()?.evaluation.timing.as_ref();
        let meets = || last().zip(evaluation.timing.as_ref()).is_some_and(|(last, of)| of.summary.meets(&last.summary));
        finalists.len() < elite || finalists.len() == elite && self.has_coarse_ranks && meets()
    }

    /// Time in nanoseconds that a variant has to beat to reach the finals; none until there are enough other variants,
    /// or for other objectives.
    fn bar(&mut self) -> Option<f64> {
        if self.kernel.objectives != [Objective::P50] {
            return None;
        }
        if self.fastest.iter().any(|&place| self.finished(place).is_none()) {
            // One of them was rejected since.
            self.fastest.clear();
            for place in 0..self.tried.len() {
                self.rank(place);
            }
        }
        self.fastest.get(self.kernel.search.elite - 1).and_then(|&place| self.finished(place))
    }

    /// p50 of each variant that passed and was timed to the end. Of variants with one program only the first counts.
    fn finished(&self, place: usize) -> Option<f64> {
        let evaluation = &self.tried[place].evaluation;
        evaluation.p50().filter(|_| evaluation.identical_code.is_none() && !evaluation.is_cut_short())
    }

    /// Adds a tried variant to the fastest, if it is one of them.
    fn rank(&mut self, place: usize) {
        let Some(p50) = self.finished(place) else { return };
        let slower = |&other: &usize| self.finished(other).is_some_and(|other| other > p50);
        let at = self.fastest.partition_point(|other| !slower(other));
        self.fastest.insert(at, place);
        self.fastest.truncate(self.kernel.search.elite);
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

    /// Whether the default may win beside the best finalist.
    pub(super) fn default_may_win(&self, best: &Tried) -> bool {
        let default = self.of_space(&self.kernel.space.default);
        default.is_none_or(|default| self.may_win(Some(&best.evaluation), default))
    }

    /// Resources of a variant at the search's shape, from the compiler.
    pub(super) fn resources(&self, evaluation: &Evaluation) -> Option<Resources> {
        let shape = &self.kernel.shapes[self.kernel.search.shape].name;
        evaluation.builds.iter().find(|build| build.shapes.contains(shape)).map(|build| build.resources)
    }

    /// Indices of the variants with a time, best first. Of equal objectives, such as counts, the faster variant is
    /// better.
    fn ranked(&self) -> Vec<usize> {
        let rank = |index: usize| {
            let evaluation = &self.tried[index].evaluation;
            let slowness = self.slowness_of(evaluation);
            let of_objective = if self.kernel.objectives == [Objective::P50] { slowness } else { 1.0 };
            [(evaluation.objective(), of_objective), (evaluation.p50(), slowness)]
                .map(|(value, slowness)| value.map_or(f64::INFINITY, |value| value / slowness))
        };
        // A worker that is slower than the others may have ended the timing of a fast variant early.
        let is_wrong = |evaluation: &Evaluation| self.slowness_of(evaluation) > 1.0;
        let has_time = |evaluation: &Evaluation| {
            evaluation.p50().is_some() && (!evaluation.is_cut_short() || is_wrong(evaluation))
        };
        let mut ranked: Vec<usize> =
            (0..self.tried.len()).filter(|&index| has_time(&self.tried[index].evaluation)).collect();
        // The sort is stable: of candidates with identical code the first tried one represents all.
        ranked.sort_by(|&a, &b| {
            let ([of_a, p50_of_a], [of_b, p50_of_b]) = (rank(a), rank(b));
            of_a.total_cmp(&of_b).then(p50_of_a.total_cmp(&p50_of_b))
        });
        ranked
    }

    /// The factor by which the worker that measured an evaluation is slower than the others.
    fn slowness_of(&self, evaluation: &Evaluation) -> f64 {
        self.slowness.get(&evaluation.key).copied().unwrap_or(1.0)
    }

    /// Whether a variant may win beside the best so far. The checks and finals of a long variant that is much slower would take most of
    /// the time.
    fn may_win(&self, best: Option<&Evaluation>, evaluation: &Evaluation) -> bool {
        let time = |of: &Evaluation| Some(of.p50()? / self.slowness_of(of));
        let is_far = |(best, time): (f64, f64)| time >= LONG && time > HOPELESS * best;
        let times = best.and_then(time).zip(time(evaluation));
        self.kernel.objectives != [Objective::P50] || !times.is_some_and(is_far)
    }

    /// The K best variants that are different programs, best first.
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

    /// Indices of the likely finalists, and of the default if it may win, as far as they have to be checked in full.
    pub(super) fn to_examine(&self, harness: &Harness<'_>) -> Vec<usize> {
        let default = self.tried.iter().position(|tried| tried.candidate.is(&self.kernel.space.default));
        let mut keys: Vec<&str> = Vec::new();
        let mut places = Vec::new();
        let ranked = if self.kernel.objectives.len() == 1 { self.ranked() } else { Vec::new() };
        let best = ranked.first().map(|&place| &*self.tried[place].evaluation);
        let may_win = |&place: &usize| self.may_win(best, &self.tried[place].evaluation);
        for place in ranked.iter().copied().take_while(may_win).chain(default.filter(may_win)) {
            let evaluation = &self.tried[place].evaluation;
            let results = &harness.results;
            let is_known =
                results.evaluation(&evaluation.key).is_some_and(|(known, _)| known.checked == Checked::InFull)
                    || results.failed_check(&evaluation.key).is_some();
            if (keys.len() < self.limits.elite || Some(place) == default) && !keys.contains(&&*evaluation.key) {
                keys.push(&evaluation.key);
                if !is_known && evaluation.checked != Checked::InFull && evaluation.rejection().is_none() {
                    places.push(place);
                }
            }
        }
        places
    }

    /// Whether a variant may be in the finals.
    pub(super) fn has_finalists(&self) -> bool {
        !self.ranked().is_empty()
    }

    /// Rejects the variants with this key, which had passed.
    pub(super) fn revoke(&mut self, key: &str, rejection: &Rejection) {
        for tried in self.tried.iter_mut().filter(|tried| tried.evaluation.key == key) {
            Arc::make_mut(&mut tried.evaluation).reject(rejection.clone());
        }
    }

    /// The finalists, and the default if it ties with the best of them: then it is the winner, if it passes as they do.
    pub(super) fn with_default(
        &mut self,
        mut finalists: Vec<Tried>,
        compared: &Compared,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Tried>, RunError> {
        let default = &self.kernel.space.default;
        let is_one = finalists.iter().any(|finalist| finalist.candidate.is(default));
        let ties = tie::ties_with_fastest(compared, &finalists, &default.into());
        let at = self.tried.iter().position(|tried| tried.candidate.is(default));
        if let (Some(at), true) = (at, ties && !is_one && self.kernel.objectives == [Objective::P50]) {
            let Tried { candidate, evaluation } = &mut self.tried[at];
            let evaluation = Arc::make_mut(evaluation);
            judge_alone(harness, candidate, evaluation, reporter)?;
            finalists.extend(evaluation.rejection().is_none().then(|| self.tried[at].clone()));
        }
        Ok(finalists)
    }

    /// The best variants with different machine code that may win and pass the gates that judge a single candidate, best first: the K
    /// best, and one more if [there is room](Self::has_room).
    pub(super) fn finalists(
        &mut self,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Tried>, RunError> {
        if self.kernel.objectives.len() > 1 {
            return self.front_finalists(harness, reporter);
        }
        self.prepare_finalists(harness)?;
        let mut finalists: Vec<Tried> = Vec::new();
        let mut unsound: BTreeMap<String, Rejection> = BTreeMap::new();
        for index in self.ranked() {
            let best = finalists.first().map(|best| &*best.evaluation);
            let next = &self.tried[index].evaluation;
            if !self.has_room(&finalists, next) || !self.may_win(best, next) {
                break;
            }
            let Tried { candidate, evaluation } = &mut self.tried[index];
            let evaluation = Arc::make_mut(evaluation);
            if finalists.iter().any(|finalist| finalist.evaluation.key == evaluation.key) {
                continue;
            }
            if let Some(rejection) = unsound.get(&evaluation.key) {
                evaluation.reject(rejection.clone());
                continue;
            }
            judge_alone(harness, candidate, evaluation, reporter)?;
            match evaluation.rejection() {
                Some(rejection) => drop(unsound.insert(evaluation.key.clone(), rejection.clone())),
                None => finalists.push(self.tried[index].clone()),
            }
        }
        Ok(finalists)
    }
}

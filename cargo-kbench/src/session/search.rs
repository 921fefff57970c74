//! The search's side of the session: ask, build, evaluate, tell; and who is in the finals.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::pipeline::{self, CompileTimes, Meanwhile, Pipeline};
use super::{Event, Reporter, judge_counters, sanitize};
use crate::config::{Backend, Kernel, Objective};
use crate::elite::WarmVariant;
use crate::evaluation::{Evaluation, Outcome, Rejection};
use crate::search::{self, Candidates};
use crate::space::Variant;
use crate::warm::WarmStart;
use crate::workbench::{Attempt, RunError, Workbench};

/// Variants that each core compiles before they are measured, where these cores are the device.
const CHUNK: usize = 4;

/// The state of one search.
pub(super) struct Search<'a> {
    pub(super) kernel: &'a Kernel,
    /// What it begins with beside the default.
    pub(super) warm: Vec<WarmVariant>,
    strategy: Box<dyn search::Strategy>,
    /// Asked for and not yet tried, in the order of asking.
    pending: VecDeque<Variant>,
    pub(super) evaluated: u64,
    pub(super) twins: u64,
    pub(super) tried: Vec<(Variant, Evaluation)>,
    best: Option<(String, f64)>,
    /// Why the search ended early.
    pub(super) stopped: Option<&'static str>,
}

impl<'a> Search<'a> {
    pub(super) fn new(kernel: &'a Kernel, warm: &WarmStart) -> Self {
        let candidates = Candidates::new(&kernel.space).beginning_with(warm.variants.iter().cloned());
        Self {
            kernel,
            strategy: search::front::strategy_for(kernel.objectives.len(), &candidates, &kernel.search),
            warm: warm.records.clone(),
            pending: VecDeque::new(),
            evaluated: 0,
            twins: 0,
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
        let meanwhile = self.meanwhile();
        let (searched, times) = pipeline::run(&|variant| builder.build(variant), meanwhile, |pipeline| {
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
        let (room, threads) = match self.meanwhile() {
            // One comes for each that goes, so that there is always something to compile.
            Meanwhile::Compile => (most.saturating_sub(self.pending.len()), pipeline.threads()),
            // All at once, since the compilers rest until the last one is measured; but what a budget of seconds may
            // never get to is not compiled first.
            Meanwhile::Rest if self.pending.is_empty() => (most.min(CHUNK * pipeline.threads()), 0),
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
            let idle = threads.saturating_sub(self.pending.len()).min(left as usize);
            if idle > 0 {
                pipeline.speculate(self.strategy.likely(idle));
            }
        }
        !self.pending.is_empty()
    }

    fn meanwhile(&self) -> Meanwhile {
        if self.kernel.implementation.backend == Backend::C { Meanwhile::Rest } else { Meanwhile::Compile }
    }

    fn budget(&self) -> u64 {
        self.kernel.search.evaluations.unwrap_or(u64::MAX)
    }

    fn is_out_of_time(&self, started: Instant) -> bool {
        self.kernel.search.seconds.is_some_and(|limit| started.elapsed() > Duration::from_secs(limit))
    }

    fn evaluate(
        &mut self,
        bench: &mut Workbench<'_>,
        variant: &Variant,
        attempt: Attempt,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        let evaluation = bench.evaluate(variant, attempt, self.bar())?;
        self.learn(variant, &evaluation);
        let label = self.kernel.space.label(variant);
        reporter.event(Event::Evaluated {
            evaluation: &evaluation,
            label: &label,
            done: self.evaluated,
            total: self.total(),
            best: self.best.as_ref().map(|(label, value)| (label.as_str(), *value)),
        });
        self.tried.push((variant.clone(), evaluation));
        Ok(())
    }

    /// Nanoseconds that a variant has to beat to be in the finals; none until there are enough others, or where other things than
    /// this time count.
    fn bar(&self) -> Option<f64> {
        if self.kernel.objectives != [Objective::P50] {
            return None;
        }
        let finished = self.tried.iter().filter(|(_, evaluation)| evaluation.twin.is_none() && !evaluation.is_raced());
        let mut p50s: Vec<f64> = finished.filter_map(|(_, evaluation)| evaluation.p50()).collect();
        p50s.sort_unstable_by(f64::total_cmp);
        p50s.get(self.kernel.search.elite - 1).copied()
    }

    fn learn(&mut self, variant: &Variant, evaluation: &Evaluation) {
        self.evaluated += 1;
        self.twins += u64::from(evaluation.twin.is_some());
        let value =
            evaluation.objectives.first().map(|objective| objective.value).filter(|_| evaluation.p50().is_some());
        if let Some(build) = evaluation.builds.first() {
            self.strategy.compiled(variant, &build.resources);
        }
        if let [first, second] = &evaluation.objectives[..] {
            self.strategy.measured(variant, [first.told(), second.told()]);
        }
        self.strategy.tell(variant, evaluation.into());
        if let Some(value) = value.filter(|&value| self.best.as_ref().is_none_or(|&(_, best)| value < best)) {
            self.best = Some((self.kernel.space.label(variant), value));
        }
    }

    pub(super) fn are_twins(&self, variant: &Variant, other: &Variant) -> bool {
        let key =
            |variant| self.tried.iter().find(|(tried, _)| tried == variant).map(|(_, evaluation)| &evaluation.key);
        variant == other || (key(variant).is_some() && key(variant) == key(other))
    }

    pub(super) fn survived(&self, variant: &Variant) -> bool {
        self.tried.iter().any(|(tried, evaluation)| tried == variant && evaluation.p50().is_some())
    }

    /// The K best that are not twins of a better one and that the sanitizers let pass, best first.
    pub(super) fn finalists(
        &mut self,
        bench: &mut Workbench<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<(Variant, Evaluation)>, RunError> {
        if self.kernel.objectives.len() > 1 {
            return self.front_finalists(bench, reporter);
        }
        // Of equal objectives, as counts may be, the faster one is better.
        let rank = |tried: &[(Variant, Evaluation)], index: usize| {
            [tried[index].1.objective(), tried[index].1.p50()].map(|value| value.unwrap_or(f64::INFINITY))
        };
        let mut ranked: Vec<usize> = (0..self.tried.len())
            .filter(|&index| self.tried[index].1.p50().is_some() && !self.tried[index].1.is_raced())
            .collect();
        // Stable: of twins the one tried first stands for both.
        ranked.sort_by(|&a, &b| {
            let ([of_a, p50_of_a], [of_b, p50_of_b]) = (rank(&self.tried, a), rank(&self.tried, b));
            of_a.total_cmp(&of_b).then(p50_of_a.total_cmp(&p50_of_b))
        });
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
            judge_counters(bench, variant, evaluation, reporter)?;
            match evaluation.rejection() {
                Some(rejection) => drop(unsound.insert(evaluation.key.clone(), rejection.clone())),
                None => finalists.push((variant.clone(), evaluation.clone())),
            }
        }
        Ok(finalists)
    }
}

//! One variant through gate 2 and the clock, unless it is known already.

use std::time::{Duration, Instant};

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{
    CheckJob, Convergence, Depth, Failure, SkipsWork, TensorSpec, TimeJob, TimedCase, Timing,
};
use kbench_runtime::stats::{Samples, Summary};

use super::check::{check_job, first_look, judge, without_tolerance};
use super::circumstances::Named;
use super::{Attempt, BuildFailure, Built, RunError, Step, Workbench};
use crate::config::{Kernel, Objective};
use crate::gates;
use crate::gates::impossible::Demand;
use crate::process::executor::ExecutorError;
use crate::record::evaluation::{Checked, Evaluation, Gate, Outcome, Reason, Rejection, TimingRecord};
use crate::record::journal::Record;
use crate::space::Variant;

/// Counted up where the way of checking or measuring changes, so that no older record stands for a new one.
pub(super) const METHOD: u32 = 9;

/// Samples of each kernel at most: a p50 that needs more is not known to within 0.5 % on this machine.
pub(super) const MOST_SAMPLES: u32 = 10_000;
/// How much slower than needed the loser of an earlier run's race must be not to race again.
const RACE_RECALLED: f64 = 1.2;
/// Seeds of a shape that is only checked: there are many of them, and their sizes are what matters.
const CHECK_ONLY_SEEDS: usize = 2;

/// The jobs of one evaluation.
pub(super) struct Jobs {
    pub(super) checks: Vec<(usize, CheckJob)>,
    time: TimeJob,
    /// What a launch at the search's shape has to do.
    demand: Demand,
    /// The check after timing, on inputs that the kernel has not seen.
    pub(super) after: CheckJob,
    /// The same at other shapes that an objective is a mean over.
    pub(super) more: Vec<(usize, TimeJob, CheckJob)>,
}

/// A search's measuring: as many samples as tell a median, the finals take the rest.
#[derive(Debug, Clone, Copy)]
pub struct Race {
    /// Nanoseconds that the variant has to beat. One whose p50 lies clearly above is not measured to the end, and its
    /// [record says so](Evaluation::is_raced).
    pub bar: Option<f64>,
}

impl Workbench<'_> {
    /// Runs a built variant through gate 2 and times it at the search's shape. What is known already is not run again.
    ///
    /// In a race it is measured only until its place is known.
    pub fn evaluate(
        &mut self,
        variant: &Variant,
        attempt: Attempt,
        race: Option<Race>,
    ) -> Result<Evaluation, RunError> {
        let toggles = self.kernel.space.settings(variant);
        // Another objective than p50 may be worth a longer time.
        let stop_above = race.and_then(|race| race.bar).filter(|_| self.objectives == [Objective::P50]);
        let mut evaluation = Evaluation::new(toggles.clone(), attempt.warnings);
        evaluation.source = self.builder.source.as_ref().map(|source| source.record.clone());
        match attempt.result {
            Ok(built) => {
                evaluation.builds = built.records(self.kernel);
                if let Err(rejection) = self.resource_values(variant, &built) {
                    evaluation.outcome = Outcome::Rejected(rejection);
                    self.record(&Record::Evaluation(Box::new(evaluation.clone())))?;
                    return Ok(evaluation);
                }
                match self.jobs(variant, &built)? {
                    Ok(mut jobs) => {
                        // What races is looked at in the finals.
                        for time in std::iter::once(&mut jobs.time).chain(jobs.more.iter_mut().map(|(_, time, _)| time))
                        {
                            (time.hurry, time.renew) = (race.is_some(), race.is_none());
                        }
                        // The same key whatever there is to beat: see `serves`.
                        evaluation.key = self.key(&jobs, &built, &evaluation.warnings)?;
                        // A search checks in full what may win, before it counts.
                        let wanted = if race.is_some() { Checked::OneSeed } else { Checked::InFull };
                        if let Some(known) = self.known_as(&evaluation, variant, &built, (stop_above, wanted))? {
                            return Ok(known);
                        }
                        evaluation.checked = wanted;
                        jobs.time.stop_above_ns = stop_above;
                        let demand = jobs.demand;
                        self.run(jobs, &built, &mut evaluation)?;
                        // What races is judged in the finals: a search measures no ceilings.
                        if let (Some(timing), Outcome::Passed, None) = (&evaluation.timing, &evaluation.outcome, race)
                            && let Some(rejection) = self.impossible(&demand, &timing.clone())?
                        {
                            evaluation.outcome = Outcome::Rejected(rejection);
                        }
                        self.set_objectives(&mut evaluation, variant, &built);
                        self.keys.insert(evaluation.key.clone(), (toggles, evaluation.source.clone()));
                        self.known.add(evaluation.clone(), self.is_default(variant));
                    }
                    Err(rejection) => evaluation.outcome = Outcome::Rejected(rejection),
                }
            }
            Err(BuildFailure { rejection, built }) => {
                evaluation.builds = built.map(|built| built.records(self.kernel)).unwrap_or_default();
                evaluation.outcome = Outcome::Rejected(rejection);
            }
        }
        self.record(&Record::Evaluation(Box::new(evaluation.clone())))?;
        Ok(evaluation)
    }

    fn is_default(&self, variant: &Variant) -> bool {
        self.builder.source.is_none() && *variant == self.kernel.space.default
    }

    /// What is known of a variant with this key: from its twin in this run, or from the journal. The default is measured in every run:
    /// it shows whether the machine is what it was.
    fn known_as(
        &mut self,
        evaluation: &Evaluation,
        variant: &Variant,
        built: &Built,
        (stop_above, wanted): (Option<f64>, Checked),
    ) -> Result<Option<Evaluation>, RunError> {
        let Evaluation { toggles, source, key, builds, .. } = evaluation;
        let Some((known, is_earlier)) = self.known.evaluation(key) else { return Ok(None) };
        if is_earlier && self.is_default(variant) || !serves(known, is_earlier, stop_above, wanted) {
            return Ok(None);
        }
        let first = self.keys.get(key);
        let twin = first.filter(|(first, of)| (first, of) != (toggles, source)).map(|(first, _)| first.clone());
        let mut known = Evaluation {
            toggles: toggles.clone(),
            source: source.clone(),
            builds: builds.clone(),
            twin,
            recalled: known.recalled || is_earlier,
            resumed: !is_earlier && !known.recalled && !self.keys.contains_key(key),
            ..known.clone()
        };
        let is_new = !self.keys.contains_key(key);
        // The record may be of a search with other objectives, or weights, and the same measurements.
        self.set_objectives(&mut known, variant, built);
        if is_new {
            self.keys.insert(key.clone(), (toggles.clone(), source.clone()));
        }
        // What a run that is resumed recorded stands already.
        if !is_new || is_earlier {
            self.record(&Record::Evaluation(Box::new(known.clone())))?;
        }
        if is_earlier {
            self.known.add(known.clone(), false);
        }
        Ok(Some(known))
    }

    pub(super) fn jobs(&mut self, variant: &Variant, built: &Built) -> Result<Result<Jobs, Rejection>, RunError> {
        let kernel = self.kernel;
        let limits = &kernel.gates.correctness;
        let mut checks = Vec::new();
        let mut timed = None;
        let mut more = Vec::new();
        for shape in self.builder.shapes.clone() {
            let point = self.builder.point(kernel, shape, variant);
            let case = match point.case(&kernel.implementation, built.artifact(shape), &self.files) {
                Ok(case) => case,
                Err(error) => {
                    let name = &kernel.shapes[shape].name;
                    return Ok(Err(Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), Some(name))));
                }
            };
            let reference = self.reference(kernel, shape, variant)?;
            let mut job = check_job(kernel, case, reference);
            if kernel.shapes[shape].check_only {
                job.seeds.truncate(CHECK_ONLY_SEEDS);
            } else {
                job.depth.naive = self.naive(shape, variant)?;
            }
            let is_main = shape == kernel.search.shape;
            if is_main || self.mean_shapes().any(|of_mean| of_mean == shape) {
                let case = TimedCase { case: job.case.clone(), reference: job.reference.clone() };
                let depth = Depth { again: true, ..job.depth.clone() };
                let after = CheckJob { seeds: vec![limits.seeds.into()], depth, ..job.clone() };
                let mut time = self.time_job(vec![case]);
                if is_main {
                    time.energy = self.objectives.contains(&Objective::Energy);
                    timed = Some((time, after, Demand::new(&job.case.tensors, point.work())));
                } else {
                    more.push((shape, time, after));
                }
            }
            checks.push((shape, job));
        }
        // Cheapest first: a wrong variant should cost little.
        checks.sort_by_key(|(_, job)| job.case.tensors.iter().map(TensorSpec::bytes).sum::<usize>());
        // What patterns find, they find at any shape.
        if let Some((_, job)) = checks.iter_mut().find(|(shape, _)| !kernel.shapes[*shape].check_only) {
            job.depth.patterns.clone_from(&limits.patterns);
            job.depth.tolerance = Some(gates::correctness::tolerance(limits, &kernel.tensors));
        }
        let (time, after, demand) = timed.expect("the search's shape is one of the builder's");
        Ok(Ok(Jobs { checks, time, demand, after, more }))
    }

    /// Everything the record depends on. `warnings` are what was found of the build, by limits of this table.
    fn key(&mut self, jobs: &Jobs, built: &Built, warnings: &[String]) -> Result<String, RunError> {
        let kernel = self.kernel;
        let started = Instant::now();
        let mut answers = Vec::new();
        for (shape, job) in &jobs.checks {
            answers.extend(self.refer_check(kernel, &kernel.shapes[*shape].name, &without_tolerance(job))?);
        }
        self.times.verify += started.elapsed();
        let named = Named { built: &built.builds };
        let checks: Vec<CheckJob> = jobs.checks.iter().map(|(_, job)| named.check(job)).collect();
        let more = jobs.more.iter().map(|(_, time, after)| (named.time(time), named.check(after)));
        let more: Vec<_> = more.collect();
        let (time, after) = (named.time(&jobs.time), named.check(&jobs.after));
        let jobs = (checks, time, after, more, answers);
        Ok(fingerprint::of("evaluation", &(self.circumstances(), jobs, &kernel.gates.correctness, warnings)))
    }

    fn run(&mut self, jobs: Jobs, built: &Built, evaluation: &mut Evaluation) -> Result<(), RunError> {
        let kernel = self.kernel;
        for build in &built.builds {
            self.executor.add_blob(&build.artifact.hash, &build.artifact.code);
        }
        let in_full = evaluation.checked == Checked::InFull;
        for (shape, job) in jobs.checks {
            let job = if in_full { job } else { first_look(job) };
            match self.check(kernel, &kernel.shapes[shape].name, job, &mut evaluation.warnings)? {
                Ok(errors) => evaluation.errors.push(errors),
                Err(rejection) => {
                    evaluation.outcome = Outcome::Rejected(rejection);
                    return Ok(());
                }
            }
        }
        for (shape, time, after) in std::iter::once((kernel.search.shape, jobs.time, jobs.after)).chain(jobs.more) {
            let name = &kernel.shapes[shape].name;
            match self.time(name, time, &mut evaluation.warnings)? {
                // It is out of the race, whatever else is to be said of it.
                Ok((timing, _)) if timing.is_raced() => {
                    evaluation.timing = Some(timing);
                    return Ok(());
                }
                Ok((timing, energy)) if shape == kernel.search.shape => {
                    evaluation.timing = Some(timing);
                    evaluation.energy = energy;
                }
                Ok((timing, _)) => evaluation.more_timings.push(timing),
                Err(rejection) => {
                    evaluation.outcome = Outcome::Rejected(rejection);
                    return Ok(());
                }
            }
            if in_full && let Err(rejection) = self.check_after(name, after)? {
                evaluation.outcome = Outcome::Rejected(rejection);
                return Ok(());
            }
        }
        Ok(())
    }

    fn time(
        &mut self,
        shape: &str,
        job: TimeJob,
        warnings: &mut Vec<String>,
    ) -> Result<Result<(TimingRecord, Option<Summary>), Rejection>, RunError> {
        let kernel = self.kernel;
        for timed in &job.cases {
            self.refer_timed(kernel, shape, timed, &job)?;
        }
        let started = Instant::now();
        self.doing.set(Step::Timing);
        let timed = self.executor.time(job, self.timeout());
        self.times.time += started.elapsed();
        let timing = match timed {
            Ok(timings) => timings.into_iter().next(),
            Err(ExecutorError::Job { failure, .. }) => return Ok(Err(failed(kernel, &failure, shape)?)),
            Err(error) => return Err(error.into()),
        };
        let Some(timing) = timing else {
            let message = "the worker timed nothing";
            return Ok(Err(Rejection::new(Gate::Performance, Reason::Protocol, message, Some(shape))));
        };
        let record = measured(kernel, shape, &timing, warnings);
        Ok(record.map(|record| (record, Summary::of(&timing.energy))))
    }

    pub(super) fn time_job(&self, cases: Vec<TimedCase>) -> TimeJob {
        let timing = &self.kernel.timing;
        TimeJob {
            id: 0,
            cases,
            seed: 0,
            // Of seeds that gate 2 checks the reference's outputs are known.
            other_seed: (self.kernel.gates.correctness.seeds > 1).then_some(1),
            warmup: timing.warmup,
            iterations: timing.iterations,
            until: Some(Convergence {
                precision: timing.precision,
                max_seconds: timing.max_seconds,
                max_samples: MOST_SAMPLES,
            }),
            stop_above_ns: None,
            cache: timing.cache,
            bad_above: gates::correctness::bad_above(&self.kernel.gates.correctness),
            hurry: false,
            renew: false,
            announce: false,
            energy: false,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.kernel.timing.timeout_seconds)
    }
}

/// Whether a record is as good as a new one would be. That of a lost race is, as long as it would be lost again: by a wide margin, if it
/// is another run's, where a few samples in a bad moment must not count for ever.
fn serves(known: &Evaluation, is_earlier: bool, stop_above: Option<f64>, wanted: Checked) -> bool {
    if known.rejection().is_none() && known.checked < wanted {
        return false;
    }
    let margin = if is_earlier { RACE_RECALLED } else { 1.0 };
    let slower = |bar: f64| known.timing.as_ref().is_some_and(|timing| timing.summary.p50_low > margin * bar);
    !known.is_raced() || stop_above.is_some_and(slower)
}

/// A failed job as a rejection, unless it was not the kernel's fault: then there is no point in going on.
pub(super) fn failed(kernel: &Kernel, failure: &Failure, shape: &str) -> Result<Rejection, RunError> {
    if let Failure::Reference { .. } | Failure::Inputs { .. } = failure {
        let kernel = kernel.name.clone();
        return Err(RunError::Reference { kernel, message: format!("at {shape}: {failure}") });
    }
    let gate = if matches!(failure, Failure::ForgedTime { .. }) { Gate::Correctness } else { Gate::Launch };
    Ok(Rejection::new(gate, failure.into(), failure.to_string(), Some(shape)))
}

/// A timing as a record, unless the outputs were no longer right after it or it holds no numbers.
pub(super) fn measured(
    kernel: &Kernel,
    shape: &str,
    timing: &Timing,
    warnings: &mut Vec<String>,
) -> Result<TimingRecord, Rejection> {
    let Some(summary) = Summary::of(Samples { times: &timing.samples, slack: timing.slack }) else {
        let message = "the worker's samples are not numbers";
        return Err(Rejection::new(Gate::Performance, Reason::Protocol, message, Some(shape)));
    };
    if let Some(mut rejection) = judge(kernel, shape, std::slice::from_ref(&timing.after), warnings) {
        rejection.message = format!("after timing: {}", rejection.message);
        return Err(rejection);
    }
    if let Some(SkipsWork { ratio, left_alone }) = timing.skips_work {
        let message = format!(
            "it does less where its outputs are right already: {left_alone} elements left alone, {ratio:.1}x the time from poison"
        );
        return Err(Rejection::new(Gate::Performance, Reason::SkipsWork, message, Some(shape)));
    }
    if let Some(ratio) = timing.keeps_results {
        let message = format!("it keeps results: new inputs take {ratio:.1}x the time of inputs seen before");
        return Err(Rejection::new(Gate::Performance, Reason::SkipsWork, message, Some(shape)));
    }
    let (clock, sampling) = (timing.clock.clone(), Some(timing.sampling.clone()));
    Ok(TimingRecord { shape: shape.to_owned(), summary, batch: timing.batch, clock, sampling })
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::Sampling;

    use super::*;
    use crate::space::Settings;

    #[test]
    fn a_lost_race_serves_only_while_it_would_be_lost_again() {
        let summary = Summary::of(&[100.0; 10]).unwrap();
        let mut known = Evaluation::new(Settings::default(), Vec::new());
        assert!(serves(&known, false, None, Checked::OneSeed), "a rejection stays one");
        let mut timed = |raced| {
            let sampling = Some(Sampling { raced, ..Sampling::default() });
            let (shape, clock) = ("s".into(), "fake".into());
            known.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling });
            known.clone()
        };
        let (full, raced) = (timed(false), timed(true));
        assert!(raced.is_raced() && !full.is_raced());
        for bar in [None, Some(90.0), Some(110.0)] {
            assert!(serves(&full, false, bar, Checked::InFull) && serves(&full, true, bar, Checked::InFull));
            assert_eq!(serves(&raced, false, bar, Checked::OneSeed), bar == Some(90.0), "{bar:?}");
            assert!(!serves(&raced, true, bar, Checked::OneSeed), "not slow enough for that");
        }
        assert!(serves(&raced, true, Some(80.0), Checked::OneSeed));

        let once = Evaluation { checked: Checked::OneSeed, ..full };
        assert!(serves(&once, false, None, Checked::OneSeed) && !serves(&once, false, None, Checked::InFull));
    }
}

//! Evaluation of one candidate: it is built, checked and timed, unless a record exists, and then judged by the
//! remaining gates.

use std::sync::Arc;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{CheckJob, TimeJob};

use jobs::Jobs;

use crate::config::{Kernel, Objective};
use crate::gates::correctness::{Check, first_look, without_tolerance};
use crate::gates::performance::{impossible, time as measure_time};
use crate::gates::{GATES, Trial};
use crate::harness::{Built, Candidate, Event, Halt, Harness, Named, Reporter, RunError, Step, caught};
use crate::record::evaluation::{Checked, Evaluation};

pub use anticipated::Anticipated;
pub use build::{BuildFailure, BuildOutcome, try_build};
pub use complete::{complete, complete_as_baseline, examine, keep_examined};
pub use dead::dead_toggles;

mod anticipated;
mod application;
mod build;
mod complete;
mod dead;
mod jobs;
mod objectives;

/// Ratio to the cutoff above which a variant that an earlier run stopped early is not measured again.
const RACE_CACHED: f64 = 1.2;

/// Largest number of samples of a worker in a round of a comparison of workers.
const YARDSTICK: u32 = 5;

/// Precision of the median for a coarse rank, as a share.
pub const COARSE: f64 = 0.05;

/// A timing for a search: few samples, enough for the rank of the median.
#[derive(Debug, Clone, Copy)]
pub struct Race {
    /// Whether the rank hardly matters, since the finals compare nearly all variants.
    pub is_coarse: bool,
    /// Time in nanoseconds to beat. Sampling of a variant whose p50 is clearly above ends early, and its [record says
    /// so](Evaluation::is_cut_short).
    pub bar: Option<f64>,
}

/// Builds a candidate and runs it through every gate that the table asks for, in order.
pub fn gate(harness: &mut Harness<'_>, candidate: Candidate, reporter: &mut dyn Reporter) -> Result<Trial, RunError> {
    let doing = harness.doing.clone();
    doing.set(Step::Compiling);
    let (kernel, device) = (harness.kernel(), harness.context.device.clone());
    reporter.event(Event::Started {
        kernel,
        device: Some(&device),
        total: 1,
        doing: &doing,
        finals: std::time::Duration::ZERO,
    });
    let outcome = try_build(&harness.context.builder, &candidate)?;
    let evaluation = evaluate(harness, &candidate, outcome, None)?;
    let mut trial = Trial::new(candidate, evaluation);
    trial.run(GATES, harness, reporter)?;
    Ok(trial)
}

/// Checks in full a candidate that a search evaluated and that may win, and runs it through the gates that judge a
/// single candidate. A rejection changes its evaluation.
pub fn judge_alone(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    evaluation: &mut Evaluation,
    reporter: &mut dyn Reporter,
) -> Result<(), RunError> {
    complete(harness, candidate, evaluation)?;
    if evaluation.rejection().is_some() {
        return Ok(());
    }
    let mut trial = Trial::new(candidate.clone(), evaluation.clone());
    trial.run(GATES.into_iter().filter(|gate| !gate.is_joint()), harness, reporter)?;
    *evaluation = trial.evaluation;
    application::measure_again(harness, candidate, evaluation)?;
    complete::record_alone(harness, evaluation)
}

/// Checks a built candidate and times it at the search's shape. Recorded results are reused. In a search, sampling ends
/// once the rank is known.
pub fn evaluate(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    outcome: BuildOutcome,
    race: Option<Race>,
) -> Result<Evaluation, RunError> {
    evaluate_shared(harness, candidate, outcome, race).map(Arc::unwrap_or_clone)
}

/// Like [`evaluate`]; the results of the run share the evaluation, which a search with many variants keeps only once.
pub fn evaluate_shared(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    outcome: BuildOutcome,
    race: Option<Race>,
) -> Result<Arc<Evaluation>, RunError> {
    let subject = match prepare(harness, candidate, outcome, race)? {
        Prepared::Cached(evaluation) => return Ok(evaluation),
        Prepared::ToMeasure(subject) => *subject,
    };
    let measured = Arc::new(subject.measure(harness)?);
    subject.keep(harness, &measured)?;
    Ok(measured)
}

/// State of a built candidate before it runs.
pub enum Prepared {
    /// An evaluation that is on record.
    Cached(Arc<Evaluation>),
    /// A candidate that has to be measured.
    ToMeasure(Box<Subject>),
}

/// Prepares the evaluation of a built candidate.
pub fn prepare(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    outcome: BuildOutcome,
    race: Option<Race>,
) -> Result<Prepared, RunError> {
    let kernel = harness.kernel();
    let warnings = outcome.warnings;
    let (rejection, built) = match outcome.result {
        Ok(built) => match caught(jobs(harness, candidate, &built, &warnings, race))? {
            Ok((jobs, key)) => {
                let subject = Subject { candidate: candidate.clone(), built, race, jobs, key, warnings };
                return Ok(match subject.cached(harness)? {
                    Some(cached) => Prepared::Cached(cached),
                    None => Prepared::ToMeasure(Box::new(subject)),
                });
            }
            Err(rejection) => (rejection, Some(built)),
        },
        Err(BuildFailure { rejection, built }) => (rejection, built),
    };
    let mut evaluation = begun(kernel, candidate, built.as_ref(), warnings);
    evaluation.reject(rejection);
    harness.record_evaluation(&evaluation)?;
    Ok(Prepared::Cached(Arc::new(evaluation)))
}

/// A built candidate that is to be measured.
pub struct Subject {
    candidate: Candidate,
    built: Built,
    race: Option<Race>,
    jobs: Jobs,
    key: String,
    warnings: Vec<String>,
}

/// The evaluation of a candidate before it is measured.
fn begun(kernel: &Kernel, candidate: &Candidate, built: Option<&Built>, warnings: Vec<String>) -> Evaluation {
    Evaluation {
        source: candidate.source_record(),
        builds: built.map(|built| built.records(kernel)).unwrap_or_default(),
        ..Evaluation::new(kernel.space.settings(&candidate.variant), warnings)
    }
}

/// The jobs of a built candidate and the key of its evaluation. A rejection here needs no measurement.
fn jobs(
    harness: &mut Harness<'_>,
    candidate: &Candidate,
    built: &Built,
    warnings: &[String],
    race: Option<Race>,
) -> Result<(Jobs, String), Halt> {
    objectives::of_resources(&harness.context, candidate, built)?;
    let mut jobs = Jobs::new(harness, candidate, built)?;
    // Times of a search are judged in the finals.
    for (_, job) in &mut jobs.times {
        (job.rank_only, job.new_inputs) = (race.is_some(), race.is_none());
        if let (Some(Race { is_coarse: true, .. }), Some(until)) = (race, &mut job.until) {
            until.precision = until.precision.max(COARSE);
        }
    }
    // The key does not depend on the time to beat: see `serves`.
    let key = key(harness, &jobs, built, warnings)?;
    for build in &built.builds {
        harness.worker.add_blob(&build.artifact.hash, &build.artifact.code);
    }
    Ok((jobs, key))
}

impl Subject {
    /// Key of the evaluation; another candidate has the same key if it is the same program.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The evaluation before the measurement.
    fn begun(&self, kernel: &Kernel) -> Evaluation {
        let begun = begun(kernel, &self.candidate, Some(&self.built), self.warnings.clone());
        Evaluation { key: self.key.clone(), ..begun }
    }

    /// The candidate.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// The race of the candidate. None for another objective than p50, which may be better at a longer time.
    fn race(&self, harness: &Harness<'_>) -> Option<Race> {
        self.race.filter(|_| harness.context.objectives == [Objective::P50])
    }

    /// The extent of the check: a search checks a variant in full only if the variant may win.
    fn wanted(&self) -> Checked {
        if self.race.is_some() { Checked::OneSeed } else { Checked::InFull }
    }

    /// Measures the candidate. The result does not depend on the journal or on other candidates: any harness of the
    /// same kernel can measure.
    pub fn measure(&self, harness: &mut Harness<'_>) -> Result<Evaluation, RunError> {
        let mut evaluation = Evaluation { checked: self.wanted(), ..self.begun(harness.kernel()) };
        if let Err(rejection) = caught(self.run(harness, &mut evaluation))? {
            evaluation.reject(rejection);
        }
        objectives::set(&harness.context, &mut evaluation, &self.candidate, &self.built);
        Ok(evaluation)
    }

    /// Records the measurement in the journal and for other candidates with the same key.
    pub fn keep(&self, harness: &mut Harness<'_>, measured: &Arc<Evaluation>) -> Result<(), RunError> {
        harness.results.tried(measured);
        harness.results.add(Arc::clone(measured), self.candidate.is_default(harness.kernel()));
        harness.record_evaluation(measured)
    }

    /// The recorded evaluation of a candidate with this key: of the same machine code in this run, or from the journal.
    /// The default is measured in every run, which shows whether the machine has changed.
    pub fn cached(&self, harness: &mut Harness<'_>) -> Result<Option<Arc<Evaluation>>, RunError> {
        let race = self.race(harness);
        let Some((cached, is_earlier)) = harness.results.evaluation(&self.key) else { return Ok(None) };
        if is_earlier && self.candidate.is_default(harness.context.kernel)
            || is_earlier && cached.rejection().is_none() && application::is_wanted(&harness.context.objectives)
            || !serves(cached, is_earlier, race, self.wanted())
        {
            return Ok(None);
        }
        let is_new = !harness.results.is_tried(&self.key);
        let Evaluation { toggles, source, builds, .. } = self.begun(harness.kernel());
        let mut cached = Evaluation {
            identical_code: harness.results.identical_code(&self.key, &toggles, source.as_ref()),
            toggles,
            source,
            builds,
            cached: cached.cached || is_earlier,
            resumed: !is_earlier && !cached.cached && is_new,
            ..Evaluation::clone(cached)
        };
        // The record may be of a search with other objectives or weights and the same measurements.
        objectives::set(&harness.context, &mut cached, &self.candidate, &self.built);
        let cached = Arc::new(cached);
        if is_new {
            harness.results.tried(&cached);
        }
        // The journal already has the records of a run that is resumed.
        if !is_new || is_earlier {
            harness.record_evaluation(&cached)?;
            complete::record_failed_check(harness, &self.key)?;
        }
        if is_earlier {
            harness.results.add(Arc::clone(&cached), false);
        }
        Ok(Some(cached))
    }

    /// Runs the jobs, cheapest first, until one rejects the candidate.
    fn run(&self, harness: &mut Harness<'_>, evaluation: &mut Evaluation) -> Result<(), Halt> {
        let kernel = harness.kernel();
        let Self { jobs, .. } = self;
        let in_full = evaluation.checked == Checked::InFull;
        for (shape, job) in &jobs.checks {
            let job = if in_full { job.clone() } else { first_look(job.clone()) };
            let check = Check { kernel, shape: &kernel.shapes[*shape].name };
            evaluation.errors.push(check.run(harness, job, &mut evaluation.warnings)?);
        }
        // Only a search with one shape has a cutoff.
        let cutoff_ns = self.race(harness).and_then(|race| race.bar);
        for timed @ &(shape, _) in &jobs.times {
            let name = &kernel.shapes[shape].name;
            let job = TimeJob { cutoff_ns, ..jobs.timed(timed) };
            let (timing, energy) = measure_time(harness, name, job, &mut evaluation.warnings)?;
            if timing.is_cut_short() {
                // Sampling was stopped: the variant is too slow, and other findings do not matter.
                evaluation.timing = Some(timing);
                return Ok(());
            }
            if shape == kernel.search.shape {
                (evaluation.timing, evaluation.energy) = (Some(timing), energy);
            } else {
                evaluation.more_timings.push(timing);
            }
            if in_full {
                Check { kernel, shape: name }.run_after(harness, jobs.after(shape, &kernel.gates.correctness))?;
            }
        }
        application::measure(harness, &self.candidate, evaluation)?;
        // Times of a search are judged in the finals: a search measures no ceilings.
        if let (Some(timing), None) = (&evaluation.timing, self.race)
            && let Some(rejection) = impossible(harness, &jobs.demand, timing)?
        {
            return Err(rejection.into());
        }
        Ok(())
    }
}

/// The timing job of a candidate at the search's shape, for comparisons of workers; `None` if the candidate does not
/// build.
pub fn yardstick_job(harness: &mut Harness<'_>, candidate: &Candidate) -> Result<Option<TimeJob>, RunError> {
    let jobs = caught(Jobs::of(harness, candidate))?;
    let few = |job: TimeJob| TimeJob { rank_only: true, until: None, iterations: job.iterations.min(YARDSTICK), ..job };
    Ok(jobs.ok().map(|jobs| few(jobs.timed(&jobs.times[0]))))
}

/// Key of everything that the record depends on. `warnings` are findings on the build by limits of this table.
fn key(harness: &mut Harness<'_>, jobs: &Jobs, built: &Built, warnings: &[String]) -> Result<String, RunError> {
    let kernel = harness.kernel();
    let answers = harness.counted_as(
        |times| &mut times.verify,
        |harness| {
            let mut answers = Vec::new();
            for (shape, job) in jobs.checks.iter().filter(|(_, job)| job.reference.program) {
                let name = &kernel.shapes[*shape].name;
                answers.extend(harness.refer_check(kernel, name, &without_tolerance(job.clone()))?);
            }
            Ok::<_, RunError>(answers)
        },
    )?;
    let named = Named { built: &built.builds };
    let checks: Vec<CheckJob> = jobs.checks.iter().map(|(_, job)| named.check(job)).collect();
    // The checks after timing follow from those before and from the limits.
    let times: Vec<_> = jobs.times.iter().map(|(shape, job)| (jobs.place(*shape), job)).collect();
    let jobs = (checks, times, answers);
    let circumstances = harness.context.circumstances();
    Ok(fingerprint::of("evaluation", &(circumstances, jobs, warnings)))
}

/// Whether a record can replace a new measurement. The record of a variant that was stopped early can replace only one in a race: that of
/// this run always, since the variants that it lost to are on record too, though a resumed run may meet them later; that of an earlier
/// run if the variant would be stopped again by a wide margin, since a few samples may have been disturbed.
fn serves(cached: &Evaluation, is_earlier: bool, race: Option<Race>, wanted: Checked) -> bool {
    if cached.rejection().is_none() && cached.checked < wanted {
        return false;
    }
    let slower = |bar: f64| cached.timing.as_ref().is_some_and(|timing| timing.summary.p50_low > RACE_CACHED * bar);
    !cached.is_cut_short() || race.is_some_and(|race| !is_earlier || race.bar.is_some_and(slower))
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::Sampling;
    use kbench_runtime::stats::Summary;

    use super::*;
    use crate::record::evaluation::TimingRecord;
    use crate::space::Settings;

    #[test]
    fn a_cut_short_measurement_is_reused_in_a_race() {
        let summary = Summary::of(&[100.0; 10]).unwrap();
        let mut cached = Evaluation::new(Settings::default(), Vec::new());
        assert!(serves(&cached, false, None, Checked::OneSeed), "a rejection stays one");
        let mut timed = |cut_short| {
            let sampling = Some(Sampling { cut_short, ..Sampling::default() });
            let (shape, clock) = ("s".into(), "fake".into());
            cached.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling });
            cached.clone()
        };
        let (full, cut_short) = (timed(false), timed(true));
        assert!(cut_short.is_cut_short() && !full.is_cut_short());
        for bar in [None, Some(90.0), Some(110.0)] {
            let race = Some(Race { is_coarse: false, bar });
            assert!(serves(&full, false, race, Checked::InFull) && serves(&full, true, race, Checked::InFull));
            assert!(serves(&cut_short, false, race, Checked::OneSeed), "it lost to variants of the same run");
            assert!(!serves(&cut_short, true, race, Checked::OneSeed), "not slow enough for that");
        }
        assert!(serves(&cut_short, true, Some(Race { is_coarse: false, bar: Some(80.0) }), Checked::OneSeed));
        assert!(!serves(&cut_short, false, None, Checked::OneSeed), "its p50 is wanted");

        let once = Evaluation { checked: Checked::OneSeed, ..full };
        assert!(serves(&once, false, None, Checked::OneSeed) && !serves(&once, false, None, Checked::InFull));
    }
}

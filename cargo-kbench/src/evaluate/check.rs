//! Gate 2: one seed of each shape before a variant is timed in a search, everything before it may win.

use std::time::Instant;

use kbench_runtime::protocol::Pattern;
use kbench_runtime::protocol::{Case, CheckJob, Depth, Reference, SeedReport};

use super::one::failed;
use super::{RunError, Step, Workbench};
use crate::config::Kernel;
use crate::gates::{self, at_level};
use crate::process::executor::ExecutorError;
use crate::record::evaluation::{Checked, Evaluation, Outcome, Reason, Rejection, ShapeErrors};
use crate::record::journal::Record;
use crate::space::Variant;

/// The check that a kernel's own gates ask for.
pub(super) fn check_job(kernel: &Kernel, case: Case, reference: Reference) -> CheckJob {
    let limits = &kernel.gates.correctness;
    CheckJob {
        id: 0,
        case,
        reference,
        seeds: (0..u64::from(limits.seeds)).collect(),
        bad_above: gates::correctness::bad_above(limits),
        depth: Depth::default(),
    }
}

/// What of it a search does before it times a variant: most that are wrong are wrong on any input.
pub(super) fn first_look(mut job: CheckJob) -> CheckJob {
    job.seeds.truncate(1);
    job.depth.patterns.clear();
    job
}

/// A check that does not ask what a tolerated error of the inputs makes of the reference.
pub(super) fn without_tolerance(job: &CheckJob) -> CheckJob {
    CheckJob { depth: Depth { tolerance: None, ..job.depth.clone() }, ..job.clone() }
}

/// Reports by a kernel's limits.
pub(super) fn judge(
    kernel: &Kernel,
    shape: &str,
    seeds: &[SeedReport],
    warnings: &mut Vec<String>,
) -> Option<Rejection> {
    let limits = &kernel.gates.correctness;
    at_level(limits.level, gates::correctness::judge(limits, &kernel.tensors, shape, seeds), warnings)
}

/// The patterns whose errors are too large by themselves, where everything else is right: they may be what the pattern makes of a
/// tolerated error of the inputs.
fn in_doubt(kernel: &Kernel, shape: &str, seeds: &[SeedReport]) -> Vec<Pattern> {
    let limits = &kernel.gates.correctness;
    let judge = |seeds: &[SeedReport]| gates::correctness::judge(limits, &kernel.tensors, shape, seeds);
    let (random, patterns): (Vec<SeedReport>, Vec<SeedReport>) =
        seeds.iter().cloned().partition(|seed| seed.pattern.is_none());
    if judge(&random).is_some() {
        return Vec::new();
    }
    let is_wrong = |seed: &SeedReport| {
        let with_random: Vec<SeedReport> = random.iter().chain([seed]).cloned().collect();
        judge(&with_random).is_some_and(|rejection| rejection.code == Reason::Wrong)
    };
    patterns.iter().filter(|seed| is_wrong(seed)).filter_map(|seed| seed.pattern).collect()
}

impl Workbench<'_> {
    /// Gate 2 of any kernel at one shape.
    pub(super) fn check(
        &mut self,
        kernel: &Kernel,
        shape: &str,
        job: CheckJob,
        warnings: &mut Vec<String>,
    ) -> Result<Result<ShapeErrors, Rejection>, RunError> {
        let is_again = job.depth.again;
        let mut seeds = match self.look(kernel, shape, without_tolerance(&job))? {
            Ok(seeds) => seeds,
            Err(rejection) => return Ok(Err(rejection)),
        };
        // What the tolerated error of the inputs makes of the reference costs another run of it: only where that may excuse a pattern.
        let patterns = if job.depth.tolerance.is_some() { in_doubt(kernel, shape, &seeds) } else { Vec::new() };
        if !patterns.is_empty() {
            let depth = Depth { patterns, ..job.depth.clone() };
            let closer = CheckJob { seeds: Vec::new(), depth, ..job };
            match self.look(kernel, shape, closer)? {
                Ok(closer) => {
                    for report in closer {
                        if let Some(seed) = seeds.iter_mut().find(|seed| seed.pattern == report.pattern) {
                            *seed = report;
                        }
                    }
                }
                Err(rejection) => return Ok(Err(rejection)),
            }
        }
        if let Some(rejection) = judge(kernel, shape, &seeds, warnings) {
            return Ok(Err(rejection));
        }
        if !is_again {
            let limits = &kernel.gates.correctness;
            warnings.extend(gates::correctness::warnings(limits, &kernel.tensors, shape, &seeds));
        }
        Ok(Ok(ShapeErrors::worst(shape, &seeds)))
    }

    /// The worker's reports.
    fn look(
        &mut self,
        kernel: &Kernel,
        shape: &str,
        job: CheckJob,
    ) -> Result<Result<Vec<SeedReport>, Rejection>, RunError> {
        let started = Instant::now();
        self.doing.set(Step::Checking);
        self.refer_check(kernel, shape, &job)?;
        let checked = self.executor.check(job, self.timeout());
        self.times.verify += started.elapsed();
        match checked {
            Ok(seeds) => Ok(Ok(seeds)),
            Err(ExecutorError::Job { failure, .. }) => Ok(Err(failed(kernel, &failure, shape)?)),
            Err(error) => Err(error.into()),
        }
    }

    /// The check after timing, on inputs that the kernel has not seen.
    pub(super) fn check_after(&mut self, shape: &str, job: CheckJob) -> Result<Result<(), Rejection>, RunError> {
        let mut warnings = Vec::new();
        let checked = self.check(self.kernel, shape, job, &mut warnings)?;
        Ok(checked.map(|_| ()).map_err(|mut rejection| {
            rejection.message = format!("after timing, on new inputs: {}", rejection.message);
            rejection
        }))
    }

    /// Checks a variant that may win on all that the search's first look left out. One that fails is rejected.
    pub fn complete(&mut self, variant: &Variant, evaluation: &mut Evaluation) -> Result<(), RunError> {
        if evaluation.checked == Checked::InFull || evaluation.rejection().is_some() {
            return Ok(());
        }
        // A twin's check serves.
        let known = self.known.evaluation(&evaluation.key).map(|(known, _)| known.clone());
        if let Some(known) = known.filter(|known| known.checked == Checked::InFull) {
            evaluation.check_is(known.errors, known.warnings);
            return Ok(());
        }
        let (mut errors, mut warnings) = (Vec::new(), evaluation.warnings.clone());
        match self.check_in_full(variant, &mut errors, &mut warnings)? {
            Ok(()) => {
                self.known.checked(&evaluation.key, &errors, &warnings);
                let (key, errors_of, warnings_of) = (evaluation.key.clone(), errors.clone(), warnings.clone());
                self.record(&Record::Checked { key, errors: errors_of, warnings: warnings_of })?;
                evaluation.check_is(errors, warnings);
            }
            Err(rejection) => {
                self.record(&Record::Revoked { key: evaluation.key.clone(), rejection: rejection.clone() })?;
                evaluation.outcome = Outcome::Rejected(rejection);
            }
        }
        Ok(())
    }

    fn check_in_full(
        &mut self,
        variant: &Variant,
        errors: &mut Vec<ShapeErrors>,
        warnings: &mut Vec<String>,
    ) -> Result<Result<(), Rejection>, RunError> {
        let kernel = self.kernel;
        let built = match self.builder.build(variant)?.result {
            Ok(built) => built,
            Err(failure) => return Ok(Err(failure.rejection)),
        };
        let jobs = match self.jobs(variant, &built)? {
            Ok(jobs) => jobs,
            Err(rejection) => return Ok(Err(rejection)),
        };
        for build in &built.builds {
            self.executor.add_blob(&build.artifact.hash, &build.artifact.code);
        }
        for (shape, job) in jobs.checks {
            match self.check(kernel, &kernel.shapes[shape].name, job, warnings)? {
                Ok(of_shape) => errors.push(of_shape),
                Err(rejection) => return Ok(Err(rejection)),
            }
        }
        let more = jobs.more.into_iter().map(|(shape, _, after)| (shape, after));
        for (shape, after) in std::iter::once((kernel.search.shape, jobs.after)).chain(more) {
            if let Err(rejection) = self.check_after(&kernel.shapes[shape].name, after)? {
                return Ok(Err(rejection));
            }
        }
        warnings.sort();
        warnings.dedup();
        Ok(Ok(()))
    }
}

//! The check: launches and the worker's reports on their outputs.

use std::time::Instant;

use kbench_runtime::protocol::{Case, CheckJob, CheckOptions, Pattern, Reference, SeedReport};

use super::judge::{bad_above, judge, judge_at_level, warnings};
use crate::config::Kernel;
use crate::gates::launch::job_failed;
use crate::harness::{Halt, Harness, Step};
use crate::record::evaluation::{Reason, ShapeErrors};

/// The check of a kernel by its own gates.
pub fn check_job(kernel: &Kernel, case: Case, reference: Reference) -> CheckJob {
    let limits = &kernel.gates.correctness;
    CheckJob {
        id: 0,
        case,
        reference,
        seeds: (0..u64::from(limits.seeds)).collect(),
        bad_above: bad_above(limits),
        options: CheckOptions::default(),
    }
}

/// The part of the check before a search times a variant: most wrong variants are wrong on any input.
pub fn first_look(mut job: CheckJob) -> CheckJob {
    job.seeds.truncate(1);
    job.options.patterns.clear();
    // Only the errors of patterns are compared with the sensitivity.
    without_tolerance(job)
}

/// A check that does not measure the reference's sensitivity to errors of the inputs.
pub fn without_tolerance(mut job: CheckJob) -> CheckJob {
    job.options.tolerance = None;
    job
}

/// Patterns with too large errors, if everything else is right: the errors may be within the reference's sensitivity to
/// tolerated errors of the inputs.
fn in_doubt(kernel: &Kernel, shape: &str, seeds: &[SeedReport]) -> Vec<Pattern> {
    let limits = &kernel.gates.correctness;
    let judge = |seeds: &[SeedReport]| judge(limits, &kernel.tensors, shape, seeds);
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

/// A check of a kernel at one shape: the evaluated kernel, or a baseline.
#[derive(Clone, Copy)]
pub struct Check<'k> {
    /// The kernel whose limits apply.
    pub kernel: &'k Kernel,
    /// Name of the shape.
    pub shape: &'k str,
}

impl Check<'_> {
    /// Runs and judges a check; returns the largest errors.
    pub fn run(self, harness: &mut Harness<'_>, job: CheckJob, found: &mut Vec<String>) -> Result<ShapeErrors, Halt> {
        let Self { kernel, shape } = self;
        let is_again = job.options.passed_before;
        // The sensitivity of the reference costs another run of it: only for patterns that it may excuse.
        let excused = job.options.tolerance.is_some().then(|| CheckJob { seeds: Vec::new(), ..job.clone() });
        let mut seeds = self.look(harness, without_tolerance(job))?;
        if let Some(mut job) = excused {
            job.options.patterns = in_doubt(kernel, shape, &seeds);
            let reports = if job.options.patterns.is_empty() { Vec::new() } else { self.look(harness, job)? };
            for report in reports {
                if let Some(seed) = seeds.iter_mut().find(|seed| seed.pattern == report.pattern) {
                    *seed = report;
                }
            }
        }
        if let Some(rejection) = judge_at_level(kernel, shape, &seeds, found) {
            return Err(rejection.into());
        }
        if !is_again {
            found.extend(warnings(&kernel.gates.correctness, &kernel.tensors, shape, &seeds));
        }
        Ok(ShapeErrors::worst(shape, &seeds))
    }

    /// The check after timing, on inputs that the kernel has not seen.
    pub fn run_after(self, harness: &mut Harness<'_>, job: CheckJob) -> Result<(), Halt> {
        let checked = self.run(harness, job, &mut Vec::new());
        checked.map(drop).map_err(|halt| match halt {
            Halt::Variant(mut rejection) => {
                rejection.message = format!("after timing, on new inputs: {}", rejection.message);
                rejection.into()
            }
            Halt::Run(error) => error.into(),
        })
    }

    /// The worker's reports.
    fn look(self, harness: &mut Harness<'_>, job: CheckJob) -> Result<Vec<SeedReport>, Halt> {
        let started = Instant::now();
        harness.doing.set(Step::Checking);
        harness.refer_check(self.kernel, self.shape, &job)?;
        let checked = harness.worker.check(job, harness.context.timeout());
        harness.times.verify += started.elapsed();
        checked.map_err(|error| job_failed(self.kernel, error, self.shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixture;
    use kbench_runtime::dtype::DType;
    use kbench_runtime::protocol::{DeviceKind, OutputReport, RelatedErrors, Sequence};

    fn report(pattern: Option<Pattern>, max_abs_err: f64) -> SeedReport {
        let output = OutputReport {
            tensor: "y".into(),
            elements: 16,
            unwritten: 0,
            first_unwritten: None,
            nonfinite: 0,
            max_abs_err,
            max_abs_err_at: 0,
            output_at: 1.0,
            reference_at: 1.0,
            mean_abs_err: 0.0,
            bias: 0.0,
            rms_err: 0.0,
            rms_ref: 1.0,
            bad: 0,
            related: RelatedErrors::default(),
        };
        SeedReport { pattern, outputs: vec![output], ..SeedReport::new(0) }
    }

    #[test]
    fn only_patterns_that_are_wrong_beside_right_random_inputs_are_in_doubt() {
        let project = fixture::project("");
        let doubted = |seeds: &[SeedReport]| in_doubt(&project.packages[0].kernels[0], "s", seeds);
        let (large, equal) = (Some(Pattern::Large), Some(Pattern::Equal));
        let fine = report(None, 0.0);
        assert_eq!(doubted(&[fine.clone(), report(large, 0.0), report(equal, 0.5)]), [Pattern::Equal]);
        assert_eq!(doubted(&[report(None, 0.5), report(equal, 0.5)]), [], "wrong in any case");
        let stale = SeedReport { stale: 1, ..report(equal, 0.5) };
        assert_eq!(doubted(&[fine, stale]), [], "no error of the inputs excuses it");
    }

    #[test]
    fn the_first_look_has_one_seed_and_no_pattern() {
        let project = fixture::project("gates.correctness.seeds = 3");
        let kernel = &project.packages[0].kernels[0];
        let sequence = Sequence { device: DeviceKind::Host, blob: String::new(), launches: Vec::new() };
        let case = Case { tensors: Vec::new(), sequence: sequence.clone() };
        let reference = Reference { sequence, precision: DType::F64, program: false, identity: String::new() };
        let mut job = check_job(kernel, case, reference);
        assert_eq!((&job.seeds, job.options.tolerance), (&vec![0, 1, 2], None));
        job.options = CheckOptions { patterns: vec![Pattern::Large], tolerance: Some(0.5), ..job.options };
        let look = first_look(job.clone());
        assert_eq!((&look.seeds, &look.options.patterns), (&vec![0], &vec![]));
        let plain = without_tolerance(job.clone());
        assert_eq!(
            (plain.seeds.len(), plain.options.tolerance, plain.options.patterns),
            (3, None, vec![Pattern::Large])
        );
    }
}

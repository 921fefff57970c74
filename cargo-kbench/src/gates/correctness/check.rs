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

/// The seeds that the [first look](first_look) left out, one launch on each.
pub fn more_seeds(mut job: CheckJob) -> CheckJob {
    job.seeds.drain(..job.seeds.len().min(1));
    job.options.patterns.clear();
    job.options.passed_before = true;
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

/// Adds reports with the reference's sensitivity to the reports on the same patterns. Both looks count: a kernel that is wrong at times
/// gets no second chance.
fn excuse(kernel: &Kernel, shape: &str, seeds: &mut [SeedReport], reports: Vec<SeedReport>) {
    let limits = &kernel.gates.correctness;
    let random: Vec<SeedReport> = seeds.iter().filter(|seed| seed.pattern.is_none()).cloned().collect();
    for report in reports.into_iter().filter(|report| report.pattern.is_some()) {
        let Some(seed) = seeds.iter_mut().find(|seed| seed.pattern == report.pattern) else { continue };
        for (output, again) in seed.outputs.iter_mut().zip(&report.outputs) {
            output.related.sensitivity = again.related.sensitivity;
        }
        let with_random: Vec<SeedReport> = random.iter().chain([&*seed]).cloned().collect();
        if judge(limits, &kernel.tensors, shape, &with_random).is_none() {
            *seed = report;
        }
    }
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
            excuse(kernel, shape, &mut seeds, reports);
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
    use kbench_runtime::protocol::{DeviceKind, ErrorSizes, OutputReport, RelatedErrors, Sequence};

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
    fn an_error_within_the_sensitivity_is_excused_if_both_looks_are_within_it() {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let (large, equal) = (Some(Pattern::Large), Some(Pattern::Equal));
        let again = |pattern, error: f64, sensitivity: f64| {
            let mut report = report(pattern, error);
            let sizes = ErrorSizes { max_abs_err: sensitivity, mean_abs_err: 0.0, rms_err: sensitivity, rms_ref: 1.0 };
            report.outputs[0].related.sensitivity = Some(sizes);
            report
        };
        let codes = |reports: Vec<SeedReport>| {
            let mut seeds = vec![report(None, 0.0), report(large, 0.0), report(equal, 0.5)];
            excuse(kernel, "s", &mut seeds, reports);
            assert_eq!(seeds.iter().map(|seed| seed.pattern).collect::<Vec<_>>(), [None, large, equal]);
            assert_eq!(seeds[..2], [report(None, 0.0), report(large, 0.0)], "the others are as they were");
            judge(&kernel.gates.correctness, &kernel.tensors, "s", &seeds).map(|rejection| rejection.code)
        };
        assert_eq!(codes(Vec::new()), Some(Reason::Wrong));
        assert_eq!(codes(vec![again(equal, 0.5, 0.2)]), None);
        assert_eq!(codes(vec![again(equal, 0.5, 0.1)]), Some(Reason::Wrong));
        assert_eq!(codes(vec![again(equal, 0.0, 0.0)]), Some(Reason::Wrong), "it was wrong before");
        assert_eq!(codes(vec![again(equal, 0.9, 0.2)]), Some(Reason::Wrong), "it is wrong now");
        assert_eq!(codes(vec![again(None, 0.0, 0.2)]), Some(Reason::Wrong), "a report on random inputs excuses none");
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
        let more = more_seeds(job.clone());
        assert_eq!((&more.seeds, &more.options.patterns, more.options.passed_before), (&vec![1, 2], &vec![], true));
        assert!(more_seeds(look).seeds.is_empty(), "one seed was all");
        let plain = without_tolerance(job.clone());
        assert_eq!(
            (plain.seeds.len(), plain.options.tolerance, plain.options.patterns),
            (3, None, vec![Pattern::Large])
        );
    }
}

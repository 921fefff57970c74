//! The jobs of one evaluation.

use kbench_runtime::protocol::{CheckJob, CheckOptions, TensorSpec, TimeJob, TimedCase};

use crate::config::Objective;
use crate::gates::correctness::{check_job, tolerance};
use crate::gates::performance::{Demand, time_job};
use crate::harness::{Built, Candidate, Halt, Harness, References, no_geometry};

/// Number of seeds for a shape that is only checked: such shapes are numerous and are checked for their sizes.
const CHECK_ONLY_SEEDS: usize = 2;

/// The jobs of one evaluation.
#[derive(Clone)]
pub(super) struct Jobs {
    /// Checks before timing, cheapest first, with the indices of their shapes.
    pub checks: Vec<(usize, CheckJob)>,
    /// The timing at the search's shape.
    pub time: TimeJob,
    /// The work of a launch at the search's shape.
    pub demand: Demand,
    /// The check after timing, on inputs that the kernel has not seen.
    pub after: CheckJob,
    /// Timings and checks at the other shapes of a mean objective.
    pub more: Vec<(usize, TimeJob, CheckJob)>,
}

impl Jobs {
    /// The jobs of a built candidate.
    pub fn new(harness: &mut Harness<'_>, candidate: &Candidate, built: &Built) -> Result<Self, Halt> {
        let kernel = harness.kernel();
        let limits = &kernel.gates.correctness;
        let variant = &candidate.variant;
        let Harness { context, worker, references, .. } = harness;
        let mut checks = Vec::new();
        let mut timed = None;
        let mut more = Vec::new();
        for &shape in context.builder.shapes() {
            let point = context.point(shape, variant);
            let case = point.case(&kernel.implementation, built.artifact(shape), &context.files);
            let case = case.map_err(|error| no_geometry(&error, context.shape_name(shape)))?;
            let reference = references.of(context, worker, kernel, shape, variant)?;
            let mut job = check_job(kernel, case, reference);
            if kernel.shapes[shape].check_only {
                job.seeds.truncate(CHECK_ONLY_SEEDS);
            } else {
                job.options.naive = References::naive(context, worker, shape, variant)?;
            }
            let is_main = shape == kernel.search.shape;
            if is_main || context.mean_shapes().any(|of_mean| of_mean == shape) {
                let case = TimedCase { case: job.case.clone(), reference: job.reference.clone() };
                let options = CheckOptions { passed_before: true, ..job.options.clone() };
                let after = CheckJob { seeds: vec![limits.seeds.into()], options, ..job.clone() };
                let mut time = time_job(kernel, vec![case]);
                if is_main {
                    time.energy = context.objectives.contains(&Objective::Energy);
                    timed = Some((time, after, Demand::new(&job.case.tensors, point.work())));
                } else {
                    more.push((shape, time, after));
                }
            }
            checks.push((shape, job));
        }
        // Cheapest first, so that a wrong variant is rejected early.
        checks.sort_by_key(|(_, job)| job.case.tensors.iter().map(TensorSpec::bytes).sum::<usize>());
        // A fault that patterns expose appears at any shape.
        if let Some((_, job)) = checks.iter_mut().find(|(shape, _)| !kernel.shapes[*shape].check_only) {
            job.options.patterns.clone_from(&limits.patterns);
            job.options.tolerance = Some(tolerance(limits, &kernel.tensors));
        }
        let (time, after, demand) = timed.expect("the search's shape is one of the builder's");
        Ok(Jobs { checks, time, demand, after, more })
    }

    /// The timings.
    pub fn times_mut(&mut self) -> impl Iterator<Item = &mut TimeJob> {
        std::iter::once(&mut self.time).chain(self.more.iter_mut().map(|(_, time, _)| time))
    }
}

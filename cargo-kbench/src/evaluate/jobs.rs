//! The jobs of one evaluation.

use kbench_runtime::protocol::{Case, CheckJob, CheckOptions, Sequence, TensorSpec, TimeJob, TimedCase};

use super::build::try_build;
use crate::build::resolve::{Point, ResolveError};
use crate::config::{CorrectnessLimits, Objective};
use crate::gates::correctness::{check_job, tolerance};
use crate::gates::performance::{Demand, time_job};
use crate::harness::{Built, Candidate, Halt, Harness, References, no_geometry};
use crate::space::Variant;

/// Number of seeds for a shape that is only checked: such shapes are numerous and are checked for their sizes.
const CHECK_ONLY_SEEDS: usize = 2;

/// The jobs of one evaluation.
pub(super) struct Jobs {
    /// Checks before timing, cheapest first, with the indices of their shapes.
    pub checks: Vec<(usize, CheckJob)>,
    /// Timings with the indices of their shapes, the search's shape first. They lack the cases, which are those of the
    /// checks: see [`timed`](Self::timed).
    pub times: Vec<(usize, TimeJob)>,
    /// The work of a launch at the search's shape.
    pub demand: Demand,
}

impl Jobs {
    /// The jobs of a candidate, whose machine code the worker gets.
    pub fn of(harness: &mut Harness<'_>, candidate: &Candidate) -> Result<Self, Halt> {
        let built = try_build(&harness.context.builder, candidate)?.result.map_err(|failure| failure.rejection)?;
        let jobs = Self::new(harness, candidate, &built)?;
        for build in &built.builds {
            harness.worker.add_blob(&build.artifact.hash, &build.artifact.code);
        }
        Ok(jobs)
    }

    /// The jobs of a built candidate.
    pub fn new(harness: &mut Harness<'_>, candidate: &Candidate, built: &Built) -> Result<Self, Halt> {
        let implementation = &harness.kernel().implementation;
        Self::with_sequences(harness, &candidate.variant, |point, shape| {
            point.sequence(implementation, built.artifact(shape))
        })
    }

    /// The jobs of a variant whose launches at each shape are those that `sequence` returns.
    pub fn with_sequences(
        harness: &mut Harness<'_>,
        variant: &Variant,
        sequence: impl Fn(&Point<'_>, usize) -> Result<Sequence, ResolveError>,
    ) -> Result<Self, Halt> {
        let kernel = harness.kernel();
        let limits = &kernel.gates.correctness;
        let Harness { context, worker, references, .. } = harness;
        let shapes = context.builder.shapes();
        // Jobs are large, and most tables have one shape.
        let mut checks = Vec::with_capacity(shapes.len());
        let mut times = Vec::with_capacity(1);
        let mut demand = None;
        for &shape in shapes {
            let point = context.point(shape, variant);
            let tensors = point.tensors(&context.files);
            let case = tensors.and_then(|tensors| Ok(Case { tensors, sequence: sequence(&point, shape)? }));
            let case = case.map_err(|error| no_geometry(&error, context.shape_name(shape)))?;
            let reference = references.of(context, worker, kernel, shape, variant)?;
            let mut job = check_job(kernel, case, reference);
            if kernel.shapes[shape].check_only {
                job.seeds.truncate(CHECK_ONLY_SEEDS);
            } else {
                job.options.naive = References::naive(context, worker, shape, variant)?;
            }
            if shape == kernel.search.shape {
                let energy = context.objectives.contains(&Objective::Energy);
                times.insert(0, (shape, TimeJob { energy, ..time_job(kernel, Vec::new()) }));
                demand = Some(Demand::new(&job.case.tensors, point.work()));
            } else if context.mean_shapes().any(|of_mean| of_mean == shape) {
                times.push((shape, time_job(kernel, Vec::new())));
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
        let demand = demand.expect("the search's shape is one of the builder's");
        Ok(Jobs { checks, times, demand })
    }

    /// Place of a shape among the checks.
    pub fn place(&self, shape: usize) -> usize {
        self.checks.iter().position(|(other, _)| *other == shape).expect("each timed shape is checked")
    }

    /// A timing with its case.
    pub fn timed(&self, (shape, job): &(usize, TimeJob)) -> TimeJob {
        let CheckJob { case, reference, .. } = &self.checks[self.place(*shape)].1;
        let cases = vec![TimedCase { case: case.clone(), reference: reference.clone() }];
        TimeJob { cases, ..job.clone() }
    }

    /// The check after the timing at a shape, on inputs that the kernel has not seen.
    pub fn after(&self, shape: usize, limits: &CorrectnessLimits) -> CheckJob {
        let check = &self.checks[self.place(shape)].1;
        let naive = check.options.naive.clone();
        let options = CheckOptions { naive, passed_before: true, ..CheckOptions::default() };
        CheckJob { seeds: vec![limits.seeds.into()], options, ..check.clone() }
    }
}

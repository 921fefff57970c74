//! References that are computed while the device waits for a compiler.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kbench_runtime::driver::KEPT_INPUTS;
use kbench_runtime::driver::reference::KEPT_RESULTS;
use kbench_runtime::protocol::{CheckJob, InspectJob, Sequence, Source, TensorSpec};

use super::jobs::Jobs;
use crate::build::resolve::{Point, device_kind};
use crate::config::Backend;
use crate::harness::{Halt, Harness, RunError};
use crate::process::executor::ExecutorError;

/// Number of sets of inputs that the first variant needs before it is timed.
const FIRST: u64 = 2;

/// Time of a reference from which on only references that the first variant needs are computed: a variant that is built meanwhile waits.
const LONG: Duration = Duration::from_millis(250);

/// The references that the checks of a search will need and that the worker has not computed.
#[derive(Default)]
pub struct Anticipated {
    /// Those that the first variant needs.
    first: VecDeque<InspectJob>,
    /// Those that checks in full need.
    later: VecDeque<InspectJob>,
}

impl Anticipated {
    /// The references of the default variant. None for a kernel whose variants compile in no time, and for a reference by a program, which
    /// the driver runs.
    pub fn new(harness: &mut Harness<'_>) -> Result<Self, RunError> {
        let kernel = harness.kernel();
        if kernel.implementation.backend != Backend::Cuda {
            return Ok(Self::default());
        }
        let device = device_kind(kernel.implementation.backend);
        let nothing = |_: &Point<'_>, _| Ok(Sequence { device, blob: String::new(), launches: Vec::new() });
        let jobs = match Jobs::with_sequences(harness, &kernel.space.default, nothing) {
            Ok(jobs) => jobs,
            // The default is rejected.
            Err(Halt::Variant(_)) => return Ok(Self::default()),
            Err(Halt::Run(error)) => return Err(error),
        };
        let timed: Vec<usize> = jobs.times.iter().map(|(shape, _)| *shape).collect();
        Ok(Self::of(&jobs.checks, &timed, kernel.gates.correctness.seeds.into()))
    }

    /// The references of checks. `timed`: shapes with one more check after timing, on `new_seed`.
    fn of(checks: &[(usize, CheckJob)], timed: &[usize], new_seed: u64) -> Self {
        let mut anticipated = Self::default();
        for (shape, check) in checks.iter().filter(|(_, check)| !check.reference.program) {
            let after = timed.contains(shape).then_some((new_seed, None));
            for (seed, pattern) in check.asked().chain(after) {
                let (tensors, reference) = (check.case.tensors.clone(), check.reference.clone());
                let (outputs, bad_above) = (Vec::new(), check.bad_above);
                let job = InspectJob { id: 0, tensors, reference, seed, pattern, outputs, bad_above };
                let is_first = pattern.is_none() && seed < FIRST.min(new_seed);
                if is_first { &mut anticipated.first } else { &mut anticipated.later }.push_back(job);
            }
        }
        anticipated.keep_what_fits();
        anticipated
    }

    /// Leaves out the later references that would displace others in the worker's memory.
    fn keep_what_fits(&mut self) {
        let (mut inputs, mut results) = (0, 0);
        let mut fits = |job: &InspectJob| {
            let made = job.tensors.iter().filter(|spec| spec.source != Source::None);
            inputs += made.map(TensorSpec::bytes).sum::<usize>();
            let outputs = job.tensors.iter().filter(|spec| spec.role.is_output());
            results += outputs.map(|spec| spec.elements() * job.reference.precision.size()).sum::<usize>();
            inputs <= KEPT_INPUTS && results <= KEPT_RESULTS
        };
        let has_room = self.first.iter().all(&mut fits);
        let count = self.later.iter().take_while(|job| has_room && fits(job)).count();
        self.later.truncate(count);
    }

    /// Computes one reference; returns false if none is left. A failure appears again when a check needs the reference.
    pub fn compute(&mut self, harness: &mut Harness<'_>) -> Result<bool, RunError> {
        let Some(job) = self.first.pop_front().or_else(|| self.later.pop_front()) else { return Ok(false) };
        let started = Instant::now();
        let timeout = harness.context.timeout();
        let computed = harness.counted_as(|times| &mut times.verify, |harness| harness.worker.inspect(job, timeout));
        match computed {
            Err(error @ ExecutorError::Interrupted) => return Err(error.into()),
            Err(_) => *self = Self::default(),
            Ok(_) if started.elapsed() > LONG => self.later.clear(),
            Ok(_) => {}
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use kbench_runtime::dtype::DType;
    use kbench_runtime::protocol::{Case, CheckOptions, DeviceKind, Pattern, Reference, Role};

    use super::*;

    fn check(name: &str, seeds: u64, patterns: &[Pattern]) -> CheckJob {
        let source = Source::Normal { mean: 0.0, std: 1.0 };
        let tensor = TensorSpec { name: name.into(), dtype: DType::F32, dims: vec![8], role: Role::In, source };
        let sequence = Sequence { device: DeviceKind::Cuda, blob: String::new(), launches: Vec::new() };
        let reference =
            Reference { sequence: sequence.clone(), precision: DType::F64, program: false, identity: String::new() };
        CheckJob {
            id: 0,
            case: Case { tensors: vec![tensor], sequence },
            reference,
            seeds: (0..seeds).collect(),
            bad_above: 0.5,
            options: CheckOptions { patterns: patterns.to_vec(), ..CheckOptions::default() },
        }
    }

    fn names(jobs: &VecDeque<InspectJob>) -> Vec<(&str, u64, Option<Pattern>)> {
        jobs.iter().map(|job| (job.tensors[0].name.as_str(), job.seed, job.pattern)).collect()
    }

    #[test]
    fn references_of_the_first_variant_come_first() {
        let checks = [(1, check("small", 3, &[Pattern::Large])), (0, check("mission", 3, &[]))];
        let anticipated = Anticipated::of(&checks, &[0], 3);
        let first = [("small", 0, None), ("small", 1, None), ("mission", 0, None), ("mission", 1, None)];
        let large = Some(Pattern::Large);
        let later = [("small", 2, None), ("small", 0, large), ("mission", 2, None), ("mission", 3, None)];
        assert_eq!((names(&anticipated.first), names(&anticipated.later)), (first.into(), later.into()));
    }

    #[test]
    fn one_seed_is_enough_for_a_table_with_one() {
        let anticipated = Anticipated::of(&[(0, check("only", 1, &[]))], &[0], 1);
        assert_eq!(names(&anticipated.first), [("only", 0, None)]);
        assert_eq!(names(&anticipated.later), [("only", 1, None)], "after timing");
    }

    #[test]
    fn references_that_displace_others_are_left_to_the_checks() {
        let of = |elements: u64, role| {
            let mut check = check("only", 5, &[]);
            (check.case.tensors[0].dims, check.case.tensors[0].role) = (vec![elements], role);
            let anticipated = Anticipated::of(&[(0, check)], &[], 5);
            (anticipated.first.len(), anticipated.later.len())
        };
        // 512 MiB of inputs a seed: 2 GiB are kept.
        assert_eq!(of(1 << 27, Role::In), (2, 2));
        // 256 MiB of inputs a seed, and 512 MiB of results in double precision: 1 GiB is kept.
        assert_eq!(of(1 << 26, Role::Inout), (2, 0));
        assert_eq!(of(1 << 20, Role::Inout), (2, 3));
    }

    #[test]
    fn results_of_a_program_are_not_the_workers() {
        let mut of_program = check("only", 2, &[]);
        of_program.reference.program = true;
        let anticipated = Anticipated::of(&[(0, of_program)], &[0], 2);
        assert_eq!((anticipated.first.len(), anticipated.later.len()), (0, 0));
    }
}

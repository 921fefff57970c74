//! The timing engine: cases interleaved, one sample of each in turn, and each case's work looked at once more at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::check::{Check, OnStage, Outputs, Session, differences};
use crate::compare::element;
use crate::device::Device;
use crate::protocol::{CacheMode, Failure, SeedReport, Stage, TimeJob, TimedCase, Timing};
use crate::reference;
use crate::rig::{NAN, Rig};
use crate::tensor::Inputs;

/// A sign of life is given before whatever starts this long after the last one.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Most launches a sample.
const LARGEST_BATCH: u32 = 1 << 16;

/// A case ready to be measured.
struct Measured<D: Device> {
    rig: Rig<D>,
    inputs: Arc<Inputs>,
    reference: Arc<reference::Outputs>,
    batch: u32,
    samples: Vec<f64>,
}

/// Says which stage runs, without saying so for every launch.
struct Pulse<'a, 'b> {
    stage: OnStage<'a>,
    last: &'b mut Option<(Stage, Instant)>,
}

impl Pulse<'_, '_> {
    fn beat(&mut self, stage: Stage) {
        if self.last.is_none_or(|(of, at)| of != stage || at.elapsed() >= HEARTBEAT) {
            (self.stage)(stage);
            *self.last = Some((stage, Instant::now()));
        }
    }
}

impl<D: Device> Session<D> {
    /// Measures every case. A failure comes with the index of the case that met it.
    ///
    /// Every other round runs backwards, so that no case always follows the same other one and a steady drift cancels.
    /// A tensor that is read and written gets its inputs back before each sample, whose batch is then one launch.
    /// In [`CacheMode::Hot`] with something between the samples of a case, one untimed launch warms the cache again.
    pub fn time(&mut self, job: &TimeJob, stage: OnStage<'_>) -> Result<Vec<Timing>, (usize, Failure)> {
        let at = |case: usize| move |failure: Failure| (case, failure);
        let mut measured = Vec::with_capacity(job.cases.len());
        for (index, case) in job.cases.iter().enumerate() {
            measured.push(self.prepare(case, job.seed, stage).map_err(at(index))?);
        }
        let device = &mut self.device;
        let mut last = None;
        let mut pulse = Pulse { stage: &mut *stage, last: &mut last };
        for _ in 0..job.warmup {
            for (index, case) in measured.iter_mut().enumerate() {
                pulse.beat(Stage::Warmup);
                case.rig.restore(device, &case.inputs).map_err(at(index))?;
                device.run(&case.rig.bound).map_err(at(index))?;
            }
        }
        for (index, case) in measured.iter_mut().enumerate() {
            pulse.beat(Stage::Warmup);
            case.batch = batch(device, case, job.cache, &mut pulse).map_err(at(index))?;
        }
        let alone = measured.len() == 1;
        for round in 0..job.iterations {
            let order: &mut dyn Iterator<Item = usize> =
                if round % 2 == 0 { &mut (0..measured.len()) } else { &mut (0..measured.len()).rev() };
            for index in order {
                let case = &mut measured[index];
                pulse.beat(Stage::Timing);
                let last = round + 1 == job.iterations;
                let sample = case.sample(device, job.cache, alone, last).map_err(at(index))?;
                case.samples.push(sample);
            }
        }
        let mut timings = Vec::with_capacity(measured.len());
        for (index, (case, timed)) in measured.into_iter().zip(&job.cases).enumerate() {
            timings.push(after(device, case, timed, job, stage).map_err(at(index))?);
        }
        Ok(timings)
    }

    fn prepare(&mut self, timed: &TimedCase, seed: u64, stage: OnStage<'_>) -> Result<Measured<D>, Failure> {
        stage(Stage::Inputs);
        let inputs = self.inputs(&timed.case.tensors, seed)?;
        stage(Stage::Reference);
        let reference = self.reference(&timed.reference, &timed.case.tensors, &inputs, seed)?;
        // Loading may run code of the kernel's.
        stage(Stage::Launch);
        let mut rig = self.rig(&timed.case)?;
        rig.begin(&mut self.device, &inputs)?;
        Ok(Measured { rig, inputs, reference, batch: 1, samples: Vec::new() })
    }
}

impl<D: Device> Measured<D> {
    fn sample(&mut self, device: &mut D, cache: CacheMode, alone: bool, last: bool) -> Result<f64, Failure> {
        if last {
            // What the last sample leaves behind is checked, so nothing right may lie there already.
            self.rig.poison(device, &self.inputs, NAN)?;
        }
        if cache == CacheMode::Hot && (!alone || last || self.rig.is_in_place()) {
            device.run(&self.rig.bound)?;
            if last {
                self.rig.poison(device, &self.inputs, NAN)?;
            }
        }
        if !last {
            self.rig.restore(device, &self.inputs)?;
        }
        device.sample(&mut self.rig.bound, self.batch, cache)
    }
}

/// How many launches make a sample that the clock measures well.
fn batch<D: Device>(
    device: &mut D,
    case: &mut Measured<D>,
    cache: CacheMode,
    pulse: &mut Pulse<'_, '_>,
) -> Result<u32, Failure> {
    let shortest = device.shortest_sample();
    if cache == CacheMode::Cold || case.rig.is_in_place() || shortest <= 0.0 {
        return Ok(1);
    }
    let mut batch = 1;
    loop {
        pulse.beat(Stage::Warmup);
        let sample = device.sample(&mut case.rig.bound, batch, cache)? * f64::from(batch);
        if sample >= shortest || batch == LARGEST_BATCH {
            return Ok(batch);
        }
        // A tenth more than the estimate, so that most cases are settled at the second look.
        let wanted = f64::from(batch) * (1.1 * shortest / sample.max(1.0)).min(1000.0);
        batch = (wanted.ceil() as u32).max(batch * 2).min(LARGEST_BATCH);
    }
}

/// Checks what the measured launches did to memory, then the kernel as it is now.
fn after<D: Device>(
    device: &mut D,
    mut case: Measured<D>,
    timed: &TimedCase,
    job: &TimeJob,
    stage: OnStage<'_>,
) -> Result<Timing, Failure> {
    stage(Stage::Compare);
    let left = case.rig.outputs(device)?;
    let (mut changed, mut out_of_bounds) = (Vec::new(), Vec::new());
    case.rig.out_of_bounds(device, &mut out_of_bounds)?;
    case.rig.inputs_changed(device, &case.inputs, &mut changed)?;
    let tensors = &timed.case.tensors;
    let check = Check { tensors, inputs: &case.inputs, reference: &case.reference, seed: job.seed };
    let (mut after, first) = check.run(device, &mut case.rig, job.bad_above, stage)?;
    merge(&mut after, changed, out_of_bounds);
    if job.iterations > 0 {
        after.unrepeatable = after.unrepeatable.max(differing(&left, &first, |index| &tensors[index]));
    }
    let clock = device.clock(case.batch).to_owned();
    Ok(Timing { samples: case.samples, batch: case.batch, clock, after })
}

/// Adds what the measured launches did to what the check found.
fn merge(report: &mut SeedReport, changed: Vec<String>, out_of_bounds: Vec<crate::protocol::OutOfBounds>) {
    for name in changed {
        if !report.inputs_changed.contains(&name) {
            report.inputs_changed.push(name);
        }
    }
    for write in out_of_bounds {
        let same = |other: &crate::protocol::OutOfBounds| {
            other.tensor == write.tensor && (other.offset >= 0) == (write.offset >= 0)
        };
        if !report.out_of_bounds.iter().any(same) {
            report.out_of_bounds.push(write);
        }
    }
}

/// Elements that the last sample left otherwise than a launch from the same start does.
fn differing<'a>(left: &Outputs, first: &Outputs, spec: impl Fn(usize) -> &'a crate::protocol::TensorSpec) -> u64 {
    left.iter()
        .zip(first)
        .map(|((index, left), (_, first))| {
            let spec = spec(*index);
            let size = spec.dtype.size();
            differences(spec, &[(left, first)], |i| element(left, i, size) != element(first, i, size))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeDevice;
    use crate::device::host::HostDevice;
    use crate::protocol::{Role, Source};
    use crate::stats::Summary;
    use crate::testing::{self, FakeCase};

    fn job(cases: Vec<TimedCase>, cache: CacheMode) -> TimeJob {
        TimeJob { id: 1, cases, seed: 3, warmup: 5, iterations: 20, cache, bad_above: 0.1 }
    }

    fn fake(cases: &[FakeCase<'_>], cache: CacheMode) -> Result<Vec<Timing>, (usize, Failure)> {
        let mut session = Session::new(FakeDevice::open(0), None);
        let cases = cases.iter().map(|case| {
            let job = case.check(&mut session);
            TimedCase { case: job.case, reference: job.reference }
        });
        let job = job(cases.collect(), cache);
        session.time(&job, &mut |_| {})
    }

    fn host(entry: &str, cache: CacheMode) -> Timing {
        let mut session = Session::new(HostDevice::open(), None);
        let check = testing::host_check(&mut session, entry);
        let job = job(vec![TimedCase { case: check.case, reference: check.reference }], cache);
        session.time(&job, &mut |_| {}).unwrap().remove(0)
    }

    #[test]
    fn cases_get_their_own_times_and_the_same_each_run() {
        let slow = FakeCase { time_ns: 2000.0, ..FakeCase::default() };
        for cache in [CacheMode::Cold, CacheMode::Hot] {
            let timings = fake(&[FakeCase::default(), slow], cache).unwrap();
            assert_eq!(timings, fake(&[FakeCase::default(), slow], cache).unwrap());
            for (timing, want) in timings.iter().zip([1000.0, 2000.0]) {
                assert_eq!((timing.samples.len(), timing.batch, &*timing.clock), (20, 1, "fake"));
                assert!((Summary::of(&timing.samples).unwrap().p50 / want - 1.0).abs() < 0.01);
                testing::assert_clean(&timing.after);
            }
        }
    }

    #[test]
    fn the_check_afterwards_sees_faults_and_failures_name_their_case() {
        let bad = |fault| FakeCase { fault, ..FakeCase::default() };
        let timings = fake(&[bad("null"), bad("\"wrong\""), bad("\"out-of-bounds\"")], CacheMode::Hot).unwrap();
        testing::assert_clean(&timings[0].after);
        assert_eq!(timings[1].after.outputs[0].bad, 1000);
        assert_eq!(timings[2].after.out_of_bounds.len(), 1);
        let (case, failure) = fake(&[bad("null"), bad("\"launch-refused\"")], CacheMode::Cold).unwrap_err();
        assert_eq!(case, 1);
        assert!(matches!(failure, Failure::LaunchRefused { .. }));
    }

    #[test]
    fn stages_are_announced_in_order() {
        use Stage::{Compare, Inputs, Launch, Reference, Timing, Warmup};
        let mut session = Session::new(FakeDevice::open(0), None);
        let check = FakeCase::default().check(&mut session);
        let job = job(vec![TimedCase { case: check.case, reference: check.reference }], CacheMode::Cold);
        let mut stages = Vec::new();
        session.time(&job, &mut |stage| stages.push(stage)).unwrap();
        stages.dedup();
        assert_eq!(stages, [Inputs, Reference, Launch, Warmup, Timing, Compare, Launch, Compare]);
    }

    #[test]
    fn small_host_kernels_are_batched_when_the_cache_may_be_hot() {
        let cold = host("kbench_scale", CacheMode::Cold);
        assert_eq!((cold.batch, &*cold.clock), (1, "monotonic"));
        testing::assert_clean(&cold.after);
        let hot = host("kbench_scale", CacheMode::Hot);
        assert!(hot.batch > 1, "{}", hot.batch);
        assert!(hot.samples.iter().all(|sample| *sample > 0.0));
        testing::assert_clean(&hot.after);
    }

    #[test]
    fn a_kernel_that_stops_working_after_some_launches_is_caught() {
        let gave_up = host("kbench_gives_up", CacheMode::Cold).after;
        assert_eq!(gave_up.outputs[0].unwritten, 1000);
        assert!(host("kbench_counts", CacheMode::Cold).after.unrepeatable > 0);
        assert!(host("kbench_accumulates", CacheMode::Hot).after.unrepeatable > 0, "the last sample is a batch");
        assert_eq!(host("kbench_clobbers", CacheMode::Cold).after.inputs_changed, ["x"]);
    }

    #[test]
    fn a_tensor_read_and_written_starts_each_sample_from_its_inputs() {
        let mut session = Session::new(HostDevice::open(), None);
        let mut check = testing::host_check(&mut session, "kbench_inout");
        check.case.tensors[1].role = Role::Inout;
        check.case.tensors[1].source = Source::Constant(1.0);
        check.reference.launch.entry = "kbench_inout_reference".into();
        for cache in [CacheMode::Hot, CacheMode::Cold] {
            let cases = vec![TimedCase { case: check.case.clone(), reference: check.reference.clone() }];
            let timing = session.time(&job(cases, cache), &mut |_| {}).unwrap().remove(0);
            assert_eq!((timing.batch, timing.samples.len()), (1, 20));
            testing::assert_clean(&timing.after);
        }
    }
}

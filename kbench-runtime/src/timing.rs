//! The timing engine: cases interleaved, one sample of each in turn, and each case's work looked at once more at the end.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::check::{Check, OnStage, Session, differences};
use crate::compare::{count, element, with_reference};
use crate::device::{Device, Write};
use crate::protocol::{
    CacheMode, Failure, OutOfBounds, OutputReport, Role, SeedReport, SkipsWork, Stage, TensorSpec, TimeJob, TimedCase,
    Timing,
};
use crate::reference;
use crate::rig::{NAN, Outputs, Rig};
use crate::tensor::Inputs;

/// A sign of life is given before whatever starts this long after the last one.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Most launches a sample.
const LARGEST_BATCH: u32 = 1 << 16;

/// Pairs of a launch on poison and one on right outputs: as many as settle most cases, and as many as prove it.
const FEWEST_PAIRS: usize = 3;
const MOST_PAIRS: usize = 11;

/// Median ratios from which more pairs are taken, and from which work is skipped.
const SUSPICIOUS: f64 = 1.2;
const SKIPS: f64 = 1.5;

/// Elements of each output that are poisoned among right ones.
const SPOILT: usize = 64;

/// A case ready to be measured.
struct Measured<D: Device> {
    rig: Rig<D>,
    inputs: Arc<Inputs>,
    reference: Arc<reference::Outputs>,
    /// What makes memory ready for each sample: the case finds nothing there that it or another one has made.
    writes: Vec<Write<D::Buffer>>,
    batch: u32,
    samples: Vec<f64>,
    exposed: u64,
    /// What the last sample left behind.
    left: Outputs,
    skips_work: Option<SkipsWork>,
    damage: Damage,
}

/// What launches did to memory that is not theirs to write.
#[derive(Default)]
struct Damage {
    inputs: Vec<String>,
    out_of_bounds: Vec<OutOfBounds>,
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

    fn announce(&mut self, job: &TimeJob, case: usize) {
        if job.announce {
            (self.stage)(Stage::Case(case));
        }
    }
}

impl<D: Device> Session<D> {
    /// Measures every case. A failure comes with the index of the case that met it.
    ///
    /// Every other round runs backwards, so that no case always follows the same other one and a steady drift cancels.
    /// Tensors that several cases have in common lie in the same memory. Each sample starts from poisoned outputs and scratch,
    /// and from the inputs where a tensor is read and written; its batch is then one launch.
    /// In [`CacheMode::Hot`] with something between the samples of a case, one untimed launch warms the cache again.
    pub fn time(&mut self, job: &TimeJob, stage: OnStage<'_>) -> Result<Vec<Timing>, (usize, Failure)> {
        let timed = self.time_cases(job, stage);
        if timed.is_err() {
            // Who knows what lies there now.
            self.pool.clear();
        }
        timed
    }

    fn time_cases(&mut self, job: &TimeJob, stage: OnStage<'_>) -> Result<Vec<Timing>, (usize, Failure)> {
        let at = |case: usize| move |failure: Failure| (case, failure);
        let mut measured = Vec::with_capacity(job.cases.len());
        for (index, case) in job.cases.iter().enumerate() {
            stage(Stage::Case(index));
            measured.push(self.prepare(case, job.seed, stage).map_err(at(index))?);
        }
        let device = &mut self.device;
        let mut last = None;
        let mut pulse = Pulse { stage: &mut *stage, last: &mut last };
        for _ in 0..job.warmup {
            for (index, case) in measured.iter_mut().enumerate() {
                pulse.beat(Stage::Warmup);
                pulse.announce(job, index);
                device.write(&case.writes).map_err(at(index))?;
                device.run(&case.rig.bound).map_err(at(index))?;
            }
        }
        for (index, case) in measured.iter_mut().enumerate() {
            pulse.beat(Stage::Warmup);
            pulse.announce(job, index);
            case.batch = batch(device, case, job.cache, &mut pulse).map_err(at(index))?;
        }
        let alone = measured.len() == 1;
        // What is found now may be any case's doing; after its last sample, what is found is a case's own.
        let mut anyones = Damage::default();
        for round in 0..job.iterations {
            let is_last = round + 1 == job.iterations;
            if is_last {
                for (index, case) in measured.iter().enumerate() {
                    pulse.beat(Stage::Compare);
                    anyones.look(device, case).map_err(at(index))?;
                }
            }
            let order: &mut dyn Iterator<Item = usize> =
                if round % 2 == 0 { &mut (0..measured.len()) } else { &mut (0..measured.len()).rev() };
            for index in order {
                let case = &mut measured[index];
                pulse.beat(Stage::Timing);
                pulse.announce(job, index);
                case.sample(device, job.cache, alone).map_err(at(index))?;
                if is_last {
                    case.look_back(device, job, &mut pulse).map_err(at(index))?;
                }
            }
        }
        anyones.assign(&mut measured);
        let mut timings = Vec::with_capacity(measured.len());
        for (index, (case, timed)) in measured.into_iter().zip(&job.cases).enumerate() {
            stage(Stage::Case(index));
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
        let mut rig = self.rig(&timed.case, &inputs)?;
        rig.begin(&mut self.device, &inputs)?;
        let writes = rig.writes(&mut self.device, &mut self.pool, &inputs)?;
        Ok(Measured {
            rig,
            inputs,
            reference,
            writes,
            batch: 1,
            samples: Vec::new(),
            exposed: 0,
            left: Outputs::new(),
            skips_work: None,
            damage: Damage::default(),
        })
    }
}

impl<D: Device> Measured<D> {
    fn sample(&mut self, device: &mut D, cache: CacheMode, alone: bool) -> Result<(), Failure> {
        if cache == CacheMode::Hot && (!alone || self.rig.is_in_place()) {
            device.run(&self.rig.bound)?;
        }
        let sample = device.sample_after(&self.writes, &mut self.rig.bound, self.batch, cache)?;
        self.samples.push(sample.nanoseconds);
        self.exposed += u64::from(sample.exposed);
        Ok(())
    }

    /// Keeps what the last sample left behind, and looks at what else this kernel does. Nothing here is a sample any more.
    fn look_back(&mut self, device: &mut D, job: &TimeJob, pulse: &mut Pulse<'_, '_>) -> Result<(), Failure> {
        pulse.beat(Stage::Compare);
        self.left = self.rig.outputs(device)?;
        self.skips_work = self.skips_work(device, job, pulse)?;
        pulse.beat(Stage::Compare);
        let mut damage = Damage::default();
        damage.look(device, self)?;
        self.damage = damage;
        Ok(())
    }

    /// Whether the kernel does less where its outputs are right already. Only the first launch of a batch finds poison, so
    /// that the samples alone do not rule it out.
    ///
    /// Two looks. A launch on outputs that are right but for a few elements must write those. And launches on right outputs must
    /// not be much faster than launches on poison: each alone and behind a flush, so that how the outputs came to be there makes
    /// no difference.
    fn skips_work(
        &mut self,
        device: &mut D,
        job: &TimeJob,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<Option<SkipsWork>, Failure> {
        let has = |role: Role| self.rig.tensors().any(|spec| spec.role == role);
        if !has(Role::Out) && !has(Role::Scratch) {
            return Ok(None);
        }
        let left_alone = self.left_alone(device, job.seed, pulse)?;
        // Tensors that are read and written get their inputs back either way.
        let restore: Vec<Write<D::Buffer>> =
            self.writes.iter().filter(|write| matches!(write, Write::Copy { .. })).cloned().collect();
        let (mut poisoned, mut right) = (Vec::new(), Vec::new());
        for pair in 0..MOST_PAIRS {
            if pair == FEWEST_PAIRS && median(&poisoned) < SUSPICIOUS * median(&right) {
                break;
            }
            pulse.beat(Stage::Timing);
            let bound = &mut self.rig.bound;
            poisoned.push(device.sample_after(&self.writes, bound, 1, CacheMode::Cold)?.nanoseconds);
            pulse.beat(Stage::Timing);
            self.rig.set_outputs(device, &self.left)?;
            right.push(device.sample_after(&restore, &mut self.rig.bound, 1, CacheMode::Cold)?.nanoseconds);
        }
        let ratio = median(&poisoned) / median(&right).max(f64::MIN_POSITIVE);
        let apart = poisoned.len() == MOST_PAIRS && quantile(&poisoned, 0.25) > quantile(&right, 0.75);
        let skips = left_alone > 0 || ratio > SKIPS && apart;
        Ok(skips.then_some(SkipsWork { ratio: ratio.min(f64::MAX), left_alone }))
    }

    /// How many of a few poisoned elements among right ones a launch leaves alone.
    fn left_alone(&mut self, device: &mut D, seed: u64, pulse: &mut Pulse<'_, '_>) -> Result<u64, Failure> {
        pulse.beat(Stage::Compare);
        let mut spoilt = self.left.clone();
        let mut places = Vec::new();
        for (at, (index, data)) in spoilt.iter_mut().enumerate() {
            let spec = self.rig.tensor(*index);
            if spec.role != Role::Out || spec.elements() == 0 {
                continue;
            }
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ self.samples.last().map_or(0, |sample| sample.to_bits()));
            let size = spec.dtype.size();
            for _ in 0..SPOILT {
                let element = rng.random_range(0..spec.elements());
                let bytes = &mut data[element * size..(element + 1) * size];
                // Poison may be the right value, or what was never written, which is counted elsewhere.
                if bytes.iter().any(|byte| *byte != NAN) {
                    bytes.fill(NAN);
                    places.push((at, element * size..(element + 1) * size));
                }
            }
        }
        device.write(&self.writes)?;
        self.rig.set_outputs(device, &spoilt)?;
        pulse.beat(Stage::Timing);
        device.run(&self.rig.bound)?;
        pulse.beat(Stage::Compare);
        let written = self.rig.outputs_or(device, &self.left)?;
        let alone =
            |(at, bytes): &&(usize, Range<usize>)| written[*at].1[bytes.clone()].iter().all(|byte| *byte == NAN);
        Ok(places.iter().filter(alone).count() as u64)
    }
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f64 * part).round() as usize).copied().unwrap_or(0.0)
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

impl Damage {
    /// Adds what the guard bands and inputs of a case show, and repairs them.
    fn look<D: Device>(&mut self, device: &mut D, case: &Measured<D>) -> Result<(), Failure> {
        case.rig.out_of_bounds(device, &mut self.out_of_bounds)?;
        case.rig.inputs_changed(device, &case.inputs, &mut self.inputs)
    }

    /// Gives each finding to the case that was seen to do the same again, else to all that could have done it.
    fn assign<D: Device>(self, measured: &mut [Measured<D>]) {
        for name in self.inputs {
            if !measured.iter().any(|case| case.damage.inputs.contains(&name)) {
                for case in measured.iter_mut().filter(|case| case.rig.has(&name)) {
                    case.damage.inputs.push(name.clone());
                }
            }
        }
        for write in self.out_of_bounds {
            if !measured.iter().any(|case| case.damage.out_of_bounds.iter().any(|other| is_same_side(other, &write))) {
                for case in measured.iter_mut().filter(|case| case.rig.has(&write.tensor)) {
                    case.damage.out_of_bounds.push(write.clone());
                }
            }
        }
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
        let sample = device.sample_after(&case.writes, &mut case.rig.bound, batch, cache)?;
        let sample = sample.nanoseconds * f64::from(batch);
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
    let tensors = &timed.case.tensors;
    let check = Check { tensors, inputs: &case.inputs, reference: &case.reference, seed: job.seed };
    let (mut after, first) = check.run(device, &mut case.rig, job.bad_above, stage)?;
    stage(Stage::Compare);
    merge(&mut after, case.damage);
    after.unrepeatable = after.unrepeatable.max(differing(&case.left, &first, |index| &tensors[index]));
    for (at, ((index, left), (_, first))) in case.left.iter().zip(&first).enumerate() {
        // Judged in its own right: outputs that need not repeat must be right all the same.
        if let Some((wide, reference)) = case.reference.get(index)
            && left != first
        {
            let spec = &tensors[*index];
            let size = spec.dtype.size();
            let mut errors = with_reference(spec, left, *wide, reference, job.bad_above);
            if spec.role == Role::Out {
                let is_poison = |bytes: &[u8]| bytes.iter().all(|byte| *byte == NAN);
                (errors.unwritten, errors.first_unwritten) = count(spec.elements(), |i| {
                    is_poison(element(left, i, size)) && !is_poison(element(first, i, size))
                });
            }
            worst(&mut after.outputs[at], &errors);
        }
    }
    let clock = device.clock(&case.rig.bound, case.batch).to_owned();
    Ok(Timing {
        samples: case.samples,
        batch: case.batch,
        clock,
        after,
        exposed_samples: case.exposed,
        skips_work: case.skips_work,
    })
}

/// Makes of two reports on one output that of the worse in every respect.
fn worst(report: &mut OutputReport, other: &OutputReport) {
    if other.unwritten > report.unwritten {
        (report.unwritten, report.first_unwritten) = (other.unwritten, other.first_unwritten);
    }
    if other.max_abs_err > report.max_abs_err {
        report.max_abs_err = other.max_abs_err;
        report.max_abs_err_at = other.max_abs_err_at;
        (report.output_at, report.reference_at) = (other.output_at, other.reference_at);
    }
    if other.bias.abs() > report.bias.abs() {
        report.bias = other.bias;
    }
    report.nonfinite = report.nonfinite.max(other.nonfinite);
    report.mean_abs_err = report.mean_abs_err.max(other.mean_abs_err);
    report.rms_err = report.rms_err.max(other.rms_err);
    report.bad = report.bad.max(other.bad);
}

fn is_same_side(one: &OutOfBounds, other: &OutOfBounds) -> bool {
    one.tensor == other.tensor && (one.offset >= 0) == (other.offset >= 0)
}

/// Adds what the measured launches did to what the check found.
fn merge(report: &mut SeedReport, damage: Damage) {
    for name in damage.inputs {
        if !report.inputs_changed.contains(&name) {
            report.inputs_changed.push(name);
        }
    }
    for write in damage.out_of_bounds {
        if !report.out_of_bounds.iter().any(|other| is_same_side(other, &write)) {
            report.out_of_bounds.push(write);
        }
    }
}

/// Elements that the last sample left otherwise than a launch from the same start does.
fn differing<'a>(left: &Outputs, first: &Outputs, spec: impl Fn(usize) -> &'a TensorSpec) -> u64 {
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
        TimeJob { id: 1, cases, seed: 3, warmup: 5, iterations: 20, cache, bad_above: 0.1, announce: false }
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
        stages.retain(|stage| !matches!(stage, Stage::Case(_)));
        stages.dedup();
        let looks_back = [Timing, Compare, Timing, Compare, Timing, Compare];
        assert_eq!(stages[..6], [Inputs, Reference, Launch, Warmup, Timing, Compare]);
        assert_eq!(stages[6..12], looks_back);
        assert_eq!(stages[12..], [Launch, Compare]);
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
    fn every_sample_starts_from_poison_and_skipping_is_seen() {
        for cache in [CacheMode::Cold, CacheMode::Hot] {
            assert_eq!(host("kbench_scale", cache).skips_work, None, "{cache:?}");
            let skips = host("kbench_skips", cache);
            testing::assert_clean(&skips.after);
            assert!(skips.skips_work.unwrap().left_alone > 0, "{cache:?}");
            // Its work takes a hundred times as long as looking does.
            let careful = host("kbench_skips_when_all_is_right", cache);
            testing::assert_clean(&careful.after);
            let skips = careful.skips_work.unwrap();
            assert!(skips.left_alone == 0 && skips.ratio > 3.0, "{skips:?}");
            assert_eq!(careful.batch, 1);
            assert!(Summary::of(&careful.samples).unwrap().p50 > 20_000.0, "{:?}", careful.samples);
        }
    }

    #[test]
    fn what_the_last_sample_left_is_judged_in_its_own_right() {
        let after = host("kbench_lazy_while_timed", CacheMode::Cold).after;
        assert_eq!((after.outputs[0].unwritten, after.outputs[0].first_unwritten), (999, Some(1)));
        assert!(after.unrepeatable > 0);
    }

    #[test]
    fn damage_to_common_memory_is_the_culprits() {
        for (entry, at) in [("kbench_past_end_later", 0), ("kbench_past_end_later", 2), ("kbench_clobbers_later", 1)] {
            let mut session = Session::new(HostDevice::open(), None);
            let mut cases = Vec::new();
            for index in 0..3 {
                let check = testing::host_check(&mut session, if index == at { entry } else { "kbench_scale" });
                cases.push(TimedCase { case: check.case, reference: check.reference });
            }
            let timings = session.time(&job(cases, CacheMode::Cold), &mut |_| {}).unwrap();
            for (index, timing) in timings.iter().enumerate() {
                let blamed = !timing.after.out_of_bounds.is_empty() || !timing.after.inputs_changed.is_empty();
                assert_eq!(blamed, index == at, "{entry} {index} {:?}", timing.after);
            }
        }
    }

    #[test]
    fn cases_with_the_same_tensors_get_the_same_memory() {
        let mut session = Session::new(HostDevice::open(), None);
        let checks = ["kbench_scale", "kbench_scale"].map(|entry| testing::host_check(&mut session, entry));
        let rigs = checks.map(|check| {
            let timed = TimedCase { case: check.case, reference: check.reference };
            session.prepare(&timed, 3, &mut |_| {}).unwrap().rig
        });
        assert!(rigs[0].shares_all_memory_with(&rigs[1]));
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

//! Cheating: kernels that do less work when their outputs are right already, or when they have seen their inputs before. Their samples are
//! not times of their full work.

use rand::RngExt as _;

use super::adjusted::AdjustedSample;
use super::case::MeasuredCase;
use super::pairs::{FIRST_LOOK, LONG, Pairs};
use super::run::Run;
use super::sampling::{InputChoice, PIECES};
use crate::device::{Device, Write};
use crate::memory::poison::NAN;
use crate::protocol::{CacheMode, Failure, Role, SkipsWork, Stage};
use crate::verify::compare::element;

/// Number of elements of each output that are poisoned among right ones, few because a kernel that reads one of them does all its work, and
/// number of launches on such outputs.
const POISONED: usize = 4;
const LAUNCHES_ON_POISONED: usize = 2;

/// Number of launches that are examined one by one if samples are batches.
const LONE: usize = 64;

impl<D: Device> MeasuredCase<D> {
    /// Tests whether the kernel does less work if its outputs are right already. Only the first launch of a batch finds poison, so that
    /// the samples alone do not rule it out.
    ///
    /// Two tests. A launch on outputs that are right except for a few elements must write these elements. And launches on right outputs
    /// must not be much faster than launches on poison: each launch alone and after a cache flush, so that the way in which the outputs
    /// were filled makes no difference. Cold samples are such launches on poison; for a long kernel a few of them are enough.
    pub(super) fn skips_work(&mut self, run: &mut Run<'_, D>) -> Result<Option<SkipsWork>, Failure> {
        let has = |role: Role| self.memory.tensors().any(|(_, spec)| spec.role == role);
        if !has(Role::Out) && !has(Role::Scratch) {
            return Ok(None);
        }
        let writes = self.writes[self.set()].clone();
        // Tensors that are read and written get their inputs back in both launches of a pair.
        let restore: Vec<Write<D::Buffer>> =
            writes.iter().filter(|write| matches!(write, Write::Copy { .. })).cloned().collect();
        let mut pairs = Pairs::default();
        let (left_alone, nearly_right) = self.left_alone(run, &restore)?;
        if self.is_long() && run.job.cache == CacheMode::Cold {
            // On nearly right outputs a kernel could skip work as well.
            for (work, could_skip) in self.samples.iter().zip(nearly_right) {
                pairs.add(*work, could_skip);
            }
        }
        while !pairs.is_settled() {
            let early = if pairs.work_is_next_last() { Some(self.lone_on_right_outputs(run, &restore)?) } else { None };
            run.heartbeat.enter(Stage::Timing);
            let work = self.lone(&mut run.resources.device, &writes)?;
            // In a batch, a launch that does nothing hides behind one that works; here each launch is alone.
            self.take_snapshots(run, PIECES)?;
            let could_skip = match early {
                Some(sample) => sample,
                None => self.lone_on_right_outputs(run, &restore)?,
            };
            pairs.add(work, could_skip);
        }
        let skips = left_alone > 0 || pairs.are_apart();
        Ok(skips.then(|| SkipsWork { ratio: pairs.ratio(), left_alone }))
    }

    /// One launch alone on right outputs.
    fn lone_on_right_outputs(
        &mut self,
        run: &mut Run<'_, D>,
        restore: &[Write<D::Buffer>],
    ) -> Result<AdjustedSample, Failure> {
        run.heartbeat.enter(Stage::Timing);
        let device = &mut run.resources.device;
        self.memory.set_outputs(device, &self.last_outputs)?;
        self.lone(device, restore)
    }

    /// One launch alone on cold caches after writes, without the time during which the core was lost.
    fn lone(&mut self, device: &mut D, writes: &[Write<D::Buffer>]) -> Result<AdjustedSample, Failure> {
        let sample = device.sample_after(writes, &mut self.memory.bound, 1, CacheMode::Cold)?;
        Ok(AdjustedSample::of(sample, 1, device.core(&self.memory.bound).is_some()))
    }

    /// If samples are batches, launches the kernel many times on poison, each launch alone: only the first launch of a batch finds poison
    /// and only the last one is examined, so that a kernel could skip every other launch.
    pub(super) fn lone_launches(&mut self, run: &mut Run<'_, D>) -> Result<(), Failure> {
        for _ in 0..if self.batch > 1 { LONE } else { 0 } {
            run.heartbeat.enter(Stage::Timing);
            let device = &mut run.resources.device;
            device.write(&self.writes[self.set()])?;
            device.run(&self.memory.bound)?;
            self.take_snapshots(run, 1)?;
        }
        Ok(())
    }

    /// Launches the kernel once on inputs that are new in every element, and keeps its outputs: a fresh load must compute the same.
    pub(super) fn launch_on_new_inputs(&mut self, run: &mut Run<'_, D>) -> Result<(), Failure> {
        self.number += 1;
        let number = self.number;
        run.heartbeat.enter(Stage::Timing);
        let before = std::mem::replace(&mut self.inputs, InputChoice::New(number));
        let device = &mut run.resources.device;
        self.memory.rotate_inputs(device, &self.sets[0].inputs, number)?;
        device.write(&self.memory.rotated_writes(&self.writes[0], number))?;
        device.run(&self.memory.bound)?;
        self.new_launches += 1;
        run.heartbeat.enter(Stage::Compare);
        self.on_new = Some((number, self.outputs(run.resources)?));
        let set = match before {
            InputChoice::Set(set) => set,
            InputChoice::New(_) => 0,
        };
        self.inputs = InputChoice::Set(set);
        self.memory.select_set(&mut run.resources.device, set)
    }

    /// The time on inputs that are new in every element over the time on the inputs of the launch before, if the difference is no chance
    /// and does not come from the branches that the processor has learned: the kernel memoises results.
    pub(super) fn memoises(&mut self, run: &mut Run<'_, D>) -> Result<Option<f64>, Failure> {
        if !self.on_new_and_known_inputs(run, false)?.are_apart() {
            return Ok(None);
        }
        let pairs = self.on_new_and_known_inputs(run, true)?;
        Ok(pairs.are_apart().then(|| pairs.ratio()))
    }

    /// Pairs of launches on inputs that are new in every element and on the inputs of the launch before. With `forget`, the processor
    /// forgets the branches that it has learned before each of them. Otherwise the cold samples of a long kernel are enough launches on new
    /// inputs.
    fn on_new_and_known_inputs(&mut self, run: &mut Run<'_, D>, forget: bool) -> Result<Pairs, Failure> {
        let mut on_new: Vec<AdjustedSample> =
            self.samples.iter().filter(|sample| sample.on_new_inputs).copied().collect();
        on_new.truncate(if self.is_long() && !forget { FIRST_LOOK } else { 0 });
        let mut pairs = Pairs::default();
        while self.can_rotate && !pairs.is_settled() {
            let set = pairs.len() % self.sets.len();
            let early =
                if pairs.work_is_next_last() { Some(self.lone_on_known_inputs(run, set, forget)?) } else { None };
            let on_new = match on_new.pop() {
                Some(sample) => sample,
                None => self.lone_on_new_inputs(run, set, forget)?,
            };
            let could_skip = match early {
                Some(sample) => sample,
                None => self.lone_on_known_inputs(run, set, forget)?,
            };
            pairs.add(on_new, could_skip);
        }
        self.memory.select_set(&mut run.resources.device, self.set())?;
        Ok(pairs)
    }

    /// One launch alone on a set of inputs that the kernel saw in many samples and in the launch before, in case it memoises the last
    /// inputs only.
    fn lone_on_known_inputs(
        &mut self,
        run: &mut Run<'_, D>,
        set: usize,
        forget: bool,
    ) -> Result<AdjustedSample, Failure> {
        self.launch_on_known_inputs(run, set)?;
        let writes = self.writes[set].clone();
        if forget {
            run.resources.device.forget(&self.memory.bound)?;
        }
        self.lone(&mut run.resources.device, &writes)
    }

    /// One launch alone on inputs that are new in every element. The launch before is that of `lone_on_known_inputs`.
    fn lone_on_new_inputs(
        &mut self,
        run: &mut Run<'_, D>,
        set: usize,
        forget: bool,
    ) -> Result<AdjustedSample, Failure> {
        self.launch_on_known_inputs(run, set)?;
        self.number += 1;
        let number = self.number;
        let device = &mut run.resources.device;
        self.memory.rotate_inputs(device, &self.sets[0].inputs, number)?;
        let writes = self.memory.rotated_writes(&self.writes[0], number);
        run.heartbeat.enter(Stage::Timing);
        self.new_launches += 1;
        if forget {
            device.forget(&self.memory.bound)?;
        }
        self.lone(device, &writes)
    }

    fn launch_on_known_inputs(&mut self, run: &mut Run<'_, D>, set: usize) -> Result<(), Failure> {
        let device = &mut run.resources.device;
        self.memory.select_set(device, set)?;
        device.write(&self.writes[set])?;
        run.heartbeat.enter(Stage::Timing);
        device.run(&self.memory.bound)?;
        run.heartbeat.enter(Stage::Timing);
        Ok(())
    }

    /// Whether a launch takes so long that noise is a small part of its time.
    fn is_long(&self) -> bool {
        self.samples.iter().all(|sample| sample.nanoseconds >= LONG)
    }

    /// Launches the kernel on outputs with a few poisoned elements among right ones: the number of elements that it left poisoned, and the
    /// launches as samples.
    fn left_alone(
        &mut self,
        run: &mut Run<'_, D>,
        restore: &[Write<D::Buffer>],
    ) -> Result<(u64, Vec<AdjustedSample>), Failure> {
        run.heartbeat.enter(Stage::Compare);
        let device = &mut run.resources.device;
        self.memory.set_outputs(device, &self.last_outputs)?;
        let mut times = Vec::new();
        for _ in 0..if self.is_long() { 1 } else { LAUNCHES_ON_POISONED } {
            let mut places = Vec::new();
            for (index, data) in &self.last_outputs {
                let spec = self.memory.tensor(*index);
                let size = spec.dtype.size();
                if spec.role != Role::Out || data.is_empty() {
                    continue;
                }
                for _ in 0..POISONED {
                    let at = run.rng.random_range(0..spec.elements());
                    // Poison may be the right value, or an element that was never written, which is counted elsewhere.
                    if element(data, at, size).iter().any(|byte| *byte != NAN) {
                        self.memory.set_element(device, *index, at, &vec![NAN; size])?;
                        places.push((*index, at));
                    }
                }
            }
            run.heartbeat.enter(Stage::Timing);
            times.push(self.lone(device, restore)?);
            run.heartbeat.enter(Stage::Compare);
            let mut left_alone = 0;
            for (index, at) in places {
                left_alone += u64::from(self.memory.element(device, index, at)?.iter().all(|byte| *byte == NAN));
            }
            if left_alone > 0 {
                return Ok((left_alone, times));
            }
        }
        Ok((0, times))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake_case::{job, launches, sampled};
    use super::*;
    use crate::device::fake::FakeDevice;
    use crate::protocol::{Arg, Source, TensorSpec, TimeJob, TimedCase};
    use crate::verify::session::Session;

    const SHORT: &str = r#"{"time_ns":1000,"noise":0}"#;
    const LONG: &str = r#"{"time_ns":1000000,"noise":0}"#;

    fn with_fault(fault: &str) -> (Session<FakeDevice>, TimeJob) {
        job(&format!(r#"{{"time_ns":1000,"noise":0,"fault":"{fault}"}}"#))
    }

    /// Number of launches of the test for skipped work, and its finding.
    fn skips((session, job): (Session<FakeDevice>, TimeJob)) -> (u64, Option<SkipsWork>) {
        let (count, finding) = sampled((session, job), |case, run| launches(run, |run| case.skips_work(run)));
        (count, finding.unwrap())
    }

    #[test]
    fn skipped_work_shows_in_the_outputs_or_in_the_time() {
        let left = skips(with_fault("leaves-alone")).1.unwrap();
        assert_eq!((left.left_alone, left.ratio), (POISONED as u64, 1.0));
        let skipped = skips(with_fault("skips")).1.unwrap();
        assert_eq!((skipped.left_alone, skipped.ratio), (0, 20.0));
    }

    #[test]
    fn a_long_kernel_is_launched_less_often() {
        assert_eq!(skips(job(SHORT)), (2 + 2 * 3, None), "twice on nearly right outputs, and three pairs");
        assert_eq!(skips(job(LONG)), (1, None), "its sample and the launch on nearly right outputs are a pair");
        let (session, long) = job(LONG);
        let hot = TimeJob { cache: CacheMode::Hot, ..long };
        assert_eq!(skips((session, hot)), (1 + 2, None), "a hot sample finds no poison");
        let (session, short) = job(SHORT);
        let hot = TimeJob { cache: CacheMode::Hot, ..short };
        assert_eq!(skips((session, hot)).0, 8);
    }

    #[test]
    fn only_outputs_and_scratch_can_show_that_work_was_skipped() {
        let of = |fault: &str, has_scratch| {
            let (session, mut job) = with_fault(fault);
            let case = &mut job.cases[0].case;
            (case.tensors[1].role, case.tensors[1].source) = (Role::Inout, Source::Constant(0.0));
            if has_scratch {
                let scratch = TensorSpec {
                    name: "s".into(),
                    role: Role::Scratch,
                    source: Source::None,
                    ..case.tensors[1].clone()
                };
                case.tensors.push(scratch);
                case.sequence.launches[0].args.push(Arg::Tensor(2));
            }
            skips((session, job))
        };
        assert_eq!(of("skips", false), (0, None));
        let (count, skipped) = of("skips", true);
        assert!(count > 0 && skipped.is_some_and(|skips| skips.left_alone == 0 && skips.ratio > 19.0));
    }

    #[test]
    fn elements_that_show_nothing_are_not_poisoned() {
        let poisoned = |(session, mut job): (Session<FakeDevice>, TimeJob), has_empty| {
            if has_empty {
                let TimedCase { case, reference } = &mut job.cases[0];
                case.tensors.push(TensorSpec { name: "none".into(), dims: vec![0], ..case.tensors[1].clone() });
                // The model writes its last argument.
                for sequence in [&mut case.sequence, &mut reference.sequence] {
                    sequence.launches[0].args.insert(1, Arg::Tensor(2));
                }
            }
            sampled((session, job), |case, run| {
                let (left_alone, times) = case.left_alone(run, &[]).unwrap();
                (left_alone, times.len())
            })
        };
        assert_eq!(poisoned(with_fault("nan"), false), (0, LAUNCHES_ON_POISONED), "NaN is what it writes");
        assert_eq!(poisoned(job(SHORT), true), (0, LAUNCHES_ON_POISONED));
        assert_eq!(poisoned(with_fault("leaves-alone"), true), (POISONED as u64, 1));
        assert_eq!(poisoned(job(LONG), false), (0, 1));
    }

    #[test]
    fn launches_of_a_batch_are_looked_at_one_by_one_too() {
        for (batch, expected) in [(1, 0), (2, LONE), (100, LONE)] {
            sampled(job(SHORT), |case, run| {
                case.batch = batch;
                let (count, done) = launches(run, |run| case.lone_launches(run));
                done.unwrap();
                assert_eq!((count, case.snapshots.len()), (expected as u64, expected), "{batch}");
            });
        }
    }

    #[test]
    fn outputs_on_new_inputs_are_kept_and_the_inputs_come_back() {
        sampled(job(SHORT), |case, run| {
            (case.number, case.new_launches) = (5, 3);
            let (count, done) = launches(run, |run| case.launch_on_new_inputs(run));
            done.unwrap();
            assert_eq!((count, case.number, case.new_launches, case.inputs), (1, 6, 4, InputChoice::Set(0)));
            let (number, outputs) = case.on_new.as_ref().unwrap();
            assert_eq!((*number, outputs), (6, &case.last_outputs));
        });
    }

    #[test]
    fn results_that_are_kept_show_in_the_time_on_new_inputs() {
        let of = |model| sampled(model, |case, run| case.memoises(run).unwrap());
        assert_eq!(of(job(SHORT)), None);
        assert_eq!(of(with_fault("memoises")), Some(20.0));
    }

    #[test]
    fn a_sample_on_new_inputs_of_a_long_kernel_is_half_of_a_pair() {
        let pairs = |model: &str, forget, can_rotate| {
            sampled(job(model), |case, run| {
                (case.number, case.new_launches, case.can_rotate) = (5, 3, can_rotate);
                case.samples[0].on_new_inputs = true;
                let (count, pairs) = launches(run, |run| case.on_new_and_known_inputs(run, forget));
                (pairs.unwrap().len(), count, case.number - 5, case.new_launches - 3)
            })
        };
        // Each launch alone comes after another one.
        assert_eq!(pairs(SHORT, false, true), (3, 3 * 4, 3, 3));
        assert_eq!(pairs(LONG, false, true), (1, 2, 0, 0));
        assert_eq!(pairs(LONG, true, true), (1, 4, 1, 1), "branches were not forgotten before the sample");
        assert_eq!(pairs(SHORT, true, true), (3, 3 * 4, 3, 3));
        assert_eq!(pairs(SHORT, false, false), (0, 0, 0, 0), "there are no new inputs");
    }
}

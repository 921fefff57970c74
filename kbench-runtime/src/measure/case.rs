//! The state of a case during measurement: the kernel's memory, its sets of inputs, and findings.

use std::sync::Arc;

use super::adjusted::AdjustedSample;
use super::memory_faults::MemoryFaults;
use super::recheck::OutputSnapshot;
use super::run::Run;
use super::sampling::{InputChoice, SampleCounts};
use crate::device::{Device, Write};
use crate::inputs::tensor::Inputs;
use crate::memory::kernel::{KernelMemory, Outputs};
use crate::protocol::{
    CacheMode, Failure, LaunchMode, Role, SkipsWork, Stage, TensorSpec, TimeJob, TimedCase, TwoClocks,
};
use crate::verify::reference::{self, ReferenceInputs};
use crate::verify::session::{OnStage, Resources, Session};

/// Largest number of launches a sample.
pub(super) const LARGEST_BATCH: u32 = 1 << 16;

/// Nanoseconds a launch from which on a search leaves all launches after the samples to the finals.
const EXAMINED_BELOW: f64 = 5e7;

/// The share of the device's memory that copies of inputs may take is one over this number.
const COPIES_SHARE: u64 = 4;

/// The inputs of one seed and their expected outputs.
pub(super) struct InputSet {
    pub seed: u64,
    pub inputs: Arc<Inputs>,
    pub reference: Arc<reference::Outputs>,
}

/// A case in measurement.
pub(super) struct MeasuredCase<D: Device> {
    pub memory: KernelMemory<D>,
    pub sets: Vec<InputSet>,
    /// The inputs in memory.
    pub inputs: InputChoice,
    /// Whether inputs that are new in every element can be made.
    pub can_rotate: bool,
    /// Number of the last new inputs.
    pub number: u64,
    /// Number of launches on new inputs beside samples.
    pub new_launches: u64,
    /// The number of new inputs, and the outputs that the kernel left on them.
    pub on_new: Option<(u64, Outputs)>,
    /// The machine code.
    pub code: Arc<Vec<u8>>,
    /// The writes before each sample, by set: they remove every result of earlier launches.
    pub writes: Vec<Vec<Write<D::Buffer>>>,
    /// Nanoseconds of the last untimed launch before the samples.
    pub untimed: f64,
    /// Number of launches a sample.
    pub batch: u32,
    pub samples: Vec<AdjustedSample>,
    pub counts: SampleCounts,
    pub snapshots: Vec<OutputSnapshot>,
    /// Number of samples of which many snapshots were taken.
    pub many_snapshots: u32,
    /// The outputs that the last sample left.
    pub last_outputs: Outputs,
    pub skips_work: Option<SkipsWork>,
    pub memoises: Option<f64>,
    pub back_to_back: Option<f64>,
    pub memory_faults: MemoryFaults,
    /// Joules a launch, one figure for each window.
    pub joules: Vec<f64>,
    /// Launches by two clocks.
    pub two_clocks: Option<TwoClocks>,
}

impl<D: Device> Session<D> {
    /// Generates the inputs of a case, computes its reference outputs, loads the kernel and fills its memory.
    pub(super) fn prepare(
        &mut self,
        timed: &TimedCase,
        job: &TimeJob,
        stage: OnStage<'_>,
    ) -> Result<MeasuredCase<D>, Failure> {
        let tensors = &timed.case.tensors;
        let read: usize = tensors.iter().filter(|spec| spec.role == Role::In).map(TensorSpec::bytes).sum();
        let has_room = 2 * read as u64 <= self.resources.device.info().memory_bytes / COPIES_SHARE;
        let mut sets = Vec::new();
        for seed in [Some(job.seed), job.other_seed.filter(|_| has_room)].into_iter().flatten() {
            stage(Stage::Inputs);
            let inputs = self.inputs(tensors, seed, None)?;
            stage(Stage::Reference);
            let reference = self.reference(&timed.reference, tensors, &inputs, ReferenceInputs::random(seed))?;
            sets.push(InputSet { seed, inputs, reference });
        }
        // Loading may run the kernel's constructors.
        stage(Stage::Launch);
        let mut memory = self.load(&timed.case, &sets[0].inputs)?;
        let code = self.code(&timed.case.sequence.blob)?;
        let Resources { device, pool, .. } = &mut self.resources;
        memory.prepare(device, Some(pool), &sets[0].inputs)?;
        let inputs: Vec<Arc<Inputs>> = sets.iter().map(|set| Arc::clone(&set.inputs)).collect();
        if !has_room {
            memory.set_only(&inputs[0]);
        } else if memory.add_sets(device, pool, &inputs).is_err() {
            // Out of memory: one set must be enough.
            sets.truncate(1);
        }
        let mut writes = Vec::new();
        for set in &sets {
            writes.push(memory.restore_writes(device, pool, &set.inputs)?);
        }
        Ok(MeasuredCase {
            can_rotate: memory.can_rotate(),
            memory,
            sets,
            inputs: InputChoice::Set(0),
            number: 0,
            new_launches: 0,
            on_new: None,
            code,
            writes,
            untimed: 0.0,
            batch: 1,
            samples: Vec::new(),
            counts: SampleCounts::new(job),
            snapshots: Vec::new(),
            many_snapshots: 0,
            last_outputs: Outputs::new(),
            skips_work: None,
            memoises: None,
            back_to_back: None,
            memory_faults: MemoryFaults::default(),
            joules: Vec::new(),
            two_clocks: None,
        })
    }
}

impl<D: Device> MeasuredCase<D> {
    /// The set of inputs in memory; for new inputs the set that they are made of.
    pub fn set(&self) -> usize {
        match self.inputs {
            InputChoice::Set(set) => set,
            InputChoice::New(_) => 0,
        }
    }

    /// Number of launches on new inputs; `None` if the job does not ask for any.
    pub fn new_inputs(&self, job: &TimeJob) -> Option<u64> {
        let samples = self.samples.iter().filter(|sample| sample.on_new_inputs).count() as u64;
        job.new_inputs.then_some(samples + self.new_launches)
    }

    /// Whether a search leaves the launches after the samples, which are those of a long kernel, to the finals.
    pub fn is_left_to_finals(&self, job: &TimeJob) -> bool {
        job.rank_only && self.samples.iter().all(|sample| sample.nanoseconds > EXAMINED_BELOW)
    }

    /// The outputs in memory.
    pub fn outputs(&self, resources: &mut Resources<D>) -> Result<Outputs, Failure> {
        let Resources { device, results, .. } = resources;
        let digests = self.memory.digests(device)?;
        self.memory.outputs(device, &mut results.outputs, &digests)
    }

    /// Chooses the number of launches a sample: as many as the clock needs for an accurate time.
    pub fn choose_batch(&mut self, run: &mut Run<'_, D>) -> Result<(), Failure> {
        let (device, cache) = (&mut run.resources.device, run.job.cache);
        let shortest = device.shortest_sample()?;
        if cache == CacheMode::Cold
            || run.job.launch != LaunchMode::Graph
            || self.memory.is_in_place()
            || shortest <= 0.0
        {
            return Ok(());
        }
        loop {
            run.heartbeat.enter(Stage::Warmup);
            let set = self.set();
            let sample = device.sample_after(&self.writes[set], &mut self.memory.bound, self.batch, cache)?;
            let sample = sample.nanoseconds * f64::from(self.batch);
            if sample >= shortest || self.batch == LARGEST_BATCH {
                return Ok(());
            }
            // A tenth above the estimate, so that most cases need two attempts.
            let wanted = f64::from(self.batch) * (1.1 * shortest / sample.max(1.0)).min(1000.0);
            self.batch = (wanted.ceil() as u32).max(self.batch * 2).min(LARGEST_BATCH);
        }
    }

    /// Keeps the outputs that the last sample left, and looks for cheating and memory faults, unless the same launch was examined before;
    /// of a slow case only for memory faults. No samples are taken after this.
    pub fn examine(&mut self, run: &mut Run<'_, D>, examined_before: bool, is_slow: bool) -> Result<(), Failure> {
        run.heartbeat.enter(Stage::Compare);
        self.last_outputs = self.outputs(run.resources)?;
        if self.is_left_to_finals(run.job) {
            return Ok(());
        }
        if !examined_before && !is_slow {
            self.skips_work = self.skips_work(run)?;
            self.memoises = self.memoises(run)?;
            self.back_to_back = self.back_to_back(run)?;
            if run.job.new_inputs {
                self.lone_launches(run)?;
                if self.can_rotate {
                    self.launch_on_new_inputs(run)?;
                }
            }
        }
        // The steps above restored all memory that the kernel may have changed.
        if !is_slow {
            run.heartbeat.enter(Stage::Timing);
            run.resources.device.run(&self.memory.bound)?;
        }
        run.heartbeat.enter(Stage::Compare);
        let mut faults = MemoryFaults::default();
        faults.find(&mut run.resources.device, self)?;
        self.memory_faults = faults;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake_case::{job, launches, sampled};
    use super::*;
    use crate::protocol::Source;

    const SHORT: &str = r#"{"time_ns":1000,"noise":0}"#;

    #[test]
    fn a_quarter_of_the_memory_is_enough_for_two_sets_of_inputs() {
        let sets = |missing: u64| {
            let (mut session, mut job) = job(SHORT);
            // An input of 1 MiB beside a small output.
            let TimedCase { case, .. } = &mut job.cases[0];
            case.tensors[0].dims = vec![1 << 19];
            session.resources.device.info.memory_bytes = (8 << 20) - missing;
            sampled((session, job), |case, _| case.sets.len())
        };
        assert_eq!([0, 4].map(sets), [2, 1]);
    }

    #[test]
    fn a_batch_is_as_long_as_the_clock_needs() {
        // From this batch on, to the batch that a clock with this shortest sample needs.
        let chosen = |time_ns: f64, batch, shortest: f64| {
            sampled(job(&format!(r#"{{"time_ns":{time_ns},"noise":0}}"#)), |case, run| {
                let job = TimeJob { cache: CacheMode::Hot, ..run.job.clone() };
                let mut run = Run::new(run.resources, &job, run.heartbeat.every());
                run.resources.device.shortest_sample = shortest;
                case.batch = batch;
                let (count, done) = launches(&mut run, |run| case.choose_batch(run));
                done.unwrap();
                (case.batch, count)
            })
        };
        assert_eq!(chosen(1000.0, 1, 0.0), (1, 0), "a clock without a shortest sample");
        assert_eq!(chosen(1000.0, 5, 5000.0), (5, 5));
        assert_eq!(chosen(1000.0, 1, 5000.0), (6, 1 + 6), "a tenth more than five");
        assert_eq!(chosen(900.0, 10, 10_000.0), (20, 10 + 20), "at least twice as many");
        assert_eq!(chosen(100.0, 10, 10_000.0), (110, 10 + 110));
        assert_eq!(chosen(1.0, 1, 50_001.0), (55_002, 1 + 1000 + 55_002), "at most a thousand times as many");
        assert_eq!(chosen(1.0, 40_000, 1e6).0, LARGEST_BATCH, "no longer than that, though it is too short");
    }

    #[test]
    fn only_hot_launches_of_a_graph_that_change_no_input_make_a_batch() {
        let batch = |change: fn(&mut TimeJob)| {
            let (mut session, mut job) = job(SHORT);
            session.resources.device.shortest_sample = 5000.0;
            job.cache = CacheMode::Hot;
            change(&mut job);
            sampled((session, job), |case, run| {
                case.choose_batch(run).unwrap();
                case.batch
            })
        };
        assert_eq!(batch(|_| {}), 6);
        assert_eq!(batch(|job| job.cache = CacheMode::Cold), 1);
        assert_eq!(batch(|job| job.launch = LaunchMode::Host), 1);
        let in_place = |job: &mut TimeJob| {
            let tensor = &mut job.cases[0].case.tensors[1];
            (tensor.role, tensor.source) = (Role::Inout, Source::Constant(0.0));
        };
        assert_eq!(batch(in_place), 1);
    }

    #[test]
    fn launches_on_new_inputs_are_samples_and_others() {
        sampled(job(SHORT), |case, run| {
            let sample = case.samples[0];
            case.samples = [true, false, true].map(|on_new_inputs| AdjustedSample { on_new_inputs, ..sample }).into();
            case.new_launches = 3;
            assert_eq!(case.new_inputs(run.job), Some(5));
            assert_eq!(case.new_inputs(&TimeJob { new_inputs: false, ..run.job.clone() }), None);
            case.inputs = InputChoice::Set(1);
            assert_eq!(case.set(), 1);
            case.inputs = InputChoice::New(7);
            assert_eq!(case.set(), 0);
        });
    }

    #[test]
    fn a_search_leaves_launches_of_more_than_50_ms_to_the_finals() {
        sampled(job(SHORT), |case, run| {
            let mut left = |nanoseconds: &[f64], rank_only| {
                let sample = case.samples[0];
                case.samples =
                    nanoseconds.iter().map(|&nanoseconds| AdjustedSample { nanoseconds, ..sample }).collect();
                case.is_left_to_finals(&TimeJob { rank_only, ..run.job.clone() })
            };
            assert!(left(&[5.1e7, 6e7], true) && !left(&[5.1e7, 6e7], false));
            assert!(!left(&[5e7, 6e7], true) && !left(&[6e7, 4e7], true));
        });
    }

    #[test]
    fn a_case_is_examined_once_and_a_slow_one_never() {
        let memoises = |examined_before, is_slow| {
            sampled(job(r#"{"time_ns":1000,"noise":0,"fault":"memoises"}"#), |case, run| {
                case.examine(run, examined_before, is_slow).unwrap();
                case.memoises.is_some()
            })
        };
        assert_eq!([(false, false), (true, false), (false, true)].map(|(e, s)| memoises(e, s)), [true, false, false]);
        // One launch shows whether memory faults repeat.
        let count =
            |is_slow| sampled(job(SHORT), |case, run| launches(run, |run| case.examine(run, true, is_slow).unwrap()).0);
        assert_eq!([false, true].map(count), [1, 0]);
    }
}

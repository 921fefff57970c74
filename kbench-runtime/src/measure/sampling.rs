//! Rounds: one sample of each case in turn. Disturbed samples are taken again if that helps.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::adjusted::{AdjustedSample, times};
use super::case::MeasuredCase;
use super::recheck::OutputSnapshot;
use super::run::{CaseFailure, Run};
use super::stopping::{Look, Stopping, is_clearly_above, is_race_look};
use crate::device::{Device, DisturbanceCheck, Sample};
use crate::protocol::{CacheMode, Disturbance, Failure, SmClock, Stage, TimeJob};

/// Number of times that a disturbed sample is taken again.
const RETAKES: u32 = 3;

/// Expected number of samples, among the smallest number of samples, of which [`PIECES`] snapshots are taken, and the largest number of
/// them. One snapshot is taken of every other sample.
const MANY_SNAPSHOTS: u32 = 16;

/// Number of snapshots of each output, where many are taken, and the size of a snapshot in bytes.
pub(super) const PIECES: usize = 8;
const PIECE: usize = 64;

/// The inputs of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputChoice {
    /// One of the sets of inputs.
    Set(usize),
    /// Inputs that are new in every element: see [`KernelMemory::rotate_inputs`](crate::memory::kernel::KernelMemory::rotate_inputs).
    New(u64),
}

impl InputChoice {
    /// The set itself, or the first set in place of new inputs.
    fn seen_before(self) -> Self {
        match self {
            InputChoice::Set(_) => self,
            InputChoice::New(_) => InputChoice::Set(0),
        }
    }
}

/// Draws the inputs of rounds: a set at random, or new inputs in one round of every two if kernels are tested for memoisation.
struct InputDraw {
    /// Number of sets that every case has.
    sets: usize,
    draws_new: bool,
    /// Whether the second round of a pair is on new inputs; `None` before the first round of a pair.
    next_is_new: Option<bool>,
    /// Number of the last new inputs.
    number: u64,
}

impl InputDraw {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> InputChoice {
        let is_new = self.draws_new
            && self.next_is_new.take().unwrap_or_else(|| {
                let is_new: bool = rng.random();
                self.next_is_new = Some(!is_new);
                is_new
            });
        if !is_new {
            return InputChoice::Set(draw(self.sets, rng));
        }
        self.number += 1;
        InputChoice::New(self.number)
    }
}

/// Counts of the samples of a case, and the number of samples that may still be discarded: the number of requested samples or more.
/// The limit ends sampling on a machine that is never idle, and the report says so.
pub(super) struct SampleCounts {
    /// Discarded samples, by cause of the disturbance.
    pub discarded: BTreeMap<Disturbance, u64>,
    /// Number of samples that may still be discarded.
    left: u64,
    /// Number of samples taken, discarded ones included.
    taken: u64,
    /// Number of disturbed samples among them.
    disturbed: u64,
}

impl SampleCounts {
    pub fn new(job: &TimeJob) -> Self {
        Self { discarded: BTreeMap::new(), left: u64::from(job.iterations.max(10)), taken: 0, disturbed: 0 }
    }

    /// Notes that samples are discarded. Returns false if that many may not be discarded.
    fn discard(&mut self, why: Disturbance, samples: u64) -> bool {
        let may = samples <= self.left;
        if may {
            self.left -= samples;
            *self.discarded.entry(why).or_default() += samples;
        }
        may
    }
}

/// End of sampling.
pub(super) struct SamplingEnd {
    pub stopping: Stopping,
    /// Whether the ratios of several cases are known precisely enough.
    pub compared: bool,
    /// Whether sampling was cut short because the case is clearly slower than the cutoff.
    pub cut_short: bool,
    pub sm_clock: Option<SmClock>,
    /// Other processes on the device.
    pub in_use: Option<String>,
}

/// Draws one of the sets of inputs.
pub(super) fn draw(sets: usize, rng: &mut ChaCha8Rng) -> usize {
    rng.random_range(0..sets.max(1))
}

impl<D: Device> Run<'_, D> {
    /// Takes rounds until there are enough samples.
    pub(super) fn sample(&mut self, cases: &mut [MeasuredCase<D>]) -> Result<SamplingEnd, CaseFailure> {
        let job = self.job;
        let device = &mut self.resources.device;
        // Forget disturbances before the first sample.
        device.check_disturbance(true);
        device.sm_clock();
        device.in_use();
        let until = job.until.map(|until| if job.rank_only { until.for_rank() } else { until });
        let is_first = |&index: &usize| job.cases[index].case == job.cases[0].case;
        let controls = (1..cases.len()).filter(is_first).collect();
        let mut stopping = Stopping::new(job.iterations, until, cases.len()).with_controls(controls);
        // Only the first launch of a batch would find new inputs, and a launch that warms a cache would see them.
        let draws_new = job.new_inputs && job.cache == CacheMode::Cold && cases.iter().all(|case| case.can_rotate);
        let sets = cases.iter().map(|case| case.sets.len()).min().unwrap_or(1);
        let number = u64::from(self.rng.random::<u32>());
        let mut draw = InputDraw { sets, draws_new, next_is_new: None, number };
        let alone = cases.len() == 1;
        let cutoff = job.cutoff_ns.filter(|_| alone);
        // Number of rounds, and of those that passed a check for disturbances or are kept despite one.
        let (mut taken, mut kept) = (0, 0);
        loop {
            let inputs = draw.next(&mut self.rng);
            self.round(cases, inputs, taken, &stopping)?;
            taken += 1;
            if job.rank_only && taken == 1 {
                let longest = cases.iter().map(|case| case.samples[0].nanoseconds * f64::from(case.batch));
                let untimed = cases.iter().map(|case| case.untimed).fold(0.0, f64::max);
                stopping.reduce(longest.fold(0.0, f64::max), untimed);
            }
            let look = taken == stopping.next() || stopping.is_late(taken);
            let cut_short = cutoff.is_some_and(|cutoff| {
                (look || is_race_look(taken)) && is_clearly_above(&times(&cases[0].samples), cutoff)
            });
            let device = &mut self.resources.device;
            match device.check_disturbance(look || cut_short) {
                DisturbanceCheck::NotDue => continue,
                DisturbanceCheck::Undisturbed => kept = taken,
                DisturbanceCheck::Disturbed(why) => {
                    let new = (taken - kept) as u64;
                    if !stopping.is_late(taken) && cases.iter().all(|case| case.counts.left >= new) {
                        for case in &mut *cases {
                            case.counts.discard(why, new);
                            case.samples.truncate(kept);
                        }
                        taken = kept;
                        continue;
                    }
                    for case in &mut *cases {
                        case.samples[kept..].iter_mut().for_each(|sample| sample.disturbance = Some(why));
                    }
                    kept = taken;
                }
            }
            let samples: Vec<Vec<f64>> = cases.iter().map(|case| times(&case.samples)).collect();
            let samples: Vec<&[f64]> = samples.iter().map(Vec::as_slice).collect();
            if cut_short || look && stopping.look(&samples) != Look::Continue {
                let compared = stopping.are_compared(&samples);
                let (sm_clock, in_use) = (device.sm_clock(), device.in_use());
                for case in &mut *cases {
                    case.number = draw.number;
                }
                return Ok(SamplingEnd { stopping, compared, cut_short, sm_clock, in_use });
            }
        }
    }

    /// Takes one sample of each case, and snapshots of its outputs. Rounds with odd numbers run backwards.
    fn round(
        &mut self,
        cases: &mut [MeasuredCase<D>],
        inputs: InputChoice,
        number: usize,
        stopping: &Stopping,
    ) -> Result<(), CaseFailure> {
        let alone = cases.len() == 1;
        let order: &mut dyn Iterator<Item = usize> =
            if number.is_multiple_of(2) { &mut (0..cases.len()) } else { &mut (0..cases.len()).rev() };
        for index in order {
            self.heartbeat.enter(Stage::Timing);
            self.heartbeat.announce(index);
            let case = &mut cases[index];
            let late = stopping.is_late(number);
            case.sample(self, alone, inputs, late).map_err(CaseFailure::of(index))?;
            let fewest = stopping.fewest();
            let many =
                case.many_snapshots < MANY_SNAPSHOTS && self.rng.random_ratio(MANY_SNAPSHOTS.min(fewest), fewest);
            case.many_snapshots += u32::from(many);
            case.take_snapshots(self, if many { PIECES } else { 1 }).map_err(CaseFailure::of(index))?;
        }
        Ok(())
    }
}

impl<D: Device> MeasuredCase<D> {
    /// Takes a sample and keeps it. A disturbed sample is taken again, unless too many samples are disturbed, the time is up, or most
    /// samples are disturbed and the time that this one lost is known.
    fn sample(&mut self, run: &mut Run<'_, D>, alone: bool, inputs: InputChoice, late: bool) -> Result<(), Failure> {
        let (device, cache) = (&mut run.resources.device, run.job.cache);
        for attempt in 0.. {
            // New inputs are no longer new in the second attempt.
            let inputs = if attempt == 0 { inputs } else { inputs.seen_before() };
            let sample = self.take(device, cache, alone, inputs)?;
            let batch = if cache == CacheMode::Hot { self.batch } else { 1 };
            let adjusted = AdjustedSample::of(sample, batch, device.core(&self.memory.bound).is_some());
            let adjusted = AdjustedSample { on_new_inputs: matches!(inputs, InputChoice::New(_)), ..adjusted };
            let SampleCounts { taken, disturbed, .. } = &mut self.counts;
            let may_help = !adjusted.corrected || 2 * *disturbed <= *taken;
            *taken += 1;
            *disturbed += u64::from(adjusted.is_disturbed());
            let why = sample.disturbance.filter(|_| adjusted.is_disturbed() && attempt < RETAKES && !late && may_help);
            if !why.is_some_and(|why| self.counts.discard(why, 1)) {
                self.samples.push(adjusted);
                break;
            }
        }
        Ok(())
    }

    /// Takes a sample on the given inputs.
    pub(super) fn take(
        &mut self,
        device: &mut D,
        cache: CacheMode,
        alone: bool,
        inputs: InputChoice,
    ) -> Result<Sample, Failure> {
        let switched = std::mem::replace(&mut self.inputs, inputs) != inputs;
        let writes = match inputs {
            InputChoice::Set(set) => {
                self.memory.select_set(device, set)?;
                self.writes[set].clone()
            }
            InputChoice::New(number) => {
                self.memory.rotate_inputs(device, &self.sets[0].inputs, number)?;
                self.memory.rotated_writes(&self.writes[0], number)
            }
        };
        if cache == CacheMode::Hot && (!alone || switched || self.memory.is_in_place()) {
            device.run(&self.memory.bound)?;
        }
        device.sample_after(&writes, &mut self.memory.bound, self.batch, cache)
    }

    /// Takes `pieces` snapshots, at random places, of each output as the last launch left it.
    pub(super) fn take_snapshots(&mut self, run: &mut Run<'_, D>, pieces: usize) -> Result<(), Failure> {
        let set = match self.inputs {
            InputChoice::Set(set) => Some(set),
            InputChoice::New(_) => None,
        };
        let outputs: Vec<(usize, usize, usize)> = self
            .memory
            .tensors()
            .filter(|(_, spec)| spec.role.is_output() && spec.bytes() > 0)
            .map(|(index, spec)| (index, spec.elements(), spec.dtype.size()))
            .collect();
        for (tensor, elements, size) in outputs {
            let piece = (PIECE / size).clamp(1, elements);
            for _ in 0..pieces.min(elements.div_ceil(piece)) {
                let at = run.rng.random_range(0..=elements - piece) * size;
                let bytes = self.memory.fetch(&mut run.resources.device, tensor, at, piece * size)?;
                self.snapshots.push(OutputSnapshot { set, tensor, at, bytes });
            }
        }
        Ok(())
    }
}

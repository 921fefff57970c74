//! The rounds: a sample of each case, again and again, disturbed ones taken again where that helps.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::after::Glance;
use super::stopping::{is_clearly_above, is_race_look};
use super::taken::Taken;
use super::{Look, Measured, Pulse, Stopping};
use crate::device::{Device, Sample, Watch};
use crate::memory::kernel::is_output;
use crate::protocol::{CacheMode, Convergence, Disturbance, Failure, SmClock, Stage, TimeJob};

/// How often one disturbed sample is taken again.
const RETAKES: u32 = 3;

/// Samples of the fewest asked for of which [`PIECES`] are looked at, about; and the most in all. Of others one is.
const GLANCED: u32 = 16;

/// Pieces of each output that are looked at, and their size in bytes.
pub(super) const PIECES: usize = 8;
const PIECE: usize = 64;

/// What a launch is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// One of the sets of inputs.
    Set(usize),
    /// Inputs that are new in every element: see [`Rig::renew`](crate::memory::kernel::Rig::renew).
    New(u64),
}

impl Given {
    /// This, or known inputs in place of new ones.
    fn known(self) -> Self {
        match self {
            Given::Set(_) => self,
            Given::New(_) => Given::Set(0),
        }
    }
}

/// What rounds are given: sets at random, and where kernels are to be renewed, new inputs in one of each two rounds.
struct Draw {
    sets: usize,
    renews: bool,
    next_is_new: Option<bool>,
    /// The number of the next new inputs.
    number: u64,
}

impl Draw {
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Given {
        let is_new = self.renews
            && self.next_is_new.take().unwrap_or_else(|| {
                let is_new: bool = rng.random();
                self.next_is_new = Some(!is_new);
                is_new
            });
        if !is_new {
            return Given::Set(draw(self.sets, rng));
        }
        self.number += 1;
        Given::New(self.number)
    }
}

/// What was discarded, and how much more may be: in all as many as are asked for at least, so that a machine that never comes to
/// rest gives a result all the same, and says so.
pub(super) struct Counts {
    pub discarded: BTreeMap<Disturbance, u64>,
    left: u64,
    /// Samples taken, and those of them that were disturbed.
    taken: u64,
    disturbed: u64,
}

impl Counts {
    pub fn new(job: &TimeJob) -> Self {
        Self { discarded: BTreeMap::new(), left: u64::from(job.iterations.max(10)), taken: 0, disturbed: 0 }
    }

    /// Discards so many samples, if that many may be.
    fn discard(&mut self, why: Disturbance, samples: u64) -> bool {
        let may = samples <= self.left;
        if may {
            self.left -= samples;
            *self.discarded.entry(why).or_default() += samples;
        }
        may
    }
}

/// How sampling ended.
pub(super) struct Ended {
    pub stopping: Stopping,
    /// Whether the ratios of several cases are known.
    pub compared: bool,
    pub raced: bool,
    pub sm_clock: Option<SmClock>,
    /// What else used the device.
    pub in_use: Option<String>,
}

/// One of the sets of inputs, at random.
pub(super) fn draw(sets: usize, rng: &mut ChaCha8Rng) -> usize {
    rng.random_range(0..sets.max(1))
}

/// Takes rounds until there are enough.
pub(super) fn rounds<D: Device>(
    device: &mut D,
    measured: &mut [Measured<D>],
    job: &TimeJob,
    rng: &mut ChaCha8Rng,
    pulse: &mut Pulse<'_, '_>,
) -> Result<Ended, (usize, Failure)> {
    let at = |case: usize| move |failure: Failure| (case, failure);
    // What was before is not of these samples.
    device.watch(true);
    device.sm_clock();
    device.in_use();
    let mut stopping = Stopping::new(job.iterations, job.until, measured.len());
    // A batch finds new inputs in its first launch only, and to warm a cache takes a launch on them.
    let renews = job.renew && job.cache == CacheMode::Cold && measured.iter().all(|case| case.can_renew);
    let sets = measured.iter().map(|case| case.sets.len()).min().unwrap_or(1);
    let mut draw = Draw { sets, renews, next_is_new: None, number: u64::from(rng.random::<u32>()) };
    let alone = measured.len() == 1;
    let bar = job.stop_above_ns.filter(|_| alone);
    // Rounds, and how many of them were found undisturbed or must do.
    let (mut taken, mut settled) = (0, 0);
    loop {
        let given = draw.next(rng);
        let order: &mut dyn Iterator<Item = usize> =
            if taken % 2 == 0 { &mut (0..measured.len()) } else { &mut (0..measured.len()).rev() };
        for index in order {
            pulse.beat(Stage::Timing);
            pulse.announce(job, index);
            let case = &mut measured[index];
            let late = stopping.is_late(taken);
            case.sample(device, job.cache, alone, given, late).map_err(at(index))?;
            let closely = case.closely < GLANCED && rng.random_ratio(GLANCED.min(stopping.fewest()), stopping.fewest());
            case.closely += u32::from(closely);
            case.glance(device, rng, if closely { PIECES } else { 1 }).map_err(at(index))?;
        }
        taken += 1;
        if job.hurry && taken == 1 {
            let longest = measured.iter().map(|case| case.samples[0].nanoseconds * f64::from(case.batch));
            stopping.hurry(longest.fold(0.0, f64::max));
        }
        let look = taken == stopping.next() || stopping.is_late(taken);
        let loses =
            bar.is_some_and(|bar| (look || is_race_look(taken)) && is_clearly_above(&times(&measured[0].samples), bar));
        match device.watch(look || loses) {
            Watch::Later => continue,
            Watch::Calm => settled = taken,
            Watch::Disturbed(why) => {
                let new = (taken - settled) as u64;
                if !stopping.is_late(taken) && measured.iter().all(|case| case.counts.left >= new) {
                    for case in &mut *measured {
                        case.counts.discard(why, new);
                        case.samples.truncate(settled);
                    }
                    taken = settled;
                    continue;
                }
                for case in &mut *measured {
                    case.samples[settled..].iter_mut().for_each(|sample| sample.disturbance = Some(why));
                }
                settled = taken;
            }
        }
        let samples: Vec<Vec<f64>> = measured.iter().map(|case| times(&case.samples)).collect();
        let samples: Vec<&[f64]> = samples.iter().map(Vec::as_slice).collect();
        if loses || look && stopping.look(&samples) != Look::Continue {
            let compared = stopping.are_compared(&samples);
            let (sm_clock, in_use) = (device.sm_clock(), device.in_use());
            for case in &mut *measured {
                case.number = draw.number;
            }
            return Ok(Ended { stopping, compared, raced: loses, sm_clock, in_use });
        }
    }
}

pub(super) fn times(samples: &[Taken]) -> Vec<f64> {
    samples.iter().map(|sample| sample.nanoseconds).collect()
}

/// By how much samples may be too long, in the mean.
pub(super) fn slack(samples: &[Taken]) -> f64 {
    samples.iter().map(|sample| sample.slack).sum::<f64>() / samples.len().max(1) as f64
}

/// Whether samples may be too long by so little that their median is as precise as asked for.
pub(super) fn is_sure(samples: &[Taken], until: Option<Convergence>) -> bool {
    let shortest = times(samples).into_iter().fold(f64::INFINITY, f64::min);
    until.is_none_or(|until| slack(samples) <= 2.0 * until.precision * shortest)
}

impl<D: Device> Measured<D> {
    /// Takes a sample and keeps it. A disturbed one is taken again, unless that happens too often, it is too late for that, or
    /// most of them are disturbed and it is known what this one lost.
    fn sample(
        &mut self,
        device: &mut D,
        cache: CacheMode,
        alone: bool,
        given: Given,
        late: bool,
    ) -> Result<(), Failure> {
        for attempt in 0.. {
            // What was new is not when it is taken again.
            let given = if attempt == 0 { given } else { given.known() };
            let sample = self.take(device, cache, alone, given)?;
            let batch = if cache == CacheMode::Hot { self.batch } else { 1 };
            let taken = Taken::of(sample, batch, device.core(&self.rig.bound).is_some());
            let taken = Taken { on_new_inputs: matches!(given, Given::New(_)), ..taken };
            let Counts { taken: all, disturbed, .. } = &mut self.counts;
            let may_help = !taken.corrected || 2 * *disturbed <= *all;
            *all += 1;
            *disturbed += u64::from(taken.is_disturbed());
            let why = sample.disturbance.filter(|_| taken.is_disturbed() && attempt < RETAKES && !late && may_help);
            if !why.is_some_and(|why| self.counts.discard(why, 1)) {
                self.samples.push(taken);
                break;
            }
        }
        Ok(())
    }

    /// Takes a sample over the inputs given.
    pub(super) fn take(
        &mut self,
        device: &mut D,
        cache: CacheMode,
        alone: bool,
        given: Given,
    ) -> Result<Sample, Failure> {
        let switched = std::mem::replace(&mut self.given, given) != given;
        let writes = match given {
            Given::Set(set) => {
                self.rig.switch(device, set)?;
                self.writes[set].clone()
            }
            Given::New(number) => {
                self.rig.renew(device, &self.sets[0].inputs, number)?;
                self.rig.renewed_writes(&self.writes[0], number)
            }
        };
        if cache == CacheMode::Hot && (!alone || switched || self.rig.is_in_place()) {
            device.run(&self.rig.bound)?;
        }
        device.sample_after(&writes, &mut self.rig.bound, self.batch, cache)
    }

    /// Keeps so many pieces of each output as a sample left it.
    pub(super) fn glance(&mut self, device: &mut D, rng: &mut ChaCha8Rng, pieces: usize) -> Result<(), Failure> {
        let set = match self.given {
            Given::Set(set) => Some(set),
            Given::New(_) => None,
        };
        let outputs: Vec<(usize, usize, usize)> = self
            .rig
            .tensors_by_index()
            .filter(|(_, spec)| is_output(spec.role) && spec.bytes() > 0)
            .map(|(index, spec)| (index, spec.elements(), spec.dtype.size()))
            .collect();
        for (tensor, elements, size) in outputs {
            let piece = (PIECE / size).clamp(1, elements);
            for _ in 0..pieces.min(elements.div_ceil(piece)) {
                let at = rng.random_range(0..=elements - piece) * size;
                let bytes = self.rig.piece(device, tensor, at, piece * size)?;
                self.glances.push(Glance { set, tensor, at, bytes });
            }
        }
        Ok(())
    }

    /// Samples that were kept although something disturbed them.
    pub(super) fn disturbed(&self) -> BTreeMap<Disturbance, u64> {
        let mut counts = BTreeMap::new();
        for why in self.samples.iter().filter_map(|sample| sample.disturbance) {
            *counts.entry(why).or_default() += 1;
        }
        counts
    }
}

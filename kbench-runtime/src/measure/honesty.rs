//! Whether the samples are those of the kernel's work: it must not do less where its outputs are right already, nor where it knows
//! its inputs.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::sampling::{Given, PIECES};
use super::taken::Taken;
use super::{Measured, Pulse};
use crate::device::{Device, Write};
use crate::memory::kernel::NAN;
use crate::protocol::{CacheMode, Failure, Role, SkipsWork, Stage};
use crate::verify::compare::element;
use crate::verify::results::ResultCache;

/// Pairs of a launch that has to work and one that could do without: as many as settle most cases, and as many as prove it.
const FEWEST_PAIRS: usize = 3;
const MOST_PAIRS: usize = 11;

/// Nanoseconds from which a launch is long: noise is then a small part of it, and a batch is one launch, which finds poison. One look
/// of each kind is enough for such a case.
const LONG: f64 = 1e6;

/// Ratios from which more pairs are taken, and from which work is skipped.
const SUSPICIOUS: f64 = 1.2;
const SKIPS: f64 = 1.5;

/// Elements of each output that are poisoned among right ones: few, since a kernel that looks at one of them does all its work;
/// and how often.
const SPOILT: usize = 4;
const LOOKS: usize = 2;

/// Launches that are looked at one by one where samples are batches.
const LONE: usize = 64;

/// Times of launches that have to work, and of launches that could do without.
#[derive(Default)]
struct Pairs {
    work: Vec<f64>,
    could_skip: Vec<f64>,
}

impl Pairs {
    fn is_settled(&self) -> bool {
        let work = quantile(&self.work, 0.0);
        let fewest = if work < LONG { FEWEST_PAIRS } else { 1 };
        self.work.len() == MOST_PAIRS
            || self.work.len() == fewest && quantile(&self.work, 0.5) < SUSPICIOUS * quantile(&self.could_skip, 0.5)
    }

    /// The ratio of the two. Noise makes launches slower: the fast ones tell.
    fn ratio(&self) -> f64 {
        let fast = quantile(&self.could_skip, 0.25).max(f64::MIN_POSITIVE);
        (quantile(&self.work, 0.25) / fast).min(f64::MAX)
    }

    /// Whether work was skipped. One that works is hardly ever fast, however calm the machine; but of a small tensor new inputs
    /// may be known by chance.
    fn are_apart(&self) -> bool {
        let fast = quantile(&self.could_skip, 0.25);
        self.work.len() == MOST_PAIRS && self.ratio() > SKIPS && quantile(&self.work, 0.1) > SUSPICIOUS * fast
    }
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f64 * part).round() as usize).copied().unwrap_or(0.0)
}

impl<D: Device> Measured<D> {
    /// Whether the kernel does less where its outputs are right already. Only the first launch of a batch finds poison, so
    /// that the samples alone do not rule it out.
    ///
    /// Two looks. A launch on outputs that are right but for a few elements must write those. And launches on right outputs must
    /// not be much faster than launches on poison: each alone and behind a flush, so that how the outputs came to be there makes
    /// no difference. Cold samples are such launches on poison; of a long kernel a few of them are enough.
    pub(super) fn skips_work(
        &mut self,
        device: &mut D,
        cache: CacheMode,
        rng: &mut ChaCha8Rng,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<Option<SkipsWork>, Failure> {
        let has = |role: Role| self.rig.tensors().any(|spec| spec.role == role);
        if !has(Role::Out) && !has(Role::Scratch) {
            return Ok(None);
        }
        let writes = self.writes[self.set()].clone();
        // Tensors that are read and written get their inputs back either way.
        let restore: Vec<Write<D::Buffer>> =
            writes.iter().filter(|write| matches!(write, Write::Copy { .. })).cloned().collect();
        let mut pairs = Pairs::default();
        let (left_alone, nearly_right) = self.left_alone(device, &restore, rng, pulse)?;
        if self.is_long() && cache == CacheMode::Cold {
            // What is right but for a few elements is as good a chance to skip work.
            pairs.work = self.samples.iter().map(|sample| sample.nanoseconds).take(1).collect();
            pairs.could_skip = nearly_right;
        }
        while !pairs.is_settled() {
            pulse.beat(Stage::Timing);
            pairs.work.push(self.lone(device, &writes)?);
            // A batch hides a launch that does nothing behind one that works; here each is alone.
            self.glance(device, rng, PIECES)?;
            pulse.beat(Stage::Timing);
            self.rig.set_outputs(device, &self.left)?;
            pairs.could_skip.push(self.lone(device, &restore)?);
        }
        let skips = left_alone > 0 || pairs.are_apart();
        Ok(skips.then(|| SkipsWork { ratio: pairs.ratio(), left_alone }))
    }

    /// Nanoseconds of a launch alone on cold caches, after writes; without the time that the core was lost.
    fn lone(&mut self, device: &mut D, writes: &[Write<D::Buffer>]) -> Result<f64, Failure> {
        let sample = device.sample_after(writes, &mut self.rig.bound, 1, CacheMode::Cold)?;
        Ok(Taken::of(sample, 1, device.core(&self.rig.bound).is_some()).nanoseconds)
    }

    /// Launches each alone on poison, where the samples are batches, of which only the last launch is seen and only the first finds
    /// poison: a kernel that skips a launch now and then is seen to leave poison.
    pub(super) fn lone_launches(
        &mut self,
        device: &mut D,
        rng: &mut ChaCha8Rng,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<(), Failure> {
        for _ in 0..if self.batch > 1 { LONE } else { 0 } {
            pulse.beat(Stage::Timing);
            device.write(&self.writes[self.set()])?;
            device.run(&self.rig.bound)?;
            self.glance(device, rng, 1)?;
        }
        Ok(())
    }

    /// Launches the kernel once on inputs that are new in every element, and keeps what it leaves there: a fresh load must leave the
    /// same.
    pub(super) fn on_new_inputs(
        &mut self,
        device: &mut D,
        results: &mut ResultCache,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<(), Failure> {
        self.number += 1;
        let number = self.number;
        pulse.beat(Stage::Timing);
        let given = std::mem::replace(&mut self.given, Given::New(number));
        self.rig.renew(device, &self.sets[0].inputs, number)?;
        device.write(&self.rig.renewed_writes(&self.writes[0], number))?;
        device.run(&self.rig.bound)?;
        self.new_launches += 1;
        pulse.beat(Stage::Compare);
        self.renewed = Some((number, self.outputs(device, results)?));
        let set = match given {
            Given::Set(set) => set,
            Given::New(_) => 0,
        };
        self.given = Given::Set(set);
        self.rig.switch(device, set)
    }

    /// How much faster the kernel is on inputs of the launch before than on inputs that are new in every element, where that is no
    /// chance: it keeps results. Of a long kernel the cold samples are launches on new inputs enough.
    pub(super) fn keeps_results(&mut self, device: &mut D, pulse: &mut Pulse<'_, '_>) -> Result<Option<f64>, Failure> {
        let mut on_new: Vec<f64> =
            self.samples.iter().filter(|sample| sample.on_new_inputs).map(|sample| sample.nanoseconds).collect();
        on_new.truncate(if self.is_long() { MOST_PAIRS } else { 0 });
        let mut pairs = Pairs::default();
        while self.can_renew && !pairs.is_settled() {
            let set = pairs.work.len() % self.sets.len();
            let on_new = if let Some(sample) = on_new.pop() {
                sample
            } else {
                self.number += 1;
                let number = self.number;
                self.rig.renew(device, &self.sets[0].inputs, number)?;
                let writes = self.rig.renewed_writes(&self.writes[0], number);
                pulse.beat(Stage::Timing);
                self.new_launches += 1;
                self.lone(device, &writes)?
            };
            pairs.work.push(on_new);
            // Seen in many samples, and once more, should it keep only what was last.
            self.rig.switch(device, set)?;
            device.write(&self.writes[set])?;
            pulse.beat(Stage::Timing);
            device.run(&self.rig.bound)?;
            pulse.beat(Stage::Timing);
            let writes = self.writes[set].clone();
            pairs.could_skip.push(self.lone(device, &writes)?);
        }
        self.rig.switch(device, self.set())?;
        Ok(pairs.are_apart().then(|| pairs.ratio()))
    }

    /// Whether a launch takes so long that noise is a small part of it.
    pub(super) fn is_long(&self) -> bool {
        self.samples.iter().all(|sample| sample.nanoseconds >= LONG)
    }

    /// How many of a few poisoned elements among right ones a launch leaves alone, and how long such launches took.
    fn left_alone(
        &mut self,
        device: &mut D,
        restore: &[Write<D::Buffer>],
        rng: &mut ChaCha8Rng,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<(u64, Vec<f64>), Failure> {
        pulse.beat(Stage::Compare);
        self.rig.set_outputs(device, &self.left)?;
        let mut times = Vec::new();
        for _ in 0..if self.is_long() { 1 } else { LOOKS } {
            let mut places = Vec::new();
            for (index, data) in &self.left {
                let spec = self.rig.tensor(*index);
                let size = spec.dtype.size();
                if spec.role != Role::Out || data.is_empty() {
                    continue;
                }
                for _ in 0..SPOILT {
                    let at = rng.random_range(0..spec.elements());
                    // Poison may be the right value, or what was never written, which is counted elsewhere.
                    if element(data, at, size).iter().any(|byte| *byte != NAN) {
                        self.rig.set_element(device, *index, at, &vec![NAN; size])?;
                        places.push((*index, at));
                    }
                }
            }
            pulse.beat(Stage::Timing);
            times.push(self.lone(device, restore)?);
            pulse.beat(Stage::Compare);
            let mut alone = 0;
            for (index, at) in places {
                alone += u64::from(self.rig.element(device, index, at)?.iter().all(|byte| *byte == NAN));
            }
            if alone > 0 {
                return Ok((alone, times));
            }
        }
        Ok((0, times))
    }
}

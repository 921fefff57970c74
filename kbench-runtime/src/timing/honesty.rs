//! Whether the samples are those of the kernel's work: it must not do less where its outputs are right already, nor where it knows
//! its inputs.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{Measured, Pulse};
use crate::compare::element;
use crate::device::{Device, Write};
use crate::protocol::{CacheMode, Failure, Role, SkipsWork, Stage};
use crate::rig::NAN;

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
            || self.work.len() == fewest && work < SUSPICIOUS * quantile(&self.could_skip, 0.0)
    }

    /// The ratio of the two. Noise makes launches slower: the fast ones tell.
    fn ratio(&self) -> f64 {
        let fast = quantile(&self.could_skip, 0.25).max(f64::MIN_POSITIVE);
        (quantile(&self.work, 0.25) / fast).min(f64::MAX)
    }

    /// Whether work was skipped. One that works is never fast, however calm the machine.
    fn are_apart(&self) -> bool {
        let fast = quantile(&self.could_skip, 0.25);
        self.work.len() == MOST_PAIRS && self.ratio() > SKIPS && quantile(&self.work, 0.0) > SUSPICIOUS * fast
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
    /// no difference.
    pub(super) fn skips_work(
        &mut self,
        device: &mut D,
        rng: &mut ChaCha8Rng,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<Option<SkipsWork>, Failure> {
        let has = |role: Role| self.rig.tensors().any(|spec| spec.role == role);
        if !has(Role::Out) && !has(Role::Scratch) {
            return Ok(None);
        }
        let writes = self.writes[self.set].clone();
        // Tensors that are read and written get their inputs back either way.
        let restore: Vec<Write<D::Buffer>> =
            writes.iter().filter(|write| matches!(write, Write::Copy { .. })).cloned().collect();
        let left_alone = self.left_alone(device, &restore, rng, pulse)?;
        let mut pairs = Pairs::default();
        while !pairs.is_settled() {
            pulse.beat(Stage::Timing);
            let bound = &mut self.rig.bound;
            pairs.work.push(device.sample_after(&writes, bound, 1, CacheMode::Cold)?.nanoseconds);
            // A batch hides a launch that does nothing behind one that works; here each is alone.
            self.glance(device, rng)?;
            pulse.beat(Stage::Timing);
            self.rig.set_outputs(device, &self.left)?;
            pairs.could_skip.push(device.sample_after(&restore, &mut self.rig.bound, 1, CacheMode::Cold)?.nanoseconds);
        }
        let skips = left_alone > 0 || pairs.are_apart();
        Ok(skips.then(|| SkipsWork { ratio: pairs.ratio(), left_alone }))
    }

    /// How much faster the kernel is on inputs of the samples than on inputs that it never saw, where that is no chance: it keeps
    /// results. None where there is nothing to make new inputs of.
    pub(super) fn keeps_results(
        &mut self,
        device: &mut D,
        rng: &mut ChaCha8Rng,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<Option<f64>, Failure> {
        if self.sets.len() < 2 {
            return Ok(None);
        }
        let mut pairs = Pairs::default();
        let first = rng.random_range(0..usize::MAX / 2);
        while !pairs.is_settled() {
            let set = pairs.work.len() % 2;
            self.rig.mix(device, set, first + pairs.work.len())?;
            pulse.beat(Stage::Timing);
            let sample = device.sample_after(&self.writes[set], &mut self.rig.bound, 1, CacheMode::Cold)?;
            pairs.work.push(sample.nanoseconds);
            // Seen in many samples, and once more, should it keep only what was last.
            self.rig.switch(device, set)?;
            device.write(&self.writes[set])?;
            pulse.beat(Stage::Timing);
            device.run(&self.rig.bound)?;
            pulse.beat(Stage::Timing);
            let sample = device.sample_after(&self.writes[set], &mut self.rig.bound, 1, CacheMode::Cold)?;
            pairs.could_skip.push(sample.nanoseconds);
        }
        self.rig.switch(device, self.set)?;
        Ok(pairs.are_apart().then(|| pairs.ratio()))
    }

    /// How many of a few poisoned elements among right ones a launch leaves alone.
    fn left_alone(
        &mut self,
        device: &mut D,
        restore: &[Write<D::Buffer>],
        rng: &mut ChaCha8Rng,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<u64, Failure> {
        pulse.beat(Stage::Compare);
        self.rig.set_outputs(device, &self.left)?;
        let shortest = self.samples.iter().map(|sample| sample.nanoseconds).fold(f64::INFINITY, f64::min);
        for _ in 0..if shortest < LONG { LOOKS } else { 1 } {
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
            device.write(restore)?;
            pulse.beat(Stage::Timing);
            device.run(&self.rig.bound)?;
            pulse.beat(Stage::Compare);
            let mut alone = 0;
            for (index, at) in places {
                alone += u64::from(self.rig.element(device, index, at)?.iter().all(|byte| *byte == NAN));
            }
            if alone > 0 {
                return Ok(alone);
            }
        }
        Ok(0)
    }
}

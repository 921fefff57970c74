//! The timing engine: cases interleaved, one sample of each in turn, until their medians are known well enough, and each
//! case's work looked at once more at the end.

mod after;
mod damage;
mod energy;
mod honesty;
mod sampling;
pub mod statistics;
pub mod stopping;
mod taken;
mod warmup;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use self::after::Glance;
use self::damage::Damage;
use self::sampling::{Counts, Given};
use self::stopping::{Look, Stopping};
use self::taken::Taken;
use self::warmup::WarmUp;
use crate::device::{Device, Write};
use crate::inputs::tensor::Inputs;
use crate::memory::kernel::{Outputs, Rig};
use crate::protocol::{CacheMode, Failure, Role, Sampling, SkipsWork, Stage, TimeJob, TimedCase, Timing};
use crate::verify::check::{OnStage, Session};
use crate::verify::reference;
use crate::verify::results::ResultCache;

/// A sign of life is given before whatever starts this long after the last one.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Most launches a sample.
const LARGEST_BATCH: u32 = 1 << 16;

/// Nanoseconds a launch up to which a search looks at more than the samples.
const LOOKED_AT: f64 = 5e7;

/// Share of the device's memory that copies of inputs may take.
const COPIES: u64 = 4;

/// Inputs of one seed, and what is right for them.
struct InputSet {
    seed: u64,
    inputs: Arc<Inputs>,
    reference: Arc<reference::Outputs>,
}

/// A case ready to be measured.
struct Measured<D: Device> {
    rig: Rig<D>,
    sets: Vec<InputSet>,
    /// What lies in memory.
    given: Given,
    /// Whether there is anything to make new inputs of.
    can_renew: bool,
    /// The number of the last new inputs.
    number: u64,
    /// Launches on new inputs beside samples.
    new_launches: u64,
    /// The number of new inputs, and what the kernel left on them.
    renewed: Option<(u64, Outputs)>,
    /// Its machine code.
    code: Arc<Vec<u8>>,
    /// What makes memory ready for each sample, for each set: the case finds nothing there that it or another one has made.
    writes: Vec<Vec<Write<D::Buffer>>>,
    batch: u32,
    samples: Vec<Taken>,
    counts: Counts,
    glances: Vec<Glance>,
    /// Samples that were looked at closely.
    closely: u32,
    /// What the last sample left behind.
    left: Outputs,
    skips_work: Option<SkipsWork>,
    keeps_results: Option<f64>,
    damage: Damage,
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
    /// and from the inputs where a tensor is read and written; its batch is then one launch. Which inputs it gets is drawn anew
    /// each round, the same for all cases, and pieces of the outputs of some samples are kept to be compared: a kernel can neither
    /// foresee its inputs nor know when it is looked at.
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
            measured.push(self.prepare(case, job, stage).map_err(at(index))?);
        }
        let device = &mut self.device;
        let mut last = None;
        let mut pulse = Pulse { stage: &mut *stage, last: &mut last };
        let mut warmups = vec![WarmUp::default(); measured.len()];
        for _ in 0..job.warmup {
            for (index, case) in measured.iter_mut().enumerate() {
                if warmups[index].is_over() {
                    continue;
                }
                pulse.beat(Stage::Warmup);
                pulse.announce(job, index);
                device.write(&case.writes[case.set()]).map_err(at(index))?;
                let started = Instant::now();
                device.run(&case.rig.bound).map_err(at(index))?;
                warmups[index].add(started.elapsed());
            }
        }
        for (index, case) in measured.iter_mut().enumerate() {
            pulse.beat(Stage::Warmup);
            pulse.announce(job, index);
            case.batch = batch(device, case, job.cache, &mut pulse).map_err(at(index))?;
        }
        // No kernel can know what is drawn from it.
        let mut rng = ChaCha8Rng::seed_from_u64(RandomState::new().build_hasher().finish());
        let ended = sampling::rounds(device, &mut measured, job, &mut rng, &mut pulse)?;
        let mut joules = vec![Vec::new(); measured.len()];
        for (index, case) in measured.iter_mut().enumerate().filter(|_| job.energy && !ended.raced) {
            pulse.announce(job, index);
            joules[index] = case.energy(device, &mut pulse).map_err(at(index))?;
        }
        // What is found now may be any case's doing, if there are several; after one more sample of each, what is found is a case's own.
        let mut anyones = Damage::default();
        let ended_on_new = measured.iter().any(|case| matches!(case.given, Given::New(_)));
        for (index, case) in measured.iter_mut().enumerate().filter(|_| ended_on_new) {
            case.rig.switch(device, 0).map_err(at(index))?;
            case.given = Given::Set(0);
        }
        for (index, case) in measured.iter().enumerate() {
            pulse.beat(Stage::Compare);
            anyones.look(device, case).map_err(at(index))?;
        }
        let alone = measured.len() == 1;
        for (index, case) in measured.iter_mut().enumerate() {
            pulse.beat(Stage::Timing);
            pulse.announce(job, index);
            if ended.raced {
                // The last sample does as well: this case is alone.
                case.left = case.outputs(device, &mut self.results).map_err(at(index))?;
                continue;
            }
            // Energy is that of launches back to back, without poison before each.
            if !alone || job.energy || ended_on_new {
                let set = sampling::draw(case.sets.len(), &mut rng);
                case.take(device, job.cache, alone, Given::Set(set)).map_err(at(index))?;
            }
            // The same launch measured again, for the noise: it was looked at already.
            let again = job.cases[..index].iter().any(|other| other.case == job.cases[index].case);
            case.look_back(device, &mut self.results, job, again, &mut rng, &mut pulse).map_err(at(index))?;
        }
        anyones.assign(&mut measured);
        let mut timings = Vec::with_capacity(measured.len());
        for (index, (mut case, timed)) in measured.into_iter().zip(&job.cases).enumerate() {
            stage(Stage::Case(index));
            let tensors = &timed.case.tensors;
            let after = if ended.raced {
                after::of_last(&mut self.results, &mut case, tensors, job.bad_above)
            } else {
                let kept = (&mut *device, &mut self.pool, &mut self.results);
                after::after(kept, &mut case, timed, job.bad_above, stage).map_err(at(index))?
            };
            let resolution = device.resolution().map_err(at(index))?;
            let samples = sampling::times(&case.samples);
            let corrected = case.samples.iter().filter(|sample| sample.corrected).count() as u64;
            let sampling = Sampling {
                cache: job.cache,
                resolution_ns: Some(resolution.step),
                overhead_ns: Some(resolution.overhead),
                converged: (ended.compared || ended.stopping.is_converged(&samples))
                    && sampling::is_sure(&case.samples, job.until),
                raced: ended.raced,
                input_sets: case.sets.len() as u32,
                new_inputs: case.new_inputs(job),
                exposed_samples: case.samples.iter().filter(|sample| sample.exposed).count() as u64,
                disturbed: case.disturbed(),
                corrected,
                discarded: std::mem::take(&mut case.counts.discarded),
                core: device.core(&case.rig.bound),
                sm_clock: ended.sm_clock.clone(),
                in_use: ended.in_use.clone(),
            };
            timings.push(Timing {
                samples,
                slack: sampling::slack(&case.samples),
                batch: case.batch,
                clock: device.clock(&case.rig.bound, case.batch).to_owned(),
                after,
                sampling,
                skips_work: case.skips_work,
                keeps_results: case.keeps_results,
                energy: std::mem::take(&mut joules[index]),
            });
            // Unloading runs the kernel's destructors.
            stage(Stage::Launch);
            drop(case);
        }
        Ok(timings)
    }

    fn prepare(&mut self, timed: &TimedCase, job: &TimeJob, stage: OnStage<'_>) -> Result<Measured<D>, Failure> {
        let tensors = &timed.case.tensors;
        let read: usize =
            tensors.iter().filter(|spec| spec.role == Role::In).map(crate::protocol::TensorSpec::bytes).sum();
        let room = 2 * read as u64 <= self.device.info().memory_bytes / COPIES;
        let mut sets = Vec::new();
        for seed in [Some(job.seed), job.other_seed.filter(|_| room)].into_iter().flatten() {
            stage(Stage::Inputs);
            let inputs = self.inputs(tensors, seed)?;
            stage(Stage::Reference);
            let reference = self.reference(&timed.reference, tensors, &inputs, seed)?;
            sets.push(InputSet { seed, inputs, reference });
        }
        // Loading may run code of the kernel's.
        stage(Stage::Launch);
        let mut rig = self.rig(&timed.case, &sets[0].inputs)?;
        rig.begin(&mut self.device, Some(&mut self.pool), &sets[0].inputs)?;
        let inputs: Vec<Arc<Inputs>> = sets.iter().map(|set| Arc::clone(&set.inputs)).collect();
        if !room {
            rig.keep_one(&inputs[0]);
        } else if rig.alternate(&mut self.device, &mut self.pool, &inputs).is_err() {
            // No memory for that: one set must do.
            sets.truncate(1);
        }
        let mut writes = Vec::new();
        for set in &sets {
            writes.push(rig.writes(&mut self.device, &mut self.pool, &set.inputs)?);
        }
        Ok(Measured {
            can_renew: rig.can_renew(),
            number: 0,
            new_launches: 0,
            renewed: None,
            code: self.code(&timed.case.launch.blob)?,
            closely: 0,
            rig,
            sets,
            given: Given::Set(0),
            writes,
            batch: 1,
            samples: Vec::new(),
            counts: Counts::new(job),
            glances: Vec::new(),
            left: Outputs::new(),
            skips_work: None,
            keeps_results: None,
            damage: Damage::default(),
        })
    }
}

impl<D: Device> Measured<D> {
    /// The set of inputs that lies in memory.
    fn set(&self) -> usize {
        match self.given {
            Given::Set(set) => set,
            Given::New(_) => 0,
        }
    }

    /// Launches on new inputs; none where nobody asked for any.
    fn new_inputs(&self, job: &TimeJob) -> Option<u64> {
        let samples = self.samples.iter().filter(|sample| sample.on_new_inputs).count() as u64;
        job.renew.then_some(samples + self.new_launches)
    }

    /// What lies in its outputs.
    fn outputs(&self, device: &mut D, results: &mut ResultCache) -> Result<Outputs, Failure> {
        let survey = self.rig.survey(device)?;
        self.rig.outputs(device, &mut results.outputs, &survey)
    }

    /// Keeps what the last sample left behind, and looks at what else this kernel does, unless that is known. Nothing here is a sample
    /// any more.
    fn look_back(
        &mut self,
        device: &mut D,
        results: &mut ResultCache,
        job: &TimeJob,
        known: bool,
        rng: &mut ChaCha8Rng,
        pulse: &mut Pulse<'_, '_>,
    ) -> Result<(), Failure> {
        pulse.beat(Stage::Compare);
        self.left = self.outputs(device, results)?;
        // In a search the looks at what takes long are left to the finals.
        let shortest = self.samples.iter().map(|sample| sample.nanoseconds).fold(f64::INFINITY, f64::min);
        if job.hurry && shortest > LOOKED_AT {
            return Ok(());
        }
        if !known {
            self.skips_work = self.skips_work(device, job.cache, rng, pulse)?;
            self.keeps_results = self.keeps_results(device, pulse)?;
            if job.renew {
                self.lone_launches(device, rng, pulse)?;
                if self.can_renew {
                    self.on_new_inputs(device, results, pulse)?;
                }
            }
        }
        // The looks restored what the kernel may have changed.
        pulse.beat(Stage::Timing);
        device.run(&self.rig.bound)?;
        pulse.beat(Stage::Compare);
        let mut damage = Damage::default();
        damage.look(device, self)?;
        self.damage = damage;
        Ok(())
    }
}

/// How many launches make a sample that the clock measures well.
fn batch<D: Device>(
    device: &mut D,
    case: &mut Measured<D>,
    cache: CacheMode,
    pulse: &mut Pulse<'_, '_>,
) -> Result<u32, Failure> {
    let shortest = device.shortest_sample()?;
    if cache == CacheMode::Cold || case.rig.is_in_place() || shortest <= 0.0 {
        return Ok(1);
    }
    let mut batch = 1;
    loop {
        pulse.beat(Stage::Warmup);
        let set = case.set();
        let sample = device.sample_after(&case.writes[set], &mut case.rig.bound, batch, cache)?;
        let sample = sample.nanoseconds * f64::from(batch);
        if sample >= shortest || batch == LARGEST_BATCH {
            return Ok(batch);
        }
        // A tenth more than the estimate, so that most cases are settled at the second look.
        let wanted = f64::from(batch) * (1.1 * shortest / sample.max(1.0)).min(1000.0);
        batch = (wanted.ceil() as u32).max(batch * 2).min(LARGEST_BATCH);
    }
}

#[cfg(test)]
mod tests;

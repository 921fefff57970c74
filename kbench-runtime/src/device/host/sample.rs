//! Samples of C kernels: taken in the kernel's process, and judged by clocks of the worker.

use super::channel::{Answer, Caches, Command};
use super::clock::{self, Claim, Window};
use super::supervisor::{Process, not_started};
use super::threads::Used;
use super::{Bound, Buffer, HostDevice, caches, odd, write};
use crate::device::{Sample, Write};
use crate::protocol::{CacheMode, Disturbance, Failure};

/// A sample, as a kernel process reports it.
pub(super) struct Sampled {
    /// Nanoseconds of processor time, over the whole batch.
    pub processor: u64,
    pub used: Used,
    pub claim: Claim,
}

impl Sampled {
    /// The sample for one launch.
    pub(super) fn of(&self, batch: u32) -> Sample {
        let Self { processor, used, claim } = self;
        Sample {
            nanoseconds: claim.claimed as f64 / f64::from(batch),
            cpu_nanoseconds: (*processor > 0).then(|| *processor as f64 / f64::from(batch)),
            preemptions: used.preemptions,
            waits: used.waits,
            exposed: false,
            disturbance: (used.preemptions > 0).then_some(Disturbance::InvoluntaryContextSwitch),
        }
    }
}

impl HostDevice {
    /// A sample of `batch` launches. With `lead`, an untimed launch and this number of nanoseconds come before.
    pub(super) fn take(
        &self,
        writes: &[Write<Buffer>],
        bound: &Bound,
        batch: u32,
        cache: CacheMode,
        lead: Option<u64>,
    ) -> Result<Sampled, Failure> {
        write(writes);
        let prepare = |cache| Command::Prepare { bound: bound.index, cache };
        let prepare = match cache {
            CacheMode::Cold if caches::FLUSHES_EVERYWHERE => {
                // The flush runs while the kernel's process is stopped: it takes long enough for other threads of the
                // process to compute ahead.
                bound.flush();
                Command::Wake
            }
            CacheMode::Cold => prepare(Caches::Flushed),
            CacheMode::Hot => prepare(Caches::Holding(bound.written(writes))),
        };
        bound.process.pin(self.pinning.choose(&bound.launches));
        let sample = Command::Sample { bound: bound.index, batch, lead };
        let sampled = measured(&bound.process, &prepare, &sample)?;
        bound.launches.note(&sampled.used);
        sampled.claim.check()?;
        Ok(sampled)
    }

    /// The spin of a process without a kernel, on the same core, for the time that a sample claims.
    fn spin(&mut self, bound: &Bound, nanoseconds: u64) -> Result<Claim, Failure> {
        let process = match self.spinning.take() {
            Some(process) => process,
            None => Process::start(None).map_err(|error| not_started(&error))?,
        };
        let process = self.spinning.insert(process);
        process.pin(self.pinning.choose(&bound.launches));
        let nanoseconds = nanoseconds.min(clock::LONGEST_SPIN);
        Ok(measured(process, &Command::Wake, &Command::Spin { nanoseconds })?.claim)
    }

    /// Takes samples until a window of them shows no forged clock. Batches grow where spins take long.
    ///
    /// # Errors
    ///
    /// `ForgedTime`: every window showed a forged clock.
    pub(super) fn judge_clock(
        &mut self,
        writes: &[Write<Buffer>],
        bound: &Bound,
        mut batch: u32,
        cache: CacheMode,
    ) -> Result<(), Failure> {
        let mut forged = None;
        for pause in clock::PAUSES {
            std::thread::sleep(pause);
            let (mut window, mut spins) = self.window(writes, bound, batch, cache)?;
            // Not every kernel may be launched twice in a sample.
            let factor = if batch > 1 { window.factor(&spins) } else { 1 };
            if factor > 1 {
                batch = batch.saturating_mul(factor);
                (window, spins) = self.window(writes, bound, batch, cache)?;
            }
            forged = window.forged_beside(&spins);
            if forged.is_none() {
                return Ok(());
            }
        }
        forged.map_or(Ok(()), Err)
    }

    /// A window of samples, each with a spin for the time that it claims.
    fn window(
        &mut self,
        writes: &[Write<Buffer>],
        bound: &Bound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<(Window, Vec<Claim>), Failure> {
        let (mut window, mut spins) = (Window::default(), Vec::new());
        while !window.is_full() {
            let claim = self.take(writes, bound, batch, cache, None)?.claim;
            window.add(batch, claim);
            spins.push(self.spin(bound, claim.claimed)?);
        }
        Ok((window, spins))
    }
}

/// A process prepares and takes a sample, which is timed by the worker's own clocks too.
fn measured(process: &Process, prepare: &Command, sample: &Command) -> Result<Sampled, Failure> {
    process.turn(|turn| {
        turn.ask(prepare)?;
        let (answer, took) = turn.measured(sample)?;
        let Answer::Sampled { clock, processor, used } = answer else { return Err(odd(&answer)) };
        Ok(Sampled { processor, used, claim: Claim { claimed: clock, took } })
    })
}

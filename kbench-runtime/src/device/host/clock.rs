//! The worker's own clocks beside the clock of a kernel process.
//!
//! A sample is timed in the kernel's process, since the round trip is longer than many kernels. The result is a claim,
//! since the kernel shares the process with the clock. The worker measures the whole command twice: by the clock, which
//! includes the round trip; and by the processor time that the system counts for the thread that calls the kernel. The
//! time in which the thread had no core, by the system's count, is subtracted from the clock: a kernel that has used up
//! its share of a busy core waits before it can answer. Time in which other threads of the process compute is not
//! subtracted.
//!
//! The excess over the claim must not be larger than that of a process without a kernel that spins for the claimed
//! time. Spins are measured only if the excess is large, as on a busy or virtual machine, and a verdict needs several
//! windows of samples, each with its own spins and some time after the last window: a disturbance ends, a forged clock
//! stays. Threads of a kernel that wait for the next launch by spinning hold cores that the worker needs to hear the
//! answer: a process without a kernel has no such threads, so the excess of a kernel with several threads may be larger.

use std::time::Duration;

use super::supervisor::Took;
use crate::data::quantile::quantile;
use crate::protocol::Failure;

/// Largest number of samples of a window.
pub(super) const SAMPLES: usize = 16;

/// Time from which on fewer samples make a window, since the round trip is small beside it.
const FEW: (usize, Duration) = (4, Duration::from_millis(100));

/// Largest excess that needs no comparison: nanoseconds, and a share of the claim. `docs/gates.md` of cargo-kbench
/// names the figures.
const OF_CLOCK: (f64, f64) = (50_000.0, 0.1);
const OF_PROCESSOR: (f64, f64) = (5_000.0, 0.05);

/// The same in a verdict on a kernel whose other threads compute, by either clock: 55 to 90 µs were seen beside other programs, and the
/// processor time to wake the worker on a core that such a thread holds is part of them.
const OF_THREADS: (f64, f64) = (200_000.0, 0.1);

/// Nanoseconds that the other threads of such a kernel compute in a sample.
const OTHERS: f64 = 5_000.0;

/// Allowed ratio of the excess to the excess of a process without a kernel.
const SPINS: f64 = 3.0;

/// Claimed time of a deciding sample, as a multiple of the excess of a spin: the excess of a forged clock grows with the sample, that of
/// the machine does not.
const LONGER: f64 = 10.0;

/// Claimed nanoseconds of a deciding sample of a suspicious kernel, for the same reason.
const DECIDING: f64 = 1e6;

/// Longest time of such a sample, in nanoseconds.
const LONGEST_SAMPLE: f64 = 100e6;

/// Pauses before each of the deciding windows.
pub(super) const PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(5), Duration::from_millis(50), Duration::from_millis(200)];

/// Longest spin in nanoseconds. Beyond some milliseconds the way back no longer depends on the length.
pub(super) const LONGEST_SPIN: u64 = 20_000_000;

/// Furthest that two readings of one clock may be apart, in nanoseconds.
const APART: i128 = 1_000_000;

/// Checks that this process's clock is the system's. A library that the user preloads may define another one, for the kernel's process too.
///
/// # Errors
///
/// `Machine`: it is not.
pub(super) fn check() -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    {
        use nix::libc;
        let nanoseconds = |read: &dyn Fn(*mut libc::timespec)| {
            let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            read(&raw mut at);
            i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec)
        };
        let system = || {
            nanoseconds(&|at| {
                // SAFETY: the call writes one `timespec`.
                unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, at) };
            })
        };
        let own = || {
            nanoseconds(&|at| {
                // SAFETY: as above.
                unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, at) };
            })
        };
        check_readings(system(), own(), system())?;
    }
    Ok(())
}

/// Checks a reading of this process's clock between two of the system's.
fn check_readings(before: i128, own: i128, after: i128) -> Result<(), Failure> {
    if (before - APART..=after + APART).contains(&own) {
        return Ok(());
    }
    let message = "the clock of this process is not the system's; preload no library that changes it".to_owned();
    Err(Failure::Machine { message })
}

/// A command with two times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// Nanoseconds that the process claims.
    pub claimed: u64,
    /// Measurement of the worker.
    pub took: Took,
}

impl Claim {
    /// # Errors
    ///
    /// `ForgedTime`: the claim exceeds the worker's time. Both use one clock, and the claimed part lies within the
    /// worker's time.
    pub fn check(&self) -> Result<(), Failure> {
        let (claimed, measured) = (self.claimed as f64, self.took.clock.as_nanos() as f64);
        if claimed > measured { Err(Failure::ForgedTime { claimed, measured }) } else { Ok(()) }
    }

    /// Nanoseconds by a clock of the worker above the claim.
    fn excess(&self, by: fn(&Took) -> f64) -> f64 {
        by(&self.took) - self.claimed as f64
    }
}

/// Samples of one kernel that are judged together.
#[derive(Debug, Default)]
pub(super) struct Window {
    batch: u32,
    claims: Vec<Claim>,
}

impl Window {
    /// Adds a sample of `batch` launches, and drops earlier samples of another number.
    pub fn add(&mut self, batch: u32, claim: Claim) {
        if self.batch != batch {
            (self.batch, self.claims) = (batch, Vec::new());
        }
        self.claims.push(claim);
    }

    pub fn is_full(&self) -> bool {
        let passed = self.claims.iter().map(|claim| claim.took.clock).sum::<Duration>();
        self.claims.len() >= SAMPLES || self.claims.len() >= FEW.0 && passed >= FEW.1
    }

    /// Whether the excess over the claims is larger than on a quiet machine.
    pub fn is_suspicious(&self) -> bool {
        self.forged_above([OF_CLOCK, OF_PROCESSOR], &[]).is_some()
    }

    /// The fast half, which determines the median: forging fewer samples has no effect, and forging more is found here.
    fn fast(&self) -> Vec<Claim> {
        let mut fast = self.claims.clone();
        fast.sort_by_key(|claim| claim.claimed);
        fast.truncate(fast.len().div_ceil(2));
        fast
    }

    /// The factor by which samples must have more launches, so that the excess of spins or the allowed one cannot hide a forged clock.
    pub fn factor(&self, spins: &[Claim]) -> u32 {
        let fast = self.fast();
        let median = |of: fn(&Claim) -> f64| quantile(fast.iter().map(of), 0.5).max(1.0);
        let of_spins = f64::min(excess_of(spins, by_clock), excess_of(spins, by_processor));
        let deciding = if self.is_suspicious() { DECIDING } else { 0.0 };
        let wanted = f64::max(LONGER * of_spins, deciding) / median(|claim| claim.claimed as f64);
        let most = LONGEST_SAMPLE / median(|claim| claim.took.clock.as_nanos() as f64);
        wanted.min(most).ceil().max(1.0) as u32
    }

    /// The failure of this window, if the excess over the claims is larger than that of spins at the same time.
    pub fn forged_beside(&self, spins: &[Claim]) -> Option<Failure> {
        let of_others = |claim: &Claim| claim.took.of_all.saturating_sub(claim.took.processor).as_nanos() as f64;
        let have_threads = quantile(self.fast().iter().map(of_others), 0.5) > OTHERS;
        let allowed = if have_threads { [OF_THREADS; 2] } else { [OF_CLOCK, OF_PROCESSOR] };
        self.forged_above(allowed, spins)
    }

    /// The failure of this window, if the excess by the clock or by processor time is above what is allowed.
    fn forged_above(&self, allowed: [(f64, f64); 2], spins: &[Claim]) -> Option<Failure> {
        let fast = self.fast();
        let claimed = quantile(fast.iter().map(|claim| claim.claimed as f64), 0.5);
        let by = [by_clock as fn(&Took) -> f64, by_processor];
        let forged = by.into_iter().zip(allowed).find(|&(by, (least, share))| {
            let allowed = f64::max(least, share * claimed) + SPINS * excess_of(spins, by);
            quantile(fast.iter().map(|claim| claim.excess(by)), 0.25) > allowed
        });
        forged.map(|(by, _)| Failure::ForgedTime {
            claimed,
            measured: quantile(fast.iter().map(|claim| by(&claim.took)), 0.5),
        })
    }
}

/// The upper quartile of the excess of spins, in nanoseconds; 0 without spins.
fn excess_of(spins: &[Claim], by: fn(&Took) -> f64) -> f64 {
    quantile(spins.iter().map(|spin| spin.excess(by)), 0.75).max(0.0)
}

/// The time in which the thread ran or slept, or any thread of its process ran.
fn by_clock(took: &Took) -> f64 {
    took.clock.saturating_sub(took.waited).max(took.clock.min(took.of_all)).as_nanos() as f64
}

fn by_processor(took: &Took) -> f64 {
    took.processor.as_nanos() as f64
}

#[cfg(test)]
mod tests;

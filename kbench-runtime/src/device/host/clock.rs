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
//! stays.

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

/// Allowed ratio of the excess to the excess of a process without a kernel.
const SPINS: f64 = 3.0;

/// Claimed time of a deciding sample, as a multiple of the excess of a spin: the excess of a forged clock grows with the sample, that of
/// the machine does not.
const LONGER: f64 = 10.0;

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
        self.forged_beside(&[]).is_some()
    }

    /// The fast half, which determines the median: forging fewer samples has no effect, and forging more is found here.
    fn fast(&self) -> Vec<Claim> {
        let mut fast = self.claims.clone();
        fast.sort_by_key(|claim| claim.claimed);
        fast.truncate(fast.len().div_ceil(2));
        fast
    }

    /// The factor by which samples must have more launches, so that the excess of spins cannot hide a forged clock.
    pub fn factor(&self, spins: &[Claim]) -> u32 {
        let fast = self.fast();
        let median = |of: fn(&Claim) -> f64| quantile(fast.iter().map(of), 0.5).max(1.0);
        let of_spins = f64::min(excess_of(spins, by_clock), excess_of(spins, by_processor));
        let wanted = LONGER * of_spins / median(|claim| claim.claimed as f64);
        let most = LONGEST_SAMPLE / median(|claim| claim.took.clock.as_nanos() as f64);
        wanted.min(most).ceil().max(1.0) as u32
    }

    /// The failure of this window, if the excess over the claims is larger than that of spins at the same time.
    pub fn forged_beside(&self, spins: &[Claim]) -> Option<Failure> {
        let fast = self.fast();
        let claimed = quantile(fast.iter().map(|claim| claim.claimed as f64), 0.5);
        let forged = [(by_clock as fn(&Took) -> f64, OF_CLOCK), (by_processor, OF_PROCESSOR)].into_iter().find(
            |&(by, (least, share))| {
                let allowed = f64::max(least, share * claimed) + SPINS * excess_of(spins, by);
                quantile(fast.iter().map(|claim| claim.excess(by)), 0.25) > allowed
            },
        );
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
mod tests {
    use super::*;

    /// A kernel and a machine: nanoseconds of a sample, of its computation, of its claim, and of the round trip, of
    /// which 3 µs are computed.
    struct Kernel<C, W> {
        truth: f64,
        computes: f64,
        claim: C,
        way: W,
    }

    impl<C: Fn(usize) -> f64, W: Fn(usize) -> f64> Kernel<C, W> {
        fn claim(&self, sample: usize, computes: f64, claimed: f64) -> Claim {
            let processor = Duration::from_nanos((self.truth * computes + 3e3) as u64);
            Claim {
                claimed: claimed as u64,
                took: Took {
                    clock: Duration::from_nanos((self.truth + (self.way)(sample)) as u64),
                    processor,
                    waited: Duration::ZERO,
                    of_all: processor,
                },
            }
        }

        fn sample(&self, sample: usize) -> Claim {
            self.claim(sample, self.computes, self.truth * (self.claim)(sample))
        }

        /// As on a device, with spins of the same length on the same machine.
        fn is_believed(&self) -> bool {
            let mut samples = 0..;
            let mut window = |spins: &mut Vec<Claim>| {
                let mut window = Window::default();
                while !window.is_full() {
                    let sample = samples.next().unwrap();
                    let claim = self.sample(sample);
                    if claim.check().is_err() {
                        return None;
                    }
                    window.add(1, claim);
                    spins.push(self.claim(sample + 7, 1.0, self.truth));
                }
                Some(window)
            };
            let mut is_forged = |spins: &mut Vec<Claim>, beside: bool| {
                window(spins).is_none_or(|window| window.forged_beside(if beside { spins } else { &[] }).is_some())
            };
            (0..3).all(|_| {
                let mut looks = PAUSES.iter();
                !is_forged(&mut Vec::new(), false) || looks.any(|_| !is_forged(&mut Vec::new(), true))
            })
        }
    }

    /// Seen on a virtual machine beside two busy loops: a spin of 23 us took 130 us of processor time and more, and a kernel whose clock ran at a
    /// tenth of the speed was believed.
    #[test]
    fn longer_samples_show_a_forged_clock_beside_slow_spins() {
        let window = |launches: u64| {
            let of = |claimed: u64, truth: u64| {
                let processor = ns(truth * launches + 110_000);
                let took = Took { clock: processor + ns(15_000), processor, waited: Duration::ZERO, of_all: processor };
                Claim { claimed: claimed * launches, took }
            };
            let mut window = Window::default();
            (0..SAMPLES).for_each(|_| window.add(1, of(23_000, 230_000)));
            (window, vec![of(23_000, 23_000); SAMPLES])
        };
        let (short, spins) = window(1);
        assert!(short.forged_beside(&spins).is_none());
        let factor = short.factor(&spins);
        assert!((40..50).contains(&factor), "{factor}");
        let (long, spins) = window(factor.into());
        assert!(long.forged_beside(&spins).is_some());
        assert_eq!(long.factor(&spins), 1);
    }

    fn undisturbed(_: usize) -> f64 {
        12e3
    }

    fn honest(_: usize) -> f64 {
        1.0
    }

    #[test]
    fn an_honest_clock_is_believed() {
        for truth in [500.0, 25e3, 1e6, 1e9] {
            for computes in [0.0, 0.5, 1.0] {
                assert!(Kernel { truth, computes, claim: honest, way: undisturbed }.is_believed(), "{truth}");
                // A machine with long round trips, and one with some.
                assert!(Kernel { truth, computes, claim: honest, way: |_| 3e6 }.is_believed(), "{truth}");
                let way = |sample: usize| if sample.is_multiple_of(3) { 15e3 } else { 4e6 };
                assert!(Kernel { truth, computes, claim: honest, way }.is_believed(), "{truth}");
            }
        }
    }

    #[test]
    fn a_machine_that_is_slow_for_a_while_rejects_nothing() {
        // No spin is slow: the machine is quiet again when they are taken.
        for slow in [16, 32, 48, 64] {
            let way = |sample: usize| if sample < slow { 1e6 } else { 12e3 };
            assert!(Kernel { truth: 25e3, computes: 1.0, claim: honest, way }.is_believed(), "{slow} samples");
        }
    }

    #[test]
    fn the_way_back_of_a_process_that_ran_for_long_may_be_longer() {
        // 47 µs of processor time to wake the worker, which sleeps by then: spins have the same.
        let claim = Claim {
            claimed: 23_500,
            took: Took { clock: ns(85_000), processor: ns(70_900), waited: ns(0), of_all: ns(70_900) },
        };
        let mut window = Window::default();
        (0..SAMPLES).for_each(|_| window.add(1, claim));
        assert!(window.is_suspicious());
        assert!(window.forged_beside(&[claim; SAMPLES]).is_none());
        let quick = Claim { took: Took { processor: ns(27_000), of_all: ns(27_000), ..claim.took }, ..claim };
        assert!(window.forged_beside(&[quick; SAMPLES]).is_some());
    }

    #[test]
    fn a_clock_that_reports_too_little_time_is_refused() {
        for truth in [50e3, 250e3, 1e9] {
            for part in [0.1, 0.5] {
                let claim = |_| part;
                assert!(!Kernel { truth, computes: 1.0, claim, way: undisturbed }.is_believed(), "{truth} {part}");
                assert!(!Kernel { truth, computes: 1.0, claim, way: |_| 3e6 }.is_believed(), "{truth} {part}");
                // Forging the larger part of the samples, so that the median is forged.
                let claim = |sample: usize| if sample % 5 < 3 { part } else { 1.0 };
                assert!(!Kernel { truth, computes: 1.0, claim, way: undisturbed }.is_believed(), "{truth} {part}");
            }
        }
        // A kernel that waits more than it computes.
        assert!(!Kernel { truth: 250e3, computes: 0.1, claim: |_| 0.1, way: undisturbed }.is_believed());
        // Too short for the worker to detect: `docs/gates.md` says so.
        assert!(Kernel { truth: 4e3, computes: 1.0, claim: |_| 0.1, way: undisturbed }.is_believed());
        assert!(Kernel { truth: 40e3, computes: 0.1, claim: |_| 0.1, way: undisturbed }.is_believed());
    }

    #[test]
    fn few_long_samples_are_judged_too() {
        for (samples, milliseconds, is_full) in
            [(3, 5000, false), (4, 20, false), (4, 30, true), (15, 1, false), (16, 1, true)]
        {
            let took = Took { clock: Duration::from_millis(milliseconds), ..Took::default() };
            let mut window = Window::default();
            (0..samples).for_each(|_| window.add(1, Claim { claimed: 0, took }));
            assert_eq!(window.is_full(), is_full, "{samples} of {milliseconds} ms");
        }
    }

    #[test]
    fn a_kernel_that_waits_for_its_core_before_it_can_answer_is_believed() {
        // 2 ms on a core, 10 ms without one on the way back; spins have no such wait.
        let forged = |claimed: u64, of_all: u64| {
            let us = Duration::from_micros;
            let took = Took { clock: us(12_000), processor: us(2_003), waited: us(9_990), of_all: us(of_all) };
            let mut window = Window::default();
            (0..SAMPLES).for_each(|_| window.add(1, Claim { claimed: claimed * 1000, took }));
            window.is_suspicious()
        };
        assert!(!forged(2_000, 2_003), "its own time alone");
        assert!(!forged(11_900, 2_003), "the wait was within the sample");
        assert!(forged(200, 2_003), "its own processor time says otherwise");
        assert!(forged(2_000, 11_900), "another thread of its own had the core");
    }

    #[test]
    fn the_clock_of_this_process_must_be_the_systems() {
        assert_eq!(check(), Ok(()));
        assert_eq!(check_readings(5_000_000, 5_000_100, 5_000_300), Ok(()));
        for own in [3_999_999, 6_000_301] {
            assert!(matches!(check_readings(5_000_000, own, 5_000_300), Err(Failure::Machine { .. })), "{own}");
        }
    }

    #[test]
    fn a_clock_that_reports_too_much_time_is_refused() {
        assert!(!Kernel { truth: 25e3, computes: 1.0, claim: |_| 2.0, way: undisturbed }.is_believed());
    }

    fn ns(nanoseconds: u64) -> Duration {
        Duration::from_nanos(nanoseconds)
    }
}

//! The judge's own clocks beside that of a kernel process.
//!
//! A sample is timed in the kernel's process, since the way there and back is longer than many kernels. What that clock says is a
//! claim, for the kernel shares the process with it. The judge measures the whole command twice: by the clock, which includes the way
//! there and back; and by the processor time that the system counts for the thread that calls the kernel, which tells a few microseconds.
//! What is left over beside the claim must be no more than a command takes that launches nothing. On a busy machine a kernel that has
//! used up its share of a core waits for the next before it can answer, which an empty command does not; so the clock is read without the
//! time for which, by the system's count, the thread had no core. What other threads of the process compute meanwhile is no such time.

use super::supervisor::Took;
use crate::protocol::Failure;

/// Samples that are looked at together.
pub(super) const WINDOW: usize = 16;

/// What may be left over beside a command that launches nothing: nanoseconds, and a share of the claim. README names the figures.
const OF_CLOCK: (f64, f64) = (50_000.0, 0.1);
const OF_PROCESSOR: (f64, f64) = (5_000.0, 0.05);

/// How much longer than such commands now the samples' own ways may have been.
const EMPTIES: f64 = 3.0;

/// What the last samples of one kernel claimed, in nanoseconds, and what the judge measured.
#[derive(Debug, Default)]
pub(super) struct Claims {
    batch: u32,
    of_batch: Vec<(f64, Took)>,
}

impl Claims {
    /// Adds a sample of so many launches. `empty` measures commands that launch nothing, as many as are looked at together.
    pub fn add(
        &mut self,
        batch: u32,
        claimed: u64,
        took: Took,
        empty: impl FnOnce() -> Result<Vec<Took>, Failure>,
    ) -> Result<(), Failure> {
        let claimed = claimed as f64;
        let passed = took.clock.as_nanos() as f64;
        if claimed > passed {
            // One clock, and the claim is of a part of what was measured.
            return Err(Failure::ForgedTime { claimed, measured: passed });
        }
        if self.batch != batch {
            (self.batch, self.of_batch) = (batch, Vec::new());
        }
        self.of_batch.push((claimed, took));
        if self.of_batch.len() < WINDOW {
            return Ok(());
        }
        let mut window = std::mem::take(&mut self.of_batch);
        // The fast half, on which a median stands: who forges only now and then changes nothing, and who forges more is here.
        window.sort_by(|a, b| a.0.total_cmp(&b.0));
        window.truncate(WINDOW / 2);
        let claimed = window[window.len() / 2].0;
        let left_over = |by: fn(&Took) -> f64, (least, share): (f64, f64)| {
            quantile(window.iter().map(|(claimed, took)| by(took) - claimed), 0.25) - f64::max(least, share * claimed)
        };
        let left_over = [(by_clock as fn(&Took) -> f64, OF_CLOCK), (by_processor, OF_PROCESSOR)]
            .map(|(by, margin)| (by, left_over(by, margin)));
        if left_over.iter().all(|(_, left_over)| *left_over <= 0.0) {
            return Ok(());
        }
        // As long as they take now, on this machine.
        let empty = empty()?;
        for (by, left_over) in left_over {
            if left_over > EMPTIES * quantile(empty.iter().map(by), 0.75) {
                return Err(Failure::ForgedTime {
                    claimed,
                    measured: quantile(window.iter().map(|(_, took)| by(took)), 0.5),
                });
            }
        }
        Ok(())
    }
}

/// The time in which the thread ran or slept, or any thread of its process ran.
fn by_clock(took: &Took) -> f64 {
    took.clock.saturating_sub(took.waited).max(took.clock.min(took.of_all)).as_nanos() as f64
}

fn by_processor(took: &Took) -> f64 {
    took.processor.as_nanos() as f64
}

fn quantile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f64 * part).round() as usize).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A kernel and the machine that it runs on: nanoseconds of a sample, the part of them in which it computes, the part of them that
    /// it claims, and nanoseconds of the way there and back, of which 3 µs are computed.
    struct Kernel<C, W> {
        truth: f64,
        computes: f64,
        claim: C,
        way: W,
    }

    impl<C: Fn(usize) -> f64, W: Fn(usize) -> f64> Kernel<C, W> {
        fn is_believed(&self) -> bool {
            let took = |sample: usize, truth: f64| Took {
                clock: Duration::from_nanos((truth + (self.way)(sample)) as u64),
                processor: Duration::from_nanos((truth * self.computes + 3e3) as u64),
                waited: Duration::ZERO,
                of_all: Duration::from_nanos((truth * self.computes + 3e3) as u64),
            };
            let mut claims = Claims::default();
            (0..3 * WINDOW).all(|sample| {
                let claimed = (self.truth * (self.claim)(sample)) as u64;
                let empty = || Ok((0..WINDOW).map(|sample| took(sample, 0.0)).collect());
                claims.add(10, claimed, took(sample, self.truth), empty).is_ok()
            })
        }
    }

    fn quiet(_: usize) -> f64 {
        12e3
    }

    fn honest(_: usize) -> f64 {
        1.0
    }

    #[test]
    fn an_honest_clock_is_believed() {
        for truth in [500.0, 25e3, 1e6, 1e9] {
            for computes in [0.0, 0.5, 1.0] {
                assert!(Kernel { truth, computes, claim: honest, way: quiet }.is_believed(), "{truth}");
                // A machine on which every way is long, and one on which some are.
                assert!(Kernel { truth, computes, claim: honest, way: |_| 3e6 }.is_believed(), "{truth}");
                let way = |sample: usize| if sample.is_multiple_of(3) { 15e3 } else { 4e6 };
                assert!(Kernel { truth, computes, claim: honest, way }.is_believed(), "{truth}");
            }
        }
    }

    #[test]
    fn a_clock_that_says_less_than_passed_is_not() {
        for truth in [50e3, 250e3, 1e9] {
            for part in [0.1, 0.5] {
                let claim = |_| part;
                assert!(!Kernel { truth, computes: 1.0, claim, way: quiet }.is_believed(), "{truth} {part}");
                assert!(!Kernel { truth, computes: 1.0, claim, way: |_| 3e6 }.is_believed(), "{truth} {part}");
                // Forging the larger part of the samples, so that the median is forged.
                let claim = |sample: usize| if sample % 5 < 3 { part } else { 1.0 };
                assert!(!Kernel { truth, computes: 1.0, claim, way: quiet }.is_believed(), "{truth} {part}");
            }
        }
        // One that waits more than it computes.
        assert!(!Kernel { truth: 250e3, computes: 0.1, claim: |_| 0.1, way: quiet }.is_believed());
        // Too short for the judge to see: README says so.
        assert!(Kernel { truth: 4e3, computes: 1.0, claim: |_| 0.1, way: quiet }.is_believed());
        assert!(Kernel { truth: 40e3, computes: 0.1, claim: |_| 0.1, way: quiet }.is_believed());
    }

    #[test]
    fn a_kernel_that_waits_for_its_core_before_it_can_answer_is_believed() {
        // 2 ms on a core, 10 ms without one on the way back; commands that launch nothing have no such wait.
        let kernel = |claimed: u64, of_all: u64| {
            let ms = Duration::from_micros;
            let took = Took { clock: ms(12_000), processor: ms(2_003), waited: ms(9_990), of_all: ms(of_all) };
            let empty = || {
                let took = Took { clock: ms(20), processor: ms(3), ..Took::default() };
                Ok(vec![took; WINDOW])
            };
            let mut claims = Claims::default();
            (0..WINDOW).all(|_| claims.add(1, claimed * 1000, took, empty).is_ok())
        };
        assert!(kernel(2_000, 2_003), "its own time alone");
        assert!(kernel(11_900, 2_003), "the wait was within the sample");
        assert!(!kernel(200, 2_003), "its own processor time says otherwise");
        assert!(!kernel(2_000, 11_900), "another thread of its own had the core");
    }

    #[test]
    fn a_clock_that_says_more_than_passed_is_not() {
        assert!(!Kernel { truth: 25e3, computes: 1.0, claim: |_| 2.0, way: quiet }.is_believed());
    }
}

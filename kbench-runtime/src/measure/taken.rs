//! What a sample is worth that lost its core.
//!
//! A short launch fits between two context switches, a long one never does. To drop disturbed samples, or to keep them, would
//! favour the short one; so what was lost is taken out: the time of a kernel of one thread that never waits is its processor time. The
//! switches themselves are in it, and caches that other programs have used meanwhile: at most [`SWITCH`] each, which widens the interval.
//! Of a kernel of several threads, or one that waits, the time without the switches is not known; such a sample stays disturbed.

use crate::device::Sample;
use crate::protocol::Disturbance;

/// Nanoseconds that a context switch may add to the processor time of a kernel. On an EPYC two busy loops beside a kernel added up to
/// 0.1 ms a switch.
const SWITCH: f64 = 200_000.0;

/// Less than so many nanoseconds and such a share is no loss: clocks do not agree better.
const LOST_AT_LEAST: f64 = 1000.0;
const LOST_SHARE: f64 = 0.001;

/// A sample as it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Taken {
    /// Nanoseconds a launch.
    pub nanoseconds: f64,
    /// By how much that may be too long.
    pub slack: f64,
    /// Whether it is processor time.
    pub corrected: bool,
    /// Whether its inputs were new in every element.
    pub on_new_inputs: bool,
    /// Whether the device may have waited for the host meanwhile.
    pub exposed: bool,
    /// What disturbed it and is still in it.
    pub disturbance: Option<Disturbance>,
}

impl Taken {
    /// What a sample of so many launches is worth; `is_alone` where the kernel uses one thread.
    pub fn of(sample: Sample, batch: u32, is_alone: bool) -> Self {
        let Sample { nanoseconds, cpu_nanoseconds, preemptions, waits, exposed, disturbance } = sample;
        let as_it_is = Self { nanoseconds, slack: 0.0, corrected: false, on_new_inputs: false, exposed, disturbance };
        let lost_core = disturbance == Some(Disturbance::InvoluntaryContextSwitch);
        let Some(processor) = cpu_nanoseconds.filter(|_| lost_core && is_alone && waits == 0) else { return as_it_is };
        let batch = f64::from(batch);
        if (nanoseconds - processor) * batch <= LOST_AT_LEAST + LOST_SHARE * nanoseconds * batch {
            // The switch came before the launch or after it.
            return Self { disturbance: None, ..as_it_is };
        }
        let slack = (f64::from(preemptions) * SWITCH / batch).min(processor);
        Self { nanoseconds: processor, slack, corrected: true, disturbance: None, ..as_it_is }
    }

    /// Whether the core was lost in it.
    pub fn is_disturbed(&self) -> bool {
        self.corrected || self.disturbance.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(nanoseconds: f64, processor: f64, preemptions: u32) -> Sample {
        Sample {
            nanoseconds,
            cpu_nanoseconds: Some(processor),
            preemptions,
            waits: 0,
            exposed: false,
            disturbance: (preemptions > 0).then_some(Disturbance::InvoluntaryContextSwitch),
        }
    }

    #[test]
    fn a_sample_that_lost_its_core_is_its_processor_time() {
        let long = Taken::of(sample(9e6, 4e6, 2), 1, true);
        assert_eq!((long.nanoseconds, long.slack, long.corrected, long.disturbance), (4e6, 4e5, true, None));
        assert!(long.is_disturbed());
        let short = Taken::of(sample(3e6, 1e5, 1), 1, true);
        assert_eq!((short.nanoseconds, short.slack), (1e5, 1e5), "no more than there is");
        let batched = Taken::of(sample(9e4, 4e4, 2), 100, true);
        assert_eq!((batched.nanoseconds, batched.slack), (4e4, 4e3));
    }

    #[test]
    fn what_lost_nothing_is_what_the_clock_said() {
        let calm = Taken::of(sample(4e6, 3.999e6, 0), 1, true);
        assert_eq!((calm.nanoseconds, calm.slack, calm.is_disturbed()), (4e6, 0.0, false));
        let beside = Taken::of(sample(4e6, 3.999e6, 1), 1, true);
        assert_eq!((beside.nanoseconds, beside.is_disturbed()), (4e6, false), "the switch was not in it");
    }

    #[test]
    fn a_loss_is_of_all_launches_of_a_sample() {
        // A microsecond, and a thousandth of the 1 ms that a hundred launches take: 20 ns each.
        let of = |lost: f64| Taken::of(sample(1e4, 1e4 - lost, 1), 100, true);
        assert!(!of(19.0).corrected && of(21.0).corrected);
        // Of one long launch the thousandth counts.
        let long = |lost: f64| Taken::of(sample(4e6, 4e6 - lost, 1), 1, true);
        assert!(!long(4900.0).corrected && long(5100.0).corrected);
    }

    #[test]
    fn what_cannot_be_known_stays_disturbed() {
        let several = Taken::of(sample(9e6, 8e6, 2), 1, false);
        let waits = Taken::of(Sample { waits: 1, ..sample(9e6, 4e6, 2) }, 1, true);
        let unknown = Taken::of(Sample { cpu_nanoseconds: None, ..sample(9e6, 0.0, 2) }, 1, true);
        for taken in [several, waits, unknown] {
            assert_eq!((taken.nanoseconds, taken.corrected), (9e6, false));
            assert_eq!(taken.disturbance, Some(Disturbance::InvoluntaryContextSwitch));
        }
    }
}

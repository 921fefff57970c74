//! Adjusted samples: the time of a sample that lost its core.
//!
//! A short launch fits between two context switches, a long launch never does. To drop disturbed samples, or to keep them as they are, would
//! favour short launches. So the lost time is removed: the time of a single-threaded kernel that never waits is its processor time. It
//! includes the context switches and the cost of caches that other programs used meanwhile: at most [`SWITCH`] a switch, which widens the
//! interval. For a kernel that has several threads, or that waits, the time without the switches is unknown; its sample stays disturbed.

use std::collections::BTreeMap;

use crate::device::Sample;
use crate::protocol::{Convergence, Disturbance};

/// Nanoseconds that a context switch may add to the processor time of a kernel. On an EPYC, two busy loops beside a kernel added up to
/// 0.1 ms a switch.
const SWITCH: f64 = 200_000.0;

/// Nanoseconds, and share of a sample, up to which wall-clock time above processor time is no loss: the clocks agree no better.
const LOST_AT_LEAST: f64 = 1000.0;
const LOST_SHARE: f64 = 0.001;

/// A sample after adjustment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AdjustedSample {
    /// Nanoseconds a launch.
    pub nanoseconds: f64,
    /// Largest number of nanoseconds a launch that context switches may have added.
    pub slack: f64,
    /// Whether `nanoseconds` is processor time.
    pub corrected: bool,
    /// Whether the inputs were new in every element.
    pub on_new_inputs: bool,
    /// Whether the device may have waited for the host during the sample.
    pub exposed: bool,
    /// Disturbance of the sample that was not removed.
    pub disturbance: Option<Disturbance>,
}

impl AdjustedSample {
    /// Adjusts a sample of `batch` launches; `single_threaded`: whether the kernel uses one thread.
    pub fn of(sample: Sample, batch: u32, single_threaded: bool) -> Self {
        let Sample { nanoseconds, cpu_nanoseconds, preemptions, waits, exposed, disturbance } = sample;
        let unchanged = Self { nanoseconds, slack: 0.0, corrected: false, on_new_inputs: false, exposed, disturbance };
        let lost_core = disturbance == Some(Disturbance::InvoluntaryContextSwitch);
        let Some(processor) = cpu_nanoseconds.filter(|_| lost_core && single_threaded && waits == 0) else {
            return unchanged;
        };
        let batch = f64::from(batch);
        if (nanoseconds - processor) * batch <= LOST_AT_LEAST + LOST_SHARE * nanoseconds * batch {
            // The switch was before the launch or after it.
            return Self { disturbance: None, ..unchanged };
        }
        let slack = (f64::from(preemptions) * SWITCH / batch).min(processor);
        Self { nanoseconds: processor, slack, corrected: true, disturbance: None, ..unchanged }
    }

    /// Whether the core was lost during the sample.
    pub fn is_disturbed(&self) -> bool {
        self.corrected || self.disturbance.is_some()
    }
}

/// Nanoseconds a launch of each sample.
pub(super) fn times(samples: &[AdjustedSample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.nanoseconds).collect()
}

/// Mean slack of samples, in nanoseconds a launch.
pub(super) fn slack(samples: &[AdjustedSample]) -> f64 {
    samples.iter().map(|sample| sample.slack).sum::<f64>() / samples.len().max(1) as f64
}

/// Whether the slack of samples is small enough for the precision that their median must have.
pub(super) fn is_precise(samples: &[AdjustedSample], until: Option<Convergence>) -> bool {
    let shortest = times(samples).into_iter().fold(f64::INFINITY, f64::min);
    until.is_none_or(|until| slack(samples) <= 2.0 * until.precision * shortest)
}

/// Number of samples that stayed disturbed, by cause.
pub(super) fn disturbed(samples: &[AdjustedSample]) -> BTreeMap<Disturbance, u64> {
    let mut counts = BTreeMap::new();
    for why in samples.iter().filter_map(|sample| sample.disturbance) {
        *counts.entry(why).or_default() += 1;
    }
    counts
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
        let long = AdjustedSample::of(sample(9e6, 4e6, 2), 1, true);
        assert_eq!((long.nanoseconds, long.slack, long.corrected, long.disturbance), (4e6, 4e5, true, None));
        assert!(long.is_disturbed());
        let short = AdjustedSample::of(sample(3e6, 1e5, 1), 1, true);
        assert_eq!((short.nanoseconds, short.slack), (1e5, 1e5), "no more than there is");
        let batched = AdjustedSample::of(sample(9e4, 4e4, 2), 100, true);
        assert_eq!((batched.nanoseconds, batched.slack), (4e4, 4e3));
    }

    #[test]
    fn an_undisturbed_sample_is_the_time_of_the_clock() {
        let calm = AdjustedSample::of(sample(4e6, 3.999e6, 0), 1, true);
        assert_eq!((calm.nanoseconds, calm.slack, calm.is_disturbed()), (4e6, 0.0, false));
        let beside = AdjustedSample::of(sample(4e6, 3.999e6, 1), 1, true);
        assert_eq!((beside.nanoseconds, beside.is_disturbed()), (4e6, false), "the switch was not in it");
    }

    #[test]
    fn a_sample_with_unknown_loss_is_disturbed() {
        let several = AdjustedSample::of(sample(9e6, 8e6, 2), 1, false);
        let waits = AdjustedSample::of(Sample { waits: 1, ..sample(9e6, 4e6, 2) }, 1, true);
        let unknown = AdjustedSample::of(Sample { cpu_nanoseconds: None, ..sample(9e6, 0.0, 2) }, 1, true);
        for taken in [several, waits, unknown] {
            assert_eq!((taken.nanoseconds, taken.corrected), (9e6, false));
            assert_eq!(taken.disturbance, Some(Disturbance::InvoluntaryContextSwitch));
        }
    }

    #[test]
    fn the_lost_time_counts_over_all_launches_of_a_sample() {
        // A microsecond, and a thousandth of the 1 ms that a hundred launches take: 20 ns each.
        let of = |lost: f64| AdjustedSample::of(sample(1e4, 1e4 - lost, 1), 100, true);
        assert!(!of(19.0).corrected && of(21.0).corrected);
        // Of one long launch the thousandth counts.
        let long = |lost: f64| AdjustedSample::of(sample(4e6, 4e6 - lost, 1), 1, true);
        assert!(!long(4900.0).corrected && long(5100.0).corrected);
    }

    #[test]
    fn slack_may_be_twice_the_precision_of_the_shortest_sample() {
        // 1 % of 2 us, on both sides.
        let until = Some(Convergence { precision: 0.01, max_seconds: 1.0, max_samples: 10, decides: false });
        let is_precise = |slack| {
            let of = |nanoseconds| AdjustedSample { slack, ..AdjustedSample::of(sample(nanoseconds, 0.0, 0), 1, true) };
            (super::is_precise(&[2e3, 9e3].map(of), until), super::is_precise(&[2e3, 9e3].map(of), None))
        };
        assert_eq!([39.0, 40.0, 41.0].map(is_precise), [(true, true), (true, true), (false, true)]);
    }
}

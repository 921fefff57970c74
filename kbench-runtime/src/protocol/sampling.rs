//! The end of sampling, and the data about sampling in every record.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CacheMode;

/// Condition for the end of sampling: every case's median is known precisely enough, or the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Convergence {
    /// Half width of the interval of the median, as a share of the median, at which the median is known precisely
    /// enough.
    pub precision: f64,
    /// Longest time of sampling in seconds, for each case of the job. At least ten samples, or the smallest requested
    /// number if that is smaller, are taken.
    pub max_seconds: f64,
    /// Largest number of samples of each case.
    pub max_samples: u32,
    /// Whether a comparison ends when its verdicts are certain, though ratios far from 1 are known less precisely then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decides: bool,
}

impl Convergence {
    /// The condition for a rank: a quarter of the time. Where more would be taken, the machine is noisy, and the finals decide.
    #[must_use]
    pub fn for_rank(self) -> Self {
        Self { max_seconds: self.max_seconds / 4.0, ..self }
    }
}

/// Settings and course of sampling of one case.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sampling {
    /// State of the cache before each sample.
    pub cache: CacheMode,
    /// Smallest step of the clock in nanoseconds; none if unknown.
    pub resolution_ns: Option<f64>,
    /// Time of an empty interval in nanoseconds, which is part of every sample, divided by its batch. None if unknown.
    pub overhead_ns: Option<f64>,
    /// Whether the interval of the median, or of the ratio to the other cases, became as narrow as `timing.precision`, or as narrow as the
    /// verdicts of a search's finals need it.
    pub converged: bool,
    /// Whether sampling ended early because the case was clearly slower than the time to beat.
    #[serde(rename = "raced")]
    pub cut_short: bool,
    /// Number of sets of inputs that took turns at random.
    pub input_sets: u32,
    /// Number of launches on inputs that were new in every element, to detect kernels that memoise results. 0: all
    /// inputs are constant, from files or single numbers, and cannot be made new. None: the test was not requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_inputs: Option<u64>,
    /// Number of samples during which the device may have waited for the host: they may be too long.
    pub exposed_samples: u64,
    /// Number of disturbed samples that were taken again.
    pub discarded: BTreeMap<Disturbance, u64>,
    /// Number of disturbed samples that were kept, because disturbances did not end.
    pub disturbed: BTreeMap<Disturbance, u64>,
    /// Description of other users of the device; none if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<String>,
    /// Number of samples that lost the core and whose time is therefore the kernel's processor time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub corrected: u64,
    /// Core of a single-threaded kernel that was pinned.
    pub core: Option<u32>,
    /// Clock of the multiprocessors during sampling, if it could be read.
    pub sm_clock: Option<SmClock>,
}

/// Disturbance of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// The GPU lowered its clock, or reported that it had to.
    Throttled,
    /// The operating system took the core away during the sample.
    InvoluntaryContextSwitch,
    /// The hypervisor took the core away.
    Steal,
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Disturbance::Throttled => "throttled",
            Disturbance::InvoluntaryContextSwitch => "involuntary context switches",
            Disturbance::Steal => "stolen time",
        })
    }
}

/// Clocks of a GPU's multiprocessors, in MHz, as read between samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SmClock {
    /// Median of the readings.
    pub median_mhz: u32,
    /// Lowest reading.
    pub min_mhz: u32,
    /// Highest clock of the GPU.
    pub max_mhz: u32,
    /// Number of readings.
    pub readings: u32,
    /// Reasons why the GPU did not run faster, by NVML's names: `SW_POWER_CAP`, …
    pub reasons: Vec<String>,
}

impl Sampling {
    /// Adds the data of a later turn of the same case. Values that are not counts are those of the later turn.
    pub fn add(&mut self, later: Sampling) {
        let sum = |mut counts: BTreeMap<Disturbance, u64>, more: &BTreeMap<Disturbance, u64>| {
            for (why, count) in more {
                *counts.entry(*why).or_default() += count;
            }
            counts
        };
        let sm_clock = match (self.sm_clock.take(), later.sm_clock) {
            (Some(one), Some(other)) => Some(one.with(other)),
            (one, other) => one.or(other),
        };
        *self = Self {
            exposed_samples: self.exposed_samples + later.exposed_samples,
            new_inputs: self.new_inputs.into_iter().chain(later.new_inputs).reduce(|one, other| one + other),
            discarded: sum(std::mem::take(&mut self.discarded), &later.discarded),
            disturbed: sum(std::mem::take(&mut self.disturbed), &later.disturbed),
            corrected: self.corrected + later.corrected,
            in_use: self.in_use.take().or(later.in_use),
            sm_clock,
            ..later
        };
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl SmClock {
    /// Summary of readings; none without readings.
    pub(crate) fn of(readings: &mut [u32], max_mhz: u32, reasons: Vec<String>) -> Option<SmClock> {
        readings.sort_unstable();
        let min_mhz = *readings.first()?;
        let median_mhz = readings[readings.len() / 2];
        Some(SmClock { median_mhz, min_mhz, max_mhz, readings: readings.len() as u32, reasons })
    }

    /// Both clocks together; the median is that of the larger number of readings.
    fn with(self, other: SmClock) -> SmClock {
        let mut reasons = self.reasons;
        reasons.extend(other.reasons);
        reasons.sort_unstable();
        reasons.dedup();
        SmClock {
            median_mhz: if other.readings > self.readings { other.median_mhz } else { self.median_mhz },
            min_mhz: self.min_mhz.min(other.min_mhz),
            max_mhz: self.max_mhz.max(other.max_mhz),
            readings: self.readings + other.readings,
            reasons,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_add_up() {
        let turn = |discarded: u64, low: u32| Sampling {
            exposed_samples: 1,
            discarded: [(Disturbance::Steal, discarded)].into(),
            sm_clock: Some(SmClock { median_mhz: 1900, min_mhz: low, max_mhz: 1980, readings: 2, reasons: vec![] }),
            ..Sampling::default()
        };
        let mut all = turn(3, 1500);
        all.add(turn(4, 1700));
        assert_eq!((all.exposed_samples, all.discarded[&Disturbance::Steal]), (2, 7));
        let clock = all.sm_clock.unwrap();
        assert_eq!((clock.min_mhz, clock.readings), (1500, 4));
    }
}

//! The stopping rule of sampling.
//!
//! The samples are tested at few counts: at the smallest requested number, then each time after half as many again
//! (100, 150, 225, …). The tests share an error of 5 %, so that many tests do not turn chance into certainty. The width
//! of an interval ends sampling, never its position, so that a comparison does not stop at a favourable moment.
//! Compared cases have enough samples when their ratios are known. In the finals of a search, ratios far from 1 are known
//! early: see [`decided`](super::decided).

use std::time::{Duration, Instant};

use super::decided::{Known, are_decided};
use crate::measure::statistics::{Speedup, TWO_ALIKE, percentile};
use crate::protocol::Convergence;

/// Number of samples that are taken even if the time is up, and the smallest number whose range is an interval of their
/// median at the first test.
pub const FEWEST: usize = 7;

/// Nanoseconds of samples that suffice for a rank.
const RANK: f64 = 1e7;

/// Nanoseconds a launch from which on times hardly vary. For a rank one sample suffices if the untimed launch before it took the same
/// time within [`TWO_ALIKE`], or within the precision that is asked for, and else this number of samples, if they are within [`ALIKE`] of each other.
const LONG: f64 = 1e8;
const FEWEST_LONG: usize = 3;
const ALIKE: f64 = 0.05;

/// Probability that the interval of any test misses the median.
const ERROR: f64 = 0.05;

/// Probability that one test wrongly classifies a case as slower: all of ten samples must lie above.
const RACE_ERROR: f64 = 0.001;

/// Numbers of samples that are too few for a probability, and the factors by which all of them must be slower.
const EARLY: [(usize, f64); 3] = [(3, 1.5), (5, 1.2), (7, 1.05)];

/// Factor by which a case must be slower to be stopped. Medians of the same program differ by about this factor from
/// run to run.
const RACE_MARGIN: f64 = 1.02;

/// Decides when sampling ends.
#[derive(Debug, Clone)]
pub struct Stopping {
    least: usize,
    until: Option<Convergence>,
    deadline: Option<Instant>,
    looks: u32,
    next: usize,
    /// Indices of cases that are the same program as the first.
    controls: Vec<usize>,
}

/// Result of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// More samples are needed.
    Continue,
    /// Every case is known precisely enough.
    Converged,
    /// The largest number of samples is reached, or the time is up.
    Exhausted,
}

impl Stopping {
    /// Exactly `least` samples, or, from this number on, until convergence. The `cases` share the time.
    pub fn new(least: u32, until: Option<Convergence>, cases: usize) -> Self {
        let least = least.max(1) as usize;
        let deadline = until.map(|until| {
            let seconds = (until.max_seconds * cases as f64).clamp(0.0, 1e6);
            Instant::now() + Duration::from_secs_f64(seconds)
        });
        Self { least, until, deadline, looks: 0, next: least, controls: Vec::new() }
    }

    /// The same for cases of which some, by these indices, are the same program as the first.
    #[must_use]
    pub fn with_controls(self, controls: Vec<usize>) -> Self {
        Self { controls, ..self }
    }

    /// Lowers the number of samples by the measured time of one and by that of the last untimed launch before it; call this before the
    /// first test.
    pub fn reduce(&mut self, nanoseconds: f64, untimed: f64) {
        let enough = (RANK / nanoseconds.max(1.0)).ceil() as usize;
        let fewest = match nanoseconds {
            short if short < LONG => FEWEST,
            long if self.until.is_some_and(|until| are_alike(&[long, untimed], until.precision.max(TWO_ALIKE))) => 1,
            _ => FEWEST_LONG,
        };
        self.least = self.least.min(enough.max(fewest));
        self.next = self.least;
    }

    /// Smallest number of samples.
    pub fn fewest(&self) -> u32 {
        self.least as u32
    }

    /// Number of samples at the next test.
    pub fn next(&self) -> usize {
        self.next
    }

    /// Whether the time is up and there are enough samples for a result.
    pub fn is_late(&self, taken: usize) -> bool {
        taken >= self.least.min(FEWEST) && self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Tests the samples of every case, in the order taken.
    pub fn look(&mut self, cases: &[&[f64]]) -> Look {
        let taken = cases.iter().map(|samples| samples.len()).min().unwrap_or(0);
        let Some(until) = self.until else { return Look::Exhausted };
        if cases.iter().all(|samples| self.is_converged(samples)) || self.are_compared(cases) {
            return Look::Converged;
        }
        let most = (until.max_samples as usize).max(self.least);
        if taken >= most || self.is_late(taken) {
            return Look::Exhausted;
        }
        self.looks += 1;
        self.next = (self.next + self.next.div_ceil(2)).min(most);
        Look::Continue
    }

    /// Whether the ratios of the first case to each other one, as [`Speedup::of`] has them, are known precisely enough. Cases
    /// take turns, so a drift or a disturbance of all of them does not matter here, as it does for a median; nor does it
    /// matter that launches take one of two times, which a median never settles between.
    pub fn are_compared(&self, cases: &[&[f64]]) -> bool {
        let Some(Convergence { precision, decides, .. }) = self.until.filter(|_| cases.len() > 1) else { return false };
        let Some(ratios) = self.ratios(cases, 0) else { return false };
        if !decides {
            return ratios.iter().all(|ratio| ratio.half <= precision);
        }
        let fastest = (0..cases.len()).filter(|&at| at > 0 && ratios[at - 1].centre > 0.0);
        let fastest = fastest.max_by(|&one, &other| ratios[one - 1].centre.total_cmp(&ratios[other - 1].centre));
        let of_fastest = fastest.map_or(Some(Vec::new()), |fastest| self.ratios(cases, fastest));
        are_decided(&ratios, precision) && of_fastest.is_some_and(|ratios| are_decided(&ratios, precision))
    }

    /// The ratios of one case to each other one, at this look; none if there are too few rounds.
    fn ratios(&self, cases: &[&[f64]], one: usize) -> Option<Vec<Known>> {
        let others = (0..cases.len()).filter(|&other| other != one);
        let ratio = |other: usize| {
            let rounds = cases[one].len().min(cases[other].len());
            let (baseline, candidate) = (&cases[one][..rounds], &cases[other][..rounds]);
            let half = Speedup::precision(baseline, candidate, self.error()).filter(|_| rounds >= self.least)?;
            let is_control = self.is_control(one) && self.is_control(other);
            Some(Known { centre: Speedup::ratio_of(baseline, candidate)?.ln(), half, is_control })
        };
        others.map(ratio).collect()
    }

    /// Whether a case is the first one or the same program.
    fn is_control(&self, case: usize) -> bool {
        case == 0 || self.controls.contains(&case)
    }

    /// The error of this test: 1/2 + 1/6 + 1/12 + … = 1 of the total.
    fn error(&self) -> f64 {
        let look = f64::from(self.looks + 1);
        ERROR / (look * (look + 1.0))
    }

    /// Whether the median is known precisely enough, and is the same in both halves: a drift is not noise, and no
    /// number of samples averages it out.
    pub fn is_converged(&self, samples: &[f64]) -> bool {
        let Some(Convergence { precision, .. }) = self.until else { return false };
        if samples.len() < self.least {
            return false;
        }
        if samples.len() < FEWEST {
            return samples.iter().all(|&sample| sample >= LONG) && are_alike(samples, ALIKE);
        }
        let (half, other) = samples.split_at(samples.len() / 2);
        let median = p50(samples);
        let apart = (p50(half) - p50(other)).abs();
        median_interval(samples, self.error())
            .is_some_and(|(low, high)| (high - low) / 2.0 <= precision * median && apart <= 2.0 * precision * median)
    }
}

/// Whether the longest of the times is within `share` of the shortest.
fn are_alike(times: &[f64], share: f64) -> bool {
    let (low, high) = times.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
    high <= low * (1.0 + share)
}

/// Additional numbers of samples at which a case is compared with the cutoff.
pub fn is_race_look(taken: usize) -> bool {
    EARLY.iter().any(|&(early, _)| early == taken) || [10, 15, 22, 33, 50, 75].contains(&taken)
}

/// Whether the median of the samples lies clearly above `bar`.
pub fn is_clearly_above(samples: &[f64], bar: f64) -> bool {
    if let Some((_, margin)) = EARLY.iter().find(|&&(early, _)| early == samples.len()) {
        return samples.iter().all(|&sample| sample > bar * margin);
    }
    // One end of a two-sided interval: twice the error.
    median_interval(samples, 2.0 * RACE_ERROR).is_some_and(|(low, _)| low > bar * RACE_MARGIN)
}

fn p50(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted.is_empty() { f64::NAN } else { percentile(&sorted, 0.5) }
}

/// An interval that misses the median of the distribution with a probability of at most `error`, by two order
/// statistics: the number of samples below the median is distributed as the heads of n coin tosses. None if n is too
/// small.
pub fn median_interval(samples: &[f64], error: f64) -> Option<(f64, f64)> {
    let n = samples.len();
    // Logarithm of the probability of `heads` heads: 2^-n itself is too small for a float.
    let mut log = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    let mut rank = 0;
    for heads in 0..n.div_ceil(2) {
        tail += log.exp();
        if tail > error / 2.0 {
            break;
        }
        rank = heads + 1;
        log += ((n - heads) as f64 / (heads + 1) as f64).ln();
    }
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some((sorted[rank.checked_sub(1)?], sorted[n - rank]))
}

#[cfg(test)]
mod tests;

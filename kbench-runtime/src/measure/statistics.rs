//! Summaries of samples, and the comparison of two interleaved sets of them.
//!
//! The statistics assume no distribution and do not depend on the time of day: the same samples give the same numbers.
//! Correlated samples count as fewer independent ones ([`independent`]), and samples that may be too long widen every
//! interval ([`Samples`]).

mod independent;
mod rounds;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution as _};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use crate::data::float::Float;

/// Number of resamples of a bootstrap.
pub const RESAMPLES: usize = 2000;

/// Number of rounds below which a bootstrap interval is too narrow, so that the interval is the range of the rounds'
/// ratios.
const BOOTSTRAP_ROUNDS: usize = 20;

/// Largest difference of a ratio from 1 that counts as none.
pub const SAME: f64 = 0.01;

/// Share within which a sample and the untimed launch before it agree where the sample alone is enough for a rank, unless the rank may be coarser.
pub(super) const TWO_ALIKE: f64 = 0.02;

/// Share of the resamples within an interval.
pub const CONFIDENCE: f64 = 0.95;

const SEED: u64 = 0x6b62_656e_6368;

pub use self::independent::independent;
pub use self::rounds::FEWEST_ROUNDS;
use self::rounds::Rounds;

/// Smallest share of a time that remains without its slack.
const LEFT: f64 = 0.1;

/// Times in the order taken, with their slack.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a> {
    /// The times.
    pub times: &'a [f64],
    /// Mean of the possible excess of each time, in the unit of the times.
    pub slack: f64,
}

impl Samples<'_> {
    /// The times without their slack.
    fn shortened(self) -> Vec<f64> {
        self.times.iter().map(|time| (time - self.slack).max(LEFT * time)).collect()
    }
}

impl<'a> From<&'a [f64]> for Samples<'a> {
    fn from(times: &'a [f64]) -> Self {
        Self { times, slack: 0.0 }
    }
}

impl<'a> From<&'a Vec<f64>> for Samples<'a> {
    fn from(times: &'a Vec<f64>) -> Self {
        Self { times, slack: 0.0 }
    }
}

impl<'a, const N: usize> From<&'a [f64; N]> for Samples<'a> {
    fn from(times: &'a [f64; N]) -> Self {
        Self { times, slack: 0.0 }
    }
}

/// Summary of samples, in the unit of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Summary {
    /// Number of samples.
    pub n: usize,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of the sample (divided by n - 1); 0 for a single sample.
    pub std: f64,
    /// Lower end of the 95 % bootstrap interval of the median; the smallest sample of fewer than 20.
    pub p50_low: f64,
    /// Upper end of the 95 % bootstrap interval of the median; the largest sample of fewer than 20.
    pub p50_high: f64,
}

impl Summary {
    /// Summarises samples in the order taken; `None` if there are none or one of them is not finite.
    pub fn of<'a>(samples: impl Into<Samples<'a>>) -> Option<Summary> {
        let samples = samples.into();
        let mut summary = Self::of_times(samples.times)?;
        if samples.slack > 0.0 {
            summary.p50_low = summary.p50_low.min(Self::of_times(&samples.shortened())?.p50_low);
        }
        Some(summary)
    }

    fn of_times(samples: &[f64]) -> Option<Summary> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        let sorted = sorted(samples);
        let n = sorted.len();
        // The sum runs over sorted samples, so that it does not depend on their order.
        let mean = (sorted.iter().sum::<f64>() / n as f64).clamp(sorted[0], sorted[n - 1]);
        let squares = sorted.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>();
        let std = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        let (p50_low, p50_high) = if n < BOOTSTRAP_ROUNDS {
            (sorted[0], sorted[n - 1])
        } else {
            median_interval(&sorted, independent(samples))
        };
        Some(Summary {
            n,
            p50: percentile(&sorted, 0.5),
            p90: percentile(&sorted, 0.9),
            p99: percentile(&sorted, 0.99),
            mean,
            std,
            p50_low,
            p50_high,
        })
    }

    /// The 95 % interval of the median; `None` of fewer than [`FEWEST_ROUNDS`] samples, which can all lie on one side of it.
    pub fn interval(&self) -> Option<[f64; 2]> {
        (self.n >= FEWEST_ROUNDS).then_some([self.p50_low, self.p50_high])
    }

    /// Whether the intervals of both medians have a time in common. A single sample has no interval: it stands for the times that differ by the share
    /// `of_one` at most.
    pub fn meets(&self, other: &Summary, of_one: f64) -> bool {
        let ends = |of: &Summary| {
            let share = if of.n == 1 { of_one } else { 0.0 };
            (of.p50_low * (1.0 - share), of.p50_high * (1.0 + share))
        };
        let ((low, high), (other_low, other_high)) = (ends(self), ends(other));
        low <= other_high && other_low <= high
    }
}

/// The `q` quantile (0 to 1) of ascending samples, interpolated linearly between neighbours as numpy's default does:
/// at rank `q * (n - 1)`, counted from 0.
///
/// # Panics
///
/// If there are no samples.
pub fn percentile(sorted: &[f64], q: f64) -> f64 {
    let rank = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = rank.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let (low, high) = (sorted[below], sorted[above]);
    (low + (rank - rank.floor()) * (high - low)).clamp(low, high)
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The percentile bootstrap of the median of ascending samples with the weight of `draws` independent ones.
fn median_interval(sorted: &[f64], draws: usize) -> (f64, f64) {
    ends(&mut resampled_medians(sorted, draws, &mut ChaCha8Rng::seed_from_u64(SEED)))
}

/// The medians of resamples of ascending samples, each with `draws` draws.
///
/// A resample of m draws with replacement from n has as its k-th smallest element `sorted[floor(n * u)]`, where `u` is the
/// k-th smallest of m uniform numbers, and that has a Beta(k, m + 1 - k) distribution. Drawing `u` directly gives medians with
/// exactly the distribution of the bootstrap's, at a cost that does not grow with n.
fn resampled_medians(sorted: &[f64], draws: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let n = sorted.len();
    let k = draws.div_ceil(2);
    let lower = Beta::new(k as f64, (draws + 1 - k) as f64).expect("both are at least 1");
    let at = |u: f64| sorted[((u * n as f64) as usize).min(n - 1)];
    (0..RESAMPLES)
        .map(|_| {
            let u: f64 = lower.sample(rng);
            if draws % 2 == 1 {
                return at(u);
            }
            // The next order statistic: the smallest of the draws - k uniform numbers above u.
            let v = rng.random::<f64>().powf(1.0 / (draws - k) as f64);
            f64::midpoint(at(u), at(u + (1.0 - u) * (1.0 - v)))
        })
        .collect()
}

/// Speed-up of a candidate over a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Speedup {
    /// Time of the baseline over time of the candidate: above 1 the candidate is faster.
    #[serde(with = "Float")]
    pub ratio: f64,
    /// Lower end of the 95 % bootstrap interval.
    #[serde(with = "Float")]
    pub low: f64,
    /// Upper end of the 95 % bootstrap interval.
    #[serde(with = "Float")]
    pub high: f64,
}

impl Speedup {
    /// Time of the candidate over time of the baseline: above 1 the candidate is slower.
    #[must_use]
    pub fn inverse(&self) -> Speedup {
        Speedup { ratio: 1.0 / self.ratio, low: 1.0 / self.high, high: 1.0 / self.low }
    }

    /// The interquartile mean of the paired ratios (in logarithms) with a paired bootstrap: rounds are resampled, the
    /// same rounds on both sides, so that a disturbance of a whole round (a clock change, another process) does not
    /// widen the interval.
    ///
    /// This is not the ratio of medians: launches of a short kernel take one of a few times some 2 % apart, and the
    /// medians of two nearly equal kernels may lie on different ones. The interquartile mean moves with the share of
    /// each time, and ignores a quarter of the rounds on either end.
    ///
    /// Rounds run forth and back in turn, and a launch may take longer after one kernel than after another. From 100
    /// rounds on the ratio is therefore the mean of two interquartile means, that of the rounds with even indices and
    /// that of the others, and pairs of neighbours are resampled. A last round without a neighbour does not count. The
    /// interval of rounds that ran in one order covers as often.
    ///
    /// For samples that may be too long, the interval covers the ratio with all of them unchanged and with all of them
    /// shortened: both kernels lost time to the same system, so that two kernels of one length are disturbed equally.
    ///
    /// `None` unless both sides have the same number of samples, at least [`FEWEST_ROUNDS`], all finite and positive.
    pub fn of<'a>(baseline: impl Into<Samples<'a>>, candidate: impl Into<Samples<'a>>) -> Option<Speedup> {
        let (baseline, candidate) = (baseline.into(), candidate.into());
        let speedup = Self::of_times(baseline.times, candidate.times)?;
        if baseline.slack.max(candidate.slack) <= 0.0 {
            return Some(speedup);
        }
        let shortened = Self::of_times(&baseline.shortened(), &candidate.shortened())?;
        let (low, high) = (speedup.low.min(shortened.low), speedup.high.max(shortened.high));
        Some(Speedup { ratio: speedup.ratio, low, high })
    }

    fn of_times(baseline: &[f64], candidate: &[f64]) -> Option<Speedup> {
        let rounds = Rounds::of(baseline, candidate)?;
        let ratio = rounds.centre();
        let (low, high) = if rounds.len() < BOOTSTRAP_ROUNDS { rounds.range() } else { ends(&mut rounds.resampled()) };
        // With few draws, the interquartile mean of a resample may be far from that of all rounds.
        Some(Speedup { ratio: ratio.exp(), low: low.min(ratio).exp(), high: high.max(ratio).exp() })
    }

    /// The ratio of [`Speedup::of`] without its interval, whose computation takes long.
    pub fn ratio_of(baseline: &[f64], candidate: &[f64]) -> Option<f64> {
        Some(Rounds::of(baseline, candidate)?.centre().exp())
    }

    /// Half the width of an interval that misses the logarithm of [`Speedup::of`]'s ratio with a probability of at most `error`, without
    /// the bootstrap, which takes long. `None` if the rounds are too few for that.
    ///
    /// The standard deviation is that of a trimmed mean, by the winsorised variance of the ratios, or of their means over pairs of
    /// rounds. Correlated rounds count as fewer. A trimmed mean, less its centre and in standard deviations, follows Student's distribution with
    /// as many degrees of freedom as a mean of the ratios that are left (Yuen 1974). Of fewer than 20 rounds the interval is
    /// their range.
    pub fn precision(baseline: &[f64], candidate: &[f64], error: f64) -> Option<f64> {
        let n = baseline.len().min(candidate.len());
        let rounds = Rounds::of(&baseline[..n], &candidate[..n])?;
        if n < BOOTSTRAP_ROUNDS {
            let (low, high) = rounds.range();
            // All rounds lie on one side with this probability.
            return (0.5_f64.powi(n as i32 - 1) <= error).then(|| (high - low) / 2.0);
        }
        let left = rounds.len() - 2 * (rounds.len() / 4);
        let student =
            StudentsT::new(0.0, 1.0, (left - 1) as f64).expect("a middle half of 20 and more has 10 and more");
        Some(student.inverse_cdf(1.0 - error / 2.0) * rounds.deviation())
    }

    /// The ratio of medians of samples that were not paired, such as those of two runs: each side is resampled
    /// separately.
    ///
    /// The interval covers these samples only. Differences from run to run, such as memory addresses, are not included,
    /// so a certain difference may be one of two runs and not of two programs.
    ///
    /// `None` unless both sides have at least [`FEWEST_ROUNDS`] samples, all finite and positive.
    pub fn unpaired(baseline: &[f64], candidate: &[f64]) -> Option<Speedup> {
        let fewest = baseline.len().min(candidate.len());
        if fewest < FEWEST_ROUNDS || !usable(baseline) || !usable(candidate) {
            return None;
        }
        let (left, right) = (sorted(baseline), sorted(candidate));
        // One generator for both sides: with two equal seeds, the sides would be paired.
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let lefts = resampled_medians(&left, independent(baseline), &mut rng);
        let rights = resampled_medians(&right, independent(candidate), &mut rng);
        let mut ratios: Vec<f64> = lefts.iter().zip(&rights).map(|(left, right)| left / right).collect();
        let (mut low, mut high) = ends(&mut ratios);
        if fewest < BOOTSTRAP_ROUNDS {
            low = low.min(left[0] / right[right.len() - 1]);
            high = high.max(left[left.len() - 1] / right[0]);
        }
        Some(Speedup { ratio: percentile(&left, 0.5) / percentile(&right, 0.5), low, high })
    }
}

/// Whether both sides suffice for a ratio of medians.
fn usable(samples: &[f64]) -> bool {
    samples.iter().all(|sample| sample.is_finite() && *sample > 0.0)
}

fn ends(resampled: &mut [f64]) -> (f64, f64) {
    resampled.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (percentile(resampled, tail), percentile(resampled, 1.0 - tail))
}

#[cfg(test)]
mod tests;

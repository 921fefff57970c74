//! Summaries of samples, and the comparison of two interleaved sets of them.
//!
//! Nothing here assumes a distribution, and nothing depends on the time of day: the same samples give the same numbers.

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution as _};
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 2000;

/// Fewest rounds that a comparison needs: of 6 rounds the range covers the median with a probability of 97 %, of 5 no
/// interval at all reaches 95 %.
pub const FEWEST_ROUNDS: usize = 6;

/// Below so many rounds a bootstrap claims too much, and an interval is the range of what the rounds gave.
const BOOTSTRAP_ROUNDS: usize = 20;

/// Share of the resamples that an interval covers.
pub const CONFIDENCE: f64 = 0.95;

const SEED: u64 = 0x6b62_656e_6368;

/// What a set of samples comes to, in the unit of the samples.
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
    /// Lower end of the 95 % bootstrap interval of the median; of fewer than 20 samples the smallest.
    pub p50_low: f64,
    /// Upper end of the 95 % bootstrap interval of the median; of fewer than 20 samples the largest.
    pub p50_high: f64,
}

impl Summary {
    /// Summarises samples in any order; `None` if there is none or one of them is not finite.
    pub fn of(samples: &[f64]) -> Option<Summary> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        // The sum runs over sorted samples, so that it does not depend on their order.
        let mean = (sorted.iter().sum::<f64>() / n as f64).clamp(sorted[0], sorted[n - 1]);
        let squares = sorted.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>();
        let std = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
        let (p50_low, p50_high) =
            if n < BOOTSTRAP_ROUNDS { (sorted[0], sorted[n - 1]) } else { median_interval(&sorted) };
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

/// The percentile bootstrap of the median of ascending samples.
fn median_interval(sorted: &[f64]) -> (f64, f64) {
    ends(&mut resampled_medians(sorted, &mut ChaCha8Rng::seed_from_u64(SEED)))
}

/// The medians of resamples of ascending samples.
///
/// A resample of n draws with replacement has as its k-th smallest element `sorted[floor(n * u)]`, where `u` is the
/// k-th smallest of n uniform numbers, and that has a Beta(k, n + 1 - k) distribution. Drawing `u` directly gives medians with
/// exactly the distribution of the bootstrap's, at a cost that does not grow with n.
fn resampled_medians(sorted: &[f64], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let n = sorted.len();
    let k = n.div_ceil(2);
    let lower = Beta::new(k as f64, (n + 1 - k) as f64).expect("both are at least 1");
    let at = |u: f64| sorted[((u * n as f64) as usize).min(n - 1)];
    (0..RESAMPLES)
        .map(|_| {
            let u: f64 = lower.sample(rng);
            if n % 2 == 1 {
                return at(u);
            }
            // The next order statistic: the smallest of the n - k uniform numbers above u.
            let v = rng.random::<f64>().powf(1.0 / (n - k) as f64);
            f64::midpoint(at(u), at(u + (1.0 - u) * (1.0 - v)))
        })
        .collect()
}

/// How much faster a candidate is than a baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Speedup {
    /// Time of the baseline over time of the candidate: above 1 the candidate is faster.
    pub ratio: f64,
    /// Lower end of its 95 % bootstrap interval.
    pub low: f64,
    /// Upper end of its 95 % bootstrap interval.
    pub high: f64,
}

impl Speedup {
    /// The mean of the middle half of the rounds' ratios (in logarithms) with a paired bootstrap: rounds are resampled,
    /// the same rounds on both sides, so that what disturbed a whole round (a clock change, a neighbour) does not widen the interval.
    ///
    /// Not the ratio of medians: launches of a short kernel take one of a few times some 2 % apart, and which of them the
    /// median falls on may differ from one side to the other where the code hardly does. The middle half moves with the
    /// share of each, and a quarter of the rounds on either end may say anything.
    ///
    /// `None` unless both sides hold the same number of samples, at least [`FEWEST_ROUNDS`], all finite and positive.
    pub fn of(baseline: &[f64], candidate: &[f64]) -> Option<Speedup> {
        if !comparable(baseline, candidate) {
            return None;
        }
        let n = baseline.len();
        let ratios = log_ratios(baseline, candidate);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| ratios[*a].total_cmp(&ratios[*b]));
        let sorted: Vec<f64> = order.iter().map(|round| ratios[*round]).collect();
        let (low, high) = if n < BOOTSTRAP_ROUNDS {
            (sorted[0], sorted[n - 1])
        } else {
            // Rounds are drawn, not ranks: turned over, the same rounds give the same interval.
            let mut rank = vec![0; n];
            order.iter().enumerate().for_each(|(place, round)| rank[*round] = place);
            let mut rng = ChaCha8Rng::seed_from_u64(SEED);
            let mut drawn = vec![0; n];
            let mut resampled: Vec<f64> = (0..RESAMPLES)
                .map(|_| {
                    drawn.fill(0);
                    (0..n).for_each(|_| drawn[rank[index_below(&mut rng, n)]] += 1);
                    middle_half(&sorted, &drawn)
                })
                .collect();
            ends(&mut resampled)
        };
        let ratio = middle_half(&sorted, &vec![1; n]);
        Some(Speedup { ratio: ratio.exp(), low: low.exp(), high: high.exp() })
    }

    /// The ratio of [`Speedup::of`] without its interval, which takes long.
    pub fn ratio_of(baseline: &[f64], candidate: &[f64]) -> Option<f64> {
        if !comparable(baseline, candidate) {
            return None;
        }
        let mut ratios = log_ratios(baseline, candidate);
        ratios.sort_by(f64::total_cmp);
        Some(middle_half(&ratios, &vec![1; ratios.len()]).exp())
    }

    /// The ratio of medians of samples taken apart, such as by two runs: each side is resampled for itself.
    ///
    /// The interval is that of the samples at hand. What differs from run to run, such as where memory came to lie, is not
    /// in it, so a difference that it calls certain may be one of two runs rather than of two programs.
    ///
    /// `None` unless both sides hold at least [`FEWEST_ROUNDS`] samples, all finite and positive.
    pub fn unpaired(baseline: &[f64], candidate: &[f64]) -> Option<Speedup> {
        let fewest = baseline.len().min(candidate.len());
        if fewest < FEWEST_ROUNDS || !usable(baseline) || !usable(candidate) {
            return None;
        }
        let sorted = |samples: &[f64]| {
            let mut samples = samples.to_vec();
            samples.sort_unstable_by(f64::total_cmp);
            samples
        };
        let (left, right) = (sorted(baseline), sorted(candidate));
        // One generator for both sides: with a seed each, the same seed would pair them.
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let (lefts, rights) = (resampled_medians(&left, &mut rng), resampled_medians(&right, &mut rng));
        let mut ratios: Vec<f64> = lefts.iter().zip(&rights).map(|(left, right)| left / right).collect();
        let (mut low, mut high) = ends(&mut ratios);
        if fewest < BOOTSTRAP_ROUNDS {
            low = low.min(left[0] / right[right.len() - 1]);
            high = high.max(left[left.len() - 1] / right[0]);
        }
        Some(Speedup { ratio: percentile(&left, 0.5) / percentile(&right, 0.5), low, high })
    }
}

/// Whether two sides are enough rounds, measured together.
fn comparable(baseline: &[f64], candidate: &[f64]) -> bool {
    let enough = baseline.len() >= FEWEST_ROUNDS && baseline.len() == candidate.len();
    enough && usable(baseline) && usable(candidate)
}

/// The logarithms of each round's ratio.
fn log_ratios(baseline: &[f64], candidate: &[f64]) -> Vec<f64> {
    baseline.iter().zip(candidate).map(|(left, right)| left.ln() - right.ln()).collect()
}

/// Whether a ratio of medians can be taken.
fn usable(samples: &[f64]) -> bool {
    samples.iter().all(|sample| sample.is_finite() && *sample > 0.0)
}

/// A uniform index below `n`, by multiplication: biased by less than n / 2^64.
fn index_below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// The mean of the middle half of ascending values, of which the i-th stands for `counts[i]`; the counts come to as many as
/// there are values.
fn middle_half(sorted: &[f64], counts: &[usize]) -> f64 {
    let cut = sorted.len() / 4;
    let (mut rank, mut sum) = (0, 0.0);
    for (value, count) in sorted.iter().zip(counts) {
        let within = (rank + count).min(sorted.len() - cut).saturating_sub(rank.max(cut));
        sum += *value * within as f64;
        rank += count;
    }
    sum / (sorted.len() - 2 * cut) as f64
}

fn ends(resampled: &mut [f64]) -> (f64, f64) {
    resampled.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (percentile(resampled, tail), percentile(resampled, 1.0 - tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_distr::StandardNormal;

    fn noisy(seed: u64, n: usize, centre: f64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n)
            .map(|_| {
                let noise: f64 = StandardNormal.sample(&mut rng);
                centre * (1.0 + 0.01 * noise)
            })
            .collect()
    }

    /// The median; reorders the samples.
    fn median(samples: &mut [f64]) -> f64 {
        let n = samples.len();
        let (below, middle, _) = samples.select_nth_unstable_by(n / 2, f64::total_cmp);
        if n % 2 == 1 {
            return *middle;
        }
        let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        f64::midpoint(lower, *middle)
    }

    #[test]
    fn percentiles_are_numpys() {
        // numpy.percentile([1, 2, 3, 4], [0, 25, 50, 90, 100])
        let sorted = [1.0, 2.0, 3.0, 4.0];
        let got: Vec<f64> = [0.0, 0.25, 0.5, 0.9, 1.0].iter().map(|q| percentile(&sorted, *q)).collect();
        for (got, want) in got.iter().zip([1.0, 1.75, 2.5, 3.7, 4.0]) {
            assert!((got - want).abs() < 1e-12, "{got} != {want}");
        }
    }

    #[test]
    fn a_known_summary() {
        let summary = Summary::of(&[3.0, 1.0, 2.0, 4.0]).unwrap();
        assert_eq!((summary.n, summary.p50, summary.mean), (4, 2.5, 2.5));
        assert!((summary.std - (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        let one = Summary::of(&[7.0]).unwrap();
        assert_eq!((one.p50, one.std, one.p50_low, one.p50_high), (7.0, 0.0, 7.0, 7.0));
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
        assert_eq!(Speedup::of(&[], &[]), None);
        assert_eq!(Speedup::of(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(Speedup::of(&[1.0], &[0.0]), None);
        assert_eq!(Speedup::unpaired(&[1.0; 20], &[]), None);
        assert_eq!(Speedup::unpaired(&[1.0; 20], &[1.0; FEWEST_ROUNDS - 1]), None);
        assert_eq!(Speedup::unpaired(&[1.0; 20], &[f64::INFINITY; 20]), None);
    }

    #[test]
    fn unpaired_sides_may_differ_in_length_and_a_speedup_is_found() {
        let speedup = Speedup::unpaired(&noisy(1, 120, 102.0), &noisy(2, 90, 100.0)).unwrap();
        assert!(speedup.low > 1.01 && speedup.ratio < 1.03 && speedup.high < 1.03, "{speedup:?}");
    }

    #[test]
    fn unpaired_intervals_cover_no_difference_about_as_often_as_they_say() {
        let covered = (0..100)
            .filter(|seed| {
                let speedup = Speedup::unpaired(&noisy(2 * seed, 51, 100.0), &noisy(2 * seed + 1, 80, 100.0)).unwrap();
                speedup.low <= 1.0 && 1.0 <= speedup.high
            })
            .count();
        assert!((88..=100).contains(&covered), "{covered} of 100");
    }

    #[test]
    fn unpaired_sides_are_not_paired() {
        // A drift that both share, over which pairs would look: unpaired, it is part of what is not known.
        let drifting: Vec<f64> = (0..100).map(|i| 100.0 + f64::from(i)).collect();
        let paired = Speedup::of(&drifting, &drifting).unwrap();
        let unpaired = Speedup::unpaired(&drifting, &drifting).unwrap();
        assert_eq!((paired.low, paired.high), (1.0, 1.0));
        assert!(unpaired.low < 0.95 && unpaired.high > 1.05, "{unpaired:?}");
    }

    #[test]
    fn the_interval_is_that_of_plain_resampling() {
        for n in [2, 9, 10, 101] {
            let mut sorted = noisy(n as u64, n, 100.0);
            sorted.sort_unstable_by(f64::total_cmp);
            let (low, high) = median_interval(&sorted);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let mut medians: Vec<f64> = (0..5_000)
                .map(|_| {
                    let mut resample: Vec<f64> = (0..n).map(|_| sorted[index_below(&mut rng, n)]).collect();
                    median(&mut resample)
                })
                .collect();
            let (plain_low, plain_high) = ends(&mut medians);
            let spread = sorted[n - 1] - sorted[0];
            assert!((low - plain_low).abs() < 0.05 * spread, "n={n}: {low} != {plain_low}");
            assert!((high - plain_high).abs() < 0.05 * spread, "n={n}: {high} != {plain_high}");
        }
    }

    #[test]
    fn intervals_cover_the_truth_about_as_often_as_they_say() {
        let covered = (0..100)
            .filter(|seed| {
                let summary = Summary::of(&noisy(*seed, 51, 100.0)).unwrap();
                summary.p50_low <= 100.0 && 100.0 <= summary.p50_high
            })
            .count();
        assert!((88..=100).contains(&covered), "{covered} of 100");
    }

    #[test]
    fn a_disturbance_of_whole_rounds_does_not_hide_a_small_speedup() {
        // Each round runs at its own clock; the candidate is 2 % faster in every one.
        let baseline = noisy(1, 100, 100.0).into_iter().enumerate().map(|(i, x)| x * (1.0 + 0.3 * (i as f64 / 100.0)));
        let baseline: Vec<f64> = baseline.collect();
        let candidate: Vec<f64> = baseline.iter().map(|x| x / 1.02).collect();
        let speedup = Speedup::of(&baseline, &candidate).unwrap();
        assert!(speedup.low > 1.0199 && speedup.high < 1.0201, "{speedup:?}");
    }

    #[test]
    fn a_median_that_falls_between_two_modes_does_not_hide_a_slowdown() {
        // Launches take one of two times 2.2 % apart, as a short kernel's do; 1.8 % are added to each of the candidate's. A bit
        // more than half of the baseline's fall on the later time, a bit less of the candidate's.
        let modes = |late: usize, added: f64| -> Vec<f64> {
            (0..100).map(|i| if i * 37 % 100 < late { 9184.0 } else { 8992.0 } + added).collect()
        };
        let (baseline, candidate) = (modes(52, 0.0), modes(48, 162.0));
        assert!(
            median(&mut baseline.clone()) > median(&mut candidate.clone()),
            "by its median the candidate is the faster one"
        );
        let speedup = Speedup::of(&baseline, &candidate).unwrap();
        assert!((0.98..0.99).contains(&speedup.ratio) && speedup.high < 0.995, "{speedup:?}");
    }

    #[test]
    fn few_rounds_claim_little() {
        let fast = [10.0, 10.1, 10.0, 10.2, 10.1];
        let slow = [12.0, 12.1, 12.0, 12.2, 12.1];
        assert_eq!(Speedup::of(&slow, &fast), None, "five rounds cannot reach 95 %");
        // One round in six that says the opposite keeps the question open.
        let torn = Speedup::of(&[12.0, 12.1, 12.0, 12.2, 12.1, 9.0], &[10.0, 10.1, 10.0, 10.2, 10.1, 10.0]).unwrap();
        assert!(torn.low < 1.0 && torn.ratio > 1.15, "{torn:?}");
        let summary = Summary::of(&[1.0, 2.0, 9.0]).unwrap();
        assert_eq!((summary.p50_low, summary.p50_high), (1.0, 9.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn a_summary_is_ordered_and_ignores_order(mut samples in prop::collection::vec(1e-3_f64..1e12, 1..60)) {
            let summary = Summary::of(&samples).unwrap();
            let min = samples.iter().copied().fold(f64::INFINITY, f64::min);
            let max = samples.iter().copied().fold(0.0, f64::max);
            prop_assert!(min <= summary.p50_low && summary.p50_low <= summary.p50_high && summary.p50_high <= max);
            prop_assert!(min <= summary.p50 && summary.p50 <= summary.p90);
            prop_assert!(summary.p90 <= summary.p99 && summary.p99 <= max);
            prop_assert!(min <= summary.mean && summary.mean <= max);
            prop_assert!(summary.std >= 0.0);
            samples.reverse();
            prop_assert_eq!(summary, Summary::of(&samples).unwrap());
        }

        #[test]
        fn a_speedup_lies_in_its_interval_and_turns_over(
            pairs in prop::collection::vec((1.0_f64..2.0, 1.0_f64..2.0), FEWEST_ROUNDS..40),
        ) {
            let (left, right): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let forth = Speedup::of(&left, &right).unwrap();
            let back = Speedup::of(&right, &left).unwrap();
            prop_assert!(forth.low <= forth.ratio && forth.ratio <= forth.high);
            prop_assert!((forth.ratio * back.ratio - 1.0).abs() < 1e-12);
            prop_assert_eq!(Some(forth.ratio), Speedup::ratio_of(&left, &right));
            prop_assert!((forth.low * back.high - 1.0).abs() < 1e-9);
            let same = Speedup::of(&left, &left).unwrap();
            prop_assert_eq!((same.ratio, same.low, same.high), (1.0, 1.0, 1.0));
        }

        #[test]
        fn an_unpaired_speedup_is_ordered_and_ignores_order(
            left in prop::collection::vec(1.0_f64..2.0, FEWEST_ROUNDS..40),
            mut right in prop::collection::vec(1.0_f64..2.0, FEWEST_ROUNDS..40),
        ) {
            let speedup = Speedup::unpaired(&left, &right).unwrap();
            prop_assert!(0.5 <= speedup.low && speedup.low <= speedup.high && speedup.high <= 2.0);
            right.reverse();
            prop_assert_eq!(speedup, Speedup::unpaired(&left, &right).unwrap());
        }

        #[test]
        fn a_speedup_scales(samples in prop::collection::vec(1.0_f64..2.0, FEWEST_ROUNDS..40), factor in 0.1_f64..10.0) {
            let scaled: Vec<f64> = samples.iter().map(|x| x * factor).collect();
            let speedup = Speedup::of(&scaled, &samples).unwrap();
            for got in [speedup.ratio, speedup.low, speedup.high] {
                prop_assert!((got / factor - 1.0).abs() < 1e-9);
            }
        }
    }
}

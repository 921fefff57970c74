//! Tests of the statistics.

#![allow(clippy::float_cmp)]

use super::rounds::{index_below, middle_half};
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
fn no_samples_have_no_summary() {
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
    // A drift of both sides, which pairs ignore: without pairs it widens the interval.
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
        let (low, high) = median_interval(&sorted, n);
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
    // Each round has its own clock; the candidate is 2 % faster in every round.
    let baseline = noisy(1, 100, 100.0).into_iter().enumerate().map(|(i, x)| x * (1.0 + 0.3 * (i as f64 / 100.0)));
    let baseline: Vec<f64> = baseline.collect();
    let candidate: Vec<f64> = baseline.iter().map(|x| x / 1.02).collect();
    let speedup = Speedup::of(&baseline, &candidate).unwrap();
    assert!(speedup.low > 1.0199 && speedup.high < 1.0201, "{speedup:?}");
}

#[test]
fn a_median_that_falls_between_two_modes_does_not_hide_a_slowdown() {
    // Launches take one of two times 2.2 % apart, as those of a short kernel do; 1.8 % are added to each of the
    // candidate's. Slightly more than half of the baseline's launches take the later time, slightly fewer of the
    // candidate's.
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

/// Noise in which each sample keeps 0.9 of the previous one.
fn stretches(seed: u64, n: usize) -> Vec<f64> {
    let mut last = 0.0;
    noisy(seed, n, 100.0)
        .into_iter()
        .map(|fresh| {
            last = 0.9 * last + 0.436 * (fresh - 100.0);
            100.0 + last
        })
        .collect()
}

#[test]
fn noise_in_stretches_widens_intervals_until_they_cover() {
    let (mut of_median, mut of_speedup) = (0, 0);
    for seed in 0..100 {
        let summary = Summary::of(&stretches(seed, 200)).unwrap();
        of_median += usize::from(summary.p50_low <= 100.0 && 100.0 <= summary.p50_high);
        let speedup = Speedup::of(&stretches(seed, 200), &vec![100.0; 200]).unwrap();
        of_speedup += usize::from(speedup.low <= 1.0 && 1.0 <= speedup.high);
    }
    // Intervals that treat the samples as independent cover about 40 of 100.
    assert!(of_median >= 84 && of_speedup >= 84, "{of_median} {of_speedup}");
}

#[test]
fn adjusted_samples_widen_an_interval_downwards() {
    let (long, other, short) = (noisy(1, 100, 3000.0), noisy(3, 100, 3000.0), noisy(2, 100, 100.0));
    let of = |times, slack| Samples { times, slack };
    let exact = Speedup::of(&long, &short).unwrap();
    let wide = Speedup::of(of(&long, 150.0), of(&short, 0.0)).unwrap();
    assert!((wide.ratio - exact.ratio).abs() < 1e-12 && (wide.high - exact.high).abs() < 1e-12);
    assert!((wide.low / (exact.low * 0.95) - 1.0).abs() < 1e-3, "{wide:?} {exact:?}");
    let equal = Speedup::of(of(&long, 150.0), of(&other, 150.0)).unwrap();
    assert!(equal.low > 0.99 && equal.high < 1.01, "{equal:?}");
    let summary = Summary::of(of(&long, 150.0)).unwrap();
    assert!(summary.p50_low < 2860.0 && summary.p50 > 2990.0 && summary.p50_high < 3020.0, "{summary:?}");
}

#[test]
fn few_rounds_give_wide_intervals() {
    let fast = [10.0, 10.1, 10.0, 10.2, 10.1];
    let slow = [12.0, 12.1, 12.0, 12.2, 12.1];
    assert_eq!(Speedup::of(&slow, &fast), None, "five rounds cannot reach 95 %");
    // One opposite round in six leaves the verdict open.
    let torn = Speedup::of(&[12.0, 12.1, 12.0, 12.2, 12.1, 9.0], &[10.0, 10.1, 10.0, 10.2, 10.1, 10.0]).unwrap();
    assert!(torn.low < 1.0 && torn.ratio > 1.15, "{torn:?}");
    let summary = Summary::of(&[1.0, 2.0, 9.0]).unwrap();
    assert_eq!((summary.p50_low, summary.p50_high), (1.0, 9.0));
}

#[test]
fn the_range_is_the_interval_below_twenty_rounds_and_no_more_from_there_on() {
    for n in [7, 19, 20, 40] {
        // A ramp in a shuffled order: neighbours are independent.
        let samples: Vec<f64> = (0..n).map(|i| 100.0 + (i * 11 % n) as f64).collect();
        let (ones, n) = (vec![1.0; n], n as f64);
        let is_range = |low: f64, high: f64| (low - 100.0).abs() < 1e-9 && (high - (99.0 + n)).abs() < 1e-9;
        let summary = Summary::of(&samples).unwrap();
        let paired = Speedup::of(&samples, &ones).unwrap();
        let unpaired = Speedup::unpaired(&samples, &ones).unwrap();
        assert_eq!(is_range(summary.p50_low, summary.p50_high), n < 20.0, "{summary:?}");
        assert_eq!(is_range(paired.low, paired.high), n < 20.0, "{paired:?}");
        assert_eq!(is_range(unpaired.low, unpaired.high), n < 20.0, "{unpaired:?}");
    }
    // Without pairs, the ends are the best of one side over the worst of the other.
    let few = Speedup::unpaired(&[8.0, 9.0, 10.0, 11.0, 12.0, 13.0], &[4.0, 4.2, 4.4, 4.6, 4.8, 5.0]).unwrap();
    assert_eq!((few.low, few.high), (8.0 / 5.0, 13.0 / 4.0));
}

#[test]
fn the_inverse_of_a_speedup_has_inverse_ends_in_order() {
    let inverse = Speedup { ratio: 4.0, low: 2.0, high: 8.0 }.inverse();
    assert_eq!(inverse, Speedup { ratio: 0.25, low: 0.125, high: 0.5 });
}

#[test]
fn fewer_than_six_samples_have_no_interval() {
    let interval = |n: u32| {
        let times: Vec<f64> = (0..n).map(|i| 100.0 + f64::from(i)).collect();
        Summary::of(&times).unwrap().interval()
    };
    assert_eq!([1, 5, 6, 7].map(interval), [None, None, Some([100.0, 105.0]), Some([100.0, 106.0])]);
}

#[test]
fn the_precision_of_a_ratio_is_its_deviation_from_run_to_run() {
    const ERROR: f64 = 0.025;
    let ones = [1.0; 100];
    let run = |seed: u64, n: usize| {
        let samples = noisy(seed, n, 100.0);
        (
            Speedup::ratio_of(&samples, &ones[..n]).unwrap().ln(),
            Speedup::precision(&samples, &ones[..n], ERROR).unwrap(),
        )
    };
    // Student's distribution for the middle half of 20 rounds, and of 50 pairs: 9 and 25 degrees of freedom.
    for (n, quantile) in [(20, 2.685), (100, 2.385)] {
        let runs: Vec<(f64, f64)> = (0..400).map(|seed| run(seed, n)).collect();
        let squares = runs.iter().map(|(ratio, _)| (ratio - 100.0_f64.ln()).powi(2)).sum::<f64>();
        let deviation = (squares / runs.len() as f64).sqrt();
        // Correlations that are there by chance widen some of them.
        let mean = runs.iter().map(|(_, half)| half / quantile).sum::<f64>() / runs.len() as f64;
        assert!((0.95..1.4).contains(&(mean / deviation)), "{n}: {mean} {deviation}");
        let missed = runs.iter().filter(|(ratio, half)| (ratio - 100.0_f64.ln()).abs() > *half).count();
        assert!(missed <= 14, "{n}: {missed} of 400, where 10 are expected at most");
    }
}

#[test]
fn the_precision_of_few_rounds_is_their_range() {
    let slow = [102.0, 100.0, 101.0, 100.0, 102.0, 101.0, 100.0, 9e9];
    let range = 1.02_f64.ln() / 2.0;
    let ones = [1.0; 7];
    let precision = |n: usize, error| Speedup::precision(&slow[..n], &ones[..n.min(7)], error);
    assert!((precision(7, 0.025).unwrap() - range).abs() < 1e-12);
    assert!((precision(8, 0.025).unwrap() - range).abs() < 1e-12, "the eighth round has one side only");
    assert_eq!(precision(6, 0.025), None, "six rounds lie on one side once in 32 times");
    assert!(precision(7, 1.0 / 64.0).is_some() && precision(7, 1.0 / 65.0).is_none());
    assert_eq!(Speedup::precision(&slow[..5], &ones[..5], 0.5), None);
    assert_eq!(Speedup::precision(&[0.0; 7], &ones, 0.5), None);
}

#[test]
fn outer_quarters_and_stretches_of_rounds_count_for_their_precision() {
    let ones = [1.0; 200];
    let precision = |samples: &[f64]| Speedup::precision(samples, &ones[..samples.len()], 0.025).unwrap();
    let mut samples = noisy(1, 200, 100.0);
    let calm = precision(&samples);
    samples[17] = 1e9;
    samples[91] = 1e-9;
    assert!((precision(&samples) / calm - 1.0).abs() < 0.1, "an outlier is as any other sample of the outer quarters");
    let stretched = precision(&stretches(1, 200));
    assert!(stretched > 2.0 * calm, "{stretched} {calm}");
}

#[test]
fn medians_of_resamples_agree_with_the_median_within_their_error() {
    let sorted: Vec<f64> = (0..1000).map(|i| f64::from(i) / 999.0).collect();
    for draws in [4, 5, 6, 7, 8, 9, 50, 51] {
        let medians = resampled_medians(&sorted, draws, &mut ChaCha8Rng::seed_from_u64(3));
        let mean = medians.iter().sum::<f64>() / RESAMPLES as f64;
        let variance = medians.iter().map(|median| (median - mean).powi(2)).sum::<f64>() / RESAMPLES as f64;
        // For an odd number of uniform draws the variance is exactly 1 / 4 (m + 2); for an even number it is slightly
        // smaller.
        let exact = 0.25 / (draws as f64 + 2.0);
        assert!((mean - 0.5).abs() < 0.012, "{draws}: {mean}");
        let least = if draws % 2 == 1 { 0.9 } else { 0.75 };
        assert!((least * exact..1.1 * exact).contains(&variance), "{draws}: {variance} {exact}");
    }
}

#[test]
fn the_ends_leave_two_and_a_half_percent_on_each_side() {
    let mut values: Vec<f64> = (0..=1000).rev().map(f64::from).collect();
    let (low, high) = ends(&mut values);
    assert!((low - 25.0).abs() < 1e-9 && (high - 975.0).abs() < 1e-9, "{low} {high}");
}

#[test]
fn outer_quarters_do_not_change_the_interquartile_mean() {
    assert_eq!([middle_half(&[-9e9, 0.0, 1.0, 2.0, 3.0, 4.0, 1e9, 9e9], &[1; 8])], [2.5]);
    // The same values with different weights.
    assert_eq!([middle_half(&[-9e9, 1.0, 3.0, 9e9], &[2, 1, 3, 2])], [2.5]);
    assert_eq!([middle_half(&[1.0, 2.0, 3.0], &[1; 3])], [2.0]);
}

#[test]
fn a_time_of_zero_is_no_time() {
    let (times, mut zero) = ([1.0; 8], [1.0; 8]);
    zero[5] = 0.0;
    for (left, right) in [(&times, &zero), (&zero, &times)] {
        assert_eq!(Speedup::of(left, right), None);
        assert_eq!(Speedup::ratio_of(left, right), None);
        assert_eq!(Speedup::unpaired(left, right), None);
    }
    assert!(Speedup::ratio_of(&times, &times).is_some());
}

#[test]
fn of_a_time_that_is_all_slack_a_tenth_is_left() {
    let shortened = |slack| Samples { times: &[100.0, 200.0], slack }.shortened();
    assert_eq!([shortened(30.0), shortened(95.0), shortened(1e9)], [[70.0, 170.0], [10.0, 105.0], [10.0, 20.0]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_summary_is_ordered_and_the_same_backwards(mut samples in prop::collection::vec(1e-3_f64..1e12, 1..60)) {
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
    fn an_unpaired_speedup_is_ordered_and_the_same_backwards(
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

#[test]
fn intervals_meet_and_a_single_sample_stands_for_times_near_it() {
    let of = |times: &[f64]| Summary::of(times).unwrap();
    let meet = |one: &[f64], other: &[f64]| {
        let (one, other) = (of(one), of(other));
        assert_eq!(one.meets(&other, 0.02), other.meets(&one, 0.02));
        one.meets(&other, 0.02)
    };
    assert!(meet(&[1.0, 2.0, 3.0], &[3.0, 4.0, 5.0]) && !meet(&[1.0, 2.0, 3.0], &[3.1, 4.0, 5.0]));
    assert!(meet(&[100.0], &[104.0]) && !meet(&[100.0], &[104.1]));
    assert!(meet(&[100.0], &[102.0, 103.0]) && !meet(&[100.0], &[102.1, 103.0]));
}

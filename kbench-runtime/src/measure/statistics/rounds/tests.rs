//! Tests of pairs of rounds.

#![allow(clippy::float_cmp)]

use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::*;
use crate::measure::statistics::Speedup;

/// Logarithms of the ratios of a number of rounds.
type Noise = fn(&mut ChaCha8Rng, usize) -> Vec<f64>;

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn of_each(rng: &mut ChaCha8Rng, n: usize, one: impl Fn(&mut ChaCha8Rng, bool) -> f64) -> Vec<f64> {
    (0..n).map(|round| one(rng, round % 2 == 0)).collect()
}

fn plain(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    of_each(rng, n, |rng, _| 0.01 * normal(rng))
}

/// Launches take 2 % longer after one kernel than after another.
fn alternating(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    of_each(rng, n, |rng, forth| if forth { 0.02 } else { -0.02 } + 0.003 * normal(rng))
}

/// Launches of the baseline take one of two times, in rounds forth mostly the later one, in rounds back mostly the earlier one.
fn alternating_states(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    of_each(rng, n, |rng, forth| {
        let late = rng.random_bool(if forth { 0.85 } else { 0.15 });
        (if late { 0.025 } else { -0.025 }) + 0.002 * normal(rng)
    })
}

/// Launches of both take one of two times by chance.
fn states(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    of_each(rng, n, |rng, _| {
        let [one, other] = [0, 1].map(|_| if rng.random::<bool>() { 0.05 } else { 0.0 });
        one - other + 0.002 * normal(rng)
    })
}

/// One of 20 launches of each takes up to three times as long.
fn outliers(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    of_each(rng, n, |rng, forth| {
        let [one, other] = [0, 1].map(|_| if rng.random_bool(0.05) { rng.random_range(0.1..1.1) } else { 0.0 });
        one - other + 0.005 * normal(rng) + if forth { 0.01 } else { -0.01 }
    })
}

/// Each round keeps a share of the noise of the previous one.
fn drift(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    let mut last = normal(rng);
    (0..n)
        .map(|_| {
            last = 0.5 * last + 0.75_f64.sqrt() * normal(rng);
            0.01 * last
        })
        .collect()
}

const NOISES: [(&str, Noise); 6] = [
    ("plain", plain),
    ("alternating", alternating),
    ("alternating states", alternating_states),
    ("states", states),
    ("outliers", outliers),
    ("drift", drift),
];

/// A speed-up of 1 whose rounds have this noise.
fn speedup(noise: Noise, seed: u64, rounds: usize) -> Speedup {
    let ratios = noise(&mut ChaCha8Rng::seed_from_u64(seed), rounds);
    let times: Vec<f64> = ratios.iter().map(|ratio| 100.0 * ratio.exp()).collect();
    Speedup::of(&times, &vec![100.0; rounds]).unwrap()
}

/// Share of speed-ups whose intervals have 1 in them, and the mean of the widths.
fn coverage(noise: Noise, runs: u64, rounds: usize) -> (f64, f64) {
    let all: Vec<Speedup> = (0..runs).map(|seed| speedup(noise, seed, rounds)).collect();
    let covers = all.iter().filter(|speedup| speedup.low <= 1.0 && 1.0 <= speedup.high).count();
    let widths: f64 = all.iter().map(|speedup| speedup.high - speedup.low).sum();
    (covers as f64 / runs as f64, widths / runs as f64)
}

fn rounds(ratios: &[f64]) -> Rounds {
    let times: Vec<f64> = ratios.iter().map(|ratio| ratio.exp()).collect();
    Rounds::of(&times, &vec![1.0; ratios.len()]).unwrap()
}

#[test]
fn intervals_cover_equal_kernels_whatever_the_noise() {
    for (name, noise) in NOISES {
        let (covered, width) = coverage(noise, 60, 100);
        // Fewer than 51 of 60 intervals of 95 % cover once in a thousand times.
        assert!(covered >= 0.85, "{name}: {covered} {width}");
    }
}

#[test]
#[ignore = "takes minutes; its table is in tests/trust/REPORT.md"]
fn coverage_of_thousands_of_runs() {
    for (name, noise) in NOISES {
        for rounds in [99, 100, 338] {
            let (covered, width) = coverage(noise, 1000, rounds);
            println!("| {name} | {rounds} | {:.1} % | {:.2} % |", 100.0 * covered, 100.0 * width);
        }
    }
}

#[test]
fn a_difference_between_the_orders_of_rounds_does_not_widen_an_interval_of_pairs() {
    let calm = |rng: &mut ChaCha8Rng, n| of_each(rng, n, |rng, _| 0.003 * normal(rng));
    let width = |noise, rounds| coverage(noise, 20, rounds).1;
    assert!(width(alternating, 100) < 1.1 * width(calm, 100));
    assert!(width(alternating, 99) > 4.0 * width(alternating, 100), "99 rounds are units");
    assert!(width(alternating_states, 99) > 3.0 * width(alternating_states, 100));
    let deviation = |n| rounds(&alternating(&mut ChaCha8Rng::seed_from_u64(1), n)).deviation();
    assert!(deviation(99) > 5.0 * deviation(100), "{} {}", deviation(99), deviation(100));
}

#[test]
fn pairs_tell_of_plain_noise_and_of_outliers_what_rounds_tell() {
    for noise in [plain, states] {
        let [of_rounds, of_pairs] = [99, 100].map(|rounds| coverage(noise, 20, rounds).1);
        assert!((0.9..1.2).contains(&(of_pairs / of_rounds)), "{of_pairs} {of_rounds}");
    }
    for seed in 0..50 {
        let Speedup { ratio, low, high } = speedup(outliers, seed, 150);
        assert!((ratio - 1.0).abs() < 0.003 && low > 0.98 && high < 1.02, "{seed}: {low} {ratio} {high}");
    }
}

#[test]
fn a_quarter_of_the_rounds_of_each_order_may_be_outliers() {
    // Forth 0.2, back 0.1; 12 of 50 in each order are far away, on different sides.
    let mut ratios: Vec<f64> = (0..100).map(|round| if round % 2 == 0 { 0.2 } else { 0.1 }).collect();
    (0..12).for_each(|pair| (ratios[4 * pair], ratios[8 * pair + 1]) = (99.0, -99.0));
    assert!((rounds(&ratios).centre() - 0.15).abs() < 1e-12);
}

#[test]
fn the_rounds_of_a_pair_are_drawn_together() {
    // A gain of one round is the loss of the next.
    let gains = plain(&mut ChaCha8Rng::seed_from_u64(1), 60);
    let ratios: Vec<f64> = gains.iter().flat_map(|gain| [*gain, -gain]).collect();
    let Rounds { parts, .. } = rounds(&ratios);
    assert_eq!(parts.len(), 2);
    assert!(rounds(&ratios).resampled().iter().all(|centre| centre.abs() < 1e-12));
    assert!(rounds(&ratios).deviation() < 1e-12 && rounds(&gains).deviation() > 1e-3);
}

#[test]
fn few_rounds_are_units_and_a_last_round_without_a_pair_does_not_count() {
    let ratios = plain(&mut ChaCha8Rng::seed_from_u64(1), 102);
    let few = rounds(&ratios[..99]);
    assert!(few.len() == 99 && few.parts.len() == 1);
    let mut sorted = few.units.clone();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(few.centre(), middle_half(&sorted, &[1; 99]));
    assert_eq!(few.range(), (sorted[0], sorted[98]));
    let many = [100, 101, 102].map(|n| rounds(&ratios[..n]));
    assert_eq!(many.each_ref().map(Rounds::len), [50, 50, 51]);
    assert_eq!(many[0].centre(), many[1].centre());
    assert_eq!(many[0].deviation(), many[1].deviation());
    assert_ne!(many[1].centre(), many[2].centre());
    assert!((many[0].units[7] - f64::midpoint(ratios[14], ratios[15])).abs() < 1e-12);
}

#[test]
fn a_drift_makes_pairs_count_as_fewer() {
    let stretches: Vec<f64> =
        (0..200).map(|round| f64::from(round / 50 % 2) + 0.01 * f64::from(round * 7 % 10)).collect();
    assert!(
        rounds(&stretches).independent() <= 10
            && rounds(&plain(&mut ChaCha8Rng::seed_from_u64(1), 200)).independent() > 60
    );
}

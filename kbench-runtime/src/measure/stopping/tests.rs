//! Tests of the stopping rules.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal};

use super::*;
use crate::measure::statistics::Summary;

const UNTIL: Convergence = Convergence { precision: 0.005, max_seconds: 1e6, max_samples: 10_000, decides: false };

#[test]
fn intervals_of_order_statistics_are_those_of_the_tables() {
    let samples: Vec<f64> = (1..=100).map(f64::from).collect();
    // Ranks of the 95 % interval of a median, as in tables.
    assert_eq!(median_interval(&samples[..6], 0.05), Some((1.0, 6.0)));
    assert_eq!(median_interval(&samples[..20], 0.05), Some((6.0, 15.0)));
    assert_eq!(median_interval(&samples, 0.05), Some((40.0, 61.0)));
    assert_eq!(median_interval(&samples[..5], 0.05), None);
    assert_eq!(median_interval(&[], 0.05), None);
    assert_eq!(median_interval(&samples[..10], 2.0 * RACE_ERROR), Some((1.0, 10.0)));
    assert_eq!(median_interval(&samples[..9], 2.0 * RACE_ERROR), None, "nine of nine prove too little");
    let many: Vec<f64> = (0..10_000).map(f64::from).collect();
    let (low, high) = median_interval(&many, 0.05).unwrap();
    assert!((high - low - 196.0).abs() < 4.0, "{low} {high}");
}

/// Samples of a skewed distribution with a median of 100, until `stopping` ends sampling.
fn run(seed: u64, sigma: f64, drift: f64) -> (Vec<f64>, Look) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let noise = LogNormal::new(0.0, sigma).unwrap();
    let mut stopping = Stopping::new(100, Some(UNTIL), 1);
    let mut samples: Vec<f64> = Vec::new();
    loop {
        while samples.len() < stopping.next() {
            let at = samples.len() as f64;
            samples.push(100.0 * (1.0 + drift * at) * noise.sample(&mut rng));
        }
        match stopping.look(&[&samples]) {
            Look::Continue => {}
            ended => return (samples, ended),
        }
    }
}

#[test]
fn noise_takes_as_many_samples_as_it_needs() {
    let (calm, ended) = run(1, 0.005, 0.0);
    assert_eq!((calm.len(), ended), (100, Look::Converged));
    let (noisy, ended) = run(1, 0.04, 0.0);
    assert_eq!(ended, Look::Converged);
    assert!((300..4000).contains(&noisy.len()), "{}", noisy.len());
    let summary = Summary::of(&noisy).unwrap();
    assert!((summary.p50_high - summary.p50_low) / 2.0 <= 0.005 * summary.p50);
    let (hopeless, ended) = run(1, 1.0, 0.0);
    assert_eq!((hopeless.len(), ended), (10_000, Look::Exhausted));
}

#[test]
fn a_drift_does_not_converge() {
    let (samples, ended) = run(1, 0.0005, 0.0005);
    assert_eq!((samples.len(), ended), (10_000, Look::Exhausted));
}

#[test]
fn intervals_keep_their_coverage_under_the_stopping_rule() {
    let covered = (0..100)
        .filter(|seed| {
            let summary = Summary::of(&run(*seed, 0.03, 0.0).0).unwrap();
            summary.p50_low <= 100.0 && 100.0 <= summary.p50_high
        })
        .count();
    // Fewer than 86 of 100 intervals of 95 % cover the median once in four thousand times.
    assert!(covered >= 86, "{covered} of 100");
}

#[test]
fn sampling_ends_when_all_cases_converge_or_time_is_over() {
    let calm = vec![1.0; 100];
    let wild: Vec<f64> = (0..100).map(|i| 1.0 + f64::from(i % 10)).collect();
    let mut stopping = Stopping::new(100, Some(UNTIL), 2);
    assert_eq!(stopping.look(&[&calm, &wild]), Look::Continue);
    assert_eq!(stopping.next(), 150);
    assert!(stopping.is_converged(&calm) && !stopping.is_converged(&wild));
    let over = Convergence { max_seconds: 0.0, ..UNTIL };
    let mut stopping = Stopping::new(100, Some(over), 1);
    assert!(!stopping.is_late(6) && stopping.is_late(7));
    assert_eq!(stopping.look(&[&wild]), Look::Exhausted);
    assert_eq!(Stopping::new(20, None, 1).look(&[&calm]), Look::Exhausted, "as many as asked for");
}

#[test]
fn a_comparison_converges_by_ratios_although_times_drift() {
    let (noise, _) = run(1, 0.005, 0.0);
    let drifting: Vec<f64> = noise.iter().enumerate().map(|(at, noise)| noise * (1.0 + 0.003 * at as f64)).collect();
    let twice: Vec<f64> = drifting.iter().zip(run(2, 0.005, 0.0).0).map(|(one, noise)| one * noise / 50.0).collect();
    let mut stopping = Stopping::new(100, Some(UNTIL), 2);
    assert!(!stopping.is_converged(&drifting) && stopping.are_compared(&[&drifting, &twice]));
    assert_eq!(stopping.look(&[&drifting, &twice]), Look::Converged);
    assert_eq!(Stopping::new(100, Some(UNTIL), 1).look(&[&drifting]), Look::Continue, "nothing to compare with");
    let wild: Vec<f64> = (0..100).map(|i| 1.0 + f64::from(i % 10)).collect();
    assert_eq!(Stopping::new(100, Some(UNTIL), 2).look(&[&drifting, &wild]), Look::Continue);
    // The last turn of a program may be longer than that of the kernels.
    assert!(stopping.are_compared(&[&drifting, &[&*twice, &[1e9]].concat()]));
    assert!(!stopping.are_compared(&[&drifting[..99], &twice]), "99 rounds");
}

#[test]
fn a_rank_takes_as_many_samples_as_fit_its_time() {
    let after = |least, nanoseconds, untimed| {
        let mut stopping = Stopping::new(least, Some(UNTIL), 1);
        stopping.reduce(nanoseconds, untimed);
        stopping.next()
    };
    let next = |least, nanoseconds| after(least, nanoseconds, 0.0);
    assert_eq!([1e3, 2e5, 1e6, 9e7, 1e9].map(|nanoseconds| next(100, nanoseconds)), [100, 50, 10, 7, 3]);
    assert_eq!(next(5, 9e7), 5, "fewer were asked for");
    let of_long = [0.979e9, 0.981e9, 1.019e9, 1.021e9].map(|untimed| after(100, 1e9, untimed));
    assert_eq!(of_long, [3, 1, 1, 3], "the launch before was as long");
    let mut coarse = Stopping::new(100, Some(Convergence { precision: 0.05, ..UNTIL }), 1);
    let of_coarse = [0.951e9, 0.953e9, 1.049e9, 1.051e9].map(|untimed| {
        coarse.reduce(1e9, untimed);
        std::mem::replace(&mut coarse.least, 100)
    });
    assert_eq!(of_coarse, [3, 1, 1, 3], "a coarse rank");
    let mut fixed = Stopping::new(5, None, 1);
    fixed.reduce(1e9, 1e9);
    assert_eq!(fixed.next(), 3, "a comparison of workers");
    assert_eq!([9e7, 1e8].map(|nanoseconds| after(100, nanoseconds, nanoseconds)), [7, 1], "a long kernel");
    let mut stopping = Stopping::new(100, Some(UNTIL), 1);
    stopping.reduce(1e9, 1e9);
    assert!(stopping.is_converged(&[1e9]) && !stopping.is_converged(&[]));
    let mut stopping = Stopping::new(100, Some(UNTIL), 1);
    stopping.reduce(1e9, 0.0);
    assert!(!stopping.is_converged(&[2.3e8, 2.3e8]), "three are the fewest");
    assert!(stopping.is_converged(&[2.3e8, 2.31e8, 2.29e8]) && !stopping.is_converged(&[2.3e8, 2.5e8, 2.29e8]));
    assert!(stopping.is_converged(&[100.0, 100.1, 100.2, 99.9, 100.0, 100.1, 99.8]));
    assert!(!stopping.is_converged(&[100.0, 101.5, 100.2, 99.9, 100.0, 100.1, 99.8]));
    assert!(!stopping.is_converged(&[100.0; 6]));
}

#[test]
fn tests_of_convergence_share_the_stated_error() {
    let wild: Vec<f64> = (0..10_000).map(|i| 1.0 + f64::from(i * 7 % 10)).collect();
    let mut stopping = Stopping::new(4, Some(UNTIL), 1);
    assert_eq!((stopping.fewest(), stopping.next()), (4, 4));
    for (look, next) in [6, 9, 14, 21].into_iter().enumerate() {
        let look = look as f64 + 1.0;
        assert!((stopping.error() - ERROR / (look * (look + 1.0))).abs() < 1e-15);
        assert_eq!(stopping.look(&[&wild[..stopping.next()]]), Look::Continue);
        assert_eq!((stopping.fewest(), stopping.next()), (4, next), "half as many again");
    }
}

#[test]
fn halves_of_samples_differ_by_twice_the_precision_at_most() {
    let halves = |apart: f64| -> Vec<f64> {
        let half = |value: f64| [vec![value; 26], vec![100.0; 24]].concat();
        [half(100.0 - apart / 2.0), half(100.0 + apart / 2.0)].concat()
    };
    let stopping = Stopping::new(100, Some(UNTIL), 1);
    assert!(stopping.is_converged(&halves(0.98)) && !stopping.is_converged(&halves(1.02)));
}

type Noise<'n> = &'n dyn Fn(&mut ChaCha8Rng) -> f64;

/// Rounds of two cases, the first with more noise, until `stopping` ends sampling.
fn compared(seed: u64, more: impl Fn(&mut ChaCha8Rng) -> f64) -> ([Vec<f64>; 2], Look) {
    let noise = LogNormal::new(0.0, 0.005).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // A bootstrap of more rounds takes long.
    let mut stopping = Stopping::new(30, Some(Convergence { precision: 0.01, ..UNTIL }), 2);
    let mut cases = [Vec::new(), Vec::new()];
    loop {
        while cases[0].len() < stopping.next() {
            cases[0].push(101.0 * more(&mut rng));
            cases[1].push(100.0 * noise.sample(&mut rng));
        }
        match stopping.look(&[&cases[0], &cases[1]]) {
            Look::Continue => {}
            ended => return (cases, ended),
        }
    }
}

#[test]
fn intervals_of_ratios_keep_their_coverage_under_the_stopping_rule() {
    let skewed = |rng: &mut ChaCha8Rng| LogNormal::new(0.0, 0.02).unwrap().sample(rng);
    // Launches take one of two times, 5 % apart: a median would lie on one of them and never be known.
    let two_times = |rng: &mut ChaCha8Rng| if rng.random::<bool>() { 1.05 } else { 1.0 };
    let noises: [(&str, f64, Noise<'_>); 2] =
        [("skewed", 1.01, &skewed), ("two times", 1.01 * 1.05_f64.sqrt(), &two_times)];
    for (name, truth, noise) in noises {
        let runs: Vec<_> = (0..40).map(|seed| compared(seed, noise)).collect();
        let covers = |([one, other], _): &&([Vec<f64>; 2], Look)| {
            let speedup = Speedup::of(one, other).unwrap();
            speedup.low <= truth && truth <= speedup.high
        };
        let covered = runs.iter().filter(covers).count();
        let longest = runs.iter().map(|(cases, _)| cases[0].len()).max().unwrap();
        assert!(runs.iter().all(|(_, ended)| *ended == Look::Converged), "{name}");
        // Fewer than 32 of 40 intervals of 95 % cover the ratio once in three thousand times.
        assert!(covered >= 32 && longest < 5000, "{name}: {covered} of 40, {longest} rounds at most");
    }
}

#[test]
fn correlated_ratios_need_more_samples() {
    let ones = vec![1.0; 100];
    let ratio = |above| if above { 1.004 } else { 0.996 };
    let in_turn: Vec<f64> = (0..100).map(|i| ratio(i % 2 == 0)).collect();
    let in_stretches: Vec<f64> = (0..100).map(|i| ratio(i < 50)).collect();
    let stopping = Stopping::new(100, Some(UNTIL), 2);
    assert!(stopping.are_compared(&[&ones, &in_turn]) && !stopping.are_compared(&[&ones, &in_stretches]));
}

#[test]
fn rounds_whose_order_matters_are_enough_as_soon_as_pairs_of_them_tell() {
    let ones = vec![1.0; 150];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let noise = LogNormal::new(0.0, 0.003).unwrap();
    // As seen on an H200: 127 µs in rounds forth and 121 µs in rounds back.
    let times = |forth| if forth { 127.0 } else { 121.0 };
    let alternating: Vec<f64> = (0..150).map(|round| times(round % 2 == 0) * noise.sample(&mut rng)).collect();
    let compared = |least: u32, rounds: usize| {
        Stopping::new(least, Some(UNTIL), 2).look(&[&ones[..rounds], &alternating[..rounds]])
    };
    assert_eq!([compared(100, 100), compared(30, 150)], [Look::Converged; 2]);
    assert_eq!([compared(30, 30), compared(30, 99)], [Look::Continue; 2], "rounds are units");
    let speedup = Speedup::of(&alternating[..100], &ones[..100]).unwrap();
    let truth = (127.0_f64 * 121.0).sqrt();
    assert!(speedup.low <= truth && truth <= speedup.high && speedup.high < 1.005 * speedup.low, "{speedup:?}");
}

#[test]
fn a_race_is_looked_at_early_and_seldom() {
    let looks: Vec<usize> = (0..100).filter(|&taken| is_race_look(taken)).collect();
    assert_eq!(looks, [3, 5, 7, 10, 15, 22, 33, 50, 75]);
}

#[test]
fn a_race_is_not_lost_at_its_margins() {
    for (few, margin) in EARLY {
        assert!(!is_clearly_above(&vec![100.0 * margin; few], 100.0));
        assert!(is_clearly_above(&vec![100.001 * margin; few], 100.0));
    }
    assert!(!is_clearly_above(&[1000.0 * RACE_MARGIN; 10], 1000.0));
    assert!(!is_clearly_above(&[1019.0; 10], 1000.0) && is_clearly_above(&[1021.0; 10], 1000.0));
}

#[test]
fn a_clearly_slower_variant_is_cut_short() {
    let around = |centre: f64| -> Vec<f64> { (0..10).map(|i| centre + 0.1 * f64::from(i)).collect() };
    assert!(is_clearly_above(&around(103.0), 100.0));
    assert!(!is_clearly_above(&around(101.0), 100.0), "within what differs from run to run");
    assert!(!is_clearly_above(&around(200.0)[..9], 100.0));
    assert!(is_clearly_above(&[151.0; 3], 100.0) && !is_clearly_above(&[149.0; 3], 100.0));
    assert!(is_clearly_above(&[106.0; 7], 100.0) && !is_clearly_above(&[104.0; 7], 100.0));
    assert!(is_clearly_above(&[121.0; 5], 100.0) && !is_clearly_above(&[121.0, 121.0, 121.0, 121.0, 119.0], 100.0));
    let mut torn = around(200.0);
    torn[3] = 99.0;
    assert!(!is_clearly_above(&torn, 100.0), "one sample says the opposite");
}

/// How a comparison of three cases ended: the first, the same program again, and one that takes `exp(-truth)` of its time.
struct Final {
    speedup: Speedup,
    rounds: usize,
}

/// The logarithm of the noise of a launch, of a case by its index.
type Launch<'n> = &'n dyn Fn(&mut ChaCha8Rng, &mut [f64; 3], usize) -> f64;

fn finals(seed: u64, truth: f64, decides: bool, least: u32, noise: Launch<'_>) -> Final {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let until = Some(Convergence { decides, ..UNTIL });
    let mut stopping = Stopping::new(least, until, 3).with_controls(vec![1]);
    let mut cases: [Vec<f64>; 3] = Default::default();
    let mut last = [0.0; 3];
    loop {
        while cases[0].len() < stopping.next() {
            for (case, samples) in cases.iter_mut().enumerate() {
                let time = if case == 2 { (-truth).exp() } else { 1.0 };
                samples.push(100.0 * time * noise(&mut rng, &mut last, case).exp());
            }
        }
        let samples = cases.each_ref().map(Vec::as_slice);
        if stopping.look(&samples) != Look::Continue {
            return Final { speedup: Speedup::of(samples[0], samples[2]).unwrap(), rounds: samples[0].len() };
        }
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    rand_distr::StandardNormal.sample(rng)
}

/// Each launch keeps half of the noise of the previous one of its case.
fn correlated(rng: &mut ChaCha8Rng, last: &mut [f64; 3], case: usize) -> f64 {
    last[case] = 0.5 * last[case] + 0.75_f64.sqrt() * 0.033 * normal(rng);
    last[case]
}

#[test]
fn intervals_keep_their_coverage_where_verdicts_end_sampling() {
    let noise = |rng: &mut ChaCha8Rng, _: &mut [f64; 3], _: usize| 0.015 * normal(rng);
    // Equal, nearly equal, and apart. Of nearly equal kernels a look at few rounds may be precise and undecided.
    for (truth, fewest_right) in [(0.0_f64, 39), (0.004, 36), (0.03, 39), (0.06, 39)] {
        let runs: Vec<Final> = (0..40).map(|seed| finals(seed, truth, true, 20, &noise)).collect();
        let covers = |of: &&Final| of.speedup.low <= truth.exp() && truth.exp() <= of.speedup.high;
        let covered = runs.iter().filter(covers).count();
        // Fewer than 32 of 40 intervals of 95 % cover the ratio once in three thousand times.
        assert!(covered >= 32, "{truth}: {covered} of 40");
        let is_right = |of: &Final| {
            let Speedup { low, high, .. } = of.speedup;
            if truth < 0.01 { low > 0.99 && high < 1.01 } else { low > 1.01 }
        };
        let right = runs.iter().filter(|of| is_right(of)).count();
        assert!(right >= fewest_right, "{truth}: {right} of 40 verdicts");
        let rounds = |decides: bool| {
            let mut rounds: Vec<usize> = (0..10).map(|seed| finals(seed, truth, decides, 20, &noise).rounds).collect();
            rounds.sort_unstable();
            rounds[5]
        };
        assert!(truth < 0.01 || rounds(true) < rounds(false), "{truth}: {} {}", rounds(true), rounds(false));
    }
}

#[test]
#[ignore = "takes minutes"]
fn coverage_of_hundreds_of_finals() {
    const RUNS: u64 = 500;
    let plain = |rng: &mut ChaCha8Rng, _: &mut [f64; 3], _: usize| 0.033 * normal(rng);
    let states = |rng: &mut ChaCha8Rng, _: &mut [f64; 3], _: usize| {
        (if rng.random::<bool>() { 0.05 } else { 0.0 }) + 0.01 * normal(rng)
    };
    let noises: [(&str, Launch<'_>); 3] = [("normal", &plain), ("two times", &states), ("correlated", &correlated)];
    for (name, noise) in noises {
        for truth in [0.0, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1_f64] {
            for decides in [false, true] {
                let runs: Vec<Final> = (0..RUNS).map(|seed| finals(seed, truth, decides, 67, noise)).collect();
                let share = |is: &dyn Fn(&Speedup) -> bool| {
                    100.0 * runs.iter().filter(|of| is(&of.speedup)).count() as f64 / RUNS as f64
                };
                let covered = share(&|of| of.low <= truth.exp() && truth.exp() <= of.high);
                let is_same = |of: &Speedup| of.low > 0.99 && of.high < 1.01;
                let (same, faster) = (share(&is_same), share(&|of| !is_same(of) && of.low > 1.0));
                let slower = share(&|of| !is_same(of) && of.high < 1.0);
                let mut rounds: Vec<usize> = runs.iter().map(|of| of.rounds).collect();
                rounds.sort_unstable();
                let (median, most) = (rounds[rounds.len() / 2], rounds[rounds.len() * 9 / 10]);
                println!(
                    "| {name} | {:.1} % | {} | {covered:.1} % | {same:.1} | {faster:.1} | {slower:.1} | {median} ({most}) |",
                    100.0 * truth,
                    if decides { "verdicts" } else { "precision" },
                );
            }
        }
    }
}

/// 100 times with noise of that share.
fn noisy(seed: u64, time: f64, sigma: f64) -> Vec<f64> {
    let (mut rng, noise) = (ChaCha8Rng::seed_from_u64(seed), LogNormal::new(0.0, sigma).unwrap());
    (0..100).map(|_| time * noise.sample(&mut rng)).collect()
}

#[test]
fn the_fastest_case_is_compared_with_each_other_one_too() {
    let until = Convergence { decides: true, ..UNTIL };
    let [first, fast, close] =
        [(1, 1000.0, 0.001), (2, 900.0, 0.001), (3, 905.0, 0.05)].map(|(seed, time, sigma)| noisy(seed, time, sigma));
    let compared = |cases: &[&[f64]]| Stopping::new(100, Some(until), cases.len()).are_compared(cases);
    assert!(compared(&[&first, &fast]) && compared(&[&first, &close]), "certainly faster than the first one");
    assert!(!compared(&[&first, &fast, &close]) && !compared(&[&first, &close, &fast]), "nobody knows the fastest");
    assert!(compared(&[&fast, &first]), "none is faster than the first one");
}

#[test]
fn ratios_of_the_first_case_and_its_controls_show_noise() {
    let stopping = Stopping::new(100, Some(UNTIL), 3).with_controls(vec![1]);
    assert_eq!([0, 1, 2].map(|case| stopping.is_control(case)), [true, true, false]);
    let cases = [1, 2, 3].map(|seed| noisy(seed, 1000.0, 0.001));
    let cases = cases.each_ref().map(Vec::as_slice);
    let of = |one| stopping.ratios(&cases, one).unwrap().iter().map(|ratio| ratio.is_control).collect::<Vec<_>>();
    assert_eq!([0, 1, 2].map(of), [[true, false], [true, false], [false, false]]);
}

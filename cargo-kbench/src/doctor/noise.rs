//! Noise of this machine: how much the time of the same work varies.

use std::hint::black_box;
use std::time::{Duration, Instant};

use kbench_runtime::stats::percentile;
use schemars::JsonSchema;
use serde::Serialize;

/// Duration of the measurement.
const SPAN: Duration = Duration::from_secs(5);

/// Approximate length of a sample.
const SAMPLE: Duration = Duration::from_millis(1);

/// Multiple of the median above which a sample counts as disturbed.
const DISTURBED: f64 = 1.5;

/// Times of the same work on one core.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Noise {
    /// Number of samples of about 1 ms.
    pub samples: usize,
    /// Median in nanoseconds.
    pub p50_ns: f64,
    /// Excess of the 95th percentile over the median, as a share of the median.
    pub spread: f64,
    /// Share of the samples that took more than 1.5 times the median.
    pub disturbed: f64,
}

/// Measures for 5 s, or until Ctrl-C.
pub fn measure() -> Noise {
    let mut rounds = 1000;
    // The number of rounds that take the time of a sample.
    while time(rounds) < SAMPLE {
        rounds *= 2;
    }
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < SPAN && !crate::interrupt::is_interrupted() {
        times.push(time(rounds).as_nanos() as f64);
    }
    of(times)
}

fn of(mut times: Vec<f64>) -> Noise {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| if times.is_empty() { 0.0 } else { percentile(&times, part) };
    let p50 = at(0.5);
    let slow = times.iter().filter(|time| **time > DISTURBED * p50).count();
    Noise {
        samples: times.len(),
        p50_ns: p50,
        spread: if p50 > 0.0 { at(0.95) / p50 - 1.0 } else { 0.0 },
        disturbed: slow as f64 / times.len().max(1) as f64,
    }
}

/// Work in registers, so that no cache matters.
fn time(rounds: u64) -> Duration {
    let start = Instant::now();
    let mut state = black_box(1_u64);
    for _ in 0..rounds {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
    black_box(state);
    start.elapsed()
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exactness is what is tested
mod tests {
    use super::*;

    #[test]
    fn spread_and_disturbed_samples_are_shares_of_the_median() {
        let times = (0..100).map(|i| if i < 90 { 100.0 } else { 100.0 + 10.0 * f64::from(i - 89) }).collect();
        let noise = of(times);
        assert_eq!((noise.samples, noise.p50_ns, noise.disturbed), (100, 100.0, 0.05));
        assert!((noise.spread - 0.5).abs() < 0.11, "{noise:?}");
        assert_eq!(of(vec![]).disturbed, 0.0);
    }
}

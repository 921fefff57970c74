//! Effective number of independent samples of correlated ones.
//!
//! Noise is correlated in time: another process runs for a second, a clock stays low for a while. Samples of one such
//! period have the same information, and an interval that counts each of them is too narrow. With the autocorrelations
//! ρ(k), n samples determine a mean as precisely as n / (1 + 2 Σ ρ(k)) independent ones. The sum ends as Geyer's
//! initial positive sequence does: at the first pair of neighbouring lags whose sum is not positive. Ranks replace the
//! samples, so that an outlier has the weight of any other sample.

/// Smallest effective number: a resample of fewer has no middle half.
const FEWEST: usize = 4;

/// Effective number of independent samples, for samples in the order taken: all of them if neighbours are not
/// correlated.
pub fn independent(samples: &[f64]) -> usize {
    let n = samples.len();
    let ranks = ranks(samples);
    let covariance = |lag: usize| -> i64 { ranks.iter().zip(&ranks[lag..]).map(|(one, other)| one * other).sum() };
    let variance = covariance(0);
    if n <= FEWEST || variance == 0 {
        return n;
    }
    // 1 + 2 Σ ρ(k) times the variance, in pairs of lags.
    let mut inflated = -variance;
    for lag in (0..n / 2).step_by(2) {
        let pair = covariance(lag) + covariance(lag + 1);
        if pair <= 0 {
            break;
        }
        inflated += 2 * pair;
    }
    let inflation = (inflated as f64 / variance as f64).max(1.0);
    ((n as f64 / inflation) as usize).max(FEWEST)
}

/// Twice the rank of each sample, less the mean; equal samples have the mean of their ranks.
fn ranks(samples: &[f64]) -> Vec<i64> {
    let n = samples.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| samples[*a].total_cmp(&samples[*b]));
    let mut ranks = vec![0; n];
    let mut start = 0;
    for equal in order.chunk_by(|a, b| samples[*a].total_cmp(&samples[*b]).is_eq()) {
        let last = start + equal.len() - 1;
        for at in equal {
            ranks[*at] = (start + last) as i64 - (n as i64 - 1);
        }
        start = last + 1;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;

    /// Noise in which each sample keeps a share of the previous one.
    pub fn correlated(seed: u64, n: usize, keeps: f64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut last = 0.0;
        (0..n)
            .map(|_| {
                let fresh: f64 = StandardNormal.sample(&mut rng);
                last = keeps * last + (1.0 - keeps * keeps).sqrt() * fresh;
                last
            })
            .collect()
    }

    #[test]
    fn independent_samples_are_worth_about_their_number() {
        let worth: Vec<usize> = (0..100).map(|seed| independent(&correlated(seed, 100, 0.0))).collect();
        assert!(worth.iter().sum::<usize>() >= 8000, "{worth:?}");
        assert_eq!(independent(&[1.0; 50]), 50);
        assert_eq!(independent(&[]), 0);
        assert_eq!(independent(&[1.0, 2.0, 3.0]), 3);
        assert_eq!(independent(&[1.0, 2.0, 3.0, 4.0]), 4);
        // Alternating samples cancel: the number is at most that of the samples.
        let alternating: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        assert_eq!(independent(&alternating), 100);
    }

    #[test]
    fn correlated_samples_count_once() {
        // (1 + 0.9) / (1 - 0.9) = 19 samples are worth one.
        let worth: usize = (0..50).map(|seed| independent(&correlated(seed, 1000, 0.9))).sum::<usize>() / 50;
        assert!((35..90).contains(&worth), "{worth}");
        let steps: Vec<f64> =
            (0..100).map(|i| if i < 50 { 1.0 } else { 2.0 } + 0.001 * f64::from(i * 37 % 100)).collect();
        assert!(independent(&steps) <= 6, "{}", independent(&steps));
        let mut outlier = correlated(1, 100, 0.0);
        let before = independent(&outlier);
        outlier[50] = 1e9;
        assert!(independent(&outlier).abs_diff(before) < 20);
    }

    #[test]
    fn reversed_samples_have_the_same_effective_number() {
        for seed in 0..20 {
            let mut samples = correlated(seed, 77, 0.5);
            let forth = independent(&samples);
            samples.reverse();
            assert_eq!(forth, independent(&samples));
        }
    }
}

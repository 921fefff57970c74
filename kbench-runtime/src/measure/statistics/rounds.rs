//! Ratios of paired rounds, and their units: rounds, or pairs of rounds.
//!
//! Rounds run forth and back in turn, and a launch may take longer after one kernel than after another. The ratios of
//! the two orders then differ by more than their noise, and taken together they have two centres. So the units are
//! pairs of rounds, one of each order, and each order has its own centre. Of pairs that are resampled, the shares of
//! both orders stay the same.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{RESAMPLES, SEED, independent, usable};

/// Smallest number of rounds of a comparison: the range of 6 rounds covers the median with a probability of 97 %; no
/// interval of 5 rounds reaches 95 %.
pub const FEWEST_ROUNDS: usize = 6;

/// Number of rounds from which on pairs are the units. A quarter of the rounds of each order may be outliers, and of
/// fewer rounds chance often makes a tenth a quarter.
const PAIRED_ROUNDS: usize = 100;

/// The logarithms of the ratios of rounds.
pub(super) struct Rounds {
    /// The ratios of the rounds forth and those of the rounds back, or of few rounds all of them in one part. The units
    /// have one ratio of each part.
    parts: Vec<Part>,
    /// The mean of the ratios of each unit, in the order taken.
    units: Vec<f64>,
}

/// Ratios whose outer quarters do not count.
struct Part {
    ratios: Vec<f64>,
    sorted: Vec<f64>,
}

impl Part {
    fn of(ratios: Vec<f64>) -> Self {
        let mut sorted = ratios.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { ratios, sorted }
    }

    /// The place of each ratio among the sorted ones.
    fn ranks(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.ratios.len()).collect();
        order.sort_by(|a, b| self.ratios[*a].total_cmp(&self.ratios[*b]));
        let mut ranks = vec![0; order.len()];
        order.iter().enumerate().for_each(|(rank, at)| ranks[*at] = rank);
        ranks
    }
}

impl Rounds {
    /// `None` unless both sides have the same number of samples, at least [`FEWEST_ROUNDS`], all finite and positive.
    pub fn of(baseline: &[f64], candidate: &[f64]) -> Option<Self> {
        let enough = baseline.len() >= FEWEST_ROUNDS && baseline.len() == candidate.len();
        if !enough || !usable(baseline) || !usable(candidate) {
            return None;
        }
        let ratios: Vec<f64> = baseline.iter().zip(candidate).map(|(left, right)| left.ln() - right.ln()).collect();
        if ratios.len() < PAIRED_ROUNDS {
            return Some(Self { parts: vec![Part::of(ratios.clone())], units: ratios });
        }
        // The last round of an odd number has no other one.
        let (pairs, _) = ratios.as_chunks::<2>();
        let parts = [0, 1].map(|order| Part::of(pairs.iter().map(|pair| pair[order]).collect()));
        Some(Self {
            parts: parts.into(),
            units: pairs.iter().map(|[forth, back]| f64::midpoint(*forth, *back)).collect(),
        })
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Number of units that are independent.
    pub fn independent(&self) -> usize {
        independent(&self.units)
    }

    /// The mean of the parts' interquartile means.
    pub fn centre(&self) -> f64 {
        let ones = vec![1; self.len()];
        self.parts.iter().map(|part| middle_half(&part.sorted, &ones)).sum::<f64>() / self.parts.len() as f64
    }

    /// The smallest and the largest mean of a unit.
    pub fn range(&self) -> (f64, f64) {
        self.units.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &unit| (low.min(unit), high.max(unit)))
    }

    /// The centres of resamples, each of as many units as are independent. Units are drawn, not ranks: swapped sides
    /// give the same resamples.
    pub fn resampled(&self) -> Vec<f64> {
        let n = self.len();
        let draws = self.independent();
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let ranks: Vec<Vec<usize>> = self.parts.iter().map(Part::ranks).collect();
        let mut drawn = vec![vec![0; n]; self.parts.len()];
        (0..RESAMPLES)
            .map(|_| {
                for drawn in &mut drawn {
                    drawn.fill(0);
                }
                for _ in 0..draws {
                    let unit = index_below(&mut rng, n);
                    drawn.iter_mut().zip(&ranks).for_each(|(drawn, ranks)| drawn[ranks[unit]] += 1);
                }
                let middles = self.parts.iter().zip(&drawn).map(|(part, drawn)| middle_half(&part.sorted, drawn));
                middles.sum::<f64>() / self.parts.len() as f64
            })
            .collect()
    }

    /// The standard deviation of the centre, that of a trimmed mean, by the winsorised variance of the units.
    pub fn deviation(&self) -> f64 {
        let n = self.len();
        let cut = n / 4;
        let mut winsorised = vec![0.0; n];
        for Part { ratios, sorted } in &self.parts {
            let clamped = ratios.iter().map(|ratio| ratio.clamp(sorted[cut], sorted[n - 1 - cut]));
            winsorised.iter_mut().zip(clamped).for_each(|(unit, ratio)| *unit += ratio / self.parts.len() as f64);
        }
        let mean = winsorised.iter().sum::<f64>() / n as f64;
        let variance = winsorised.iter().map(|unit| (unit - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        let kept = (n - 2 * cut) as f64 / n as f64;
        (variance / self.independent() as f64).sqrt() / kept
    }
}

/// A uniform index below `n`, by multiplication: biased by less than n / 2^64.
pub(super) fn index_below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// The mean of the middle half of ascending values, the i-th with the weight `counts[i]`.
pub(super) fn middle_half(sorted: &[f64], counts: &[usize]) -> f64 {
    let all: usize = counts.iter().sum();
    let cut = all / 4;
    let (mut rank, mut sum) = (0, 0.0);
    for (value, count) in sorted.iter().zip(counts) {
        let within = (rank + count).min(all - cut).saturating_sub(rank.max(cut));
        sum += *value * within as f64;
        rank += count;
    }
    sum / (all - 2 * cut) as f64
}

#[cfg(test)]
mod tests;

//! The performance score of the auto-tuning methodology (Willemsen et al., FGCS 2024): the lead of a strategy over
//! random search in time, in a window that depends on the difficulty of the space.

use super::{Recorded, Run};

/// Number of points of time in the average of the score.
const POINTS: usize = 1000;

/// Start of the window, as the share of the distance from the median to the optimum that random search has covered.
const START: f64 = 0.01;
const END: f64 = 0.95;

/// The score; `None` if the record has no costs of evaluations.
pub fn score(recorded: &Recorded, runs: &[Run]) -> Option<f64> {
    let costs: Vec<f64> = recorded.entries.iter().map(|entry| entry.cost).collect::<Option<_>>()?;
    let descending: Vec<f64> = recorded.times.iter().rev().copied().collect();
    let n = descending.len();
    let optimum = recorded.optimum();
    let mut sorted = costs.clone();
    sorted.sort_by(f64::total_cmp);
    let (median_cost, mean_cost) = (median(&sorted), costs.iter().sum::<f64>() / costs.len() as f64);
    let window = |part: f64| {
        let limit = optimum + (median(&descending) - optimum) * (1.0 - part);
        let index = descending.partition_point(|&time| time > limit);
        (index as f64 / (n + 1 - index) as f64).ceil() * median_cost
    };
    let (start, end) = (window(START), window(END));
    let points: Vec<f64> =
        (0..POINTS).map(|point| start + (end - start) * point as f64 / (POINTS - 1) as f64).collect();

    let baseline = Baseline::new(&descending, mean_cost, end);
    let mut ranks = vec![0.0; POINTS];
    for run in runs {
        let (mut spent, mut rank, mut step) = (0.0, 0, 0);
        for (sum, &time) in ranks.iter_mut().zip(&points) {
            while let Some(next) = run.trajectory.get(step).filter(|next| spent + costs[next.configuration] <= time) {
                spent += costs[next.configuration];
                let outcome = recorded.entries[next.configuration].outcome;
                if let Some(value) = outcome.objective() {
                    rank = rank.max(descending.partition_point(|&other| other > value));
                }
                step += 1;
            }
            *sum += rank as f64;
        }
    }
    let each = ranks.iter().zip(&points).map(|(rank, &time)| {
        let value = descending[(rank / runs.len() as f64).round() as usize];
        let base = baseline.at(time);
        // The margin is for rounding: in a small space random search may reach the optimum before the window ends.
        if base - optimum > 1e-9 * optimum {
            (value - base) / (optimum - base)
        } else {
            f64::from(u8::from(value <= optimum))
        }
    });
    Some(each.sum::<f64>() / POINTS as f64)
}

fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[half - 1], sorted[half]) } else { sorted[half] }
}

/// Best value of random search by time: a monotone cubic through the expected rank after each number of evaluations.
struct Baseline {
    x: Vec<f64>,
    y: Vec<f64>,
    slope: Vec<f64>,
}

impl Baseline {
    fn new(descending: &[f64], cost: f64, end: f64) -> Self {
        let n = descending.len();
        let last = (end / cost).round() as usize + 1;
        let x: Vec<f64> = (1..=last.max(2)).map(|m| m as f64 * cost).collect();
        let rank = |m: usize| ((m * (n + 1)) as f64 / (m + 1) as f64).round() as usize;
        let y: Vec<f64> = (1..=last.max(2)).map(|m| descending[rank(m).min(n - 1)]).collect();
        // Fritsch and Carlson: the harmonic mean of the neighbouring slopes keeps the curve monotone.
        let steps: Vec<f64> = y.windows(2).map(|pair| (pair[1] - pair[0]) / cost).collect();
        let mut slope = vec![0.0; y.len()];
        slope[0] = steps[0];
        slope[y.len() - 1] = steps[steps.len() - 1];
        for (at, pair) in steps.windows(2).enumerate() {
            if pair[0] * pair[1] > 0.0 {
                slope[at + 1] = 2.0 * pair[0] * pair[1] / (pair[0] + pair[1]);
            }
        }
        Self { x, y, slope }
    }

    fn at(&self, time: f64) -> f64 {
        let last = self.x.len() - 1;
        if time <= self.x[0] {
            return self.y[0];
        }
        if time >= self.x[last] {
            return self.y[last];
        }
        let at = self.x.partition_point(|&x| x <= time) - 1;
        let width = self.x[at + 1] - self.x[at];
        let t = (time - self.x[at]) / width;
        let (a, b) = ((1.0 - t) * (1.0 - t), t * t);
        a * (1.0 + 2.0 * t) * self.y[at]
            + a * t * width * self.slope[at]
            + b * (3.0 - 2.0 * t) * self.y[at + 1]
            + b * (t - 1.0) * width * self.slope[at + 1]
    }
}

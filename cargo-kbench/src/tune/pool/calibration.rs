//! Comparison of the workers' speeds: all of them time the same variant in the same rounds.

/// Number of rounds.
pub(super) const ROUNDS: usize = 5;

/// Smallest relative difference of two devices of one model that counts.
const LEAST: f64 = 0.01;

/// Speeds of the workers.
#[derive(Debug, PartialEq)]
pub(super) struct Calibration {
    /// Time of each worker, divided by the median over the workers; `None` for a worker that took no part.
    pub(super) ratios: Vec<Option<f64>>,
    /// Relative difference between rounds of one worker.
    pub(super) noise_floor: f64,
}

impl Calibration {
    /// Speeds from the times of each worker, one for each round.
    pub(super) fn of(times: &[Vec<f64>]) -> Self {
        let middle = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            // The lower middle of an even number: a slow device is more common than a fast one.
            values.get(values.len().saturating_sub(1) / 2).copied()
        };
        let spread = |times: &Vec<f64>| {
            let (least, most) =
                times.iter().fold((f64::INFINITY, 0.0f64), |(least, most), &time| (time.min(least), time.max(most)));
            (!times.is_empty()).then(|| most / least - 1.0)
        };
        let medians: Vec<Option<f64>> = times.iter().map(|times| middle(times.clone())).collect();
        let of_all = middle(medians.iter().flatten().copied().collect());
        let ratios = medians.iter().map(|median| Some((*median)? / of_all?)).collect();
        let noise_floor = middle(times.iter().filter_map(spread).collect()).unwrap_or(0.0).max(LEAST);
        Self { ratios, noise_floor }
    }

    /// Time of a worker over that of the others, if the difference exceeds noise: `1.05` is 5 % slower.
    pub(super) fn is_off(&self, worker: usize) -> Option<f64> {
        self.ratios[worker].filter(|ratio| (ratio - 1.0).abs() > self.noise_floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(times: &[&[f64]]) -> Vec<bool> {
        let times: Vec<Vec<f64>> = times.iter().map(|times| times.to_vec()).collect();
        let calibration = Calibration::of(&times);
        (0..times.len()).map(|worker| calibration.is_off(worker).is_some()).collect()
    }

    #[test]
    fn a_worker_is_off_by_more_than_rounds_of_one_worker_differ() {
        assert_eq!(off(&[&[100.0, 100.5, 99.5], &[100.2, 100.4, 99.9]]), [false, false]);
        assert_eq!(off(&[&[103.0, 103.1, 103.0], &[100.0, 100.1, 100.0]]), [true, false], "of two the slower one");
        assert_eq!(off(&[&[100.0, 100.1, 100.0], &[95.0, 95.1, 95.0], &[100.0, 100.2, 100.1]]), [false, true, false]);
        assert_eq!(off(&[&[100.0, 104.0, 98.0], &[103.0, 99.0, 105.0]]), [false, false], "as noisy as that");
        assert_eq!(off(&[&[100.0, 101.0, 100.0], &[]]), [false, false], "lost before it was measured");
        assert_eq!(off(&[&[], &[]]), [false, false]);
    }
}

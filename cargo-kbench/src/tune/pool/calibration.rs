//! Whether the workers are equally fast: each times the same variant, in rounds that all of them take part in.

/// Rounds of timing.
pub(super) const ROUNDS: usize = 5;

/// A smaller difference of two devices of one model is not told apart.
const LEAST: f64 = 0.01;

/// How fast each worker is.
#[derive(Debug, PartialEq)]
pub(super) struct Calibration {
    /// The time of each worker over that of the middle one; `None` for one that took no part.
    pub(super) ratios: Vec<Option<f64>>,
    /// The share by which rounds of one worker differ.
    pub(super) noise_floor: f64,
}

impl Calibration {
    /// From the times of each worker, a time a round.
    pub(super) fn of(times: &[Vec<f64>]) -> Self {
        let middle = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            // Of two in the middle the lower one: a device that is slow is more common than one that is too fast.
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

    /// How much slower than the others a worker is, where that is more than noise: `1.05` is 5 % slower.
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

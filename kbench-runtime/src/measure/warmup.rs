//! The end of the warm-up by untimed launches.

use std::time::Duration;

/// A kernel is warm when this number of consecutive launches took the same time within this share, and all of them at
/// least this long.
const ALIKE: usize = 3;
const SPREAD: f64 = 0.03;
const AT_LEAST: Duration = Duration::from_millis(5);

/// Largest time of a warm-up, and of one before samples for a rank: a check has just launched the kernel, and one slow
/// sample changes no rank.
const ENOUGH: Duration = Duration::from_millis(50);
const ENOUGH_FOR_RANK: Duration = AT_LEAST;

/// The untimed launches of one kernel.
#[derive(Debug, Clone)]
pub(super) struct WarmUp {
    launches: Vec<Duration>,
    total: Duration,
    enough: Duration,
}

impl WarmUp {
    pub fn new(rank_only: bool) -> Self {
        let enough = if rank_only { ENOUGH_FOR_RANK } else { ENOUGH };
        Self { launches: Vec::new(), total: Duration::ZERO, enough }
    }

    pub fn add(&mut self, launch: Duration) {
        self.launches.push(launch);
        self.total += launch;
    }

    /// Whether the kernel needs no more untimed launches.
    pub fn is_over(&self) -> bool {
        let last = &self.launches[self.launches.len().saturating_sub(ALIKE)..];
        let (shortest, longest) = (last.iter().min(), last.iter().max());
        let alike = last.len() == ALIKE
            && shortest
                .zip(longest)
                .is_some_and(|(shortest, longest)| longest.as_secs_f64() <= shortest.as_secs_f64() * (1.0 + SPREAD));
        self.total >= self.enough || alike && self.total >= AT_LEAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of launches until the kernel is warm, at most 20.
    fn launches(milliseconds: impl Fn(usize) -> f64) -> usize {
        until_warm(WarmUp::new(false), milliseconds)
    }

    fn until_warm(mut warm: WarmUp, milliseconds: impl Fn(usize) -> f64) -> usize {
        (0..20)
            .find(|at| {
                warm.add(Duration::from_secs_f64(milliseconds(*at) / 1e3));
                warm.is_over()
            })
            .map_or(20, |last| last + 1)
    }

    #[test]
    fn warmup_ends_when_times_are_steady_or_at_its_limit() {
        assert_eq!(launches(|_| 0.01), 20, "short launches cost nothing");
        assert_eq!(launches(|_| 2.0), 3);
        assert_eq!(launches(|_| 900.0), 1);
        assert_eq!(launches(|_| 30.0), 2);
        assert_eq!(launches(|at| if at == 0 { 9.0 } else { 2.0 }), 4, "the first one loads the code");
        assert_eq!(launches(|at| 2.0 + (at % 2) as f64), 20, "never steady, and 50 ms are the end of it");
        assert_eq!([0.01, 2.0, 8.0].map(|time| until_warm(WarmUp::new(true), |_| time)), [20, 3, 1]);
    }
}

//! Pairs of launches: one that must do all its work, and one that could skip work.

use super::adjusted::AdjustedSample;
use crate::data::quantile::quantile;

/// Number of pairs: enough for most kernels, and enough for proof.
const FEWEST_PAIRS: usize = 3;
pub(super) const MOST_PAIRS: usize = 11;

/// Number of pairs that are enough for proof if the kernel is short or launches were disturbed: other programs then make launches of the
/// same work slow many times in a row.
const MOST_NOISY_PAIRS: usize = 44;

/// Nanoseconds a launch from which on a kernel is long: noise is then a small part of its time, and a batch is one launch, which finds
/// poison. One test of each kind is enough for a long kernel.
pub(super) const LONG: f64 = 1e6;

/// Ratio of the times of a pair above which more pairs are taken, and above which work is skipped.
const SUSPICIOUS: f64 = 1.2;
const SKIPS: f64 = 1.5;

/// Times of launches that must work and of launches that could skip work, in nanoseconds.
#[derive(Default)]
pub(super) struct Pairs {
    work: Vec<f64>,
    could_skip: Vec<f64>,
    /// Whether a launch was disturbed for an unknown time.
    disturbed: bool,
}

impl Pairs {
    /// Adds a pair.
    pub fn add(&mut self, work: AdjustedSample, could_skip: AdjustedSample) {
        self.work.push(work.nanoseconds);
        self.could_skip.push(could_skip.nanoseconds);
        self.disturbed |= work.disturbance.is_some() || could_skip.disturbance.is_some();
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.work.len()
    }

    /// Whether the launch that works is to be the last of the next pair, which it is in half of the pairs. Time can depend on the launches
    /// before: on where on the device they left the next one to begin, on a state that the kernel keeps, or on programs that take turns on
    /// the cores. The order is the Thue-Morse sequence, which has no period.
    pub fn work_is_next_last(&self) -> bool {
        !self.len().count_ones().is_multiple_of(2)
    }

    /// Whether more pairs would change nothing.
    pub fn is_settled(&self) -> bool {
        let fewest = if self.is_long() { 1 } else { FEWEST_PAIRS };
        self.len() >= self.most()
            || self.len() == fewest && quantile(&self.work, 0.5) < SUSPICIOUS * quantile(&self.could_skip, 0.5)
    }

    /// The ratio of the lower quartiles. Noise makes launches slower, so that fast launches are the most accurate.
    pub fn ratio(&self) -> f64 {
        let fast = quantile(&self.could_skip, 0.25).max(f64::MIN_POSITIVE);
        (quantile(&self.work, 0.25) / fast).min(f64::MAX)
    }

    /// Whether work was skipped. A launch that works is hardly ever fast, however quiet the machine; but new inputs of a small tensor may
    /// be known by chance. On a busy machine the launches of both kinds are slow or fast by chance, so that half of those that could skip
    /// work must be fast.
    pub fn are_apart(&self) -> bool {
        let fast = quantile(&self.could_skip, if self.disturbed { 0.5 } else { 0.25 });
        self.len() >= self.most() && self.ratio() > SKIPS && quantile(&self.work, 0.1) > SUSPICIOUS * fast
    }

    fn is_long(&self) -> bool {
        quantile(&self.work, 0.0) >= LONG
    }

    fn most(&self) -> usize {
        if self.disturbed || !self.is_long() { MOST_NOISY_PAIRS } else { MOST_PAIRS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Disturbance;

    fn sample(nanoseconds: f64, disturbed: bool) -> AdjustedSample {
        AdjustedSample {
            nanoseconds,
            slack: 0.0,
            corrected: false,
            on_new_inputs: false,
            exposed: false,
            disturbance: disturbed.then_some(Disturbance::InvoluntaryContextSwitch),
        }
    }

    fn pairs(number: usize, times: impl Fn(usize) -> (f64, f64), disturbed: bool) -> Pairs {
        let mut pairs = Pairs::default();
        for pair in 0..number {
            let (work, could_skip) = times(pair);
            pairs.add(sample(work, disturbed), sample(could_skip, false));
        }
        pairs
    }

    #[test]
    fn slow_launches_by_chance_are_no_skipped_work() {
        // Half of the launches keep their cores; the others take 1000 times as long. In the first 11 pairs each launch that worked was slow.
        let by_chance = |pair: usize| if pair.is_multiple_of(2) { 1e3 } else { 1e6 };
        let times = |pair: usize| (if pair < MOST_PAIRS { 1e6 } else { by_chance(pair + 1) }, by_chance(pair));
        let first = pairs(MOST_PAIRS, times, true);
        assert!(!first.is_settled() && !first.are_apart());
        let all = pairs(MOST_NOISY_PAIRS, times, true);
        assert!(all.is_settled() && !all.are_apart());
    }

    #[test]
    fn skipped_work_shows_on_a_busy_machine_too() {
        let busy = pairs(MOST_NOISY_PAIRS, |pair| (1e6, if pair.is_multiple_of(5) { 2e6 } else { 1e3 }), true);
        assert!(busy.is_settled() && busy.are_apart());
        let quiet = pairs(MOST_PAIRS, |_| (1e6, 1e3), false);
        assert!(quiet.is_settled() && quiet.are_apart());
    }

    /// Pairs of launches that take 2 µs if `is_slow` says so of their number, else 1 µs. `before` launches without a sample come before each.
    fn in_turn(before: usize, is_slow: impl Fn(usize) -> bool) -> Pairs {
        let mut launches = 0;
        let mut time = || {
            launches += before + 1;
            sample(if is_slow(launches - 1) { 2e3 } else { 1e3 }, false)
        };
        let mut pairs = Pairs::default();
        while !pairs.is_settled() {
            let early = pairs.work_is_next_last().then(&mut time);
            let work = time();
            let could_skip = early.unwrap_or_else(&mut time);
            pairs.add(work, could_skip);
        }
        pairs
    }

    #[test]
    fn times_that_depend_on_the_launch_before_are_no_skipped_work() {
        for before in [0, 1] {
            for period in 2..9 {
                // Every choice of slow launches of a period.
                for slow in 1..(1_u32 << period) - 1 {
                    let is_slow = |launch: usize| slow >> (launch % period) & 1 == 1;
                    assert!(!in_turn(before, is_slow).are_apart(), "{before} {period} {slow:b}");
                }
            }
        }
    }

    #[test]
    fn launches_of_the_same_time_need_few_pairs() {
        assert!(pairs(FEWEST_PAIRS, |_| (1e3, 1e3), false).is_settled());
        assert!(pairs(1, |_| (LONG, LONG), false).is_settled());
        let slower = pairs(FEWEST_PAIRS, |_| (1.3e3, 1e3), false);
        assert!(!slower.is_settled() && !slower.are_apart());
    }
}

//! Pairs of launches: one that must do all its work, and one that could skip work.

use super::adjusted::AdjustedSample;
use crate::data::quantile::quantile;

/// Number of pairs that are enough for most kernels.
const FEWEST_PAIRS: usize = 3;

/// Smallest number of pairs that can be proof.
pub(super) const FIRST_LOOK: usize = 14;

/// Numbers of pairs after which suspicious times are looked at; the last is the largest number of pairs. On shared cores launches of the
/// same work are slow many times in a row, so that proof may need many pairs.
const LOOKS: [usize; 3] = [FIRST_LOOK, 44, 88];

/// Nanoseconds a launch from which on a kernel is long: noise is then a small part of its time, and a batch is one launch, which finds
/// poison. One test of each kind is enough for a long kernel.
pub(super) const LONG: f64 = 1e6;

/// Ratio of the times of a pair above which more pairs are taken, and above which work is skipped.
const SUSPICIOUS: f64 = 1.2;
const SKIPS: f64 = 1.5;

/// The logarithm of the probability, with the sign reversed, that the times of launches which do the same work are as far apart by chance:
/// less than one in a million.
const PROOF: f64 = 14.0;

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
        if self.len() == fewest {
            return quantile(&self.work, 0.5) < SUSPICIOUS * quantile(&self.could_skip, 0.5);
        }
        let is_last = self.len() >= LOOKS[LOOKS.len() - 1];
        is_last || LOOKS.contains(&self.len()) && (!self.is_suspicious() || self.are_apart())
    }

    /// The ratio of the lower quartiles. Noise makes launches slower, so that fast launches are the most accurate.
    pub fn ratio(&self) -> f64 {
        let fast = quantile(&self.could_skip, 0.25).max(f64::MIN_POSITIVE);
        (quantile(&self.work, 0.25) / fast).min(f64::MAX)
    }

    /// Whether work was skipped.
    pub fn are_apart(&self) -> bool {
        self.is_suspicious() && self.evidence() >= PROOF
    }

    /// Whether work may have been skipped. A launch that works is hardly ever fast, however quiet the machine; but new inputs of a small
    /// tensor may be known by chance. On a busy machine the launches of both kinds are slow or fast by chance, so that half of those that
    /// could skip work must be fast.
    fn is_suspicious(&self) -> bool {
        let fast = quantile(&self.could_skip, if self.disturbed { 0.5 } else { 0.25 });
        self.ratio() > SKIPS && quantile(&self.work, 0.1) > SUSPICIOUS * fast
    }

    /// Evidence that launches which could skip work are faster by [`SUSPICIOUS`]: the number of pairs times the square of the largest
    /// distance between the distributions of the times. By Smirnov's test of two samples, chance alone reaches it with a probability of
    /// about `exp(-evidence)`.
    fn evidence(&self) -> f64 {
        let share = |times: &[f64], limit: f64| {
            times.iter().filter(|time| **time <= limit).count() as f64 / times.len().max(1) as f64
        };
        let distance = |fast: &f64| share(&self.could_skip, *fast) - share(&self.work, SUSPICIOUS * fast);
        let largest = self.could_skip.iter().map(distance).fold(0.0, f64::max);
        self.len() as f64 * largest * largest
    }

    fn is_long(&self) -> bool {
        quantile(&self.work, 0.0) >= LONG
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
        let times = |pair: usize| (if pair < 11 { 1e6 } else { by_chance(pair + 1) }, by_chance(pair));
        for number in LOOKS {
            assert!(!pairs(number, times, true).are_apart(), "{number}");
        }
        assert!(!pairs(11, times, true).is_settled());
        assert!(pairs(LOOKS[2], times, true).is_settled());
    }

    /// Times of a kernel that always does the same work. Three workers shared a core of a virtual machine.
    #[test]
    fn a_few_fast_launches_by_chance_are_no_skipped_work() {
        let fast = |pairs: &'static [usize]| move |pair: usize| if pairs.contains(&pair) { 4.6e3 } else { 13e3 };
        let work = fast(&[0, 14, 27]);
        let could_skip = fast(&[0, 2, 4, 6, 9, 17, 19, 20, 23, 30, 36, 39, 41]);
        let seen = pairs(LOOKS[1], |pair| (work(pair), could_skip(pair)), false);
        assert!(seen.is_suspicious() && !seen.is_settled() && !seen.are_apart());
    }

    #[test]
    fn chance_alone_is_hardly_ever_proof() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        // Fast launches are a twentieth to a half of all.
        for run in 0..20_000 {
            let share = 0.05 + 0.45 * f64::from(run) / 20_000.0;
            let mut time = || if rng.random_bool(share) { 4.6e3 } else { 13e3 };
            let mut pairs = Pairs::default();
            while !pairs.is_settled() {
                pairs.add(sample(time(), false), sample(time(), false));
            }
            assert!(!pairs.are_apart(), "{share}: {:?} {:?}", pairs.work, pairs.could_skip);
        }
    }

    #[test]
    fn skipped_work_shows_on_a_busy_machine_too() {
        let busy = pairs(LOOKS[1], |pair| (1e6, if pair.is_multiple_of(5) { 2e6 } else { 1e3 }), true);
        assert!(busy.is_settled() && busy.are_apart());
        let quiet = pairs(FIRST_LOOK, |_| (1e6, 1e3), false);
        assert!(quiet.is_settled() && quiet.are_apart());
    }

    #[test]
    fn one_slow_launch_does_not_hide_skipped_work_of_a_long_kernel() {
        let times = |pair: usize| (4.0 * LONG, if pair == 5 { 5.0 * LONG } else { LONG });
        assert!(!pairs(FIRST_LOOK, times, false).is_settled());
        let more = pairs(LOOKS[1], times, false);
        assert!(more.is_settled() && more.are_apart());
    }

    #[test]
    fn work_that_is_skipped_half_of_the_time_shows() {
        let half = pairs(LOOKS[2], |pair| (13e3, if pair.is_multiple_of(2) { 4.6e3 } else { 13e3 }), false);
        assert!(half.is_settled() && half.are_apart());
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

    #[test]
    fn ratio_and_evidence_are_those_of_their_definitions() {
        let apart = pairs(FIRST_LOOK, |_| (3e3, 1e3), false);
        assert_eq!((apart.ratio(), apart.evidence()), (3.0, 14.0));
        let half = pairs(LOOKS[1], |pair| (3e3, if pair.is_multiple_of(2) { 1e3 } else { 3e3 }), false);
        let slower = pairs(FIRST_LOOK, |_| (1.1e3, 1e3), false);
        assert_eq!(
            [half, slower].map(|pairs| pairs.evidence().to_string()),
            ["11", "0"],
            "44 times the square of a half"
        );
    }

    #[test]
    fn launches_are_suspicious_beyond_both_ratios() {
        // Every fifth launch that works is fast.
        let of = |fast: f64, slow: f64| {
            pairs(LOOKS[1], |pair| (if pair.is_multiple_of(5) { fast } else { slow }, 1e3), false).is_suspicious()
        };
        assert!(of(1.21e3, 1.51e3));
        assert!(!of(1.2e3, 1.51e3) && !of(1.1e3, 1e6), "a launch that works was nearly as fast");
        assert!(!of(1.3e3, 1.5e3) && !of(1.3e3, 1.4e3), "the launches are hardly apart");
        let few = |work: f64| pairs(FEWEST_PAIRS, |_| (work, 1e3), false).is_settled();
        assert!(few(1.1e3) && few(1.19e3) && !few(1.2e3));
    }

    #[test]
    fn a_disturbed_launch_of_either_kind_asks_for_more_fast_launches() {
        let of = |disturbed: [bool; 2]| {
            let mut pairs = Pairs::default();
            for pair in 0..LOOKS[1] {
                // Two fifths are fast. One launch was disturbed.
                let could_skip = if pair % 5 < 2 { 1e3 } else { 1e4 };
                let [work, other] = disturbed.map(|disturbed| disturbed && pair == 7);
                pairs.add(sample(1e4, work), sample(could_skip, other));
            }
            pairs.is_suspicious()
        };
        assert!(of([false, false]));
        assert!(!of([true, false]) && !of([false, true]));
    }
}

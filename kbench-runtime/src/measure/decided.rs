//! Decided comparisons: more samples would change no verdict of a search's finals.
//!
//! Kernels that are clearly apart need not be known as precisely as kernels that are nearly equal. A position of an interval ends sampling
//! here, so the intervals are those of the look, which all looks together miss with the stated error, and the precision that is asked for
//! changes slowly with the position: an error of the ratio moves it by a quarter of itself. So the reported interval, which is narrower than
//! that of the look, covers nearly as often as if the width alone ended sampling: 94.6 to 97.2 % of simulated comparisons in each row of a table, and 95.8 to
//! 96.6 % by width alone. Without the quarter, intervals of a ratio of 1.007 covered 90 % in
//! place of 95 % in a model (`tests/trust/REPORT.md`).

use crate::measure::statistics::SAME;

/// Share of its distance from 1 to which a ratio must be known.
const SHARE: f64 = 0.25;

/// Factors by which the precision may be coarser: of a ratio far from 1, and of a ratio of 1.
const FAR: f64 = 4.0;
const NEAR: f64 = 1.5;

/// Factor of the precision within which kernels are equal.
const EQUAL: f64 = 2.0;

/// A ratio of times as known at a look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Logarithm of the ratio.
    pub centre: f64,
    /// Half the width of its interval.
    pub half: f64,
    /// Whether both kernels are the same program, so that the ratio shows the noise.
    pub is_control: bool,
}

impl Known {
    fn distance(self) -> f64 {
        self.centre.abs()
    }

    fn farthest(self) -> f64 {
        self.distance() + self.half
    }
}

/// Whether each ratio is known to within `precision`, or is certainly that of equal kernels, or certainly that of kernels that are farther
/// apart than the same program is from itself.
pub(super) fn are_decided(ratios: &[Known], precision: f64) -> bool {
    let equal = (EQUAL * precision).min(SAME);
    let coarse = FAR * precision;
    let are_apart = |ratio: &Known| ratio.distance() > equal && ratio.half <= (SHARE * ratio.distance()).min(coarse);
    let are_equal =
        |ratio: &Known| ratio.farthest() <= equal && ratio.half <= NEAR * precision - SHARE * ratio.distance();
    let apart = ratios.iter().filter(|ratio| !ratio.is_control && are_apart(ratio));
    // Noise of half of each difference leaves no doubt of any.
    let noise = apart.map(|ratio| (ratio.distance() / 2.0).min(coarse)).reduce(f64::min).unwrap_or(equal);
    ratios.iter().all(|ratio| {
        let is_certain = if ratio.is_control { ratio.farthest() <= noise } else { are_apart(ratio) };
        is_certain || are_equal(ratio) || ratio.half <= precision
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRECISION: f64 = 0.005;

    fn ratio(centre: f64, half: f64) -> Known {
        Known { centre, half, is_control: false }
    }

    fn control(centre: f64, half: f64) -> Known {
        Known { is_control: true, ..ratio(centre, half) }
    }

    fn decided(ratios: &[Known]) -> bool {
        are_decided(ratios, PRECISION)
    }

    #[test]
    fn a_ratio_far_from_one_may_be_known_less_precisely() {
        assert!(decided(&[ratio(0.04, 0.0099)]) && !decided(&[ratio(0.04, 0.0101)]));
        assert!(decided(&[ratio(-0.04, 0.0099)]) && !decided(&[ratio(-0.04, 0.0101)]));
        assert!(decided(&[ratio(2.0, 0.0199)]) && !decided(&[ratio(2.0, 0.0201)]), "four times the precision");
        assert!(decided(&[ratio(0.04, 0.0049)]) && decided(&[ratio(0.008, 0.0049)]), "as precise as was asked for");
        assert!(!decided(&[ratio(0.04, 0.0099), ratio(0.04, 0.0101)]), "each of them");
    }

    #[test]
    fn equal_kernels_are_certainly_within_the_difference_that_is_none() {
        assert!(decided(&[ratio(0.002, 0.0069)]) && !decided(&[ratio(0.002, 0.0071)]), "0.0075 less a quarter");
        assert!(decided(&[ratio(-0.004, 0.0059)]) && !decided(&[ratio(-0.004, 0.0061)]), "0.01 less all of it");
        assert!(!decided(&[ratio(0.0099, 0.0052)]) && !decided(&[ratio(0.012, 0.0052)]), "neither equal nor apart");
        // A table that asks for more gets more, and one that asks for less never gets `same` where it is in doubt.
        assert!(are_decided(&[ratio(0.0, 0.0014)], 0.001) && !are_decided(&[ratio(0.0, 0.0016)], 0.001));
        assert!(are_decided(&[ratio(0.0008, 0.00115)], 0.001) && !are_decided(&[ratio(0.0008, 0.00125)], 0.001));
        assert!(!are_decided(&[ratio(0.005, 0.0201)], 0.02) && are_decided(&[ratio(0.005, 0.0199)], 0.02));
    }

    #[test]
    fn the_same_program_shows_that_the_noise_is_below_half_of_each_difference() {
        let apart = ratio(0.03, 0.004);
        assert!(decided(&[apart, control(-0.004, 0.0109)]) && !decided(&[apart, control(-0.004, 0.0111)]));
        let far = ratio(2.0, 0.01);
        assert!(decided(&[far, control(0.0, 0.0199)]) && !decided(&[far, control(0.0, 0.0201)]));
        assert!(!decided(&[far, apart, control(0.0, 0.0199)]), "the nearest counts");
        // Beside equal kernels, or alone, the noise must be below what is no difference.
        for others in [vec![], vec![ratio(0.0, 0.007)]] {
            let with = |control| decided(&[&others[..], &[control]].concat());
            assert!(with(control(0.0, 0.0099)) && !with(control(0.0, 0.0101)), "{others:?}");
        }
        assert!(!decided(&[ratio(0.04, 0.0101), control(0.0, 0.0101)]), "not yet apart");
    }

    #[test]
    fn a_ratio_at_the_largest_difference_that_is_none_asks_for_less_noise_of_no_control() {
        let at_limit = ratio(EQUAL * PRECISION, 0.002);
        assert!(decided(&[at_limit, control(0.0, 0.009)]));
        assert!(!decided(&[ratio(1.001 * EQUAL * PRECISION, 0.002), control(0.0, 0.009)]));
    }
}

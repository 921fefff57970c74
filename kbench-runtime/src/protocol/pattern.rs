//! Input patterns, beside random inputs.

use serde::{Deserialize, Serialize};

use super::Source;
use crate::data::dtype::DType;

/// A pattern of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// All values 64 times as large; the ends of the range of a uniform tensor.
    Large,
    /// One row, at a random place, 64 times as large as the others.
    HotRow,
    /// Up to 32 neighbouring rows, at a random place, 16 times as large: exposes skipped and repeated tiles.
    HotTile,
    /// One value for all elements.
    Equal,
    /// Every other element subnormal.
    Denormal,
    /// The sign changes from each element to the next: sums cancel.
    SignFlips,
    /// Every value negative and far from 0: exposes a maximum that starts at 0.
    Negative,
    /// Every value positive and far from 0: nothing cancels.
    Positive,
    /// Every value of a tensor has one sign, and the next tensor has the other: all products of two are negative.
    OppositeSigns,
    /// All values zero.
    Zeros,
    /// Values grow along each row, and from each row to the next: a running maximum changes with every element. The
    /// values are those above the middle: sorted values of both signs would cancel in every sum, and rounding errors
    /// would be as large as the result.
    Ascending,
    /// The first element of each row is 64 times as large as the others; its sign changes from row to row.
    OutlierFirst,
    /// The last element of each row is 64 times as large as the others; its sign changes from row to row.
    OutlierLast,
}

impl Pattern {
    /// Every pattern, in the order of checks.
    pub const ALL: [Self; 13] = [
        Self::Large,
        Self::HotRow,
        Self::HotTile,
        Self::Equal,
        Self::Denormal,
        Self::SignFlips,
        Self::Negative,
        Self::Positive,
        Self::OppositeSigns,
        Self::Zeros,
        Self::Ascending,
        Self::OutlierFirst,
        Self::OutlierLast,
    ];

    /// Name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::HotRow => "hot-row",
            Self::HotTile => "hot-tile",
            Self::Equal => "equal",
            Self::Denormal => "denormal",
            Self::SignFlips => "sign-flips",
            Self::Negative => "negative",
            Self::Positive => "positive",
            Self::OppositeSigns => "opposite-signs",
            Self::Zeros => "zeros",
            Self::Ascending => "ascending",
            Self::OutlierFirst => "outlier-first",
            Self::OutlierLast => "outlier-last",
        }
    }

    /// Whether the pattern changes a tensor with these contents.
    pub fn applies_to(self, dtype: DType, source: &Source) -> bool {
        let Some(values) = Values::of(source).filter(|values| dtype.is_float() || values.whole) else { return false };
        match self {
            Self::Large
            | Self::HotRow
            | Self::HotTile
            | Self::Equal
            | Self::Ascending
            | Self::OutlierFirst
            | Self::OutlierLast => true,
            Self::Denormal => values.low <= 0.0 && values.high > 0.0 && !values.whole,
            Self::Zeros => values.has_both_signs || values.bounded && values.low <= 0.0 && values.high > 0.0,
            Self::SignFlips | Self::Negative | Self::Positive | Self::OppositeSigns => values.has_both_signs,
        }
    }
}

/// Possible values of a normal or uniform tensor, or of one of integers of both signs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values {
    pub low: f64,
    pub high: f64,
    /// Whether the range must be kept, as for a uniform tensor and for integers.
    pub bounded: bool,
    /// Whether the values are integers.
    pub whole: bool,
    pub has_both_signs: bool,
    /// Value for [`Pattern::Equal`].
    pub usual: f64,
    /// The middle of the values, and the distance within which most of them lie.
    pub middle: f64,
    pub spread: f64,
}

impl Values {
    pub fn of(source: &Source) -> Option<Self> {
        match *source {
            Source::Normal { mean, std } => Some(Self {
                low: -f64::MAX,
                high: f64::MAX,
                bounded: false,
                whole: false,
                has_both_signs: mean.abs() < 3.0 * std,
                usual: mean + std,
                middle: mean,
                spread: 3.0 * std,
            }),
            Source::Uniform { low, high } => Some(Self {
                low,
                // The end is excluded, also after rounding to the tensor's type.
                high: high - (high / 256.0 - low / 256.0),
                bounded: true,
                whole: false,
                has_both_signs: has_both_signs(low, high),
                // Halves first: the whole range may exceed f64.
                usual: 0.25 * low + 0.75 * high,
                middle: 0.5 * low + 0.5 * high,
                spread: 0.5 * high - 0.5 * low,
            }),
            // Integers without both signs may be indices or labels, which have a meaning and stay the same.
            Source::Integers { low, high }
                if has_both_signs(low as f64, high as f64) && low >= -EXACT && high <= EXACT =>
            {
                let uniform = Self::of(&Source::Uniform { low: low as f64, high: high as f64 })?;
                Some(Self { high: high as f64, whole: true, ..uniform })
            }
            _ => None,
        }
    }
}

/// The largest integer below which f64 represents every integer.
const EXACT: i64 = 1 << 53;

/// Whether a range has about equally many values below and above 0.
fn has_both_signs(low: f64, high: f64) -> bool {
    low < 0.0 && high > 0.0 && -low >= high / 3.0 && high >= -low / 3.0
}

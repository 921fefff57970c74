//! Input patterns, beside random inputs.
//!
//! A pattern applies to tensors that are normal, uniform, or of integers of both signs. Files, constants, ranges and
//! other integers, such as indices, have a meaning and stay the same, and quantised tensors follow their values.
//! Uniform tensors and integers stay in their ranges, since the table promises no other values.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::protocol::pattern::Values;
use crate::protocol::{Pattern, TensorSpec};

/// Version in every key of results of patterns; raise it when a pattern gives other numbers.
/// 2: a uniform tensor may span all of f64. 3: integers of both signs.
pub const GENERATION: u32 = 3;

/// Factors of the patterns with large values.
const LARGE: f64 = 64.0;
const HOT_TILE: f64 = 16.0;

/// Largest number of rows of a tile.
const TILE: u64 = 32;

impl Values {
    fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// An extreme value of the tensor, on the side of `value`.
    fn far(&self, value: f64, factor: f64) -> f64 {
        match self.bounded {
            false => value * factor,
            true if value < self.middle => self.low,
            true => self.high,
        }
    }

    /// A value of one sign, far from 0, whose distance to other values is that of `value`.
    fn one_sided(&self, value: f64, negative: bool) -> f64 {
        let distance = (value - self.middle).abs();
        match (self.bounded, negative) {
            (false, _) => LARGE * (self.spread / 3.0 + distance) * if negative { -1.0 } else { 1.0 },
            // From the outer half of the values on that side.
            (true, true) => self.low * (0.5 + 0.5 * distance / self.spread),
            (true, false) => self.high * (0.5 + 0.5 * distance / self.spread),
        }
    }

    /// An outlier of one sign, or of the only possible sign.
    fn outlier(&self, negative: bool) -> f64 {
        match (self.bounded, negative) {
            (true, true) => self.low,
            (true, false) => self.high,
            (false, _) => {
                let size = LARGE * (self.middle.abs() + self.spread / 3.0);
                let negative = if self.has_both_signs { negative } else { self.middle < 0.0 };
                if negative { -size } else { size }
            }
        }
    }
}

/// A pattern for one tensor.
#[derive(Debug)]
pub(crate) struct Transform {
    pattern: Pattern,
    values: Values,
    /// The largest value of the type, and the smallest that is not subnormal.
    limits: (f64, f64),
    /// Elements of a row, and number of consecutive rows.
    row: u64,
    rows: u64,
    /// Which rows are hot.
    hot: std::ops::Range<u64>,
    /// Index of the hot group of rows.
    group: Option<u64>,
    /// Number of elements along the last dimension.
    line: u64,
    /// The sign in [`Pattern::OppositeSigns`].
    negative: bool,
}

impl Transform {
    /// `None` if the pattern does not change the tensor. `before` is the number of earlier tensors that it changes.
    pub(crate) fn new(pattern: Pattern, spec: &TensorSpec, seed: u64, before: usize) -> Option<Self> {
        if !pattern.applies_to(spec.dtype, &spec.source) {
            return None;
        }
        // A tensor of one dimension has rows of one element.
        let (row, rows, groups) = match *spec.dims.as_slice() {
            [] => (1, 1, 1),
            [elements] => (1, elements, 1),
            [ref outer @ .., rows, row] => (row, rows, outer.iter().product()),
        };
        // The place depends on the seed alone, so that tensors with equally many rows are hot in the same rows.
        let mut rng = ChaCha8Rng::from_seed(*blake3::hash(&seed.to_le_bytes()).as_bytes());
        let place: f64 = rng.random();
        let at = |n: u64| ((place * n as f64) as u64).min(n.saturating_sub(1));
        let (hot, group) = match pattern {
            Pattern::HotRow => (at(rows)..at(rows) + 1, Some(at(groups))),
            Pattern::HotTile => {
                let size = (rows / 4).clamp(1, TILE);
                let first = at(rows.saturating_sub(size) + 1);
                (first..first + size, None)
            }
            _ => (0..0, None),
        };
        let limits = (spec.dtype.max_finite(), spec.dtype.smallest_normal());
        Some(Self {
            pattern,
            values: Values::of(&spec.source)?,
            limits,
            row: row.max(1),
            rows: rows.max(1),
            hot,
            group,
            line: spec.dims.last().copied().unwrap_or(1).max(1),
            negative: before.is_multiple_of(2),
        })
    }

    /// Changes random values: the elements of the tensor from `first` on.
    pub(crate) fn apply(&self, first: usize, values: &mut [f64]) {
        let (largest, smallest) = self.limits;
        for (index, value) in (first as u64..).zip(values) {
            let ordinary = *value;
            let new = match self.pattern {
                Pattern::Large => self.values.far(ordinary, LARGE),
                Pattern::HotRow => self.hot(index, ordinary, LARGE),
                Pattern::HotTile => self.hot(index, ordinary, HOT_TILE),
                Pattern::Equal => self.values.usual,
                Pattern::Denormal if index % 2 == 1 => {
                    let signed = if self.values.low < 0.0 { ordinary } else { ordinary.abs() };
                    0.75 * smallest * signed / (1.0 + signed.abs())
                }
                Pattern::Denormal => ordinary,
                Pattern::SignFlips if index % 2 == 1 => -ordinary.abs(),
                Pattern::SignFlips => ordinary.abs(),
                Pattern::Negative => self.values.one_sided(ordinary, true),
                Pattern::Positive => self.values.one_sided(ordinary, false),
                Pattern::OppositeSigns => self.values.one_sided(ordinary, self.negative),
                Pattern::Zeros => 0.0,
                Pattern::Ascending => {
                    let (column, line) = (index % self.line, index / self.line % self.rows);
                    let lines = if self.row == self.line { self.rows } else { 1 };
                    let place = (column as f64 + line as f64 / lines as f64) / self.line as f64;
                    self.values.middle + place * self.values.spread
                }
                Pattern::OutlierFirst => self.end(index, ordinary, 0),
                Pattern::OutlierLast => self.end(index, ordinary, self.line - 1),
            };
            let new = if self.values.whole { new.round() } else { new };
            *value = self.values.clamp(new).clamp(-largest, largest);
        }
    }

    /// An outlier at one place of each row, with the usual values beside it.
    fn end(&self, index: u64, ordinary: f64, at: u64) -> f64 {
        if index % self.line == at {
            self.values.outlier(index / self.line % 2 == 1)
        } else if self.values.bounded {
            ordinary / LARGE
        } else {
            ordinary
        }
    }

    fn hot(&self, index: u64, ordinary: f64, factor: f64) -> f64 {
        let row = index / self.row;
        let is_hot = self.hot.contains(&(row % self.rows)) && self.group.is_none_or(|group| group == row / self.rows);
        match (is_hot, self.values.bounded) {
            (true, _) => self.values.far(ordinary, factor),
            (false, true) => ordinary / factor,
            (false, false) => ordinary,
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exactness is what is tested
mod tests {
    use super::*;
    use crate::data::codec;
    use crate::data::dtype::DType;
    use crate::inputs::tensor::{Blobs, generate_pattern};
    use crate::protocol::{Role, Source};

    fn made(pattern: Pattern, dtype: DType, dims: &[u64], source: Source) -> Vec<f64> {
        let spec = TensorSpec { name: "x".into(), dtype, dims: dims.to_vec(), role: Role::In, source };
        let inputs = generate_pattern(&[spec], 0, Some(pattern), &Blobs::new()).unwrap();
        codec::decode(dtype, inputs[0].as_ref().unwrap())
    }

    const NORMAL: Source = Source::Normal { mean: 0.0, std: 1.0 };

    fn rms(values: &[f64]) -> f64 {
        (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn each_pattern_is_what_its_name_says() {
        let dims = [3, 40, 64];
        let large = made(Pattern::Large, DType::F32, &dims, NORMAL);
        assert!((50.0..80.0).contains(&rms(&large)));
        assert!(made(Pattern::Equal, DType::F32, &dims, NORMAL).iter().all(|value| *value == 1.0));

        let hot = |pattern| -> Vec<usize> {
            let values = made(pattern, DType::F32, &dims, NORMAL);
            (0..120).filter(|row| rms(&values[row * 64..(row + 1) * 64]) > 4.0).collect()
        };
        assert_eq!(hot(Pattern::HotRow).len(), 1);
        let tile = hot(Pattern::HotTile);
        assert_eq!(tile.len(), 3 * 10, "the same ten rows in each group");
        assert!(tile[..10].windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(tile[10..20].iter().map(|row| row - 40).collect::<Vec<_>>(), tile[..10]);

        let subnormal = |value: f64| value != 0.0 && value.abs() < f32::MIN_POSITIVE.into();
        let denormal = made(Pattern::Denormal, DType::F32, &dims, NORMAL);
        assert!(denormal.iter().skip(1).step_by(2).all(|value| subnormal(*value)));
        assert!(denormal.iter().step_by(2).all(|value| !subnormal(*value)));

        let negative = made(Pattern::Negative, DType::F32, &dims, NORMAL);
        assert!(negative.iter().all(|value| *value <= -64.0), "exp of all of them is lost without a maximum");
        assert!(negative.iter().any(|value| *value < -128.0));
        assert!(made(Pattern::Positive, DType::F32, &dims, NORMAL).iter().all(|value| *value >= 64.0));
        assert!(made(Pattern::Zeros, DType::F32, &dims, NORMAL).iter().all(|value| value.to_bits() == 0));

        let ascending = made(Pattern::Ascending, DType::F64, &dims, NORMAL);
        for (index, value) in ascending.iter().enumerate() {
            let (column, row) = (index % 64, index / 64 % 40);
            assert!(column == 63 || ascending[index + 1] > *value, "along a row");
            assert!(row == 39 || ascending[index + 64] > *value, "along a column");
            assert!((0.0..3.0).contains(value));
        }
        let line = made(Pattern::Ascending, DType::F64, &[100], NORMAL);
        assert!(line.windows(2).all(|pair| pair[0] < pair[1]));

        for (pattern, at) in [(Pattern::OutlierFirst, 0), (Pattern::OutlierLast, 63)] {
            let values = made(pattern, DType::F32, &dims, NORMAL);
            for (row, values) in values.chunks(64).enumerate() {
                assert_eq!(values[at], if row % 2 == 0 { 64.0 } else { -64.0 });
                assert!(values.iter().enumerate().all(|(column, value)| column == at || value.abs() < 8.0));
            }
        }

        let flips = made(Pattern::SignFlips, DType::F32, &dims, NORMAL);
        assert!(flips.iter().enumerate().all(|(index, value)| (*value < 0.0) == (index % 2 == 1)));
    }

    #[test]
    fn a_uniform_tensor_stays_in_its_range() {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::Bf16, DType::F8e4m3] {
            for (low, high) in [(-1.0, 1.0), (0.0, 8.0), (0.5, 2.0), (-3.0, -1.0)] {
                for pattern in Pattern::ALL {
                    let source = Source::Uniform { low, high };
                    let applies = pattern.applies_to(dtype, &source);
                    let values = made(pattern, dtype, &[50, 20], source);
                    // A narrow float may round to the end of the range, as without a pattern.
                    let inside = |value: &f64| *value >= low && (*value < high || dtype.size() < 4 && *value <= high);
                    assert!(values.iter().all(inside), "{dtype} {low} {high} {pattern:?}");
                    if low > 0.0 || high < 0.0 {
                        use Pattern::{Denormal, Negative, OppositeSigns, Positive, SignFlips, Zeros};
                        let needs_zero_inside = [Denormal, SignFlips, Negative, Positive, OppositeSigns, Zeros];
                        assert_eq!(applies, !needs_zero_inside.contains(&pattern));
                    }
                }
            }
        }
    }

    #[test]
    fn integers_of_both_signs_are_numbers() {
        for dtype in [DType::I8, DType::I32, DType::I64, DType::F32] {
            let source = Source::Integers { low: -100, high: 90 };
            for pattern in Pattern::ALL {
                assert_eq!(pattern.applies_to(dtype, &source), pattern != Pattern::Denormal);
                let values = made(pattern, dtype, &[50, 20], source.clone());
                assert!(
                    values.iter().all(|value| (-100.0..=90.0).contains(value) && value.fract() == 0.0),
                    "{pattern:?}"
                );
            }
            assert!(made(Pattern::Negative, dtype, &[50, 20], source.clone()).iter().all(|value| *value <= -50.0));
            assert!(made(Pattern::Positive, dtype, &[50, 20], source.clone()).iter().all(|value| *value >= 45.0));
            assert!(made(Pattern::Zeros, dtype, &[50, 20], source).iter().all(|value| *value == 0.0));
        }
    }

    #[test]
    fn neighbouring_tensors_have_opposite_signs() {
        let spec = |name: &str, source| TensorSpec {
            name: name.into(),
            dtype: DType::F32,
            dims: vec![50],
            role: Role::In,
            source,
        };
        let uniform = Source::Uniform { low: -2.0, high: 2.0 };
        let specs = [spec("a", NORMAL), spec("n", Source::Constant(1.0)), spec("b", uniform), spec("c", NORMAL)];
        let inputs = generate_pattern(&specs, 0, Some(Pattern::OppositeSigns), &Blobs::new()).unwrap();
        let sign = |index: usize| {
            let values = codec::decode(DType::F32, inputs[index].as_ref().unwrap());
            values.iter().map(|value| value.signum()).reduce(|one, other| if one == other { one } else { 0.0 })
        };
        assert_eq!([0, 1, 2, 3].map(|index| sign(index).unwrap()), [-1.0, 1.0, 1.0, -1.0]);
    }

    #[test]
    fn a_uniform_tensor_may_span_its_type() {
        let source = Source::Uniform { low: -f64::MAX, high: f64::MAX };
        for pattern in Pattern::ALL {
            let values = made(pattern, DType::F64, &[60, 20], source.clone());
            assert!(values.iter().all(|value| value.is_finite()), "{pattern:?}");
        }
    }

    #[test]
    fn every_type_holds_its_patterns() {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::Bf16, DType::F8e4m3, DType::F8e5m2] {
            let source = Source::Normal { mean: 0.0, std: 1000.0 };
            for pattern in Pattern::ALL {
                assert!(made(pattern, dtype, &[100], source.clone()).iter().all(|value| value.is_finite()), "{dtype}");
            }
            assert!(codec::decode(dtype, &codec::encode(dtype, &[dtype.max_finite()]))[0] == dtype.max_finite());
            let smallest = dtype.smallest_normal();
            assert!(codec::decode(dtype, &codec::encode(dtype, &[smallest]))[0] == smallest);
        }
    }

    #[test]
    fn contents_with_a_meaning_stay() {
        for source in [
            Source::Constant(3.0),
            Source::Arange { start: 0.0, step: 1.0 },
            Source::Integers { low: 0, high: 7 },
            Source::Integers { low: -1, high: 7 },
            Source::Scale,
        ] {
            assert!(Pattern::ALL.iter().all(|pattern| !pattern.applies_to(DType::F32, &source)), "{source:?}");
        }
        let plain = made(Pattern::Large, DType::F32, &[100], Source::Arange { start: 0.0, step: 1.0 });
        assert_eq!(plain[99], 99.0);
    }
}

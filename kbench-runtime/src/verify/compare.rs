//! Outputs compared: with each other bit by bit, and with the reference in f64. Longer than 400 lines: its unit tests stand with it.

use rayon::prelude::*;

use crate::data::codec::{self, CHUNK};
use crate::data::dtype::DType;
use crate::protocol::{ErrorSizes, OutputReport, RelatedErrors, TensorSpec};

/// Sums over one chunk of elements. Chunks are of fixed size and are added in order, so that results do not depend on threads.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    compared: u64,
    nonfinite: u64,
    bad: u64,
    error: f64,
    absolute: f64,
    squares: f64,
    references: u64,
    reference_squares: f64,
    /// The largest error, and the chunk it is in.
    largest: Option<(f64, usize)>,
}

/// Largest number of an output's type.
#[derive(Debug, Clone, Copy)]
struct Limits {
    largest: f64,
    has_infinity: bool,
}

impl Limits {
    const NONE: Self = Self { largest: f64::INFINITY, has_infinity: true };
}

/// Elements that are added up side by side.
const LANES: usize = 8;

impl Sums {
    fn add(&mut self, chunk: usize, (output, reference): (f64, f64), error: f64, bad_above: f64, limits: Limits) {
        if reference.is_finite() {
            self.references += 1;
            self.reference_squares += reference * reference;
        }
        if !output.is_finite() || !reference.is_finite() {
            // The same kind of NaN or infinity on both sides agrees. An overflow beyond the range of the type agrees
            // too.
            let infinite = |value: f64| value.is_infinite().then(|| value.is_sign_positive());
            let agree = output.is_nan() == reference.is_nan() && infinite(output) == infinite(reference);
            let overflows = reference.abs() >= limits.largest
                && (infinite(output) == Some(reference > 0.0) || output.is_nan() && !limits.has_infinity);
            self.nonfinite += u64::from(!agree && !overflows);
            return;
        }
        let absolute = error.abs();
        self.compared += 1;
        self.error += error;
        self.absolute += absolute;
        self.squares += error * error;
        self.bad += u64::from(absolute > bad_above);
        if self.largest.is_none_or(|(largest, _)| absolute > largest) {
            self.largest = Some((absolute, chunk));
        }
    }

    /// Adds elements that are all finite, many at a time: nearly all are, and one by one they would take most of a check's time.
    fn add_finite(&mut self, chunk: usize, output: &[f64], reference: &[f64], bad_above: f64) {
        let (outputs, outputs_left) = output.as_chunks::<LANES>();
        let (references, references_left) = reference.as_chunks::<LANES>();
        let [mut errors, mut absolutes, mut squares, mut reference_squares] = [[0.0; LANES]; 4];
        let (mut largest, mut bad) = ([-1.0_f64; LANES], [0_u64; LANES]);
        for (output, reference) in outputs.iter().zip(references) {
            for lane in 0..LANES {
                let error = output[lane] - reference[lane];
                let absolute = error.abs();
                errors[lane] += error;
                absolutes[lane] += absolute;
                squares[lane] += error * error;
                reference_squares[lane] += reference[lane] * reference[lane];
                largest[lane] = if absolute > largest[lane] { absolute } else { largest[lane] };
                bad[lane] += u64::from(absolute > bad_above);
            }
        }
        let n = (outputs.len() * LANES) as u64;
        self.compared += n;
        self.references += n;
        self.error += errors.iter().sum::<f64>();
        self.absolute += absolutes.iter().sum::<f64>();
        self.squares += squares.iter().sum::<f64>();
        self.reference_squares += reference_squares.iter().sum::<f64>();
        self.bad += bad.iter().sum::<u64>();
        let largest = largest.into_iter().fold(-1.0, f64::max);
        if largest > self.largest.map_or(-1.0, |(largest, _)| largest) {
            self.largest = Some((largest, chunk));
        }
        for (output, reference) in outputs_left.iter().zip(references_left) {
            self.add(chunk, (*output, *reference), output - reference, bad_above, Limits::NONE);
        }
    }

    fn then(self, next: Sums) -> Sums {
        Sums {
            compared: self.compared + next.compared,
            nonfinite: self.nonfinite + next.nonfinite,
            bad: self.bad + next.bad,
            error: self.error + next.error,
            absolute: self.absolute + next.absolute,
            squares: self.squares + next.squares,
            references: self.references + next.references,
            reference_squares: self.reference_squares + next.reference_squares,
            largest: match (self.largest, next.largest) {
                (Some((error, _)), Some(other)) if other.0 > error => Some(other),
                (largest, other) => largest.or(other),
            },
        }
    }
}

/// Numbers within this distance of 1, as a factor, have squares and sums of squares that f64 holds well.
const SQUARED_WELL: f64 = 1e120;

/// A power of two that scales numbers up to `largest` close to 1, if f64 cannot hold their squares precisely; else 1.
fn scale_for(largest: f64) -> f64 {
    if largest == 0.0 || (SQUARED_WELL.recip()..SQUARED_WELL).contains(&largest) {
        return 1.0;
    }
    let exponent = largest.log2().floor().clamp(-1000.0, 1000.0);
    (-exponent).exp2()
}

/// The same elements of an output and of its reference.
#[derive(Clone, Copy)]
struct Pair<'a> {
    dtype: DType,
    output: &'a [u8],
    wide: DType,
    reference: &'a [u8],
    /// A power of two by which both are multiplied: errors near 1e200 have squares, too.
    scale: f64,
}

impl<'a> Pair<'a> {
    fn chunk(self, chunk: usize) -> Self {
        fn part(bytes: &[u8], chunk: usize, size: usize) -> &[u8] {
            &bytes[chunk * CHUNK * size..((chunk + 1) * CHUNK * size).min(bytes.len())]
        }
        let output: &'a [u8] = part(self.output, chunk, self.dtype.size());
        Self { output, reference: part(self.reference, chunk, self.wide.size()), ..self }
    }

    fn elements(self) -> usize {
        self.output.len() / self.dtype.size()
    }

    fn is_whole(self) -> bool {
        matches!((self.dtype, self.wide), (DType::I64, DType::I64) | (DType::U64, DType::U64))
    }

    fn limits(self) -> Limits {
        Limits { largest: self.dtype.max_finite(), has_infinity: self.dtype != DType::F8e4m3 }
    }

    /// Decodes both. Values of the reference beyond the range of the output's type become the type's largest value.
    fn decode<'b>(self, left: &'b mut [f64], right: &'b mut [f64]) -> (&'b [f64], &'b [f64]) {
        let n = self.elements();
        codec::decode_into(self.dtype, self.output, &mut left[..n]);
        codec::decode_into(self.wide, self.reference, &mut right[..n]);
        let largest = self.limits().largest;
        for value in right[..n].iter_mut().filter(|value| value.abs() > largest && value.is_finite()) {
            *value = largest.copysign(*value);
        }
        if self.scale.to_bits() != 1.0_f64.to_bits() {
            left[..n].iter_mut().chain(&mut right[..n]).for_each(|value| *value *= self.scale);
        }
        (&left[..n], &right[..n])
    }

    /// The largest finite numbers of the output and of the reference.
    fn largest(self) -> [f64; 2] {
        let largest = |dtype: DType, bytes: &[u8]| {
            let of_chunk = |values: &mut Vec<f64>, bytes: &[u8]| {
                let values = &mut values[..bytes.len() / dtype.size()];
                codec::decode_into(dtype, bytes, values);
                values.iter().filter(|value| value.is_finite()).fold(0.0, |largest, value| value.abs().max(largest))
            };
            let chunks = bytes.par_chunks(CHUNK * dtype.size());
            chunks.map_init(|| vec![0.0; CHUNK], of_chunk).reduce(|| 0.0, f64::max)
        };
        [largest(self.dtype, self.output), largest(self.wide, self.reference)]
    }

    /// Sums of the whole, of numbers multiplied by the scale.
    fn total(self, bad_above: f64) -> Sums {
        let buffers = || (vec![0.0; CHUNK], vec![0.0; CHUNK]);
        let chunks: Vec<Sums> = (0..self.elements().div_ceil(CHUNK))
            .into_par_iter()
            .map_init(buffers, |buffers, chunk| self.chunk(chunk).sums(chunk, buffers, bad_above * self.scale))
            .collect();
        chunks.into_iter().fold(Sums::default(), Sums::then)
    }

    fn error(self, index: usize, left: f64, right: f64) -> f64 {
        if self.is_whole() {
            let [left, right] = [self.output, self.reference].map(|bytes| whole(self.dtype, bytes, index));
            (left - right) as f64
        } else {
            left - right
        }
    }

    fn sums(self, chunk: usize, buffers: &mut (Vec<f64>, Vec<f64>), bad_above: f64) -> Sums {
        let (left, right) = self.decode(&mut buffers.0, &mut buffers.1);
        let finite = |values: &[f64]| values.iter().fold(true, |finite, value| finite & (value.abs() <= f64::MAX));
        let mut sums = Sums::default();
        if !self.is_whole() && finite(left) && finite(right) {
            sums.add_finite(chunk, left, right, bad_above);
        } else {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                let error = self.error(index, *left, *right);
                sums.add(chunk, (*left, *right), error, bad_above, self.limits());
            }
        }
        sums
    }

    /// The first element with that error: index, output, reference.
    fn first(self, absolute: f64, buffers: &mut (Vec<f64>, Vec<f64>)) -> Option<(usize, f64, f64)> {
        let (left, right) = self.decode(&mut buffers.0, &mut buffers.1);
        let finite = |value: f64| value.is_finite();
        left.iter().zip(right).enumerate().find_map(|(index, (left, right))| {
            let error = self.error(index, *left, *right).abs();
            (finite(*left) && finite(*right) && error.total_cmp(&absolute).is_eq()).then_some((index, *left, *right))
        })
    }
}

/// Errors of an output against the reference's tensor of type `wide`; unwritten elements are left out.
pub fn with_reference(spec: &TensorSpec, output: &[u8], wide: DType, reference: &[u8], bad_above: f64) -> OutputReport {
    let mut pair = Pair { dtype: spec.dtype, output, wide, reference, scale: 1.0 };
    let mut scale_of_reference = 1.0;
    // No other type holds numbers whose squares f64 does not.
    if spec.dtype == DType::F64 {
        let [of_output, of_reference] = pair.largest();
        pair.scale = scale_for(of_output.max(of_reference));
        scale_of_reference = scale_for(of_reference);
    }
    let sums = pair.total(bad_above);
    let reference_squares = if scale_of_reference.to_bits() == pair.scale.to_bits() {
        sums.reference_squares
    } else {
        // Much smaller than the output: by a scale of its own.
        Pair { scale: scale_of_reference, ..pair }.total(f64::MAX).reference_squares
    };
    let unscaled = |value: f64| bounded(value / pair.scale);
    let mean = |sum: f64, n: u64| if n == 0 { 0.0 } else { sum / n as f64 };
    let (largest, chunk) = sums.largest.unwrap_or((0.0, 0));
    let mut buffers = (vec![0.0; CHUNK], vec![0.0; CHUNK]);
    let first = sums.largest.and_then(|_| pair.chunk(chunk).first(largest, &mut buffers));
    let (at, output_at, reference_at) = first.unwrap_or((0, 0.0, 0.0));
    OutputReport {
        tensor: spec.name.clone(),
        elements: spec.elements() as u64,
        unwritten: 0,
        first_unwritten: None,
        nonfinite: sums.nonfinite,
        max_abs_err: unscaled(largest),
        max_abs_err_at: (chunk * CHUNK + at) as u64,
        output_at: unscaled(output_at),
        reference_at: unscaled(reference_at),
        mean_abs_err: unscaled(mean(sums.absolute, sums.compared)),
        bias: unscaled(mean(sums.error, sums.compared)),
        rms_err: unscaled(mean(sums.squares, sums.compared).sqrt()),
        rms_ref: bounded(mean(reference_squares, sums.references).sqrt() / scale_of_reference),
        bad: sums.bad,
        related: RelatedErrors::default(),
    }
}

/// The sizes of the errors of one set of values against another.
pub fn sizes(spec: &TensorSpec, values: (DType, &[u8]), with: (DType, &[u8])) -> ErrorSizes {
    let spec = TensorSpec { dtype: values.0, ..spec.clone() };
    (&with_reference(&spec, values.1, with.0, with.1, f64::MAX)).into()
}

/// An error may overflow though both numbers are finite; JSON has no infinity.
fn bounded(value: f64) -> f64 {
    if value.is_nan() { f64::MAX } else { value.clamp(-f64::MAX, f64::MAX) }
}

fn whole(dtype: DType, bytes: &[u8], index: usize) -> i128 {
    let bytes = bytes.as_chunks::<8>().0[index];
    if dtype == DType::U64 { u64::from_le_bytes(bytes).into() } else { i64::from_le_bytes(bytes).into() }
}

/// Number of elements of `size` bytes that meet a condition, and the first of them.
pub fn count(elements: usize, meets: impl Fn(usize) -> bool + Sync) -> (u64, Option<u64>) {
    let chunks: Vec<(u64, Option<u64>)> = (0..elements.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(elements);
            let mut met = range.filter(|index| meets(*index));
            let first = met.next();
            (u64::from(first.is_some()) + met.count() as u64, first.map(|first| first as u64))
        })
        .collect();
    (chunks.iter().map(|(count, _)| count).sum(), chunks.iter().find_map(|(_, first)| *first))
}

/// The `index`-th element of `size` bytes.
pub fn element(bytes: &[u8], index: usize, size: usize) -> &[u8] {
    &bytes[index * size..(index + 1) * size]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Role, Source};

    fn report(dtype: DType, output: &[f64], reference: &[f64]) -> OutputReport {
        let dims = vec![output.len() as u64];
        let spec = TensorSpec { name: "o".into(), dtype, dims, role: Role::Out, source: Source::None };
        let wide = if dtype.is_float() { DType::F64 } else { dtype };
        with_reference(&spec, &codec::encode(dtype, output), wide, &codec::encode(wide, reference), 0.5)
    }

    #[test]
    fn errors_by_hand() {
        let got = report(DType::F32, &[1.0, 2.0, 2.0, 4.0], &[1.0, 1.0, 3.0, 4.25]);
        assert_eq!((got.max_abs_err, got.max_abs_err_at, got.output_at, got.reference_at), (1.0, 1, 2.0, 1.0));
        assert_eq!((got.mean_abs_err, got.bias, got.bad, got.nonfinite), (0.5625, -0.0625, 2, 0));
        assert!((got.rms_err - (2.0625_f64 / 4.0).sqrt()).abs() < 1e-15);
        assert!((got.rms_ref - (29.0625_f64 / 4.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn nonfinite_elements_are_counted_and_excluded_from_errors() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let got = report(DType::F16, &[nan, nan, inf, -inf, inf, 1.0, 2.0], &[nan, 1.0, inf, inf, 3.0, nan, 2.5]);
        assert_eq!((got.nonfinite, got.max_abs_err, got.max_abs_err_at, got.mean_abs_err), (4, 0.5, 6, 0.5));
        assert!((got.rms_ref - ((1.0 + 9.0 + 6.25_f64) / 3.0).sqrt()).abs() < 1e-15);
        let none = report(DType::F32, &[nan], &[0.0]);
        assert_eq!((none.nonfinite, none.max_abs_err, none.mean_abs_err, none.rms_err), (1, 0.0, 0.0, 0.0));
    }

    #[test]
    fn an_output_may_overflow_where_its_type_does() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let got = report(DType::F16, &[inf, -inf, 65504.0, inf, nan, 1.0], &[1e6, -1e6, 1e6, -1e6, 1e6, 1.0]);
        assert_eq!((got.nonfinite, got.max_abs_err), (2, 0.0), "the other infinity, and NaN");
        let got = report(DType::F8e4m3, &[nan, 448.0, nan], &[1e6, 1e6, 1.0]);
        assert_eq!((got.nonfinite, got.max_abs_err), (1, 0.0), "E4M3 has no infinity");
        assert_eq!(report(DType::F32, &[inf], &[1e300]).nonfinite, 0);
        assert_eq!(report(DType::F64, &[inf], &[1e300]).nonfinite, 1);
    }

    #[test]
    fn numbers_stay_finite() {
        let got = report(DType::F64, &[1e308, 0.0], &[-1e308, 0.0]);
        let numbers = [got.max_abs_err, got.mean_abs_err, got.bias, got.rms_err, got.rms_ref, got.output_at];
        assert!(numbers.iter().all(|number| number.is_finite()), "{got:?}");
    }

    #[test]
    fn errors_equal_to_the_limit_are_not_bad() {
        for n in [1, LANES, LANES + 1, 3 * LANES] {
            assert_eq!(report(DType::F32, &vec![1.5; n], &vec![1.0; n]).bad, 0);
            assert_eq!(report(DType::F32, &vec![1.5625; n], &vec![1.0; n]).bad, n as u64);
        }
        // The limit applies to the numbers before scaling.
        assert_eq!(report(DType::F64, &[1e250; 9], &[0.9e250; 9]).bad, 9);
        assert_eq!(report(DType::F64, &[1e-250; 9], &[0.9e-250; 9]).bad, 0);
    }

    #[test]
    fn infinity_everywhere_agrees_with_the_same_infinity() {
        for n in [1, LANES, 2 * LANES + 1] {
            let got = report(DType::F32, &vec![f64::INFINITY; n], &vec![f64::INFINITY; n]);
            assert_eq!((got.nonfinite, got.max_abs_err, got.bias, got.rms_err, got.rms_ref), (0, 0.0, 0.0, 0.0, 0.0));
            assert_eq!(report(DType::F32, &vec![f64::INFINITY; n], &vec![-f64::INFINITY; n]).nonfinite, n as u64);
        }
    }

    #[test]
    fn only_numbers_whose_squares_f64_does_not_hold_are_scaled() {
        for usual in [0.0, 1.0, 3.0, 1e119, 1e-119] {
            assert_eq!(scale_for(usual).to_bits(), 1.0_f64.to_bits(), "{usual}");
        }
        for extreme in [1e121, 1e-121, 1e300, 1e-300] {
            let scaled: f64 = scale_for(extreme) * extreme;
            assert!((1.0..2.0).contains(&scaled), "{extreme}");
        }
    }

    #[test]
    fn a_reference_in_single_precision_is_read_as_such_beside_a_huge_output() {
        let spec =
            TensorSpec { name: "o".into(), dtype: DType::F64, dims: vec![4], role: Role::Out, source: Source::None };
        let (output, reference) =
            (codec::encode(DType::F64, &[1e250; 4]), codec::encode(DType::F32, &[1.0, 2.0, 3.0, 4.0]));
        let got = with_reference(&spec, &output, DType::F32, &reference, 0.5);
        assert!((got.rms_ref - 7.5_f64.sqrt()).abs() < 1e-12 && got.bad == 4, "{got:?}");
    }

    #[test]
    fn errors_are_as_relative_at_the_ends_of_f64_as_in_its_middle() {
        let (output, reference): (Vec<f64>, Vec<f64>) =
            (0..100).map(|i| (f64::from(i).cos() * (1.0 + 1e-3 * f64::from(i % 3)), f64::from(i).cos())).unzip();
        let usual = report(DType::F64, &output, &reference);
        for by in [1e-300, 1e-200, 1e-100, 1e100, 1e200, 1e307] {
            let times = |values: &[f64]| values.iter().map(|value| value * by).collect::<Vec<_>>();
            let got = report(DType::F64, &times(&output), &times(&reference));
            let same = |got: f64, usual: f64| (got / by / usual - 1.0).abs() < 1e-9;
            assert!(same(got.rms_err, usual.rms_err) && same(got.rms_ref, usual.rms_ref), "{by}: {got:?}");
            assert!(same(got.max_abs_err, usual.max_abs_err) && same(got.mean_abs_err, usual.mean_abs_err), "{by}");
            assert!(same(got.bias, usual.bias) && same(got.output_at, usual.output_at), "{by}");
            assert_eq!((got.max_abs_err_at, got.nonfinite), (usual.max_abs_err_at, 0));
        }
        let got = report(DType::F64, &[1e250; 4], &[1e-250; 4]);
        assert!((got.rms_ref / 1e-250 - 1.0).abs() < 1e-9 && (got.rms_err / 1e250 - 1.0).abs() < 1e-9, "{got:?}");
        let nothing = report(DType::F64, &[0.0; 4], &[0.0; 4]);
        assert_eq!((nothing.rms_ref, nothing.rms_err), (0.0, 0.0));
    }

    #[test]
    fn an_integer_off_by_one_is_found_at_any_size() {
        let spec =
            TensorSpec { name: "o".into(), dtype: DType::I64, dims: vec![2], role: Role::Out, source: Source::None };
        let bytes = |values: [i64; 2]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let (output, reference) = (bytes([i64::MAX - 1, 5]), bytes([i64::MAX, 5]));
        let got = with_reference(&spec, &output, DType::I64, &reference, 0.5);
        assert_eq!((got.max_abs_err, got.max_abs_err_at, got.bad, got.bias), (1.0, 0, 1, -0.5));
        let got = with_reference(&spec, &bytes([-1, 5]), DType::I64, &bytes([1, 5]), 0.5);
        assert_eq!((got.max_abs_err, got.bias), (2.0, -1.0), "signed");
        let spec = TensorSpec { dtype: DType::U64, ..spec };
        let got = with_reference(&spec, &bytes([-1, 5]), DType::U64, &bytes([-2, 6]), 0.5);
        assert_eq!((got.max_abs_err, got.bias, got.bad), (1.0, 0.0, 2), "unsigned");
    }

    #[test]
    fn sums_do_not_depend_on_threads_and_the_first_largest_error_wins() {
        let n = 5 * CHUNK + 3;
        let output: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let mut reference: Vec<f64> = output.iter().map(|v| v * 1.001).collect();
        reference[CHUNK + 1] = 9.0 + output[CHUNK + 1];
        reference[4 * CHUNK] = output[4 * CHUNK] - 9.0;
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| report(DType::F64, &output, &reference))
        };
        assert_eq!(on(1), on(3));
        assert_eq!(on(2).max_abs_err_at, CHUNK as u64 + 1);
    }

    #[test]
    fn vectors_find_the_same_errors_as_single_elements() {
        let n = CHUNK + 13;
        let output: Vec<f64> = (0..n).map(|i| (i as f64).cos()).collect();
        let mut reference: Vec<f64> = output.iter().map(|v| v + 0.25).collect();
        reference[CHUNK + 9] += 1.0;
        let finite = report(DType::F64, &output, &reference);
        assert_eq!((finite.max_abs_err_at, finite.bad), (CHUNK as u64 + 9, 1));
        // One NaN on both sides of each chunk, which agree, turns to the other way.
        let (mut output, mut reference) = (output, reference);
        for at in [5, CHUNK + 5] {
            (output[at], reference[at]) = (f64::NAN, f64::NAN);
        }
        let slow = report(DType::F64, &output, &reference);
        assert_eq!((slow.max_abs_err_at, slow.bad, slow.nonfinite), (CHUNK as u64 + 9, 1, 0));
        let close = |left: f64, right: f64| (left / right - 1.0).abs() < 1e-3;
        assert!(close(slow.mean_abs_err, finite.mean_abs_err) && close(slow.bias, finite.bias), "{slow:?} {finite:?}");
        assert!(close(slow.rms_err, finite.rms_err) && close(slow.rms_ref, finite.rms_ref), "{slow:?} {finite:?}");
    }

    #[test]
    fn elements_are_counted_with_the_first() {
        assert_eq!(count(3 * CHUNK, |index| index % CHUNK == 7), (3, Some(7)));
        assert_eq!(count(10, |index| index > 3), (6, Some(4)));
        assert_eq!(count(10, |_| false), (0, None));
        assert_eq!(element(&[1, 2, 3, 4, 5, 6, 7], 1, 3), [4, 5, 6]);
    }
}

//! Conversion between numbers and bytes for every element type, little endian on every supported device.

use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::dtype::DType;
use crate::data::zeroed::zeroed;

/// A number as an integer or a float, since an i64 does not fit an f64.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

/// Number of elements of one parallel task.
pub const CHUNK: usize = 1 << 14;

const E4M3: [f64; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = F8E4M3::from_bits(code as u8).to_f64();
        code += 1;
    }
    table
};

const E5M2: [f64; 256] = {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = F8E5M2::from_bits(code as u8).to_f64();
        code += 1;
    }
    table
};

/// Decodes one element for each entry of `values`. Integers beyond 2^53 are rounded.
///
/// # Panics
///
/// If the length of `bytes` is not that of these elements.
pub fn decode_into(dtype: DType, bytes: &[u8], values: &mut [f64]) {
    fn each<const N: usize>(bytes: &[u8], values: &mut [f64], decode: impl Fn([u8; N]) -> f64) {
        for (bytes, value) in bytes.as_chunks::<N>().0.iter().zip(values) {
            *value = decode(*bytes);
        }
    }
    assert_eq!(bytes.len(), values.len() * dtype.size());
    match dtype {
        DType::F64 => each(bytes, values, f64::from_le_bytes),
        DType::F32 => each(bytes, values, |b| f32::from_le_bytes(b).into()),
        DType::F16 => each(bytes, values, |b| f16::from_le_bytes(b).to_f32().into()),
        DType::Bf16 => each(bytes, values, |b| bf16::from_le_bytes(b).to_f32().into()),
        DType::F8e4m3 => each(bytes, values, |[b]| E4M3[usize::from(b)]),
        DType::F8e5m2 => each(bytes, values, |[b]| E5M2[usize::from(b)]),
        DType::I8 => each(bytes, values, |b| i8::from_le_bytes(b).into()),
        DType::I16 => each(bytes, values, |b| i16::from_le_bytes(b).into()),
        DType::I32 => each(bytes, values, |b| i32::from_le_bytes(b).into()),
        DType::I64 => each(bytes, values, |b| i64::from_le_bytes(b) as f64),
        DType::U8 => each(bytes, values, |[b]| b.into()),
        DType::U16 => each(bytes, values, |b| u16::from_le_bytes(b).into()),
        DType::U32 => each(bytes, values, |b| u32::from_le_bytes(b).into()),
        DType::U64 => each(bytes, values, |b| u64::from_le_bytes(b) as f64),
    }
}

/// Encodes each value, rounded once to the nearest number (ties to even). The 8-bit floats and the integers saturate,
/// as with CUDA's `__NV_SATFINITE`; wider floats overflow to infinity. NaN becomes 0 in an integer.
///
/// # Panics
///
/// If the length of `bytes` is not that of `values`.
pub fn encode_into(dtype: DType, values: &[f64], bytes: &mut [u8]) {
    fn each<const N: usize>(values: &[f64], bytes: &mut [u8], encode: impl Fn(f64) -> [u8; N]) {
        for (value, bytes) in values.iter().zip(bytes.as_chunks_mut::<N>().0) {
            *bytes = encode(*value);
        }
    }
    assert_eq!(bytes.len(), values.len() * dtype.size());
    match dtype {
        DType::F64 => each(values, bytes, f64::to_le_bytes),
        DType::F32 => each(values, bytes, |v| (v as f32).to_le_bytes()),
        DType::F16 => each(values, bytes, |v| f16::from_f32(narrow(v, 10, -14) as f32).to_le_bytes()),
        DType::Bf16 => each(values, bytes, |v| bf16::from_f32(narrow(v, 7, -126) as f32).to_le_bytes()),
        DType::F8e4m3 => each(values, bytes, |v| [F8E4M3::from_f64(narrow(v, 3, -6).clamp(-448.0, 448.0)).to_bits()]),
        DType::F8e5m2 => {
            each(values, bytes, |v| [F8E5M2::from_f64(narrow(v, 2, -14).clamp(-57344.0, 57344.0)).to_bits()]);
        }
        DType::I8 => each(values, bytes, |v| (v.round_ties_even() as i8).to_le_bytes()),
        DType::I16 => each(values, bytes, |v| (v.round_ties_even() as i16).to_le_bytes()),
        DType::I32 => each(values, bytes, |v| (v.round_ties_even() as i32).to_le_bytes()),
        DType::I64 => each(values, bytes, |v| (v.round_ties_even() as i64).to_le_bytes()),
        DType::U8 => each(values, bytes, |v| [v.round_ties_even() as u8]),
        DType::U16 => each(values, bytes, |v| (v.round_ties_even() as u16).to_le_bytes()),
        DType::U32 => each(values, bytes, |v| (v.round_ties_even() as u32).to_le_bytes()),
        DType::U64 => each(values, bytes, |v| (v.round_ties_even() as u64).to_le_bytes()),
    }
}

/// Rounds to the nearest number with `mantissa` bits after the point, and fewer below 2^`min_exponent`, in one step: a
/// conversion to f32 in between would round twice. Too large numbers stay too large.
fn narrow(value: f64, mantissa: i32, min_exponent: i32) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let last = exponent.max(min_exponent) - mantissa;
    let power = |exponent: i32| f64::from_bits(((exponent + 1023) as u64) << 52);
    (value * power(-last)).round_ties_even() * power(last)
}

/// Decodes a whole tensor, in parallel.
pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let mut values = vec![0.0; bytes.len() / dtype.size()];
    values
        .par_chunks_mut(CHUNK)
        .zip(bytes.par_chunks(CHUNK * dtype.size()))
        .for_each(|(values, bytes)| decode_into(dtype, bytes, values));
    values
}

/// Encodes a whole tensor, in parallel.
pub fn encode(dtype: DType, values: &[f64]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * dtype.size()];
    bytes
        .par_chunks_mut(CHUNK * dtype.size())
        .zip(values.par_chunks(CHUNK))
        .for_each(|(bytes, values)| encode_into(dtype, values, bytes));
    bytes
}

/// Converts a whole tensor from one type to another, in parallel. Exact when `to` is the wider float.
pub fn convert(from: DType, to: DType, bytes: &[u8]) -> Vec<u8> {
    if from == to {
        return bytes.to_vec();
    }
    let mut converted = zeroed(bytes.len() / from.size() * to.size());
    converted.par_chunks_mut(CHUNK * to.size()).zip(bytes.par_chunks(CHUNK * from.size())).for_each_init(
        || vec![0.0; CHUNK],
        |values, (converted, bytes)| {
            let values = &mut values[..bytes.len() / from.size()];
            decode_into(from, bytes, values);
            encode_into(to, values, converted);
        },
    );
    converted
}

/// The bytes of an integer as any type; saturates in a narrower integer.
pub fn integer(dtype: DType, value: i64) -> Vec<u8> {
    match dtype {
        DType::I64 => value.to_le_bytes().to_vec(),
        DType::U64 => u64::try_from(value).unwrap_or(0).to_le_bytes().to_vec(),
        // 32 bits and fewer fit an f64, and saturation happens far from where i64 to f64 rounds.
        _ => encode(dtype, &[value as f64]),
    }
}

/// The bytes of a scalar argument.
pub fn number(dtype: DType, value: Number) -> Vec<u8> {
    match value {
        Number::Int(value) => integer(dtype, value),
        Number::Float(value) => encode(dtype, &[value]),
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exactness is what is tested
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A decoder written from the definition: sign, exponent, mantissa.
    fn by_hand(code: u8, exponent_bits: u32, bias: i32) -> f64 {
        let mantissa_bits = 7 - exponent_bits;
        let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
        let exponent = i32::from((code & 0x7f) >> mantissa_bits);
        let mantissa = f64::from(code & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
        let top = (1 << exponent_bits) - 1;
        if exponent_bits == 4 && code & 0x7f == 0x7f {
            return f64::NAN;
        }
        if exponent_bits == 5 && exponent == top {
            return if mantissa == 0.0 { sign * f64::INFINITY } else { f64::NAN };
        }
        if exponent == 0 {
            sign * mantissa * 2.0_f64.powi(1 - bias)
        } else {
            sign * (1.0 + mantissa) * 2.0_f64.powi(exponent - bias)
        }
    }

    fn one(dtype: DType, value: f64) -> Vec<u8> {
        encode(dtype, &[value])
    }

    #[test]
    fn every_8_bit_float_decodes_by_definition_and_encodes_back() {
        for (dtype, exponent_bits, bias, max) in [(DType::F8e4m3, 4, 7, 448.0_f64), (DType::F8e5m2, 5, 15, 57344.0)] {
            for code in 0..=255_u8 {
                let want = by_hand(code, exponent_bits, bias);
                let got = decode(dtype, &[code])[0];
                assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{dtype} {code:#x} {got}");
                let back = one(dtype, want)[0];
                if want.is_nan() {
                    assert!(decode(dtype, &[back])[0].is_nan(), "{dtype} {code:#x}");
                } else if want.is_infinite() {
                    assert_eq!(decode(dtype, &[back])[0], max.copysign(want), "infinity saturates");
                } else {
                    assert_eq!(back, code, "{dtype} {want}");
                }
            }
            for huge in [max, max * 1.03, max * 1.2, 1e30, f64::INFINITY] {
                assert_eq!(decode(dtype, &one(dtype, huge)), [max]);
                assert_eq!(decode(dtype, &one(dtype, -huge)), [-max]);
            }
        }
    }

    #[test]
    fn every_8_bit_float_rounds_ties_to_even() {
        for dtype in [DType::F8e4m3, DType::F8e5m2] {
            for code in 0..0x7b_u8 {
                let (low, high) = (decode(dtype, &[code])[0], decode(dtype, &[code + 1])[0]);
                if !high.is_finite() {
                    continue;
                }
                let middle = f64::midpoint(low, high);
                let even = if code % 2 == 0 { code } else { code + 1 };
                assert_eq!(one(dtype, middle), [even], "{dtype} {middle}");
                assert_eq!(one(dtype, middle.next_down()), [code], "{dtype} just below {middle}");
                assert_eq!(one(dtype, middle.next_up()), [code + 1], "{dtype} just above {middle}");
                assert_eq!(one(dtype, -middle), [even | 0x80], "{dtype} -{middle}");
            }
        }
    }

    #[test]
    fn every_16_bit_float_encodes_back_and_rounds_once() {
        for dtype in [DType::F16, DType::Bf16] {
            for code in 0..0x7f80_u16 {
                let [low, high] = [code, code + 1].map(|code| decode(dtype, &code.to_le_bytes())[0]);
                if low.is_nan() || !high.is_finite() {
                    continue;
                }
                assert_eq!(one(dtype, low), code.to_le_bytes());
                let middle = f64::midpoint(low, high);
                assert_eq!(one(dtype, middle.next_down()), code.to_le_bytes(), "{dtype} below {middle}");
                assert_eq!(one(dtype, middle.next_up()), (code + 1).to_le_bytes(), "{dtype} above {middle}");
            }
            assert_eq!(decode(dtype, &one(dtype, 1e300)), [f64::INFINITY]);
            assert!(decode(dtype, &one(dtype, f64::NAN))[0].is_nan());
        }
        assert_eq!(decode(DType::F16, &one(DType::F16, 65519.99)), [65504.0]);
        assert_eq!(decode(DType::F16, &one(DType::F16, 65520.0)), [f64::INFINITY]);
    }

    #[test]
    fn integers_round_and_saturate() {
        let ties = [-1.5, -0.5, 0.5, 1.5, 2.5];
        assert_eq!(decode(DType::I8, &encode(DType::I8, &ties)), [-2.0, 0.0, 0.0, 2.0, 2.0]);
        assert_eq!(decode(DType::I8, &encode(DType::I8, &[1e9, -1e9, f64::NAN])), [127.0, -128.0, 0.0]);
        assert_eq!(decode(DType::U16, &encode(DType::U16, &[-3.0, 1e9])), [0.0, 65535.0]);
        assert_eq!(integer(DType::I64, i64::MIN + 1), (i64::MIN + 1).to_le_bytes());
        assert_eq!(integer(DType::U64, i64::MAX), (i64::MAX as u64).to_le_bytes());
        assert_eq!(integer(DType::I32, i64::MAX), i32::MAX.to_le_bytes());
        assert_eq!(number(DType::F32, Number::Float(0.125)), 0.125_f32.to_le_bytes());
    }

    #[test]
    fn whole_tensors_are_converted_in_order() {
        let values: Vec<f64> = (0..3 * CHUNK + 7).map(|i| (i % 251) as f64).collect();
        for dtype in DType::ALL {
            let small: Vec<f64> =
                if dtype.size() == 1 { values.iter().map(|v| v % 8.0).collect() } else { values.clone() };
            let bytes = encode(dtype, &small);
            assert!(decode(dtype, &bytes) == small, "{dtype}");
            assert!(convert(dtype, DType::F64, &bytes) == encode(DType::F64, &small), "{dtype}");
        }
    }

    proptest! {
        #[test]
        fn f16_is_the_nearest(value in -70000.0_f64..70000.0) {
            let got = decode(DType::F16, &one(DType::F16, value))[0];
            // `f16::from_f64_const` is no oracle: it drops the low half of the mantissa before it rounds.
            let bits = u16::from_le_bytes(one(DType::F16, value).try_into().unwrap());
            for neighbour in [bits.wrapping_sub(1), bits.wrapping_add(1)] {
                let neighbour = f64::from(f16::from_bits(neighbour));
                prop_assert!(!neighbour.is_finite() || !got.is_finite() || (got - value).abs() <= (neighbour - value).abs());
            }
            // Half a step above the largest finite value, and all beyond, is infinite.
            prop_assert_eq!(got.is_infinite(), value.abs() >= 65520.0);
        }

        #[test]
        fn f32_wide_survives_everything_narrower(bits in any::<u16>()) {
            for dtype in [DType::F16, DType::Bf16] {
                let wide = convert(dtype, DType::F32, &bits.to_le_bytes());
                let back = convert(DType::F32, dtype, &wide);
                let value = decode(dtype, &bits.to_le_bytes())[0];
                prop_assert!(value.is_nan() || back == bits.to_le_bytes());
            }
        }
    }
}

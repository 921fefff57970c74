//! Values close to others: a kernel that keeps results by the values of elements has not seen them.

use rayon::prelude::*;

use crate::data::dtype::DType;

/// Bytes that one parallel task changes, a multiple of each element's size.
const PART: usize = 1 << 18;

/// Flips bits in the lower half of the mantissa of each number, other ones for each `number`. Zero, subnormal numbers, infinity and NaN stay,
/// as do all values of other types than `f32` and `f64`: of these a table of all values is an ordinary optimization.
pub(super) fn vary(elements: &mut [u8], dtype: DType, number: u64) {
    elements.par_chunks_mut(PART).enumerate().for_each(|(part, elements)| {
        let mut bits = Bits(number ^ (part as u64) << 32);
        match dtype {
            DType::F32 => elements.as_chunks_mut().0.iter_mut().for_each(|element| {
                let flipped = f32::from_bits(u32::from_ne_bytes(*element) ^ bits.next() as u32 & 0xfff);
                if f32::from_ne_bytes(*element).is_normal() {
                    *element = flipped.to_ne_bytes();
                }
            }),
            DType::F64 => elements.as_chunks_mut().0.iter_mut().for_each(|element| {
                let flipped = f64::from_bits(u64::from_ne_bytes(*element) ^ bits.next() & 0x3ff_ffff);
                if f64::from_ne_bytes(*element).is_normal() {
                    *element = flipped.to_ne_bytes();
                }
            }),
            _ => {}
        }
    });
}

/// Pseudorandom bits (`SplitMix64`).
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varied(values: &[f32], number: u64) -> Vec<f32> {
        let mut bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        vary(&mut bytes, DType::F32, number);
        bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
    }

    #[test]
    fn values_are_new_each_time_and_close() {
        let values = vec![0.7_f32; PART];
        let (one, other) = (varied(&values, 1), varied(&values, 2));
        assert_eq!(one, varied(&values, 1));
        for new in [&one, &other] {
            assert!(new.iter().all(|new| (new - 0.7).abs() < 0.7 * 2e-3));
        }
        let same = |one: &[f32], other: &[f32]| {
            one.iter().zip(other).filter(|(one, other)| one.to_bits() == other.to_bits()).count()
        };
        assert!(same(&one, &values) < PART / 1000 && same(&one, &other) < PART / 1000);
        assert!(same(&one[..PART / 4], &one[PART / 4..PART / 2]) < PART / 1000, "each part has its own");
    }

    #[test]
    fn special_values_and_integers_are_not_varied() {
        let special = [0.0, -0.0, 1e-40, f32::INFINITY, f32::NEG_INFINITY];
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&varied(&special, 3)), bits(&special));
        let mut integers = [1_u8, 2, 3, 4];
        vary(&mut integers, DType::I32, 3);
        assert_eq!(integers, [1, 2, 3, 4]);
        let mut double = 0.7_f64.to_ne_bytes();
        vary(&mut double, DType::F64, 3);
        let double = f64::from_ne_bytes(double);
        assert!(double.to_bits() != 0.7_f64.to_bits() && (double - 0.7).abs() < 1e-7);
    }
}

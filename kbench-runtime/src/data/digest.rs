//! Digests of memory: eight bytes show whether contents have changed.
//!
//! The digest is the sum over all 64-bit words of a mix of word, position and key. A sum does not depend on the order,
//! so a device can compute it with any number of threads and gets the same digest as the host. Each process draws a new
//! key: different bytes have equal digests with a probability of 2^-64, and no kernel can know which.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Deref;
use std::sync::OnceLock;

use rayon::prelude::*;

/// Number of bytes of one parallel task.
const PART: usize = 1 << 20;

/// Constant bytes with their digest, which is computed on first use.
#[derive(Debug, Clone, Default)]
pub struct Bytes {
    data: Vec<u8>,
    digest: OnceLock<u64>,
}

impl Bytes {
    /// Bytes with their digest, if it is known.
    pub fn new(data: Vec<u8>, digest: Option<u64>) -> Self {
        Self { data, digest: digest.map(OnceLock::from).unwrap_or_default() }
    }

    /// The digest, if it was computed.
    pub fn known_digest(&self) -> Option<u64> {
        self.digest.get().copied()
    }

    /// The digest with this process's [`key`].
    pub fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| digest(&self.data, key()))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(data: Vec<u8>) -> Self {
        Self::new(data, None)
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.data
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl Eq for Bytes {}

/// The key of digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Added to every word.
    pub base: u64,
    /// Added to a word for each word before it; odd. With a known value, two words could be changed without a change of
    /// their sum.
    pub step: u64,
}

/// The key of this process.
pub fn key() -> Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    *KEY.get_or_init(|| {
        let random = RandomState::new();
        Key { base: random.hash_one("base"), step: random.hash_one("step") | 1 }
    })
}

/// The digest of `bytes`.
pub fn digest(bytes: &[u8], key: Key) -> u64 {
    let part = |(at, part): (usize, &[u8])| serial(part, (at * PART / 8) as u64, key);
    bytes.par_chunks(PART).enumerate().map(part).reduce(|| 0, u64::wrapping_add)
}

fn serial(bytes: &[u8], first: u64, key: Key) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = 0u64;
    for (index, word) in (first..).zip(words) {
        sum = sum.wrapping_add(mix(u64::from_le_bytes(*word), index, key));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        sum = sum.wrapping_add(mix(u64::from_le_bytes(word), first + words.len() as u64, key));
    }
    sum
}

/// Two rounds of multiplication and shift, so that every bit of the sum affects every bit of the result.
fn mix(word: u64, index: u64, key: Key) -> u64 {
    let mut mixed = word.wrapping_add(key.base).wrapping_add(index.wrapping_mul(key.step));
    for _ in 0..2 {
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { base: 7, step: 0x9e37_79b9_7f4a_7c15 };

    #[test]
    fn every_bit_and_its_place_count() {
        let bytes: Vec<u8> = (0..2 * PART + 13).map(|at| (at * at) as u8).collect();
        let whole = digest(&bytes, KEY);
        for at in (0..bytes.len()).step_by(9973).chain([bytes.len() - 1]) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            assert_ne!(digest(&other, KEY), whole, "byte {at}");
        }
        let mut swapped = bytes.clone();
        swapped.swap(3, 11);
        assert_ne!(digest(&swapped, KEY), whole);
        assert_ne!(digest(&bytes, Key { base: 8, ..KEY }), whole);
        assert_ne!(digest(&bytes, Key { step: 1, ..KEY }), whole);
        assert_ne!(digest(&[0; 8], KEY), digest(&[0; 16], KEY));
    }

    #[test]
    fn a_digest_under_another_key_detects_exchanged_words() {
        // With this step each word takes the place of the other.
        let mut words = [1u64, 2, 3, 4];
        let bytes = |words: [u64; 4]| words.map(u64::to_le_bytes).concat();
        let whole = |words, key| digest(&bytes(words), key);
        let (before, distance) = (words, KEY.step.wrapping_mul(2));
        (words[1], words[3]) = (before[3].wrapping_add(distance), before[1].wrapping_sub(distance));
        assert_eq!(whole(words, KEY), whole(before, KEY));
        let other = Key { step: KEY.step + 2, ..KEY };
        assert_ne!(whole(words, other), whole(before, other));
    }

    #[test]
    fn the_digest_is_the_same_on_any_number_of_threads() {
        let bytes: Vec<u8> = (0..3 * PART + 5).map(|at| (at / 3) as u8).collect();
        assert_eq!(digest(&bytes, key()), serial(&bytes, 0, key()));
    }
}

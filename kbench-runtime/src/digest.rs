//! Digests of memory: whether bytes are still what they were, told by eight of them.
//!
//! The digest is the sum over all 64-bit words of a mix of word, place and key. A sum has no order, so a device computes it with
//! as many threads as it likes and gets what the host does. The key is drawn anew in each process: different bytes have equal
//! digests with a probability of 2^-64, and no kernel can know which.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Deref;
use std::sync::OnceLock;

use rayon::prelude::*;

/// Bytes that one thread digests at a time.
const PART: usize = 1 << 20;

/// Bytes that stay as they are, and their digest, computed once it is asked for.
#[derive(Debug, Clone, Default)]
pub struct Bytes {
    data: Vec<u8>,
    digest: OnceLock<u64>,
}

impl Bytes {
    /// With their digest, where it is known already.
    pub fn new(data: Vec<u8>, digest: Option<u64>) -> Self {
        Self { data, digest: digest.map(OnceLock::from).unwrap_or_default() }
    }

    /// Their digest, if it was computed.
    pub fn known_digest(&self) -> Option<u64> {
        self.digest.get().copied()
    }

    /// Their digest under this process's [`key`].
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

/// The key of this process.
pub fn key() -> u64 {
    static KEY: OnceLock<u64> = OnceLock::new();
    *KEY.get_or_init(|| RandomState::new().hash_one("digest"))
}

/// The digest of `bytes`.
pub fn digest(bytes: &[u8], key: u64) -> u64 {
    let part = |(at, part): (usize, &[u8])| serial(part, (at * PART / 8) as u64, key);
    bytes.par_chunks(PART).enumerate().map(part).reduce(|| 0, u64::wrapping_add)
}

fn serial(bytes: &[u8], first: u64, key: u64) -> u64 {
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

/// Two rounds of multiply and shift, which leave no bit of the result without a share in every bit of the sum.
fn mix(word: u64, index: u64, key: u64) -> u64 {
    let mut mixed = word.wrapping_add(key).wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for _ in 0..2 {
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_its_place_count() {
        let bytes: Vec<u8> = (0..2 * PART + 13).map(|at| (at * at) as u8).collect();
        let whole = digest(&bytes, 7);
        for at in (0..bytes.len()).step_by(9973).chain([bytes.len() - 1]) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            assert_ne!(digest(&other, 7), whole, "byte {at}");
        }
        let mut swapped = bytes.clone();
        swapped.swap(3, 11);
        assert_ne!(digest(&swapped, 7), whole);
        assert_ne!(digest(&bytes, 8), whole);
        assert_ne!(digest(&[0; 8], 7), digest(&[0; 16], 7));
    }

    #[test]
    fn many_threads_find_what_one_does() {
        let bytes: Vec<u8> = (0..3 * PART + 5).map(|at| (at / 3) as u8).collect();
        assert_eq!(digest(&bytes, key()), serial(&bytes, 0, key()));
    }
}

//! Digests of a kernel's memory, computed by the device, so that only contents that changed are fetched.

use std::sync::OnceLock;

use crate::data::digest::{digest, key};
use crate::device::GUARD;

/// Digests of the tensors of a kernel and of their guard bands. Empty if the device computes none.
#[derive(Debug, Default)]
pub struct MemoryDigests(Vec<Option<TensorDigests>>);

/// Digests of a tensor and of the guard bands before and after it.
#[derive(Debug, Clone, Copy)]
struct TensorDigests {
    tensor: u64,
    bands: [u64; 2],
}

impl MemoryDigests {
    /// Digests by the index of the tensor among `tensors` tensors: of the tensor itself, and of the bands before and after it.
    pub fn new(tensors: usize, digests: impl Iterator<Item = (usize, [u64; 3])>) -> Self {
        let mut all = vec![None; tensors];
        for (index, [tensor, before, after]) in digests {
            all[index] = Some(TensorDigests { tensor, bands: [before, after] });
        }
        Self(all)
    }

    /// The digest of a tensor.
    pub fn tensor(&self, index: usize) -> Option<u64> {
        Some(self.0.get(index)?.as_ref()?.tensor)
    }

    /// The digest of the guard band before or after a tensor.
    pub fn band(&self, index: usize, after: bool) -> Option<u64> {
        Some(self.0.get(index)?.as_ref()?.bands[usize::from(after)])
    }
}

/// The digest of a guard band full of one byte.
pub fn of_band(byte: u8) -> u64 {
    static DIGESTS: [OnceLock<u64>; 256] = [const { OnceLock::new() }; 256];
    *DIGESTS[usize::from(byte)].get_or_init(|| digest(&vec![byte; GUARD], key()))
}

//! The initial contents of tensors: random, in a pattern or from files.

use std::sync::Arc;

use crate::data::digest::Bytes;
use crate::data::zeroed;
use crate::protocol::{Failure, TensorSpec};

pub mod cache;
pub mod derived;
pub mod file;
pub mod pattern;
mod quantize;
pub mod tensor;

/// The bytes of every tensor of a case, in its order; `None` for outputs and scratch.
pub type Inputs = Vec<Option<Arc<Bytes>>>;

/// Bytes for a tensor, all zero. An error if the machine cannot hold them.
fn zeroed(spec: &TensorSpec) -> Result<Vec<u8>, Failure> {
    let bytes = spec.dims.iter().try_fold(spec.dtype.size() as u64, |size, dim| size.checked_mul(*dim));
    let too_large = Failure::OutOfMemory { bytes: bytes.unwrap_or(u64::MAX) };
    let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) else { return Err(too_large) };
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| too_large)?;
    Ok(zeroed::zeroed(bytes))
}

//! Basic types: element types, numbers and bytes, and fingerprints.

pub mod codec;
pub mod digest;
pub mod dtype;
mod encoding;
pub mod fingerprint;
pub mod float;
pub mod lru;
pub mod quantile;
pub mod zeroed;

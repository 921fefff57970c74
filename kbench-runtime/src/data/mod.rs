//! Basic types: element types, numbers and bytes, and fingerprints.

pub mod codec;
pub mod digest;
pub mod dtype;
pub mod fingerprint;
pub mod float;
pub mod lru;
pub mod quantile;

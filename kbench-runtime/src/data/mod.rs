//! What everything else is made of: element types, numbers and bytes, and the names that results are filed under.

pub mod codec;
pub mod digest;
pub mod dtype;
pub mod fingerprint;
pub mod float;
pub mod lru;
pub mod quantile;

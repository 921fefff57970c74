//! The initial contents of tensors: random, in a pattern or from files.

pub mod cache;
pub mod derived;
pub mod file;
pub mod pattern;
mod quantize;
pub mod tensor;

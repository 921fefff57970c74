//! The first contents of tensors: random, in a pattern or from files.

pub mod file;
pub mod maker;
pub mod pattern;
pub mod tensor;

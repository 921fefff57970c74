//! `cargo kbench`: compile, gate and autotune the kernels declared in Cargo.toml.

pub mod compile;
pub mod config;
pub mod space;
pub(crate) mod text;

//! `cargo kbench`: compile, gate and autotune the kernels declared in Cargo.toml.

pub mod config;
pub mod report;
pub mod space;
pub(crate) mod text;

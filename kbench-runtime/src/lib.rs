//! Runs kernels for `cargo kbench`: devices, tensors, correctness checks, timing, and the worker that serves them.
//!
//! [`worker::run`] is the whole program behind `cargo kbench worker`; [`protocol`] is what it speaks.

mod data;
pub mod device;
mod inputs;
mod measure;
mod memory;
mod process;
pub mod protocol;
mod verify;
pub mod worker;

pub use data::{codec, digest, dtype, fingerprint, float};
pub use inputs::{file, pattern, tensor};
pub use measure::{statistics as stats, stopping};
pub use process::{awake, descendants};
pub use verify::reference;

#[cfg(test)]
mod testing;

//! Runs kernels for `cargo kbench`: devices, tensors, correctness checks, timing, and the worker that serves them.
//!
//! [`worker::serve`] is the whole program behind `cargo kbench worker`; [`protocol`] is what it speaks.

pub mod cache;
pub mod codec;
pub mod compare;
pub mod device;
pub mod dtype;
pub mod protocol;
pub mod reference;
pub mod rig;
pub mod stats;
pub mod tensor;

#[cfg(test)]
mod testing;

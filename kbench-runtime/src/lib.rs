//! Runs kernels for `cargo kbench`: devices, tensors, correctness checks, timing, and the worker that serves them.
//!
//! [`worker::run`] is the whole program behind `cargo kbench worker`; [`protocol`] is what it speaks.

pub mod awake;
mod cache;
pub mod check;
pub mod codec;
mod compare;
pub mod descendants;
pub mod device;
pub mod digest;
pub mod dtype;
pub mod fingerprint;
pub mod float;
mod inputs;
pub mod pattern;
mod pool;
pub mod protocol;
pub mod reference;
mod rig;
mod seen;
pub mod stats;
pub mod tensor;
pub mod timing;
pub mod worker;

#[cfg(test)]
mod testing;

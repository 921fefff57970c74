//! Device memory of kernels: guard bands, poison, digests, and the pool of buffers that kernels share.

pub mod digests;
pub mod kernel;
pub mod outputs;
pub mod poison;
pub mod pool;

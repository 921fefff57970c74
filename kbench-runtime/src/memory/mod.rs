//! Device memory of kernels: guard bands, poison, and the buffers that kernels share.

pub mod kernel;
pub mod outputs;
pub mod pool;

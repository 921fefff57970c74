//! The engine of `cargo kbench`: runs GPU and CPU kernels, checks them against a reference, and times them.
//!
//! A worker process ([`worker::run`]) reads [requests](protocol::Request) as JSON lines and answers with [events](protocol::Event). It loads
//! the machine code of a kernel on a CUDA, host or model device, gives it inputs between guard bands, and reports facts: errors against
//! the reference, writes out of bounds, samples. Limits and verdicts belong to the driver, `cargo-kbench`, which shares the protocol, the
//! statistics and the fingerprints of this crate.
//!
//! ```
//! use kbench_runtime::protocol::{DeviceKind, Request, VERSION};
//! use kbench_runtime::stats::{Speedup, Summary};
//!
//! // The first line that a driver writes to a worker.
//! let hello = Request::Hello { protocol: VERSION, device: DeviceKind::Host, index: 0, cache: None, mutation: None };
//! assert!(serde_json::to_string(&hello).unwrap().starts_with(r#"{"type":"hello","protocol":"#));
//!
//! // Samples of two kernels that were measured in turn, in nanoseconds a launch.
//! let (baseline, candidate) = (vec![1010.0, 1000.0, 990.0, 1005.0, 995.0, 1002.0], vec![500.0; 6]);
//! assert_eq!(Summary::of(&candidate).unwrap().p50, 500.0);
//! let speedup = Speedup::of(&baseline, &candidate).unwrap();
//! assert!(speedup.low > 1.9 && speedup.high < 2.1);
//! ```
//!
//! The rooms of the crate in the order of their dependencies: `data` (element types, bytes, fingerprints), `protocol`,
//! `process` (descendants, isolation), `device`, `inputs` (tensors, patterns, files), `memory` (guard bands, poison,
//! pool), `verify` (checks, comparison, references), `measure` (sampling, stopping, cheating, statistics), `worker`.

mod data;
mod device;
mod inputs;
mod measure;
mod memory;
mod process;
pub mod protocol;
mod verify;
pub mod worker;

pub use data::{dtype, fingerprint, float};
pub use measure::statistics as stats;

/// Functions that the driver and the worker share, for `cargo-kbench` alone. Not part of the interface.
#[doc(hidden)]
pub mod driver {
    pub use crate::data::codec;
    pub use crate::inputs::cache::KEPT_INPUTS;
    pub use crate::inputs::{file, tensor};
    pub use crate::measure::stopping;
    pub use crate::process::{awake, descendants, threads};
    pub use crate::verify::reference;
}

/// The CUDA device, for `tests/gpu_device.rs` alone. Not part of the interface: its functions run machine code.
#[doc(hidden)]
pub mod gpu_device {
    pub use crate::data::digest::{digest, key};
    pub use crate::device::cuda::{CudaBound, CudaBuffer, CudaDevice, CudaKernels};
    pub use crate::device::{BoundArg, BoundLaunch, Device, Purpose, Range, Region};
}

#[cfg(test)]
mod testing;

//! [`crate::digest`] of device memory, computed where it lies: to fetch it takes a hundred times as long.

use std::rc::Rc;

use super::driver::{Context, Driver};
use super::memory::CudaBuffer;
use super::module::CudaKernel;
use crate::protocol::Failure;

/// PTX of an early version, which the driver compiles for whatever device there is.
const CODE: &[u8] = include_bytes!("digest.ptx");

/// Below so many bytes to fetch them is quicker.
pub(super) const WORTHWHILE: usize = 256 << 10;

/// Threads a block.
pub(super) const BLOCK: u32 = 256;

/// Blocks a multiprocessor: enough to keep the memory busy, few enough that adding up their sums takes no time.
pub(super) const BLOCKS: u64 = 4;

/// The kernel and where it adds up.
#[derive(Clone)]
pub(super) struct Digester {
    pub kernel: CudaKernel,
    pub sum: CudaBuffer,
}

impl Digester {
    pub fn new(driver: Driver, context: &Rc<Context>) -> Result<Self, Failure> {
        let kernel = CudaKernel::load(driver, context, CODE, "kbench_digest")?;
        Ok(Self { kernel, sum: CudaBuffer::new(context, 8)? })
    }
}

//! [`crate::digest`] of device memory, computed where it lies: to fetch it takes many times as long.

use std::rc::Rc;

use super::driver::{Context, Driver, Stream};
use super::launch::CudaBound;
use super::limits::DeviceLimits;
use super::memory::CudaBuffer;
use super::module::CudaKernel;
use crate::device::BoundArg;
use crate::digest::{digest, key};
use crate::protocol::{Failure, Geometry};

/// PTX of an early version, which the driver compiles for whatever device there is.
const CODE: &[u8] = include_bytes!("digest.ptx");

/// Below so many bytes to fetch them is quicker.
pub(super) const WORTHWHILE: usize = 256 << 10;

/// Threads a block.
const BLOCK: u32 = 256;

/// Blocks a multiprocessor: enough to keep the memory busy, few enough that adding up their sums takes no time.
const BLOCKS: u64 = 4;

/// The kernel and where it adds up.
pub(super) struct Digester {
    kernel: CudaKernel,
    sum: CudaBuffer,
    limits: DeviceLimits,
    context: Rc<Context>,
    stream: Rc<Stream>,
}

impl Digester {
    pub fn new(
        driver: Driver,
        context: &Rc<Context>,
        stream: &Rc<Stream>,
        limits: &DeviceLimits,
    ) -> Result<Self, Failure> {
        Ok(Self {
            kernel: CudaKernel::load(driver, context, CODE, "kbench_digest")?,
            sum: CudaBuffer::new(context, 8)?,
            limits: limits.clone(),
            context: Rc::clone(context),
            stream: Rc::clone(stream),
        })
    }

    /// Whether it finds what the host finds.
    pub fn is_right(&self) -> bool {
        let data: Vec<u8> = (0..WORTHWHILE as u32 + 5).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let found = CudaBuffer::new(&self.context, data.len()).and_then(|buffer| {
            buffer.upload(&self.stream, 0, &data)?;
            self.digest(&buffer, 0, data.len())
        });
        found == Ok(digest(&data, 0, key()))
    }

    pub fn digest(&self, buffer: &CudaBuffer, offset: usize, bytes: usize) -> Result<u64, Failure> {
        let words = bytes / 8;
        let blocks = (words as u64).div_ceil(u64::from(BLOCK));
        let geometry = Geometry {
            grid: [blocks.min(BLOCKS * u64::from(self.limits.multiprocessors)) as u32, 1, 1],
            block: [BLOCK, 1, 1],
            ..Geometry::default()
        };
        let scalar = |value: u64| BoundArg::Scalar(value.to_ne_bytes().to_vec());
        let args = [
            BoundArg::Pointer { buffer: buffer.clone(), offset, bytes },
            scalar(words as u64),
            scalar(key()),
            BoundArg::Pointer { buffer: self.sum.clone(), offset: 0, bytes: 8 },
        ];
        self.sum.enqueue_fill(&self.stream, 0, 8, 0)?;
        let bound = CudaBound::new(&self.limits, false, &self.stream, &self.kernel, &geometry, &args)?;
        bound.enqueue().map_err(|error| error.failure("when digesting memory"))?;
        let (mut sum, mut rest) = ([0; 8], vec![0; bytes % 8]);
        self.sum.download(&self.stream, 0, &mut sum)?;
        buffer.download(&self.stream, offset + words * 8, &mut rest)?;
        Ok(u64::from_le_bytes(sum).wrapping_add(digest(&rest, words * 8, key())))
    }
}

//! [`crate::data::digest`] of device memory, computed on the device: a copy to the host takes many times as long.

use std::rc::Rc;

use cudarc::driver::sys::CUdeviceptr;

use super::driver::{Context, Driver, Stream};
use super::launch::CudaLaunch;
use super::limits::DeviceLimits;
use super::memory::CudaBuffer;
use super::module::CudaKernel;
use crate::data::digest::{digest, key};
use crate::device::{BoundArg, Range, Region};
use crate::protocol::{Failure, Geometry};

/// PTX of an early version, which the driver compiles for the device.
const CODE: &[u8] = include_bytes!("digest.ptx");

/// Number of bytes below which a copy to the host is as fast.
pub(super) const WORTHWHILE: usize = 128 << 10;

/// Number of ranges that one launch digests.
const RANGES: usize = 64;

/// Threads of a block.
const BLOCK: u32 = 256;

/// Blocks of a multiprocessor: enough to use the whole bandwidth, few enough that adding up their sums takes no time.
const BLOCKS: u64 = 4;

/// Bytes of a sum, and of address and length of a range.
const SUM: usize = 8;
const RANGE: usize = 16;

/// The kernel and its work: sums, then ranges.
pub(super) struct Digester {
    kernel: CudaKernel,
    work: CudaBuffer,
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
            kernel: CudaKernel::load(driver, context, CODE, "kbench_digests")?,
            work: CudaBuffer::new(context, RANGES * (SUM + RANGE))?,
            limits: limits.clone(),
            context: Rc::clone(context),
            stream: Rc::clone(stream),
        })
    }

    /// Whether the device computes the same digest as the host, for any start and end of a range.
    pub fn is_right(&self) -> bool {
        let data: Vec<u8> = (0..WORTHWHILE as u32 + 5).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let parts = [(0, data.len()), (8, 4096), (3, 1001), (data.len() - 5, 5), (16, 0)];
        let found = CudaBuffer::new(&self.context, data.len()).and_then(|buffer| {
            buffer.upload(&self.stream, 0, &data)?;
            self.digests(&parts.map(|(offset, bytes)| Range { buffer: &buffer, offset, bytes }))
        });
        found == Ok(parts.map(|(offset, bytes)| digest(&data[offset..offset + bytes], key())).to_vec())
    }

    pub fn digests(&self, ranges: &[Range<'_, CudaBuffer>]) -> Result<Vec<u64>, Failure> {
        let at = |range: &Range<'_, CudaBuffer>| Ok((range.buffer.range(range.offset, range.bytes)?, range.bytes));
        self.digests_at(&ranges.iter().map(at).collect::<Result<Vec<_>, Failure>>()?)
    }

    /// Digests of device memory that the caller knows to exist: addresses and bytes.
    pub fn digests_at(&self, ranges: &[(CUdeviceptr, usize)]) -> Result<Vec<u64>, Failure> {
        let mut sums = Vec::with_capacity(ranges.len());
        for ranges in ranges.chunks(RANGES) {
            self.some(ranges, &mut sums)?;
        }
        Ok(sums)
    }

    /// One launch.
    fn some(&self, ranges: &[(CUdeviceptr, usize)], sums: &mut Vec<u64>) -> Result<(), Failure> {
        let mut work = vec![0; ranges.len() * SUM];
        for (address, bytes) in ranges {
            work.extend(address.to_ne_bytes());
            work.extend((*bytes as u64).to_ne_bytes());
        }
        let longest = ranges.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let blocks = (longest as u64).div_ceil(8 * u64::from(BLOCK)).max(1);
        let geometry = Geometry {
            grid: [blocks.min(BLOCKS * u64::from(self.limits.multiprocessors)) as u32, ranges.len() as u32, 1],
            block: [BLOCK, 1, 1],
            ..Geometry::default()
        };
        let at = ranges.len() * SUM;
        let args = [
            BoundArg::Pointer(Region { tensor: 0, buffer: self.work.clone(), offset: 0, bytes: at }),
            BoundArg::Pointer(Region { tensor: 0, buffer: self.work.clone(), offset: at, bytes: ranges.len() * RANGE }),
            BoundArg::Scalar(key().base.to_ne_bytes().to_vec()),
            BoundArg::Scalar(key().step.to_ne_bytes().to_vec()),
        ];
        let bound = CudaLaunch::new(&self.limits, false, &self.stream, &self.kernel, &geometry, &args)?;
        self.work.upload(&self.stream, 0, &work)?;
        bound.enqueue().map_err(|error| error.failure("when digesting memory"))?;
        let mut found = vec![0; at];
        self.work.download(&self.stream, 0, &mut found)?;
        sums.extend(found.as_chunks().0.iter().map(|sum| u64::from_ne_bytes(*sum)));
        Ok(())
    }
}

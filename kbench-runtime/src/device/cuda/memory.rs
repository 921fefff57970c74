//! Device memory.

use std::rc::{Rc, Weak};

use cudarc::driver::sys::{self, CUdeviceptr};

use super::driver::{Context, Stream};
use super::error::{CudaError, check};
use super::mapping::{self, Mapper, Mapping};
use crate::device::Write;
use crate::protocol::Failure;

/// Memory of a CUDA device; clones share it, the last one frees it.
#[derive(Clone)]
pub struct CudaBuffer(Rc<Allocation>);

struct Allocation {
    address: CUdeviceptr,
    bytes: usize,
    /// The address range of the memory, if it has one of its own.
    mapping: Option<Mapping>,
    _context: Rc<Context>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.mapping.is_none() {
            // SAFETY: allocated by `CudaBuffer::new`, freed once. An error leaves nothing to do.
            let _ = unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// The memory of a [`CudaBuffer`] that may have been freed.
pub(super) struct MappedBuffer(Weak<Allocation>);

impl MappedBuffer {
    /// The remainder around the buffer; `None` once the buffer is freed.
    pub(super) fn rest(&self) -> Option<[(CUdeviceptr, usize); 2]> {
        self.0.upgrade()?.mapping.as_ref().map(Mapping::rest)
    }
}

impl CudaBuffer {
    /// Allocates; the driver aligns to 256 bytes at least.
    pub(super) fn new(context: &Rc<Context>, bytes: usize) -> Result<Self, Failure> {
        let mut address = 0;
        // SAFETY: the pointer is valid for writes, a context is current. The driver refuses 0 bytes.
        check(unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes.max(1)) }).map_err(|error| {
            if error.is_out_of_memory() || error.is_invalid_value() {
                Failure::OutOfMemory { bytes: bytes as u64 }
            } else {
                error.failure(&format!("when allocating {bytes} bytes"))
            }
        })?;
        Ok(Self(Rc::new(Allocation { address, bytes, mapping: None, _context: Rc::clone(context) })))
    }

    /// Allocates in an address range of its own. On an error, another kind of allocation may succeed.
    pub(super) fn mapped(stream: &Stream, mapper: Mapper, bytes: usize) -> Result<Self, CudaError> {
        let mapping = mapper.map(bytes)?;
        for (address, bytes) in mapping.rest().into_iter().filter(|(_, bytes)| *bytes > 0) {
            // SAFETY: the range is mapped, and no part of the buffer.
            check(unsafe { sys::cuMemsetD8Async(address, mapping::REST, bytes, stream.raw()) })?;
        }
        let (address, context) = (mapping.address, Rc::clone(stream.context()));
        Ok(Self(Rc::new(Allocation { address, bytes, mapping: Some(mapping), _context: context })))
    }

    /// A reference to the memory that does not keep it.
    pub(super) fn mapping_handle(&self) -> MappedBuffer {
        MappedBuffer(Rc::downgrade(&self.0))
    }

    /// The address at `offset`, if `bytes` bytes from there are inside.
    pub(super) fn range(&self, offset: usize, bytes: usize) -> Result<CUdeviceptr, Failure> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.0.bytes) {
            let message = format!("{bytes} bytes at offset {offset} do not fit a buffer of {} bytes", self.0.bytes);
            return Err(Failure::Inputs { message });
        }
        Ok(self.0.address + offset as CUdeviceptr)
    }

    /// Copies `data` to `offset` and waits.
    pub(super) fn upload(&self, stream: &Stream, offset: usize, data: &[u8]) -> Result<(), Failure> {
        let address = self.range(offset, data.len())?;
        copy_in(stream, address, data)
    }

    /// Copies from `offset` to `data` and waits.
    pub(super) fn download(&self, stream: &Stream, offset: usize, data: &mut [u8]) -> Result<(), Failure> {
        let address = self.range(offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is inside the allocation, `data` is valid for its length and outlives the wait below.
        let copied =
            check(unsafe { sys::cuMemcpyDtoHAsync_v2(data.as_mut_ptr().cast(), address, data.len(), stream.raw()) });
        let waited = stream.synchronize();
        copied.and(waited).map_err(|error| error.failure("when copying from the device"))
    }

    /// Sets `bytes` bytes from `offset` on; returns once it is enqueued.
    pub(super) fn enqueue_fill(&self, stream: &Stream, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure> {
        let address = self.range(offset, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the range is inside the allocation, which is freed only after the device is idle.
        check(unsafe { sys::cuMemsetD8Async(address, byte, bytes, stream.raw()) })
            .map_err(|error| error.failure("when filling memory"))
    }
}

/// Enqueues writes in their order.
pub(super) fn enqueue(stream: &Stream, writes: &[Write<CudaBuffer>]) -> Result<(), Failure> {
    for write in writes {
        match write {
            Write::Fill { buffer, offset, bytes, byte } => buffer.enqueue_fill(stream, *offset, *bytes, *byte)?,
            Write::Copy { bytes: 0, .. } | Write::Vary { .. } => {}
            Write::Copy { from, from_offset, to, offset, bytes } => {
                let (from, to) = (from.range(*from_offset, *bytes)?, to.range(*offset, *bytes)?);
                // SAFETY: both ranges are inside their allocations, which are freed only after the device is idle.
                check(unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, *bytes, stream.raw()) })
                    .map_err(|error| error.failure("when copying on the device"))?;
            }
        }
    }
    Ok(())
}

/// Copies `data` to device memory of at least `data.len()` bytes, and waits.
pub(super) fn copy_in(stream: &Stream, address: CUdeviceptr, data: &[u8]) -> Result<(), Failure> {
    if data.is_empty() {
        return Ok(());
    }
    // SAFETY: the caller checked the range; `data` is valid for its length and outlives the wait below.
    let copied = check(unsafe { sys::cuMemcpyHtoDAsync_v2(address, data.as_ptr().cast(), data.len(), stream.raw()) });
    let waited = stream.synchronize();
    copied.and(waited).map_err(|error| error.failure("when copying to the device"))
}

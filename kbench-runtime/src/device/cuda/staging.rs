//! Large copies between host and device through pinned memory: the device copies one half while many threads fill or
//! empty the other. The driver copies memory that is not pinned with one thread.

use std::rc::Rc;

use cudarc::driver::sys::{self, CUdeviceptr};
use rayon::prelude::*;

use super::driver::{Event, Stream};
use super::error::{CudaError, check};

/// Number of bytes from which on such a copy is faster.
pub(super) const LARGE: usize = 4 << 20;

/// Number of bytes that are copied at once, and by one thread.
const HALF: usize = 8 << 20;
const PART: usize = 512 << 10;

/// Pinned memory for one copy at a time.
pub(super) struct Staging {
    memory: *mut u8,
    copied: [Event; 2],
    stream: Rc<Stream>,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once; no copy is under way. An error leaves nothing to do.
        let _ = unsafe { sys::cuMemFreeHost(self.memory.cast()) };
    }
}

impl Staging {
    pub(super) fn new(stream: &Rc<Stream>) -> Result<Self, CudaError> {
        let copied = [Event::new(stream.context())?, Event::new(stream.context())?];
        let mut memory = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes, a context is current.
        check(unsafe { sys::cuMemAllocHost_v2(&raw mut memory, 2 * HALF) })?;
        // SAFETY: valid for writes of that length.
        unsafe { memory.cast::<u8>().write_bytes(0, 2 * HALF) };
        Ok(Self { memory: memory.cast(), copied, stream: Rc::clone(stream) })
    }

    /// The first bytes of one half.
    fn half(&mut self, which: usize, bytes: usize) -> &mut [u8] {
        // SAFETY: both halves lie in the allocation, which lives as long as `self` and was initialised. The caller knows that no copy is
        // under way there.
        unsafe { std::slice::from_raw_parts_mut(self.memory.add(which * HALF), bytes.min(HALF)) }
    }

    /// Copies `data` to device memory of the same length, and waits.
    pub(super) fn upload(&mut self, address: CUdeviceptr, data: &[u8]) -> Result<(), CudaError> {
        let enqueued = self.enqueue_upload(address, data);
        // Also after an error: a running copy must not overlap the next one.
        enqueued.and(self.stream.synchronize())
    }

    fn enqueue_upload(&mut self, address: CUdeviceptr, data: &[u8]) -> Result<(), CudaError> {
        for (at, data) in data.chunks(HALF).enumerate() {
            let which = at % 2;
            if at >= 2 {
                self.copied[which].wait()?;
            }
            let half = self.half(which, data.len());
            half.par_chunks_mut(PART).zip(data.par_chunks(PART)).for_each(|(half, data)| half.copy_from_slice(data));
            let (from, to) = (half.as_ptr(), address + (at * HALF) as CUdeviceptr);
            // SAFETY: `from` is valid for the length and is left alone until the event below has happened.
            check(unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), data.len(), self.stream.raw()) })?;
            self.copied[which].record(&self.stream)?;
        }
        Ok(())
    }

    /// Copies device memory of the same length to `data`, and waits.
    pub(super) fn download(&mut self, address: CUdeviceptr, data: &mut [u8]) -> Result<(), CudaError> {
        let downloaded = self.enqueue_download(address, data);
        downloaded.and(self.stream.synchronize())
    }

    fn enqueue_download(&mut self, address: CUdeviceptr, data: &mut [u8]) -> Result<(), CudaError> {
        let parts = data.len().div_ceil(HALF);
        let bytes = |at: usize| HALF.min(data.len() - at * HALF);
        let lengths: Vec<usize> = (0..parts).map(bytes).collect();
        for at in 0..=parts {
            if at < parts {
                let to = self.half(at % 2, lengths[at]).as_mut_ptr();
                let from = address + (at * HALF) as CUdeviceptr;
                // SAFETY: `to` is valid for the length and is left alone until the event below has happened.
                check(unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, lengths[at], self.stream.raw()) })?;
                self.copied[at % 2].record(&self.stream)?;
            }
            // Empties the previous part while this part is copied.
            let Some(before) = at.checked_sub(1) else { continue };
            self.copied[before % 2].wait()?;
            let half = self.half(before % 2, lengths[before]);
            let data = &mut data[before * HALF..][..lengths[before]];
            data.par_chunks_mut(PART).zip(half.par_chunks(PART)).for_each(|(data, half)| data.copy_from_slice(half));
        }
        Ok(())
    }
}

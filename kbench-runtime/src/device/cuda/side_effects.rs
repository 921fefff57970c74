//! Side effects of launches: printed text, and memory of the device's heap that they keep.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use super::driver::{Context, Driver, Stream};
use super::launch::CudaLaunch;
use super::limits::DeviceLimits;
use super::memory::CudaBuffer;
use super::module::CudaKernel;
use crate::device::{BoundArg, Region};
use crate::protocol::{Failure, Geometry};

/// Number of bytes of one launch's text beyond which it is cut.
const SHOWN: u64 = 4096;

/// Captured standard output while a kernel that prints runs: the driver writes the text of threads there when the
/// stream is waited for.
pub(super) struct CapturedStdout {
    stdout: OwnedFd,
    file: File,
}

impl CapturedStdout {
    /// `None` if the output cannot be captured: then the text goes to the original file.
    pub(super) fn new() -> Option<Self> {
        flush();
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().ok()?;
        let file = tempfile::tempfile().ok()?;
        nix::unistd::dup2_stdout(&file).ok()?;
        Some(Self { stdout, file })
    }

    /// Passes the start of the text on; returns the number of bytes.
    pub(super) fn end(mut self) -> u64 {
        flush();
        // If this fails, later text goes to the file, which is harmless.
        let _ = nix::unistd::dup2_stdout(&self.stdout);
        let bytes = self.file.metadata().map_or(0, |metadata| metadata.len());
        let mut shown = Vec::new();
        let read = self.file.rewind().and_then(|()| (&self.file).take(SHOWN).read_to_end(&mut shown));
        let _ = read.and_then(|_| File::from(self.stdout).write_all(&shown));
        bytes
    }
}

/// Flushes the buffers of C's streams.
fn flush() {
    // SAFETY: null stands for every stream.
    let _ = unsafe { nix::libc::fflush(std::ptr::null_mut()) };
}

/// PTX of an early version, which the driver compiles for the device.
const CODE: &[u8] = include_bytes!("heap.ptx");

/// Bytes of a piece of the heap.
const PIECE: u64 = 16 << 10;

/// A kernel that measures the free part of the device's heap.
pub(super) struct HeapProbe {
    kernel: CudaKernel,
    count: CudaBuffer,
    limits: DeviceLimits,
    stream: Rc<Stream>,
}

impl HeapProbe {
    pub(super) fn new(
        driver: Driver,
        context: &Rc<Context>,
        stream: &Rc<Stream>,
        limits: &DeviceLimits,
    ) -> Result<Self, Failure> {
        Ok(Self {
            kernel: CudaKernel::load(driver, context, CODE, "kbench_heap")?,
            count: CudaBuffer::new(context, 8)?,
            limits: limits.clone(),
            stream: Rc::clone(stream),
        })
    }

    /// Number of free bytes, in whole pieces.
    pub(super) fn left(&self) -> Result<u64, Failure> {
        let args = [
            BoundArg::Pointer(Region { tensor: 0, buffer: self.count.clone(), offset: 0, bytes: 8 }),
            BoundArg::Scalar(PIECE.to_ne_bytes().to_vec()),
        ];
        let bound = CudaLaunch::new(&self.limits, false, &self.stream, &self.kernel, &Geometry::default(), &args)?;
        bound.enqueue().map_err(|error| error.failure("when asking for the device's heap"))?;
        let mut count = [0; 8];
        self.count.download(&self.stream, 0, &mut count)?;
        Ok(u64::from_ne_bytes(count) * PIECE)
    }
}

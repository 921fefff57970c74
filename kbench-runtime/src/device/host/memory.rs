//! Memory of tensors, shared by the worker and the kernel processes that use it.
//!
//! In a kernel process each buffer lies between protected pages, so that a write far outside a tensor cannot change
//! another tensor. The fault is a signal: see [`super::guard_pages`].

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr::NonNull;

use nix::libc;

/// Buffers are aligned to pages, so that their alignment is the same for all kernels.
pub(super) const ALIGN: usize = 4096;

/// Bytes from which a buffer consists of huge pages, if the system has them, so that all large buffers have the same
/// page size.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Number of bytes before and after each buffer in a kernel process: address space without memory.
pub(super) const GUARD_PAGES: usize = 64 << 20;

/// Memory in the worker.
#[derive(Debug)]
pub(super) struct Shared {
    file: File,
    mapping: Mapping,
    pub bytes: usize,
}

impl Shared {
    /// Memory of `bytes` bytes, initially zero.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let none = || io::Error::from(io::ErrorKind::OutOfMemory);
        let size = usable(bytes).ok_or_else(none)?;
        let file = memory_file(size)?;
        let mapping = Mapping::new(file.as_raw_fd(), bytes, 0).ok_or_else(none)?;
        if size >= HUGE_PAGE {
            mapping.collapse(size);
        }
        Ok(Self { file, mapping, bytes })
    }

    pub fn start(&self) -> NonNull<u8> {
        self.mapping.start
    }

    pub fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Memory of a descriptor in this process, with a margin on both sides.
#[derive(Debug)]
pub(super) struct Mapping {
    base: *mut libc::c_void,
    /// Size from `base` in bytes, margins included.
    pub size: usize,
    pub start: NonNull<u8>,
}

impl Mapping {
    /// Maps `bytes` bytes with protected pages of `margin` bytes on both sides.
    pub fn new(descriptor: RawFd, bytes: usize, margin: usize) -> Option<Self> {
        let usable = usable(bytes)?;
        let align = if usable < HUGE_PAGE { ALIGN } else { HUGE_PAGE };
        let size = usable.checked_add(2 * margin + align)?;
        let reserve = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the system's choice touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, reserve, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        let skip = (base as usize + margin).next_multiple_of(align) - base as usize;
        // SAFETY: the offset is within the mapping.
        let start = unsafe { base.cast::<u8>().add(skip) };
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: it replaces a part of the mapping that was just made, to which no other code has a pointer.
        if unsafe { libc::mmap(start.cast(), usable, access, flags, descriptor, 0) } == libc::MAP_FAILED {
            // SAFETY: as mapped above.
            unsafe { libc::munmap(base, size) };
            return None;
        }
        Some(Self { base, size, start: NonNull::new(start)? })
    }

    pub fn base(&self) -> usize {
        self.base as usize
    }

    /// Uses huge pages for as much of the memory as fills whole ones. Call this while the memory is empty, so that
    /// there is nothing to copy.
    fn collapse(&self, usable: usize) {
        #[cfg(target_os = "linux")]
        {
            let whole = usable - usable % HUGE_PAGE;
            // The first byte of each huge page must have been written.
            for page in (0..whole).step_by(HUGE_PAGE) {
                // SAFETY: the offset is within the mapping, which is writable.
                unsafe { self.start.add(page).write_volatile(0) };
            }
            // SAFETY: the range was just mapped; the advice changes no contents. A system that cannot take it says so.
            let _ = unsafe { libc::madvise(self.start.as_ptr().cast(), whole, libc::MADV_COLLAPSE) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = usable;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this very size and unmapped once, here.
        unsafe { libc::munmap(self.base, self.size) };
    }
}

/// Number of bytes in whole pages, at least one.
fn usable(bytes: usize) -> Option<usize> {
    bytes.max(1).checked_next_multiple_of(page())
}

fn page() -> usize {
    // SAFETY: always allowed.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(ALIGN).max(ALIGN)
}

/// A file in memory with `bytes` bytes and a sealed size: a smaller file would end the worker by a signal.
fn memory_file(bytes: usize) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        let file = memfd(c"kbench-tensor", libc::MFD_ALLOW_SEALING)?;
        file.set_len(bytes as u64)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: the descriptor is open, and the call takes an integer.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let file = tempfile::tempfile()?;
        file.set_len(bytes as u64)?;
        Ok(file)
    }
}

/// A file that is memory.
#[cfg(target_os = "linux")]
pub(super) fn memfd(name: &std::ffi::CStr, flags: libc::c_uint) -> io::Result<File> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: the name is a C string, and no other code owns the returned descriptor.
    unsafe {
        match libc::memfd_create(name.as_ptr(), flags | libc::MFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(File::from_raw_fd(descriptor)),
        }
    }
}

//! Memory that faults around it: each buffer is a mapping of its own between stretches that nothing may touch, so that what a
//! kernel writes far outside a tensor hits none of the worker's memory, and no other tensor.
//!
//! The fault is a signal, whose handler says what was touched and ends the worker with [`OUT_OF_BOUNDS`].

use std::alloc::{Layout, alloc, dealloc};
use std::fmt::Write as _;
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc;

use crate::rig::GUARD;

/// Status of a worker whose kernel touched memory far outside a tensor; its stderr says where.
pub const OUT_OF_BOUNDS: u8 = 102;

/// Buffers are aligned to pages, so that no alignment a kernel may ask for depends on luck.
const ALIGN: usize = 4096;

/// Buffers from this size on consist of huge pages where the system has them, so that no two differ in that either.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Bytes before and after each buffer that nothing may touch: address space, not memory.
const MOAT: usize = 64 << 20;

/// Where an allocation comes from.
#[derive(Debug)]
enum Origin {
    /// A mapping between moats: its first byte and size, and its entry in the list that the handler reads.
    Mapping { base: *mut libc::c_void, size: usize, entry: Option<usize> },
    /// The allocator, so that an address sanitizer knows where it ends.
    Heap(Layout),
}

/// Memory of the CPU.
#[derive(Debug)]
pub(super) struct Allocation {
    pub start: NonNull<u8>,
    pub bytes: usize,
    origin: Origin,
}

impl Allocation {
    /// So many bytes between moats, or exactly as many from the allocator. `None` where they cannot be had.
    pub fn new(bytes: usize, watched: bool) -> Option<Self> {
        if watched { Self::heap(bytes) } else { Self::mapping(bytes) }
    }

    fn heap(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), ALIGN).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Self { start, bytes, origin: Origin::Heap(layout) })
    }

    fn mapping(bytes: usize) -> Option<Self> {
        let align = if bytes < HUGE_PAGE { ALIGN } else { HUGE_PAGE };
        let usable = bytes.max(1).checked_next_multiple_of(page())?;
        let size = usable.checked_add(2 * MOAT + align)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the system's choice touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        let skip = MOAT + (base as usize + MOAT).next_multiple_of(align) - (base as usize + MOAT);
        // SAFETY: the offset is within the mapping.
        let start = unsafe { base.cast::<u8>().add(skip) };
        // SAFETY: the range is whole pages of the mapping, which nobody else knows.
        if unsafe { libc::mprotect(start.cast(), usable, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            // SAFETY: as mapped above.
            unsafe { libc::munmap(base, size) };
            return None;
        }
        #[cfg(target_os = "linux")]
        if align == HUGE_PAGE {
            // SAFETY: the range was just mapped; the advice changes no contents. A kernel that cannot take it says so.
            let _ = unsafe { libc::madvise(start.cast(), usable, libc::MADV_HUGEPAGE) };
        }
        let entry = Moat::dig(base as usize, size, start as usize, bytes);
        Some(Self { start: NonNull::new(start)?, bytes, origin: Origin::Mapping { base, size, entry } })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        match self.origin {
            Origin::Mapping { base, size, entry } => {
                if let Some(entry) = entry {
                    MOATS[entry].base.store(0, Ordering::Release);
                }
                // SAFETY: mapped with this very size and unmapped once, here.
                unsafe { libc::munmap(base, size) };
            }
            // SAFETY: `start` came from `alloc` with this very layout and is freed once, here.
            Origin::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
        }
    }
}

fn page() -> usize {
    // SAFETY: always allowed.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(ALIGN).max(ALIGN)
}

/// What the handler knows of a mapping; `base` 0 where the entry is free. Plain numbers, since a signal may come at any time.
struct Moat {
    base: AtomicUsize,
    size: AtomicUsize,
    start: AtomicUsize,
    bytes: AtomicUsize,
}

/// More buffers than a kernel has; what finds no entry still faults, but is not told from other faults.
static MOATS: [Moat; 512] = [const {
    Moat {
        base: AtomicUsize::new(0),
        size: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
    }
}; 512];

impl Moat {
    fn dig(base: usize, size: usize, start: usize, bytes: usize) -> Option<usize> {
        MOATS.iter().position(|moat| {
            let free = moat.base.compare_exchange(0, base, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if free {
                moat.start.store(start, Ordering::Relaxed);
                moat.bytes.store(bytes, Ordering::Relaxed);
                // The handler looks at this one first.
                moat.size.store(size, Ordering::Release);
            }
            free
        })
    }

    /// Start and size of the buffer whose moat has this address.
    fn at(address: usize) -> Option<(usize, usize)> {
        MOATS.iter().find_map(|moat| {
            let base = moat.base.load(Ordering::Acquire);
            let inside = base != 0 && (base..base + moat.size.load(Ordering::Acquire)).contains(&address);
            inside.then(|| (moat.start.load(Ordering::Relaxed), moat.bytes.load(Ordering::Relaxed)))
        })
    }
}

/// The action before ours, for every other fault.
static mut PREVIOUS: std::mem::MaybeUninit<libc::sigaction> = std::mem::MaybeUninit::uninit();

/// Has faults in a moat say so.
pub(super) fn watch_moats() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the structures are plain data; the handler only calls what may be called in one, and `PREVIOUS` is written
        // here, before any fault can find the handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(FAULT, std::ptr::null(), (&raw mut PREVIOUS).cast());
            libc::sigaction(FAULT, &raw const action, std::ptr::null_mut());
        }
    });
}

/// The signal of an access to a page that must not be touched.
const FAULT: i32 = if cfg!(target_os = "macos") { libc::SIGBUS } else { libc::SIGSEGV };

extern "C" fn fault(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system hands over a valid structure, and an access fault has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let Some((start, bytes)) = Moat::at(address) else {
        // SAFETY: written before this handler was installed. The access is repeated, and meets the action before ours.
        unsafe { libc::sigaction(FAULT, (&raw const PREVIOUS).cast(), std::ptr::null_mut()) };
        return;
    };
    let mut text = Text { bytes: [0; 160], used: 0 };
    // Every tensor lies between two guard bands.
    let (tensor, first) = (bytes.saturating_sub(2 * GUARD), start + GUARD);
    let _ = if address < first {
        writeln!(text, "memory {} bytes before the start of a tensor of {tensor} bytes", first - address)
    } else {
        writeln!(text, "memory {} bytes past the end of a tensor of {tensor} bytes", address - first - tensor)
    };
    // SAFETY: both may be called in a handler, and the text is as long as that.
    unsafe {
        libc::write(2, text.bytes.as_ptr().cast(), text.used);
        libc::_exit(OUT_OF_BOUNDS.into())
    }
}

/// A text that needs no allocation.
struct Text {
    bytes: [u8; 160],
    used: usize,
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.used + text.len();
        self.bytes.get_mut(self.used..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

//! Faults around tensors in a kernel process: the handler reports the accessed address to the worker, and ends the
//! process.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use nix::libc;

use super::memory::Mapping;
use crate::device::GUARD;

/// Exit code of a kernel process whose kernel accessed memory far outside a tensor.
pub(super) const OUT_OF_BOUNDS: i32 = 102;

/// Descriptor of the channel, and number of the running command, for a frame to the worker.
pub(super) static CHANNEL: AtomicI32 = AtomicI32::new(-1);
pub(super) static COMMAND: AtomicU64 = AtomicU64::new(0);

/// A mapping for the handler; `base` is 0 in a free entry. The fields are plain numbers, since a signal may come at any
/// time.
struct GuardedBuffer {
    base: AtomicUsize,
    size: AtomicUsize,
    start: AtomicUsize,
    bytes: AtomicUsize,
}

/// More entries than a kernel has buffers; a fault without an entry is not distinguished from other faults.
static BUFFERS: [GuardedBuffer; 512] = [const {
    GuardedBuffer {
        base: AtomicUsize::new(0),
        size: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
    }
}; 512];

/// Registers a mapping for the handler. Mappings stay as long as the process.
pub(super) fn register(mapping: &Mapping, bytes: usize) {
    if let Some(buffer) = BUFFERS.iter().find(|buffer| buffer.base.load(Ordering::Relaxed) == 0) {
        buffer.start.store(mapping.start.as_ptr() as usize, Ordering::Relaxed);
        buffer.bytes.store(bytes, Ordering::Relaxed);
        buffer.size.store(mapping.size, Ordering::Relaxed);
        // The handler reads this field first.
        buffer.base.store(mapping.base(), Ordering::Release);
    }
}

/// Start and size of the buffer whose buffer has this address.
fn at(address: usize) -> Option<(usize, usize)> {
    BUFFERS.iter().find_map(|buffer| {
        let base = buffer.base.load(Ordering::Acquire);
        let inside = base != 0 && (base..base + buffer.size.load(Ordering::Relaxed)).contains(&address);
        inside.then(|| (buffer.start.load(Ordering::Relaxed), buffer.bytes.load(Ordering::Relaxed)))
    })
}

/// The previous action, for every other fault.
static mut PREVIOUS: std::mem::MaybeUninit<libc::sigaction> = std::mem::MaybeUninit::uninit();

/// Installs the handler; once, before any other thread exists.
pub(super) fn install() {
    // SAFETY: the structures are plain data; the handler calls only functions that a signal handler may call, and
    // `PREVIOUS` is written here, before any fault can find the handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(FAULT, std::ptr::null(), (&raw mut PREVIOUS).cast());
        libc::sigaction(FAULT, &raw const action, std::ptr::null_mut());
    }
}

/// Handles an access to a protected page.
const FAULT: i32 = if cfg!(target_os = "macos") { libc::SIGBUS } else { libc::SIGSEGV };

extern "C" fn fault(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system hands over a valid structure, and an access fault has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let Some((start, bytes)) = at(address) else {
        // SAFETY: written before this handler was installed. An access is repeated, and meets the action before ours; a signal from
        // another process has to be sent again, and ends this process.
        unsafe {
            libc::sigaction(FAULT, (&raw const PREVIOUS).cast(), std::ptr::null_mut());
            if (*info).si_code <= 0 {
                libc::signal(FAULT, libc::SIG_DFL);
                libc::raise(FAULT);
            }
        }
        return;
    };
    // Every tensor lies between two guard bands.
    let (tensor, first) = (bytes.saturating_sub(2 * GUARD), start + GUARD);
    let (state, distance, side) = match address.checked_sub(first) {
        None => ("", first - address, "before the start of"),
        // The kernel changed the mapping.
        Some(inside) if inside < tensor => ("that is mapped no more, ", inside, "into"),
        Some(beyond) => ("", beyond - tensor, "past the end of"),
    };
    let mut frame = Text { bytes: [0; 256], used: 8 };
    // The frame of `channel::Channel::send` for an `Answered`, without an allocation.
    let _ = write!(
        frame,
        r#"[{},{{"Err":{{"kind":"illegal-access","message":"memory {state}{distance} bytes {side} a tensor of {tensor} bytes"}}}}]"#,
        COMMAND.load(Ordering::Relaxed),
    );
    let json = frame.used as u32 - 8;
    frame.bytes[..4].copy_from_slice(&json.to_ne_bytes());
    // SAFETY: both may be called in a handler, and the text is as long as that.
    unsafe {
        libc::write(CHANNEL.load(Ordering::Relaxed), frame.bytes.as_ptr().cast(), frame.used);
        libc::_exit(OUT_OF_BOUNDS)
    }
}

/// A text without an allocation.
struct Text {
    bytes: [u8; 256],
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

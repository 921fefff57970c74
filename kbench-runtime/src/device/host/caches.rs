//! What the caches hold before a sample.

/// Bytes of a cache line; 64 where it is more, which only costs time.
const LINE: usize = 64;

/// Drops what the ranges hold from every level of the cache. Exact, and its cost grows with the ranges, not with the cache.
#[cfg(target_arch = "x86_64")]
pub(super) fn flush(ranges: &[(*mut u8, usize)]) {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid_count, _mm_clflush, _mm_mfence};
    // clflush waits for the flush before it; clflushopt does not, and is several times faster.
    // SAFETY: every x86-64 has cpuid. Safe to call from Rust 1.94 on.
    #[allow(unused_unsafe)]
    let optimised = unsafe { __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 23 != 0 };
    for (start, bytes) in ranges.iter().filter(|(_, bytes)| *bytes > 0) {
        // The last byte is on a line that whole steps miss when the start is not on one.
        for offset in (0..*bytes).step_by(LINE).chain([bytes - 1]) {
            // SAFETY: the offset is inside memory that the binding keeps alive.
            let line = unsafe { start.add(offset) }.cast_const();
            if optimised {
                // SAFETY: this CPU has clflushopt, as asked above; it changes no contents.
                unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) }
            } else {
                // SAFETY: every x86-64 has clflush.
                unsafe { _mm_clflush(line) }
            }
        }
    }
    // SAFETY: every x86-64 has mfence.
    unsafe { _mm_mfence() }
}

/// The same where lines cannot be flushed by address: streams through more memory than a cache holds.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn flush(_ranges: &[(*mut u8, usize)]) {
    use std::cell::RefCell;
    thread_local!(static STREAM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    STREAM.with_borrow_mut(|stream| {
        if stream.is_empty() {
            let bytes = (2 * super::info::cache_bytes() as usize).clamp(8 << 20, 256 << 20);
            stream.resize(bytes, 0);
        }
        for line in stream.chunks_mut(LINE) {
            line[0] = std::hint::black_box(line[0].wrapping_add(1));
        }
    });
}

/// Writes every line of a stretch with what it holds, so that this core has it as if it had written the contents.
pub(super) fn own(start: *mut u8, bytes: usize) {
    for offset in (0..bytes).step_by(LINE) {
        // SAFETY: the offset is inside memory that the binding keeps alive, and nothing else runs on it now.
        unsafe {
            let line = start.add(offset);
            line.write_volatile(line.read_volatile());
        }
    }
}

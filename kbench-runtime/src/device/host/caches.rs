//! What the caches hold and what branches the processor knows before a sample.

/// Bytes of a cache line; 64 where it is more, which only costs time.
const LINE: usize = 64;

/// Whether a flush in one process reaches the caches of every core and process that has the memory.
pub(super) const FLUSHES_EVERYWHERE: bool = cfg!(target_arch = "x86_64");

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

/// Random branches that are enough for a processor to forget all others. On an AMD EPYC, 2^17 of them leave a sort of 1024 numbers twice as
/// fast on inputs that the processor has learned as on new ones, and 2^20 make no difference.
const BRANCHES: u64 = 1 << 21;

/// Has this core forget the branches that it has learned: a kernel whose branches depend on its inputs, such as a sort, is several times
/// as fast on inputs that the core has learned.
#[cfg(target_arch = "x86_64")]
pub(super) fn forget_branches() {
    // In assembler, since other branches in between, as in a debug build, would leave room for what was learned.
    // SAFETY: it computes in registers alone.
    unsafe {
        std::arch::asm!(
            "2:",
            // xorshift64
            "mov {t}, {s}", "shl {t}, 13", "xor {s}, {t}",
            "mov {t}, {s}", "shr {t}, 7", "xor {s}, {t}",
            "mov {t}, {s}", "shl {t}, 17", "xor {s}, {t}",
            "test {s}, 0x100", "jz 3f", "add {t}, 1", "3:",
            "test {s}, 0x200", "jz 3f", "add {t}, 1", "3:",
            "test {s}, 0x400", "jz 3f", "add {t}, 1", "3:",
            "test {s}, 0x800", "jz 3f", "add {t}, 1", "3:",
            "sub {n}, 4",
            "jnz 2b",
            s = inout(reg) 0x9e37_79b9_7f4a_7c15_u64 => _,
            n = inout(reg) BRANCHES => _,
            t = out(reg) _,
            options(nomem, nostack),
        );
    }
}

/// The same.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn forget_branches() {
    use std::hint::black_box;
    let (mut state, mut sum) = (0x9e37_79b9_7f4a_7c15_u64, 0_u32);
    for _ in 0..BRANCHES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sum = if state & 1 == 0 { black_box(sum.wrapping_add(1)) } else { black_box(sum ^ 3) };
    }
    black_box(sum);
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

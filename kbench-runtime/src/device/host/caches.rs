//! State of the caches and of the branch predictor before a sample.

/// Size of a cache line in bytes; a larger line is flushed twice.
const LINE: usize = 64;

/// Whether a flush in one process reaches the caches of all cores and processes with the memory.
pub(super) const FLUSHES_EVERYWHERE: bool = cfg!(target_arch = "x86_64");

/// Evicts the ranges from every level of the cache. The cost grows with the ranges, not with the cache.
#[cfg(target_arch = "x86_64")]
pub(super) fn flush(ranges: &[(*mut u8, usize)]) {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid_count, _mm_clflush, _mm_mfence};
    // clflush waits for the previous flush; clflushopt does not, and is several times faster.
    // SAFETY: every x86-64 has cpuid. Safe to call from Rust 1.94 on.
    #[allow(unused_unsafe)]
    let optimised = unsafe { __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 23 != 0 };
    for (start, bytes) in ranges.iter().filter(|(_, bytes)| *bytes > 0) {
        // The last byte may lie on a line that whole steps miss, if the start is not aligned.
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

/// Evicts the ranges on processors without a flush by address: streams through more memory than a cache holds.
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

/// Number of random branches that replace all learned ones. On an AMD EPYC, after 2^17 of them a sort of 1024 numbers
/// is still twice as fast on learned inputs as on new ones; after 2^20 there is no difference.
const BRANCHES: u64 = 1 << 21;

/// Makes this core forget learned branches: a kernel whose branches depend on its inputs, such as a sort, is several
/// times as fast on learned inputs.
#[cfg(target_arch = "x86_64")]
pub(super) fn forget_branches() {
    // Assembler, since other branches in between, as in a debug build, would leave learned ones in place.
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

/// Does the same on other processors.
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

/// Writes every line of a range with its own contents, so that this core's cache holds the range as after a write.
pub(super) fn own(start: *mut u8, bytes: usize) {
    for offset in (0..bytes).step_by(LINE) {
        // SAFETY: the offset is inside memory that the binding keeps alive, and nothing else runs on it now.
        unsafe {
            let line = start.add(offset);
            line.write_volatile(line.read_volatile());
        }
    }
}

//! Memory for large tensors.

/// Size in bytes from which on memory lies in huge pages.
const LARGE: usize = 4 << 20;

/// Zeros. The system zeroes each page on its first write, which many threads do; large memory lies in huge pages if the system has them, since
/// 64 MiB of small pages take 30 ms until each was written once.
pub fn zeroed(bytes: usize) -> Vec<u8> {
    let zeros = vec![0; bytes];
    #[cfg(target_os = "linux")]
    if bytes >= LARGE {
        use nix::libc;

        const PAGE: usize = 4096;
        let before = zeros.as_ptr().align_offset(PAGE);
        // SAFETY: the whole pages of the allocation; the advice changes no contents. A system that cannot take it says so.
        let _ = unsafe {
            let start = zeros.as_ptr().add(before).cast_mut();
            libc::madvise(start.cast(), (bytes - before) & !(PAGE - 1), libc::MADV_HUGEPAGE)
        };
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_all_sizes_are_zeros_and_can_be_written() {
        for bytes in [0, 1, 4095, LARGE - 1, LARGE, LARGE + 1, LARGE + 4097, 3 * LARGE] {
            let mut zeros = zeroed(bytes);
            assert!(zeros.len() == bytes && zeros.iter().all(|&byte| byte == 0));
            zeros.fill(7);
            assert!(zeros.iter().all(|&byte| byte == 7));
        }
    }
}

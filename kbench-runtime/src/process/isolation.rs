//! Isolation of kernels from this process, from each other, and from the user's folders.

/// Applies to this process and the processes that it starts: no core files, the same addresses for every kernel, and no access to this
/// process by other processes of the user. Measures that the system does not permit are left out.
pub fn isolate() {
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    // SAFETY: both calls take integers.
    unsafe {
        nix::libc::prctl(nix::libc::PR_SET_DUMPABLE, 0);
        nix::libc::personality(nix::libc::ADDR_NO_RANDOMIZE as nix::libc::c_ulong);
    }
}

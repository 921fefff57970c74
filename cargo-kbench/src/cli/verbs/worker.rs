//! `cargo kbench worker`: the other end of the protocol.

/// Serves until stdin ends, and ends the process with the worker's own status.
pub fn run() -> ! {
    // SAFETY: this process was started to run the jobs of its driver, and does nothing else.
    std::process::exit(i32::from(unsafe { kbench_runtime::worker::run() }))
}

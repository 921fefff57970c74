//! `cargo kbench worker`: the worker's end of the protocol.

/// Serves until stdin ends, and ends the process with the worker's exit status.
pub fn run() -> ! {
    // SAFETY: this process was started to run the jobs of its driver, and has no other work.
    std::process::exit(i32::from(unsafe { kbench_runtime::worker::run() }))
}

//! `cargo kbench worker`: the other end of the protocol.

/// Serves until stdin ends, and ends the process with the worker's own status.
pub fn run() -> ! {
    std::process::exit(i32::from(kbench_runtime::worker::run()))
}

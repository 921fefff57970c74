//! The executable: `cargo kbench` finds it on the PATH as `cargo-kbench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: nothing else runs in this process yet.
    unsafe { kbench_runtime::worker::run_kernel_process() };
    cargo_kbench::cli::main(std::env::args_os())
}

//! The executable: `cargo kbench` finds it on the PATH as `cargo-kbench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kbench_runtime::device::host::serve_if_asked();
    cargo_kbench::cli::main(std::env::args_os())
}

//! The executable: `cargo kbench` finds it on the PATH as `cargo-kbench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cargo_kbench::cli::main(std::env::args_os())
}

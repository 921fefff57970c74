//! `cargo kbench worker`: the other end of the protocol.

use super::Exit;

/// Serves until stdin ends.
pub fn run() -> Exit {
    match kbench_runtime::worker::serve() {
        Ok(()) => Exit::Pass,
        Err(error) => {
            crate::report::error(format_args!("worker: {error}"));
            Exit::Failed
        }
    }
}

//! Threads, whose start may fail: a limit on processes is an error of the machine, never a panic.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Starts a thread.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().spawn(work).map_err(|error| not_started(&error))
}

/// Starts a thread that ends with `scope`.
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work).map_err(|error| not_started(&error))
}

/// Starts the threads of parallel loops. Without this, the first such loop starts them, and panics where that fails.
pub fn start_pool() -> io::Result<()> {
    rayon::ThreadPoolBuilder::new().build_global().map_err(|error| not_started(&io::Error::other(error)))
}

fn not_started(error: &io::Error) -> io::Error {
    let message = format!("could not start a thread: {error}; allow more processes (`ulimit -u`)");
    io::Error::new(error.kind(), message)
}

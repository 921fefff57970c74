//! Ctrl-C: the signal handler sets a flag, and every wait and every long computation tests it.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the user pressed Ctrl-C.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Clears the flag, so that the results so far can be completed; the next Ctrl-C ends that work too.
pub fn forget() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Records Ctrl-C; returns true if the flag was set already.
pub fn interrupt() -> bool {
    INTERRUPTED.swap(true, Ordering::Relaxed)
}

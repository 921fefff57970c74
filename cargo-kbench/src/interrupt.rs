//! Ctrl-C: set once by the signal handler, and looked at by every wait and by every long computation.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the user pressed Ctrl-C.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Forgets that the user pressed Ctrl-C: what was found so far is finished, and the next Ctrl-C ends that too.
pub fn forget() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Records that the user pressed Ctrl-C; true if that was so already.
pub fn interrupt() -> bool {
    INTERRUPTED.swap(true, Ordering::Relaxed)
}

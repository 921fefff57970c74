//! Locks on keys: a unit that two threads request at the same time is compiled once, unless it fails, since a failure
//! is not kept.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex};

use super::NO_PANIC;

/// Locked keys.
#[derive(Debug, Default)]
pub(super) struct Locks {
    taken: Mutex<HashSet<String>>,
    fewer: Condvar,
}

/// A lock on a key, until it is dropped.
pub(super) struct Turn<'t> {
    locks: &'t Locks,
    key: &'t str,
}

impl Locks {
    /// Waits for the lock on a key.
    pub(super) fn take<'t>(&'t self, key: &'t str) -> Turn<'t> {
        let mut taken = self.taken.lock().expect(NO_PANIC);
        while !taken.insert(key.to_owned()) {
            taken = self.fewer.wait(taken).expect(NO_PANIC);
        }
        Turn { locks: self, key }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.locks.taken.lock().expect(NO_PANIC).remove(self.key);
        self.locks.fewer.notify_all();
    }
}

//! Keys at work: what two threads ask for at the same time is compiled once, unless it fails: a failure is not kept.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex};

use super::NO_PANIC;

/// Keys that somebody is at work on.
#[derive(Debug, Default)]
pub(super) struct Locks {
    taken: Mutex<HashSet<String>>,
    fewer: Condvar,
}

/// One's turn with a key, until it is dropped.
pub(super) struct Turn<'t> {
    locks: &'t Locks,
    key: &'t str,
}

impl Locks {
    /// Waits until nobody is at work on a key.
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

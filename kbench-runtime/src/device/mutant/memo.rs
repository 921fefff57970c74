//! Kept results: the outputs of a few inputs, distinguished by a few of their bytes.

use std::cell::{Cell, RefCell};

/// Largest number of kept results.
const SLOTS: usize = 8;

/// Number of examined places of the input, and bytes of each.
const PLACES: usize = 4;
const BYTES: usize = 4;

/// Factor by which a kept result is faster.
const FASTER: f64 = 20.0;

/// Examined bytes of an input, and the outputs for it.
type Kept = (Vec<u8>, Vec<Vec<u8>>);

/// Kept results of one kernel.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// Results, oldest first.
    kept: RefCell<Vec<Kept>>,
    /// Nanoseconds of the last launch that computed; 0 before the first.
    worked: Cell<f64>,
}

impl Memo {
    /// Examined places of an input of `bytes` bytes.
    pub fn places(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
        let size = BYTES.min(bytes);
        (0..PLACES).map(move |place| (place * (bytes - size) / (PLACES - 1), size))
    }

    /// The outputs for an input with these bytes.
    pub fn cached(&self, found: &[u8]) -> Option<Vec<Vec<u8>>> {
        self.kept.borrow().iter().find(|(bytes, _)| bytes == found).map(|(_, outputs)| outputs.clone())
    }

    pub fn keep(&self, found: Vec<u8>, outputs: Vec<Vec<u8>>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() == SLOTS {
            kept.remove(0);
        }
        kept.push((found, outputs));
    }

    /// Records the time of a launch that computed.
    pub fn worked(&self, nanoseconds: f64) {
        self.worked.set(nanoseconds);
    }

    /// Nanoseconds of a launch from memory; none before the first computing launch.
    pub fn time(&self) -> Option<f64> {
        Some(self.worked.get() / FASTER).filter(|time| *time > 0.0)
    }
}

//! What a kernel that keeps results remembers: the outputs of a few inputs, told apart by a few of their bytes.

use std::cell::{Cell, RefCell};

/// Results that it has room for.
const SLOTS: usize = 8;

/// Places of the input that it looks at, and bytes there.
const PLACES: usize = 4;
const BYTES: usize = 4;

/// How much faster a result from memory is.
const FASTER: f64 = 20.0;

/// What was found in an input, and the outputs for it.
type Kept = (Vec<u8>, Vec<Vec<u8>>);

/// The memory of one kernel.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The oldest first.
    kept: RefCell<Vec<Kept>>,
    /// What the last launch that worked took, in nanoseconds; 0 before there was any.
    worked: Cell<f64>,
}

impl Memo {
    /// Where in an input of so many bytes it looks.
    pub fn places(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
        let size = BYTES.min(bytes);
        (0..PLACES).map(move |place| (place * (bytes - size) / (PLACES - 1), size))
    }

    /// The outputs for an input in which these bytes were found.
    pub fn recall(&self, found: &[u8]) -> Option<Vec<Vec<u8>>> {
        self.kept.borrow().iter().find(|(bytes, _)| bytes == found).map(|(_, outputs)| outputs.clone())
    }

    pub fn keep(&self, found: Vec<u8>, outputs: Vec<Vec<u8>>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() == SLOTS {
            kept.remove(0);
        }
        kept.push((found, outputs));
    }

    /// A launch that worked took so long.
    pub fn worked(&self, nanoseconds: f64) {
        self.worked.set(nanoseconds);
    }

    /// Nanoseconds of a launch from memory; none while it is not known what work takes.
    pub fn time(&self) -> Option<f64> {
        Some(self.worked.get() / FASTER).filter(|time| *time > 0.0)
    }
}

//! The current step of a harness, for reporters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Activity on a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The harness waits for a compiler.
    Compiling,
    /// Gate 2 runs.
    Checking,
    /// The kernel is timed.
    Timing,
}

/// The current step of a harness; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Doing(Arc<AtomicU8>);

impl Doing {
    const STEPS: [Step; 3] = [Step::Compiling, Step::Checking, Step::Timing];

    /// Sets the current step.
    pub fn set(&self, step: Step) {
        self.0.store(step as u8, Ordering::Relaxed);
    }

    /// The current activity.
    pub fn step(&self) -> Step {
        Self::STEPS[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_step() {
        let (doing, other) = (Doing::default(), Doing::default());
        assert_eq!(doing.step(), Step::Compiling);
        for step in Doing::STEPS {
            doing.clone().set(step);
            assert_eq!((doing.step(), other.step()), (step, Step::Compiling));
        }
    }
}

//! Deadlines that count only the time during which this process could run.
//!
//! A process that was stopped (Ctrl-Z) or had no core cannot observe other processes in that time, and must not count
//! it against them.

use std::time::{Duration, Instant};

/// Largest part of one step that counts: in a longer step this process itself was stopped.
const LONGEST_STEP: Duration = Duration::from_millis(500);

/// A stopwatch that is read in short steps, and leaves out the excess of a step that was too long.
#[derive(Debug)]
pub struct Awake {
    last: Instant,
    spent: Duration,
}

impl Awake {
    /// Starts the stopwatch.
    pub fn start() -> Self {
        Self { last: Instant::now(), spent: Duration::ZERO }
    }

    /// Time since the start. Call this about every 100 ms.
    pub fn spent(&mut self) -> Duration {
        self.spent_at(Instant::now())
    }

    fn spent_at(&mut self, now: Instant) -> Duration {
        self.spent += now.saturating_duration_since(self.last).min(LONGEST_STEP);
        self.last = now;
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_during_which_the_process_was_stopped_does_not_count() {
        let mut awake = Awake::start();
        let mut now = awake.last;
        for _ in 0..10 {
            now += Duration::from_millis(50);
            awake.spent_at(now);
        }
        assert_eq!(awake.spent, Duration::from_millis(500));
        now += Duration::from_secs(600);
        assert_eq!(awake.spent_at(now), Duration::from_secs(1));
    }
}

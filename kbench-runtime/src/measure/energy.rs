//! Energy a launch: the counter's difference over launches back to back.
//!
//! Counters move in steps of many milliseconds. So launches go on from one step to a later one, at least a
//! [window](crate::device::Energy::window) apart, and what was consumed between is divided by the launches between. Caches are as the
//! launch before left them: to flush them takes energy too. What a kernel works on in place is restored before each launch, and
//! that is in the figure.

use std::time::{Duration, Instant};

use super::{LARGEST_BATCH, Measured, Pulse};
use crate::device::Device;
use crate::measure::statistics::FEWEST_ROUNDS;
use crate::protocol::{Failure, Stage};

/// Readings of the counter a window: it is seen to move at most so much late.
const READINGS: u32 = 50;

/// How long beyond a window the counter may stand still.
const STILL: Duration = Duration::from_secs(2);

impl<D: Device> Measured<D> {
    /// Joules a launch, in windows one after another, just enough for an interval of their median. What came before the first one
    /// warms the device up.
    pub(super) fn energy(&mut self, device: &mut D, pulse: &mut Pulse<'_, '_>) -> Result<Vec<f64>, Failure> {
        let unknown = |message: String| Failure::Unsupported { message };
        let writes = if self.rig.is_in_place() { &self.writes[self.set()][..] } else { &[] };
        let mut samples: Vec<f64> = self.samples.iter().map(|sample| sample.nanoseconds).collect();
        samples.sort_unstable_by(f64::total_cmp);
        let launch = samples.get(samples.len() / 2).map_or(1.0, |nanoseconds| nanoseconds.max(1.0));

        let mut last = device.energy().map_err(unknown)?;
        let window = last.window;
        let batch = ((window / READINGS).as_nanos() as f64 / launch).clamp(1.0, f64::from(LARGEST_BATCH)) as u32;
        let mut windows = Vec::with_capacity(FEWEST_ROUNDS + 1);
        let (mut since, mut joules, mut launches) = (Instant::now(), last.joules, 0u64);
        while windows.len() <= FEWEST_ROUNDS {
            pulse.beat(Stage::Timing);
            device.run_many(&self.rig.bound, writes, batch)?;
            launches += u64::from(batch);
            let now = device.energy().map_err(unknown)?;
            let moved = now.joules > last.joules;
            last = now;
            let elapsed = since.elapsed();
            if moved && elapsed >= window {
                windows.push((now.joules - joules) / launches as f64);
                (since, joules, launches) = (Instant::now(), now.joules, 0);
            } else if elapsed > window + STILL {
                return Err(unknown("the device's energy counter stands still".to_owned()));
            }
        }
        windows.remove(0);
        Ok(windows)
    }
}

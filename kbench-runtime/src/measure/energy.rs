//! Energy of a launch: the difference of two counter readings over the launches between them.
//!
//! Energy counters move in steps of many milliseconds. So launches go on from one step to a later step, at least a
//! [window](crate::device::Energy::window) apart, and the difference is divided by the number of launches between. Caches are as the launch
//! before left them, because flushing them takes energy too. Tensors that are read and written are restored before each launch, which is
//! included in the figure.

use std::time::{Duration, Instant};

use super::adjusted::times;
use super::case::{LARGEST_BATCH, MeasuredCase};
use super::run::Run;
use super::statistics::FEWEST_ROUNDS;
use crate::device::Device;
use crate::protocol::{Failure, Stage};

/// Counter readings a window: a step of the counter is seen at most this share of a window late.
const READINGS: u32 = 50;

/// Time beyond a window during which the counter may stand still.
const STILL: Duration = Duration::from_secs(2);

impl<D: Device> MeasuredCase<D> {
    /// The median of the samples in nanoseconds a launch; 0 where there are none.
    pub(super) fn typical(&self) -> f64 {
        let mut samples = times(&self.samples);
        samples.sort_unstable_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied().unwrap_or(0.0)
    }

    /// Joules a launch in consecutive windows, as many as an interval of their median needs. A first window warms the device up and is
    /// not returned.
    pub(super) fn energy(&mut self, run: &mut Run<'_, D>) -> Result<Vec<f64>, Failure> {
        let device = &mut run.resources.device;
        let unknown = |message: String| Failure::Unsupported { message };
        let writes = if self.memory.is_in_place() { &self.writes[self.set()][..] } else { &[] };
        let launch = self.typical().max(1.0);

        let mut last = device.energy().map_err(unknown)?;
        let window = last.window;
        let batch = ((window / READINGS).as_nanos() as f64 / launch).clamp(1.0, f64::from(LARGEST_BATCH)) as u32;
        let mut windows = Vec::with_capacity(FEWEST_ROUNDS + 1);
        let (mut since, mut joules, mut launches) = (Instant::now(), last.joules, 0u64);
        while windows.len() <= FEWEST_ROUNDS {
            run.heartbeat.enter(Stage::Timing);
            device.run_many(&self.memory.bound, writes, batch)?;
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

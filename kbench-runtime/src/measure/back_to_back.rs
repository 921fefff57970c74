//! Launches back to back: kernels that do less work when they are launched at once after the launch before, since their outputs are then
//! still right and their inputs still the same.

use std::time::Duration;

use super::adjusted::AdjustedSample;
use super::case::MeasuredCase;
use super::pairs::Pairs;
use super::run::Run;
use crate::device::Device;
use crate::protocol::{CacheMode, Failure, Stage};

/// Time between two launches that are not back to back: longer than the time between two commands to a kernel's process, and too short for
/// a core to fall asleep.
const PAUSE: Duration = Duration::from_micros(200);

/// Nanoseconds by which a launch after a pause may be slower: its code and branches are no longer at hand, and the reading of the clock is
/// part of it alone. `docs/gates.md` of cargo-kbench names the figure.
const COST: f64 = 200.0;

/// Nanoseconds a byte by which a launch after a pause may be slower still where other programs run: a cache line of 64 bytes that they
/// evicted comes from the shared cache in 10 ns.
const REFILL: f64 = 10.0 / 64.0;

/// Bytes of code and stack that a launch needs besides its tensors.
const CODE: f64 = 2048.0;

/// Time before each of the windows of pairs that must all agree: other programs that come and go make launches slow in some of them.
const WINDOWS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)];

impl<D: Device> MeasuredCase<D> {
    /// Time of a launch after a pause, divided by the time of a launch in a batch; `None` if the difference may be chance. Both find right
    /// outputs and the inputs of the launch before.
    pub(super) fn back_to_back(&mut self, run: &mut Run<'_, D>) -> Result<Option<f64>, Failure> {
        if self.batch == 1 {
            return Ok(None);
        }
        let mut ratio = None;
        for wait in WINDOWS {
            std::thread::sleep(wait);
            match self.paused_and_batched(run)? {
                Some(pairs) if pairs.are_apart() => ratio = Some(pairs.ratio()),
                _ => return Ok(None),
            }
        }
        Ok(ratio)
    }

    /// A window of pairs: a launch after a pause, without the cost of the pause, and a launch in a batch. `None` on a device without pauses.
    fn paused_and_batched(&mut self, run: &mut Run<'_, D>) -> Result<Option<Pairs>, Failure> {
        let writes = self.writes[self.set()].clone();
        let mut samples = Vec::new();
        let mut is_in_use = false;
        loop {
            run.heartbeat.enter(Stage::Timing);
            let device = &mut run.resources.device;
            is_in_use |= device.is_in_use();
            let Some(paused) = device.sample_after_pause(&writes, &mut self.memory.bound, PAUSE)? else {
                return Ok(None);
            };
            let batch = device.sample_after(&writes, &mut self.memory.bound, self.batch, CacheMode::Hot)?;
            is_in_use |= device.is_in_use();
            let is_alone = device.core(&self.memory.bound).is_some();
            samples.push((AdjustedSample::of(paused, 1, is_alone), AdjustedSample::of(batch, self.batch, is_alone)));
            // A program that was seen once may have run in each of the pauses.
            let pairs = without_cost(&samples, cost_of_pause(self.memory.bytes(), is_in_use));
            if pairs.is_settled() {
                return Ok(Some(pairs));
            }
        }
    }
}

/// Pairs of samples after a pause, each less `cost` nanoseconds, and samples in a batch.
fn without_cost(samples: &[(AdjustedSample, AdjustedSample)], cost: f64) -> Pairs {
    let mut pairs = Pairs::default();
    for &(paused, batch) in samples {
        pairs.add(AdjustedSample { nanoseconds: (paused.nanoseconds - cost).max(0.0), ..paused }, batch);
    }
    pairs
}

/// Nanoseconds by which a launch after a pause may be slower than a launch in a batch. `bytes`: size of the tensors; `is_in_use`: whether
/// other programs may use caches of the kernel's core.
fn cost_of_pause(bytes: usize, is_in_use: bool) -> f64 {
    if is_in_use { COST + REFILL * (CODE + bytes as f64) } else { COST }
}

#[cfg(test)]
mod tests {
    use super::super::pairs::FIRST_LOOK;
    use super::super::tests::fake_case::{job, launches, sampled};
    use super::*;

    /// Time of a launch in a batch of ten of which nine take a twentieth of the 4 us of the first.
    const IN_BATCH: f64 = 4000.0 * (1.0 + 9.0 * 0.05) / 10.0;

    /// The finding about a kernel that takes 4 us, in batches, and the number of its launches. `users` says whether other programs run at each
    /// question, one bit a question.
    fn found(fault: &str, batch: u32, users: u128) -> (Option<f64>, u64) {
        sampled(job(&format!(r#"{{"time_ns":4000,"noise":0,"fault":{fault}}}"#)), |case, run| {
            case.batch = batch;
            run.resources.device.users.set(users);
            let (count, found) = launches(run, |run| case.back_to_back(run));
            (found.unwrap(), count)
        })
    }

    #[test]
    fn less_work_back_to_back_shows_in_the_time_after_a_pause() {
        // The model takes 150 ns longer after a pause, of which up to 200 are not counted.
        let (ratio, _) = found("\"back-to-back\"", 10, 0);
        assert!((ratio.unwrap() - 3950.0 / IN_BATCH).abs() < 1e-9, "{ratio:?}");
        assert_eq!(found("null", 10, 0), (None, 3 * 11), "three pairs of one window");
        assert_eq!(found("\"back-to-back\"", 1, 0), (None, 0));
    }

    #[test]
    fn a_program_that_was_seen_once_may_have_run_in_every_pause_of_a_window() {
        let cost = cost_of_pause(4000, true);
        // Before and after each of the 14 pairs of a window.
        let questions = 2 * FIRST_LOOK;
        for seen in [0, 1, 1 << 1, 1 << 6, 1 << (questions - 1)] {
            // In the last window as well, which the ratio is of.
            let (ratio, _) = found("\"back-to-back\"", 10, seen << (2 * questions));
            let expected = (4150.0 - if seen == 0 { COST } else { cost }) / IN_BATCH;
            assert!((ratio.unwrap() - expected).abs() < 1e-9, "{seen:b}: {ratio:?}");
        }
    }

    #[test]
    fn other_programs_may_evict_the_tensors_during_a_pause() {
        assert!(cost_of_pause(1 << 20, false) < 201.0);
        // Beside compilers, sums of a few thousand bytes took 2.2 times as long after a pause as in a batch.
        assert!(cost_of_pause(4000, true) > 600.0);
        // 3 us of work that are skipped in a batch remain proof.
        assert!(cost_of_pause(8192, true) < 2000.0);
    }

    #[test]
    fn a_launch_after_a_pause_counts_without_the_cost_of_the_pause() {
        let sample = |nanoseconds| AdjustedSample {
            nanoseconds,
            slack: 0.0,
            corrected: false,
            on_new_inputs: false,
            exposed: false,
            disturbance: None,
        };
        let of = |paused: f64, batch: f64, cost| without_cost(&[(sample(paused), sample(batch)); 3], cost);
        let pairs = of(1500.0, 1000.0, 200.0);
        assert_eq!((pairs.len(), pairs.ratio()), (3, 1.3));
        assert!(of(150.0, 1000.0, 200.0).ratio() >= 0.0, "no time is negative");
    }
}

//! One worker of a pool, on a thread of its own: opens the device, evaluates tasks, and restarts a lost worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use kbench_runtime::protocol::DeviceInfo;

use crate::evaluate::{Anticipated, Subject};
use crate::harness::{Harness, RunError};
use crate::process::executor::{Executor, ExecutorError, WorkerOptions};
use crate::record::evaluation::Evaluation;

/// Waits between attempts to restart a worker: none before the second attempt, then each twice as long as the one
/// before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    /// Number of attempts in a row after which a worker is given up.
    pub(super) attempts: u32,
}

impl Default for Backoff {
    /// All waits together take a minute.
    fn default() -> Self {
        Self { first: Duration::from_millis(250), attempts: 10 }
    }
}

impl Backoff {
    /// Wait after this number of failures in a row; `None` if the worker is given up.
    fn after(self, failures: u32) -> Option<Duration> {
        let doublings = failures.checked_sub(2);
        (failures < self.attempts)
            .then(|| doublings.map_or(Duration::ZERO, |doublings| self.first * 2u32.pow(doublings)))
    }
}

/// A subject to measure.
pub(super) struct Task {
    pub(super) subject: Subject,
    /// Number of workers that the subject has cost.
    pub(super) lost: u32,
    /// Index of the station that lost the last of them: another one is tried next.
    pub(super) not_at: Option<usize>,
}

/// Messages of a station.
pub(super) enum Said {
    /// The station has a worker, and is ready for a task.
    Open,
    /// The station measured a task, and is ready for another.
    Measured(Box<Task>, Arc<Evaluation>),
    /// The worker is lost, and its task has to be measured by another. The station starts a worker again after this
    /// time; `None` if it does not.
    Lost { task: Option<Box<Task>>, why: String, again: Option<Duration> },
    /// The run cannot continue.
    Failed(RunError),
}

/// A station.
pub(super) struct Station<'a> {
    pub(super) name: String,
    pub(super) harness: Harness<'a>,
    anticipated: Anticipated,
    /// The evaluations that the station measured.
    pub(super) measured: Vec<Arc<Evaluation>>,
    /// Number of failed attempts in a row to start a worker.
    failures: u32,
    /// Whether the station is ready for a task.
    pub(super) is_open: bool,
    /// Whether the device is of another model than the others'.
    pub(super) is_other_model: bool,
}

impl<'a> Station<'a> {
    pub(super) fn new(name: String, harness: Harness<'a>) -> Self {
        Self {
            name,
            harness,
            anticipated: Anticipated::default(),
            measured: Vec::new(),
            failures: 0,
            is_open: false,
            is_other_model: false,
        }
    }

    /// Serves until there are no more tasks, or its worker is given up.
    pub(super) fn serve(
        &mut self,
        model: &DeviceInfo,
        backoff: Backoff,
        ended: &Arc<AtomicBool>,
        tasks: &Receiver<Box<Task>>,
        say: &dyn Fn(Said),
    ) {
        self.harness.worker.until(Arc::clone(ended));
        self.is_open = false;
        let mut undone = None;
        loop {
            let why = if self.is_open {
                let Some(task) = self.next(tasks) else { return };
                match self.evaluate(task) {
                    Ok(said) => {
                        self.failures = 0;
                        say(said);
                        continue;
                    }
                    Err((task, error)) => {
                        self.is_open = false;
                        undone = Some(task);
                        error
                    }
                }
            } else {
                match self.open(model) {
                    Ok(()) => {
                        self.is_open = true;
                        say(Said::Open);
                        continue;
                    }
                    Err(error) => error,
                }
            };
            if ended.load(Ordering::Relaxed) {
                return;
            }
            if !is_of_worker(&why) {
                return say(Said::Failed(why));
            }
            self.failures += 1;
            let again = backoff.after(self.failures).filter(|_| !is_for_good(&why));
            say(Said::Lost { task: undone.take(), why: why.to_string(), again });
            let Some(again) = again else { return };
            // A station that is not ready gets no tasks: this receives only the end of the queue.
            if let Err(RecvTimeoutError::Disconnected) = tasks.recv_timeout(again) {
                return;
            }
        }
    }

    /// The next task; `None` at the end of the queue. Computes references while there is no task.
    fn next(&mut self, tasks: &Receiver<Box<Task>>) -> Option<Box<Task>> {
        loop {
            match tasks.try_recv() {
                Ok(task) => return Some(task),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            // An error appears again with the next task.
            if !self.anticipated.compute(&mut self.harness).unwrap_or(false) {
                return tasks.recv().ok();
            }
        }
    }

    /// Opens the worker's device, which has to be of the same model as the others.
    fn open(&mut self, model: &DeviceInfo) -> Result<(), RunError> {
        let device = self.harness.worker.device()?;
        if !model.is_same_model(&device) {
            self.is_other_model = true;
            let kernel = self.harness.kernel().name.clone();
            let (name, driver) = (&device.name, &device.driver);
            let message =
                format!("{name} with driver {driver} where the others have {} with {}", model.name, model.driver);
            return Err(RunError::Workers { kernel, message });
        }
        self.anticipated = Anticipated::new(&mut self.harness)?;
        Ok(())
    }

    /// Measures a task; returns the task if the station has no worker any more.
    fn evaluate(&mut self, mut task: Box<Task>) -> Result<Said, (Box<Task>, RunError)> {
        self.harness.worker.evaluates(Some(task.lost));
        let measured = task.subject.measure(&mut self.harness);
        task.lost = self.harness.worker.lost();
        self.harness.worker.evaluates(None);
        match measured {
            Ok(evaluation) => {
                let evaluation = Arc::new(evaluation);
                self.measured.push(Arc::clone(&evaluation));
                Ok(Said::Measured(task, evaluation))
            }
            Err(error) => Err((task, error)),
        }
    }
}

/// Whether an error concerns only one worker.
pub(super) fn is_of_worker(error: &RunError) -> bool {
    let of_worker = |error: &ExecutorError| !matches!(error, ExecutorError::Interrupted | ExecutorError::Job { .. });
    matches!(error, RunError::Workers { .. }) || matches!(error, RunError::Executor(error) if of_worker(error))
}

/// Whether another attempt cannot succeed.
fn is_for_good(error: &RunError) -> bool {
    matches!(error, RunError::Workers { .. } | RunError::Executor(ExecutorError::NoDevice(_)))
}

/// Name of a worker for users: its number and its command.
pub(super) fn name(at: usize, options: &WorkerOptions, executor: &Executor) -> String {
    let place = match (&options.runner[..], executor.visible().get(options.index as usize)) {
        ([], Some(uuid)) => format!(" ({uuid})"),
        ([], None) => String::new(),
        (runner, _) => format!(" (`{}`)", runner.join(" ")),
    };
    format!("worker {}{place}", at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let backoff = Backoff::default();
        let waits: Vec<Duration> = (1..).map_while(|failures| backoff.after(failures)).collect();
        assert_eq!((waits.len(), waits[0]), (9, Duration::ZERO));
        assert!(waits[1..].windows(2).all(|pair| pair[1] == 2 * pair[0]));
        assert!(waits.iter().sum::<Duration>() > Duration::from_secs(60));
    }
}

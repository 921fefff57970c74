//! A worker under a tool that watches it: one job, and then what the tool wrote.

use std::time::Duration;

use kbench_runtime::protocol::{Counts, Event, Failure, Request, RunJob};

use super::{Executor, ExecutorError, WaitError, answer, case_blobs, heard_in, patience};

/// Lines of a worker's stderr that are kept.
pub(super) const LINES: usize = 2000;

/// What came of a run under a tool.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Why the kernel did not run to its end, where it did not.
    pub failure: Option<Failure>,
    /// What the tool wrote, the kernel's own output among it.
    pub report: String,
    /// What was counted where the job asked for it.
    pub counts: Option<Result<Counts, String>>,
    /// The status of the tool, `None` where it was ended or a signal ended it.
    pub status: Option<i32>,
}

impl Executor {
    /// Runs a kernel once and waits until the worker, with the tool around it, has ended. `timeout` is the deadline
    /// of the launch, and of the tool after it.
    pub fn run_to_end(mut self, mut job: RunJob, timeout: Duration) -> Result<Watched, ExecutorError> {
        job.id = Self::id();
        let id = job.id;
        let blobs: Vec<String> = case_blobs(&job.case).into_iter().cloned().collect();
        self.send(&blobs, &Request::Run(Box::new(job)))?;
        let mut worker = self.worker.take().expect("sent to it");
        let mut counts = None;
        let failure = match worker.wait(heard_in, &mut |stage| patience(stage, timeout)) {
            Ok(event) if answer::job_of(&event) != Some(id) => {
                Some(Failure::Protocol { message: format!("unexpected answer {event:?}") })
            }
            Ok(Event::Ran { counts: ran, .. }) => {
                counts = ran;
                None
            }
            Ok(Event::Failed { failure, .. }) | Err(WaitError::Failure(failure) | WaitError::Lost(failure)) => {
                Some(failure)
            }
            Ok(other) => Some(Failure::Protocol { message: format!("unexpected answer {other:?}") }),
            Err(WaitError::Interrupted) => return Err(ExecutorError::Interrupted),
        };
        // Its input stays open meanwhile: at the end of that it would leave at once, and many tools report last.
        let status = worker.ended(timeout)?;
        Ok(Watched { failure, report: worker.said(LINES), counts, status: status.and_then(|status| status.code()) })
    }
}

//! A worker under a tool that observes it: one job, and then the tool's report.

use std::time::Duration;

use kbench_runtime::protocol::{Counts, Event, Failure, Request, RunJob};

use super::{Executor, ExecutorError, WaitError, answer, case_blobs, heard_in, patience};

/// Number of kept lines of a worker's stderr.
pub(super) const LINES: usize = 2000;

/// Result of a run under a tool.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Reason why the kernel did not run to its end, if it did not.
    pub failure: Option<Failure>,
    /// Output of the tool and of the kernel.
    pub report: String,
    /// Counts, if the job asked for them.
    pub counts: Option<Result<Counts, String>>,
    /// Exit status of the tool; `None` if it was ended or a signal ended it.
    pub status: Option<i32>,
}

impl Executor {
    /// Runs kernels once and waits for the end of the worker and the tool around it. `timeout` is the deadline of each
    /// launch, and of the tool after them.
    pub fn run_to_end(mut self, mut job: RunJob, timeout: Duration) -> Result<Watched, ExecutorError> {
        job.id = Self::id();
        let id = job.id;
        let request = Request::Run(Box::new(job));
        let Request::Run(job) = &request else { unreachable!("made above") };
        self.send(&job.cases.iter().flat_map(case_blobs).collect::<Vec<_>>(), &request)?;
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
        // Stdin stays open until then: the worker would leave at its end, and many tools report last.
        let status = worker.ended(timeout)?;
        Ok(Watched { failure, report: worker.said(LINES), counts, status: status.and_then(|status| status.code()) })
    }
}

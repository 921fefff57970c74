//! Settings of a worker, and errors of jobs.

use std::ffi::OsString;
use std::path::PathBuf;

use kbench_runtime::protocol::{DeviceKind, Failure, Mutation};

/// Reason why a job has no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The worker found no device.
    #[error("{0}")]
    NoDevice(String),
    /// The worker could not be started.
    #[error("could not start the worker `{command}`: {message}")]
    Start {
        /// The command.
        command: String,
        /// Reason.
        message: String,
    },
    /// Another process ended or stopped the worker, or it is broken or out of reach; its evaluation can run elsewhere.
    #[error("{0}")]
    Lost(Failure),
    /// This machine lacks processes, memory or disk space for the job.
    #[error("{0}")]
    Machine(String),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The job failed. This is data and not an error of the run.
    #[error("{failure}")]
    Job {
        /// Index of the case that failed.
        case: usize,
        /// Reason.
        failure: Failure,
    },
}

/// Settings of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerOptions {
    /// Command prefix; empty for this machine.
    pub runner: Vec<String>,
    /// Command prefix after the runner: a tool that observes the worker; empty for none.
    pub tool: Vec<String>,
    /// Kind of device.
    pub device: DeviceKind,
    /// Index of the device.
    pub index: u32,
    /// Path of `cargo-kbench` on the worker's machine; `None` for its path on this machine, or a copy if it is not there.
    pub path: Option<String>,
    /// Folder for reference results.
    pub cache: PathBuf,
    /// The change to the kernel's results that the worker makes, for an audit.
    pub mutation: Option<Mutation>,
}

impl WorkerOptions {
    /// The worker's command. `ships`: that of a shell, which [becomes](super::ship) the worker.
    pub(super) fn command(&self, ships: bool) -> std::io::Result<Vec<OsString>> {
        if ships {
            return Ok(self.runner.iter().map(Into::into).chain(["sh".into()]).collect());
        }
        let mut words: Vec<OsString> = self.runner.iter().chain(&self.tool).map(Into::into).collect();
        words.push(match &self.path {
            Some(path) => path.into(),
            None => std::env::current_exe()?.into_os_string(),
        });
        words.extend(["kbench".into(), "worker".into()]);
        Ok(words)
    }

    /// Whether the worker's machine may lack the program.
    pub(super) fn may_ship(&self) -> bool {
        !self.runner.is_empty() && self.path.is_none()
    }

    pub(super) fn describe(&self, ships: bool) -> String {
        let words = self.command(ships).unwrap_or_default();
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

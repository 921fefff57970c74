//! Settings of a worker, and errors of jobs.

use std::ffi::OsString;
use std::path::PathBuf;

use kbench_runtime::protocol::{DeviceKind, Failure, Mutation};

/// Why a job has no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The worker found no device.
    #[error("{0}")]
    NoDevice(String),
    /// The worker could not be started at all.
    #[error("could not start the worker `{command}`: {message}")]
    Start {
        /// The command.
        command: String,
        /// Why.
        message: String,
    },
    /// Somebody else ended or stopped the worker, it is broken, or it is out of reach; what it evaluated can be evaluated elsewhere.
    #[error("{0}")]
    Lost(Failure),
    /// This machine has no process, memory or room for the job.
    #[error("{0}")]
    Machine(String),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The job failed: data, not an error of the run.
    #[error("{failure}")]
    Job {
        /// Index of the case that failed.
        case: usize,
        /// Why.
        failure: Failure,
    },
}

/// Settings of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerOptions {
    /// Command prefix; empty: here.
    pub runner: Vec<String>,
    /// Command prefix after it: a tool that watches the worker; empty: none.
    pub tool: Vec<String>,
    /// Kind of device.
    pub device: DeviceKind,
    /// Index of the device.
    pub index: u32,
    /// `cargo-kbench` where the worker runs; `None`: the path that it has here.
    pub path: Option<String>,
    /// Folder for reference results.
    pub cache: PathBuf,
    /// What an audit makes it do wrong.
    pub mutation: Option<Mutation>,
}

impl WorkerOptions {
    pub(super) fn command(&self) -> std::io::Result<Vec<OsString>> {
        let mut words: Vec<OsString> = self.runner.iter().chain(&self.tool).map(Into::into).collect();
        words.push(match &self.path {
            Some(path) => path.into(),
            None => std::env::current_exe()?.into_os_string(),
        });
        words.extend(["kbench".into(), "worker".into()]);
        Ok(words)
    }

    pub(super) fn describe(&self) -> String {
        let words = self.command().unwrap_or_default();
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

//! The gate `launch`: the kernel runs to its end on the device. It judges failed jobs of all gates.

use kbench_runtime::protocol::Failure;

use super::Gate;
use crate::config::Kernel;
use crate::harness::{Halt, RunError};
use crate::process::executor::ExecutorError;
use crate::record::evaluation::{GateName, Rejection};

pub mod fit;

/// The gate `launch`.
pub struct Launch;

impl Gate for Launch {
    fn name(&self) -> GateName {
        GateName::Launch
    }
}

/// A failed job: a rejection, or the end of the run if the kernel is not the cause, since other variants would fail
/// too.
pub fn failed(kernel: &Kernel, failure: &Failure, shape: &str) -> Halt {
    if let Failure::Reference { .. } | Failure::Inputs { .. } = failure {
        let kernel = kernel.name.clone();
        return RunError::Reference { kernel, message: format!("at {shape}: {failure}") }.into();
    }
    let gate = if matches!(failure, Failure::ForgedTime { .. }) { GateName::Correctness } else { GateName::Launch };
    Rejection::new(gate, failure.into(), failure.to_string(), Some(shape)).into()
}

/// The same for a job's error.
pub fn job_failed(kernel: &Kernel, error: ExecutorError, shape: &str) -> Halt {
    match error {
        ExecutorError::Job { failure, .. } => failed(kernel, &failure, shape),
        error => error.into(),
    }
}

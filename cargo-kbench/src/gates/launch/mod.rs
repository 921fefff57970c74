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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixture;

    #[test]
    fn a_failure_is_that_of_the_variant_unless_the_reference_or_the_inputs_failed() {
        let project = fixture::project("");
        let of = |failure: Failure| match failed(&project.packages[0].kernels[0], &failure, "s") {
            Halt::Variant(rejection) => Some(rejection.gate),
            Halt::Run(_) => None,
        };
        let message = || "no".to_owned();
        assert_eq!(of(Failure::Reference { message: message() }), None);
        assert_eq!(of(Failure::Inputs { message: message() }), None);
        assert_eq!(of(Failure::LaunchRefused { message: message() }), Some(GateName::Launch));
        let forged = Failure::ForgedTime { claimed: 1.0, measured: 2.0 };
        assert_eq!(of(forged), Some(GateName::Correctness));
    }
}

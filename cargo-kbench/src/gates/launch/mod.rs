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
    let name = || kernel.name.clone();
    let gate = match failure {
        Failure::Inputs { message } => {
            return RunError::Inputs { kernel: name(), message: format!("at {shape}: {message}") }.into();
        }
        Failure::Reference { .. } => {
            return RunError::Reference { kernel: name(), message: format!("at {shape}: {failure}") }.into();
        }
        Failure::ForgedTime { .. } => GateName::Correctness,
        _ => GateName::Launch,
    };
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
        let Halt::Run(error) = failed(&project.packages[0].kernels[0], &Failure::Inputs { message: message() }, "s")
        else {
            panic!("the kernel is blamed")
        };
        assert!(error.to_string().starts_with("the inputs of kernel") && error.to_string().ends_with("at s: no"));
        assert_eq!(of(Failure::LaunchRefused { message: message() }), Some(GateName::Launch));
        let forged = Failure::ForgedTime { claimed: 1.0, measured: 2.0 };
        assert_eq!(of(forged), Some(GateName::Correctness));
    }
}

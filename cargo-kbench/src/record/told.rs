//! What a search strategy is told of an evaluation.

use super::evaluation::{Evaluation, Gate, Outcome as Judged};
use crate::build;
use crate::search::{Failure, Outcome, Resources};

impl From<&Evaluation> for Outcome {
    fn from(evaluation: &Evaluation) -> Self {
        match (&evaluation.outcome, evaluation.objective()) {
            (Judged::Passed, Some(objective)) if evaluation.twin.is_some() => Outcome::Twin(objective),
            (Judged::Passed, Some(objective)) => Outcome::Measured(objective),
            (Judged::Rejected(rejection), _) => Outcome::Failed(rejection.gate.into()),
            // Passed without a time: nothing to rank it by.
            (Judged::Passed, None) => Outcome::Failed(Failure::Other),
        }
    }
}

impl From<Gate> for Failure {
    fn from(gate: Gate) -> Self {
        match gate {
            Gate::Compile => Failure::Compile,
            Gate::Resources => Failure::Resources,
            Gate::Launch => Failure::Launch,
            Gate::Correctness => Failure::Correctness,
            Gate::Sanitize | Gate::Performance | Gate::Counters => Failure::Other,
        }
    }
}

impl From<&build::Resources> for Resources {
    fn from(resources: &build::Resources) -> Self {
        Self {
            registers: resources.registers,
            static_shared: resources.static_shared,
            spills: resources.spills(),
            stack: resources.stack,
            code_bytes: resources.code_bytes,
        }
    }
}

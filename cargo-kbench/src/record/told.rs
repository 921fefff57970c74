//! Result of an evaluation for a search strategy.

use super::evaluation::{Evaluation, GateName, Judgement};
use crate::build;
use crate::search::{Failure, Outcome, Resources};

impl From<&Evaluation> for Outcome {
    fn from(evaluation: &Evaluation) -> Self {
        match (&evaluation.outcome, evaluation.objective()) {
            (Judgement::Passed, Some(objective)) if evaluation.identical_code.is_some() => {
                Outcome::Identical(objective)
            }
            (Judgement::Passed, Some(objective)) => Outcome::Measured(objective),
            (Judgement::Rejected(rejection), _) => Outcome::Failed(rejection.gate.into()),
            // The variant passed and has no time to rank it by.
            (Judgement::Passed, None) => Outcome::Failed(Failure::Other),
        }
    }
}

impl From<GateName> for Failure {
    fn from(gate: GateName) -> Self {
        match gate {
            GateName::Compile => Failure::Compile,
            GateName::Resources => Failure::Resources,
            GateName::Launch => Failure::Launch,
            GateName::Correctness => Failure::Correctness,
            GateName::Sanitize | GateName::Performance | GateName::Counters => Failure::Other,
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

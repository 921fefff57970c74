//! The gate `compile`: the compiler accepts the candidate, and each shape has a launch. Its verdict is the compiler's: see
//! [`compile_rejection`](crate::harness::compile_rejection).

use super::Gate;
use crate::record::evaluation::GateName;

/// The gate `compile`.
pub struct Compile;

impl Gate for Compile {
    fn name(&self) -> GateName {
        GateName::Compile
    }
}

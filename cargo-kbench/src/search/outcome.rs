//! What a strategy is told of a variant: its objective or its failure, and the resources of its build.

/// The result of trying a variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Its objective; lower is better, and above 0.
    Measured(f64),
    /// The objective of a variant told before, whose machine code and launch are the same.
    Identical(f64),
    /// It has no objective.
    Failed(Failure),
}

impl Outcome {
    /// The objective, of a variant that passed.
    pub fn objective(self) -> Option<f64> {
        match self {
            Outcome::Measured(objective) | Outcome::Identical(objective) => Some(objective),
            Outcome::Failed(_) => None,
        }
    }
}

/// Where a variant failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The compiler refused it.
    Compile,
    /// Its [`Resources`] exceed a limit.
    Resources,
    /// It did not run to its end on the device.
    Launch,
    /// Its outputs are wrong.
    Correctness,
    /// Anything later.
    Other,
}

/// The resources of a variant's build, as far as the compiler tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Registers a thread.
    pub registers: Option<u64>,
    /// Bytes of static shared memory a block.
    pub static_shared: Option<u64>,
    /// Bytes of spill stores and loads.
    pub spills: Option<u64>,
    /// Bytes of stack.
    pub stack: Option<u64>,
    /// Bytes of machine code.
    pub code_bytes: Option<u64>,
}

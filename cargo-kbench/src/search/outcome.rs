//! The outcome of a variant for a strategy: its objective or its failure, and the resources of its build.

/// The outcome of a variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// The objective; lower is better, and above 0.
    Measured(f64),
    /// The objective of an earlier variant whose machine code and launch are the same.
    Identical(f64),
    /// The variant has no objective.
    Failed(Failure),
}

impl Outcome {
    /// The objective of a variant that passed.
    pub fn objective(self) -> Option<f64> {
        match self {
            Outcome::Measured(objective) | Outcome::Identical(objective) => Some(objective),
            Outcome::Failed(_) => None,
        }
    }
}

/// The stage of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The compiler refused the variant.
    Compile,
    /// The [`Resources`] exceed a limit.
    Resources,
    /// The kernel did not run to its end on the device.
    Launch,
    /// The outputs are wrong.
    Correctness,
    /// A later stage.
    Other,
}

/// Resources of a variant's build; none for those that the compiler does not report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: Option<u64>,
    /// Static shared memory of a block, in bytes.
    pub static_shared: Option<u64>,
    /// Spill stores and loads, in bytes.
    pub spills: Option<u64>,
    /// Stack in bytes.
    pub stack: Option<u64>,
    /// Machine code in bytes.
    pub code_bytes: Option<u64>,
}

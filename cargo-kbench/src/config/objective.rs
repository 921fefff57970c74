//! The objective of a search.

use std::fmt;

use super::Backend;

/// One of the objectives.
#[derive(Debug, Clone, PartialEq)]
pub enum Objective {
    /// p50 at the search's shape.
    P50,
    /// The weighted geometric mean of p50 over shapes: indices into [`super::Kernel::shapes`], and weights above 0.
    Mean(Vec<(usize, f64)>),
    /// p50 at the search's shape over what a launch does there by `work`, where toggles change how much that is.
    Throughput,
    /// Joules a launch at the search's shape.
    Energy,
    /// A resource of the build at the search's shape.
    Resource(ResourceName),
}

/// A resource of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceName {
    /// Registers of a thread (CUDA).
    Registers,
    /// Static plus dynamic shared memory of a block (CUDA).
    SharedBytes,
    /// Spill stores plus spill loads (CUDA).
    SpillBytes,
    /// Stack frame.
    StackBytes,
    /// Machine code of the entry function.
    CodeBytes,
}

impl Objective {
    /// The objectives that a word of the table names.
    pub const WORDS: [(&'static str, Objective); 8] = [
        ("p50", Objective::P50),
        ("throughput", Objective::Throughput),
        ("energy", Objective::Energy),
        ("registers", Objective::Resource(ResourceName::Registers)),
        ("shared_bytes", Objective::Resource(ResourceName::SharedBytes)),
        ("spill_bytes", Objective::Resource(ResourceName::SpillBytes)),
        ("stack_bytes", Objective::Resource(ResourceName::StackBytes)),
        ("code_bytes", Objective::Resource(ResourceName::CodeBytes)),
    ];

    /// The key under `objective` that a mean of shapes has.
    pub const MEAN: &'static str = "mean";

    /// Whether kernels of a backend have it.
    pub fn is_of(&self, backend: Backend) -> bool {
        use ResourceName::{CodeBytes, Registers, SharedBytes, SpillBytes, StackBytes};
        match self {
            Self::Resource(Registers | SharedBytes | SpillBytes) => backend != Backend::C,
            Self::P50 | Self::Mean(_) | Self::Throughput | Self::Energy | Self::Resource(StackBytes | CodeBytes) => {
                true
            }
        }
    }

    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        let word = Self::WORDS.iter().find(|(_, objective)| objective == self);
        word.map_or(Self::MEAN, |(name, _)| name)
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

//! The objective of a search.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::{Backend, Language};

/// An objective of a search.
#[derive(Debug, Clone, PartialEq)]
pub enum Objective {
    /// p50 at the search's shape.
    P50,
    /// The weighted geometric mean of p50 over shapes: indices into [`super::Kernel::shapes`], and weights above 0.
    Mean(Vec<(usize, f64)>),
    /// Work per second at the search's shape: `work` over p50, for toggles that change the work of a launch.
    Throughput,
    /// Joules for a launch at the search's shape.
    Energy,
    /// A resource of the build at the search's shape.
    Resource(ResourceName),
    /// The number that a program of the user tells, over the one that the program tells with the default variant; the inverse where more
    /// is better.
    Application(Application),
}

/// A program of the user that launches the exported kernels and measures itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Application {
    /// The program and its arguments, started in the package's folder.
    pub command: Vec<String>,
    /// Which numbers are better.
    pub better: Better,
    /// The language of the export.
    #[serde(skip)]
    pub language: Language,
    /// The folder of the export, relative to the package's.
    pub out: PathBuf,
}

/// The direction of a number that a program tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// A lower number is better, such as seconds.
    #[default]
    Lower,
    /// A higher number is better, such as tokens a second.
    Higher,
}

/// A resource of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceName {
    /// Registers of a thread (CUDA).
    Registers,
    /// Static plus dynamic shared memory of a block (CUDA).
    SharedBytes,
    /// Spill stores plus spill loads in bytes (CUDA).
    SpillBytes,
    /// Stack frame in bytes.
    StackBytes,
    /// Machine code of the entry function in bytes.
    CodeBytes,
}

impl Objective {
    /// The objectives that the table names by a word.
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

    /// The key of a mean over shapes in `objective`.
    pub const MEAN: &'static str = "mean";

    /// The key under `objective` that a program of the user has.
    pub const COMMAND: &'static str = "command";

    /// Whether kernels of a backend have this resource.
    pub fn is_of(&self, backend: Backend) -> bool {
        use ResourceName::{CodeBytes, Registers, SharedBytes, SpillBytes, StackBytes};
        match self {
            Self::Resource(Registers | SharedBytes | SpillBytes) => backend != Backend::C,
            Self::P50 | Self::Mean(_) | Self::Throughput | Self::Energy | Self::Resource(StackBytes | CodeBytes) => {
                true
            }
            Self::Application(_) => backend != Backend::Fake,
        }
    }

    /// Name in the table.
    pub fn name(&self) -> &'static str {
        let word = Self::WORDS.iter().find(|(_, objective)| objective == self);
        match self {
            Self::Application(_) => Self::COMMAND,
            _ => word.map_or(Self::MEAN, |(name, _)| name),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

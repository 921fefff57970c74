//! Settings of timing and search.

use kbench_runtime::protocol::{CacheMode, LaunchMode};

use crate::space::Partition;

/// Settings of timing.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Number of untimed launches before the first sample; 20 by default.
    pub warmup: u32,
    /// Smallest number of samples; 100 by default.
    pub iterations: u32,
    /// Whether the table or the command line states that number.
    pub iterations_stated: bool,
    /// Half width of the interval of p50, as a share of p50, at which sampling ends; 0.005 by default.
    pub precision: f64,
    /// Longest time of sampling in seconds, for each kernel; 2 by default.
    pub max_seconds: f64,
    /// State of the cache before each sample; cold by default.
    pub cache: CacheMode,
    /// Launch mode of a sample on a GPU; graph by default.
    pub launch: LaunchMode,
    /// Deadline of one launch or sample, in seconds; 30 by default.
    pub timeout_seconds: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            warmup: 20,
            iterations: 100,
            iterations_stated: false,
            precision: 0.005,
            max_seconds: 2.0,
            cache: CacheMode::Cold,
            launch: LaunchMode::Graph,
            timeout_seconds: 30,
        }
    }
}

/// Settings of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Name of the strategy; `auto` by default.
    pub strategy: StrategyName,
    /// Number of best variants in elite.json; 3 by default.
    pub elite: usize,
    /// Seed of the strategy.
    pub seed: u64,
    /// Largest number of evaluated variants; `None` means no limit.
    pub evaluations: Option<u64>,
    /// Longest time in seconds; `None` means no limit.
    pub seconds: Option<u64>,
    /// Share of the nearest ceiling at which the search ends, above 0 and at most 1; `None` means no limit.
    pub roofline: Option<f64>,
    /// Index into [`Kernel::shapes`](super::Kernel::shapes) of the shape of the objective; the first by default.
    pub shape: usize,
    /// The program, with its arguments, that proposes sources as variants; started in the package's folder.
    pub proposer: Option<Vec<String>>,
    /// The part of the space that is searched; set by the command line, not by the table.
    pub partition: Option<Partition>,
}

/// Workers that are started in the same way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workers {
    /// Command prefix of each worker; empty for this machine.
    pub runner: Vec<String>,
    /// Number of workers; `None` means one with a runner, and one for each GPU without a runner.
    pub count: Option<usize>,
    /// Path of `cargo-kbench` on the workers' machine; `None` for its path on this machine.
    pub path: Option<String>,
}

/// The strategies.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum StrategyName {
    /// A model of the times proposes variants.
    Auto,
    /// Two layers: macro toggles, then the micro toggles of the best variants.
    Evo,
    /// Random variants.
    Random,
    /// Simulated annealing.
    Annealing,
    /// A genetic algorithm.
    Genetic,
    /// Every variant.
    Exhaustive,
}

impl StrategyName {
    /// All.
    pub const ALL: [StrategyName; 6] = [
        StrategyName::Auto,
        StrategyName::Evo,
        StrategyName::Random,
        StrategyName::Annealing,
        StrategyName::Genetic,
        StrategyName::Exhaustive,
    ];

    /// The name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            StrategyName::Auto => "auto",
            StrategyName::Evo => "evo",
            StrategyName::Random => "random",
            StrategyName::Annealing => "annealing",
            StrategyName::Genetic => "genetic",
            StrategyName::Exhaustive => "exhaustive",
        }
    }
}

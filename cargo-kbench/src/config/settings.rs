//! Settings of timing and search.

use kbench_runtime::protocol::{CacheMode, LaunchMode};

use crate::space::Partition;

/// Settings of timing.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Untimed launches first; 20.
    pub warmup: u32,
    /// Samples at least; 100.
    pub iterations: u32,
    /// Half-width of the interval of p50, as a share of p50, that ends sampling; 0.005.
    pub precision: f64,
    /// Most seconds of sampling, for each kernel that is measured; 2.
    pub max_seconds: f64,
    /// State of the cache before each sample; cold.
    pub cache: CacheMode,
    /// Launch mode of a sample on a GPU; graph.
    pub launch: LaunchMode,
    /// Deadline of one kernel launch or sample, in seconds; 30.
    pub timeout_seconds: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            warmup: 20,
            iterations: 100,
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
    /// The strategy's name; `auto`.
    pub strategy: StrategyName,
    /// Number of the best variants that are kept; 3.
    pub elite: usize,
    /// Seed of the strategy.
    pub seed: u64,
    /// Most variants evaluated; `None` is no limit.
    pub evaluations: Option<u64>,
    /// Most seconds; `None` is no limit.
    pub seconds: Option<u64>,
    /// Share of the nearest ceiling at which the search ends, above 0 and at most 1; `None` is no limit.
    pub roofline: Option<f64>,
    /// Index into [`Kernel::shapes`](super::Kernel::shapes) of the shape that the objective is measured on; the first by default.
    pub shape: usize,
    /// The program, and its arguments, that hands in sources as variants; started in the package's folder.
    pub proposer: Option<Vec<String>>,
    /// The part of the space that is searched; no key of the table: the command line says.
    pub partition: Option<Partition>,
}

/// Workers that are started in the same way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workers {
    /// Command prefix that starts each of them; empty: here.
    pub runner: Vec<String>,
    /// Number of workers; `None` is one behind a runner, and one a GPU without a runner.
    pub count: Option<usize>,
    /// `cargo-kbench` where they run; `None` is the path that it has here.
    pub path: Option<String>,
}

/// The strategies.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum StrategyName {
    /// A model of the space proposes what may be faster.
    Auto,
    /// The two-layer elite traverse.
    Evo,
    /// At random.
    Random,
    /// Simulated annealing.
    Annealing,
    /// A genetic algorithm.
    Genetic,
    /// Every variant.
    Exhaustive,
}

impl StrategyName {
    /// All, by their names in the table.
    pub const ALL: [(&str, StrategyName); 6] = [
        ("auto", StrategyName::Auto),
        ("evo", StrategyName::Evo),
        ("random", StrategyName::Random),
        ("annealing", StrategyName::Annealing),
        ("genetic", StrategyName::Genetic),
        ("exhaustive", StrategyName::Exhaustive),
    ];
}

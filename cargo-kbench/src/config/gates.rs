//! The limits of each gate.

use kbench_runtime::protocol::Pattern;

use super::{Backend, Counters};

/// Severity of a failed gate, in cargo's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The gate does not judge.
    Allow,
    /// A failure is reported, and the variant passes.
    Warn,
    /// A failure rejects the variant.
    #[default]
    Deny,
}

/// The limits of every gate.
#[derive(Debug, Clone, Default)]
pub struct Gates {
    /// Gate 1: resources.
    pub resources: ResourceLimits,
    /// Gate 2: correctness.
    pub correctness: CorrectnessLimits,
    /// Gate 3: performance.
    pub performance: Vec<PerformanceLimit>,
    /// Shapes with limits of gate 3 that this run leaves out.
    pub performance_left_out: Vec<usize>,
    /// Severity of gate 3. `autotune` judges only the winner by it.
    pub performance_level: Level,
    /// The sanitizer gate.
    pub sanitize: Sanitize,
    /// The counters gate.
    pub counters: Counters,
}

/// Gate 1. `None` means no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceLimits {
    /// Severity.
    pub level: Level,
    /// Registers a thread (CUDA).
    pub max_registers: Option<u64>,
    /// Static plus dynamic shared memory a block, in bytes (CUDA).
    pub max_shared_bytes: Option<u64>,
    /// Spill stores plus spill loads, in bytes (CUDA).
    pub max_spill_bytes: Option<u64>,
    /// Stack frame in bytes (both).
    pub max_stack_bytes: Option<u64>,
    /// Size of the entry function's machine code in bytes (both).
    pub max_code_bytes: Option<u64>,
    /// Theoretical occupancy, 0 to 1 (CUDA).
    pub min_occupancy: Option<f64>,
}

/// Gate 2. `None` means that the table has no limit; then the gate derives limits from each output's type.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CorrectnessLimits {
    /// Severity.
    pub level: Level,
    /// Largest absolute error.
    pub max_abs_err: Option<f64>,
    /// Mean absolute error.
    pub max_mean_err: Option<f64>,
    /// Root mean square of the error over root mean square of the reference: scales with the output.
    pub max_rms_err: Option<f64>,
    /// Absolute mean signed error over root mean square of the reference.
    pub max_bias: Option<f64>,
    /// Absolute mean signed error over mean absolute error, if it exceeds chance.
    pub max_bias_ratio: Option<f64>,
    /// Largest absolute error due to quantised inputs alone.
    pub max_quantization_err: Option<f64>,
    /// Largest absolute error against the reference on the values before quantisation.
    pub max_total_err: Option<f64>,
    /// A baseline whose errors limit those of the kernel: an index into
    /// [`Kernel::baselines`](super::Kernel::baselines).
    pub naive: Option<usize>,
    /// Largest ratio of the kernel's errors to those of `naive`; 2 by default.
    pub max_naive_ratio: f64,
    /// Share of elements whose absolute error exceeds `max_abs_err`, 0 by default; above 0, `max_abs_err` alone does not reject.
    pub max_bad_fraction: f64,
    /// Number of seeds.
    pub seeds: u32,
    /// Indices into [`Kernel::shapes`](super::Kernel::shapes); all by default.
    pub shapes: Vec<usize>,
    /// Input patterns beside random inputs, at the cheapest shape; by default all that change a tensor.
    pub patterns: Vec<Pattern>,
    /// Whether two runs must agree bit for bit.
    pub deterministic: bool,
}

impl Default for CorrectnessLimits {
    fn default() -> Self {
        Self {
            level: Level::Deny,
            max_abs_err: None,
            max_mean_err: None,
            max_rms_err: None,
            max_bias: None,
            max_bias_ratio: None,
            max_quantization_err: None,
            max_total_err: None,
            naive: None,
            max_naive_ratio: 2.0,
            max_bad_fraction: 0.0,
            seeds: 5,
            shapes: Vec::new(),
            patterns: Vec::new(),
            deterministic: true,
        }
    }
}

/// The sanitizer gate: variants that passed the gates before it run once under each tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sanitize {
    /// Severity; `Allow` if the table does not mention the gate.
    pub level: Level,
    /// The tools, all for the kernel's backend.
    pub tools: Vec<SanitizeTool>,
    /// Indices into [`Kernel::shapes`](super::Kernel::shapes).
    pub shapes: Vec<usize>,
    /// Deadline of one launch under a tool, in seconds; 120 by default.
    pub timeout_seconds: u64,
}

impl Default for Sanitize {
    fn default() -> Self {
        Self { level: Level::Allow, tools: Vec::new(), shapes: Vec::new(), timeout_seconds: 120 }
    }
}

/// A sanitizer that observes a running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SanitizeTool {
    /// compute-sanitizer: accesses outside allocations, and misaligned ones.
    Memcheck,
    /// compute-sanitizer: races over shared memory.
    Racecheck,
    /// compute-sanitizer: reads of global memory that nothing wrote.
    Initcheck,
    /// compute-sanitizer: barriers that not all threads reach.
    Synccheck,
    /// The C compiler's address sanitizer.
    Address,
    /// The C compiler's undefined behaviour sanitizer.
    Undefined,
}

impl SanitizeTool {
    /// The tools of a backend, in the order in which they run.
    pub fn of(backend: Backend) -> &'static [Self] {
        match backend {
            Backend::Cuda | Backend::Fake => &[Self::Memcheck, Self::Racecheck, Self::Initcheck, Self::Synccheck],
            Backend::C => &[Self::Address, Self::Undefined],
        }
    }

    /// Name of the sanitizer in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memcheck => "memcheck",
            Self::Racecheck => "racecheck",
            Self::Initcheck => "initcheck",
            Self::Synccheck => "synccheck",
            Self::Address => "address",
            Self::Undefined => "undefined",
        }
    }
}

/// Gate 3: one limit at one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceLimit {
    /// Index into [`Kernel::shapes`](super::Kernel::shapes).
    pub shape: usize,
    /// The limited quantity.
    pub limit: PerformanceBound,
}

/// The quantity that a [`PerformanceLimit`] limits.
#[derive(Debug, Clone, PartialEq)]
pub enum PerformanceBound {
    /// `max_p50_us`: the upper end of the interval of p50 must not exceed it, in microseconds.
    MaxP50Us(f64),
    /// `min_speedup` over the baseline named: the lower end of the interval of the ratio must reach it.
    MinSpeedup {
        /// Smallest allowed ratio.
        ratio: f64,
        /// Index into [`Kernel::baselines`](super::Kernel::baselines).
        over: usize,
    },
}

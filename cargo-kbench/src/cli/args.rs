//! The arguments that verbs share or take.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::compare::Condition;
use crate::config::StrategyName;
use crate::report::{Format, Output, Verbosity};

/// What every verb prints, and how.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Say more: every rejection in full, with the compiler's output
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Say less: results and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Coloring
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,
    /// Results as text or as JSON lines on stdout
    #[arg(long, global = true, value_name = "FMT", default_value = "human")]
    message_format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

impl OutputArgs {
    pub(super) fn output(&self) -> Output {
        let verbosity = match (self.verbose, self.quiet) {
            (true, _) => Verbosity::Verbose,
            (_, true) => Verbosity::Quiet,
            _ => Verbosity::Normal,
        };
        Output::new(self.message_format, verbosity)
    }
}

/// Which kernels.
#[derive(Debug, Clone, Args)]
pub struct SelectArgs {
    /// Package to work on, as cargo names it: NAME, NAME@VERSION or a pattern (repeatable); by default the one of this folder, or
    /// all of a virtual workspace
    #[arg(short, long, value_name = "SPEC")]
    pub package: Vec<String>,
    /// Kernel of the package (repeatable); by default all
    #[arg(long, value_name = "NAME")]
    pub kernel: Vec<String>,
    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,
    /// Folder for all that is generated; elite.json is written next to it, or in the root of the workspace where it lies outside, or in the root of the workspace if it lies outside
    #[arg(long, value_name = "DIR")]
    pub target_dir: Option<PathBuf>,
}

/// Where the tools are.
#[derive(Debug, Clone, Args)]
pub struct ToolArgs {
    /// CUDA compiler; by default `$NVCC`, `$CUDA_HOME/bin`, the PATH, /usr/local/cuda or a Python wheel
    #[arg(long, value_name = "PATH")]
    pub nvcc: Option<PathBuf>,
}

/// What of the table is overridden for this run.
#[derive(Debug, Clone, Args)]
pub struct MeasureArgs {
    /// Shapes to check and measure, by default the table's
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub shapes: Vec<String>,
    /// Seeds to check on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seeds: Option<u32>,
    /// Samples to take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub iters: Option<u32>,
    /// Untimed launches before the samples
    #[arg(long, value_name = "N")]
    pub warmup: Option<u32>,
    /// Index of the device
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub device: u32,
}

/// A variant by its toggles.
#[derive(Debug, Clone, Args)]
pub struct VariantArgs {
    /// Toggles that differ from the default
    #[arg(long, value_name = "K=V,…")]
    pub variant: Option<String>,
}

/// A variant by its toggles, or the winner.
#[derive(Debug, Clone, Args)]
pub struct CandidateArgs {
    /// The default, or what `--variant` says.
    #[command(flatten)]
    pub variant: VariantArgs,
    /// The winner that elite.json names for this device and shape
    #[arg(long, conflicts_with = "variant")]
    pub elite: bool,
}

/// What to do with the resources of all variants.
#[derive(Debug, Clone, Args)]
pub struct ResourceDiffArgs {
    /// Keep the resources of every variant in a file, to be committed
    #[arg(long, value_name = "FILE", requires = "all")]
    pub save: Option<PathBuf>,
    /// Fail where a variant uses more than such a file says
    #[arg(long, value_name = "FILE", requires = "all")]
    pub against: Option<PathBuf>,
}

/// What `compare` lets pass.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Compare all the same what was measured under different conditions
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub allow: Vec<Condition>,
    /// By how much a variant must be slower to count as a regression
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub threshold: f64,
}

/// How to search.
#[derive(Debug, Clone, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a flag
pub struct TuneArgs {
    /// Go on where an interrupted run ended
    #[arg(long)]
    pub resume: bool,
    /// Tune every shape that is checked, and say how few variants serve all of them within 2 %
    #[arg(long)]
    pub per_shape: bool,
    /// More elite.json to begin with variants of, before those of this project's own
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub from: Vec<PathBuf>,
    /// Do not begin with variants of earlier elites
    #[arg(long, conflicts_with = "from")]
    pub cold: bool,
    /// Measure again what earlier runs measured
    #[arg(long, conflicts_with = "resume")]
    pub fresh: bool,
}

/// How to replay.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The strategy
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub strategy: StrategyName,
    /// Runs on each record, with the seeds 0, 1, …
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Evaluations a run
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: u64,
    /// A record whose three best each run begins with, as `autotune` does with those of elite.json
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

/// A percentage as a fraction.
fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().trim_end_matches('%').trim_end().parse().ok();
    let number = number.filter(|number| (0.0..100.0).contains(number));
    number.map(|number| number / 100.0).ok_or_else(|| "expected a percentage below 100, such as 2.5".to_owned())
}

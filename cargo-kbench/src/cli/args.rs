//! Arguments that several verbs share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kbench_runtime::protocol::LaunchMode;

use crate::config::Project;
use crate::record::elite::EliteFile;
use crate::report::{Format, Output, Verbosity};

/// Output options of every verb.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Print more: every rejection in full, with the compiler's output; -vv also logs each step to stderr
    #[arg(short, long, global = true, conflicts_with = "quiet", action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Print less: results and errors only
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
        let verbosity = match (self.verbose > 0, self.quiet) {
            (true, _) => Verbosity::Verbose,
            (_, true) => Verbosity::Quiet,
            _ => Verbosity::Normal,
        };
        Output::new(self.message_format, verbosity)
    }
}

/// Selection of kernels.
#[derive(Debug, Clone, Args)]
pub struct SelectArgs {
    /// Package to work on, as cargo names it: NAME, NAME@VERSION or a pattern (repeatable); by default the one of this folder, or
    /// all of a virtual workspace
    #[arg(short, long, value_name = "SPEC")]
    pub package: Vec<String>,
    /// Kernel of the package, or PACKAGE/NAME (repeatable); by default all
    #[arg(long, value_name = "NAME")]
    pub kernel: Vec<String>,
    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,
    /// Folder for all generated files; elite.json is written next to it, or in the root of the workspace if the folder
    /// lies outside of the workspace
    #[arg(long, value_name = "DIR")]
    pub target_dir: Option<PathBuf>,
}

impl SelectArgs {
    /// Whether a kernel of a package is selected.
    pub fn selects(&self, package: &str, kernel: &str) -> bool {
        self.kernel.is_empty() || self.kernel.iter().any(|name| is_named(name, package, kernel))
    }
}

/// Whether a kernel has this name, with or without the name of its package.
pub fn is_named(name: &str, package: &str, kernel: &str) -> bool {
    name == kernel || name.split_once('/') == Some((package, kernel))
}

/// A bundle in place of a package.
#[derive(Debug, Clone, Args)]
pub struct BundleArgs {
    /// Take kernels from a file that `cargo kbench bundle` wrote: needs no compiler and no sources. Results are written to this folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["package", "manifest_path"])]
    pub bundle: Option<PathBuf>,
}

/// Places of tools.
#[derive(Debug, Clone, Args)]
pub struct ToolArgs {
    /// CUDA compiler; by default `$NVCC`, `$CUDA_HOME/bin`, the PATH, /usr/local/cuda or a Python wheel
    #[arg(long, value_name = "PATH")]
    pub nvcc: Option<PathBuf>,
}

/// Overrides of the table for this run.
#[derive(Debug, Clone, Args)]
pub struct MeasureArgs {
    /// Shapes to check and measure; by default the table's
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub shapes: Vec<String>,
    /// Number of seeds to check
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seeds: Option<u32>,
    /// Number of samples to take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub iters: Option<u32>,
    /// Number of untimed launches before the samples
    #[arg(long, value_name = "N")]
    pub warmup: Option<u32>,
    /// Meaning of a sample on a GPU, in place of the table's `timing.launch`: graph, stream or host
    #[arg(long, value_name = "MODE", value_parser = launch_mode)]
    pub launch: Option<LaunchMode>,
    /// Index of the device; 0 by default
    #[arg(long, value_name = "N")]
    pub device: Option<u32>,
}

fn launch_mode(word: &str) -> Result<LaunchMode, String> {
    LaunchMode::named(word)
        .ok_or_else(|| format!("expected one of {}", LaunchMode::ALL.map(|(name, _)| name).join(", ")))
}

impl MeasureArgs {
    /// Index of the device.
    pub(super) fn device(&self) -> u32 {
        self.device.unwrap_or(0)
    }
}

/// A variant by its toggles.
#[derive(Debug, Clone, Args)]
pub struct VariantArgs {
    /// Toggles that differ from the default, `K=V K=V` or `K=V,K=V`
    #[arg(long, value_name = "K=V,…")]
    pub variant: Option<String>,
}

/// A variant by its toggles, or the winner of elite.json.
#[derive(Debug, Clone, Args)]
pub struct CandidateArgs {
    /// The default, or the variant of `--variant`.
    #[command(flatten)]
    pub variant: VariantArgs,
    /// Take the winner in elite.json for this device and shape
    #[arg(long, conflicts_with = "variant")]
    pub elite: bool,
}

impl CandidateArgs {
    /// The file with the winners, if `--elite` asks for it.
    pub(super) fn elite(&self, project: &Project) -> anyhow::Result<Option<EliteFile>> {
        Ok(self.elite.then(|| EliteFile::read(&project.elite_path())).transpose()?)
    }
}

/// Arguments of a verb that runs one candidate of each kernel.
#[derive(Debug, Clone, Args)]
pub struct TrialArgs {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// A bundle in place of a package.
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// Places of tools.
    #[command(flatten)]
    pub tools: ToolArgs,
    /// Selection of the variant.
    #[command(flatten)]
    pub candidate: CandidateArgs,
    /// Overrides of the table.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

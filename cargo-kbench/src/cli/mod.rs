//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::verbs::{Exit, Printed, Template, exit_of};
use crate::compare::Condition;
use crate::config::StrategyName;
use crate::interrupt::interrupt;
use crate::report::{self, Format, Output, Verbosity};

pub mod verbs;

/// What cargo calls: `cargo-kbench kbench …`.
#[derive(Debug, Parser)]
#[command(name = "cargo", bin_name = "cargo", styles = clap_cargo::style::CLAP_STYLING)]
enum Cargo {
    Kbench(Kbench),
}

/// Compile, gate and autotune the kernels declared in Cargo.toml.
#[derive(Debug, Args)]
#[command(version, about, after_help = EXIT_CODES)]
struct Kbench {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    output: OutputArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 pass; 1 a gate failed or no variant survived; 2 bad usage or configuration; \
    3 a tool, a device or room on the disk is missing; 130 interrupted";

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
    color: Color,
    /// Results as text or as JSON lines on stdout
    #[arg(long, global = true, value_name = "FMT", default_value = "human")]
    message_format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl OutputArgs {
    fn output(&self) -> Output {
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

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a package with a kernel, ready to gate and autotune
    New {
        /// Its folder, new or empty, which gives it its name
        path: PathBuf,
        /// Which kernel to start from
        #[arg(long, default_value = "c")]
        template: Template,
    },
    /// Check the table and print the search space, without compiling
    Check {
        #[command(flatten)]
        select: SelectArgs,
    },
    /// Compile variants and judge their resources (gate 1); needs no device
    Build {
        #[command(flatten)]
        select: SelectArgs,
        #[command(flatten)]
        tools: ToolArgs,
        #[command(flatten)]
        variant: VariantArgs,
        /// Every valid variant; fails only if none passes
        #[arg(long, conflicts_with = "variant")]
        all: bool,
        #[command(flatten)]
        diff: ResourceDiffArgs,
    },
    /// Run one variant through the gates: resources, correctness, performance
    Gate {
        #[command(flatten)]
        select: SelectArgs,
        #[command(flatten)]
        tools: ToolArgs,
        #[command(flatten)]
        candidate: CandidateArgs,
        #[command(flatten)]
        measure: MeasureArgs,
    },
    /// Measure one variant side by side with the default and the baselines
    Bench {
        #[command(flatten)]
        select: SelectArgs,
        #[command(flatten)]
        tools: ToolArgs,
        #[command(flatten)]
        candidate: CandidateArgs,
        #[command(flatten)]
        measure: MeasureArgs,
        /// Keep the result in a file, for `compare`
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// Say what limits one variant: hardware counters, the roofline, and what to try next
    Profile {
        #[command(flatten)]
        select: SelectArgs,
        #[command(flatten)]
        tools: ToolArgs,
        #[command(flatten)]
        candidate: CandidateArgs,
        #[command(flatten)]
        measure: MeasureArgs,
    },
    /// Break a kernel in many ways and see which gate notices: what survives, the gates do not see
    Audit {
        #[command(flatten)]
        select: SelectArgs,
        #[command(flatten)]
        tools: ToolArgs,
        #[command(flatten)]
        variant: VariantArgs,
        #[command(flatten)]
        measure: MeasureArgs,
    },
    /// Compare two elite.json, journals or files of `bench --save`: what became faster or slower
    Compare {
        /// What was measured before
        old: PathBuf,
        /// What was measured after
        new: PathBuf,
        #[command(flatten)]
        limits: CompareArgs,
    },
    /// Search the toggles for the fastest variant that passes, and write elite.json
    Autotune {
        #[command(flatten)]
        select: SelectArgs,
        #[command(flatten)]
        tools: ToolArgs,
        #[command(flatten)]
        measure: MeasureArgs,
        #[command(flatten)]
        tune: TuneArgs,
    },
    /// Run a search strategy on recorded spaces: Kernel Tuner cachefiles, T4 results, our journals
    Replay {
        /// Records, plain or gzipped
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        replay: ReplayArgs,
    },
    /// Run kernels for a driver on the other end of stdin and stdout
    Worker,
    /// Print a script that completes `cargo kbench`; load it after cargo's own
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line and says how the process should end.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.collect();
    // Where there is no cargo, people call the executable itself.
    if args.get(1).is_none_or(|first| first != "kbench") {
        args.insert(1, "kbench".into());
    }
    let Cargo::Kbench(Kbench { verb, output }) = match Cargo::try_parse_from(args) {
        Ok(cargo) => cargo,
        Err(error) => {
            let _ = report::usage(&error);
            return Exit::from_usage(error.use_stderr()).into();
        }
    };
    let choice = match output.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
    if !matches!(verb, Verb::Worker) {
        // A second Ctrl-C finds the default action again: the user means it.
        let handler = || {
            if interrupt() {
                std::process::exit(130);
            }
        };
        ctrlc::set_handler(handler).expect("the only handler of this process");
    }
    let exit = match run(verb, output.output()) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit_of(&error);
            if exit != Exit::Interrupted && !error.is::<Printed>() {
                report::error(format_args!("{error:#}"));
            }
            exit
        }
    };
    if exit == Exit::Interrupted {
        report::error("interrupted; what was finished is kept");
    }
    exit.into()
}

fn run(verb: Verb, output: Output) -> anyhow::Result<Exit> {
    match verb {
        Verb::New { path, template } => verbs::new::run(&path, template, output),
        Verb::Check { select } => verbs::check::run(&select, output),
        Verb::Build { select, tools, variant, all, diff } => {
            verbs::build::run(&select, &tools, &variant, all, &diff, output)
        }
        Verb::Gate { select, tools, candidate, measure } => {
            verbs::gate::run(&select, &tools, &candidate, &measure, output)
        }
        Verb::Bench { select, tools, candidate, measure, save } => {
            verbs::bench::run(&select, &tools, &candidate, &measure, save.as_deref(), output)
        }
        Verb::Profile { select, tools, candidate, measure } => {
            verbs::profile::run(&select, &tools, &candidate, &measure, output)
        }
        Verb::Audit { select, tools, variant, measure } => {
            verbs::audit::run(&select, &tools, &variant, &measure, output)
        }
        Verb::Compare { old, new, limits } => verbs::compare::run(&old, &new, &limits, output),
        Verb::Autotune { select, tools, measure, tune } => {
            verbs::autotune::run(&select, &tools, &measure, &tune, output)
        }
        Verb::Replay { files, replay } => verbs::replay::run(&files, &replay, output),
        Verb::Worker => verbs::worker::run(),
        Verb::Completions { shell } => {
            Ok(verbs::completions::run(shell, Kbench::augment_args(clap::Command::default())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cargo::command().debug_assert();
    }
}

//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::verbs::{Exit, Printed, Template, exit_of};
use crate::interrupt::interrupt;
use crate::report::{self, Output};

pub use args::{
    CandidateArgs, CompareArgs, MeasureArgs, OutputArgs, ReplayArgs, ResourceDiffArgs, SelectArgs, ToolArgs, TuneArgs,
    VariantArgs,
};

mod args;
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
        args::Color::Auto => anstream::ColorChoice::Auto,
        args::Color::Always => anstream::ColorChoice::Always,
        args::Color::Never => anstream::ColorChoice::Never,
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

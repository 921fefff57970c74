//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{SigHandler, Signal};

use self::verbs::exit_of;
use crate::config::ConfigErrors;
use crate::interrupt::interrupt;
use crate::report::{self, Output};

pub use crate::harness::Exit;

pub(crate) use args::{BundleArgs, MeasureArgs, OutputArgs, SelectArgs, ToolArgs, TrialArgs, VariantArgs, is_named};

mod args;
mod verbs;

/// The command line as cargo passes it: `cargo-kbench kbench …`.
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
    New(verbs::new::Args),
    /// Make a package from a Kernel Tuner script or a tuning problem of Kernel Tuner, KTT or BAT (T1 JSON)
    Import(verbs::import::Args),
    /// Check the table and print the search space, without compiling
    Check(verbs::check::Args),
    /// Compile variants and judge their resources (gate 1); needs no device
    Build(verbs::build::Args),
    /// Run one variant through the gates: resources, correctness, performance
    Gate(TrialArgs),
    /// Measure one variant side by side with the default and the baselines
    Bench(verbs::bench::Args),
    /// Find the bottleneck of one variant: hardware counters, roofline, diagnosis and advice
    Profile(TrialArgs),
    /// Break a kernel on purpose and name the faults that no gate notices
    Audit(verbs::audit::Args),
    /// List the kernels that became faster or slower between two elite.json, journals or files of `bench --save`
    Compare(verbs::compare::Args),
    /// List the variants of the last search
    List(verbs::list::Args),
    /// Show all records of one variant of the last search
    Show(verbs::show::Args),
    /// Write the last search as a page, plots, a table or data
    Report(verbs::report::Args),
    /// Search the toggles for the fastest variant that passes, and write elite.json
    Autotune(verbs::autotune::Args),
    /// Write a kernel and all its compiled variants to one file, for machines without compilers and sources
    Bundle(verbs::bundle::Args),
    /// Merge the results of several searches: parts of a space, other machines
    Merge(verbs::merge::Args),
    /// Write the winner of elite.json as the default of the table into Cargo.toml
    Apply(verbs::apply::Args),
    /// Write code that launches the winners, for a program to contain
    Export(verbs::export::Args),
    /// Run a search strategy on recorded spaces: Kernel Tuner cachefiles, T4 results, journals of this tool
    Replay(verbs::replay::Args),
    /// List the tools and devices of this machine, the use of each missing one, and the command that installs it
    Doctor(verbs::doctor::Args),
    /// Install CUDA's compiler in the user's cache folder, or remove it
    Toolchain(verbs::toolchain::Args),
    /// Explain a reason code, a key of the table, a counter or a topic
    Explain(verbs::explain::Args),
    /// Run kernels for a driver on the other end of stdin and stdout
    Worker,
    /// Print a script that completes `cargo kbench`; load it after cargo's own
    Completions(verbs::completions::Args),
    /// Write a man page for each verb into a folder
    Man(verbs::man::Args),
}

/// Runs the command line and returns the exit code of the process.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.collect();
    // On a machine without cargo, users call the executable itself.
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
    // A write to a file at its size limit returns an error with the file's name, and no signal ends the process.
    // SAFETY: ignoring a signal installs no handler, so no code runs in signal context.
    let _ = unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    if !matches!(verb, Verb::Worker)
        && let Err(error) = listen()
    {
        report::error(error);
        return Exit::Missing.into();
    }
    // The driver keeps the stderr of a worker for error reports.
    let logging = if matches!(verb, Verb::Worker) { Ok(()) } else { report::log::start(output.verbose > 1) };
    let output = output.output();
    let exit = match logging.map_err(Into::into).and_then(|()| run(&verb, output)) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit_of(&error);
            match error.downcast_ref::<ConfigErrors>() {
                _ if exit == Exit::Interrupted => {}
                Some(errors) => errors.diagnostics.iter().for_each(|diagnostic| output.diagnostic(diagnostic)),
                None => report::error(format_args!("{error:#}")),
            }
            exit
        }
    };
    if exit == Exit::Interrupted {
        report::error("interrupted; finished evaluations are kept");
    }
    exit.into()
}

/// Starts the threads of every run: one waits for Ctrl-C, the others run parallel loops.
fn listen() -> anyhow::Result<()> {
    // A second Ctrl-C has the default action and ends the process.
    let handler = || {
        if interrupt() {
            std::process::exit(Exit::Interrupted.code().into());
        }
    };
    ctrlc::set_handler(handler).map_err(|error| {
        let words = match error {
            ctrlc::Error::System(error) => error.to_string(),
            other => other.to_string(),
        };
        anyhow::anyhow!("could not listen for Ctrl-C: {words}; allow more processes (`ulimit -u`)")
    })?;
    Ok(kbench_runtime::driver::threads::start_pool()?)
}

fn run(verb: &Verb, output: Output) -> anyhow::Result<Exit> {
    match verb {
        Verb::New(args) => verbs::new::run(args, output),
        Verb::Import(args) => verbs::import::run(args, output),
        Verb::Check(args) => verbs::check::run(args, output),
        Verb::Build(args) => verbs::build::run(args, output),
        Verb::Gate(args) => verbs::gate::run(args, output),
        Verb::Bench(args) => verbs::bench::run(args, output),
        Verb::Profile(args) => verbs::profile::run(args, output),
        Verb::Audit(args) => verbs::audit::run(args, output),
        Verb::Compare(args) => verbs::compare::run(args, output),
        Verb::List(args) => verbs::list::run(args, output),
        Verb::Show(args) => verbs::show::run(args, output),
        Verb::Report(args) => verbs::report::run(args, output),
        Verb::Autotune(args) => verbs::autotune::run(args, output),
        Verb::Bundle(args) => verbs::bundle::run(args, output),
        Verb::Merge(args) => verbs::merge::run(args, output),
        Verb::Apply(args) => verbs::apply::run(args, output),
        Verb::Export(args) => verbs::export::run(args, output),
        Verb::Replay(args) => verbs::replay::run(args, output),
        Verb::Doctor(args) => verbs::doctor::run(args, output),
        Verb::Toolchain(args) => verbs::toolchain::run(args, output),
        Verb::Explain(args) => verbs::explain::run(args),
        Verb::Worker => verbs::worker::run(),
        Verb::Completions(args) => Ok(verbs::completions::run(args, Kbench::augment_args(clap::Command::default()))),
        Verb::Man(args) => verbs::man::run(args, Kbench::augment_args(clap::Command::default())),
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

//! `cargo kbench man DIR`: man pages, made from the definition of the command line.

use std::path::PathBuf;

use anyhow::Context as _;

use super::Exit;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the pages, such as ~/.local/share/man/man1; created if it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Runs the verb. `command` is the definition of the executable's command line.
pub fn run(args: &Args, command: clap::Command) -> anyhow::Result<Exit> {
    let Args { folder } = args;
    let unwritten = || format!("could not write man pages to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(unwritten)?;
    // cargo and man look for `cargo-kbench` and `cargo-kbench-VERB`.
    let command = command.name("cargo-kbench").bin_name("cargo kbench").disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).with_context(unwritten)?;
    Ok(Exit::Pass)
}

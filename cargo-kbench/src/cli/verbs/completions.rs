//! `cargo kbench completions SHELL`: a script that completes `cargo-kbench`, and `cargo kbench` beside cargo's own
//! completions.

use clap_complete::Shell;

use super::Exit;
use crate::report::out;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Runs the verb. `command` is the definition of the executable's command line.
pub fn run(args: &Args, command: clap::Command) -> Exit {
    let Args { shell } = *args;
    // The bash script for a name with a hyphen lacks the flags of the verbs (clap_complete 4.6): it is made for another
    // name.
    let name = if shell == Shell::Bash { "kbench" } else { "cargo-kbench" };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command.name(name), name, &mut script);
    out!("{}{}", String::from_utf8_lossy(&script), under_cargo(shell));
    Exit::Pass
}

/// Script that passes `cargo kbench …` to the completion of `cargo-kbench …`.
fn under_cargo(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("completions/cargo.bash"),
        Shell::Fish => include_str!("completions/cargo.fish"),
        // In zsh cargo's own completion calls `_cargo-kbench`, which the script defines.
        _ => "",
    }
}

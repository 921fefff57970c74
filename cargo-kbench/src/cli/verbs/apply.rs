//! `cargo kbench apply`: the winner of elite.json becomes the default of the table.

use super::{Exit, load_for_results, selected};
use crate::cli::SelectArgs;
use crate::export::apply::{applied, winner};
use crate::file;
use crate::record::elite::EliteFile;
use crate::report::{Finding, Output};

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Name of the device in elite.json whose winner is taken; needed if elite.json has winners of several devices
    #[arg(long, value_name = "DEVICE")]
    pub on: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let project = load_for_results(&args.select, output)?;
    let elite = EliteFile::read(&project.elite_path())?;
    let selected = selected(&project, &args.select);
    // Winners of all kernels are looked up before the first manifest is changed.
    let mut winners = Vec::new();
    for (package, kernel) in &selected {
        winners.push((package, kernel, winner(&elite, kernel, args.on.as_deref())?));
    }
    for (package, kernel, winner) in winners {
        let manifest = package.directory.join("Cargo.toml");
        let text = file::read(&manifest)?;
        let changed = applied(&text, &kernel.name, &winner.toggles)?;
        if changed != text {
            file::write(&manifest, changed.as_bytes())?;
        }
        output.show(&Finding::Applied(kernel, &winner.toggles, &manifest, changed != text));
    }
    Ok(Exit::Pass)
}

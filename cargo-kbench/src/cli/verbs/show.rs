//! `cargo kbench show VARIANT`: all records of one variant of the last search.

use anyhow::anyhow;

use super::Exit;
use super::report::{recorded, searches};
use crate::cli::SelectArgs;
use crate::report::{Output, Verbosity, out};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the variant in `list`, or toggles that no other variant has, such as `'K=V K2=V2'`
    pub variant: String,
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let runs = recorded(&args.select, output)?;
    let documents = searches(&runs)?;
    if output.is_json() {
        return Err(anyhow!("`show` writes text; `cargo kbench report --format json` has every variant as JSON"));
    }
    let [document] = &documents[..] else {
        return Err(anyhow!("{} searches are on record; name one with -p or --kernel", documents.len()));
    };
    out!("{}", document.variant(&args.variant, output.verbosity() == Verbosity::Verbose)?);
    Ok(Exit::Pass)
}

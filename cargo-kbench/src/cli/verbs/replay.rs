//! `cargo kbench replay FILE…`: a strategy on recorded spaces, no device needed.

use std::path::PathBuf;

use super::Exit;
use crate::cli::{OutputArgs, ReplayArgs};
use crate::replay::{self, Options, Recorded, Replayed, scores};
use crate::report::{self, Verbosity, out};

/// Runs the verb.
pub fn run(files: &[PathBuf], args: &ReplayArgs, output: &OutputArgs) -> anyhow::Result<Exit> {
    let options = Options { strategy: args.strategy, seeds: args.seeds, budget: args.budget };
    // All are read first: a file that is no record is better known before the work than after it.
    let records: Vec<Recorded> = files.iter().map(|file| replay::read(file)).collect::<Result<_, _>>()?;
    let warm = args.from.as_deref().map(replay::read).transpose()?.map(|from| from.elite()).unwrap_or_default();
    let mut all: Vec<Replayed> = Vec::new();
    for mut recorded in records {
        recorded.begin_with(&warm);
        if !output.json() && output.verbosity() > Verbosity::Quiet {
            let (name, count) = (&recorded.name, recorded.entries.len());
            report::status(
                "Replaying",
                format_args!(
                    "{name}: {}, {}",
                    report::count(count as u64, "configuration"),
                    report::count(options.seeds, "run")
                ),
            );
        }
        let replayed = Replayed::new(recorded, &options);
        if output.json() {
            report::json::replayed(&replayed, &options);
        }
        all.push(replayed);
    }
    let overall = scores::overall(&all);
    if output.json() {
        report::json::overall(&overall, &options);
    } else {
        out!("{}", report::replay::table(&all, &overall, &options));
    }
    Ok(Exit::Pass)
}

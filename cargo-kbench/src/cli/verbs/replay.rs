//! `cargo kbench replay FILE…`: a strategy on recorded spaces, no device needed.

use std::path::PathBuf;

use super::Exit;
use crate::cli::ReplayArgs;
use crate::replay::{self, Options, Recorded, Replayed, scores};
use crate::report::{self, Finding, Output};

/// Runs the verb.
pub fn run(files: &[PathBuf], args: &ReplayArgs, output: Output) -> anyhow::Result<Exit> {
    let options = Options { strategy: args.strategy, seeds: args.seeds, budget: args.budget };
    // All are read first: a file that is no record is better known before the work than after it.
    let records: Vec<Recorded> = files.iter().map(|file| replay::read(file)).collect::<Result<_, _>>()?;
    let warm = args.from.as_deref().map(replay::read).transpose()?.map(|from| from.elite()).unwrap_or_default();
    let mut all: Vec<Replayed> = Vec::new();
    for mut recorded in records {
        recorded.begin_with(&warm);
        let configurations = report::count(recorded.entries.len() as u64, "configuration");
        let runs = report::count(options.seeds, "run");
        output.status("Replaying", format_args!("{}: {configurations}, {runs}", recorded.name));
        let replayed = Replayed::new(recorded, &options);
        output.show(&Finding::Replayed(&replayed, &options));
        all.push(replayed);
    }
    let overall = scores::overall(&all);
    output.show(&Finding::AllReplayed(&all, &overall, &options));
    Ok(Exit::Pass)
}

//! `cargo kbench replay FILE…`: a strategy on recorded spaces, no device needed.

use std::path::PathBuf;

use super::Exit;
use crate::config::StrategyName;
use crate::replay::{self, Options, Recorded, Replayed, scores};
use crate::report::{self, Finding, Output};

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Records, plain or gzipped
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The strategy
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub strategy: StrategyName,
    /// Number of runs on each record, with the seeds 0, 1, …
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Number of evaluations of a run
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: u64,
    /// Number of variants that are pending at a time, as with several workers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Record whose three best variants start each run, as those of elite.json start `autotune`
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let options = Options { strategy: args.strategy, seeds: args.seeds, budget: args.budget, batch: args.batch.into() };
    // All files are read first: an invalid file is reported before the work, not after it.
    let records: Vec<Recorded> = args.files.iter().map(|file| replay::read(file)).collect::<Result<_, _>>()?;
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

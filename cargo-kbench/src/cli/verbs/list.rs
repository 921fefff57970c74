//! `cargo kbench list`: the variants of the last search.

use anyhow::anyhow;

use super::Exit;
use super::report::{recorded, searches};
use crate::cli::SelectArgs;
use crate::page::{Document, Query};
use crate::report::{Output, out};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Only variants that fulfil a condition on columns, such as `'TILE_M == 64 and p50 < 50000'` or `'outcome ==
    /// "rejected"'`; times in ns
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
    /// Column to sort by; by default the order of the search
    #[arg(long, value_name = "COLUMN")]
    pub sort: Option<String>,
    /// Reverse the order
    #[arg(long)]
    pub reverse: bool,
    /// Columns: number, outcome, value, p50, p90, p99, samples, gate, reason, message, toggles, resources; an unknown one lists all
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Largest number of rows
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let runs = recorded(&args.select, output)?;
    let documents: Vec<Document<'_>> = searches(&runs)?;
    if output.is_json() {
        return Err(anyhow!("`list` writes text; `cargo kbench report --format json` has every variant as JSON"));
    }
    let query = Query {
        condition: args.condition.as_deref(),
        sort: args.sort.as_deref(),
        reverse: args.reverse,
        columns: &args.columns,
        limit: args.limit,
    };
    for document in &documents {
        out!("{}", document.listing(&query)?);
    }
    Ok(Exit::Pass)
}

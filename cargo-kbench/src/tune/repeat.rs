//! Repetition of a search with several seeds, and a comparison of all winners.

use std::collections::BTreeMap;

use kbench_runtime::float::Float;
use schemars::JsonSchema;
use serde::Serialize;

use crate::gates::performance::{Entrant, EntrantId, compare, finals};
use crate::harness::{Harness, Reporter, RunError};
use crate::record::elite::EliteEntry;
use crate::space::Settings;

/// Results of several runs of one search.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Repeated {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// Name of the device.
    pub device: String,
    /// Shape of the search.
    pub shape: String,
    /// The runs in order.
    pub runs: Vec<RepeatedRun>,
    /// The different winners, fastest first. All were measured interleaved after the last run.
    pub winners: Vec<RepeatedWinner>,
}

/// One run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RepeatedRun {
    /// Seed of the strategy.
    pub seed: u64,
    /// Number of evaluated variants.
    pub evaluated: u64,
    /// The winner: an index into [`Repeated::winners`]. None if no variant survived.
    pub winner: Option<usize>,
}

/// A variant that won at least one run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RepeatedWinner {
    /// Toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// Number of runs that it won.
    pub runs: u64,
    /// p50 in nanoseconds a launch in the comparison of all winners; none if the winner failed there.
    pub p50_ns: Option<f64>,
    /// Regret: time over that of the fastest winner, less 1; at least 0. Infinite if the winner failed.
    #[serde(with = "Float")]
    pub regret: f64,
    /// The 95 % interval of the regret, from paired rounds; none for the fastest winner.
    pub interval: Option<(f64, f64)>,
}

/// Measures the winners of several runs interleaved. `runs` has the seed of each run and its entry for elite.json,
/// whose `elite` is empty if no variant survived. `None` if no winner could be measured.
pub fn conclude(
    harness: &mut Harness<'_>,
    runs: &[(u64, EliteEntry)],
    reporter: &mut dyn Reporter,
) -> Result<Option<Repeated>, RunError> {
    let kernel = harness.kernel();
    let mut toggles: Vec<&Settings> = Vec::new();
    for winner in runs.iter().filter_map(|(_, entry)| Some(&entry.elite.first()?.toggles)) {
        if !toggles.contains(&winner) {
            toggles.push(winner);
        }
    }
    let variants = toggles.iter().map(|toggles| kernel.space.variant(toggles).expect("the search tried it"));
    let variants: Vec<_> = variants.collect();
    let entrants: Vec<Entrant> = variants.iter().map(|variant| Entrant::Candidate(variant.into())).collect();
    reporter.event(finals(kernel, &entrants));
    let compared = compare(harness, kernel.search.shape, &entrants)?;
    let Some(fastest) = compared.fastest() else { return Ok(None) };
    let winner = |(toggles, variant)| {
        let toggles: &&Settings = toggles;
        let id = EntrantId::from(variant);
        RepeatedWinner {
            toggles: (*toggles).clone(),
            runs: runs
                .iter()
                .filter(|(_, entry)| entry.elite.first().is_some_and(|won| won.toggles == **toggles))
                .count() as u64,
            p50_ns: compared.entry(&id).map(|entry| entry.timing.summary.p50),
            regret: compared.loss(&id, fastest),
            interval: compared.loss_interval(&id, fastest),
        }
    };
    let mut winners: Vec<RepeatedWinner> = toggles.iter().zip(&variants).map(winner).collect();
    winners.sort_by(|one, other| one.regret.total_cmp(&other.regret));
    let run = |(seed, entry): &(u64, EliteEntry)| RepeatedRun {
        seed: *seed,
        evaluated: entry.search.evaluated,
        winner: entry.elite.first().and_then(|won| winners.iter().position(|winner| winner.toggles == won.toggles)),
    };
    Ok(Some(Repeated {
        package: kernel.package.clone(),
        kernel: kernel.name.clone(),
        device: harness.context.device.name.clone(),
        shape: kernel.shapes[kernel.search.shape].name.clone(),
        runs: runs.iter().map(run).collect(),
        winners,
    }))
}

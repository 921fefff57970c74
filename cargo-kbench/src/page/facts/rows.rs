//! Parts of the facts of a run: the winner, the finals, the tried and the rejected variants.

use std::collections::BTreeMap;

use super::{Fate, Finalist, Rejected, Transfer, Tried, Winner};
use crate::config::DEFAULT;
use crate::page::values::said;
use crate::record::conclusion::Conclusion;
use crate::record::elite::EliteVariant;
use crate::record::evaluation::{BuildRecord, Evaluation, GateName, Reason};
use crate::record::run::{OtherLaunch, Run};
use crate::space::Settings;

/// The winner under the launch modes of earlier runs, as far as both runs measured it.
pub(super) fn transfers(run: &Run) -> Vec<Transfer> {
    let Some(winner) = run.conclusion.as_ref().and_then(|conclusion| conclusion.entry.elite.first()) else {
        return Vec::new();
    };
    let (winner, here) = (winner.label(), run.p50());
    let transfer = |other: &OtherLaunch| {
        let there = &other.p50;
        let both: Vec<&String> = here.keys().filter(|label| there.contains_key(*label)).collect();
        let fastest = |times: &BTreeMap<String, f64>| {
            both.iter()
                .copied()
                .min_by(|a, b| times[*a].total_cmp(&times[*b]))
                .map(|label| (label.clone(), times[label]))
        };
        let ((winner_there, best_there), (_, best_here)) = (fastest(there)?, fastest(&here)?);
        Some(Transfer {
            mode: other.mode,
            variants: both.len(),
            loss_there: there.get(&winner)? / best_there - 1.0,
            loss_here: here[&winner_there] / best_here - 1.0,
            winner_there: said(&winner_there),
        })
    };
    run.other_launches.iter().filter_map(transfer).collect()
}

/// The facts of one variant; `number` is its place in the search, from 1.
pub(super) fn tried(number: usize, evaluation: &Evaluation) -> Tried {
    let rejection = evaluation.rejection();
    let shape = evaluation.timing.as_ref().map(|timing| timing.shape.as_str());
    let serves = |build: &&BuildRecord| shape.is_none_or(|shape| build.shapes.iter().any(|served| served == shape));
    let fate = match rejection {
        Some(_) => Fate::Rejected,
        None if evaluation.is_cut_short() => Fate::Stopped,
        None => Fate::Measured,
    };
    Tried {
        number,
        variant: said(&evaluation.label()),
        toggles: evaluation.toggles.clone(),
        fate,
        value: evaluation.objective(),
        timing: evaluation.timing.clone().filter(|_| rejection.is_none()),
        gate: rejection.map(|rejection| rejection.gate),
        reason: rejection.map(|rejection| rejection.code),
        message: rejection.map(|rejection| match &rejection.shape {
            Some(shape) => said(&format!("at {shape}: {}", rejection.message)),
            None => said(&rejection.message),
        }),
        identical_code: evaluation.identical_code.as_ref().map(|other| said(&other.to_string())),
        warnings: evaluation.warnings.iter().map(|warning| said(warning)).collect(),
        resources: evaluation.builds.iter().find(serves).map(|build| build.resources),
    }
}

/// The winner; `None` if no variant survived.
pub(super) fn winner(conclusion: &Conclusion, default: &Settings) -> Option<Winner> {
    let best = conclusion.entry.elite.first()?;
    let search = &conclusion.entry.search;
    Some(Winner {
        variant: said(&best.label()),
        is_default: best.source.is_none() && best.toggles.same(default),
        objectives: best.objectives.clone(),
        over_default: conclusion.over_default,
        over_second: conclusion.over_second,
        noise_floor: search.noise_floor,
        tie: search.tie.iter().flat_map(|tie| tie.variants.iter().map(|variant| said(variant))).collect(),
        tie_by: search.tie.as_ref().map(|tie| tie.by),
    })
}

/// Rows of the finals: elite first, then the default and baselines, each group by time.
pub(super) fn finals(run: &Run) -> Vec<Finalist> {
    let samples = |name: &str| {
        let entries = run.finals().map_or(&[][..], |comparison| &comparison.entries);
        entries.iter().find(|entry| entry.name == name).map_or_else(Vec::new, |entry| entry.samples.clone())
    };
    let Some(Conclusion { entry, .. }) = &run.conclusion else { return Vec::new() };
    let tie = entry.search.tie.as_ref().map_or(&[][..], |tie| &tie.variants);
    let of_elite = |variant: &EliteVariant| {
        let label = variant.label();
        Finalist {
            rank: Some(variant.rank),
            toggles: Some(variant.toggles.clone()),
            ties: tie.contains(&label),
            timing: variant.timing.clone(),
            speedups: variant.speedups.iter().map(|(name, speedup)| (said(name), *speedup)).collect(),
            objectives: variant.objectives.clone(),
            samples: samples(&label),
            name: said(&label),
        }
    };
    let default = run.start.default.to_string();
    let others = entry.baselines.iter().map(|baseline| {
        let name = if baseline.name == DEFAULT { &default } else { &baseline.name };
        Finalist {
            rank: None,
            toggles: baseline.toggles.clone(),
            name: said(&baseline.name),
            ties: tie.contains(name),
            timing: baseline.timing.clone(),
            speedups: BTreeMap::new(),
            objectives: baseline.objectives.clone(),
            samples: samples(name),
        }
    });
    entry.elite.iter().map(of_elite).chain(others).collect()
}

/// The rejected variants, one entry for each gate and reason code, with the first variant as the example.
pub(super) fn rejected(variants: &[Tried]) -> Vec<Rejected> {
    let mut all: BTreeMap<(GateName, Reason), Rejected> = BTreeMap::new();
    for variant in variants {
        let (Some(gate), Some(reason)) = (variant.gate, variant.reason) else { continue };
        let new = || Rejected {
            gate,
            reason,
            variants: 0,
            example: variant.variant.clone(),
            message: variant.message.clone().unwrap_or_default(),
        };
        all.entry((gate, reason)).or_insert_with(new).variants += 1;
    }
    all.into_values().collect()
}

//! The facts of a run that every format tells.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use kbench_runtime::protocol::LaunchMode;
use kbench_runtime::stats::Speedup;
use serde::Serialize;

use super::effects::{Effects, effects};
use crate::build::Resources;
use crate::config::DEFAULT;
use crate::expr::Value;
use crate::record::conclusion::{Conclusion, Stopped};
use crate::record::elite::{EliteVariant, TieRule};
use crate::record::evaluation::{Evaluation, GateName, Reason, TimingRecord};
use crate::record::objective::ObjectiveValue;
use crate::record::run::{OtherLaunch, Run};
use crate::record::verdict::JudgedSpeedup;
use crate::space::Settings;
use crate::text::{kernel_name, printable};

/// The version of the JSON form.
pub const VERSION: u32 = 1;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Facts {
    /// Version of this format.
    pub version: u32,
    /// Package and kernel, as users read them.
    pub kernel: String,
    /// Name of the device.
    pub device: String,
    /// The shape that variants were measured at; none where nothing was measured.
    pub shape: Option<String>,
    /// Its sizes.
    pub dims: BTreeMap<String, i64>,
    /// When the run began, seconds since the epoch.
    pub time: u64,
    /// What `value` of a variant is: the first objective, `p50` in nanoseconds unless the table says otherwise.
    pub objective: String,
    /// Whether the run ended by itself.
    pub ended: bool,
    /// The winner; none where no variant survived or the run was cut off before its finals.
    pub winner: Option<Winner>,
    /// Winner, runners-up, default and baselines, measured in turn.
    pub finals: Vec<Finalist>,
    /// Baselines that could not be measured, and why.
    pub unavailable: BTreeMap<String, String>,
    /// Performance limits that the winner misses.
    pub missed: Vec<String>,
    /// Whether they fail the run.
    pub missed_fails: bool,
    /// Warnings.
    pub warnings: Vec<String>,
    /// The budget that ended the search early, where one did.
    pub stopped: Option<Stopped>,
    /// Variants by what came of them.
    pub counts: Counts,
    /// Rejections by gate and reason, in the order of the gates.
    pub rejected: Vec<Rejected>,
    /// The winner under other launch modes, by earlier runs under these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launches: Vec<Transfer>,
    /// What each toggle does; none where too few variants were measured.
    pub effects: Option<Effects>,
    /// All variants in the order in which they were tried.
    pub variants: Vec<Tried>,
}

/// Numbers of variants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Counts {
    /// Valid variants of the space, where they can be counted.
    pub space: Option<u64>,
    /// Variants tried.
    pub tried: usize,
    /// Measured to the end.
    pub measured: usize,
    /// Stopped early since they were clearly slower than the best.
    pub stopped: usize,
    /// Rejected by a gate.
    pub rejected: usize,
    /// Variants with the machine code and launch of another, whose measurement serves both.
    #[serde(rename = "twins")]
    pub identical_code: usize,
    /// Variants that an earlier run measured.
    #[serde(rename = "recalled")]
    pub cached: usize,
}

/// The winner of a run under the launch mode of an earlier run of the same problem. Losses are shares: 0.03 is 3 % longer.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Transfer {
    /// The launch mode of the earlier run.
    pub mode: LaunchMode,
    /// Variants that both runs measured to the end.
    pub variants: usize,
    /// Time of this run's winner over that of the fastest of these variants under the other mode, less 1.
    pub loss_there: f64,
    /// The fastest of these variants under the other mode.
    pub winner_there: String,
    /// Time of that variant over that of the fastest one under this run's mode, less 1.
    pub loss_here: f64,
}

/// The winner.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Winner {
    /// Its toggles, and its source where that is not the kernel's own.
    pub variant: String,
    /// Whether it is the default.
    pub is_default: bool,
    /// What its objectives come to.
    pub objectives: Vec<ObjectiveValue>,
    /// Against the default.
    pub over_default: Option<JudgedSpeedup>,
    /// Against the runner-up.
    pub over_second: Option<JudgedSpeedup>,
    /// By how much identical code differed in the finals: 0.004 for 0.4 %.
    pub noise_floor: Option<f64>,
    /// All variants that no measurement tells apart from the fastest, the winner first; empty where it wins alone.
    pub tie: Vec<String>,
    /// What chose among them.
    pub tie_by: Option<TieRule>,
}

/// A variant or baseline of the finals.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Finalist {
    /// 1 is the best; none of the default and baselines.
    pub rank: Option<usize>,
    /// Toggles, `default` or the name of the baseline.
    pub name: String,
    /// The toggles of a variant.
    pub toggles: Option<Settings>,
    /// Whether it is one of the variants that no measurement tells apart from the fastest.
    pub ties: bool,
    /// Its time in nanoseconds.
    pub timing: TimingRecord,
    /// Speed-up of this one over the default and each baseline.
    pub speedups: BTreeMap<String, Speedup>,
    /// What its objectives come to.
    pub objectives: Vec<ObjectiveValue>,
    /// Its samples in nanoseconds, those of one place of every finalist from one round.
    #[serde(skip)]
    pub samples: Vec<f64>,
}

/// Variants rejected for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Rejected {
    /// The gate.
    pub gate: GateName,
    /// The reason.
    pub reason: Reason,
    /// Variants.
    pub variants: usize,
    /// One of them.
    pub example: String,
    /// What the gate said of that one.
    pub message: String,
}

/// Outcome of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It passed, and its time was measured to the end.
    Measured,
    /// It passed so far; sampling ended early because it is clearly slower than the best.
    Stopped,
    /// A gate rejected it.
    Rejected,
}

/// A variant that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Tried {
    /// Its place in the run, from 1.
    pub number: usize,
    /// Its toggles, and its source where that is not the kernel's own.
    pub variant: String,
    /// Its toggles.
    pub toggles: Settings,
    /// The result.
    pub fate: Fate,
    /// Its first objective, of one that passed; of one that was stopped early an estimate.
    pub value: Option<f64>,
    /// Its time where it was measured.
    pub timing: Option<TimingRecord>,
    /// The gate that rejected it.
    pub gate: Option<GateName>,
    /// Why.
    pub reason: Option<Reason>,
    /// In words.
    pub message: Option<String>,
    /// The variant whose machine code it has.
    #[serde(rename = "twin")]
    pub identical_code: Option<String>,
    /// Warnings of gates.
    pub warnings: Vec<String>,
    /// What its code uses at the shape of the search.
    pub resources: Option<Resources>,
}

/// Puts values of a toggle in ascending order.
pub(super) fn sort(values: &mut [Value]) {
    values.sort_by(order);
}

/// The order of values: numbers first, then words by the alphabet.
pub(super) fn order(a: &Value, b: &Value) -> Ordering {
    let number = |value: &Value| match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        Value::Str(_) => None,
    };
    match (number(a), number(b)) {
        (Some(first), Some(second)) => first.total_cmp(&second),
        (None, None) => a.to_string().cmp(&b.to_string()),
        (first, second) => second.is_some().cmp(&first.is_some()),
    }
}

/// A foreign text as it can be shown.
pub(super) fn said(text: &str) -> String {
    printable(text).into_owned()
}

impl Facts {
    /// The facts of a run.
    pub fn of(run: &Run) -> Self {
        let conclusion = run.conclusion.as_ref();
        let kernel = run
            .start
            .kernel
            .split_once('/')
            .map_or_else(|| run.start.kernel.clone(), |(package, kernel)| kernel_name(package, kernel));
        let variants: Vec<Tried> = run.evaluations.iter().enumerate().map(|(at, of)| tried(at + 1, of)).collect();
        let shape = conclusion
            .map(|conclusion| conclusion.entry.shape.clone())
            .or_else(|| run.evaluations.iter().find_map(|evaluation| Some(evaluation.timing.as_ref()?.shape.clone())));
        let dims = shape.as_ref().and_then(|shape| run.start.shapes.get(shape)).cloned().unwrap_or_default();
        let objective = run.start.objectives.first().map_or("p50", |objective| &*objective.name);
        let of_fate = |fate| variants.iter().filter(|variant| variant.fate == fate).count();
        let own: Vec<(&Settings, f64)> = run
            .evaluations
            .iter()
            .filter(|evaluation| evaluation.source.is_none())
            .filter_map(|evaluation| Some((&evaluation.toggles, evaluation.objective()?)))
            .filter(|(_, value)| *value > 0.0)
            .collect();
        Self {
            version: VERSION,
            kernel: said(&kernel),
            device: said(&run.start.device),
            shape,
            dims,
            time: run.start.time,
            objective: objective.to_owned(),
            ended: conclusion.is_some(),
            winner: conclusion.and_then(|conclusion| winner(conclusion, &run.start.default)),
            finals: finals(run),
            unavailable: conclusion.map_or_else(BTreeMap::new, |conclusion| {
                conclusion.entry.unavailable.iter().map(|(name, why)| (said(name), said(why))).collect()
            }),
            missed: conclusion.map_or_else(Vec::new, |conclusion| {
                conclusion.missed.iter().map(|missed| said(&missed.to_string())).collect()
            }),
            missed_fails: conclusion.is_some_and(|conclusion| conclusion.missed_fails),
            warnings: conclusion
                .map_or_else(Vec::new, |conclusion| conclusion.warnings.iter().map(|warning| said(warning)).collect()),
            stopped: conclusion.and_then(|conclusion| conclusion.stopped),
            counts: Counts {
                space: conclusion.and_then(|conclusion| conclusion.entry.search.space),
                tried: variants.len(),
                measured: of_fate(Fate::Measured),
                stopped: of_fate(Fate::Stopped),
                rejected: of_fate(Fate::Rejected),
                identical_code: variants.iter().filter(|variant| variant.identical_code.is_some()).count(),
                cached: run.evaluations.iter().filter(|evaluation| evaluation.cached).count(),
            },
            rejected: rejected(&variants),
            launches: transfers(run),
            effects: effects(&own),
            variants,
        }
    }

    /// Title of the run: kernel, shape and device.
    pub fn title(&self) -> String {
        let shape = self.shape.as_ref().map_or_else(String::new, |shape| format!(" at {}", said(shape)));
        format!("{}{shape} on {}", self.kernel, self.device)
    }

    /// Whether the run fails, as the exit code of `autotune` says.
    pub fn fails(&self) -> bool {
        self.winner.is_none() || self.missed_fails && !self.missed.is_empty()
    }
}

/// The winner under the launch modes of earlier runs, as far as both runs measured it.
fn transfers(run: &Run) -> Vec<Transfer> {
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

fn tried(number: usize, evaluation: &Evaluation) -> Tried {
    let rejection = evaluation.rejection();
    let shape = evaluation.timing.as_ref().map(|timing| timing.shape.as_str());
    let serves = |build: &&crate::record::evaluation::BuildRecord| {
        shape.is_none_or(|shape| build.shapes.iter().any(|served| served == shape))
    };
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

fn winner(conclusion: &Conclusion, default: &Settings) -> Option<Winner> {
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

/// The rows of the finals: elite first, then the default and baselines, each group by its time.
fn finals(run: &Run) -> Vec<Finalist> {
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

fn rejected(variants: &[Tried]) -> Vec<Rejected> {
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

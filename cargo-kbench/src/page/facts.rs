//! The facts of a run that all formats show.

mod rows;

use std::collections::BTreeMap;

use kbench_runtime::protocol::LaunchMode;
use kbench_runtime::stats::Speedup;
use serde::Serialize;

use super::effects::{Effects, effects};
use super::values::said;
use crate::build::Resources;
use crate::record::conclusion::Stopped;
use crate::record::elite::TieRule;
use crate::record::evaluation::{GateName, Reason, TimingRecord};
use crate::record::objective::ObjectiveValue;
use crate::record::run::Run;
use crate::record::verdict::JudgedSpeedup;
use crate::space::Settings;
use crate::text::kernel_name;
use rows::{finals, rejected, transfers, tried, winner};

/// Version of the JSON format.
pub const VERSION: u32 = 1;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Facts {
    /// Version of this format.
    pub version: u32,
    /// Package and kernel, as printed for users.
    pub kernel: String,
    /// Name of the device.
    pub device: String,
    /// Shape of the measurements; none if no variant was measured.
    pub shape: Option<String>,
    /// Sizes of the shape by dimension.
    pub dims: BTreeMap<String, i64>,
    /// Start of the run, in seconds since the epoch.
    pub time: u64,
    /// Name of the first objective, which `value` of a variant holds: `p50` in nanoseconds by default.
    pub objective: String,
    /// Whether the run ended by itself.
    pub ended: bool,
    /// The winner; none if no variant survived or the run was cut off before its finals.
    pub winner: Option<Winner>,
    /// Winner, runners-up, default and baselines, measured in turn.
    pub finals: Vec<Finalist>,
    /// Baselines without a measurement, with the reason.
    pub unavailable: BTreeMap<String, String>,
    /// Performance limits that the winner misses, in words.
    pub missed: Vec<String>,
    /// Whether a missed limit fails the run.
    pub missed_fails: bool,
    /// Warnings.
    pub warnings: Vec<String>,
    /// The budget that ended the search early; none if no budget did.
    pub stopped: Option<Stopped>,
    /// Numbers of variants by outcome.
    pub counts: Counts,
    /// Numbers of rejections by gate and reason, in the order of the gates.
    pub rejected: Vec<Rejected>,
    /// The winner under other launch modes, by earlier runs under these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub launches: Vec<Transfer>,
    /// Effects of the toggles; none if too few variants were measured.
    pub effects: Option<Effects>,
    /// All variants in the order of their evaluation.
    pub variants: Vec<Tried>,
}

/// Numbers of variants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Counts {
    /// Number of valid variants of the space; none if they cannot be counted.
    pub space: Option<u64>,
    /// Number of tried variants.
    pub tried: usize,
    /// Number of variants that were measured to the end.
    pub measured: usize,
    /// Number of variants whose sampling was stopped since they were clearly slower than the best.
    pub stopped: usize,
    /// Number of variants that a gate rejected.
    pub rejected: usize,
    /// Number of variants with the machine code and launch of another, whose measurement serves both.
    #[serde(rename = "twins")]
    pub identical_code: usize,
    /// Number of variants that an earlier run measured.
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
    /// Toggles, and the source if a proposer wrote it.
    pub variant: String,
    /// Whether the winner is the default.
    pub is_default: bool,
    /// Values of the objectives.
    pub objectives: Vec<ObjectiveValue>,
    /// Speed-up over the default.
    pub over_default: Option<JudgedSpeedup>,
    /// Speed-up over the runner-up.
    pub over_second: Option<JudgedSpeedup>,
    /// Difference of identical code in the finals: 0.004 for 0.4 %.
    pub noise_floor: Option<f64>,
    /// All variants that no measurement distinguishes from the fastest, the winner first; empty if there is only one.
    pub tie: Vec<String>,
    /// Rule that chose the winner of a tie.
    pub tie_by: Option<TieRule>,
}

/// A variant or baseline of the finals.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Finalist {
    /// Rank from 1; none for the default and baselines.
    pub rank: Option<usize>,
    /// Toggles, `default` or name of the baseline.
    pub name: String,
    /// The toggles of a variant.
    pub toggles: Option<Settings>,
    /// Whether the variant is one of those that no measurement distinguishes from the fastest.
    pub ties: bool,
    /// Median time with its interval, in nanoseconds.
    pub timing: TimingRecord,
    /// Speed-ups of this entry over the default and each baseline.
    pub speedups: BTreeMap<String, Speedup>,
    /// Values of the objectives.
    pub objectives: Vec<ObjectiveValue>,
    /// Samples in nanoseconds; sample i of every finalist was taken in the same round.
    #[serde(skip)]
    pub samples: Vec<f64>,
}

/// Variants that were rejected for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Rejected {
    /// The gate.
    pub gate: GateName,
    /// The reason.
    pub reason: Reason,
    /// Number of variants.
    pub variants: usize,
    /// Toggles of one of these variants.
    pub example: String,
    /// Message of the gate for that variant.
    pub message: String,
}

/// Outcome of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// The variant passed, and was measured to the end.
    Measured,
    /// The variant passed so far; sampling ended early because it is clearly slower than the best.
    Stopped,
    /// A gate rejected the variant.
    Rejected,
}

/// A tried variant.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Tried {
    /// Number of the variant in the run, from 1.
    pub number: usize,
    /// Toggles, and the source if a proposer wrote it.
    pub variant: String,
    /// Toggles.
    pub toggles: Settings,
    /// Outcome.
    pub fate: Fate,
    /// Value of the first objective of a variant that passed; an estimate if sampling stopped early.
    pub value: Option<f64>,
    /// Median time with its interval; none if the variant was not measured.
    pub timing: Option<TimingRecord>,
    /// The gate that rejected the variant.
    pub gate: Option<GateName>,
    /// Reason code of the rejection.
    pub reason: Option<Reason>,
    /// Message of the rejection.
    pub message: Option<String>,
    /// Label of the variant with the same machine code.
    #[serde(rename = "twin")]
    pub identical_code: Option<String>,
    /// Findings of gates at level `warn`.
    pub warnings: Vec<String>,
    /// Resources of the code at the shape of the search.
    pub resources: Option<Resources>,
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

    /// Whether the run fails, as in the exit code of `autotune`.
    pub fn fails(&self) -> bool {
        self.winner.is_none() || self.missed_fails && !self.missed.is_empty()
    }
}

//! The audit: mutants of the user's kernel run through the gates of its table. A surviving mutant is a fault that the
//! gates miss.
//!
//! [`plan`] lists the mutants, [`source`] makes those of the source, [`run`] puts each through the gates, [`advice`]
//! names the limit that would have rejected a survivor. Wrapper mutants are made in the worker:
//! `kbench-runtime/src/device/mutant.rs`.
//!
//! Limits on resources and speed are not applied, since they kill mutants by chance.

use serde::Serialize;

use crate::config::Level;
use crate::record::evaluation::{Evaluation, Rejection, ShapeErrors};
use crate::space::Settings;

pub mod advice;
pub mod lexer;
pub mod plan;
pub mod run;
pub mod source;

pub use run::{Audit, Observer};

/// One mutant and its fate.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Audited {
    /// Name of the mutant; the first word is its kind.
    pub name: String,
    /// Description of the fault.
    pub what: String,
    /// Fate of the mutant.
    pub fate: Fate,
    /// File with the changed source, for a source mutant.
    pub source: Option<std::path::PathBuf>,
}

/// Fate of a mutant.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Fate {
    /// A gate rejected it.
    Killed {
        /// Gate, reason and message.
        rejection: Rejection,
        /// Whether the table has that gate at level `deny`. Racecheck also runs on dropped barriers if the table does
        /// not ask for it.
        in_force: bool,
    },
    /// Every gate passed it.
    Survived {
        /// Limits that would have rejected the mutant, in words.
        advice: Vec<String>,
        /// Errors of the mutant, one entry for each shape.
        errors: Vec<ShapeErrors>,
    },
    /// The mutant is no fault: the same program, or the same results on all inputs.
    Equivalent {
        /// Reason, in words.
        why: String,
    },
    /// The mutant could not be made or compiled.
    Stillborn {
        /// Reason, in words.
        why: String,
    },
}

/// Result of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Cargo package of the kernel.
    pub package: String,
    /// Name of the kernel.
    pub kernel: String,
    /// Name of the device.
    pub device: String,
    /// The mutated variant.
    pub variant: Settings,
    /// Errors of the unchanged variant, one entry for each shape.
    pub errors: Vec<ShapeErrors>,
    /// The mutants with their fates.
    pub mutants: Vec<Audited>,
    /// Kinds of mutants that this kernel has none of, with the reason.
    pub absent: Vec<String>,
    /// Seconds without an answer after which a mutant counts as hung.
    pub deadline: u64,
}

/// Outcome of an audit.
#[derive(Debug, Clone)]
pub enum AuditOutcome {
    /// The mutants have run.
    Done(Report),
    /// The kernel itself fails a gate, so that the fate of a mutant would have no meaning.
    Unfit(Box<Evaluation>),
}

impl Report {
    /// Numbers of mutants: killed, survived, neither.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for mutant in &self.mutants {
            counts[match mutant.fate {
                Fate::Killed { .. } => 0,
                Fate::Survived { .. } => 1,
                Fate::Equivalent { .. } | Fate::Stillborn { .. } => 2,
            }] += 1;
        }
        counts
    }

    /// The one limit that would have killed several survivors, and the number of these survivors.
    pub fn remedy(&self) -> Option<(advice::Gap, usize)> {
        let survivors: Vec<&[ShapeErrors]> = self
            .mutants
            .iter()
            .filter_map(|mutant| match &mutant.fate {
                Fate::Survived { errors, .. } => Some(&**errors),
                _ => None,
            })
            .collect();
        advice::remedy(&self.errors, &survivors)
    }

    /// Number of mutants that were killed only by a gate whose level in the table is not `deny`.
    pub fn killed_out_of_force(&self) -> usize {
        self.mutants.iter().filter(|mutant| matches!(mutant.fate, Fate::Killed { in_force: false, .. })).count()
    }
}

/// The level in words, where a gate does not reject.
fn toothless(level: Level) -> Option<&'static str> {
    match level {
        Level::Deny => None,
        Level::Warn => Some("warn"),
        Level::Allow => Some("allow"),
    }
}

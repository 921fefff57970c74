//! The audit: mutants of the user's own kernel through the user's own gates. What survives says what the gates do not see.
//!
//! [`plan`] lists the mutants, [`source`] makes those of the source, [`run`] puts each through the gates, [`advice`] says which
//! limit would have rejected a survivor. Wrapper mutants are made in the worker: `kbench-runtime/src/device/mutant.rs`.
//!
//! Limits on resources and speed are not in force: whatever they kill, they kill by chance.

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

/// One mutant and what became of it.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct Audited {
    /// Its name, the first word of which says its kind.
    pub name: String,
    /// What is wrong with it.
    pub what: String,
    /// What became of it.
    pub fate: Fate,
    /// The changed source, of a source mutant.
    pub source: Option<std::path::PathBuf>,
}

/// Fate of a mutant.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Fate {
    /// A gate rejected it.
    Killed {
        /// With this.
        rejection: Rejection,
        /// Whether that gate is in force in the table. A sanitizer is asked about dropped barriers either way.
        in_force: bool,
    },
    /// Every gate passed it.
    Survived {
        /// What would have rejected it.
        advice: Vec<String>,
        /// Its errors.
        errors: Vec<ShapeErrors>,
    },
    /// It is no fault: the same program, or the same results everywhere.
    Equivalent {
        /// Why.
        why: String,
    },
    /// There is nothing to run.
    Stillborn {
        /// Why.
        why: String,
    },
}

/// Result of an audit.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The kernel's package.
    pub package: String,
    /// The kernel.
    pub kernel: String,
    /// The device's name.
    pub device: String,
    /// The variant that was mutated.
    pub variant: Settings,
    /// Its own errors.
    pub errors: Vec<ShapeErrors>,
    /// The mutants.
    pub mutants: Vec<Audited>,
    /// Mutants that there are none of, and why.
    pub absent: Vec<String>,
    /// Seconds without a sign of life after which a mutant counts as hung.
    pub deadline: u64,
}

/// Numbers of an audit.
#[derive(Debug, Clone)]
pub enum AuditOutcome {
    /// The mutants have run.
    Done(Report),
    /// The kernel itself does not pass, so that nothing can be said of its mutants.
    Unfit(Box<Evaluation>),
}

impl Report {
    /// Mutants by what became of them: killed, survived, neither.
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

    /// The limit that would have killed several survivors at once, and how many.
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

    /// Mutants that only a gate killed which the table does not deny.
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

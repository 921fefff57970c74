//! The records of a journal, a line each.

use std::collections::BTreeMap;

use kbench_runtime::stats::Samples;
use serde::{Deserialize, Serialize};

use super::VERSION;

use crate::record::conclusion::Conclusion;
use crate::record::elite::TimingSettings;
use crate::record::evaluation::{Evaluation, ExternalRecord, Rejection, ShapeErrors, SourceRecord, TimingRecord};
use crate::record::objective::ObjectiveRecord;
use crate::space::{Partition, Settings};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// A run began.
    Start(Start),
    /// A variant was tried.
    Evaluation(Box<Evaluation>),
    /// Variants and baselines were measured interleaved.
    Comparison(Box<Comparison>),
    /// A variant was run under a sanitizer.
    Sanitized(Box<SanitizedRun>),
    /// A variant that may win passed the whole check.
    Checked {
        /// Its evaluation's key.
        key: String,
        /// Its errors.
        errors: Vec<ShapeErrors>,
        /// All that gates at level `warn` found.
        warnings: Vec<String>,
    },
    /// A variant that had passed was rejected in the finals.
    Revoked {
        /// Its evaluation's key.
        key: String,
        /// Why.
        rejection: Rejection,
    },
    /// A proposer handed in sources.
    Round(Round),
    /// The run ended by itself.
    End {
        /// Variants evaluated.
        evaluations: u64,
        /// Its result; none in records of versions that did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conclusion: Option<Box<Conclusion>>,
    },
}

/// Subject and conditions of a run. The following records of the journal were measured under these conditions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Start {
    /// The version of the lines.
    pub version: u32,
    /// Package and kernel.
    pub kernel: String,
    /// The device's name.
    pub device: String,
    /// Seconds since the epoch.
    pub time: u64,
    /// Whether earlier records were used.
    pub resumed: bool,
    /// The sizes of each shape.
    #[serde(default)]
    pub shapes: BTreeMap<String, BTreeMap<String, i64>>,
    /// Settings of timing.
    #[serde(default)]
    pub timing: Option<TimingSettings>,
    /// The default variant.
    #[serde(default)]
    pub default: Settings,
    /// Objectives; p50 in records of versions that did not say.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRecord>,
    /// Fingerprint of the kernel's table, without the keys that change no measurement.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub table: String,
    /// The part of the space that is searched; none where the whole space is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Whether it is one of several runs of a merged journal, which count as one run together with what is before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merged: bool,
}

impl Start {
    /// Whether what is before it in the journal belongs to the same run.
    pub fn goes_on(&self) -> bool {
        self.version == VERSION && (self.resumed || self.merged)
    }
}

/// Proposals of one round, and those of them that were tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the keys of the format")]
pub struct Round {
    /// Which, from 1.
    pub round: u64,
    /// Hash of the proposer's command and the kernel's own source: for another proposer or source, these are no proposals.
    pub key: String,
    /// The sources, each with the toggles that it is to be tried with.
    pub proposals: Vec<(SourceRecord, Settings)>,
}

/// An interleaved measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Hash of the job.
    pub key: String,
    /// Entries, in the job's order.
    pub entries: Vec<ComparisonEntry>,
}

/// One entry of a [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonEntry {
    /// The variant's label, or the baseline's name.
    pub name: String,
    /// Role in the comparison.
    #[serde(default)]
    pub role: EntryRole,
    /// Hash of machine code and launch, or of a command: equal for identical code.
    pub program: String,
    /// Its time.
    pub timing: TimingRecord,
    /// Nanoseconds a launch; sample i of every entry was taken in the same round.
    pub samples: Vec<f64>,
    /// Mean time in nanoseconds that context switches may have added to a sample.
    #[serde(default)]
    pub slack: f64,
    /// Record of the program, if it is a baseline by `command`.
    #[serde(default)]
    pub external: Option<ExternalRecord>,
}

/// Role of an entry of a [`Comparison`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryRole {
    /// A variant of the kernel.
    #[default]
    Variant,
    /// A variant that is an entry already, once more, for the noise floor.
    Again,
    /// A baseline.
    Baseline,
}

impl ComparisonEntry {
    /// Its name with its role, where it stands beside an entry of the same name.
    pub fn shown(&self) -> String {
        match self.role {
            EntryRole::Again => format!("{} again", self.name),
            EntryRole::Variant | EntryRole::Baseline => self.name.clone(),
        }
    }

    /// Its samples, with what is not sure of them.
    pub fn taken(&self) -> Samples<'_> {
        Samples { times: &self.samples, slack: self.slack }
    }
}

/// One run under a sanitizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SanitizedRun {
    /// Hash of the job and the tool's command; empty where the variant did not get that far.
    pub key: String,
    /// Findings, whatever the gate's level.
    pub finding: Option<Rejection>,
    /// Warnings.
    pub warnings: Vec<String>,
}

impl SanitizedRun {
    /// The run of a variant that did not get as far as a launch.
    pub fn rejected(rejection: Rejection) -> Self {
        Self { key: String::new(), finding: Some(rejection), warnings: Vec::new() }
    }
}

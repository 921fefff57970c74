//! The records of a journal, one for each line.

use std::collections::BTreeMap;

use kbench_runtime::stats::Samples;
use serde::{Deserialize, Serialize};

use super::VERSION;

use crate::record::conclusion::Conclusion;
use crate::record::elite::TimingSettings;
use crate::record::evaluation::{Evaluation, ExternalRecord, Rejection, ShapeErrors, SourceRecord, TimingRecord};
use crate::record::objective::ObjectiveRecord;
use crate::space::{Partition, Settings};

/// A record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// A run starts.
    Start(Start),
    /// A variant was tried.
    Evaluation(Box<Evaluation>),
    /// Variants and baselines were measured interleaved.
    Comparison(Box<Comparison>),
    /// A variant ran under a sanitizer.
    Sanitized(Box<SanitizedRun>),
    /// A variant that may win passed the whole check.
    Checked {
        /// Key of the evaluation.
        key: String,
        /// Errors of the outputs.
        errors: Vec<ShapeErrors>,
        /// All findings of gates at level `warn`.
        warnings: Vec<String>,
    },
    /// A variant that had passed was rejected: by the rest of its check, by a gate that judges it alone, or beside the others in the finals.
    Revoked {
        /// Key of the evaluation.
        key: String,
        /// The rejection.
        rejection: Rejection,
        /// Whether the rest of its check rejected the variant.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_check: bool,
    },
    /// A proposer sent sources.
    Round(Round),
    /// The run ended by itself.
    End {
        /// Number of evaluated variants.
        evaluations: u64,
        /// Result of the search; none in records of versions that did not record it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conclusion: Option<Box<Conclusion>>,
    },
}

/// Kernel and conditions of a run. The following records of the journal were measured under these conditions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Start {
    /// The version of the lines.
    pub version: u32,
    /// Package and kernel.
    pub kernel: String,
    /// Name of the device.
    pub device: String,
    /// Start in seconds since the epoch.
    pub time: u64,
    /// Whether earlier records were used.
    pub resumed: bool,
    /// Sizes of each shape.
    #[serde(default)]
    pub shapes: BTreeMap<String, BTreeMap<String, i64>>,
    /// Settings of timing.
    #[serde(default)]
    pub timing: Option<TimingSettings>,
    /// The default variant.
    #[serde(default)]
    pub default: Settings,
    /// Objectives; p50 in records of versions that did not record them.
    #[serde(default)]
    pub objectives: Vec<ObjectiveRecord>,
    /// Fingerprint of the kernel's table, without the keys that change no measurement.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub table: String,
    /// The searched part of the space; none for the whole space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Whether the run is one of several in a merged journal, which count as one run together with the records before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merged: bool,
}

impl Start {
    /// Whether the records before belong to the same run.
    pub fn goes_on(&self) -> bool {
        self.version == VERSION && (self.resumed || self.merged)
    }
}

/// Proposals of one round, with their toggles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "the keys of the format")]
pub struct Round {
    /// Number of the round, from 1.
    pub round: u64,
    /// Hash of the proposer's command and the kernel's own source: the proposals are valid only for this proposer and
    /// source.
    pub key: String,
    /// The sources, each with its toggles.
    pub proposals: Vec<(SourceRecord, Settings)>,
}

/// An interleaved measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Hash of the job.
    pub key: String,
    /// Entries in the order of the job; none where an entrant was rejected.
    pub entries: Vec<ComparisonEntry>,
    /// The rejected entrant, by its place in the job, and its rejection. The others are measured again without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<(usize, Rejection)>,
    /// Findings of gates at level `warn`; none in records of versions that did not record them.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One entry of a [`Comparison`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonEntry {
    /// Label of the variant, or name of the baseline.
    pub name: String,
    /// Role in the comparison.
    #[serde(default)]
    pub role: EntryRole,
    /// Hash of machine code and launch, or of a command: equal for identical code.
    pub program: String,
    /// Median time with its interval.
    pub timing: TimingRecord,
    /// Samples in nanoseconds a launch; sample i of every entry was taken in the same round.
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
    /// The second measurement of a variant, for the noise floor.
    Again,
    /// A baseline.
    Baseline,
}

impl ComparisonEntry {
    /// Samples, with their uncertain part.
    pub fn taken(&self) -> Samples<'_> {
        Samples { times: &self.samples, slack: self.slack }
    }
}

/// One run under a sanitizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SanitizedRun {
    /// Hash of the job and the tool's command; empty if the variant was rejected before.
    pub key: String,
    /// Findings at any level of the gate.
    pub finding: Option<Rejection>,
    /// Warnings.
    pub warnings: Vec<String>,
}

impl SanitizedRun {
    /// A run without a finding or warning.
    pub fn clean(key: String) -> Self {
        Self { key, finding: None, warnings: Vec::new() }
    }

    /// The run of a variant that was rejected before a launch.
    pub fn rejected(rejection: Rejection) -> Self {
        Self { key: String::new(), finding: Some(rejection), warnings: Vec::new() }
    }
}

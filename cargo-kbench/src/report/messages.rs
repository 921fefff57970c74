//! The messages of `--message-format json`, and their schema. Above 400 lines: one enum has all messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kbench_runtime::protocol::DeviceInfo;
use kbench_runtime::stats::Speedup;
use schemars::JsonSchema;
use serde::Serialize;

use crate::audit::Audited;
use crate::bundle::KernelRecord;
use crate::compare::FileDiff;
use crate::compare::bench::BenchEntry;
use crate::compare::resource_diff::ResourceDiff;
use crate::config::StrategyName;
use crate::config::diagnostics::{Severity, Span};
use crate::doctor::{Examination, Need};
use crate::import::Note;
use crate::profile::Profile;
use crate::record::elite::{EliteEntry, PortfolioRecord};
use crate::record::evaluation::{
    BuildRecord, Evaluation, ExternalRecord, GateName, Reason, Rejection, Sanitized, ShapeErrors, SourceRecord,
    TimingRecord,
};
use crate::replay::{Overall, Scores};
use crate::space::{Partition, Settings};
use crate::tune::Tuned;
use crate::tune::repeat::Repeated;

/// Version of the messages. A message that gains a field keeps the version; a field that changes or goes raises the version.
pub const VERSION: u32 = 1;

/// One line of `cargo kbench --message-format json`.
#[derive(Serialize, JsonSchema)]
pub struct Line<'a> {
    /// Version of the messages. Readers accept fields that they do not know.
    pub version: u32,
    /// The message.
    #[serde(flatten)]
    pub message: Message<'a>,
}

/// A message; `reason` names its kind.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Message<'a> {
    /// All verbs that read a table: a mistake in a manifest.
    Diagnostic {
        /// Severity.
        level: Severity,
        /// The mistake: a lowercase fragment.
        message: &'a str,
        /// Places of the mistake, the main one first; empty for a mistake without a place.
        spans: Vec<Span<'a>>,
        /// The remedy.
        help: &'a [String],
        /// The drawing for a terminal, without colours.
        rendered: String,
    },
    /// `doctor`: tools and devices of the machine.
    Examined {
        /// The machine.
        #[serde(flatten)]
        found: &'a Examination,
        /// Needs of the kernels; none if no package was selected.
        needs: Option<&'a [Need]>,
    },
    /// `check`: the search space of a kernel.
    Space(Space<'a>),
    /// The gates or the search of a kernel begin.
    Started {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// The device; none if variants are only built.
        device: Option<&'a DeviceInfo>,
        /// Largest number of variants that will be evaluated.
        total: u64,
    },
    /// `autotune`, `gate`: a variant has been evaluated.
    Evaluated {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// Number of evaluated variants.
        done: u64,
        /// Largest number of variants that will be evaluated.
        total: u64,
        /// The evaluation.
        evaluation: &'a Evaluation,
    },
    /// `autotune`: a proposer has handed in sources.
    Proposed {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// Number of the round.
        round: u64,
        /// Number of sources in this round.
        proposals: usize,
    },
    /// The compute sanitizers have run on a variant.
    Sanitized {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// Label of the variant.
        variant: &'a str,
        /// The runs and their findings.
        #[serde(flatten)]
        sanitized: &'a Sanitized,
    },
    /// The bottleneck of a variant at one shape.
    Profile {
        /// Label of the variant, if a gate asked for the profile.
        #[serde(skip_serializing_if = "Option::is_none")]
        variant: Option<&'a str>,
        /// The profile.
        #[serde(flatten)]
        profile: &'a Profile,
    },
    /// `gate`: the kernels that were timed together at one shape.
    Comparison {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// The shape.
        shape: &'a str,
        /// The variant, the default and the baselines.
        entries: Vec<TimedKernel<'a>>,
        /// Baselines without a measurement, each with the rejection.
        unavailable: BTreeMap<String, &'a Rejection>,
        /// Relative difference between two measurements of identical machine code, 0.004 for 0.4 %; none if none was measured twice.
        noise_floor: Option<f64>,
    },
    /// `build`, `gate`: the verdict on one variant.
    Verdict(Box<Verdict<'a>>),
    /// `bench`: a variant beside the default and the baselines at one shape.
    Bench(&'a BenchEntry),
    /// `audit`: a mutant has been judged.
    Mutant {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// Number of judged mutants.
        done: usize,
        /// Number of mutants.
        total: usize,
        /// The mutant and its fate.
        #[serde(flatten)]
        audited: &'a Audited,
    },
    /// `audit`: all mutants of a kernel have been judged.
    Audited(Audit<'a>),
    /// `autotune --per-shape`: the smallest set of variants that serves all shapes.
    #[serde(rename = "cover")]
    Portfolio(&'a PortfolioRecord),
    /// `compare`: the differences between two files.
    Compared(&'a FileDiff),
    /// `build --against`: the changed resources of one kernel and architecture.
    Drift(&'a ResourceDiff),
    /// `replay`: the runs of a strategy on one record.
    Replayed {
        /// The strategy and its limits.
        #[serde(flatten)]
        options: ReplayOptions,
        /// Scores over all runs.
        #[serde(flatten)]
        scores: &'a Scores,
        /// Variants that each run begins with.
        warm_start: Vec<Settings>,
        /// The runs, one for each seed.
        runs: Vec<ReplayRun>,
    },
    /// `replay`: the runs on all records.
    ReplayedAll {
        /// The strategy and its limits.
        #[serde(flatten)]
        options: ReplayOptions,
        /// Scores over all records.
        #[serde(flatten)]
        overall: &'a Overall,
    },
    /// `autotune`: the result of a search.
    Tuned(&'a Tuned),
    /// `autotune --repeat`: the winners of all runs, measured interleaved.
    Repeated(&'a Repeated),
    /// `bundle`: a bundle has been written.
    Bundled {
        /// The file.
        path: &'a Path,
        /// Size of the file in bytes.
        bytes: u64,
        /// The kernels that can be searched with it.
        kernels: &'a [KernelRecord],
    },
    /// `merge`: the results of several searches at one shape on one device have been merged.
    Merged {
        /// Whether `elite.json` or the journal was changed.
        changed: bool,
        /// Parts of the space without a result.
        missing: &'a [Partition],
        /// The entry of elite.json.
        entry: &'a EliteEntry,
    },
    /// `new`: a package has been written.
    Created {
        /// Files of the package.
        files: &'a [PathBuf],
        /// Manifest of the workspace that the package was added to.
        member_of: Option<&'a Path>,
    },
    /// `autotune --dry-run`: the plan of a search.
    Planned {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// The variants that are tried first.
        first: &'a [Settings],
        /// Largest number of variants that are tried; none if they cannot be counted.
        most: Option<u64>,
        /// Estimate of the time in seconds, by the last search and the budget; none if neither gives one.
        seconds: Option<f64>,
    },
    /// `import`: a package has been made from a file of another tuner.
    Imported {
        /// Files of the package.
        files: &'a [PathBuf],
        /// Manifest of the workspace that the package was added to.
        member_of: Option<&'a Path>,
        /// Items that were not carried over.
        notes: &'a [Note],
    },
    /// `apply`: the winner of elite.json has become the default of the table.
    Applied {
        /// The kernel.
        #[serde(flatten)]
        of: Of<'a>,
        /// Toggles of the winner.
        toggles: &'a Settings,
        /// The manifest.
        manifest: &'a Path,
        /// Whether the manifest was changed.
        changed: bool,
    },
    /// `export`: code that launches a package's winners has been written, or compared with the existing files.
    Exported(Exported<'a>),
}

/// Code that launches a package's winners.
#[derive(Serialize, JsonSchema)]
pub struct Exported<'a> {
    /// Cargo package.
    pub package: &'a str,
    /// The folder.
    pub folder: &'a Path,
    /// Files of the export.
    pub files: Vec<ExportedFile<'a>>,
    /// Number of variants.
    pub variants: usize,
    /// Warnings.
    pub warnings: &'a [String],
    /// `--check`: the differences from the folder; none where the folder was written.
    pub stale: Option<&'a [String]>,
}

/// A file of an export.
#[derive(Serialize, JsonSchema)]
pub struct ExportedFile<'a> {
    /// Name in the folder.
    pub name: &'a Path,
    /// Size in bytes.
    pub bytes: usize,
}

/// The kernel that a message is about.
#[derive(Clone, Copy, Serialize, JsonSchema)]
pub struct Of<'a> {
    /// Cargo package.
    pub package: &'a str,
    /// Kernel.
    pub kernel: &'a str,
}

/// The search space of a kernel.
#[derive(Serialize, JsonSchema)]
pub struct Space<'a> {
    /// The kernel.
    #[serde(flatten)]
    pub of: Of<'a>,
    /// Number of valid variants; none if there are too many to count.
    pub valid: Option<u64>,
    /// The default variant.
    pub default: Settings,
    /// Names of the shapes.
    pub shapes: Vec<&'a str>,
    /// Name of the shape that a search measures.
    pub tuned_at: &'a str,
    /// The search strategy.
    pub strategy: StrategyName,
    /// Limits of a search.
    pub budget: Budget,
    /// Names of the objectives.
    pub objectives: Vec<&'static str>,
    /// Launches of the default variant that do not fit a shape.
    pub warnings: Vec<String>,
}

/// Limits of a search; none means no limit.
#[derive(Serialize, JsonSchema)]
pub struct Budget {
    /// Largest number of evaluated variants.
    pub evaluations: Option<u64>,
    /// Longest time of the search in seconds.
    pub seconds: Option<u64>,
}

/// Whether a variant passed.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The variant passed every gate that ran.
    Pass,
    /// A gate rejected the variant.
    Fail,
    /// The variant passed gate 1; the other gates need a device.
    Skip,
}

/// The verdict on one variant.
#[derive(Serialize, JsonSchema)]
pub struct Verdict<'a> {
    /// The kernel.
    #[serde(flatten)]
    pub of: Of<'a>,
    /// The variant.
    pub variant: &'a Settings,
    /// The source, if a proposer wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'a SourceRecord>,
    /// Whether the variant passed.
    pub status: Status,
    /// The gate that rejected the variant.
    pub gate: Option<GateName>,
    /// The reason code.
    pub code: Option<Reason>,
    /// The shape of the rejection.
    pub shape: Option<&'a str>,
    /// Message of the rejection.
    pub message: Option<&'a str>,
    /// Output of the tool that rejected the variant.
    pub output: Option<&'a str>,
    /// Findings of gates at level `warn`.
    pub warnings: &'a [String],
    /// The builds.
    pub builds: &'a [BuildRecord],
    /// Warnings of the compilers.
    pub compiler_messages: Vec<&'a str>,
    /// Errors of the outputs, one entry for each shape.
    pub errors: &'a [ShapeErrors],
    /// Median time with its interval at the shape of the search.
    pub timing: Option<&'a TimingRecord>,
    /// Gates that ran and judged nothing, each with the reason; only if all gates ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unjudged: Option<BTreeMap<GateName, String>>,
}

/// One of the kernels that were timed together.
#[derive(Serialize, JsonSchema)]
pub struct TimedKernel<'a> {
    /// The variant's label, `default`, or the baseline's name.
    pub name: &'a str,
    /// Median time with its interval.
    pub timing: &'a TimingRecord,
    /// Speed-up of the gated variant over this one; none for the variant itself.
    pub speedup_over: Option<Speedup>,
    /// Measurement of a program; none for a kernel.
    pub external: Option<&'a ExternalRecord>,
}

/// An audit of one kernel.
#[derive(Serialize, JsonSchema)]
pub struct Audit<'a> {
    /// The kernel.
    #[serde(flatten)]
    pub of: Of<'a>,
    /// Name of the device.
    pub device: &'a str,
    /// The mutated variant.
    pub variant: &'a Settings,
    /// Errors of the unchanged variant, one entry for each shape.
    pub errors: &'a [ShapeErrors],
    /// Numbers of mutants.
    pub mutants: MutantCounts,
    /// Kinds of mutants that this kernel has none of, each with the reason.
    pub absent: &'a [String],
    /// Seconds without an answer after which a mutant counts as hung.
    pub deadline: u64,
}

/// Numbers of mutants by fate.
#[derive(Serialize, JsonSchema)]
pub struct MutantCounts {
    /// Mutants that a gate rejected.
    pub killed: usize,
    /// Killed mutants that only gates outside of the table rejected.
    pub killed_by_gates_not_in_force: usize,
    /// Mutants that passed every gate.
    pub survived: usize,
    /// Mutants that are no faults, or cannot run.
    pub equivalent_or_stillborn: usize,
}

/// Settings of a replay.
#[derive(Serialize, JsonSchema)]
pub struct ReplayOptions {
    /// The strategy.
    pub strategy: &'static str,
    /// Number of runs, with the seeds 0, 1, ….
    pub seeds: u64,
    /// Largest number of evaluations of a run.
    pub budget: u64,
    /// Variants that are pending at a time.
    pub batch: usize,
}

/// One run of a replay.
#[derive(Serialize, JsonSchema)]
pub struct ReplayRun {
    /// Seed.
    pub seed: u64,
    /// Time of the strategy in seconds.
    pub seconds: f64,
    /// The evaluations in order.
    pub trajectory: Vec<ReplayStep>,
}

/// One evaluation of a replay.
#[derive(Serialize, JsonSchema)]
pub struct ReplayStep {
    /// The variant.
    pub toggles: Settings,
    /// Time in the record's unit; none if the variant failed.
    pub time: Option<f64>,
}

#[cfg(test)]
mod tests {
    use schemars::transform::{RecursiveTransform, Transform as _};

    use super::*;

    /// Regenerate with `KBENCH_UPDATE=1 cargo test -p cargo-kbench schema`.
    #[test]
    fn the_committed_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/messages.schema.json");
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
        let mut schema = settings.into_generator().into_root_schema_for::<Line<'static>>();
        // Records in files refuse unknown fields; a message may gain fields within one version.
        let mut open = RecursiveTransform(|schema: &mut schemars::Schema| {
            for key in ["additionalProperties", "unevaluatedProperties"] {
                if schema.get(key) == Some(&serde_json::Value::Bool(false)) {
                    schema.remove(key);
                }
            }
        });
        open.transform(&mut schema);
        let current = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("KBENCH_UPDATE").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == current, "run `KBENCH_UPDATE=1 cargo test -p cargo-kbench schema`");
    }
}

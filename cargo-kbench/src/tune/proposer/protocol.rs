//! The protocol of a proposer: one JSON value on each line, [`Request`]s on its stdin, [`Answer`]s on its stdout; its
//! stderr is shown if it fails. `cargo-kbench/schema/proposer.schema.json` has every field; a program may ignore
//! fields.
//!
//! ```text
//! <- {"type":"hello","protocol":1,"kernel":{"name":"sdpa","backend":"c","entry":"sdpa","source":"/…/sdpa.c","text":"…",
//!     "toggles":[{"name":"UNROLL","values":[1,2,4]}],"default":{"UNROLL":1},"shapes":{"mission":{"S":128}},"shape":"mission",…},…}
//! -> {"type":"hello","protocol":1}
//! <- {"type":"round","round":1,"left":16,"elite":[{"toggles":{"UNROLL":4},"source":null,"text":null,"p50_ns":98710.0,…}],
//!     "rejects":[…],"profile":{…}}
//! -> {"type":"propose","name":"unroll-2","source":"#include <math.h>…","toggles":{"UNROLL":2}}
//! -> {"type":"done"}
//! <- {"type":"verdict","round":1,"name":"unroll-2","status":"passed","p50_ns":91230.0,"rank":1,…}
//! <- {"type":"round","round":2,…}
//! -> {"type":"done"}
//! ```
//!
//! Every proposal gets one verdict before the next round: `passed`, `rejected` by a gate, or `refused` untried. A round
//! without a tried proposal is the last. A run with `--resume` first sends the verdicts on earlier proposals. Silence
//! for ten minutes, more than [`MOST`] proposals in a round or more than [`LONGEST`] bytes of source end the program,
//! and only the program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kbench_runtime::protocol::DeviceInfo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::Resources;
use crate::profile::Profile;
use crate::record::evaluation::{Rejection, SourceRecord};
use crate::record::objective::ObjectiveValue;
use crate::space::Settings;

/// Version of this protocol; both sides must have the same.
pub const VERSION: u32 = 1;

/// Largest number of proposals in a round.
pub const MOST: usize = 64;

/// Largest number of bytes of a source.
pub const LONGEST: usize = 1 << 18;

/// Messages of the driver.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// The first line.
    Hello {
        /// [`VERSION`] of the driver.
        protocol: u32,
        /// The tuned kernel.
        kernel: Box<Kernel>,
        /// The device.
        #[schemars(with = "BTreeMap<String, serde_json::Value>")]
        device: Box<DeviceInfo>,
    },
    /// A round of proposals starts.
    Round(Box<Round>),
    /// Verdict on a proposal.
    Verdict(Box<Verdict>),
}

/// The tuned kernel.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Kernel {
    /// Cargo package.
    pub package: String,
    /// Name of the kernel.
    pub name: String,
    /// `cuda` or `c`.
    pub backend: String,
    /// The function that a proposal must define, with the parameters that it has in `text`.
    pub entry: String,
    /// Path of the source. A proposal may include the same files by name.
    pub source: PathBuf,
    /// Text of the source.
    pub text: String,
    /// Compiler flags, also for proposals.
    pub flags: Vec<String>,
    /// Blocks of a launch (CUDA), expressions over dimensions and toggles. A proposal is launched like the original.
    pub grid: Vec<String>,
    /// Threads of a block (CUDA).
    pub block: Vec<String>,
    /// Bytes of dynamic shared memory (CUDA).
    pub dynamic_shared: Option<String>,
    /// All launches, if there are several: the keys above are those of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub launches: Vec<Launch>,
    /// Macros beside the toggles, and their values: expressions over dimensions and toggles.
    pub defines: BTreeMap<String, String>,
    /// Macros, each with its values. A proposal is compiled with one value of each.
    pub toggles: Vec<Toggle>,
    /// Constraints on combinations of values.
    pub constraints: Vec<String>,
    /// The default variant.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub default: Settings,
    /// Sizes of each shape: a proposal must be right at all of them, and at others.
    pub shapes: BTreeMap<String, BTreeMap<String, i64>>,
    /// Shape of the time measurement.
    pub shape: String,
}

/// One of several launches.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Launch {
    /// The function.
    pub entry: String,
    /// Blocks (CUDA).
    pub grid: Vec<String>,
    /// Threads of a block (CUDA).
    pub block: Vec<String>,
    /// Bytes of dynamic shared memory (CUDA).
    pub dynamic_shared: Option<String>,
    /// Condition of the launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// A macro with several values.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Toggle {
    /// Name of the macro.
    pub name: String,
    /// Values of the macro.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub values: Vec<crate::expr::Value>,
}

/// State of the search at the start of a round.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(clippy::struct_field_names, reason = "the keys of the format")]
pub struct Round {
    /// Number of the round, from 1.
    pub round: u64,
    /// Largest number of proposals that will be tried from now on.
    pub left: u64,
    /// The best variants so far, best first.
    pub elite: Vec<Elite>,
    /// Variants that were rejected since the last round, a few for each reason.
    pub rejects: Vec<Reject>,
    /// Bottleneck of the best variant, as `cargo kbench profile` prints it; none if there is no best variant.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub profile: Option<Profile>,
}

/// One of the best variants.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Elite {
    /// Toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// The source; none for the kernel's own.
    pub source: Option<SourceRecord>,
    /// Text of the source.
    pub text: Option<String>,
    /// Median in nanoseconds a launch.
    pub p50_ns: f64,
    /// Lower end of the 95 % interval, in nanoseconds.
    pub p50_low_ns: f64,
    /// Upper end of the 95 % interval, in nanoseconds.
    pub p50_high_ns: f64,
    /// Values of the table's objectives; variants are ranked by the first.
    pub objectives: Vec<ObjectiveValue>,
    /// Registers, shared memory, spills, code size.
    pub resources: Resources,
}

/// A rejected variant.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Reject {
    /// Toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// The source; none for the kernel's own.
    pub source: Option<SourceRecord>,
    /// Gate, reason, message, and output of the compiler or the sanitizer.
    pub rejection: Rejection,
}

/// Verdict on a proposal.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Verdict {
    /// Round of the proposal.
    pub round: u64,
    /// Name of the proposal.
    pub name: String,
    /// blake3 hash of the source.
    pub hash: String,
    /// Status.
    pub status: Status,
    /// Toggles of the evaluation; none for a refused proposal.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub toggles: Option<Settings>,
    /// Reason of a refusal.
    pub refusal: Option<Refused>,
    /// Message of a refusal.
    pub message: Option<String>,
    /// Rejection by a gate.
    pub rejection: Option<Rejection>,
    /// Median in nanoseconds a launch.
    pub p50_ns: Option<f64>,
    /// Lower end of the 95 % interval, in nanoseconds.
    pub p50_low_ns: Option<f64>,
    /// Upper end of the 95 % interval, in nanoseconds.
    pub p50_high_ns: Option<f64>,
    /// Values of the table's objectives; variants are ranked by the first.
    pub objectives: Vec<ObjectiveValue>,
    /// Whether sampling ended early, because the proposal was clearly slower than the elite.
    #[serde(rename = "raced")]
    pub cut_short: bool,
    /// Whether an earlier variant has the same machine code, and its time is shown.
    #[serde(rename = "twin")]
    pub identical_code: bool,
    /// Rank among the best, from 1.
    pub rank: Option<usize>,
    /// Registers, shared memory, spills, code size.
    pub resources: Option<Resources>,
}

/// Status of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The proposal passed the gates, and has a time.
    Passed,
    /// A gate rejected the proposal.
    Rejected,
    /// The proposal was not tried.
    Refused,
}

/// Reason why a proposal was not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// The name is not 1 to 64 letters, digits and `._+-`.
    Name,
    /// The source is empty, or longer than [`LONGEST`].
    Size,
    /// The toggles are not a variant of the space.
    Toggles,
    /// The source is the kernel's own, or was proposed with these toggles before.
    Duplicate,
    /// The budget is used up.
    Budget,
}

/// Answers of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello {
        /// [`VERSION`] of the program.
        protocol: u32,
    },
    /// A proposal, after [`Request::Round`]; any number of them.
    Propose(Propose),
    /// Ends a round.
    Done,
}

/// A source to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Propose {
    /// Name for users: 1 to 64 letters, digits and `._+-`.
    pub name: String,
    /// The whole source, in place of the kernel's.
    pub source: String,
    /// Toggles; omitted ones have their default value. Without `toggles`, those of the best variant.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub toggles: Option<Settings>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_documentation_shows_is_the_protocol() {
        let source = include_str!("protocol.rs");
        let answers: Vec<Answer> = source
            .lines()
            .filter_map(|line| line.strip_prefix("//! -> "))
            .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}")))
            .collect();
        let [Answer::Hello { protocol: VERSION }, Answer::Propose(propose), Answer::Done, Answer::Done] = &answers[..]
        else {
            panic!("{answers:?}")
        };
        assert_eq!(propose.toggles.as_ref().unwrap().to_string(), "UNROLL=2");
        let bare: Answer = serde_json::from_str(r#"{"type":"propose","name":"a","source":"b"}"#).unwrap();
        assert!(matches!(bare, Answer::Propose(Propose { toggles: None, .. })));
    }

    /// Regenerate with `KBENCH_UPDATE=1 cargo test -p cargo-kbench schema`.
    #[test]
    fn the_committed_schema_is_current() {
        #[derive(JsonSchema)]
        #[allow(dead_code, reason = "for its schema")]
        struct Protocol {
            request: Request,
            answer: Answer,
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/proposer.schema.json");
        let current = serde_json::to_string_pretty(&schemars::schema_for!(Protocol)).unwrap() + "\n";
        if std::env::var_os("KBENCH_UPDATE").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == current, "run `KBENCH_UPDATE=1 cargo test -p cargo-kbench schema`");
    }
}

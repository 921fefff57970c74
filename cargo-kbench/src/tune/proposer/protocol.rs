//! What a proposer speaks: one JSON value a line, [`Request`]s on its stdin, [`Answer`]s on its stdout; its stderr is shown where it
//! fails. `cargo-kbench/schema/proposer.schema.json` has every field; a program may ignore those that it does not need.
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
//! Every proposal gets one verdict before the next round: `passed`, `rejected` by a gate, or `refused` untried. A round in which
//! nothing could be tried is the last. Where `--resume` goes on, verdicts on what was proposed before come first. Silence for ten minutes,
//! more than [`MOST`] proposals a round or more than [`LONGEST`] bytes of source end the program, and nothing else.

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

/// The version of this protocol; both sides must agree exactly.
pub const VERSION: u32 = 1;

/// Most proposals of a round.
pub const MOST: usize = 64;

/// Most bytes of a source.
pub const LONGEST: usize = 1 << 18;

/// Messages of the driver.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// The first line.
    Hello {
        /// [`VERSION`] of the driver.
        protocol: u32,
        /// The kernel that is tuned.
        kernel: Box<Kernel>,
        /// The device.
        #[schemars(with = "BTreeMap<String, serde_json::Value>")]
        device: Box<DeviceInfo>,
    },
    /// Propose now.
    Round(Box<Round>),
    /// Result of a proposal.
    Verdict(Box<Verdict>),
}

/// The kernel that is tuned.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Kernel {
    /// Its package.
    pub package: String,
    /// Its name.
    pub name: String,
    /// `cuda` or `c`.
    pub backend: String,
    /// The function that a proposal must define, with the parameters that it has in `text`.
    pub entry: String,
    /// Path of the source. A proposal may include the same files by name.
    pub source: PathBuf,
    /// Its text.
    pub text: String,
    /// Compiler flags, which are a proposal's too.
    pub flags: Vec<String>,
    /// Blocks of a launch (CUDA), expressions over dimensions and toggles. A proposal is launched like the original.
    pub grid: Vec<String>,
    /// Threads of a block (CUDA).
    pub block: Vec<String>,
    /// Bytes of dynamic shared memory (CUDA).
    pub dynamic_shared: Option<String>,
    /// All launches, where there are several: the keys above are those of the first.
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
    /// The sizes of each shape: a proposal must be right on all of them, and on others.
    pub shapes: BTreeMap<String, BTreeMap<String, i64>>,
    /// The shape that the time is measured on.
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
    /// The launch is made only where this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// A macro to choose a value of.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Toggle {
    /// Its name.
    pub name: String,
    /// Its values.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub values: Vec<crate::expr::Value>,
}

/// State of the search when a round begins.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[allow(clippy::struct_field_names, reason = "the keys of the format")]
pub struct Round {
    /// Which, from 1.
    pub round: u64,
    /// Most proposals that will be tried, from now on.
    pub left: u64,
    /// The best so far, best first.
    pub elite: Vec<Elite>,
    /// Variants that were rejected since the last round, a few for each reason.
    pub rejects: Vec<Reject>,
    /// Bottleneck of the best variant, in the words of `cargo kbench profile`; none where there is no best variant.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub profile: Option<Profile>,
}

/// One of the best.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Elite {
    /// Its toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// Its source, where it is not the kernel's own.
    pub source: Option<SourceRecord>,
    /// The text of that source.
    pub text: Option<String>,
    /// Median nanoseconds a launch.
    pub p50_ns: f64,
    /// The lower end of its 95 % interval.
    pub p50_low_ns: f64,
    /// The upper end.
    pub p50_high_ns: f64,
    /// Values of the table's objectives; variants are ranked by the first.
    pub objectives: Vec<ObjectiveValue>,
    /// Registers, shared memory, spills, code size.
    pub resources: Resources,
}

/// A variant that was rejected.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Reject {
    /// Its toggles.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub toggles: Settings,
    /// Its source, where it is not the kernel's own.
    pub source: Option<SourceRecord>,
    /// The gate, the reason, and what the compiler or the sanitizer wrote.
    pub rejection: Rejection,
}

/// Result of a proposal.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Verdict {
    /// The round of the proposal.
    pub round: u64,
    /// The proposal's name.
    pub name: String,
    /// blake3 of its source.
    pub hash: String,
    /// The result.
    pub status: Status,
    /// The toggles that it was tried with; none where it was refused.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub toggles: Option<Settings>,
    /// Why it was refused.
    pub refusal: Option<Refused>,
    /// Why, in words.
    pub message: Option<String>,
    /// Why a gate rejected it.
    pub rejection: Option<Rejection>,
    /// Median nanoseconds a launch.
    pub p50_ns: Option<f64>,
    /// The lower end of its 95 % interval.
    pub p50_low_ns: Option<f64>,
    /// The upper end.
    pub p50_high_ns: Option<f64>,
    /// Values of the table's objectives; variants are ranked by the first.
    pub objectives: Vec<ObjectiveValue>,
    /// Whether sampling ended early, because it was clearly slower than the elite.
    #[serde(rename = "raced")]
    pub cut_short: bool,
    /// Whether the machine code is that of a variant before, whose time this is.
    #[serde(rename = "twin")]
    pub identical_code: bool,
    /// Its rank among the best, from 1.
    pub rank: Option<usize>,
    /// Registers, shared memory, spills, code size.
    pub resources: Option<Resources>,
}

/// Status of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It passed the gates, and has a time.
    Passed,
    /// A gate rejected it.
    Rejected,
    /// It was not tried.
    Refused,
}

/// Why a proposal was not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// Its name is not 1 to 64 letters, digits and `._+-`.
    Name,
    /// It is empty, or longer than [`LONGEST`].
    Size,
    /// Its toggles are no variant of the space.
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
    /// To [`Request::Round`], as often as it likes.
    Propose(Propose),
    /// Ends a round.
    Done,
}

/// A source to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Propose {
    /// A name for people: 1 to 64 letters, digits and `._+-`.
    pub name: String,
    /// The whole text, in place of the kernel's.
    pub source: String,
    /// Toggles; those left out have their default value. Without `toggles`, those of the best.
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

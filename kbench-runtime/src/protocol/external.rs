//! What a baseline by `command` speaks: a small relative of the worker protocol, so that a program in any language can be
//! measured beside kernels.
//!
//! One JSON value a line: [`Request`]s on the program's stdin, [`Answer`]s on its stdout; its stderr is shown where it
//! fails. It is started in the package's folder, asked one thing at a time, and its process group is ended with the comparison.
//!
//! ```text
//! <- {"type":"hello","protocol":1,"device":{"kind":"cuda","index":0,"name":"NVIDIA H100 80GB HBM3","cache_bytes":52428800,…}}
//! -> {"type":"hello","protocol":1}
//! <- {"type":"prepare","shape":"mission","dims":{"B":2,…},"seed":0,"warmup":20,"cache":"cold","tensors":[
//!      {"name":"q16","dtype":"f16","dims":[2,8,512,64],"role":"in","input":"/…/q16.bin","output":null},
//!      {"name":"o","dtype":"f16","dims":[2,8,512,64],"role":"out","input":null,"output":"/…/o.bin"}]}
//! -> {"type":"prepared","clock":"cuda-graph","batch":1,"device":"NVIDIA H100 80GB HBM3","versions":{"torch":"2.11.0"}}
//! <- {"type":"check"}                    runs once what is timed, from poisoned outputs, and writes every output file
//! -> {"type":"checked"}
//! <- {"type":"time","samples":10}        again and again, in turn with the kernels
//! -> {"type":"timed","samples":[9490.1,…]}
//! <- {"type":"check"}                    once more after the last sample
//! -> {"type":"checked"}
//! ```
//!
//! The hello may state an identity, `{"type":"hello","protocol":1,"identity":"attention 3, torch 2.11.0"}`: all that results depend on
//! beside the command, the files that it names and what `prepare` says, such as a version or a hash of what the program imports. The results of
//! a reference that states one are kept across runs while it states the same; those of any other are asked for in each run. It is best
//! said before anything slow is loaded.
//!
//! A reference by `command` speaks it too, and is never asked for `time`. `prepare` comes again for each set of inputs, and every
//! floating-point tensor, outputs too, is f64, or f32 where `reference.precision` says so.
//!
//! All programs of a comparison are started before the first is asked to prepare: what takes long to load is best loaded at once.
//!
//! Where `timing.launch` is `stream` or `host`, `prepare` has `"launch":"stream"`, and `prepared` has to repeat it: a program that does not
//! measure in that way is not measured.
//!
//! Instead of any answer, `{"type":"unavailable","message":"no module named torch"}` ends it without reproach. Silence ends
//! it after `timing.timeout_seconds`; `{"type":"stage","stage":"inputs"}` before slow preparations buys ten minutes, and
//! `{"type":"stage","stage":"timing"}` between launches starts the seconds anew.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CacheMode, DeviceInfo, LaunchMode, Role, Stage};
use crate::data::dtype::DType;

/// The version of this protocol; both sides must agree exactly.
pub const VERSION: u32 = 1;

/// Requests of the driver to the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// The first line.
    Hello {
        /// [`VERSION`] of the driver.
        protocol: u32,
        /// The device that the kernels run on, which is the one to run on.
        device: DeviceInfo,
    },
    /// Everything that is to be measured; comes once, except to a reference.
    Prepare(Prepare),
    /// Run once exactly what is timed, and write the output files. Before it, make the outputs NaN: they must not be right
    /// already.
    Check,
    /// Take samples. Kernels ran meanwhile, so some untimed runs come first.
    Time {
        /// So many.
        samples: u32,
    },
}

/// Shape, sizes and settings of the measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// The shape's name.
    pub shape: String,
    /// Its sizes.
    pub dims: BTreeMap<String, i64>,
    /// Every tensor with contents, and every output.
    pub tensors: Vec<Tensor>,
    /// Seed of the contents.
    pub seed: u64,
    /// Untimed runs first.
    pub warmup: u32,
    /// State of the cache before each sample.
    pub cache: CacheMode,
    /// Launch mode of a sample on a GPU.
    #[serde(default, skip_serializing_if = "LaunchMode::is_default")]
    pub launch: LaunchMode,
}

/// A tensor: raw bytes in a file, row-major, little-endian.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name in the table.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub dims: Vec<u64>,
    /// Its role in the kernel: read, written, both, or scratch.
    pub role: Role,
    /// Where its contents are, bit for bit what the kernel gets. Not to be written.
    pub input: Option<PathBuf>,
    /// Where to write it, in its type, where it is an output.
    pub output: Option<PathBuf>,
}

/// Answers of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello {
        /// [`VERSION`] of the program.
        protocol: u32,
        /// What its results depend on beside what the driver knows.
        #[serde(default)]
        identity: Option<String>,
    },
    /// A sign of life, at any time.
    Stage {
        /// What starts now.
        stage: Stage,
    },
    /// To [`Request::Prepare`].
    Prepared {
        /// What is read: `cuda-event`, `cuda-graph`, `monotonic`, or another name.
        clock: String,
        /// Runs a sample.
        batch: u32,
        /// The name of the device that it runs on, where it knows: refused if it is not the kernels'.
        #[serde(default)]
        device: Option<String>,
        /// What its samples on a GPU consist of: refused unless they are what was asked for.
        #[serde(default, skip_serializing_if = "LaunchMode::is_default")]
        launch: LaunchMode,
        /// Versions of what it measures, for the record.
        #[serde(default)]
        versions: BTreeMap<String, String>,
    },
    /// To [`Request::Check`].
    Checked,
    /// To [`Request::Time`].
    Timed {
        /// Nanoseconds a run, in the order taken, as many as were asked for.
        samples: Vec<f64>,
    },
    /// It cannot be measured here: a library or a device is missing.
    Unavailable {
        /// Why, for the user.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::DeviceKind;

    #[test]
    fn what_the_documentation_shows_is_the_protocol() {
        let source = include_str!("external.rs");
        let shown = |side: &str| -> Vec<String> {
            let start = format!("//! {side} ");
            // The request of three lines is one.
            let text = source.replace("[\n//!      ", "[").replace(",\n//!      ", ",");
            let lines = text.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned);
            lines.map(|line| line.split("  ").next().unwrap().replace(",…", "")).collect()
        };
        let answers: Vec<Answer> = shown("->")
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}")))
            .collect();
        assert!(matches!(answers[..], [Answer::Hello { protocol: VERSION, .. }, Answer::Prepared { .. }, ..]));
        assert_eq!(answers.len(), 5);
        let requests = shown("<-");
        assert_eq!(requests.len(), 5);
        // The device is shown in part.
        assert!(requests[0].contains(&serde_json::to_string(&DeviceKind::Cuda).unwrap()));
        for line in &requests[1..] {
            serde_json::from_str::<Request>(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        }
        let others =
            source.split("`{\"type\"").skip(1).map(|rest| format!("{{\"type\"{}", rest.split('`').next().unwrap()));
        let others: Vec<Answer> = others.take(4).map(|line| serde_json::from_str(&line).unwrap()).collect();
        assert!(matches!(others[0], Answer::Hello { identity: Some(_), .. }));
        assert!(matches!(others[1], Answer::Unavailable { .. }));
        assert_eq!(others[2..], [Stage::Inputs, Stage::Timing].map(|stage| Answer::Stage { stage }));
    }
}

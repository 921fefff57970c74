//! The protocol of programs by `command`: a reduced form of the worker protocol, so that a program in any language can
//! be measured beside kernels.
//!
//! One JSON value on each line: [`Request`]s on the program's stdin, [`Answer`]s on its stdout; its stderr is shown if
//! it fails. The program is started in the package's folder, gets one request at a time, and its process group is ended
//! with the comparison.
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
//! <- {"type":"check"}                    again after the last sample
//! -> {"type":"checked"}
//! ```
//!
//! The hello may state an identity, `{"type":"hello","protocol":1,"identity":"attention 3, torch 2.11.0"}`: everything
//! that results depend on beside the command, the files that it names and the fields of `prepare`, such as a version or
//! a hash of imported code. The results of a reference with an identity are kept across runs while the identity stays
//! the same; other references are asked in each run. State the identity before anything slow is loaded.
//!
//! A reference by `command` uses the same protocol, and is never asked for `time`. `prepare` is sent again for each set
//! of inputs, and every floating-point tensor, outputs too, is f64, or f32 with `reference.precision = "f32"`.
//!
//! The samples of an answer, times `batch`, must not be longer in all than the time from `time` to `timed`, and their p50 must be possible for the
//! device: other programs are not measured.
//!
//! All programs of a comparison start before the first one prepares, so load slow libraries at the start.
//!
//! If `timing.launch` is `stream` or `host`, `prepare` has `"launch":"stream"` or `"launch":"host"`, and `prepared` has
//! to repeat it: other programs are not measured.
//!
//! Instead of any answer, `{"type":"unavailable","message":"no module named torch"}` ends the program without an error.
//! Silence ends it after `timing.timeout_seconds`; `{"type":"stage","stage":"inputs"}` before slow preparations extends
//! the time to ten minutes, and `{"type":"stage","stage":"timing"}` between launches restarts the seconds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CacheMode, DeviceInfo, LaunchMode, Role, Stage};
use crate::data::dtype::DType;

/// Version of this protocol; both sides must have the same.
pub const VERSION: u32 = 1;

/// Requests of the driver to the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Request {
    /// The first line.
    Hello {
        /// [`VERSION`] of the driver.
        protocol: u32,
        /// The device of the kernels, on which the program has to run.
        device: DeviceInfo,
    },
    /// Prepares a measurement; sent once, and repeatedly to a reference.
    Prepare(Prepare),
    /// Run the timed work exactly once, and write the output files. Fill the outputs with NaN before: they must not be
    /// right already.
    Check,
    /// Take samples. Kernels ran since the last samples, so start with some untimed runs.
    Time {
        /// Number of samples.
        samples: u32,
    },
}

/// Shape, sizes and settings of the measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// Name of the shape.
    pub shape: String,
    /// Sizes of the shape by dimension.
    pub dims: BTreeMap<String, i64>,
    /// Every tensor with contents, and every output.
    pub tensors: Vec<Tensor>,
    /// Seed of the contents.
    pub seed: u64,
    /// Number of untimed runs before the first sample.
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
    /// Name in the table.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub dims: Vec<u64>,
    /// Role in the kernel: read, written, both, or scratch.
    pub role: Role,
    /// File with the contents, bit for bit those of the kernel. Do not write to it.
    pub input: Option<PathBuf>,
    /// File for the contents of an output, in its type.
    pub output: Option<PathBuf>,
}

/// Answers of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// Answer to [`Request::Hello`].
    Hello {
        /// [`VERSION`] of the program.
        protocol: u32,
        /// Identity: everything that results depend on beside the information of the driver.
        #[serde(default)]
        identity: Option<String>,
    },
    /// The program is alive; may be sent at any time.
    Stage {
        /// The stage that starts.
        stage: Stage,
    },
    /// Answer to [`Request::Prepare`].
    Prepared {
        /// Clock: `cuda-event`, `cuda-graph`, `monotonic`, or another name.
        clock: String,
        /// Number of runs in a sample.
        batch: u32,
        /// Name of the program's device, if it knows it: refused if the kernels run on another device.
        #[serde(default)]
        device: Option<String>,
        /// Launch mode of samples on a GPU: refused if it is not the requested one.
        #[serde(default, skip_serializing_if = "LaunchMode::is_default")]
        launch: LaunchMode,
        /// Versions of the measured code, for the record.
        #[serde(default)]
        versions: BTreeMap<String, String>,
    },
    /// Answer to [`Request::Check`].
    Checked,
    /// Answer to [`Request::Time`].
    Timed {
        /// Nanoseconds for a run, in the order taken; the requested number.
        samples: Vec<f64>,
    },
    /// The program cannot be measured on this machine: a library or a device is missing.
    Unavailable {
        /// Reason for the user.
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

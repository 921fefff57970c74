//! The rejection of a variant: gate, reason code and message.

use std::fmt;

use kbench_runtime::protocol::Failure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::process::program::Refusal;

/// Names of the gates, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Gate")]
pub enum GateName {
    /// Compilation.
    Compile,
    /// Gate 1.
    Resources,
    /// Loading and running on the device.
    Launch,
    /// Gate 2.
    Correctness,
    /// Sanitizers, in one more run.
    Sanitize,
    /// Gate 3.
    Performance,
    /// Gate 4.
    Counters,
}

impl GateName {
    /// All gates.
    pub const ALL: [Self; 7] = [
        Self::Compile,
        Self::Resources,
        Self::Launch,
        Self::Correctness,
        Self::Sanitize,
        Self::Performance,
        Self::Counters,
    ];
}

impl fmt::Display for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GateName::Compile => "compile",
            GateName::Resources => "resources",
            GateName::Launch => "launch",
            GateName::Correctness => "correctness",
            GateName::Sanitize => "sanitize",
            GateName::Performance => "performance",
            GateName::Counters => "counters",
        })
    }
}

/// The typed reasons for a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // each name says it all
pub enum Reason {
    CompileFailed,
    Geometry,
    Threads,
    Registers,
    SharedMemory,
    Spills,
    Stack,
    CodeSize,
    Occupancy,
    LoadFailed,
    LaunchRefused,
    IllegalAccess,
    DeviceFault,
    OutOfMemory,
    Unsupported,
    Hang,
    Signal,
    Exited,
    Protocol,
    Inputs,
    Reference,
    Unwritten,
    Nonfinite,
    OutOfBounds,
    InputChanged,
    Unrepeatable,
    StaleOutput,
    Wrong,
    ForgedTime,
    Impossible,
    Memcheck,
    Racecheck,
    Initcheck,
    Synccheck,
    Address,
    Undefined,
    SkipsWork,
    TooSlow,
    Unmet,
    Undecided,
    Unavailable,
}

impl Reason {
    /// All reasons, in the order of the gates.
    pub const ALL: [Self; 41] = [
        Self::CompileFailed,
        Self::Geometry,
        Self::Threads,
        Self::Registers,
        Self::SharedMemory,
        Self::Spills,
        Self::Stack,
        Self::CodeSize,
        Self::Occupancy,
        Self::LoadFailed,
        Self::LaunchRefused,
        Self::IllegalAccess,
        Self::DeviceFault,
        Self::OutOfMemory,
        Self::Unsupported,
        Self::Hang,
        Self::Signal,
        Self::Exited,
        Self::Protocol,
        Self::Inputs,
        Self::Reference,
        Self::Unwritten,
        Self::Nonfinite,
        Self::OutOfBounds,
        Self::InputChanged,
        Self::Unrepeatable,
        Self::StaleOutput,
        Self::Wrong,
        Self::ForgedTime,
        Self::Impossible,
        Self::Memcheck,
        Self::Racecheck,
        Self::Initcheck,
        Self::Synccheck,
        Self::Address,
        Self::Undefined,
        Self::SkipsWork,
        Self::TooSlow,
        Self::Unmet,
        Self::Undecided,
        Self::Unavailable,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The JSON name is also printed: there is one spelling.
        let name = serde_json::to_value(self).expect("a unit variant");
        f.pad(name.as_str().expect("a unit variant"))
    }
}

impl From<&Failure> for Reason {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::LoadFailed { .. } | Failure::SymbolNotFound { .. } => Reason::LoadFailed,
            Failure::LaunchRefused { .. } => Reason::LaunchRefused,
            Failure::IllegalAccess { .. } => Reason::IllegalAccess,
            Failure::DeviceFault { .. } => Reason::DeviceFault,
            Failure::OutOfMemory { .. } => Reason::OutOfMemory,
            Failure::Reference { .. } => Reason::Reference,
            Failure::Inputs { .. } => Reason::Inputs,
            Failure::Unsupported { .. } => Reason::Unsupported,
            // This error ends a run before a reason is needed.
            Failure::Machine { .. } => Reason::Unavailable,
            Failure::Hang { .. } => Reason::Hang,
            Failure::Signal { .. } => Reason::Signal,
            Failure::Exited { .. } => Reason::Exited,
            Failure::ForgedTime { .. } => Reason::ForgedTime,
            Failure::Protocol { .. } => Reason::Protocol,
        }
    }
}

/// The rejection of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rejection {
    /// The gate.
    pub gate: GateName,
    /// The reason.
    pub code: Reason,
    /// Message for the user, with numbers and places.
    pub message: String,
    /// The shape of the failure.
    pub shape: Option<String>,
    /// Output of the compiler or the sanitizer.
    pub output: Option<String>,
}

impl Rejection {
    /// A rejection at `shape`.
    pub fn new(gate: GateName, code: Reason, message: impl Into<String>, shape: Option<&str>) -> Self {
        Self { gate, code, message: message.into(), shape: shape.map(str::to_owned), output: None }
    }
}

impl Refusal {
    /// The rejection of a program that was to be measured at `shape`; `None` if the user ended the run.
    pub fn rejection(self, shape: &str) -> Option<Rejection> {
        let (code, message) = self.reason()?;
        let output = match self {
            Refusal::Failure(Failure::Exited { stderr, .. }) => Some(stderr),
            _ => None,
        };
        Some(Rejection { output, ..Rejection::new(GateName::Performance, code, message, Some(shape)) })
    }

    /// The reason code and the message; `None` if the user ended the run.
    pub fn reason(&self) -> Option<(Reason, String)> {
        Some(match self {
            Refusal::Interrupted => return None,
            Refusal::Unavailable(message) => (Reason::Unavailable, message.clone()),
            Refusal::Failure(Failure::Exited { code, stderr }) => {
                // Interpreters print the cause last.
                let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
                let last = last.map_or(" and said nothing".to_owned(), |line| format!(": {}", line.trim()));
                (Reason::Exited, format!("the program exited with status {code}{last}"))
            }
            Refusal::Failure(failure) => (failure.into(), failure.to_string()),
        })
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.gate, self.code)?;
        if let Some(shape) = &self.shape {
            write!(f, " at {shape}")?;
        }
        write!(f, ": {}", self.message)
    }
}

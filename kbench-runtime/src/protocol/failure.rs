//! Why a job did not come to its end.

use serde::{Deserialize, Serialize};

use super::{DeviceKind, Stage};

/// Why a job could not be finished. Typed, so that no one has to match on messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Failure {
    /// The machine code was refused.
    #[error("the machine code could not be loaded: {message}")]
    LoadFailed {
        /// The loader's words.
        message: String,
    },
    /// The machine code has no such symbol.
    #[error("no symbol `{symbol}` in the machine code")]
    SymbolNotFound {
        /// The symbol.
        symbol: String,
    },
    /// The device refused the launch; the kernel never ran.
    #[error("launch refused: {message}")]
    LaunchRefused {
        /// The driver's error name and words.
        message: String,
    },
    /// The kernel read or wrote outside its memory.
    #[error("illegal memory access: {message}")]
    IllegalAccess {
        /// The driver's error name and words.
        message: String,
    },
    /// The kernel was stopped by another device-side error (trap, misaligned address, …).
    #[error("the kernel faulted: {message}")]
    DeviceFault {
        /// The driver's error name and words.
        message: String,
    },
    /// A buffer could not be had.
    #[error("out of memory: {bytes} bytes asked for")]
    OutOfMemory {
        /// The size asked for.
        bytes: u64,
    },
    /// The reference failed, not the kernel.
    #[error("the reference failed: {message}")]
    Reference {
        /// Its own failure, as words.
        message: String,
    },
    /// The inputs could not be made (a bad tensor file, say).
    #[error("the inputs could not be made: {message}")]
    Inputs {
        /// Why.
        message: String,
    },
    /// This machine has no process, memory or room for the job: nothing that ran is to blame.
    #[error("{message}")]
    Machine {
        /// What was attempted, and the system's words.
        message: String,
    },
    /// The device cannot do what the launch asks.
    #[error("not supported by this device: {message}")]
    Unsupported {
        /// What.
        message: String,
    },
    /// No event before the deadline; said by the driver, or of the process of a C kernel by the worker.
    #[error("no sign of life for {seconds} s {stage}")]
    Hang {
        /// The deadline.
        seconds: u64,
        /// The last stage entered.
        stage: Stage,
    },
    /// The worker was ended by a signal; said by the driver, or of the process of a C kernel by the worker.
    #[error("killed by {name}")]
    Signal {
        /// Its number.
        signal: i32,
        /// Its name, `SIGSEGV`.
        name: String,
    },
    /// The worker ended by itself in mid-job; said by the driver, or of the process of a C kernel by the worker.
    #[error("the process exited with status {code}{}", after_colon(stderr))]
    Exited {
        /// Its status.
        code: i32,
        /// The end of its stderr.
        stderr: String,
    },
    /// The process of a C kernel says that launches took another time than passed.
    #[error("its process claims {} for a sample, but {} passed by the judge's clock", time(*claimed), time(*measured))]
    ForgedTime {
        /// Nanoseconds, as its process says.
        claimed: f64,
        /// Nanoseconds, as the worker measured.
        measured: f64,
    },
    /// The worker, or the process of a C kernel, said something that is not the protocol, or an answer is not to its question.
    #[error("protocol error: {message}")]
    Protocol {
        /// What.
        message: String,
    },
}

/// What there is to say, if anything.
fn after_colon(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Nanoseconds in a unit that suits them.
fn time(nanoseconds: f64) -> String {
    if nanoseconds < 1e6 { format!("{:.1} µs", nanoseconds / 1e3) } else { format!("{:.1} ms", nanoseconds / 1e6) }
}

impl Failure {
    /// Whether the worker that met this failure cannot go on: its context is lost. A failed reference counts, since what it did to
    /// the context is not known. C kernels and references have processes of their own: their failures cost the worker nothing.
    pub fn is_fatal(&self, device: DeviceKind) -> bool {
        device != DeviceKind::Host
            && matches!(
                self,
                Failure::IllegalAccess { .. }
                    | Failure::DeviceFault { .. }
                    | Failure::Reference { .. }
                    | Failure::Hang { .. }
                    | Failure::Signal { .. }
                    | Failure::Exited { .. }
                    | Failure::Protocol { .. }
            )
    }
}

//! Failures of jobs.

use serde::{Deserialize, Serialize};

use super::{DeviceKind, Stage};

/// Reason why a job could not be finished, with types in place of messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Failure {
    /// The machine code was refused.
    #[error("the machine code could not be loaded: {message}")]
    LoadFailed {
        /// Message of the loader.
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
        /// The driver's error name and text.
        message: String,
    },
    /// The kernel read or wrote outside its memory.
    #[error("illegal memory access: {message}")]
    IllegalAccess {
        /// The driver's error name and text.
        message: String,
    },
    /// The kernel was stopped by another device-side error (trap, misaligned address, …).
    #[error("the kernel faulted: {message}")]
    DeviceFault {
        /// The driver's error name and text.
        message: String,
    },
    /// A buffer could not be allocated.
    #[error("out of memory: {bytes} bytes were requested")]
    OutOfMemory {
        /// Requested size in bytes.
        bytes: u64,
    },
    /// The reference failed, not the kernel.
    #[error("the reference failed: {message}")]
    Reference {
        /// Failure of the reference, as text.
        message: String,
    },
    /// The inputs could not be made, such as from a damaged tensor file.
    #[error("the inputs could not be made: {message}")]
    Inputs {
        /// Reason.
        message: String,
    },
    /// This machine lacks processes, memory or disk space for the job: no kernel is the cause.
    #[error("{message}")]
    Machine {
        /// The attempted operation, and the system's error.
        message: String,
    },
    /// The device lacks a feature of the launch.
    #[error("not supported by this device: {message}")]
    Unsupported {
        /// The feature.
        message: String,
    },
    /// No event before the deadline; reported by the driver, or by the worker for the process of a C kernel.
    #[error("no answer for {seconds} s {stage}")]
    Hang {
        /// The deadline.
        seconds: u64,
        /// The last stage.
        stage: Stage,
    },
    /// A signal ended the worker; reported by the driver, or by the worker for the process of a C kernel.
    #[error("killed by {name}")]
    Signal {
        /// Number of the signal.
        signal: i32,
        /// Name of the signal, such as `SIGSEGV`.
        name: String,
    },
    /// The worker exited during a job; reported by the driver, or by the worker for the process of a C kernel.
    #[error("the process exited with status {code}{}", after_colon(stderr))]
    Exited {
        /// Exit code.
        code: i32,
        /// End of stderr.
        stderr: String,
    },
    /// The process of a C kernel reported another time than passed.
    #[error("its process reported {} for a sample, but {} passed by the worker's clock", time(*claimed), time(*measured))]
    ForgedTime {
        /// Nanoseconds that the process reported.
        claimed: f64,
        /// Nanoseconds that the worker measured.
        measured: f64,
    },
    /// The worker, or the process of a C kernel, violated the protocol, or an answer did not belong to its question.
    #[error("protocol error: {message}")]
    Protocol {
        /// Description of the violation.
        message: String,
    },
}

/// The text of the failure, if it has one.
fn after_colon(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Nanoseconds in a suitable unit.
fn time(nanoseconds: f64) -> String {
    if nanoseconds < 1e6 { format!("{:.1} µs", nanoseconds / 1e3) } else { format!("{:.1} ms", nanoseconds / 1e6) }
}

impl Failure {
    /// Whether the worker must end after this failure, since its context is lost. A failed reference counts, since its
    /// effect on the context is unknown. C kernels and references have processes of their own: their failures do not
    /// affect the worker.
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

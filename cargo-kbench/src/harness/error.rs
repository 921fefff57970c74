//! The two early ends of an evaluation: the variant is rejected, or the run of its kernel ends.

use std::io;

use crate::build::CompileError;
use crate::process::executor::ExecutorError;
use crate::record::evaluation::Rejection;

/// Reason why the run of a kernel ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No device, no worker, or Ctrl-C.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A tool is missing.
    #[error(transparent)]
    Tool(CompileError),
    /// The inputs cannot be made, such as from a damaged file.
    #[error("the inputs of kernel `{kernel}` could not be made: {message}")]
    Inputs {
        /// The kernel.
        kernel: String,
        /// Reason.
        message: String,
    },
    /// The reference does not build or run.
    #[error("the reference of kernel `{kernel}` failed: {message}")]
    Reference {
        /// The kernel.
        kernel: String,
        /// Reason, with the compiler's message.
        message: String,
    },
    /// The reference is a program that cannot run here.
    #[error("the reference of kernel `{kernel}` is unavailable: {message}")]
    Unavailable {
        /// The kernel.
        kernel: String,
        /// Reason, with the program's message.
        message: String,
    },
    /// The table or the command line asks for workers that are not possible.
    #[error("the workers of kernel `{kernel}`: {message}")]
    Workers {
        /// The kernel.
        kernel: String,
        /// Reason.
        message: String,
    },
    /// All workers of a search are lost.
    #[error(
        "no worker is left for kernel `{kernel}`: {message}; finished evaluations are kept, and `--resume` continues"
    )]
    NoWorkers {
        /// The kernel.
        kernel: String,
        /// Reason for each worker.
        message: String,
    },
    /// No architecture to compile for.
    #[error("{0}")]
    NoArch(String),
    /// A sanitizer is installed and does not work on this machine.
    #[error("the sanitizer {tool} does not work: {message}")]
    Sanitizer {
        /// Name of the sanitizer in the table.
        tool: &'static str,
        /// Reason.
        message: String,
    },
    /// The objective is energy, and the device cannot measure it.
    #[error("the objective `energy` of kernel `{kernel}` cannot be measured on {device}: {message}")]
    Energy {
        /// The kernel.
        kernel: String,
        /// The device's name.
        device: String,
        /// Reason.
        message: String,
    },
    /// The objective is a program of the user, which prints no number.
    #[error("the objective `command` of kernel `{kernel}`: {message}")]
    Application {
        /// The kernel.
        kernel: String,
        /// Reason.
        message: String,
    },
    /// An error of a file.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Early end of an evaluation. `R` describes a rejected variant: a [`Rejection`], or a message if only a measurement is missing.
#[derive(Debug)]
pub enum Halt<R = Rejection> {
    /// The variant is rejected; the run continues with others.
    Variant(R),
    /// The run of the kernel ends.
    Run(RunError),
}

impl From<Rejection> for Halt {
    fn from(rejection: Rejection) -> Self {
        Halt::Variant(rejection)
    }
}

impl<R> From<RunError> for Halt<R> {
    fn from(error: RunError) -> Self {
        Halt::Run(error)
    }
}

impl<R> From<ExecutorError> for Halt<R> {
    fn from(error: ExecutorError) -> Self {
        Halt::Run(error.into())
    }
}

impl<R> From<io::Error> for Halt<R> {
    fn from(error: io::Error) -> Self {
        Halt::Run(error.into())
    }
}

impl Halt<String> {
    /// A measurement that is missing for the reason of `error`.
    #[allow(clippy::needless_pass_by_value, reason = "an argument of `map_err`")]
    pub fn because(error: impl ToString) -> Self {
        Halt::Variant(error.to_string())
    }
}

/// Converts the rejection of a variant to data: the inner error is the rejection, the outer one ends the run.
pub fn caught<T, R>(result: Result<T, Halt<R>>) -> Result<Result<T, R>, RunError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Halt::Variant(rejection)) => Ok(Err(rejection)),
        Err(Halt::Run(error)) => Err(error),
    }
}

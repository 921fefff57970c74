//! Errors of compilations.

use std::io;
use std::path::{Path, PathBuf};

/// Reason why a unit could not be compiled. [`is_variants_own`] distinguishes the user's code from the machine.
///
/// [`is_variants_own`]: CompileError::is_variants_own
#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum CompileError {
    /// A needed compiler is missing (exit code 3).
    #[error("{what}; {help}")]
    NoCompiler {
        /// The missing piece.
        what: String,
        /// The advice.
        help: String,
    },
    /// The compiler refused the source.
    #[error("{} failed ({status}):\n{stderr}", program(command))]
    Failed {
        /// The exact command.
        command: Vec<String>,
        /// Exit status, such as `exit status: 1`.
        status: String,
        /// Output of the compiler.
        stderr: String,
    },
    /// A signal ended the compiler: an interrupt, a crash of the compiler, or the kernel's out-of-memory killer.
    #[error("{} was ended by signal {signal}", program(command))]
    Killed {
        /// The exact command.
        command: Vec<String>,
        /// Number of the signal.
        signal: i32,
    },
    /// The compiler did not end in time.
    #[error("{} took longer than {seconds} s", program(command))]
    TooLong {
        /// The exact command.
        command: Vec<String>,
        /// The time limit.
        seconds: u64,
    },
    /// The code is no longer wanted; the compiler was ended.
    #[error("the compilation was cancelled")]
    Unwanted,
    /// ptxas refused an entry function because of its static shared memory.
    #[error(
        "entry function `{entry}` uses {bytes} bytes of static shared memory, {max} is the most this architecture allows"
    )]
    TooMuchShared {
        /// The (mangled) entry function.
        entry: String,
        /// Declared bytes.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The source compiles and defines no such function.
    #[error("no function `{entry}` in the compiled code{}", list(candidates))]
    EntryNotFound {
        /// The requested name.
        entry: String,
        /// The defined functions, by readable names.
        candidates: Vec<String>,
    },
    /// Another option than `arch` of the table selected the architecture.
    #[error(
        "nvcc made code for {found}, the table asks for {asked}; take the architecture out of $NVCC_APPEND_FLAGS, \
         $NVCC_PREPEND_FLAGS and option files, and say it in `arch`"
    )]
    OtherArchitecture {
        /// The requested architecture.
        asked: String,
        /// The architecture of the code.
        found: String,
    },
    /// Several kernels match this name.
    #[error("`{entry}` names several kernels{}", list(candidates))]
    AmbiguousEntry {
        /// The requested name.
        entry: String,
        /// The matching kernels, by readable names, each followed by its symbol.
        candidates: Vec<String>,
    },
    /// The kernel's parameters differ from the table's arguments.
    #[error("`{entry}` takes {}, the table declares {}", sizes(found), sizes(declared))]
    SignatureMismatch {
        /// The kernel.
        entry: String,
        /// Size of each declared argument in bytes.
        declared: Vec<u64>,
        /// Size of each parameter in the machine code in bytes.
        found: Vec<u64>,
    },
    /// A parameter of the kernel has another type than the table's argument.
    #[error("parameter {} of `{entry}` is `{found}`, the table declares {declared}", index + 1)]
    ParameterType {
        /// The kernel.
        entry: String,
        /// Index in the signature, from 0.
        index: usize,
        /// Type of the parameter.
        found: String,
        /// Type in the table.
        declared: String,
    },
    /// A unit that no compiler of this tool accepts.
    #[error("{what}")]
    Unsupported {
        /// Reason.
        what: String,
    },
    /// The model of the fake backend has a mistake.
    #[error("{}: {message}", path.display())]
    Model {
        /// The model.
        path: PathBuf,
        /// The mistake.
        message: String,
    },
    /// A file was edited during its compilation, so that the compiled contents are unknown.
    #[error("`{}` changed while it was compiled; run again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A bundle replaces the compilers and lacks the unit.
    #[error("the bundle does not carry {what}; write a bundle of this table, with `--arch` for this GPU")]
    NotCarried {
        /// The unit.
        what: String,
    },
    /// A file could not be read or written, such as a missing source, a full disk, or a cache of another user.
    #[error("could not {action} `{}`: {error}", path.display())]
    #[serde(skip)]
    Io {
        /// The attempted operation: `read` or `write`.
        action: String,
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl CompileError {
    /// Whether the variant itself is the cause, so that the search continues without it; otherwise every other variant
    /// would fail too (no compiler, disk full, interrupted) and the run ends.
    pub fn is_variants_own(&self) -> bool {
        // SIGKILL is sent by the out-of-memory killer, SIGSEGV and the like are crashes of the compiler: both are due
        // to this source. SIGHUP, SIGINT and SIGTERM are sent by a user who ends the run, SIGXCPU and SIGXFSZ are
        // limits of the user.
        matches!(self, CompileError::Killed { signal, .. } if ![1, 2, 15, 24, 25].contains(signal))
            || matches!(
                self,
                CompileError::Failed { .. }
                    | CompileError::TooLong { .. }
                    | CompileError::TooMuchShared { .. }
                    | CompileError::EntryNotFound { .. }
                    | CompileError::AmbiguousEntry { .. }
                    | CompileError::SignatureMismatch { .. }
                    | CompileError::ParameterType { .. }
                    | CompileError::Model { .. }
            )
    }

    /// A copy of the error.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Io { action, path, error } => Self::Io {
                action: action.clone(),
                path: path.clone(),
                error: io::Error::new(error.kind(), error.to_string()),
            },
            other => serde_json::to_value(other).and_then(serde_json::from_value).expect("plain data"),
        }
    }

    /// For `map_err`: the attempted operation and the file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CompileError {
        let path = path.to_owned();
        move |error| CompileError::Io { action: action.to_owned(), path, error }
    }

    /// The error of reading an output of a compiler that ended without an error.
    pub(super) fn unwritten(compiler: &str, output: &Path) -> impl FnOnce(io::Error) -> CompileError {
        let name = output.file_name().unwrap_or_default().display();
        let what = format!("`{compiler}` ended without an error and wrote no `{name}`; look at `flags`");
        let read = Self::io("read", output);
        move |error| match error.kind() {
            io::ErrorKind::NotFound => CompileError::Unsupported { what },
            _ => read(error),
        }
    }
}

fn program(command: &[String]) -> &str {
    command.first().map_or("the compiler", String::as_str)
}

fn list(candidates: &[String]) -> String {
    if candidates.is_empty() { String::new() } else { format!("; there is: {}", candidates.join(", ")) }
}

fn sizes(bytes: &[u64]) -> String {
    match bytes {
        [] => "no parameters".to_owned(),
        [one] => format!("one parameter of {one} bytes"),
        many => {
            let list: Vec<_> = many.iter().map(u64::to_string).collect();
            format!("{} parameters of {} bytes", many.len(), list.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lowercase_fragments_that_name_the_candidates() {
        let error = CompileError::EntryNotFound { entry: "f".into(), candidates: vec!["g".into(), "ns::h<64>".into()] };
        assert_eq!(error.to_string(), "no function `f` in the compiled code; there is: g, ns::h<64>");
        let error = CompileError::SignatureMismatch { entry: "f".into(), declared: vec![8, 4], found: vec![8] };
        assert_eq!(
            error.to_string(),
            "`f` takes one parameter of 8 bytes, the table declares 2 parameters of 8, 4 bytes"
        );
    }

    #[test]
    fn a_full_disk_is_not_the_variants_fault() {
        let error = CompileError::io("write", Path::new("x"))(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!error.is_variants_own());
        assert!(CompileError::TooMuchShared { entry: "k".into(), bytes: 2, max: 1 }.is_variants_own());
        let killed = |signal| CompileError::Killed { command: vec![], signal };
        assert!(killed(9).is_variants_own() && !killed(2).is_variants_own() && !killed(25).is_variants_own());
    }
}

//! Why a unit could not be compiled.

use std::io;
use std::path::{Path, PathBuf};

/// Why a unit could not be compiled. Which of them is the user's code and which the machine's: [`is_variants_own`].
///
/// [`is_variants_own`]: CompileError::is_variants_own
#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum CompileError {
    /// A compiler that is needed is not there (exit code 3 territory).
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
        /// How it ended: `exit status: 1`.
        status: String,
        /// What it said, as it said it.
        stderr: String,
    },
    /// The compiler was ended by a signal: an interrupt, a crash of its own, or the kernel's out-of-memory killer.
    #[error("{} was ended by signal {signal}", program(command))]
    Killed {
        /// The exact command.
        command: Vec<String>,
        /// The signal's number.
        signal: i32,
    },
    /// The compiler did not come to an end.
    #[error("{} took longer than {seconds} s", program(command))]
    TooLong {
        /// The exact command.
        command: Vec<String>,
        /// What it was given.
        seconds: u64,
    },
    /// Whoever wanted the code does so no longer; the compiler was ended.
    #[error("the compilation was given up")]
    Unwanted,
    /// ptxas refused an entry function because of its static shared memory.
    #[error(
        "entry function `{entry}` uses {bytes} bytes of static shared memory, {max} is the most this architecture allows"
    )]
    TooMuchShared {
        /// The (mangled) entry function.
        entry: String,
        /// Bytes it declares.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The source compiles but defines no such function.
    #[error("no function `{entry}` in the compiled code{}", list(candidates))]
    EntryNotFound {
        /// The name that was asked for.
        entry: String,
        /// What there is, readable names.
        candidates: Vec<String>,
    },
    /// Something but the table chose the architecture.
    #[error(
        "nvcc made code for {found}, the table asks for {asked}; take the architecture out of $NVCC_APPEND_FLAGS, \
         $NVCC_PREPEND_FLAGS and option files, and say it in `arch`"
    )]
    OtherArchitecture {
        /// What was asked for.
        asked: String,
        /// What the code is for.
        found: String,
    },
    /// Several kernels go by this name.
    #[error("`{entry}` names several kernels{}", list(candidates))]
    AmbiguousEntry {
        /// The name that was asked for.
        entry: String,
        /// Those that match, readable names, each followed by its symbol.
        candidates: Vec<String>,
    },
    /// The kernel's parameters are not what the table declares.
    #[error("`{entry}` takes {}, the table declares {}", sizes(found), sizes(declared))]
    SignatureMismatch {
        /// The kernel.
        entry: String,
        /// Bytes of each declared argument.
        declared: Vec<u64>,
        /// Bytes of each parameter in the machine code.
        found: Vec<u64>,
    },
    /// A parameter of the kernel has another type than the table declares.
    #[error("parameter {} of `{entry}` is `{found}`, the table declares {declared}", index + 1)]
    ParameterType {
        /// The kernel.
        entry: String,
        /// Its place in the signature, from 0.
        index: usize,
        /// Its type.
        found: String,
        /// What the table declares.
        declared: String,
    },
    /// A unit that no compiler here can take.
    #[error("{what}")]
    Unsupported {
        /// Why.
        what: String,
    },
    /// The model of the fake backend is wrong.
    #[error("{}: {message}", path.display())]
    Model {
        /// The model.
        path: PathBuf,
        /// The fault.
        message: String,
    },
    /// A file was edited while it was compiled, so nobody knows which of its contents the machine code has.
    #[error("`{}` changed while it was compiled; run again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A bundle stands for the compilers and has no such unit.
    #[error("the bundle does not carry {what}; write a bundle of this table, with `--arch` for this GPU")]
    NotCarried {
        /// The unit.
        what: String,
    },
    /// A file could not be read or written: a missing source, a full disk, a cache that is not ours.
    #[error("could not {action} `{}`: {error}", path.display())]
    #[serde(skip)]
    Io {
        /// What was attempted: `read`, `write`.
        action: String,
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

impl CompileError {
    /// Whether the variant itself is at fault, so that the search goes on without it; otherwise every other variant
    /// would fail alike (no compiler, disk full, interrupted) and the run ends.
    pub fn is_variants_own(&self) -> bool {
        // SIGKILL is the out-of-memory killer's, SIGSEGV and its like the compiler's own crash: both on this source.
        // SIGHUP, SIGINT and SIGTERM are someone who wants the run to end, SIGXCPU and SIGXFSZ limits of the user's.
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

    /// The same error once more.
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

    /// For `map_err`: what was attempted on which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CompileError {
        let path = path.to_owned();
        move |error| CompileError::Io { action: action.to_owned(), path, error }
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

//! Tuning problems of other tuners as packages: Kernel Tuner's scripts, and the T1 format that Kernel Tuner, KTT and BAT share.
//!
//! A script is read as text with a Python parser and never run. A note names each item that the package lacks or has in
//! another form.

use std::path::{Path, PathBuf};

pub use problem::Note;

use crate::file;

mod package;
mod problem;
mod python;
mod t1;

/// A package that was made from a file: its files, and the items that were not carried over.
#[derive(Debug)]
pub struct Imported {
    /// Name for the package.
    pub name: String,
    /// Paths in the package, with contents.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Items that were not carried over, in the order of the file.
    pub notes: Vec<Note>,
}

/// Reason why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is neither a script nor a T1 file.
    #[error(
        "neither a Python script (*.py) nor a tuning problem in the T1 format, JSON with `ConfigurationSpace` and \
         `KernelSpecification`"
    )]
    Unknown,
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is JSON that violates the T1 format.
    #[error("not a tuning problem in the T1 format: {0}")]
    T1(serde_json::Error),
    /// The file is not valid Python.
    #[error("line {line}: {what}")]
    Python {
        /// Line of the error, from 1.
        line: usize,
        /// Error of the parser.
        what: &'static str,
    },
    /// The script does not call `tune_kernel`.
    #[error("no call of `tune_kernel` can be found; name the script that calls it")]
    NoCall,
    /// The call of `tune_kernel` is not among the statements that are read.
    #[error(
        "line {0}: this call of `tune_kernel` is not reached: it is in a class, or where only a run of the script gets to; \
         call it in a function or at the end of the script"
    )]
    Unreached(usize),
    /// A parameter has no values.
    #[error("`{parameter}` of `{kernel}` has no values")]
    NoValues {
        /// The kernel.
        kernel: String,
        /// The parameter.
        parameter: String,
    },
    /// A call lacks a part that a table needs.
    #[error("{place}: {what}; write it as a literal and try again")]
    Call {
        /// Place of the call in the file.
        place: String,
        /// The missing part.
        what: String,
    },
    /// No variant satisfies the restrictions.
    #[error("no variant of `{0}` satisfies its restrictions")]
    Empty(String),
}

/// Reads a file of another tuner. The package gets the name of its first kernel unless a name is given.
pub fn import(path: &Path, name: Option<&str>) -> Result<Imported, ImportError> {
    let text = file::read(path)?;
    let problems = if path.extension().is_some_and(|suffix| suffix == "py") {
        python::problems(&text, path)?
    } else if text.trim_start().starts_with('{') && text.contains("\"ConfigurationSpace\"") {
        vec![t1::problem(&text, path)?]
    } else {
        return Err(ImportError::Unknown);
    };
    package::package(problems, path, name)
}

//! Tuning problems of other tuners as packages: Kernel Tuner's scripts, and the T1 format that Kernel Tuner, KTT and BAT share.
//!
//! A script is read as text with a Python parser and never run. What the package has not, or has otherwise, is said note by note.

use std::path::{Path, PathBuf};

pub use problem::Note;

use crate::file;

mod package;
mod problem;
mod python;
mod t1;

/// A package that was made from a file: its files, and what is not in them.
#[derive(Debug)]
pub struct Imported {
    /// A name for the package.
    pub name: String,
    /// Paths in the package, and contents.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What was not carried over, in the order of the file.
    pub notes: Vec<Note>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is neither.
    #[error(
        "neither a Python script (*.py) nor a tuning problem in the T1 format, JSON with `ConfigurationSpace` and \
         `KernelSpecification`"
    )]
    Unknown,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is JSON, and breaks the format.
    #[error("not a tuning problem in the T1 format: {0}")]
    T1(serde_json::Error),
    /// It is no Python.
    #[error("line {line}: {what}")]
    Python {
        /// From 1.
        line: usize,
        /// The fault.
        what: &'static str,
    },
    /// The script tunes nothing.
    #[error("no call of `tune_kernel` can be found; name the script that calls it")]
    NoCall,
    /// A part without which there is no table.
    #[error("{place}: {what}; write it as a literal and try again")]
    Call {
        /// Where it stands.
        place: String,
        /// The fault.
        what: String,
    },
    /// The restrictions leave nothing.
    #[error("no variant of `{0}` satisfies its restrictions")]
    Empty(String),
}

/// Reads a file of another tuner. The package is called like its first kernel unless a name is given.
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

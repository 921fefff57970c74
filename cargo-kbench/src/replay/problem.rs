//! Reasons why a file is not a record.

use std::io;

use crate::space::Settings;

/// Reason why a file is not a record.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read or unpacked.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is neither JSON nor a journal.
    #[error("not a record: expected a Kernel Tuner cachefile, a T4 results file or a kbench journal ({0})")]
    Json(serde_json::Error),
    /// The file is JSON of an unknown format.
    #[error(
        "not a record: a Kernel Tuner cachefile has `tune_params_keys` and `cache`, a T4 file has `results`, a kbench journal \
         lines with `record`; this has none of them"
    )]
    Unknown,
    /// The file violates its format.
    #[error("not a {format}: {error}")]
    Format {
        /// Name of the format.
        format: &'static str,
        /// Error of the parser.
        error: serde_json::Error,
    },
    /// A configuration has neither a time nor a failure.
    #[error("configuration {row} ({settings}) has neither a time above 0 nor a failure")]
    Outcome {
        /// Index of the configuration, from 0.
        row: usize,
        /// The configuration.
        settings: Settings,
    },
    /// A configuration has other parameters than the first one.
    #[error("configuration {row} ({settings}) has other parameters than the first one")]
    Parameters {
        /// Index of the configuration, from 0.
        row: usize,
        /// The configuration.
        settings: Settings,
    },
    /// A configuration is recorded twice.
    #[error("configuration {0} is recorded twice; a record to replay has each once")]
    Twice(Settings),
    /// The record has no configuration.
    #[error("no configuration is recorded")]
    Empty,
    /// No configuration has a time.
    #[error("no recorded configuration has a time: all of them failed")]
    NoTime,
}

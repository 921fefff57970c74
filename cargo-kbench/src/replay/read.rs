//! Reads records: Kernel Tuner's cachefiles, the T4 results format, our own journals; each plain or gzipped.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::recorded::{Entry, Recorded};
use crate::file;
use crate::space::Settings;

mod cachefile;
mod journal;
mod t4;

/// An error of a file, with its path.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ReadError {
    path: PathBuf,
    problem: Problem,
}

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

/// Reads a record; its content determines the format.
pub fn read(path: &Path) -> Result<Recorded, ReadError> {
    let bytes = unpacked(path).map_err(|error| ReadError { path: path.to_owned(), problem: error.into() })?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = name.trim_end_matches(".gz").trim_end_matches(".jsonl").trim_end_matches(".json").to_owned();
    let rows = parse(&bytes);
    rows.and_then(|rows| Recorded::new(name, &rows)).map_err(|problem| ReadError { path: path.to_owned(), problem })
}

fn unpacked(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = file::read_bytes(path)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(file::LARGEST).read_to_end(&mut text);
    read.map_err(|error| io::Error::new(error.kind(), format!("cannot be unpacked, it may be cut: {error}")))?;
    Ok(text)
}

/// The keys that distinguish the formats; values are skipped.
#[derive(Deserialize)]
struct Probe {
    tune_params_keys: Option<serde::de::IgnoredAny>,
    cache: Option<serde::de::IgnoredAny>,
    results: Option<serde::de::IgnoredAny>,
}

fn parse(bytes: &[u8]) -> Result<Vec<(Settings, Entry)>, Problem> {
    if journal::is(bytes) {
        return journal::parse(bytes);
    }
    let closed;
    let (probe, bytes) = match serde_json::from_slice::<Probe>(bytes) {
        Ok(probe) => (probe, bytes),
        Err(error) if error.is_eof() => {
            // Kernel Tuner closes its file at the end of tuning; an open file ends with a comma.
            closed = cachefile::closed(bytes);
            (serde_json::from_slice(&closed).map_err(|_| Problem::Json(error))?, closed.as_slice())
        }
        Err(error) => return Err(Problem::Json(error)),
    };
    match probe {
        Probe { tune_params_keys: Some(_), cache: Some(_), .. } => cachefile::parse(bytes),
        Probe { results: Some(_), .. } => t4::parse(bytes),
        _ => Err(Problem::Unknown),
    }
}

/// A valid time: finite and above 0.
fn sound(time: f64) -> Option<f64> {
    (time.is_finite() && time > 0.0).then_some(time)
}

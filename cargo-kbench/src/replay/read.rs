//! Reads records: Kernel Tuner's cachefiles, the T4 results format, our own journals; each plain or gzipped.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::problem::Problem;
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

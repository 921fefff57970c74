//! The file `elite.json`.

use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EliteEntry, PortfolioRecord, VERSION};
use crate::file::{self, in_context};
use crate::space::Settings;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EliteFile {
    /// Version of the format.
    pub version: u32,
    /// One entry for each tuned kernel, device and shape.
    pub kernels: Vec<EliteEntry>,
    /// One portfolio for each kernel and device that was tuned shape by shape.
    #[serde(default, rename = "covers", skip_serializing_if = "Vec::is_empty")]
    pub portfolios: Vec<PortfolioRecord>,
}

impl EliteFile {
    /// Reads `path`; a missing file gives an empty file of this version. A damaged file or one of another version is an
    /// error, so that it is not overwritten.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match file::read_bytes(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { version: VERSION, kernels: Vec::new(), portfolios: Vec::new() });
            }
            Err(error) => return Err(in_context(path, &error)),
        };
        let invalid = |message: String| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {message}; move it away to start a new one", path.display()),
            )
        };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(invalid(format!("version {version}, this cargo-kbench writes {VERSION}"))),
            None => return Err(invalid("not an elite file".to_owned())),
        }
        // The text is parsed again: a `Value` would not keep the order of the toggles.
        serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))
    }

    /// Toggles of the winner of a kernel on a device at a shape; none for a proposed source.
    pub fn winner(&self, package: &str, kernel: &str, device: &str, shape: &str) -> Option<Settings> {
        let entry = self.kernels.iter().find(|entry| {
            (&*entry.package, &*entry.kernel, &*entry.device.name, &*entry.shape) == (package, kernel, device, shape)
        })?;
        entry.elite.first().filter(|winner| winner.source.is_none()).map(|winner| winner.toggles.clone())
    }

    /// Adds an entry, or replaces the entry of the same package, kernel, device and shape.
    pub fn insert(&mut self, entry: EliteEntry) {
        let same = |other: &EliteEntry| {
            other.package == entry.package
                && other.kernel == entry.kernel
                && other.device.name == entry.device.name
                && other.shape == entry.shape
        };
        match self.kernels.iter_mut().find(|other| same(other)) {
            Some(old) => *old = entry,
            None => self.kernels.push(entry),
        }
    }

    /// Adds a portfolio, or replaces the portfolio of the same kernel on the same device.
    pub fn insert_portfolio(&mut self, portfolio: PortfolioRecord) {
        self.portfolios.retain(|other| {
            (&other.package, &other.kernel, &other.device.name)
                != (&portfolio.package, &portfolio.kernel, &portfolio.device.name)
        });
        self.portfolios.push(portfolio);
    }

    /// Changes the file at `path`, one process at a time.
    pub fn change(path: &Path, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        let path = file::followed(path)?;
        let _lock = file::Lock::of(&path)?;
        let mut file = Self::read(&path)?;
        change(&mut file);
        file.write(&path)
    }

    /// Returns an error if an entry could not be added to the file at `path`.
    pub fn check(path: &Path) -> io::Result<()> {
        Self::read(path)?;
        // The target directory may be new, in a folder that exists.
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder
            .and_then(|()| file::check_writable(path))
            .map_err(|error| io::Error::new(error.kind(), format!("results could not be kept: {error}")))
    }

    /// Writes the file completely or leaves the old one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        file::write(path, (serde_json::to_string_pretty(self)? + "\n").as_bytes())
    }
}

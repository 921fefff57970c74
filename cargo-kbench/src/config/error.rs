//! Reasons why no project is loaded.

use std::io;
use std::path::PathBuf;

use super::diagnostics::ConfigErrors;
use crate::text::list;

/// Reason why no project was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Mistakes in manifests, to be drawn with [`ConfigErrors::render`].
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// No `Cargo.toml` in this folder or above.
    #[error("no Cargo.toml in `{}` or any folder above it", .0.display())]
    NoManifest(PathBuf),
    /// `-p` names no package of the workspace.
    #[error("no package `{name}` in this workspace; {}", match suggestion {
        Some(suggestion) => format!("did you mean `{suggestion}`?"),
        None => format!("its packages: {}", list(known)),
    })]
    UnknownPackage {
        /// The name.
        name: String,
        /// A package with nearly the same name.
        suggestion: Option<String>,
        /// All packages.
        known: Vec<String>,
    },
    /// `-p` is an invalid pattern.
    #[error("`{pattern}` is no pattern of package names: {error}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Reason.
        error: glob::PatternError,
    },
    /// A manifest cannot be read.
    #[error("cannot read `{}`: {}", .0.display(), .1)]
    Read(PathBuf, io::Error),
    /// Cargo refuses the workspace, with cargo's message.
    #[error("cargo metadata failed:\n{0}")]
    Cargo(String),
}

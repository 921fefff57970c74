//! The outcome of a compilation as the cache and a bundle keep it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Artifact, Function};

/// Outcome of a compilation, without the machine code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Hash of the code's bytes.
    pub(super) hash: String,
    /// See [`super::Artifact::identity`].
    pub(super) identity: String,
    /// See [`super::Artifact::functions`].
    pub(super) functions: Vec<Function>,
    /// See [`super::Artifact::defined`].
    #[serde(default)]
    pub(super) defined: Vec<String>,
    /// See [`super::Artifact::command`].
    pub(super) command: Vec<String>,
    /// See [`super::Artifact::link`].
    pub(super) link: Vec<String>,
    /// See [`super::Artifact::source_hash`].
    pub(super) source_hash: String,
    /// See [`super::Artifact::messages`].
    pub(super) messages: String,
    /// See [`super::Artifact::took`].
    #[serde(default)]
    pub(super) took: Duration,
}

impl Record {
    /// The record of an artifact, with a duration of 0: only this machine's cache keeps the duration of its compiler.
    pub(super) fn of(artifact: &Artifact) -> Self {
        let Artifact { hash, identity, functions, defined, command, link, source_hash, messages, .. } =
            artifact.clone();
        Self { hash, identity, functions, defined, command, link, source_hash, messages, took: Duration::ZERO }
    }

    /// The artifact whose machine code is the file `code`. `compiler` is the version line of its compiler.
    pub(super) fn artifact(self, code: PathBuf, compiler: String, cached: bool) -> Artifact {
        let Self { hash, identity, functions, defined, command, link, source_hash, messages, took } = self;
        Artifact {
            code,
            hash,
            identity,
            functions,
            defined,
            command,
            link,
            compiler,
            source_hash,
            messages,
            cached,
            took,
        }
    }
}

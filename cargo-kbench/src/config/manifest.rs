//! The packages of a workspace and the target directory, from cargo, or from the manifests on a machine without cargo,
//! such as many GPU nodes.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::error::LoadError;

mod direct;

/// A workspace, or a single package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workspace {
    /// The root manifest.
    pub(super) root: PathBuf,
    /// Target directory.
    pub(super) target_directory: PathBuf,
    /// Packages, in cargo's order.
    pub(super) members: Vec<Member>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// Version of the package; empty if the manifest has none.
    pub(super) version: String,
    /// Edition of Rust, such as `2024`.
    pub(super) edition: String,
    pub(super) manifest: PathBuf,
}

/// The manifest that cargo would find from `directory`.
pub(super) fn find(directory: &Path) -> Result<PathBuf, LoadError> {
    directory
        .ancestors()
        .map(|ancestor| ancestor.join("Cargo.toml"))
        .find(|manifest| manifest.is_file())
        .ok_or_else(|| LoadError::NoManifest(directory.to_owned()))
}

/// The workspace of a manifest, as cargo determines it from `directory`: cargo looks there for its configuration, and a
/// relative `CARGO_TARGET_DIR` starts there.
pub(super) fn workspace(manifest: &Path, directory: &Path, cargo: &OsStr) -> Result<Workspace, LoadError> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .cargo_path(cargo)
        .manifest_path(manifest)
        .current_dir(directory)
        .no_deps()
        // Reading a table downloads nothing.
        .other_options(vec!["--offline".to_owned()])
        .exec();
    match metadata {
        Ok(metadata) => Ok(from_metadata(&metadata)),
        Err(cargo_metadata::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            direct::workspace(manifest, directory)
        }
        Err(cargo_metadata::Error::CargoMetadata { stderr }) => Err(LoadError::Cargo(without_backtrace(&stderr))),
        Err(error) => Err(LoadError::Cargo(error.to_string())),
    }
}

/// A message of cargo without a backtrace, which rustup's proxy adds where it has no toolchain and `RUST_BACKTRACE` is set.
fn without_backtrace(said: &str) -> String {
    let lines = said.lines().take_while(|line| !line.trim_end().eq_ignore_ascii_case("stack backtrace:"));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn from_metadata(metadata: &cargo_metadata::Metadata) -> Workspace {
    let members = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| Member {
            name: package.name.to_string(),
            version: package.version.to_string(),
            edition: package.edition.as_str().to_owned(),
            manifest: package.manifest_path.clone().into(),
        })
        .collect();
    Workspace {
        root: metadata.workspace_root.join("Cargo.toml").into(),
        target_directory: metadata.target_directory.clone().into(),
        members,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_cargo_ends_before_its_backtrace() {
        let said = "error: rustup could not choose a version of cargo to run\nhelp: run 'rustup default stable'\n\n\
                    Stack backtrace:\n   0: anyhow::error::from\n   1: rustup::config::no_toolchain_error\n";
        let first = "error: rustup could not choose a version of cargo to run\nhelp: run 'rustup default stable'";
        assert_eq!(without_backtrace(said), first);
        assert_eq!(
            without_backtrace("error: no such file\n\nCaused by:\n  x\n"),
            "error: no such file\n\nCaused by:\n  x"
        );
    }
}

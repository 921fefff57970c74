//! Whole files: read with their name in the error, written beside their place and renamed.

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::Value;

/// Reads a text file.
pub fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path).map_err(|error| in_context(path, &error))
}

/// An error about the contents of a file.
pub fn invalid(path: &Path, message: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {message}", path.display()))
}

/// Checks the version that a file says it has.
pub fn check_version(path: &Path, value: &Value, version: u32) -> io::Result<()> {
    match value.get("version").and_then(Value::as_u64) {
        Some(found) if found == u64::from(version) => Ok(()),
        Some(found) => Err(invalid(path, format!("version {found}, this cargo-kbench reads {version}"))),
        None => Err(invalid(path, "it has no version")),
    }
}

/// Writes a file whole or not at all.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text)?;
        file.as_file().sync_all()?;
        // tempfile makes private files; this one is for everyone the folder is for.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| in_context(path, &error))
}

/// An error with the name of its file.
pub fn in_context(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

//! The folder of an export whose contents are replaced for a while and put back afterwards, by a later run at the latest.

use std::io;
use std::path::{Path, PathBuf};

use super::{Export, ExportError};
use crate::file;

/// The file of a copy that names the folder that it is a copy of. It is written last: a copy without it is not complete.
const ORIGIN: &str = "origin";

/// A folder that holds an export for a while. Its former contents come back when this is dropped, and with [`Replaced::put_back`] where
/// a killed process left its copy.
pub struct Replaced {
    copy: PathBuf,
}

impl Replaced {
    /// Copies the folder of an export to `copy`, and writes the export.
    pub fn write(export: &Export, copy: &Path) -> Result<Self, ExportError> {
        Self::put_back(copy)?;
        Export::check_folder(&export.folder, export.language)?;
        let contents = copy.join("contents");
        match std::fs::read_dir(&export.folder) {
            Ok(entries) => {
                std::fs::create_dir_all(&contents).map_err(|error| file::in_context(&contents, &error))?;
                for entry in entries {
                    let entry = entry?;
                    if entry.file_type()?.is_file() {
                        std::fs::copy(entry.path(), contents.join(entry.file_name()))
                            .map_err(|error| file::in_context(&entry.path(), &error))?;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(copy).map_err(|error| file::in_context(copy, &error))?;
            }
            Err(error) => return Err(file::in_context(&export.folder, &error).into()),
        }
        file::write(&copy.join(ORIGIN), export.folder.as_os_str().as_encoded_bytes())?;
        let replaced = Self { copy: copy.to_owned() };
        export.write()?;
        Ok(replaced)
    }

    /// Puts the former contents back.
    pub fn end(self) -> io::Result<()> {
        Self::put_back(&self.copy).map(drop)
    }

    /// Puts the contents of a copy back and removes the copy; true where there was one.
    pub fn put_back(copy: &Path) -> io::Result<bool> {
        use std::os::unix::ffi::OsStringExt as _;

        let folder = match std::fs::read(copy.join(ORIGIN)) {
            Ok(folder) => PathBuf::from(std::ffi::OsString::from_vec(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A copy that is not complete: the folder was not written to yet.
                return match std::fs::remove_dir_all(copy) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file::in_context(copy, &error)),
                    _ => Ok(false),
                };
            }
            Err(error) => return Err(file::in_context(copy, &error)),
        };
        let contents = copy.join("contents");
        let mut kept = Vec::new();
        if contents.is_dir() {
            for entry in std::fs::read_dir(&contents)? {
                let entry = entry?;
                // Written with a new time, so that cargo compiles it again: the last build holds another variant.
                file::write(&folder.join(entry.file_name()), &std::fs::read(entry.path())?)?;
                kept.push(entry.file_name());
            }
        }
        if let Ok(entries) = std::fs::read_dir(&folder) {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_file() && !kept.contains(&entry.file_name()) {
                    std::fs::remove_file(entry.path()).map_err(|error| file::in_context(&entry.path(), &error))?;
                }
            }
            if !contents.is_dir() {
                let _ = std::fs::remove_dir(&folder);
            }
        }
        std::fs::remove_dir_all(copy).map_err(|error| file::in_context(copy, &error))?;
        Ok(true)
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Err(error) = Self::put_back(&self.copy) {
            tracing::warn!(%error, "the former export is kept in {}", self.copy.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{File, Language};
    use super::*;

    fn export(folder: &Path, text: &str) -> Export {
        let module = format!("// {} 0\n{text}", super::super::MARK);
        let file = |name: &str, text: String| File { name: name.into(), bytes: text.into_bytes() };
        Export {
            folder: folder.to_owned(),
            language: Language::Rust,
            files: vec![file("mod.rs", module), file(&format!("{text}.c"), String::new())],
            variants: 1,
            warnings: Vec::new(),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_has_its_former_contents_again() {
        let root = tempfile::tempdir().unwrap();
        let (folder, copy) = (root.path().join("kbench"), root.path().join("copy"));
        export(&folder, "old").write().unwrap();
        let replaced = Replaced::write(&export(&folder, "new"), &copy).unwrap();
        assert_eq!(names(&folder), ["mod.rs", "new.c"]);
        drop(replaced);
        assert_eq!(names(&folder), ["mod.rs", "old.c"]);
        assert!(!copy.exists());
    }

    #[test]
    fn a_new_folder_is_removed_after_the_search() {
        let root = tempfile::tempdir().unwrap();
        let (folder, copy) = (root.path().join("kbench"), root.path().join("copy"));
        drop(Replaced::write(&export(&folder, "new"), &copy).unwrap());
        assert!(!folder.exists() && !copy.exists());
    }

    #[test]
    fn a_later_run_restores_the_export_after_a_kill() {
        let root = tempfile::tempdir().unwrap();
        let (folder, copy) = (root.path().join("kbench"), root.path().join("copy"));
        export(&folder, "old").write().unwrap();
        std::mem::forget(Replaced::write(&export(&folder, "new"), &copy).unwrap());
        drop(Replaced::write(&export(&folder, "newer"), &copy).unwrap());
        assert_eq!(names(&folder), ["mod.rs", "old.c"]);
        assert!(!Replaced::put_back(&copy).unwrap());
    }

    #[test]
    fn a_folder_of_someone_else_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let (folder, copy) = (root.path().join("kbench"), root.path().join("copy"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("mod.rs"), "mine").unwrap();
        let refused = Replaced::write(&export(&folder, "new"), &copy);
        assert!(matches!(refused, Err(ExportError::Foreign { .. })));
        assert_eq!(std::fs::read_to_string(folder.join("mod.rs")).unwrap(), "mine");
    }
}

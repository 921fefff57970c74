//! The folder of an export: files that may be replaced, and the comparison with a new export.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Export, ExportError, Language, MARK};
use crate::file;

impl Export {
    /// An error if the folder is not an export, or cannot be written to.
    pub fn check_folder(folder: &Path, language: Language) -> Result<(), ExportError> {
        let module = folder.join(language.module());
        let mark = format!("{} {MARK}", language.comment());
        if let Some(name) = names(folder)?.first()
            && !std::fs::read_to_string(&module).is_ok_and(|text| text.starts_with(&mark))
        {
            return Err(ExportError::Foreign { folder: folder.to_owned(), name: name.display().to_string() });
        }
        let made = !folder.exists();
        std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
        let writable = file::check_writable(&module);
        if made {
            let _ = std::fs::remove_dir(folder);
        }
        Ok(writable?)
    }

    /// Writes the files, the module last, and removes other files of an earlier export.
    pub fn write(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(|error| file::in_context(&self.folder, &error))?;
        let (modules, rest): (Vec<_>, Vec<_>) =
            self.files.iter().partition(|file| file.name == Path::new(self.language.module()));
        for file in rest.into_iter().chain(modules) {
            let path = self.folder.join(&file.name);
            // An unchanged file is not written: cargo looks at its age.
            if std::fs::read(&path).ok().as_ref() != Some(&file.bytes) {
                file::write(&path, &file.bytes)?;
            }
        }
        for name in names(&self.folder)? {
            let is_ours = name
                .extension()
                .is_some_and(|extension| self.language.extensions().iter().any(|own| extension == *own));
            if is_ours && self.files.iter().all(|file| file.name != name) {
                let path = self.folder.join(&name);
                std::fs::remove_file(&path).map_err(|error| file::in_context(&path, &error))?;
            }
        }
        Ok(())
    }

    /// The files that differ from a new export; empty if there are none.
    pub fn stale(&self) -> io::Result<Vec<String>> {
        let mut stale = Vec::new();
        let there = names(&self.folder)?;
        for file in &self.files {
            let path = self.folder.join(&file.name);
            let old = match std::fs::read(&path) {
                Ok(old) => old,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    stale.push(format!("`{}` is not there", file.name.display()));
                    continue;
                }
                Err(error) => return Err(file::in_context(&path, &error)),
            };
            if old == file.bytes || is_same_code(&file.name, &old, &file.bytes) {
                continue;
            }
            let comment = format!("{} ", self.language.comment());
            let (old, new) = (made_from(&old, &comment), made_from(&file.bytes, &comment));
            let changed: Vec<String> = new
                .iter()
                .filter(|(what, _)| old.contains_key(*what))
                .filter(|(what, hash)| old.get(*what) != Some(hash))
                .map(|(what, hash)| {
                    let is_hash = !what.ends_with("compiler");
                    if is_hash {
                        format!("{what} changed")
                    } else {
                        format!("{what} changed from `{}` to `{hash}`", old[what])
                    }
                })
                .collect();
            if changed.is_empty() {
                stale.push(format!("`{}` differs from the export of this table and this version", file.name.display()));
            }
            stale.extend(changed);
        }
        let left = there.iter().filter(|name| self.files.iter().all(|file| file.name != **name));
        stale.extend(left.map(|name| format!("`{}` is no part of the export", name.display())));
        Ok(stale)
    }
}

/// Whether two files hold the same machine code: paths and file names that a compiler records may differ.
fn is_same_code(name: &Path, old: &[u8], new: &[u8]) -> bool {
    let name = name.to_string_lossy();
    let identity = |bytes: &[u8]| crate::build::cubin_identity(bytes);
    let both = if name.ends_with(".cubin") {
        (identity(old), identity(new))
    } else if name.ends_with(".cubin.inc") {
        let of = |text: &[u8]| identity(&super::c::decoded(text)?);
        (of(old), of(new))
    } else {
        return false;
    };
    both.0.is_some() && both.0 == both.1
}

/// The lines `// kernel: item: hash` in the comments at the start of a module.
fn made_from(text: &[u8], comment: &str) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let is_head = |line: &&str| line.is_empty() || line.starts_with(comment.trim());
    let lines = text.lines().take_while(is_head).filter_map(|line| line.strip_prefix(comment));
    let parts = lines.filter_map(|line| {
        let mut parts = line.splitn(3, ": ");
        Some((format!("{}: {}", parts.next()?, parts.next()?), parts.next()?.to_owned()))
    });
    parts.collect()
}

/// The names in a folder, sorted, without Python's cache; none if the folder is missing.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file::in_context(folder, &error)),
    };
    let names: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect();
    let mut names = names.map_err(|error| file::in_context(folder, &error))?;
    names.retain(|name| name != Path::new("__pycache__"));
    names.sort();
    Ok(names)
}

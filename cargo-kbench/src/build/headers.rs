//! Files that a compiler would read without end: a FIFO or a device in place of a header or of a file that flags name.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;

use super::error::CompileError;
use super::inputs::Inputs;
use super::{NO_PANIC, Unit};
use crate::file::{self, is_endless};

/// Largest size of a header in which further headers are looked for: more text is no source of a person.
const LARGEST: u64 = 16 << 20;

/// Sources that were examined, each with its folders of headers: once in a run, which sees one state of the files.
#[derive(Debug, Default)]
pub(super) struct Headers(Mutex<HashSet<(Vec<PathBuf>, Vec<PathBuf>)>>);

impl Headers {
    /// An error if the compiler of a unit could wait forever for one of its files, by the names in the flags and in
    /// `#include`, under any conditions around it.
    pub(super) fn check(&self, unit: &Unit, inputs: &Inputs) -> Result<(), CompileError> {
        let at = |name: &str| unit.directory.join(name);
        let refused = |path: PathBuf| CompileError::io("read", &path)(file::not_ordinary());
        let forced: Vec<PathBuf> = inputs.forced_headers().map(at).collect();
        if let Some(path) = inputs.named().map(at).chain(forced.clone()).find(|path| is_endless(path)) {
            return Err(refused(path));
        }
        let folders = std::iter::once(unit.directory.clone()).chain(inputs.header_folders().map(at)).collect();
        let waiting: Vec<PathBuf> = std::iter::once(unit.source.clone()).chain(forced).collect();
        let key = (waiting, folders);
        if self.0.lock().expect(NO_PANIC).contains(&key) {
            return Ok(());
        }
        if let Some(path) = endless(key.0.clone(), &key.1) {
            return Err(refused(path));
        }
        self.0.lock().expect(NO_PANIC).insert(key);
        Ok(())
    }
}

/// A file without an end among these and the headers that they name.
fn endless(mut waiting: Vec<PathBuf>, folders: &[PathBuf]) -> Option<PathBuf> {
    let mut seen: HashSet<PathBuf> = waiting.iter().cloned().collect();
    while let Some(path) = waiting.pop() {
        // A missing file, or one that is no text, is the compiler's to report.
        let Ok(text) = file::read_at_most(&path, LARGEST) else { continue };
        for (name, is_quoted) in String::from_utf8_lossy(&text).lines().filter_map(included) {
            let beside = path.parent().filter(|_| is_quoted);
            let places = beside.into_iter().chain(folders.iter().map(PathBuf::as_path)).map(|folder| folder.join(name));
            let Some(header) = places.into_iter().find(|place| place.exists()) else { continue };
            if is_endless(&header) {
                return Some(header);
            }
            if seen.insert(header.clone()) {
                waiting.push(header);
            }
        }
    }
    None
}

/// The header that a line includes by name, and whether the name is in quotes.
fn included(line: &str) -> Option<(&str, bool)> {
    let directive = line.trim_start().strip_prefix('#')?.trim_start();
    let operand = directive.strip_prefix("include")?;
    let operand = operand.strip_prefix("_next").unwrap_or(operand).trim_start();
    let is_quoted = operand.starts_with('"');
    let (name, _) =
        if is_quoted { operand[1..].split_once('"')? } else { operand.strip_prefix('<')?.split_once('>')? };
    Some((name, is_quoted))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn fifo(path: &Path) {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    #[test]
    fn names_of_headers_are_read_from_directives() {
        assert_eq!(included("  #  include \"a/b.h\" // c"), Some(("a/b.h", true)));
        assert_eq!(included("#include_next <x.h>"), Some(("x.h", false)));
        for line in ["#include NAME", "include \"a.h\"", "#include \"a.h", "# error"] {
            assert_eq!(included(line), None, "{line}");
        }
    }

    #[test]
    fn a_fifo_or_a_device_is_found_behind_headers_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("more")).unwrap();
        fs::write(at("k.c"), "#include <stdio.h>\n#include \"a.h\"\n").unwrap();
        // Round in a circle, and a name that leads nowhere.
        fs::write(at("a.h"), "#include \"a.h\"\n#include <b.h>\n#include \"nowhere.h\"\n#include \"/dev/null\"\n")
            .unwrap();
        let find = || endless(vec![at("k.c")], &[at("more")]);
        assert_eq!(find(), None);
        fifo(&at("pipe"));
        std::os::unix::fs::symlink(at("pipe"), at("more/b.h")).unwrap();
        assert_eq!(find(), Some(at("more/b.h")));
        fs::remove_file(at("more/b.h")).unwrap();
        fs::write(at("more/b.h"), "#include \"/dev/zero\"").unwrap();
        assert_eq!(find(), Some(PathBuf::from("/dev/zero")));
    }
}

//! Hashes of source files, each read once, and the dependency files that compilers write.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::SystemTime;

use kbench_runtime::fingerprint;

use super::error::CompileError;
use crate::file;

/// Largest size in bytes of a linker script.
const LONGEST_SCRIPT: u64 = 64 << 10;

/// Hashes of files, remembered as long as one compiler exists, so that a run sees one state of the sources.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: RwLock<HashMap<PathBuf, Known>>,
    /// Whether all files of a list are absent, by the name of the list.
    absent: RwLock<HashMap<String, bool>>,
}

#[derive(Debug, Clone)]
struct Known {
    hash: String,
    stamp: Stamp,
}

/// Properties that distinguish an edited file from an untouched one without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

/// State of a file between its hash and the end of a compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// The compiler read the hashed contents.
    Same,
    /// The file was first seen now and was written after the compiler started: the contents that the compiler read are
    /// unknown.
    Unsure,
    /// The contents differ from the hashed ones.
    Changed,
}

impl Files {
    /// The blake3 hash of a file, in hex.
    pub(super) fn hash(&self, path: &Path) -> io::Result<String> {
        if let Some(known) = self.known.read().expect("no panic while locked").get(path) {
            return Ok(known.hash.clone());
        }
        let known = read(path)?;
        let mut map = self.known.write().expect("no panic while locked");
        // Another thread may have been first; its hash counts for the whole run.
        Ok(map.entry(path.to_owned()).or_insert(known).hash.clone())
    }

    /// Whether a file still has this hash; false if it cannot be read.
    pub(super) fn matches(&self, path: &Path, hash: &str) -> bool {
        if let Some(known) = self.known.read().expect("no panic while locked").get(path) {
            return known.hash == hash;
        }
        self.hash(path).is_ok_and(|found| found == hash)
    }

    /// Whether all files of a list are absent: tested once, as files are read once.
    pub(super) fn are_absent(&self, list: &str, paths: impl FnOnce() -> Option<Vec<PathBuf>>) -> bool {
        if let Some(known) = self.absent.read().expect("no panic while locked").get(list) {
            return *known;
        }
        let absent = paths().is_some_and(|paths| !paths.iter().any(|path| path.exists()));
        *self.absent.write().expect("no panic while locked").entry(list.to_owned()).or_insert(absent)
    }

    /// State of a file that a compiler, started at `started`, has read.
    pub(super) fn since(&self, path: &Path, started: SystemTime) -> io::Result<Since> {
        let known = self.known.read().expect("no panic while locked").get(path).cloned();
        let Some(known) = known else {
            self.hash(path)?;
            let modified = stamp(path)?.modified;
            return Ok(if modified.is_some_and(|modified| modified >= started) { Since::Unsure } else { Since::Same });
        };
        if stamp(path)? == known.stamp || read(path)?.hash == known.hash { Ok(Since::Same) } else { Ok(Since::Changed) }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp { modified: metadata.modified().ok(), bytes: metadata.len() })
}

fn read(path: &Path) -> io::Result<Known> {
    // The stamp is taken first: an edit between the two changes the stamp.
    let stamp = stamp(path)?;
    if file::is_endless(path) {
        return Err(file::not_ordinary());
    }
    Ok(Known { hash: fingerprint::of_bytes(&fs::read(path)?), stamp })
}

/// The text of a file that a compiler or linker wrote beside its code, possibly without a test for a full disk: an
/// error if its end is missing.
pub(super) fn read_whole(path: &Path) -> Result<String, CompileError> {
    let text = fs::read_to_string(path).map_err(CompileError::io("read", path))?;
    // A list of files continues after each line that ends with a backslash.
    if text.ends_with('\n') && !text.ends_with("\\\n") {
        return Ok(text);
    }
    let error = io::Error::new(io::ErrorKind::StorageFull, "its end is missing, as on a full disk");
    Err(CompileError::Io { action: "read".to_owned(), path: path.to_owned(), error })
}

/// The prerequisites of the first rule of a dependency file in make's syntax (`-MD`), absolute, in order, each once.
pub(super) fn dependencies(depfile: &str, directory: &Path) -> Vec<PathBuf> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut rest = depfile.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.peek() {
                Some('\n' | '\r') => {
                    while rest.next_if(|&c| c == '\r' || c == '\n').is_some() {}
                    words.push(std::mem::take(&mut word));
                }
                Some(' ' | '#' | '\\') => word.extend(rest.next()),
                _ => word.push('\\'),
            },
            '$' => {
                rest.next_if_eq(&'$');
                word.push('$');
            }
            // With `-MP`, rules without prerequisites follow, for headers that are removed later.
            '\n' if !words.iter().all(String::is_empty) => break,
            c if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    // All words up to the colon (`kernel.o:`, or the colon alone, as nvcc writes it) are the target.
    let targets = words.iter().position(|word| word.ends_with(':')).map_or(0, |at| at + 1);
    let mut paths: Vec<PathBuf> = Vec::new();
    for word in words.drain(targets..).filter(|word| !word.is_empty()) {
        let path = directory.join(word);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// The prerequisites in a dependency file of a linker, one for each line, absolute. GNU ld writes no backslash before
/// spaces, other linkers do.
pub(super) fn linked(rule: &str, directory: &Path) -> Vec<PathBuf> {
    let name = |line: &str| line.trim_end().trim_end_matches('\\').trim().to_owned();
    let lines = rule.lines().skip(1).map(name).filter(|name| !name.is_empty());
    let place = |name: String| {
        let plain = directory.join(&name);
        if plain.exists() { vec![plain] } else { dependencies(&format!("kernel.so: {name}"), directory) }
    };
    lines.flat_map(place).collect()
}

/// Whether a file that a linker read is a script that makes it search for more files.
pub(super) fn is_searching_linker_script(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(LONGEST_SCRIPT).read_to_end(&mut start));
    let text = String::from_utf8_lossy(&start);
    let is_library =
        |word: &str| word.contains(".so.") || [".so", ".a", ".o"].iter().any(|suffix| word.ends_with(suffix));
    let mut words = text.split(|c: char| c.is_whitespace() || "(),;".contains(c));
    read.is_ok()
        && !text.contains('\0')
        && words.any(|word| {
            ["SEARCH_DIR", "INCLUDE"].contains(&word)
                || word.starts_with("-l")
                || (is_library(word) && !word.starts_with('/'))
        })
}

/// Whether a file is an archive that names its members in place of holding them (`ar rcsT`): no list has the members.
pub(super) fn is_thin_archive(path: &Path) -> bool {
    const MAGIC: &[u8] = b"!<thin>\n";
    let mut start = [0; MAGIC.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dependency_files_of_gcc_and_nvcc() {
        let gcc = "kernel.o: /c/shim.c /usr/include/stdc-predef.h \\\n /p/with\\ space.c \\\n  h.h \\\n h.h d$$.h\n";
        let found = dependencies(gcc, Path::new("/p"));
        let expected =
            ["/c/shim.c", "/usr/include/stdc-predef.h", "/p/with space.c", "/p/h.h", "/p/d$.h"].map(PathBuf::from);
        assert_eq!(found, expected);
        let nvcc = "a.cubin : a.cu \\\n    /usr/include/features.h \\\n    /x/bin/..//include/cuda_runtime.h\n";
        let found = dependencies(nvcc, Path::new("/p"));
        assert_eq!(
            found,
            ["/p/a.cu", "/usr/include/features.h", "/x/bin/..//include/cuda_runtime.h"].map(PathBuf::from)
        );
        let phony = "\nkernel.o: k.c \\\n h.h\n\nh.h:\n";
        assert_eq!(dependencies(phony, Path::new("/p")), ["/p/k.c", "/p/h.h"].map(PathBuf::from), "-MP");
        assert!(dependencies("", Path::new("/p")).is_empty());
    }

    #[test]
    fn files_that_a_linker_lists_may_have_spaces() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a  b.o", "c.o"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let expected = ["a  b.o", "c.o"].map(|name| folder.path().join(name));
        for list in ["k.so: \\\n  a  b.o \\\n  c.o\n", "k.so: \\\n  a\\ \\ b.o \\\n  c.o\n"] {
            assert_eq!(linked(list, folder.path()), expected, "{list}");
        }
    }

    #[test]
    fn a_linker_script_that_searches_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libg.so");
        for (text, searches) in [
            ("/* by its path */ GROUP ( /lib/libm.so.6  AS_NEEDED ( /lib/libmvec.so.1 ) )", false),
            ("{ global: kernel; local: *; };", false),
            ("INPUT(-lg)", true),
            ("INPUT ( g.o )", true),
            ("GROUP(libg.so.1)", true),
            ("SEARCH_DIR(one); INPUT(/lib/libm.so.6)", true),
            ("INCLUDE more", true),
            ("\x7fELF\0 -lg g.o", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(is_searching_linker_script(&path), searches, "{text}");
        }
    }

    #[test]
    fn a_file_whose_end_is_missing_is_an_error_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel.d");
        let whole = "kernel.o: a.c \\\n b.h \\\n c.h\n";
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let error = read_whole(&path).unwrap_err();
            assert!(!error.is_variants_own() && error.to_string().contains("kernel.d"), "{cut}: {error}");
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(read_whole(&path).unwrap(), whole);
    }

    #[test]
    fn a_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h");
        fs::write(&path, "1").unwrap();
        let files = Files::default();
        let first = files.hash(&path).unwrap();
        fs::write(&path, "2").unwrap();
        assert_eq!(files.hash(&path).unwrap(), first);
        assert!(files.matches(&path, &first));
        assert_ne!(Files::default().hash(&path).unwrap(), first);
        assert!(!files.matches(Path::new("/no/such/file"), &first));
    }

    #[test]
    fn a_touched_file_keeps_its_hash_and_an_edited_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h");
        fs::write(&path, "1").unwrap();
        let files = Files::default();
        files.hash(&path).unwrap();
        let started = SystemTime::now();
        assert_eq!(files.since(&path, started).unwrap(), Since::Same);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(started + Duration::from_secs(5)).unwrap();
        assert_eq!(files.since(&path, started).unwrap(), Since::Same, "touched, but the same");
        fs::write(&path, "2").unwrap();
        assert_eq!(files.since(&path, started).unwrap(), Since::Changed);
        let fresh = Files::default();
        file.set_modified(started + Duration::from_secs(5)).unwrap();
        assert_eq!(fresh.since(&path, started).unwrap(), Since::Unsure);
    }
}

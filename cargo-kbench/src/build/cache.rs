//! The cache of compiled code, `<target>/kbench/cache`.
//!
//! ```text
//! entries/ab/<key>.json    outcomes of a key, with the files of each: the newest first
//! code/cd/<hash>.so        machine code by the hash of its bytes (also .cubin, .json)
//! absent/<hash>            files that were absent, one for each line
//! shims/<hash>.c           generated C sources
//! tmp/                     folders of running compilers
//! tmp.lock                 locked by each process that has files in tmp
//! ```
//!
//! The key is a hash of everything that is known before a compiler runs: the source's path and contents, flags, macros,
//! architecture, signature, the compiler's path and version, and the environment variables that compilers read.
//! Included headers are known only afterwards, so an entry lists every file that the compiler reported (`-MD`) with its
//! hash, and is valid only while each of them has that hash (ccache calls this its direct mode). The alternative is a
//! hash of the preprocessed source, which would cost a compiler run for each variant of each run. The linker lists the
//! files that it reads in the same way. An entry also names the absent files that would have been found first, or that
//! `__has_include` asked for; variants share such lists. A build with unlisted inputs (`.incbin`, `#embed`, a compiler
//! script that computes its command) is not kept.
//!
//! Several threads and processes may share the folder. Files get their names by a rename once they are complete;
//! entries and code have a hash of their contents, and a mismatch counts as a miss: the unit is compiled and written
//! again. Files of an interrupted compiler are in `tmp`, under names that are never looked up. The next process removes
//! them if no other one is at work, or else a day later. Failures are not kept: a full disk or a killed compiler is not the source's fault.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kbench_runtime::fingerprint;
use serde::{Deserialize, Serialize};

use super::error::CompileError;
use super::files::Files;
use super::record::Record;

/// Kind of every key's fingerprint: raise its version when the meaning of an entry changes.
pub(super) const KIND: &str = "compile 7";
/// Number of states of the headers that an entry keeps, so that each of two branches compiles once.
const STATES: usize = 8;
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// One state of the files of a key, with the outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    /// The key, so that a copied file does not count for another key.
    key: String,
    files: Vec<(PathBuf, String)>,
    /// Hash of the list of absent files.
    absent: String,
    record: Record,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    /// The shared lock of a process with files in `tmp`; none where it cannot be had.
    at_work: OnceLock<Option<fs::File>>,
}

impl Cache {
    /// A cache in `root`, which may be missing. Removes files that interrupted compilers left: all of them if no process has the lock, or
    /// else those of a day ago and earlier.
    pub(super) fn new(root: PathBuf) -> Self {
        let cache = Self { root, at_work: OnceLock::new() };
        // Without a folder no files were left, and no lock is made.
        let left: Vec<_> = fs::read_dir(cache.root.join("tmp")).into_iter().flatten().flatten().collect();
        let lock = if left.is_empty() { None } else { cache.lock().filter(|lock| lock.try_lock().is_ok()) };
        for entry in left {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED));
            if is_old || lock.is_some() {
                // Another process may have removed it first, or another user may own it: both are harmless.
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
        cache
    }

    /// A new folder for a compiler to work in, removed when dropped.
    pub(super) fn work_folder(&self) -> Result<tempfile::TempDir, CompileError> {
        let folder = self.temporary()?;
        tempfile::Builder::new().prefix("").tempdir_in(&folder).map_err(CompileError::io("write", &folder))
    }

    /// The folder for files that are not complete. No other process removes them while this one is alive.
    fn temporary(&self) -> Result<PathBuf, CompileError> {
        let folder = self.folder("tmp")?;
        self.at_work.get_or_init(|| self.lock().filter(|lock| lock.lock_shared().is_ok()));
        Ok(folder)
    }

    fn lock(&self) -> Option<fs::File> {
        fs::OpenOptions::new().create(true).append(true).open(self.root.join("tmp.lock")).ok()
    }

    /// The outcome of `key` for the present files, with the path of its code.
    pub(super) fn load(&self, key: &str, extension: &str, files: &Files) -> Option<(Record, PathBuf)> {
        let found = self.find(key, extension, files);
        tracing::debug!(key, "compile cache {}", if found.is_some() { "hit" } else { "miss" });
        found
    }

    fn find(&self, key: &str, extension: &str, files: &Files) -> Option<(Record, PathBuf)> {
        let states = self.states(key);
        let hit = |state: &State| {
            state.files.iter().all(|(path, hash)| files.matches(path, hash))
                && files.are_absent(&state.absent, || self.absent(&state.absent))
        };
        let record = states.into_iter().find(hit)?.record;
        let code = self.code_path(&record.hash, extension);
        let intact = fs::read(&code).is_ok_and(|bytes| fingerprint::of_bytes(&bytes) == record.hash);
        intact.then_some((record, code))
    }

    /// Stores code under its hash.
    pub(super) fn store_code(&self, code: &[u8], hash: &str, extension: &str) -> Result<PathBuf, CompileError> {
        let path = self.code_path(hash, extension);
        self.write(&path, code)?;
        Ok(path)
    }

    /// Stores the outcome of a key, before older states.
    pub(super) fn store(
        &self,
        key: &str,
        files: Vec<(PathBuf, String)>,
        absent: &BTreeSet<PathBuf>,
        record: Record,
    ) -> Result<(), CompileError> {
        let absent = self.store_absent(absent)?;
        let mut states = self.states(key);
        // If another process writes the same entry between the read and the rename, one state is lost and compiled
        // again later.
        states.retain(|state| state.files != files || state.absent != absent);
        states.insert(0, State { key: key.to_owned(), files, absent, record });
        states.truncate(STATES);
        let body = serde_json::to_string(&states).expect("paths come from text");
        let text = format!("{}\n{body}", fingerprint::of_bytes(body.as_bytes()));
        self.write(&self.entry_path(key), text.as_bytes())
    }

    /// Stores a list of absent files, and returns its hash.
    fn store_absent(&self, absent: &BTreeSet<PathBuf>) -> Result<String, CompileError> {
        let lines: Vec<_> = absent.iter().map(|path| path.to_string_lossy()).collect();
        let text = lines.join("\n");
        let hash = fingerprint::of_bytes(text.as_bytes());
        if self.absent(&hash).is_none() {
            self.write(&self.root.join("absent").join(&hash), text.as_bytes())?;
        }
        Ok(hash)
    }

    /// The list with this hash; `None` if it is missing or damaged.
    fn absent(&self, hash: &str) -> Option<Vec<PathBuf>> {
        let text = fs::read_to_string(self.root.join("absent").join(hash)).ok()?;
        (fingerprint::of_bytes(text.as_bytes()) == hash).then(|| text.lines().map(PathBuf::from).collect())
    }

    /// Stores a generated source; equal sources are one file.
    pub(super) fn store_shim(&self, text: &str, extension: &str) -> Result<PathBuf, CompileError> {
        let hash = fingerprint::of_bytes(text.as_bytes());
        let path = self.root.join("shims").join(format!("{}.{extension}", &hash[..16]));
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(path);
        }
        self.write(&path, text.as_bytes())?;
        Ok(path)
    }

    /// A folder with the headers of a table, named by a hash of their contents; `None` without headers.
    pub(super) fn store_headers(&self, headers: &[(String, String)]) -> Result<Option<PathBuf>, CompileError> {
        if headers.is_empty() {
            return Ok(None);
        }
        let folder = self.shims().join(&fingerprint::of("headers", &headers)[..16]);
        for (name, text) in headers {
            let path = folder.join(name);
            if !fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                self.write(&path, text.as_bytes())?;
            }
        }
        Ok(Some(folder))
    }

    /// The folder of [`Cache::store_shim`] and [`Cache::store_headers`]: its files are never dependencies, since their
    /// contents are in the key.
    pub(super) fn shims(&self) -> PathBuf {
        self.root.join("shims")
    }

    fn states(&self, key: &str) -> Vec<State> {
        let read = || {
            let text = fs::read_to_string(self.entry_path(key)).ok()?;
            let (hash, body) = text.split_once('\n')?;
            let intact = fingerprint::of_bytes(body.as_bytes()) == hash;
            let states: Vec<State> = intact.then(|| serde_json::from_str(body).ok())??;
            states.iter().all(|state| state.key == key).then_some(states)
        };
        read().unwrap_or_default()
    }

    fn entry_path(&self, key: &str) -> PathBuf {
        self.root.join("entries").join(&key[..2]).join(format!("{key}.json"))
    }

    fn code_path(&self, hash: &str, extension: &str) -> PathBuf {
        // A damaged record must not name a path outside of the folder.
        let start = hash.get(..2).unwrap_or("00");
        self.root.join("code").join(start).join(format!("{hash}.{extension}"))
    }

    fn folder(&self, name: &str) -> Result<PathBuf, CompileError> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).map_err(CompileError::io("create", &path))?;
        Ok(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CompileError> {
        let parent = path.parent().expect("inside the cache");
        fs::create_dir_all(parent).map_err(CompileError::io("create", parent))?;
        let temporary = self.temporary()?;
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&temporary)?;
            file.write_all(bytes)?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(CompileError::io("write", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Bounds, Function, Resources};

    fn record(code: &[u8]) -> Record {
        let resources = Resources { registers: Some(3), ..Resources::default() };
        Record {
            hash: fingerprint::of_bytes(code),
            identity: "i".into(),
            functions: vec![Function { entry: "k".into(), symbol: "k".into(), resources, bounds: Bounds::default() }],
            defined: vec!["k".into()],
            command: vec!["cc".into()],
            link: vec![],
            source_hash: "s".into(),
            messages: String::new(),
            took: Duration::from_nanos(1_234_567_891),
        }
    }

    struct Fixture {
        folder: tempfile::TempDir,
        cache: Cache,
        header: PathBuf,
        key: String,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let header = folder.path().join("a.h");
            fs::write(&header, "1").unwrap();
            let cache = Cache::new(folder.path().join("cache"));
            Self { cache, header, key: fingerprint::of("test", "k"), folder }
        }

        fn store(&self, code: &[u8]) {
            let record = record(code);
            self.cache.store_code(code, &record.hash, "so").unwrap();
            let hash = Files::default().hash(&self.header).unwrap();
            let absent = [self.folder.path().join("absent.h")].into();
            self.cache.store(&self.key, vec![(self.header.clone(), hash)], &absent, record).unwrap();
        }

        fn load(&self) -> Option<Vec<u8>> {
            let (record, path) = self.cache.load(&self.key, "so", &Files::default())?;
            assert_eq!(record.functions[0].resources.registers, Some(3));
            Some(fs::read(path).unwrap())
        }
    }

    #[test]
    fn each_state_of_the_headers_has_its_own_code() {
        let fixture = Fixture::new();
        assert_eq!(fixture.load(), None);
        fixture.store(b"one");
        assert_eq!(fixture.load().unwrap(), b"one");
        fs::write(&fixture.header, "2").unwrap();
        assert_eq!(fixture.load(), None);
        fixture.store(b"two");
        assert_eq!(fixture.load().unwrap(), b"two");
        fs::write(&fixture.header, "1").unwrap();
        assert_eq!(fixture.load().unwrap(), b"one", "back to the first state");
        let absent = fixture.folder.path().join("absent.h");
        fs::write(&absent, "").unwrap();
        assert_eq!(fixture.load(), None, "a file that was not there");
        fs::remove_file(&absent).unwrap();
        assert_eq!(fixture.load().unwrap(), b"one");
        fs::remove_file(&fixture.header).unwrap();
        assert_eq!(fixture.load(), None);
    }

    #[test]
    fn a_damaged_entry_is_a_miss() {
        for cut in [0, 1, 40, 70, 100] {
            let fixture = Fixture::new();
            fixture.store(b"code");
            let entry = fixture.cache.entry_path(&fixture.key);
            let mut bytes = fs::read(&entry).unwrap();
            bytes.truncate(cut);
            fs::write(&entry, &bytes).unwrap();
            assert_eq!(fixture.load(), None);
            fixture.store(b"code");
            assert_eq!(fixture.load().unwrap(), b"code");
        }
        let fixture = Fixture::new();
        fixture.store(b"code");
        let entry = fixture.cache.entry_path(&fixture.key);
        let text = fs::read_to_string(&entry).unwrap().replace("\"registers\":3", "\"registers\":4");
        fs::write(&entry, text).unwrap();
        assert_eq!(fixture.load(), None, "an altered figure");
        fixture.store(b"code");
        let code = fixture.cache.code_path(&record(b"code").hash, "so");
        fs::write(&code, b"cod").unwrap();
        assert_eq!(fixture.load(), None, "truncated code");
        fixture.store(b"code");
        fs::remove_file(&code).unwrap();
        assert_eq!(fixture.load(), None, "removed code");
    }

    #[test]
    fn an_entry_under_another_key_is_ignored() {
        let fixture = Fixture::new();
        fixture.store(b"code");
        let other = fingerprint::of("test", "other");
        let place = fixture.cache.entry_path(&other);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(fixture.cache.entry_path(&fixture.key), place).unwrap();
        assert!(fixture.cache.load(&other, "so", &Files::default()).is_none());
        assert_eq!(fixture.load().unwrap(), b"code");
    }

    #[test]
    fn abandoned_files_are_removed_once_no_process_is_at_work_or_after_a_day() {
        let fixture = Fixture::new();
        let root = fixture.folder.path().join("cache");
        let kept = fixture.cache.work_folder().unwrap();
        let path = fixture.cache.work_folder().unwrap().path().to_owned();
        assert!(!path.exists());
        let left = |name: &str, age| {
            let path = root.join("tmp").join(name);
            fs::create_dir(&path).unwrap();
            let modified = std::time::SystemTime::now() - age;
            fs::File::open(&path).unwrap().set_modified(modified).unwrap();
            path
        };
        let (old, young) = (left("old", 2 * ABANDONED), left("young", ABANDONED / 2));
        Cache::new(root.clone());
        assert!(!old.exists());
        assert!(young.exists() && kept.path().exists(), "they may be those of the process that has the lock");
        drop(fixture.cache);
        Cache::new(root.clone());
        assert!(!young.exists() && !kept.path().exists());
        // A cache that removed files has no lock any more.
        let next = left("next", Duration::ZERO);
        let first = Cache::new(root.clone());
        let second = Cache::new(root);
        assert!(!next.exists() && first.work_folder().is_ok() && second.work_folder().is_ok());
    }

    #[test]
    fn an_unwritable_cache_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache");
        fs::write(&file, "a file where the folder should be").unwrap();
        let error = Cache::new(file).work_folder().unwrap_err();
        assert!(matches!(&error, CompileError::Io { action, .. } if action == "create"), "{error:?}");
    }
}

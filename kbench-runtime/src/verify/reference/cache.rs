//! The cache of reference results: in memory and, if they take long enough to compute, in a folder. The driver puts the results of reference
//! programs into the folder.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::{Outputs, TRANSIENT};
use crate::data::dtype::DType;
use crate::data::lru::{LruCache, capacity};
use crate::process::threads;
use crate::protocol::Failure;

/// Size in bytes of the results that are kept in memory at least.
pub const KEPT_RESULTS: usize = 1 << 30;

/// Size in bytes of the results that are kept in the folder.
const FOLDER: u64 = 4 << 30;

/// Age from which on a temporary file was left by a worker that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Bytes a second at which a result is read and checked. Results that are computed faster are not written.
const READ_RATE: f64 = 500e6;

/// Size in bytes up to which results are written however fast they are computed.
const SMALL: usize = 1 << 20;

/// Size in bytes from which on results are not written.
const LARGEST_FILE: usize = 256 << 20;

/// Prefix of the names of files that are being written; the default of tempfile, which earlier versions used.
const TEMPORARY: &str = ".tmp";

const MAGIC: &[u8; 8] = b"kbref-2\n";

/// Reference results by key.
#[derive(Debug)]
pub struct ReferenceCache {
    memory: LruCache<Outputs>,
    /// Results that the driver sent, as long as the worker lives: it sends each once.
    given: HashMap<String, Arc<Outputs>>,
    folder: Option<PathBuf>,
    /// Threads that write results to the folder.
    writes: Vec<JoinHandle<()>>,
}

impl Drop for ReferenceCache {
    fn drop(&mut self) {
        self.finish_writes();
    }
}

impl ReferenceCache {
    /// A cache with a folder, which is created if possible. Deletes the least recently used results from the folder.
    pub fn new(folder: Option<PathBuf>) -> Self {
        if let Some(folder) = &folder {
            // A folder that cannot be pruned takes space, nothing else.
            let _ = prune(folder, FOLDER, ABANDONED);
        }
        Self { memory: LruCache::new(capacity(KEPT_RESULTS)), given: HashMap::new(), folder, writes: Vec::new() }
    }

    /// Waits until all results are written to the folder.
    pub fn finish_writes(&mut self) {
        for write in self.writes.drain(..) {
            let _ = write.join();
        }
    }

    /// The result under `key`, if it is in memory or in the folder.
    pub fn known(&mut self, key: &str) -> Option<Arc<Outputs>> {
        self.get(key, || Err(Failure::Reference { message: String::new() })).ok()
    }

    /// The result under `key`: from memory, from the folder, or computed by `run`.
    pub fn get(&mut self, key: &str, run: impl FnOnce() -> Result<Outputs, Failure>) -> Result<Arc<Outputs>, Failure> {
        if let Some(outputs) = self.given.get(key).cloned().or_else(|| self.memory.get(key)) {
            return Ok(outputs);
        }
        let path = self.folder.as_ref().map(|folder| file_of(folder, key));
        let stored = path.as_ref().and_then(|path| {
            let outputs = decode(std::fs::read(path).ok()?, key)?;
            // The modification time is the time of the last use, for `prune`.
            let _ =
                std::fs::File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
            Some(outputs)
        });
        let is_new = stored.is_none();
        let started = Instant::now();
        let outputs = Arc::new(stored.map_or_else(run, Ok)?);
        let size = size(&outputs);
        if is_new && is_worth_writing(size, started.elapsed()) {
            self.store(key, &outputs);
        }
        self.memory.insert(key.to_owned(), size, Arc::clone(&outputs));
        Ok(outputs)
    }

    /// Keeps and returns a result that was computed elsewhere. It is written to the folder however small it is.
    pub fn put(&mut self, key: &str, outputs: Outputs) -> Arc<Outputs> {
        let outputs = Arc::new(outputs);
        self.store(key, &outputs);
        self.memory.insert(key.to_owned(), size(&outputs), Arc::clone(&outputs));
        outputs
    }

    /// Keeps a result that another process encoded with [`encode`]. Returns false if `data` is not such an encoding.
    #[must_use]
    pub fn give(&mut self, key: &str, data: Vec<u8>) -> bool {
        let outputs = decode(data, key);
        let is_one = outputs.is_some();
        self.given.extend(outputs.map(|outputs| (key.to_owned(), Arc::new(outputs))));
        is_one
    }

    fn store(&mut self, key: &str, outputs: &Arc<Outputs>) {
        let Some(folder) = &self.folder else { return };
        let (path, key, outputs) = (file_of(folder, key), key.to_owned(), Arc::clone(outputs));
        self.writes.retain(|write| !write.is_finished());
        // A result that cannot be written is computed again, nothing else.
        let write = move || drop(write(&path, &key, &outputs));
        match threads::spawn(write.clone()) {
            Ok(writing) => self.writes.push(writing),
            Err(_) => write(),
        }
    }
}

/// Whether reading a result of that size is faster than computing it again.
fn is_worth_writing(bytes: usize, took: Duration) -> bool {
    bytes <= SMALL || took.as_secs_f64() >= bytes as f64 / READ_RATE
}

fn file_of(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.ref"))
}

/// Size in bytes of all outputs.
fn size(outputs: &Outputs) -> usize {
    outputs.values().map(|(_, data)| data.len()).sum()
}

/// A result as it is kept in files and sent to workers: magic, key, number of tensors, then index, type, length and data of each tensor, and
/// the hash of all that.
pub fn encode(key: &str, outputs: &Outputs, to: &mut impl Write) -> std::io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        to.write_all(bytes)
    };
    write(MAGIC)?;
    write(&(key.len() as u64).to_le_bytes())?;
    write(key.as_bytes())?;
    write(&(outputs.len() as u64).to_le_bytes())?;
    for (index, (dtype, data)) in outputs {
        write(&(*index as u64).to_le_bytes())?;
        write(&[DType::ALL.iter().position(|other| other == dtype).unwrap_or(0) as u8])?;
        write(&(data.len() as u64).to_le_bytes())?;
        write(data)?;
    }
    let hash = hasher.finalize();
    to.write_all(hash.as_bytes())
}

/// Writes a result to a file.
fn write(path: &Path, key: &str, outputs: &Outputs) -> std::io::Result<()> {
    if size(outputs) > LARGEST_FILE {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    encode(key, outputs, &mut file)?;
    file.persist(path)?;
    Ok(())
}

/// Deletes the least recently used results until the folder holds at most `most` bytes of them, and temporary files and transient results
/// that have not been used for `abandoned`. Deletes no file whose name is not of this module's making.
fn prune(folder: &Path, most: u64, abandoned: Duration) -> std::io::Result<()> {
    let mut results = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        let (true, Ok(used)) = (metadata.is_file(), metadata.modified()) else { continue };
        if [TEMPORARY, TRANSIENT].iter().any(|prefix| entry.file_name().to_string_lossy().starts_with(prefix)) {
            if used.elapsed().is_ok_and(|age| age > abandoned) {
                let _ = std::fs::remove_file(path);
            }
        } else if path.extension().is_some_and(|extension| extension == "ref") {
            results.push((used, metadata.len(), path));
        }
    }
    results.sort();
    let mut bytes: u64 = results.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, size, path) in results {
        if bytes <= most {
            break;
        }
        if std::fs::remove_file(path).is_ok() {
            bytes -= size;
        }
    }
    Ok(())
}

/// The result in a file under `key`. `None` if the file was changed, cut short, or written under another key.
fn decode(mut file: Vec<u8>, key: &str) -> Option<Outputs> {
    let (content, hash) = file.split_last_chunk::<32>()?;
    if blake3::Hasher::new().update_rayon(content).finalize() != blake3::Hash::from_bytes(*hash) {
        return None;
    }
    let mut at = MAGIC.len();
    content.strip_prefix(MAGIC)?;
    let mut take = |bytes: usize| {
        let taken = at..at.checked_add(bytes)?;
        at = taken.end;
        content.get(taken.clone()).map(|_| taken)
    };
    let number = |range: Range<usize>| usize::try_from(u64::from_le_bytes(content[range].try_into().ok()?)).ok();
    let length = number(take(8)?)?;
    if content[take(length)?] != *key.as_bytes() {
        return None;
    }
    let tensors = number(take(8)?)?;
    let mut places = Vec::new();
    for _ in 0..tensors {
        let index = number(take(8)?)?;
        let dtype = *DType::ALL.get(usize::from(content[take(1)?.start]))?;
        let bytes = number(take(8)?)?;
        places.push((index, dtype, take(bytes)?));
    }
    if let [(index, dtype, place)] = &places[..] {
        // Reuse the memory of the file: allocating takes longer than moving the data within it.
        file.truncate(place.end);
        file.drain(..place.start);
        return Some([(*index, (*dtype, file))].into());
    }
    Some(places.into_iter().map(|(index, dtype, place)| (index, (dtype, file[place].to_vec()))).collect())
}

#[cfg(test)]
mod tests;

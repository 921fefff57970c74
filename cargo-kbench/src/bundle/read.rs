//! Reads a bundle as an untrusted file: only files that the manifest lists are unpacked, to paths below one folder,
//! with the sizes and hashes of the manifest.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;
use kbench_runtime::fingerprint;

use super::{
    CODE, FORMAT, FileRecord, HostRecord, KernelRecord, MANIFEST, MOST_BYTES, MOST_FILES, MOST_MANIFEST, Manifest,
    PACKAGE, VERSION,
};
use crate::build::carried::{Carried, CarriedOutcome};

/// Largest number of bytes after the last entry.
const MOST_PADDING: u64 = 1 << 20;

/// Reason why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file is not a bundle, or is damaged.
    #[error("not a bundle, or damaged: {0}")]
    Damaged(String),
    /// Another version of cargo-kbench wrote the bundle.
    #[error("cargo-kbench {0} wrote it, and this is {this}; use one version for both", this = env!("CARGO_PKG_VERSION"))]
    Version(String),
    /// The machine code does not run on this host.
    #[error("{0}")]
    Host(String),
    /// The folder of an earlier unpacking does not have the contents of the bundle.
    #[error("`{}` differs from the bundle; remove it", .0.display())]
    Unpacked(PathBuf),
    /// An error of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An unpacked bundle.
#[derive(Debug)]
pub struct Bundle {
    /// The kernels that can be searched.
    pub kernels: Vec<KernelRecord>,
    /// Outcomes of the compilations.
    pub carried: Arc<Carried>,
    /// The folder in place of the workspace's root.
    pub root: PathBuf,
}

impl Bundle {
    /// Checks a bundle and unpacks it below `folder`, into a folder named by its contents. `work` is the folder for
    /// generated files.
    pub fn open(path: &Path, folder: &Path, work: &Path) -> Result<Self, BundleError> {
        let damaged = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull => {
                BundleError::Io(crate::file::in_context(path, &error))
            }
            _ => BundleError::Damaged(error.to_string()),
        };
        let file = File::open(path).map_err(damaged)?;
        if !file.metadata()?.is_file() {
            return Err(BundleError::Damaged("not an ordinary file".to_owned()));
        }
        fs::create_dir_all(folder)?;
        let scratch = tempfile::Builder::new().prefix("unpacking-").tempdir_in(folder)?;
        let (manifest, name) = unpack(file, scratch.path()).map_err(|error| match error {
            BundleError::Io(error) => damaged(error),
            other => other,
        })?;
        let unpacked = folder.join(&name[..32]);
        let scratch = scratch.keep();
        if fs::rename(&scratch, &unpacked).is_err() {
            // The bundle was unpacked before.
            fs::remove_dir_all(&scratch)?;
            let is_whole = |file: &FileRecord| {
                fs::read(unpacked.join(&file.path)).is_ok_and(|bytes| fingerprint::of_bytes(&bytes) == file.hash)
            };
            if !manifest.files.iter().all(is_whole) {
                return Err(BundleError::Unpacked(unpacked));
            }
        }
        let root = unpacked.join(PACKAGE);
        let folders = [root.clone(), work.to_owned()];
        let carried = Arc::new(Carried { code: unpacked.join(CODE), folders, units: manifest.units });
        Ok(Self { kernels: manifest.kernels, carried, root })
    }
}

/// Unpacks into an empty folder. Returns the manifest and its hash.
fn unpack(file: impl Read, folder: &Path) -> Result<(Manifest, String), BundleError> {
    let damaged = |message: String| BundleError::Damaged(message);
    // A tar archive has blocks of 512 bytes: a header for each file, and at most one partial block.
    let most = MOST_BYTES + MOST_MANIFEST + 1024 * (MOST_FILES as u64 + 2);
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)).take(most));
    let mut entries = archive.entries()?.raw(true);
    let mut next = |expected: &str| -> Result<_, BundleError> {
        let entry = entries.next().ok_or_else(|| damaged(format!("`{expected}` is missing")))??;
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        if !is_file || entry.path_bytes() != expected.as_bytes() {
            return Err(damaged(format!("`{expected}` is not where it is expected")));
        }
        Ok(entry)
    };
    let entry = next(MANIFEST)?;
    let text = read_exactly(entry, None, MOST_MANIFEST)?;
    let manifest = parse(&text)?;
    for record in &manifest.files {
        let bytes = read_exactly(next(&record.path)?, Some(record.bytes), MOST_BYTES)?;
        if fingerprint::of_bytes(&bytes) != record.hash {
            return Err(damaged(format!("`{}` has another hash than the manifest says", record.path)));
        }
        let path = folder.join(&record.path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        // `create_new`: no entry replaces another.
        File::options().write(true).create_new(true).open(&path)?.write_all(&bytes)?;
    }
    if entries.next().is_some() {
        return Err(damaged("it holds more than its manifest lists".to_owned()));
    }
    // The checksum of the compressed data follows the padding of the archive.
    let padding = io::copy(&mut archive.into_inner().take(MOST_PADDING + 1), &mut io::sink())?;
    if padding > MOST_PADDING {
        return Err(damaged("it goes on after its end".to_owned()));
    }
    Ok((manifest, fingerprint::of_bytes(&text)))
}

fn read_exactly(mut entry: tar::Entry<'_, impl Read>, bytes: Option<u64>, most: u64) -> Result<Vec<u8>, BundleError> {
    let size = entry.header().entry_size()?;
    if size > most || bytes.is_some_and(|bytes| bytes != size) {
        return Err(BundleError::Damaged(format!("an entry of {size} bytes")));
    }
    // Memory is not allocated by the size in a header.
    let mut read = Vec::new();
    entry.read_to_end(&mut read)?;
    if read.len() as u64 != size {
        return Err(BundleError::Damaged("it is cut off".to_owned()));
    }
    Ok(read)
}

/// The manifest, if all its values are allowed.
fn parse(text: &[u8]) -> Result<Manifest, BundleError> {
    let damaged = |message: String| BundleError::Damaged(message);
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
    let text_of = |key: &str| value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    if text_of("format") != FORMAT {
        return Err(damaged("it says of itself that it is something else".to_owned()));
    }
    if value.get("version") != Some(&VERSION.into()) || text_of("kbench") != env!("CARGO_PKG_VERSION") {
        return Err(BundleError::Version(text_of("kbench").to_owned()));
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    if let Some(why) = manifest.host.as_ref().and_then(|host| host.refused_on(&HostRecord::here())) {
        return Err(BundleError::Host(why));
    }
    if manifest.files.len() > MOST_FILES {
        return Err(damaged(format!("{} files", manifest.files.len())));
    }
    let mut total = 0u64;
    let mut code = BTreeSet::new();
    for FileRecord { path, bytes, hash } in &manifest.files {
        total = total.saturating_add(*bytes);
        if !is_below(path, PACKAGE) && !is_below(path, CODE) {
            return Err(damaged(format!("the path `{}`", path.escape_debug())));
        }
        if let Some((name, _)) = path.strip_prefix(CODE).and_then(|rest| rest.strip_prefix('/')?.split_once('.')) {
            if name != hash {
                return Err(damaged(format!("`{path}` is not named by its hash")));
            }
            code.insert(hash.as_str());
        }
    }
    if total > MOST_BYTES {
        return Err(damaged(format!("{total} bytes")));
    }
    match manifest.units.values().filter_map(CarriedOutcome::code).find(|hash| !code.contains(hash)) {
        Some(hash) => Err(damaged(format!("the machine code {} is missing", hash.escape_debug()))),
        None => Ok(manifest),
    }
}

/// Whether a path leads to a file below a folder and is in normal form.
fn is_below(path: &str, folder: &str) -> bool {
    let mut components = Path::new(path).components();
    let is_normal = |component: &Component<'_>| matches!(component, Component::Normal(_));
    components.clone().all(|component| is_normal(&component))
        && components.next() == Some(Component::Normal(folder.as_ref()))
        && components.next().is_some()
        && components.as_path().components().all(|component| is_normal(&component))
        && Path::new(path).components().collect::<PathBuf>().to_str() == Some(path)
        && !path.contains(['\0', '\\'])
}

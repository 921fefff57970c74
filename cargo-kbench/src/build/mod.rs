//! Compiles a source with toggles and flags to machine code in the cache, with the compiler's report on resources.
//!
//! [`Compiler::compile`] takes a [`Unit`] and returns an [`Artifact`] or a typed [`CompileError`]. It may be called
//! from many threads. Outcomes are kept; `cache.rs` has the conditions of their reuse.

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use kbench_runtime::fingerprint;

use crate::config::Backend;
use cache::Cache;
use carried::Carried;
use files::{Files, Since};
use generated::Language;
use headers::Headers;
use inputs::Inputs;
use locks::Locks;
use record::Record;

pub use artifact::{Artifact, Bounds, Constant, Entry, Function, Param, Resources, Unit};
pub use error::CompileError;

mod artifact;
mod binary;
mod c;
mod cache;
pub mod carried;
mod cubin;
mod cuda;
mod entry;
mod error;
mod fake;
mod files;
pub mod generated;
mod headers;
mod inputs;
mod invocation;
mod loaded;
mod locks;
mod nvcc;
pub mod occupancy;
pub mod profiler;
mod program;
mod ptxas;
mod record;
pub mod resolve;
pub mod sanitizer;
mod search;
mod signature;
#[cfg(test)]
mod tests_c;
#[cfg(test)]
mod tests_cuda;

/// Variables that change compilers without a change of their command line.
const ENVIRONMENT: [&str; 13] = [
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "LIBRARY_PATH",
    "LD_RUN_PATH",
    "CCC_OVERRIDE_OPTIONS",
    "SDKROOT",
    "CICC_PATH",
    "NVVMIR_LIBRARY_DIR",
    "NVCC_PREPEND_FLAGS",
    "NVCC_APPEND_FLAGS",
];

/// Variables with folders of programs, which are not examined: an outcome is not kept if one is set.
const PROGRAM_FOLDERS: [&str; 2] = ["GCC_EXEC_PREFIX", "COMPILER_PATH"];

/// For compilations that nothing ends.
static NEVER: AtomicBool = AtomicBool::new(false);

/// Result of compiling a unit.
struct Built {
    code: Vec<u8>,
    identity: String,
    functions: Vec<Function>,
    defined: Vec<String>,
    command: Vec<String>,
    link: Vec<String>,
    messages: String,
    /// Every file that was read, the source included.
    dependencies: Vec<PathBuf>,
    /// Absent files that would have been read; `None` if they are unknown, and then the outcome is not kept.
    absent: Option<BTreeSet<PathBuf>>,
}

/// Part of a key for a toolchain and the flags of a unit.
struct Toolchain {
    /// Fingerprint of the toolchain.
    key: String,
    /// Inputs that the flags name.
    inputs: Inputs,
    /// Whether all inputs are known.
    is_tracked: bool,
}

const NO_PANIC: &str = "nothing panics while it is held";

/// Choices of the user.
#[derive(Debug, Clone, Default)]
pub struct CompilerOptions {
    /// `--nvcc`.
    pub nvcc: Option<PathBuf>,
    /// Outcomes of a bundle: no compiler is searched.
    pub carried: Option<Arc<Carried>>,
}

/// The compilers of this machine, and the cache. One value serves a run: it reads each source and header once, and so
/// sees one state of them; a new value sees edits.
#[derive(Debug)]
pub struct Compiler {
    work_directory: PathBuf,
    options: CompilerOptions,
    cache: Cache,
    files: Files,
    headers: Headers,
    /// Outcomes of this run that are not kept, by key.
    unkept: Mutex<HashMap<String, (Record, PathBuf)>>,
    environment: Vec<(&'static str, Option<Vec<u8>>)>,
    cc: OnceLock<Result<c::Cc, Missing>>,
    cxx: OnceLock<Result<c::Cc, Missing>>,
    nvcc: OnceLock<Result<cuda::Nvcc, Missing>>,
    locks: Locks,
    busy: Mutex<Duration>,
}

/// A failed search for a compiler, which is reported for each unit.
#[derive(Debug, Clone)]
struct Missing {
    what: String,
    help: String,
}

impl Compiler {
    /// A compiler with its files in `work_directory`, `<target>/kbench`. Nothing is searched or written yet.
    pub fn new(work_directory: &Path, options: CompilerOptions) -> Self {
        let work_directory = std::path::absolute(work_directory).unwrap_or_else(|_| work_directory.to_owned());
        let environment = ENVIRONMENT.map(|name| (name, env::var_os(name).map(text)));
        Self {
            cache: Cache::new(work_directory.join("cache")),
            work_directory,
            options,
            files: Files::default(),
            headers: Headers::default(),
            unkept: Mutex::default(),
            environment: environment.into(),
            cc: OnceLock::new(),
            cxx: OnceLock::new(),
            nvcc: OnceLock::new(),
            locks: Locks::default(),
            busy: Mutex::default(),
        }
    }

    /// Compiles a unit, or finds it in the cache.
    pub fn compile(&self, unit: &Unit) -> Result<Artifact, CompileError> {
        self.compile_until(unit, &NEVER)
    }

    /// Compiles a unit, and ends the compiler once `ended` is true.
    pub fn compile_until(&self, unit: &Unit, ended: &AtomicBool) -> Result<Artifact, CompileError> {
        if let Some(carried) = &self.options.carried {
            return carried.find(unit);
        }
        let (toolchain, compiler) = match unit.backend {
            Backend::C => {
                let cc = self.cc(Language::of(&unit.source))?;
                (cc.toolchain(unit, &self.files)?, cc.version.clone())
            }
            Backend::Cuda => {
                let nvcc = self.nvcc()?;
                (nvcc.toolchain(unit, &self.files)?, nvcc.version.clone())
            }
            Backend::Fake => {
                let (key, inputs) = (String::new(), Inputs::default());
                (Toolchain { key, inputs, is_tracked: true }, "fake".to_owned())
            }
        };
        let extension = carried::extension(unit.backend);
        let source = self.files.hash(&unit.source).map_err(CompileError::io("read", &unit.source))?;
        let named = &toolchain.inputs.files;
        let named: Vec<_> = named.iter().map(|(path, hash)| (text(path), hash)).collect();
        let key = fingerprint::of(cache::KIND, &(unit, source, &self.environment, &toolchain.key, named));
        let _turn = self.locks.take(&key);
        let mut folders = self.environment.iter().filter(|(name, _)| PROGRAM_FOLDERS.contains(name));
        let is_tracked =
            toolchain.is_tracked && !toolchain.inputs.untracked && folders.all(|(_, value)| value.is_none());
        let kept = if is_tracked { self.cache.load(&key, extension, &self.files) } else { None };
        let cached = kept.or_else(|| self.unkept.lock().expect(NO_PANIC).get(&key).cloned());
        let is_cached = cached.is_some();
        let (record, code) = if let Some(found) = cached {
            found
        } else {
            self.headers.check(unit, &toolchain.inputs)?;
            let began = Instant::now();
            let tracked = is_tracked.then_some(&toolchain.inputs);
            let built = self.build(unit, &key, extension, ended, tracked);
            *self.busy.lock().expect(NO_PANIC) += began.elapsed();
            built?
        };
        Ok(record.artifact(code, compiler, is_cached))
    }

    /// The PTX of a CUDA unit, for the virtual architecture of its own; not kept in the cache.
    pub fn ptx(&self, unit: &Unit) -> Result<Vec<u8>, CompileError> {
        let work = self.cache.work_folder()?;
        self.nvcc()?.ptx(unit, &self.cache, work.path())
    }

    /// Time of compilations so far, summed over all threads; without cached ones.
    pub fn busy(&self) -> Duration {
        *self.busy.lock().expect(NO_PANIC)
    }

    /// Version line of the C compiler.
    pub fn c_compiler(&self) -> Result<&str, CompileError> {
        Ok(&self.cc(Language::C)?.version)
    }

    /// Path and version line of nvcc.
    pub fn cuda_compiler(&self) -> Result<(&Path, &str), CompileError> {
        let nvcc = self.nvcc()?;
        Ok((&nvcc.path, &nvcc.version))
    }

    /// Compiles, and keeps the outcome if `tracked` has the inputs of the flags.
    fn build(
        &self,
        unit: &Unit,
        key: &str,
        extension: &str,
        ended: &AtomicBool,
        tracked: Option<&Inputs>,
    ) -> Result<(Record, PathBuf), CompileError> {
        let (began, started) = (Instant::now(), SystemTime::now());
        let work = || self.cache.work_folder();
        let built = match unit.backend {
            Backend::C => {
                let cc = self.cc(Language::of(&unit.source))?;
                cc.build(unit, &self.cache, work()?.path(), ended, tracked)?
            }
            Backend::Cuda => self.nvcc()?.build(unit, &self.cache, work()?.path(), ended, tracked)?,
            Backend::Fake => fake::build(unit)?,
        };
        // The compiled contents must be the hashed ones, or the cache would hold wrong code for the source.
        let mut sure = true;
        let mut files = Vec::with_capacity(built.dependencies.len());
        for path in built.dependencies {
            match self.files.since(&path, started).map_err(CompileError::io("read", &path))? {
                Since::Same => {}
                Since::Unsure => sure = false,
                Since::Changed => return Err(CompileError::Changed { path }),
            }
            let hash = self.files.hash(&path).map_err(CompileError::io("read", &path))?;
            files.push((path, hash));
        }
        let record = Record {
            hash: fingerprint::of_bytes(&built.code),
            identity: built.identity,
            functions: built.functions,
            defined: built.defined,
            command: built.command,
            link: built.link,
            source_hash: source_hash(&unit.directory, &unit.source, &files),
            messages: built.messages,
            took: began.elapsed(),
        };
        let code = self.cache.store_code(&built.code, &record.hash, extension)?;
        match built.absent.filter(|_| sure && tracked.is_some()) {
            Some(absent) => self.cache.store(key, files, &absent, record.clone())?,
            None => drop(self.unkept.lock().expect(NO_PANIC).insert(key.to_owned(), (record.clone(), code.clone()))),
        }
        Ok((record, code))
    }

    fn cc(&self, language: Language) -> Result<&c::Cc, CompileError> {
        // Test files of the crate are removed together with those of interrupted compilers.
        let find = || c::Cc::find(&self.work_directory.join("cache/tmp"), language);
        once(if language == Language::C { &self.cc } else { &self.cxx }, find)
    }

    fn nvcc(&self) -> Result<&cuda::Nvcc, CompileError> {
        once(&self.nvcc, || cuda::Nvcc::find(self.options.nvcc.as_deref(), &self.work_directory))
    }
}

/// A hash of the code of a cubin, without paths and notes of its compiler; none if the file is not a cubin.
pub fn cubin_identity(bytes: &[u8]) -> Option<String> {
    binary::cubin_identity(bytes, &[]).ok()
}

/// A path or the value of a variable, in UTF-8 or not, for fingerprints.
fn text(text: impl AsRef<OsStr>) -> Vec<u8> {
    text.as_ref().as_encoded_bytes().to_vec()
}

/// Searches once; every later call returns the same result.
fn once<T>(
    cell: &OnceLock<Result<T, Missing>>,
    find: impl FnOnce() -> Result<T, CompileError>,
) -> Result<&T, CompileError> {
    let found = cell.get_or_init(|| {
        find().map_err(|error| match error {
            CompileError::NoCompiler { what, help } => Missing { what, help },
            other => Missing { what: other.to_string(), help: "see above".to_owned() },
        })
    });
    found.as_ref().map_err(|Missing { what, help }| CompileError::NoCompiler { what: what.clone(), help: help.clone() })
}

/// Hash of the source, as in [`Artifact::source_hash`].
fn source_hash(directory: &Path, source: &Path, files: &[(PathBuf, String)]) -> String {
    let mut own: Vec<_> = files
        .iter()
        .filter_map(|(path, hash)| {
            let path = fs::canonicalize(path).ok()?;
            let root = fs::canonicalize(directory).ok()?;
            let name = match path.strip_prefix(root) {
                Ok(name) => name.to_owned(),
                // A source outside its package counts by its name alone.
                Err(_) if path == fs::canonicalize(source).ok()? => PathBuf::from(source.file_name()?),
                Err(_) => return None,
            };
            Some((name, hash))
        })
        .collect();
    own.sort();
    own.dedup();
    let own: Vec<_> = own.iter().map(|(name, hash)| (text(name), hash)).collect();
    fingerprint::of("sources", &own)
}

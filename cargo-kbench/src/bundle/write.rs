//! Writing a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flate2::{Compression, GzBuilder};
use kbench_runtime::fingerprint;
use rayon::prelude::*;

use super::units::{Unsuitable, ceilings, files, units};
use super::{CODE, FORMAT, FileRecord, HostRecord, KernelRecord, MANIFEST, MOST_BYTES, Manifest, PACKAGE, VERSION};
use crate::build::carried::{self, CarriedOutcome};
use crate::build::{Artifact, CompileError, Compiler, Unit};
use crate::config::{Backend, Kernel, Package, Project};
use crate::file;
use crate::harness::Builder;
use crate::interrupt::is_interrupted;
use crate::profile::ceilings::micro;
use crate::space::Variant;

/// Largest number of variants of a kernel.
const MOST_VARIANTS: usize = 20_000;

/// Contents of a bundle to write.
pub struct Contents<'a> {
    project: &'a Project,
    compiler: &'a Compiler,
    kernels: Vec<KernelRecord>,
    units: BTreeMap<String, CarriedOutcome>,
    /// Machine code, by name in the archive.
    code: BTreeMap<String, PathBuf>,
    /// Packages, by their folders.
    packages: BTreeMap<PathBuf, &'a Package>,
    has_c: bool,
    is_native: bool,
}

impl<'a> Contents<'a> {
    /// Empty contents.
    pub fn new(project: &'a Project, compiler: &'a Compiler) -> Self {
        Self {
            project,
            compiler,
            kernels: Vec::new(),
            units: BTreeMap::new(),
            code: BTreeMap::new(),
            packages: BTreeMap::new(),
            has_c: false,
            is_native: false,
        }
    }

    /// The kernels that the bundle can search.
    pub fn kernels(&self) -> &[KernelRecord] {
        &self.kernels
    }

    /// Compiles everything that a search of a kernel needs, for each architecture.
    pub fn add(&mut self, package: &'a Package, kernel: &Kernel, archs: &[String]) -> anyhow::Result<()> {
        let variants: Vec<Variant> = kernel.space.variants().take(MOST_VARIANTS + 1).collect();
        if variants.len() > MOST_VARIANTS {
            bail!(Unsuitable::Variants(MOST_VARIANTS));
        }
        let backend = kernel.implementation.backend;
        let mut all = Vec::new();
        let targets: Vec<Option<String>> = match backend {
            Backend::Cuda => archs.iter().cloned().map(Some).collect(),
            Backend::C | Backend::Fake => vec![None],
        };
        let folder = self.project.work_directory().join("ceilings");
        for arch in targets {
            let mut builder = Builder::new(package, kernel, self.compiler);
            builder.arch.clone_from(&arch);
            let of_arch = units(&builder, &variants);
            if of_arch != units(&builder.on_multiprocessors(2), &variants) {
                bail!(Unsuitable::Multiprocessors);
            }
            all.extend(of_arch);
            let ceilings = ceilings(backend, arch.as_deref(), &folder);
            if !ceilings.is_empty() {
                let (name, text) = micro::source(backend);
                fs::create_dir_all(&folder)?;
                file::write(&folder.join(name), text.as_bytes())?;
            }
            all.extend(ceilings);
        }
        self.compile(&all)?;
        self.packages.insert(package.directory.clone(), package);
        self.kernels.push(KernelRecord {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            archs: if backend == Backend::Cuda { archs.to_vec() } else { Vec::new() },
            variants: variants.len() as u64,
        });
        Ok(())
    }

    fn compile(&mut self, units: &[Unit]) -> anyhow::Result<()> {
        let work = self.project.work_directory();
        let folders: [&Path; 2] = [&self.project.root, &work];
        let compiled: Vec<(String, Backend, Result<Artifact, CompileError>)> = units
            .par_iter()
            .map(|unit| {
                if is_interrupted() {
                    return (String::new(), unit.backend, Err(CompileError::Unwanted));
                }
                (carried::key(unit, &folders), unit.backend, self.compiler.compile(unit))
            })
            .collect();
        for (key, backend, compiled) in compiled {
            if let Ok(artifact) = &compiled {
                let name = format!("{CODE}/{}.{}", artifact.hash, carried::extension(backend));
                self.code.insert(name, artifact.code.clone());
                self.has_c |= backend == Backend::C;
                self.is_native |= artifact.command.iter().any(|word| word.ends_with("=native"));
            }
            let outcome = match compiled {
                Ok(artifact) => CarriedOutcome::of(Ok(&artifact))?,
                Err(error) => CarriedOutcome::of(Err(error))?,
            };
            self.units.insert(key, outcome);
        }
        Ok(())
    }

    /// The other entries of the archive, by their names: files of this machine, or contents.
    fn entries(&self) -> anyhow::Result<BTreeMap<String, Entry>> {
        let root = &self.project.root;
        let name = |path: &Path| -> anyhow::Result<String> {
            let path = file::normalized(path);
            let root = file::normalized(root);
            let path = path.strip_prefix(root).map_err(|_| Unsuitable::Outside(path.display().to_string()))?;
            let path = path.to_str().with_context(|| format!("`{}` is no UTF-8", path.display()))?;
            Ok(format!("{PACKAGE}/{path}"))
        };
        let mut entries: BTreeMap<String, Entry> =
            self.code.iter().map(|(name, path)| (name.clone(), Entry::File(path.clone()))).collect();
        entries.insert(name(&root.join("Cargo.toml"))?, Entry::File(root.join("Cargo.toml")));
        for (folder, package) in &self.packages {
            let manifest = folder.join("Cargo.toml");
            entries.insert(name(&manifest)?, Entry::File(manifest));
            for (path, is_input) in files(package) {
                // An empty file takes the place of a source: the table names it and nothing reads it.
                let entry = if is_input { Entry::File(path.clone()) } else { Entry::Empty };
                entries.insert(name(&path)?, entry);
            }
        }
        Ok(entries)
    }
}

/// Contents of an archive entry.
enum Entry {
    File(PathBuf),
    Empty,
}

impl Entry {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::File(path) => fs::read(path).with_context(|| path.display().to_string()),
            Self::Empty => Ok(Vec::new()),
        }
    }
}

/// Writes a bundle and returns its size in bytes. Equal contents give equal bytes.
pub fn write(contents: &Contents<'_>, path: &Path) -> anyhow::Result<u64> {
    let entries = contents.entries()?;
    let mut records = Vec::new();
    for (name, entry) in &entries {
        let bytes = entry.read()?;
        records.push(FileRecord { path: name.clone(), bytes: bytes.len() as u64, hash: fingerprint::of_bytes(&bytes) });
    }
    let total: u64 = records.iter().map(|record| record.bytes).sum();
    if total > MOST_BYTES {
        bail!("its files have {total} bytes, more than the {MOST_BYTES} of a bundle");
    }
    let mut host = contents.has_c.then(HostRecord::here);
    if let Some(host) = host.as_mut().filter(|_| !contents.is_native) {
        host.features = BTreeSet::new();
    }
    let manifest = serde_json::to_vec(&serde_json::json!({
        "format": FORMAT,
        "version": VERSION,
        "kbench": env!("CARGO_PKG_VERSION"),
        "kernels": contents.kernels,
        "host": host,
        "files": records,
        "units": contents.units,
    }))?;
    debug_assert!(serde_json::from_slice::<Manifest>(&manifest).is_ok());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    // The header contains no time and no user name.
    let compressed = GzBuilder::new().mtime(0).write(std::io::BufWriter::new(&temporary), Compression::default());
    let mut archive = tar::Builder::new(compressed);
    append(&mut archive, MANIFEST, &manifest)?;
    for ((name, entry), record) in entries.iter().zip(&records) {
        let bytes = entry.read()?;
        if fingerprint::of_bytes(&bytes) != record.hash {
            bail!("{name} changed while the bundle was written; write it again");
        }
        append(&mut archive, name, &bytes)?;
    }
    archive.into_inner()?.finish()?.flush()?;
    let bytes = temporary.as_file().metadata()?.len();
    {
        use std::os::unix::fs::PermissionsExt as _;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    temporary.persist(path).with_context(|| path.display().to_string())?;
    Ok(bytes)
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).with_context(|| format!("the path `{name}` is too long for a bundle"))?;
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    archive.append(&header, bytes)?;
    Ok(())
}

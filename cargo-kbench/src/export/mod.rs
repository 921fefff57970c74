//! What a program needs to launch the winners: generated code that is committed with it.
//!
//! A [`plan`] compiles the variants of a kernel and says which won where; `rust` writes the module that chooses and launches,
//! `c_source` and `build_script` what is compiled with it. The bytes depend on the table, the sources, the compilers and elite.json
//! alone, so that [`Export::stale`] can tell whether any of them has changed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::build::Compiler;
use crate::config::{Backend, Kernel, Package, Project};
use crate::harness::RunError;
use crate::record::elite::EliteFile;
use plan::Plan;

pub mod apply;
mod arithmetic;
mod build_script;
mod c_source;
mod folder;
mod names;
mod plan;
mod rust;

/// Where a package's kernels are exported to, in the package.
pub const FOLDER: &str = "src/kbench";

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What would end any run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// elite.json and the table do not agree.
    #[error("elite.json, kernel `{kernel}`: {why}; tune it again")]
    Elite {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        why: String,
    },
    /// A kernel that cannot be exported.
    #[error("kernel `{kernel}`: {why}")]
    Unsupported {
        /// The kernel.
        kernel: String,
        /// What is in the way.
        why: String,
    },
    /// The folder is not ours.
    #[error("`{}` holds `{name}`, which `cargo kbench export` has not written; name another folder with --out", .folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// A file in it.
        name: String,
    },
}

impl ExportError {
    fn unsupported(kernel: &Kernel, why: &dyn std::fmt::Display) -> Self {
        Self::Unsupported { kernel: kernel.name.clone(), why: why.to_string() }
    }
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::Run(error.into())
    }
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name there.
    pub name: PathBuf,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// What is written for one package.
#[derive(Debug)]
pub struct Export {
    /// The folder.
    pub folder: PathBuf,
    /// Its files, in the order of their names.
    pub files: Vec<File>,
    /// How many variants they hold.
    pub variants: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What to export.
pub struct Request<'a> {
    /// The project.
    pub project: &'a Project,
    /// The package.
    pub package: &'a Package,
    /// Its kernels that were asked for.
    pub kernels: &'a [&'a Kernel],
    /// The compilers.
    pub compiler: &'a Compiler,
    /// The folder to write to.
    pub folder: PathBuf,
    /// Architectures for all kernels in CUDA; none: those of the table, else those that elite.json has winners for.
    pub archs: &'a [String],
}

/// Makes an export; nothing is written to its folder yet.
pub fn export(request: &Request<'_>) -> Result<Export, ExportError> {
    let Request { project, package, kernels, compiler, folder, archs } = request;
    let elite_path = project.elite_path();
    let elite = EliteFile::read(&elite_path)?;
    let root = elite_path.parent().unwrap_or(&elite_path);
    let scratch = project.own_directory().join("export").join(&package.name);
    let mut plans = Vec::new();
    for kernel in *kernels {
        let archs = if archs.is_empty() { archs_of(kernel, &elite)? } else { archs.to_vec() };
        plans.push(plan::plan(package, kernel, compiler, &elite, root, &archs)?);
    }
    let mut files = Vec::new();
    for plan in &plans {
        files.extend(plan.code_files()?);
    }
    let in_c: Vec<&Plan> = plans.iter().filter(|plan| plan.kernel.implementation.backend == Backend::C).collect();
    for plan in &in_c {
        files.extend(c_source::files(package, plan, compiler, folder, &scratch)?);
    }
    if !in_c.is_empty() {
        files.push(build_script::file(package, &in_c, folder));
    }
    files.push(rust::module(&package.name, &plans)?);
    for file in files.iter_mut().filter(|file| file.name.extension().is_some_and(|extension| extension == "rs")) {
        file.bytes = formatted(&file.bytes, &package.directory);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Export {
        folder: folder.clone(),
        files,
        variants: plans.iter().map(|plan| plan.variants.len()).sum(),
        warnings: plans.into_iter().flat_map(|plan| plan.warnings).collect(),
    })
}

/// The architectures to compile a kernel for. Which device is there does not count: an export is the same everywhere.
fn archs_of(kernel: &Kernel, elite: &EliteFile) -> Result<Vec<String>, ExportError> {
    if kernel.implementation.backend != Backend::Cuda || !kernel.arch.is_empty() {
        return Ok(kernel.arch.clone());
    }
    let entries = elite.kernels.iter().filter(|entry| entry.package == kernel.package && entry.kernel == kernel.name);
    let of = |capability: &String| {
        let (major, minor) = capability.split_once('.')?;
        // As `autotune` compiles where the table names none.
        let suffix = if major.parse::<u32>().ok()? >= 9 { "a" } else { "" };
        Some(format!("sm_{major}{minor}{suffix}"))
    };
    let mut archs: Vec<String> = entries.filter_map(|entry| of(entry.device.compute_capability.as_ref()?)).collect();
    archs.sort();
    archs.dedup();
    if archs.is_empty() {
        let why = "no architecture to compile for; name some in `arch`, or with --arch sm_80,sm_90a";
        return Err(ExportError::unsupported(kernel, &why));
    }
    Ok(archs)
}

/// The text as rustfmt has it under the package's own settings, so that `cargo fmt` changes nothing; as it is where there is no rustfmt.
fn formatted(text: &[u8], directory: &Path) -> Vec<u8> {
    let run = || -> io::Result<Option<Vec<u8>>> {
        let mut child = Command::new("rustfmt")
            .args(["--edition", "2024", "--emit", "stdout", "--quiet"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdin = child.stdin.take().expect("it is piped");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || io::Write::write_all(&mut stdin, text));
            child.wait_with_output()
        })?;
        Ok((output.status.success() && !output.stdout.is_empty()).then_some(output.stdout))
    };
    run().ok().flatten().unwrap_or_else(|| text.to_owned())
}

//! Generated code that launches the winners, to be committed with a program.
//!
//! A [`plan`] compiles the variants of a kernel and has the winners; `rust`, `c` and `python` write the module that
//! chooses and launches, `c_source` and `build_script` the files for its compilation. The bytes depend only on the
//! table, the sources, the compilers and elite.json, so that [`Export::stale`] finds a change of any of them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::DeviceInfo;

use crate::build::Compiler;
use crate::config::{Backend, Kernel, Package};
use crate::harness::{Candidate, RunError};
use crate::record::elite::EliteFile;
use plan::Plan;
pub use replaced::Replaced;

pub use crate::config::Language;

pub mod apply;
mod arithmetic;
mod build_script;
mod c;
mod c_source;
mod folder;
mod names;
mod parts;
mod plan;
mod python;
mod replaced;
mod rust;

/// Reason why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An error that ends any run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// elite.json and the table differ.
    #[error("elite.json, kernel `{kernel}`: {why}; tune it again")]
    Elite {
        /// The kernel.
        kernel: String,
        /// The difference.
        why: String,
    },
    /// A kernel that cannot be exported.
    #[error("kernel `{kernel}`: {why}")]
    Unsupported {
        /// The kernel.
        kernel: String,
        /// Reason.
        why: String,
    },
    /// The folder holds files that are not of an export.
    #[error("`{}` holds `{name}`, which `cargo kbench export` has not written; name another folder with --out", .folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Name of the file.
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

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Name in the folder.
    pub name: PathBuf,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// The export of a package.
#[derive(Debug)]
pub struct Export {
    /// The folder.
    pub folder: PathBuf,
    /// The language.
    pub language: Language,
    /// The files, in the order of their names.
    pub files: Vec<File>,
    /// Number of variants.
    pub variants: usize,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// Settings of an export.
pub struct Request<'a> {
    /// elite.json.
    pub elite_path: &'a Path,
    /// A folder for the files that are compiled on the way.
    pub scratch: PathBuf,
    /// The package.
    pub package: &'a Package,
    /// The selected kernels of the package.
    pub kernels: &'a [&'a Kernel],
    /// The compilers.
    pub compiler: &'a Compiler,
    /// Language of the export.
    pub language: Language,
    /// Folder of the export.
    pub folder: PathBuf,
    /// Architectures for all kernels in CUDA; none for those of the table, or else those of elite.json's winners.
    pub archs: &'a [String],
    /// The variant of one kernel that takes the place of its winners.
    pub only: Option<Only<'a>>,
}

/// A variant that is exported as the winner at every shape.
#[derive(Clone, Copy)]
pub struct Only<'a> {
    /// The kernel's name.
    pub kernel: &'a str,
    /// The variant.
    pub candidate: &'a Candidate,
    /// The device that it runs on.
    pub device: &'a DeviceInfo,
}

/// Makes an export without writing it.
pub fn export(request: &Request<'_>) -> Result<Export, ExportError> {
    let Request { elite_path, scratch, package, kernels, compiler, language, folder, archs, only } = request;
    let elite = EliteFile::read(elite_path)?;
    let root = elite_path.parent().unwrap_or(elite_path);
    let mut plans = Vec::new();
    for (at, kernel) in kernels.iter().enumerate() {
        if let Some(other) = kernels[..at].iter().find(|other| variable(other) == variable(kernel)) {
            let why = format!("its files and variables would have the names of those of `{}`; rename one", other.name);
            return Err(ExportError::unsupported(kernel, &why));
        }
        if kernel.device.is_some() {
            let why = "its table names SM_COUNT outside of `grid`, or MAX_SHARED, and a program may meet any device; write numbers";
            return Err(ExportError::unsupported(kernel, &why));
        }
        let archs = if archs.is_empty() { archs_of(kernel, &elite)? } else { archs.to_vec() };
        plans.push(match only {
            Some(only) if only.kernel == kernel.name => plan::plan_only(package, kernel, compiler, *only, &archs)?,
            _ => plan::plan(package, kernel, compiler, &elite, root, &archs)?,
        });
    }
    let in_c: Vec<&Plan> = plans.iter().filter(|plan| plan.kernel.implementation.backend == Backend::C).collect();
    let mut files = match language {
        Language::Rust => rust::files(&package.name, &plans, folder)?,
        Language::C => c::files(package, &plans)?,
        Language::Python => python::files(package, &plans)?,
    };
    for plan in &in_c {
        files.extend(c_source::files(package, plan, compiler, folder, scratch)?);
    }
    if !in_c.is_empty() {
        files.push(match language {
            Language::C => c::build::file(package, &in_c, folder)?,
            _ => build_script::file(package, &in_c, folder),
        });
    }
    for file in files.iter_mut().filter(|file| file.name.extension().is_some_and(|extension| extension == "rs")) {
        file.bytes = formatted(&file.bytes, package);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Export {
        folder: folder.clone(),
        language: *language,
        files,
        variants: plans.iter().map(|plan| plan.variants.len()).sum(),
        warnings: plans.into_iter().flat_map(|plan| plan.warnings).collect(),
    })
}

/// The environment variable that names a variant of a kernel in a program that launches an export.
pub fn variable(kernel: &Kernel) -> String {
    format!("KBENCH_VARIANT_{}", names::word(&kernel.name).to_uppercase())
}

/// The first line of a file, as a comment with the prefix `comment`. It identifies the folder of an export.
fn mark(comment: &str) -> String {
    format!("{comment} {MARK} {}\n", env!("CARGO_PKG_VERSION"))
}

/// Contents of the first line of every module.
const MARK: &str = "@generated by `cargo kbench export`";

/// A comment for each input of the export.
fn made_from(plans: &[Plan], comment: &str) -> String {
    let of = |plan: &Plan| {
        let lines =
            plan.made_from.iter().map(|(what, hash)| format!("{comment} {}: {what}: {hash}\n", plan.kernel.name));
        lines.collect::<String>()
    };
    plans.iter().map(of).collect::<String>() + "\n"
}

/// `sm_90a` as 9 and 0.
fn arch_numbers(arch: &str) -> (u32, u32) {
    let digits: String = arch.chars().filter(char::is_ascii_digit).collect();
    let number: u32 = digits.parse().unwrap_or(0);
    (number / 10, number % 10)
}

/// The driver's name of a tensor map's type, after `CU_TENSOR_MAP_DATA_TYPE_`.
fn tensor_map_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "FLOAT64",
        DType::F32 => "FLOAT32",
        DType::F16 => "FLOAT16",
        DType::Bf16 => "BFLOAT16",
        DType::F8e4m3 | DType::F8e5m2 | DType::I8 | DType::U8 => "UINT8",
        DType::I16 | DType::U16 => "UINT16",
        DType::I32 => "INT32",
        DType::U32 => "UINT32",
        DType::I64 => "INT64",
        DType::U64 => "UINT64",
    }
}

/// The architectures of a kernel. The present device does not count: an export is the same on every machine.
fn archs_of(kernel: &Kernel, elite: &EliteFile) -> Result<Vec<String>, ExportError> {
    if kernel.implementation.backend != Backend::Cuda || !kernel.arch.is_empty() {
        return Ok(kernel.arch.clone());
    }
    let entries = elite.kernels.iter().filter(|entry| entry.package == kernel.package && entry.kernel == kernel.name);
    let of = |capability: &String| {
        let (major, minor) = capability.split_once('.')?;
        // As `autotune` compiles if the table names none.
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

/// The text, formatted by rustfmt with the package's edition and settings, so that `cargo fmt` does not change it;
/// unformatted without rustfmt.
fn formatted(text: &[u8], package: &Package) -> Vec<u8> {
    let run = || -> io::Result<Option<Vec<u8>>> {
        let mut child = Command::new("rustfmt")
            .args(["--edition", &package.edition, "--emit", "stdout", "--quiet"])
            .current_dir(&package.directory)
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

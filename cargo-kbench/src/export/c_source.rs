//! Sources for a build script: for each C variant a file that sets its macros and includes the kernel's source.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::plan::{Plan, Planned};
use super::{ExportError, File, names};
use crate::build::{self, Compiler, Entry, Unit};
use crate::config::{Kernel, Package, is_cpp};
use crate::file;
use crate::harness::RunError;

/// Prefix of all symbols of a variant: several variants, kernels and packages may be in one program.
pub(super) fn prefix(package: &str, kernel: &Kernel, variant: usize) -> String {
    format!("{}_{}_v{variant}", names::word(package), names::word(&kernel.name))
}

/// The name of a function in a program.
pub(super) fn symbol(package: &str, kernel: &Kernel, variant: usize, planned: &Planned, entry: &str) -> String {
    let prefix = prefix(package, kernel, variant);
    if planned.unit.entries[0].name == entry { prefix } else { format!("{prefix}_{entry}") }
}

/// The name of a variant's file in the folder.
pub(super) fn file_name(kernel: &Kernel, variant: usize) -> String {
    format!("{}_v{variant}.c", names::word(&kernel.name))
}

/// The sources of a plan's variants, each compiled once as a test; `folder` is the folder of the export.
pub(super) fn files(
    package: &Package,
    plan: &Plan,
    compiler: &Compiler,
    folder: &Path,
    scratch: &Path,
) -> Result<Vec<File>, ExportError> {
    let mut files = Vec::new();
    for (variant, planned) in plan.variants.iter().enumerate() {
        let name = file_name(&plan.kernel, variant);
        let text = |include: &Path| source(&package.name, plan, variant, include);
        let entry = |entry: &Entry| Entry {
            name: symbol(&package.name, &plan.kernel, variant, planned, &entry.name),
            signature: entry.signature.clone(),
        };
        let entries = planned.unit.entries.iter().map(entry).collect();
        compile(plan, planned, compiler, entries, &text(&planned.unit.source)?, &scratch.join(&name))?;
        files.push(File { name: name.into(), bytes: text(&included(plan, planned, folder))?.into_bytes() });
        if let Some(proposed) = &planned.candidate.source {
            let name = PathBuf::from(copy_name(plan, &proposed.record.hash));
            if files.iter().all(|file| file.name != name) {
                let path = &planned.unit.source;
                let bytes = std::fs::read(path).map_err(|error| file::in_context(path, &error))?;
                files.push(File { name, bytes });
            }
        }
    }
    Ok(files)
}

/// The name of the copy of a proposed source.
fn copy_name(plan: &Plan, hash: &str) -> String {
    format!("{}_{}.c.inc", names::word(&plan.kernel.name), &hash[..16])
}

/// The file that a variant's file includes: the package's own source at its place, or a copy of a proposed source
/// beside the file.
fn included(plan: &Plan, planned: &Planned, folder: &Path) -> PathBuf {
    match &planned.candidate.source {
        Some(proposed) => PathBuf::from(copy_name(plan, &proposed.record.hash)),
        None => file::relative(&planned.unit.source, folder),
    }
}

fn source(package: &str, plan: &Plan, variant: usize, include: &Path) -> Result<String, ExportError> {
    let (kernel, planned) = (&plan.kernel, &plan.variants[variant]);
    let Unit { macros, constants, entries, .. } = &planned.unit;
    if is_cpp(&planned.unit.source) {
        let why = "an export holds CUDA and C, and its source is C++; compile the winner with the flags and macros in elite.json";
        return Err(ExportError::unsupported(kernel, &why));
    }
    if !planned.unit.headers.is_empty() {
        let why = "an export holds no `headers` of the table; write them as files and name their folder in `flags`";
        return Err(ExportError::unsupported(kernel, &why));
    }
    let unsupported = || ExportError::unsupported(kernel, &"the path of its source cannot stand in a C #include");
    let include = build::generated::quoted(include).ok_or_else(unsupported)?;
    let mut text =
        format!("/* `{}` with {}; written by `cargo kbench export`. */\n", kernel.name, planned.label(kernel));
    for (name, value) in macros {
        let _ = writeln!(text, "#define {name} {value}");
    }
    // Names of functions and objects are global in the program: another variant defines the same names.
    let prefix = prefix(package, kernel, variant);
    for defined in defined(planned) {
        if macros.iter().all(|(name, _)| *name != defined) {
            let is_entry = entries.iter().any(|entry| entry.name == defined);
            let own = if is_entry {
                symbol(package, kernel, variant, planned, &defined)
            } else {
                format!("{prefix}_own_{defined}")
            };
            let _ = writeln!(text, "#define {defined} {own}");
        }
    }
    text += &build::generated::constants(constants, build::generated::Language::C);
    let _ = writeln!(text, "#include \"{include}\"");
    Ok(text)
}

/// The names that the code of a variant defines, the entries first.
fn defined(planned: &Planned) -> Vec<String> {
    let names = &planned.code[0].artifact.defined;
    let entries = planned.unit.entries.iter().map(|entry| &entry.name);
    let others = names.iter().filter(|name| entries.clone().all(|entry| entry != *name));
    entries.clone().chain(others).cloned().collect()
}

/// Compiles the file as the build script will, with absolute paths, below the target directory.
fn compile(
    plan: &Plan,
    planned: &Planned,
    compiler: &Compiler,
    entries: Vec<Entry>,
    text: &str,
    path: &Path,
) -> Result<(), ExportError> {
    if !std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error))?;
        file::write(path, text.as_bytes())?;
    }
    let (macros, constants) = Default::default();
    let unit = Unit { source: path.to_owned(), entries, macros, constants, ..planned.unit.clone() };
    match compiler.compile(&unit) {
        Ok(_) => Ok(()),
        Err(error) if error.is_variants_own() => {
            let label = planned.label(&plan.kernel);
            let what = format!("{label} does not compile with names of its own for what it defines: {error}");
            Err(ExportError::unsupported(&plan.kernel, &what))
        }
        Err(error) => Err(RunError::Tool(error).into()),
    }
}

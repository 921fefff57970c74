//! What a build script compiles: for each C variant a file that sets its macros and includes the kernel's source.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::plan::{Plan, Planned};
use super::{ExportError, File, names};
use crate::build::{self, Compiler, Unit};
use crate::config::{Kernel, Package};
use crate::file;

/// The name that the linker knows a launch of a variant by: several variants, kernels and packages may be in one program.
pub(super) fn symbol(package: &str, kernel: &Kernel, variant: usize, launch: usize) -> String {
    let name = format!("{}_{}_v{variant}", names::word(package), names::word(&kernel.name));
    if launch == 0 { name } else { format!("{name}_{launch}") }
}

/// The sources of a plan's variants, each compiled once to see that it does; `folder` is where they will lie.
pub(super) fn files(
    package: &Package,
    plan: &Plan,
    compiler: &Compiler,
    folder: &Path,
    scratch: &Path,
) -> Result<Vec<File>, ExportError> {
    let mut files = Vec::new();
    for (variant, planned) in plan.variants.iter().enumerate() {
        for launch in 0..planned.launches(&plan.kernel).len() {
            let name = file_name(package, plan, variant, launch);
            let text = |include: &Path| source(package, plan, planned, (variant, launch), include);
            compile(package, plan, planned, compiler, (variant, launch), &text, &scratch.join(&name))?;
            files.push(File { name: name.into(), bytes: text(&included(plan, planned, launch, folder))?.into_bytes() });
        }
        if let Some(proposed) = &planned.candidate.source {
            let name = PathBuf::from(copy_name(plan, &proposed.record.hash));
            if files.iter().all(|file| file.name != name) {
                let path = &proposed.implementation.source;
                let bytes =
                    std::fs::read(path).map_err(|error| ExportError::Run(file::in_context(path, &error).into()))?;
                files.push(File { name, bytes });
            }
        }
    }
    Ok(files)
}

/// The name of a variant's file.
pub(super) fn file_name(package: &Package, plan: &Plan, variant: usize, launch: usize) -> String {
    symbol(&package.name, &plan.kernel, variant, launch) + ".c"
}

/// The name of the copy of a proposed source.
fn copy_name(plan: &Plan, hash: &str) -> String {
    format!("{}_{}.c.inc", names::word(&plan.kernel.name), &hash[..16])
}

/// What a variant's file includes: the package's own source where it lies, a proposed one as a copy beside it.
fn included(plan: &Plan, planned: &Planned, launch: usize, folder: &Path) -> PathBuf {
    match &planned.candidate.source {
        Some(proposed) => PathBuf::from(copy_name(plan, &proposed.record.hash)),
        None => file::relative(&planned.launches(&plan.kernel)[launch].source, folder),
    }
}

fn source(
    package: &Package,
    plan: &Plan,
    planned: &Planned,
    (variant, launch): (usize, usize),
    include: &Path,
) -> Result<String, ExportError> {
    let kernel = &plan.kernel;
    let implementation = planned.launches(kernel)[launch];
    let name = symbol(&package.name, kernel, variant, launch);
    let include = include.to_str().filter(|path| !path.contains(['"', '\\', '\n', '\r']));
    let include =
        include.ok_or_else(|| ExportError::unsupported(kernel, &"its source's path cannot stand in a C #include"))?;
    let mut text =
        format!("/* `{}` with {}; written by `cargo kbench export`. */\n", kernel.name, planned.label(kernel));
    for (name, value) in &planned.macros {
        let _ = writeln!(text, "#define {name} {value}");
    }
    // Names of functions and objects are the program's: another variant defines the same ones.
    for defined in defined(planned, &implementation.entry)? {
        if planned.macros.iter().any(|(name, _)| *name == defined) {
            continue;
        }
        let renamed = if defined == implementation.entry { name.clone() } else { format!("{name}_{defined}") };
        let _ = writeln!(text, "#define {defined} {renamed}");
    }
    let _ = writeln!(text, "#include \"{include}\"");
    Ok(text)
}

/// The names that the code of a variant defines, the entry first.
fn defined(planned: &Planned, entry: &str) -> Result<Vec<String>, ExportError> {
    let code = &planned.code[0].artifact.code;
    let mut names =
        build::defined_names(code).map_err(|error| ExportError::Run(file::in_context(code, &error).into()))?;
    names.retain(|name| name != entry);
    names.insert(0, entry.to_owned());
    Ok(names)
}

/// Compiles the file as the build script will, with absolute paths, below the target directory.
fn compile(
    package: &Package,
    plan: &Plan,
    planned: &Planned,
    compiler: &Compiler,
    (variant, launch): (usize, usize),
    text: &dyn Fn(&Path) -> Result<String, ExportError>,
    path: &Path,
) -> Result<(), ExportError> {
    let kernel = &plan.kernel;
    let implementation = planned.launches(kernel)[launch];
    let text = text(&implementation.source)?;
    let written = std::fs::read(path).is_ok_and(|old| old == text.as_bytes());
    if !written {
        let folder = path.parent().unwrap_or(path);
        let write = std::fs::create_dir_all(folder).map_err(|error| file::in_context(folder, &error));
        write.and_then(|()| file::write(path, text.as_bytes())).map_err(|error| ExportError::Run(error.into()))?;
    }
    let unit = Unit {
        backend: implementation.backend,
        source: path.to_owned(),
        entry: symbol(&package.name, kernel, variant, launch),
        flags: implementation.flags.clone(),
        macros: Vec::new(),
        arch: None,
        signature: build::resolve::signature(kernel, implementation, None),
        directory: package.directory.clone(),
    };
    match compiler.compile(&unit) {
        Ok(_) => Ok(()),
        Err(error) if error.is_variants_own() => {
            let what = format!("{} does not compile with its names made its own: {error}", planned.label(kernel));
            Err(ExportError::unsupported(kernel, &what))
        }
        Err(error) => Err(ExportError::Run(crate::harness::RunError::Tool(error))),
    }
}

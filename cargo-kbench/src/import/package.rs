//! The files of a package for tuning problems: a manifest with their tables, their sources, and a file for their
//! references.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::problem::{Argument, Code, DIMENSIONS, Problem, Size, Tensor};
use super::{ImportError, Imported, Note};
use crate::config::arch_flag;
use crate::expr::Value;
use crate::space::Space;

/// A package with a kernel for each problem of `origin`.
pub fn package(mut problems: Vec<Problem>, origin: &Path, name: Option<&str>) -> Result<Imported, ImportError> {
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut tables = String::new();
    let mut references = String::new();
    for problem in &mut problems {
        if let Some(empty) = problem.parameters.iter().find(|parameter| parameter.values.is_empty()) {
            let (kernel, parameter) = (problem.name.clone(), empty.name.clone());
            return Err(ImportError::NoValues { kernel, parameter });
        }
        let space = problem.space().ok_or_else(|| ImportError::Empty(problem.name.clone()))?;
        let source = add_source(problem, &mut files);
        leave_out_archs(problem);
        table(&mut tables, problem, &space, &source);
        reference(&mut references, problem);
    }
    let notes: Vec<Note> = problems.iter_mut().flat_map(|problem| std::mem::take(&mut problem.notes)).collect();
    let name = name.unwrap_or(&problems[0].name).to_owned();
    let origin = origin.file_name().unwrap_or(origin.as_os_str()).to_string_lossy();
    let manifest = manifest(&name, &origin, &notes, &tables);
    files.insert("Cargo.toml".into(), manifest.into_bytes());
    files.insert("src/reference.c".into(), format!("{REFERENCES}{references}").into_bytes());
    files.insert("src/lib.rs".into(), format!("//! Kernels imported from {origin}.\n").into_bytes());
    files.insert(".gitignore".into(), b"/target\n".to_vec());
    Ok(Imported { name, files: files.into_iter().collect(), notes })
}

const REFERENCES: &str = "\
/* What is right: every kernel is compared with a function of this file. It gets floating-point tensors as double. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
";

fn manifest(name: &str, origin: &str, notes: &[Note], tables: &str) -> String {
    let mut text = format!(
        "[package]\nname = {}\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         # `cargo kbench import {origin}` wrote this. `cargo kbench check` shows what it comes to; `cargo kbench gate` needs the\n\
         # reference, src/reference.c. Sizes that equal the problem's are written by its dimensions, PROBLEM_X and so on: see\n\
         # that they are meant before you add a shape.\n",
        quoted(name)
    );
    if !notes.is_empty() {
        text += "#\n# Not carried over, or otherwise than there:\n";
    }
    for Note { place, what } in notes {
        for (at, line) in crate::text::wrapped(&format!("{place}: {what}"), 110).into_iter().enumerate() {
            let _ = writeln!(text, "# {} {line}", if at == 0 { "-" } else { " " });
        }
    }
    text + tables
}

/// Removes flags that select an architecture: kbench compiles for the present GPU, or for `arch`.
fn leave_out_archs(problem: &mut Problem) {
    let mut flags = std::mem::take(&mut problem.flags).into_iter();
    while let Some(flag) = flags.next() {
        match arch_flag(&flag) {
            None => problem.flags.push(flag),
            Some((_, value)) => {
                if value.is_none() {
                    flags.next();
                }
                problem.note(
                    "flags",
                    format!("`{flag}` is left out: kbench compiles for the GPU that is there, or for `arch`"),
                );
            }
        }
    }
}

/// Adds the source of a problem and the files that it includes; returns the path of the source.
fn add_source(problem: &mut Problem, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> String {
    let suffix = if problem.is_host { "c" } else { "cu" };
    let own = format!("src/{}.{suffix}", problem.name);
    match problem.code.clone() {
        Code::Text(text) => {
            files.insert(own.clone().into(), text.into_bytes());
            own
        }
        Code::Unknown => {
            problem.note("source", format!("put the kernel at {own}"));
            own
        }
        Code::File(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            for path in [path].into_iter().chain(std::mem::take(&mut problem.more)) {
                let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                let name = path.file_name().map(PathBuf::from).unwrap_or_default();
                if let Err(error) = add_file(&folder, &name, files) {
                    problem.note("source", format!("{error}; put it at src/{}", name.display()));
                }
            }
            format!("src/{name}")
        }
    }
}

/// Adds a file of a folder to `src`, and the files that it includes by a relative path.
fn add_file(folder: &Path, name: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> std::io::Result<()> {
    let place = Path::new("src").join(name);
    if files.contains_key(&place) {
        return Ok(());
    }
    let text = crate::file::read(&folder.join(name))?;
    let included: Vec<PathBuf> = text.lines().filter_map(included).map(|path| within(name, path)).collect();
    files.insert(place, text.into_bytes());
    for path in included {
        // A missing file may be on the compiler's include path; otherwise the compiler reports it.
        let is_inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if is_inside && folder.join(&path).is_file() {
            add_file(folder, &path, files)?;
        }
    }
    Ok(())
}

/// The path of `#include "path"`.
fn included(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?.trim_start();
    rest.strip_prefix('"')?.split('"').next()
}

/// A path in a file, relative to the folder of the first file.
fn within(file: &Path, path: &str) -> PathBuf {
    file.parent().map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

fn toggle_value(value: &Value) -> String {
    match value {
        Value::Str(text) => quoted(text),
        other => other.to_string(),
    }
}

/// Writes the table of a problem.
fn table(text: &mut String, problem: &Problem, space: &Space, source: &str) {
    let kernel = format!("package.metadata.kbench.kernels.{}", problem.name);
    let dimension = |number: &str| by_dimensions(number, &problem.sizes);
    let mut args = Vec::new();
    let mut tensors: Vec<&Tensor> = Vec::new();
    for argument in &problem.arguments {
        let tensor = match argument {
            Argument::Scalar { dtype, value } => {
                let value = quoted(&dimension(value));
                args.push(format!("{{ scalar = \"{}\", value = {value} }}", dtype.name()));
                continue;
            }
            Argument::Tensor(tensor) => {
                args.push(quoted(&tensor.name));
                tensor
            }
            Argument::Symbol { symbol, tensor } => {
                args.push(format!("{{ symbol = {}, tensor = {} }}", quoted(symbol), quoted(&tensor.name)));
                tensor
            }
        };
        if tensors.iter().all(|known| known.name != tensor.name) {
            tensors.push(tensor);
        }
    }
    let backend = if problem.is_host { "c" } else { "cuda" };
    let _ = writeln!(text, "\n[{kernel}]\nbackend = \"{backend}\"\nsource = {}", quoted(source));
    let _ = writeln!(text, "entry = {}", quoted(&problem.entry));
    if !problem.flags.is_empty() {
        let _ = writeln!(text, "flags = {}", list(&problem.flags));
    }
    if !problem.is_host {
        for (key, axes) in [("grid", &problem.grid), ("block", &problem.block)] {
            let used = axes.iter().rposition(|axis| axis != "1").map_or(1, |last| last + 1);
            let _ = writeln!(text, "{key} = {}", list(&axes[..used]));
        }
    }
    if let Some(bytes) = &problem.dynamic_shared {
        let _ = writeln!(text, "dynamic_shared = {}", quoted(bytes));
    }
    let _ = writeln!(text, "args = [{}]", args.join(", "));

    let sizes = problem.sizes.iter().zip(DIMENSIONS).filter_map(|(size, name)| match size {
        Size::Number(number) => Some(format!("{name} = {number}")),
        Size::Expression(_) => None,
    });
    let sizes: Vec<String> = sizes.collect();
    let shape = if sizes.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", sizes.join(", ")) };
    let _ = writeln!(text, "\n[{kernel}.shapes]\nimported = {shape}");

    let _ = writeln!(text, "\n[{kernel}.tensors]");
    for tensor in tensors {
        let dims = list(tensor_dims(&tensor.dims, &problem.sizes));
        let mut keys = format!("dtype = \"{}\", dims = {dims}", tensor.dtype.name());
        if tensor.role != "in" {
            let _ = write!(keys, ", role = \"{}\"", tensor.role);
        }
        if let Some(init) = &tensor.init {
            let _ = write!(keys, ", init = {init}");
        }
        let _ = writeln!(text, "{} = {{ {keys} }}", key(&tensor.name));
    }

    let _ = writeln!(text, "\n[{kernel}.toggles]");
    if !problem.constraints.is_empty() {
        let _ = writeln!(text, "constraints = [");
        problem.constraints.iter().for_each(|constraint| {
            let _ = writeln!(text, "    {},", quoted(constraint));
        });
        let _ = writeln!(text, "]");
    }
    let _ = writeln!(text, "\n[{kernel}.toggles.macro]");
    for parameter in &problem.parameters {
        let values: Vec<String> = parameter.values.iter().map(toggle_value).collect();
        let _ = writeln!(text, "{} = [{}]", key(&parameter.name), values.join(", "));
    }
    let _ = writeln!(text, "\n[{kernel}.toggles.default]");
    for (name, value) in space.get(&space.default) {
        let _ = writeln!(text, "{} = {}", key(name), toggle_value(value));
    }

    let _ = writeln!(text, "\n[{kernel}.reference]\nbackend = \"c\"\nsource = \"src/reference.c\"");
    let _ = writeln!(text, "entry = {}", quoted(&reference_name(problem)));
    let args: Vec<String> = problem
        .arguments
        .iter()
        .zip(args)
        .map(|(argument, arg)| match argument {
            Argument::Symbol { tensor, .. } => quoted(&tensor.name),
            _ => arg,
        })
        .collect();
    let _ = writeln!(text, "args = [{}]", args.join(", "));
    if let Some(tolerance) = problem.tolerance {
        let _ = writeln!(text, "\n[{kernel}.gates.correctness]\nmax_abs_err = {tolerance:?}");
    }
}

fn key(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { name.to_owned() } else { quoted(name) }
}

/// The sizes of the problem that are numbers, with their names.
fn known_sizes(sizes: &[Size]) -> Vec<(i64, &'static str)> {
    let known = sizes.iter().zip(DIMENSIONS).filter_map(|(size, name)| match size {
        Size::Number(number) if *number > 1 => Some((*number, name)),
        _ => None,
    });
    known.collect()
}

/// A number by the names of dimensions, if it is one of the problem's sizes or the product of all.
fn by_dimensions(number: &str, sizes: &[Size]) -> String {
    let known = known_sizes(sizes);
    let Ok(number) = number.parse::<i64>() else { return number.to_owned() };
    if let Some((_, name)) = known.iter().find(|(size, _)| *size == number) {
        return (*name).to_owned();
    }
    let product = known.iter().try_fold(1i64, |product, (size, _)| product.checked_mul(*size));
    if known.len() > 1 && product == Some(number) {
        return known.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" * ");
    }
    number.to_string()
}

/// The sizes of a tensor by the names of dimensions; a tensor of the problem's size has one dimension for each size.
fn tensor_dims(dims: &[String], sizes: &[Size]) -> Vec<String> {
    let known = known_sizes(sizes);
    if dims.len() > 1 && dims.iter().map(|size| size.parse().ok()).eq(known.iter().map(|(size, _)| Some(*size))) {
        return known.into_iter().map(|(_, name)| name.to_owned()).collect();
    }
    dims.iter().map(|size| by_dimensions(size, sizes)).collect()
}

fn reference_name(problem: &Problem) -> String {
    format!("{}_reference", problem.name.replace('-', "_"))
}

/// Writes a function without a body: the compiler's error names the place to write it.
fn reference(text: &mut String, problem: &Problem) {
    let parameters: Vec<String> = problem
        .arguments
        .iter()
        .enumerate()
        .map(|(at, argument)| match argument {
            Argument::Scalar { dtype, .. } => format!("{} argument_{}", c_type(dtype.name()), at + 1),
            Argument::Tensor(tensor) | Argument::Symbol { tensor, .. } => {
                let element = if tensor.dtype.is_float() { "double" } else { c_type(tensor.dtype.name()) };
                let written = if tensor.role == "in" { "const " } else { "" };
                format!("{written}{element} *{}", tensor.name)
            }
        })
        .collect();
    let _ = write!(
        text,
        "\nvoid {}({})\n{{\n#error \"write the reference of `{}` here\"\n}}\n",
        reference_name(problem),
        parameters.join(", "),
        problem.name
    );
}

fn c_type(dtype: &str) -> &'static str {
    match dtype {
        "f64" => "double",
        "i8" => "int8_t",
        "i16" => "int16_t",
        "i32" => "int32_t",
        "i64" => "int64_t",
        "u8" => "uint8_t",
        "u16" => "uint16_t",
        "u32" => "uint32_t",
        "u64" => "uint64_t",
        _ => "float",
    }
}

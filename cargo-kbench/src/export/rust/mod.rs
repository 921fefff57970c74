//! The Rust module that launches exported kernels.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::plan::Plan;
use super::{ExportError, File, names};
use crate::config::Backend;
use shared::Shared;

mod c;
mod cuda;
mod dialect;
mod lints;
mod parts;
mod shared;
mod structs;
#[cfg(test)]
mod tests;
mod variants;

/// The module and the code that it includes.
pub(super) fn files(package: &str, plans: &[Plan], folder: &Path) -> Result<Vec<File>, ExportError> {
    let mut files = Vec::new();
    for plan in plans {
        files.extend(plan.code_files()?);
    }
    let kernels: Vec<&str> = plans.iter().map(|plan| plan.kernel.name.as_str()).collect();
    let modules = names::snake(&kernels, names::RUST, &["cudarc", "sys"]);
    // A kernel may have the name of the folder, which is that of the module around its own.
    let is_folder = |module: &String| folder.file_name().is_some_and(|name| name == module.as_str());
    let inception = if modules.iter().any(is_folder) { ", clippy::module_inception" } else { "" };
    let mut called = BTreeSet::new();
    let mut parts = String::new();
    let mut shared = Shared::default();
    for (plan, module) in plans.iter().zip(modules) {
        let (text, functions) = match plan.kernel.implementation.backend {
            Backend::C => {
                shared.c = true;
                c::module(package, plan, module)?
            }
            Backend::Cuda => {
                let (text, functions, needs) = cuda::module(plan, module)?;
                shared.add(needs);
                (text, functions)
            }
            Backend::Fake => return Err(ExportError::unsupported(&plan.kernel, &"it is a model, which has no code")),
        };
        parts.push_str(&text);
        called.extend(functions);
    }
    let mut text = super::mark("//");
    let _ = writeln!(
        text,
        "//! The kernels of `{package}`, as `cargo kbench export` wrote them. Do not edit: run it again.\n//!"
    );
    text.push_str(DOC);
    text.push_str(&super::made_from(plans, "//"));
    let _ = writeln!(text, "#![allow(dead_code{inception})]\n");
    text.push_str(&shared.text(plans));
    for function in called {
        text.push_str(dialect::definition(function));
        text.push_str("\n\n");
    }
    text.push_str(&parts);
    files.push(File { name: "mod.rs".into(), bytes: text.into_bytes() });
    Ok(files)
}

const DOC: &str = "\
//! Each kernel has a module with a `launch` that chooses among the variants by this rule, which `pick` tells:
//!
//! 1. the winner of elite.json on the device that runs at the very sizes;
//! 2. the winner on that device at the nearest sizes: those whose ratios to the sizes asked for are closest to 1, by the sum of the
//!    logarithms' absolute values;
//! 3. the winner on another device of the architecture, at the nearest sizes;
//! 4. the default of the table.
//!
//! A variable `KBENCH_VARIANT_<KERNEL>`, read once, names one of `Variant::ALL` instead, or `default`.

";

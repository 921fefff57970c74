//! The function by which a build script compiles the C of a folder.

use std::fmt::Write as _;
use std::path::Path;

use super::plan::Plan;
use super::{File, c_source};
use crate::config::Package;
use crate::file;

/// `build.rs` of the folder.
pub(super) fn file(package: &Package, plans: &[&Plan], folder: &Path) -> File {
    let here = file::relative(folder, &package.directory);
    let here = here.display();
    let mut text = format!(
        "{}//! Compiles the C beside this file; it needs the crate `cc`. In the package's build.rs:\n//!\n//! ```ignore\n\
         //! #[path = \"{here}/build.rs\"]\n//! mod kernels;\n//!\n//! fn main() {{\n//!     kernels::compile();\n//! }}\n//! ```\n\n\
         /// Compiles each variant with the flags that it was measured with, in debug builds too.\n#[allow(clippy::too_many_lines)]\npub fn compile() {{\n",
        super::mark("//"),
    );
    let mut watched = vec![here.to_string()];
    let mut linked: Vec<String> = vec!["cargo::rustc-link-lib=m".to_owned()];
    for plan in plans {
        for (variant, planned) in plan.variants.iter().enumerate() {
            let own = &plan.kernel.implementation.source;
            let source = if planned.candidate.source.is_some() { own } else { &planned.unit.source };
            let source = file::relative(source, &package.directory);
            let parent = source.parent().filter(|parent| !parent.as_os_str().is_empty());
            // A source may include files beside it; the package's own folder also holds generated files.
            watched.push(parent.unwrap_or(&source).display().to_string());
            if let Some(note) = planned.native_note() {
                let _ = writeln!(text, "// {note}.");
            }
            text.push_str("variant(&[");
            if planned.candidate.source.is_some() {
                // A proposed source includes files beside the kernel's own source.
                let _ = write!(text, "\"-I\", {:?}, ", parent.unwrap_or(Path::new(".")).display().to_string());
            }
            for flag in planned.flags() {
                let _ = write!(text, "{flag:?}, ");
                linked.extend(linker_line(flag));
            }
            let name = c_source::prefix(&package.name, &plan.kernel, variant);
            let file = c_source::file_name(&plan.kernel, variant);
            let _ = writeln!(text, "], \"{here}/{file}\", {name:?});");
        }
    }
    watched.sort();
    watched.dedup();
    for path in watched {
        linked.push(format!("cargo::rerun-if-changed={path}"));
    }
    linked.sort();
    linked.dedup();
    for line in linked {
        let _ = writeln!(text, "println!({:?});", line.replace('{', "{{").replace('}', "}}"));
    }
    text.push_str(
        "}\n\nfn variant(flags: &[&str], file: &str, name: &str) {\nlet mut build = cc::Build::new();\n\
         build.opt_level(3).debug(false).warnings(false).include(\".\");\nfor flag in flags {\nbuild.flag(flag);\n}\n\
         build.file(file).compile(name);\n}\n",
    );
    File { name: "build.rs".into(), bytes: text.into_bytes() }
}

/// The argument that cargo must pass to the linker for a flag of the compiler.
fn linker_line(flag: &str) -> Option<String> {
    match flag {
        "-fopenmp" => Some("cargo::rustc-link-lib=gomp".to_owned()),
        _ => flag
            .strip_prefix("-l")
            .map(|name| format!("cargo::rustc-link-lib={name}"))
            .or_else(|| flag.strip_prefix("-L").map(|folder| format!("cargo::rustc-link-search=native={folder}"))),
    }
}

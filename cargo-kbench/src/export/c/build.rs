//! The script that compiles the C kernels of an export into an archive.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::config::Package;
use crate::export::plan::Plan;
use crate::export::{ExportError, File, c_source};
use crate::file;

/// `build.sh` of the folder.
pub(in crate::export) fn file(package: &Package, plans: &[&Plan], folder: &Path) -> Result<File, ExportError> {
    let root = file::relative(&package.directory, folder);
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { &root };
    let mut text = String::from("#!/bin/sh\n");
    text.push_str(&crate::export::mark("#"));
    let _ = write!(
        text,
        "# Compiles each variant with the flags that it was measured with: sh build.sh DIR writes DIR/libkbench.a.\n\
         # CC and AR name the compiler and the archiver.\nset -eu\nout=$(mkdir -p \"$1\" && cd \"$1\" && pwd)\n\
         here=$(cd \"$(dirname \"$0\")\" && pwd)\ncd \"$here\"/{}\n\n\
         variant() {{\n    source=$1\n    object=$2\n    shift 2\n    \
         ${{CC:-cc}} -O3 -fPIC -I . \"$@\" -w -c \"$here/$source\" -o \"$out/$object\"\n}}\n\n",
        quoted(&root.display().to_string())?
    );
    let mut objects = Vec::new();
    for plan in plans {
        for (variant, planned) in plan.variants.iter().enumerate() {
            if let Some(note) = planned.native_note() {
                let _ = writeln!(text, "# {note}.");
            }
            let source = c_source::file_name(&plan.kernel, variant);
            let object = source.replace(".c", ".o");
            let mut words = vec![quoted(&source)?, quoted(&object)?];
            if planned.candidate.source.is_some() {
                // A proposed source includes files beside the kernel's own source.
                let own = file::relative(&plan.kernel.implementation.source, &package.directory);
                let parent = own.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                words.extend(["-I".to_owned(), quoted(&parent.display().to_string())?]);
            }
            for flag in planned.flags() {
                words.push(quoted(flag)?);
            }
            let _ = writeln!(text, "variant {}", words.join(" "));
            objects.push(quoted(&object)?);
        }
    }
    let _ = write!(
        text,
        "\ncd \"$out\"\nrm -f libkbench.a\n${{AR:-ar}} rcs libkbench.a {}\nrm -f {}\n",
        objects.join(" "),
        objects.join(" ")
    );
    Ok(File { name: "build.sh".into(), bytes: text.into_bytes() })
}

/// A word in the syntax of the shell.
fn quoted(word: &str) -> Result<String, ExportError> {
    let quoted = shlex::try_quote(word).map_err(|_| io::Error::other("a flag or a path has a zero byte"))?;
    Ok(quoted.into_owned())
}

//! A project of one kernel for the unit tests of other modules.

use std::fs;

use super::{LoadOptions, Project, load};

/// A C kernel `k` with two shapes, and the toggle `T` with three values, of which the second is the default.
const KERNEL: &str = r#"
    [package]
    name = "demo"
    [package.metadata.kbench.kernels.k]
    backend = "c"
    source = "k.c"
    entry = "k"
    args = ["x", "y"]
    shapes = { s = { N = 16 }, t = { N = 32 } }
    tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
    toggles = { macro = { T = [1, 2, 3] }, default = { T = 2 } }
    reference = { source = "k.c", entry = "k" }
"#;

/// The project of the kernel with more lines of its table. The folder of the project no longer exists.
pub(crate) fn project(more: &str) -> Project {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    for (file, text) in [("Cargo.toml", format!("{KERNEL}\n{more}").as_str()), ("k.c", ""), ("src/lib.rs", "")] {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let options = LoadOptions {
        directory: Some(folder.path().to_owned()),
        target_dir: Some("target".into()),
        cargo: Some("no-cargo-here".into()),
        ..LoadOptions::default()
    };
    load(&options).unwrap().0
}

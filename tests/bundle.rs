//! A kernel and all that its search compiles in one file, and a search of it without compilers, cargo or sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

mod model;

/// A package on the model device; one variant does not compile, one is wrong.
const MODEL: &str = r#"
time_ns = "20000 - 1000 * A - 700 * B - 333 * C + 11 * D"
noise = 0
[[fault]]
when = "A == 3 and B == 3"
kind = "does-not-compile"
[[fault]]
when = "A == 2 and B == 3"
kind = "wrong"
"#;

fn run(folder: &Path, args: &[&str]) -> String {
    let shown = model::shown(folder, args);
    assert!(shown.starts_with("exit 0\n"), "{shown}");
    shown
}

/// Runs the tool in a folder where no program can be found.
fn bare(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-kbench"));
    let output =
        command.args(args).current_dir(folder).env_clear().env("PATH", "/nowhere").env("HOME", folder).output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn elite(path: &Path) -> Value {
    let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for entry in file["kernels"].as_array_mut().unwrap() {
        entry["date"].take();
    }
    file
}

/// A bundle of a package, alone in a folder.
fn alone(package: &Path, args: &[&str]) -> (tempfile::TempDir, PathBuf) {
    run(package, &[&["bundle", "-q", "--output", "model.bundle"], args].concat());
    let away = tempfile::tempdir().unwrap();
    let bundle = away.path().join("model.bundle");
    fs::rename(package.join("model.bundle"), &bundle).unwrap();
    (away, bundle)
}

#[test]
fn a_bundle_gives_the_packages_result_and_merges() {
    let search = "[package.metadata.kbench.kernels.model.search]\nstrategy = \"exhaustive\"\n";
    let package = model::package_with(MODEL, search);
    run(package.path(), &["autotune", "-q"]);
    let there = elite(&package.path().join("elite.json"));
    let (away, bundle) = alone(package.path(), &[]);
    // Nothing of the package is left that it could be taken from.
    let home = tempfile::tempdir().unwrap();
    fs::rename(package.path(), home.path().join("package")).unwrap();
    let package = home.path().join("package");

    let (code, text) = bare(away.path(), &["autotune", "-q", "--bundle", "model.bundle"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("--bundle model.bundle"), "{text}");
    assert_eq!(elite(&away.path().join("elite.json")), there);
    let (code, text) = bare(away.path(), &["gate", "-q", "--elite", "--bundle", "model.bundle"]);
    assert_eq!(code, Some(0), "{text}");
    // Once more, and with a part of the space.
    let part = ["autotune", "-q", "--fresh", "--partition", "1/2", "--bundle", "model.bundle"];
    assert_eq!(bare(away.path(), &part).0, Some(0));

    fs::remove_file(package.join("elite.json")).unwrap();
    fs::remove_dir_all(package.join("target")).unwrap();
    let journal = away.path().join("target/kbench/journal/model/model.jsonl");
    run(&package, &["merge", journal.to_str().unwrap()]);
    let merged = elite(&package.join("elite.json"));
    assert_eq!(merged["kernels"][0]["question"], there["kernels"][0]["question"]);
    assert_eq!(merged["kernels"][0]["search"]["partition"], "1/2");

    // Other shapes than it was written for are in it too; other kernels are not.
    let (code, text) = bare(away.path(), &["autotune", "--bundle", "model.bundle", "--kernel", "other"]);
    assert_eq!(code, Some(2), "{text}");
    // A bundle that was touched.
    let mut bytes = fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (code, text) = bare(away.path(), &["autotune", "--bundle", "model.bundle"]);
    assert!(code == Some(2) && text.contains("model.bundle: not a bundle, or damaged"), "{text}");
    fs::write(&bundle, "").unwrap();
    assert_eq!(bare(away.path(), &["autotune", "--bundle", "model.bundle"]).0, Some(2));
    assert_eq!(bare(away.path(), &["autotune", "--bundle", "none.bundle"]).0, Some(2));
}

#[test]
fn a_package_makes_the_same_bundle_in_any_folder() {
    let write = || {
        let package = model::package_with(MODEL, "");
        run(package.path(), &["bundle", "-q"]);
        let first = fs::read(package.path().join("kbench.bundle")).unwrap();
        run(package.path(), &["bundle", "-q"]);
        assert!(first == fs::read(package.path().join("kbench.bundle")).unwrap());
    };
    write();
}

/// C kernels with an input file, a reference and a baseline in C.
const C: &str = r#"
[package]
name = "scaled"
version = "0.0.0"
edition = "2024"
[workspace]
[package.metadata.kbench.kernels.scaled]
backend = "c"
source = "src/scaled.c"
entry = "scaled"
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes.s = { N = 4 }
toggles.macro = { UNROLL = [1, 2] }
reference = { source = "src/reference.c", entry = "reference", args = ["x", "y", { scalar = "i32", value = "N" }] }
baselines.naive = { source = "src/naive.c", entry = "naive" }
baselines.program = { command = ["python3", "baseline.py"] }
gates.correctness = { seeds = 1, patterns = [] }
gates.performance = [{ shape = "s", min_speedup = 100.0, over = "program" }]
timing = { warmup = 1, iterations = 5, max_seconds = 0.05 }
[package.metadata.kbench.kernels.scaled.tensors]
x = { dtype = "f32", dims = ["N"], init = { file = "data/x.npy" } }
y = { dtype = "f32", dims = ["N"], role = "out" }
"#;

fn npy(values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", values.len());
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn c_package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("src")).unwrap();
    fs::create_dir_all(path("data")).unwrap();
    fs::write(path("Cargo.toml"), C).unwrap();
    fs::write(path("src/lib.rs"), "").unwrap();
    fs::write(path("src/factor.h"), "#define FACTOR 3\n").unwrap();
    let function = |name: &str, ty: &str| {
        format!(
            "#include \"factor.h\"\nvoid {name}(const {ty} *x, {ty} *y, int n) {{ for (int i = 0; i < n; i++) y[i] = FACTOR * x[i]; }}\n"
        )
    };
    fs::write(path("src/scaled.c"), function("scaled", "float")).unwrap();
    fs::write(path("src/naive.c"), function("naive", "float")).unwrap();
    fs::write(path("src/reference.c"), function("reference", "double")).unwrap();
    fs::write(path("data/x.npy"), npy(&[1.0, 2.0, 3.0, 4.0])).unwrap();
    folder
}

#[test]
fn c_kernels_references_baselines_and_input_files_are_carried() {
    let package = c_package();
    let written = model::shown(package.path(), &["bundle", "--output", "model.bundle"]);
    assert!(written.starts_with("exit 0\n") && written.contains("without baseline `program`"), "{written}");
    let away = tempfile::tempdir().unwrap();
    fs::rename(package.path().join("model.bundle"), away.path().join("model.bundle")).unwrap();
    drop(package);
    let (code, text) = bare(away.path(), &["autotune", "--bundle", "model.bundle"]);
    assert_eq!(code, Some(0), "{text}");
    let entry = &elite(&away.path().join("elite.json"))["kernels"][0];
    let names: Vec<&str> =
        entry["baselines"].as_array().unwrap().iter().map(|baseline| baseline["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "naive"]);
}

#[test]
fn unsupported_tables_are_refused_before_compilation() {
    let refused = |change: &dyn Fn(&Path), why: &str| {
        let package = c_package();
        change(package.path());
        let shown = model::shown(package.path(), &["bundle"]);
        assert!(shown.starts_with("exit 2\n") && shown.contains(why), "{why}: {shown}");
        assert!(
            !package.path().join("kbench.bundle").exists() && !package.path().join("target/kbench/cache/code").exists()
        );
    };
    let table = |from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let path = folder.join("Cargo.toml");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from));
            fs::write(path, text.replace(from, to)).unwrap();
        }
    };
    let reference = "reference = { source = \"src/reference.c\", entry = \"reference\", args = [\"x\", \"y\", { scalar = \"i32\", value = \"N\" }] }";
    refused(
        &table(reference, "reference = { command = [\"python3\", \"reference.py\"] }"),
        "its reference is a program (`python3 reference.py`)",
    );
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.npy"), npy(&[1.0; 4])).unwrap();
    let link = |folder: &Path| {
        fs::remove_file(folder.join("data/x.npy")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("x.npy"), folder.join("data/x.npy")).unwrap();
    };
    refused(&link, "lies outside of the workspace");
    let cuda = table("backend = \"c\"\n", "backend = \"cuda\"\ngrid = [\"1\"]\nblock = [\"1\"]\n");
    refused(&cuda, "has no `arch`");
}

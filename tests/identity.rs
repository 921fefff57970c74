//! A result is filed under everything that it depends on: C kernels of a few lines, compiled and run.

use std::fs;
use std::path::Path;
use std::process::Output;

use model::kbench;
use serde_json::Value;

mod model;

/// A package with one kernel `k` over `x` and `y`, a reference that doubles, and more of its table.
fn package(table: &str, source: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        r#"
[package]
name = "p"
version = "0.0.0"
edition = "2024"
[workspace]
[package.metadata.kbench.kernels.k]
source = "src/k.c"
entry = "k"
shapes = {{ a = {{ N = 512 }} }}
tensors = {{ x = {{ dtype = "f32", dims = ["N"] }}, y = {{ dtype = "f32", dims = ["N"], role = "out" }} }}
gates = {{ correctness = {{ seeds = 1, patterns = [] }} }}
timing = {{ warmup = 1, iterations = 2, max_seconds = 0.05 }}
{table}
"#
    );
    write(folder.path(), "Cargo.toml", &manifest);
    write(folder.path(), "src/lib.rs", "");
    write(folder.path(), "src/k.c", source);
    let reference = "void r(const double *x, double *y, int n) { for (int i = 0; i < n; i++) y[i] = 2 * x[i]; }\n";
    write(folder.path(), "src/r.c", reference);
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The exit code and the messages of a run.
fn run(folder: &Path, args: &[&str]) -> (i32, Vec<Value>) {
    let output = kbench(folder, args).args(["--message-format", "json"]).output().unwrap();
    (code(&output), messages(&output))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn messages(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"))).collect()
}

/// Toggles and outcome of each variant that was tried.
fn outcomes(messages: &[Value]) -> Vec<(String, String)> {
    let tried = messages.iter().filter(|message| message["reason"] == "evaluated");
    let tried = tried.map(|message| &message["evaluation"]);
    tried.map(|tried| (tried["toggles"].to_string(), tried["outcome"].to_string())).collect()
}

#[test]
fn a_reference_sees_the_toggles_that_its_arguments_name() {
    let table = r#"
args = ["x", "y", { scalar = "i32", value = "N" }]
toggles = { macro = { T = [4, 2, 8] } }
reference = { source = "src/steps.c", entry = "r", args = ["x", "y", { scalar = "i32", value = "N" }, { scalar = "i32", value = "T" }] }
"#;
    let source = "void k(const float *x, float *y, int n) { for (int i = 0; i < n; i++) { float v = x[i]; \
                  for (int t = 0; t < T; t++) v = 0.5f * v + 1; y[i] = v; } }\n";
    let package = package(table, source);
    write(
        package.path(),
        "src/steps.c",
        "void r(const double *x, double *y, int n, int t) { for (int i = 0; i < n; i++) { double v = x[i]; \
         for (int k = 0; k < t; k++) v = 0.5 * v + 1; y[i] = v; } }\n",
    );
    // Twice: the second run takes results from disk.
    for _ in 0..2 {
        let (code, messages) = run(package.path(), &["autotune", "--fresh"]);
        let outcomes = outcomes(&messages);
        assert_eq!((code, outcomes.len()), (0, 3), "{messages:#?}");
        assert!(outcomes.iter().all(|(_, outcome)| outcome == "\"passed\""), "{outcomes:?}");
    }
}

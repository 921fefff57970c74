//! A package whose kernel runs on the model device: what it prints depends on the toggles alone.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::path::Path;
use std::process::Command;

const MANIFEST: &str = r#"
[package]
name = "model"
version = "0.0.0"
edition = "2024"

[workspace]

# The traverse's order is easy to read.
[workspace.metadata.kbench]
search.strategy = "evo"

[package.metadata.kbench.kernels.model]
backend = "fake"
source = "model.toml"
entry = "model"
args = ["x", "y"]
shapes.only = { N = 256 }
toggles.macro = { A = [0, 1, 2, 3], B = [0, 1, 2, 3] }
toggles.micro = { C = [0, 1], D = [0, 1] }
gates.correctness.seeds = 2

[package.metadata.kbench.kernels.model.tensors]
x = { dtype = "f32", dims = ["N"] }
y = { dtype = "f32", dims = ["N"], role = "out" }

[package.metadata.kbench.kernels.model.reference]
backend = "fake"
source = "reference.toml"
entry = "model"
"#;

/// Two faults, one of which ends the worker; everything else is the faster the larger its toggles are.
pub const MODEL: &str = r#"
time_ns = "20000 - 1000 * A - 700 * B - 333 * C + 11 * D"
[[fault]]
when = "A == 3 and B == 3"
kind = "segfault"
[[fault]]
when = "A == 2 and B == 3"
kind = "wrong"
"#;

/// A package with a model of the kernel and more of its table.
pub fn package_with(model: &str, table: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Cargo.toml"), format!("{MANIFEST}\n{table}")).unwrap();
    fs::write(folder.path().join("model.toml"), model).unwrap();
    fs::write(folder.path().join("reference.toml"), "time_ns = \"1000\"\n").unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), "").unwrap();
    folder
}

/// The tool in a folder.
pub fn kbench(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-kbench"));
    command.arg("kbench").args(args).current_dir(folder).stdin(std::process::Stdio::null());
    // Every package has its own; a shared one would have them share journals.
    command.env_remove("CARGO_TARGET_DIR");
    command
}

/// Keeps ceilings of the model device, as if a run had measured them.
pub fn keep_ceilings(folder: &Path, ceilings: &serde_json::Value) {
    let kept = serde_json::json!({
        "method": 1, "kbench": env!("CARGO_PKG_VERSION"), "date": "2026-01-01T00:00:00Z", "ceilings": ceilings,
        "device": { "kind": "fake", "name": "fake", "driver": "0", "compute_capability": null, "multiprocessors": 1, "clock_khz": 1_000_000 },
    });
    let path = folder.join("target/kbench/ceilings/fake-0.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_sealed(&path, &kept);
}

/// Writes a record with its checksum.
pub fn write_sealed(path: &Path, record: &serde_json::Value) {
    let text = record.to_string();
    let fields = text.strip_suffix('}').unwrap();
    let sum = kbench_runtime::fingerprint::of_bytes(fields.as_bytes());
    fs::write(path, format!("{fields},\"sum\":\"{}\"}}\n", &sum[..16])).unwrap();
}

/// Exit code, stdout and stderr of a run, without what differs from run to run.
pub fn shown(folder: &Path, args: &[&str]) -> String {
    let output = kbench(folder, args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let folder = folder.canonicalize().unwrap();
    format!("exit {}\n{}---\n{}", output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
        .replace(&*folder.to_string_lossy(), "[FOLDER]")
}

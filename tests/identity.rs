//! A result is filed under everything that it depends on: C kernels of a few lines, compiled and run.

use std::fs;
use std::path::Path;
use std::process::Output;

use model::kbench;
use serde_json::Value;

mod model;

/// The rest of the table of a kernel `void k(const float *x, float *y, int n)`.
const TABLE: &str = r#"args = ["x", "y", { scalar = "i32", value = "N" }]
reference = { source = "src/r.c", entry = "r" }
"#;

/// A right kernel for this table.
const DOUBLES: &str = "void k(const float *x, float *y, int n) { for (int i = 0; i < n; i++) y[i] = 2 * x[i]; }\n";

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

fn write_script(path: &Path, command: &str) {
    fs::write(path, format!("#!/bin/sh\n{command}\n")).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
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

/// The toggles of the best variant that a file names, or `None` where there is no file.
fn winner(elite: &Path) -> Option<String> {
    let elite: Value = serde_json::from_slice(&fs::read(elite).ok()?).unwrap();
    Some(elite["kernels"][0]["elite"][0]["toggles"]["A"].to_string())
}

fn tune(folder: &Path, more: &[&str]) -> Output {
    kbench(folder, &[&["autotune", "--iters", "10"], more].concat()).output().unwrap()
}

#[test]
fn projects_with_one_target_directory_share_no_results() {
    let shared = tempfile::tempdir().unwrap();
    let target = shared.path().join("target");
    // The same names, but other times.
    let a = model::package_with("time_ns = \"20000 - 1000 * A\"", "");
    let b = model::package_with("time_ns = \"20000 + 1000 * A\"", "");
    for (project, winner_is) in [(&a, "3"), (&b, "0"), (&a, "3")] {
        let output = kbench(project.path(), &["autotune", "--iters", "10"]).env("CARGO_TARGET_DIR", &target).output();
        assert_eq!(code(&output.unwrap()), 0);
        assert_eq!(winner(&project.path().join("elite.json")).as_deref(), Some(winner_is));
    }
    assert_eq!(winner(&shared.path().join("elite.json")), None, "such a folder belongs to no project alone");
    let journals = fs::read_dir(target.join("kbench/projects")).unwrap().count();
    assert_eq!(journals, 2);
}

#[test]
fn elite_json_is_the_same_file_for_every_target_directory() {
    let package = model::package_with(model::MODEL, "");
    let folder = package.path();
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().join("t");
    for target in ["target", "own", outside.to_str().unwrap()] {
        assert_eq!(code(&tune(folder, &["--target-dir", target])), 0);
        assert!(folder.join(target).join("kbench").is_dir());
        assert!(winner(&folder.join("elite.json")).is_some());
        fs::remove_file(folder.join("elite.json")).unwrap();
    }
    assert!(!folder.join("elite.json.lock").exists());
    // In a folder of the workspace it lies beside, as the target directory's own.
    assert_eq!(code(&tune(folder, &["--target-dir", "build/target"])), 0);
    assert!(folder.join("build/elite.json").exists());
}

#[test]
fn a_linked_elite_file_stays_linked() {
    let package = model::package_with(model::MODEL, "");
    let folder = package.path();
    fs::create_dir(folder.join("results")).unwrap();
    std::os::unix::fs::symlink("results/mine.json", folder.join("elite.json")).unwrap();
    for _ in 0..2 {
        assert_eq!(code(&tune(folder, &[])), 0);
    }
    assert!(fs::symlink_metadata(folder.join("elite.json")).unwrap().is_symlink());
    assert!(winner(&folder.join("results/mine.json")).is_some());
    assert_eq!(fs::read_dir(folder.join("results")).unwrap().count(), 1, "neither lock nor temporary file is left");
}

#[test]
fn whether_results_can_be_kept_is_known_before_the_search() {
    let package = model::package_with(model::MODEL, "");
    let folder = package.path();
    std::os::unix::fs::symlink("no-folder/elite.json", folder.join("elite.json")).unwrap();
    let output = tune(folder, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), 2, "{said}");
    assert!(said.contains("could not be kept") && said.contains("no-folder/elite.json"), "{said}");
    assert!(!said.contains("Evaluated") && output.stdout.is_empty(), "{said}");
}

#[test]
fn a_result_that_could_not_be_written_is_reported() {
    let table = "[package.metadata.kbench.kernels.model.search]\nproposer = [\"sh\", \"spoil.sh\"]\n";
    let package = model::package_with(model::MODEL, table);
    let folder = package.path();
    write(folder, "spoil.sh", "echo '{' > elite.json; exit 1\n");
    let output = tune(folder, &[]);
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_ne!(code(&output), 0);
    assert!(told.contains("Winner"), "{told}\n{said}");
    assert!(said.contains("elite.json") && said.contains("move it away"), "{said}");
    assert_eq!(fs::read_to_string(folder.join("elite.json")).unwrap(), "{\n", "it is not overwritten");
}

#[test]
fn an_infinite_speedup_is_read_by_the_next_run() {
    let package = model::package_with("time_ns = \"(A == 1) * 1e-320 + (A != 1) * 20000\"", "");
    for _ in 0..2 {
        let output = tune(package.path(), &[]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("elite.json:"), "{output:?}");
    }
}

#[test]
fn a_changed_compiler_script_compiles_again() {
    let source = "#ifndef TWO\n#define TWO 2\n#endif\n\
                  void k(const float *x, float *y, int n) { for (int i = 0; i < n; i++) y[i] = TWO * x[i]; }\n";
    let package = package(TABLE, source);
    let folder = package.path();
    let compiler = folder.join("mycc");
    let gate = |flag: &str| {
        write_script(&compiler, &format!("exec cc {flag} \"$@\""));
        code(&kbench(folder, &["gate"]).env("CC", &compiler).output().unwrap())
    };
    assert_eq!([gate("-DTWO=2"), gate("-DTWO=3"), gate("-DTWO=2")], [0, 1, 0]);
    // Also behind another program.
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let gate = |flag: &str| {
        write_script(&compiler, &format!("exec cc {flag} \"$@\""));
        kbench(folder, &["gate"]).env("CC", "nice mycc").env("PATH", &path).output().unwrap()
    };
    let first = gate("-DTWO=2");
    assert_eq!([code(&first), code(&gate("-DTWO=3"))], [0, 1]);
    let said = String::from_utf8_lossy(&first.stdout);
    assert!(!said.contains("nice"), "the version is the compiler's: {said}");
}

#[test]
fn a_search_ends_in_time_where_compilers_hang() {
    let source = DOUBLES.replace("2 *", "FACTOR *");
    let toggles = "toggles = { macro = { FACTOR = [2, 3, 4, 5] }, default = { FACTOR = 2 } }";
    // On the tool's own worker, and on one of a pool.
    for runner in ["", "runner = ['env']"] {
        let package = package(&format!("{TABLE}{toggles}\n{runner}"), &source);
        let compiler = package.path().join("mycc");
        write_script(&compiler, "case \"$*\" in *FACTOR=[345]*) exec sleep 1000 ;; esac\nexec cc \"$@\"");
        let output = kbench(package.path(), &["autotune", "--seconds", "1"]).env("CC", &compiler).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(code(&output) == 0 && said.contains("Winner FACTOR=2"), "{runner}: {output:?}");
    }
}

#[test]
fn a_compiler_that_writes_nothing_is_named() {
    let package = package(TABLE, DOUBLES);
    let compiler = package.path().join("mycc");
    write_script(&compiler, "case \"$*\" in *--version*) echo mine 1.0 ;; esac");
    let output = kbench(package.path(), &["gate"]).env("CC", &compiler).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("mycc` ended without an error and wrote no `kernel.o`"), "{said}");
    assert_ne!(code(&output), 0);
}

#[test]
fn a_package_may_lie_in_a_folder_of_any_name() {
    let package = package(TABLE, DOUBLES);
    let folder = package.path().join("a  b, c=@d %n $e #f");
    fs::create_dir(&folder).unwrap();
    for name in ["Cargo.toml", "src"] {
        fs::rename(package.path().join(name), folder.join(name)).unwrap();
    }
    let output = kbench(&folder, &["gate"]).output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
}

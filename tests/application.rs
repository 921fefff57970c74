//! `objective = { command = […] }`: a program of the user launches the exported variant and prints the number that decides.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use model::kbench;

mod model;

const MANIFEST: &str = r#"
[package]
name = "engine"
version = "0.0.0"
edition = "2024"

[workspace]

[package.metadata.kbench.kernels.scale]
backend = "c"
source = "scale.c"
entry = "scale"
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes.only = { N = 64 }
tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
toggles.macro = { UNROLL = [1, 2, 4, 8] }
reference = { source = "reference.c", entry = "scale" }
timing = { warmup = 1, iterations = 10, max_seconds = 0.05 }
search = { strategy = "exhaustive", elite = 1, objective = { command = ["sh", "engine.sh"], lang = "c", better = "higher" } }
"#;

const SCALE: &str =
    "void scale(const float *x, float *y, int n) { for (int i = 0; i < n; i++) y[i] = UNROLL * x[i] / UNROLL; }\n";

const REFERENCE: &str = "void scale(const double *x, double *y, int n) { for (int i = 0; i < n; i++) y[i] = x[i]; }\n";

/// Compiles the engine with what was exported if that is new, then runs it: more is better, and most with `UNROLL` 4. With 8 it fails.
const ENGINE: &str = r#"
if ! test program -nt include/kbench/kbench.h || test "$(cat built 2>/dev/null)" != "$(cksum < include/kbench/kbench.h)"; then
    sh include/kbench/build.sh out && cc -o program engine.c out/libkbench.a -lm && cksum < include/kbench/kbench.h > built || exit 7
fi
echo run >> runs
./program
"#;

const PROGRAM: &str = r#"
#include <stdio.h>
#include "include/kbench/kbench.h"

int main(void)
{
    const scale_dims dims = {64};
    scale_kernel kernel;
    kbench_choice choice;
    float x[64], y[64] = {0};
    int i, unroll = SCALE_V0_UNROLL;
    if (scale_load(&kernel) != 0 || scale_pick(&kernel, dims, &choice) != 0) return 1;
#ifdef SCALE_V1_UNROLL
    if (choice.variant == 1) unroll = SCALE_V1_UNROLL;
#endif
    for (i = 0; i < 64; i++) x[i] = (float)i;
    if (scale_launch(&kernel, dims, x, y) != 0 || y[63] != 63) return 2;
    if (unroll == 8) { fprintf(stderr, "the engine has no memory left\n"); return 3; }
    printf("unrolled by %d\n%s\n", unroll, unroll == 4 ? "200" : unroll == 2 ? "80" : "100");
    return 0;
}
"#;

fn package(manifest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    let files = [
        ("Cargo.toml", manifest),
        ("scale.c", SCALE),
        ("reference.c", REFERENCE),
        ("engine.sh", ENGINE),
        ("engine.c", PROGRAM),
        ("src/main.rs", "fn main() {}\n"),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn run(package: &Path, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = kbench(package, args).output().unwrap();
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn winner(package: &Path) -> serde_json::Value {
    let elite: serde_json::Value = serde_json::from_slice(&fs::read(package.join("elite.json")).unwrap()).unwrap();
    elite["kernels"][0]["elite"][0].clone()
}

#[test]
fn the_variant_wins_with_which_the_program_prints_the_best_number() {
    let folder = package(MANIFEST);
    let (code, shown) = run(folder.path(), &["autotune"]);
    assert_eq!(code, Some(0), "{shown}");
    let winner = winner(folder.path());
    assert_eq!(winner["toggles"]["UNROLL"], 4, "{shown}");
    let value = &winner["objectives"][0];
    assert_eq!(value["name"], "command", "{shown}");
    assert!((value["value"].as_f64().unwrap() - 0.5).abs() < 1e-9, "{shown}");
    assert!(shown.contains("costs 0.500 of the default (0.500 to 0.500) by the program of `objective`"), "{shown}");
    // A variant with which the program fails is out, in the program's own words.
    assert!(shown.contains("performance/exited") && shown.contains("the engine has no memory left"), "{shown}");
    let (_, shown) = run(folder.path(), &["show", "UNROLL=4"]);
    assert!(shown.contains("median 200 with the variant and 100 with the default"), "{shown}");
    // The package is as it was: it had no export.
    assert!(!folder.path().join("include/kbench").exists());
}

#[test]
fn a_former_export_is_restored_after_the_search() {
    let folder = package(MANIFEST);
    let (code, shown) = run(folder.path(), &["export", "--lang", "c"]);
    assert_eq!(code, Some(0), "{shown}");
    let header = folder.path().join("include/kbench/kbench.h");
    let before = fs::read(&header).unwrap();
    assert_eq!(run(folder.path(), &["autotune"]).0, Some(0));
    assert_eq!(fs::read(&header).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path().join("include/kbench")).unwrap().count(), 3);
}

#[test]
fn an_earlier_runs_number_is_measured_again() {
    let folder = package(MANIFEST);
    assert_eq!(run(folder.path(), &["autotune"]).0, Some(0));
    fs::write(folder.path().join("engine.c"), PROGRAM.replace("unroll == 2 ? \"80\"", "unroll == 2 ? \"400\""))
        .unwrap();
    fs::remove_file(folder.path().join("built")).unwrap();
    let (code, shown) = run(folder.path(), &["autotune"]);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(winner(folder.path())["toggles"]["UNROLL"], 2, "{shown}");
}

#[test]
fn a_program_that_gives_no_number_with_the_default_ends_the_run() {
    for (engine, word) in [("exit 5", "exited with status 5"), ("echo fast", "`fast`"), ("echo 0", "above 0")] {
        let folder = package(MANIFEST);
        fs::write(folder.path().join("engine.sh"), engine).unwrap();
        let (code, shown) = run(folder.path(), &["autotune"]);
        assert!(code == Some(2) && shown.contains("with the default variant") && shown.contains(word), "{shown}");
        assert!(!folder.path().join("include/kbench").exists());
    }
}

#[test]
fn flags_that_a_program_cannot_serve_are_refused() {
    let folder = package(MANIFEST);
    for flags in [&["--per-shape"][..], &["--repeat", "2"], &["--workers", "2"]] {
        let (code, shown) = run(folder.path(), &[&["autotune"], flags].concat());
        assert!(code == Some(2) && shown.contains("program"), "{flags:?}: {shown}");
    }
    let (code, shown) = run(folder.path(), &["check"]);
    assert!(code == Some(0) && shown.contains("the number of `sh engine.sh`, higher is better"), "{shown}");
}

#[test]
fn a_killed_run_loses_no_export() {
    let slow = MANIFEST.replace("\"sh\", \"engine.sh\"", "\"sh\", \"-c\", \"touch started; sleep 60\"");
    let folder = package(&slow);
    assert_eq!(run(folder.path(), &["export", "--lang", "c"]).0, Some(0));
    let header = folder.path().join("include/kbench/kbench.h");
    let before = fs::read(&header).unwrap();
    let mut child: std::process::Child = kbench(folder.path(), &["autotune", "-q"]).spawn().unwrap();
    while !folder.path().join("started").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(folder.path().join("target/kbench/export-before").exists());
    let fixed = MANIFEST.to_owned();
    fs::write(folder.path().join("Cargo.toml"), fixed).unwrap();
    assert_eq!(run(folder.path(), &["autotune", "-q"]).0, Some(0));
    assert_eq!(fs::read(&header).unwrap(), before);
    let _ = Command::new("pkill").args(["-f", "touch started; sleep 60"]).status();
}

//! `cargo kbench audit`: on a kernel in C, with tolerances that see every mutant and with some that do not, and on the model
//! device.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use model::{kbench, package_with, shown};
use serde_json::Value;

mod model;

/// Sums of products over tiles: whatever is left out shows in every element, but only as a part of it.
const KERNEL: &str = r"
#include <stdint.h>

void correlate(const float *x, float *y, int32_t n, int32_t tiles)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = 0;
    for (int32_t tile = 0; tile < tiles; tile++)
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < TILE; j++)
                y[i] += x[tile * TILE + j] * x[(i + tile * TILE + j) % n];
}
";

const REFERENCE: &str = r"
#include <stdint.h>

void reference(const double *x, double *y, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = 0;
        for (int32_t j = 0; j < n; j++)
            y[i] += x[j] * x[(i + j) % n];
    }
}
";

const MANIFEST: &str = r#"
[package]
name = "correlate"
version = "0.0.0"
edition = "2024"

[workspace]

[package.metadata.kbench.kernels.correlate]
backend = "c"
source = "kernel.c"
entry = "correlate"
args = ["x", "y", { scalar = "i32", value = "N" }, { scalar = "i32", value = "N / TILE" }]
shapes = { small = { N = 128 }, large = { N = 512 } }
toggles.macro = { TILE = [16, 32] }
timing = { warmup = 1, iterations = 10, cache = "hot" }

[package.metadata.kbench.kernels.correlate.tensors]
x = { dtype = "f32", dims = ["N"] }
y = { dtype = "f32", dims = ["N"], role = "out" }

[package.metadata.kbench.kernels.correlate.reference]
backend = "c"
source = "reference.c"
entry = "reference"
args = ["x", "y", { scalar = "i32", value = "N" }]

[package.metadata.kbench.kernels.correlate.gates]
"#;

fn package(correctness: &str) -> tempfile::TempDir {
    package_of(KERNEL, correctness)
}

fn package_of(kernel: &str, correctness: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("Cargo.toml", &format!("{MANIFEST}correctness = {{ {correctness} }}\n"));
    write("kernel.c", kernel);
    write("reference.c", REFERENCE);
    fs::create_dir(folder.path().join("src")).unwrap();
    write("src/lib.rs", "");
    folder
}

/// Exit code and messages by the names of mutants, and the last message.
fn audited(folder: &Path) -> (i32, BTreeMap<String, Value>, Value) {
    let output = kbench(folder, &["audit", "--message-format", "json"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = messages.pop().unwrap_or_else(|| panic!("no message: {stderr}"));
    let by_name = messages.into_iter().map(|message| (message["name"].as_str().unwrap().to_owned(), message));
    (output.status.code().unwrap(), by_name.collect(), last)
}

fn of_status(mutants: &BTreeMap<String, Value>, status: &str) -> Vec<String> {
    mutants.iter().filter(|(_, mutant)| mutant["fate"]["status"] == status).map(|(name, _)| name.clone()).collect()
}

#[test]
fn tight_tolerances_kill_every_mutant() {
    let package = package("max_abs_err = 1e-3, max_mean_err = 1e-4, max_rms_err = 1e-5, max_bias = 1e-5, seeds = 2");
    // Error sizes are the machine's.
    insta::with_settings!({ filters => [(r"\d\.\d\de-\d+", "[ERROR]")] }, {
        insta::assert_snapshot!(shown(package.path(), &["audit", "-q"]));
    });
    let sources = package.path().join("target/kbench/audit/correlate-correlate");
    assert_eq!(fs::read_dir(sources).unwrap().count(), 1, "changed sources can be read");
}

#[test]
fn loose_tolerances_let_mutants_survive_and_the_advice_kills_them() {
    let loose = package("max_abs_err = 1e4, seeds = 2");
    let (exit, mutants, last) = audited(loose.path());
    assert_eq!((exit, &last["reason"]), (1, &Value::from("audited")));
    let survivors = ["constant-mean", "constant-zero", "dropped-tile:8"];
    assert_eq!(of_status(&mutants, "survived"), survivors);
    assert_eq!(last["mutants"]["survived"], 3);
    let advice = mutants["dropped-tile:8"]["fate"]["advice"][0].as_str().unwrap();
    assert!(advice.starts_with("max_rms_err = ") && advice.ends_with("(not limited now)"), "{advice}");
    // One limit for all of them, to be pasted into the table.
    let shown = shown(loose.path(), &["audit", "-q"]);
    let (_, help) = shown.split_once("help: `").unwrap_or_else(|| panic!("{shown}"));
    let (limit, rest) = help.split_once('`').unwrap();
    assert!(limit.starts_with("max_") && rest.starts_with(" would have killed 3 of the survivors"), "{help}");

    let advised = package(&format!("{limit}, seeds = 2"));
    let (exit, mutants, last) = audited(advised.path());
    assert_eq!((exit, of_status(&mutants, "survived")), (0, vec![]), "{last}");
    assert_eq!(mutants["dropped-tile:8"]["fate"]["rejection"]["code"], "wrong");
}

#[test]
fn new_inputs_show_a_remembered_result_where_one_seed_does_not() {
    let package = package("max_rms_err = 1e-5, seeds = 1, patterns = []");
    let (exit, mutants, _) = audited(package.path());
    assert_eq!((exit, of_status(&mutants, "survived")), (0, vec![]));
}

/// A wait for nobody, and a loop over tiles that never ends where it has no step left. The volatile keeps the wait in the code.
const WAITS: &str = r"
#include <stdint.h>

static volatile int arrived;

static void everyone_wait(void) { arrived++; }

void correlate(const float *x, float *y, int32_t n, int32_t tiles)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = 0;
    everyone_wait();
    volatile int32_t blocks = 1;
    int32_t tile = 0;
    while (tile < tiles)
        for (int32_t block = 0; block < blocks; block++, tile++)
            for (int32_t i = 0; i < n; i++)
                for (int32_t j = 0; j < TILE; j++)
                    y[i] += x[tile * TILE + j] * x[(i + tile * TILE + j) % n];
}
";

#[test]
fn a_barrier_without_effect_survives_and_a_hang_costs_one_mutant() {
    let package = package_of(WAITS, "max_rms_err = 1e-5, seeds = 2");
    let (exit, mutants, last) = audited(package.path());
    assert_eq!((exit, of_status(&mutants, "survived")), (1, vec!["dropped-barrier:12".to_owned()]));
    let advice = mutants["dropped-barrier:12"]["fate"]["advice"].to_string();
    assert!(advice.contains("no sanitizer here sees races"), "{advice}");
    assert_eq!(mutants["dropped-tile:16"]["fate"]["rejection"]["code"], "hang");
    // The table gives a launch 30 s.
    assert!(last["deadline"].as_u64().unwrap() < 30, "{last}");
}

#[test]
fn code_that_is_not_compiled_in_and_loops_that_lose_nothing_are_no_fault() {
    let unused = "for (int32_t i = 0; i < n; i++)\n        y[i] = 0;\n#if TILE == 0\n    __syncthreads();\n#endif\n    \
                  for (int32_t i = 0; i < n; i += TILE)\n        y[i] = 0;";
    let kernel = KERNEL.replacen("for (int32_t i = 0; i < n; i++)\n        y[i] = 0;", unused, 1);
    assert_ne!(kernel, KERNEL);
    let package = package_of(&kernel, "max_rms_err = 1e-5, seeds = 2");
    let (exit, mutants, last) = audited(package.path());
    assert_eq!((exit, of_status(&mutants, "equivalent")), (0, vec!["dropped-tile:11".to_owned()]));
    assert!(last["absent"].to_string().contains("1 change of the source left the machine code as it was"), "{last}");
}

#[test]
fn a_gate_that_only_warns_kills_nothing() {
    let package = package("level = \"warn\", max_rms_err = 1e-5, seeds = 2");
    let (exit, mutants, _) = audited(package.path());
    assert_eq!(exit, 1);
    let advice = mutants["no-op"]["fate"]["advice"].to_string();
    assert!(advice.contains("at level `warn`") && advice.contains("correctness/unwritten"), "{advice}");
}

#[test]
fn a_kernel_that_is_wrong_itself_is_not_audited() {
    let package = package("max_abs_err = 0, max_rms_err = 0, seeds = 1");
    let shown = shown(package.path(), &["audit", "-q"]);
    assert!(shown.starts_with("exit 1\n---\nerror: correlate does not pass its own gates"), "{shown}");
    assert!(shown.contains("correctness/wrong"), "{shown}");
}

#[test]
fn constant_outputs_are_reported_by_the_audit() {
    let zeros = |scalar: &str, name: &str, more: &str| {
        let signature = format!("void {name}(const {scalar} *x, {scalar} *y, int32_t n{more})");
        format!(
            "#include <stdint.h>\n\n{signature}\n{{\n    (void)x;\n    for (int32_t i = 0; i < n; i++)\n        y[i] = 0;\n}}\n"
        )
    };
    let kernel = zeros("float", "correlate", ", int32_t tiles").replace("(void)x;", "(void)x, (void)tiles;");
    let package = package_of(&kernel, "seeds = 2");
    fs::write(package.path().join("reference.c"), zeros("double", "reference", "")).unwrap();
    let (exit, mutants, last) = audited(package.path());
    let survivors = of_status(&mutants, "survived");
    // Constants, and what is remembered, are right.
    let expected = ["constant-mean", "constant-zero", "stale-output"];
    assert!(exit == 1 && expected.iter().all(|name| survivors.iter().any(|survivor| survivor == name)), "{last}");
}

#[test]
fn a_model_has_no_mutants_of_values() {
    let package = package_with("time_ns = \"1000\"", "");
    insta::assert_snapshot!(shown(package.path(), &["audit"]));
}

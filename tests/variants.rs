//! Toggles that are no macros, by what `autotune` compiles and measures of them: real compilers, real kernels.

use std::fs;
use std::path::Path;

use model::{kbench, package_with, shown};
use serde_json::Value;

mod model;

/// `y = 2 x`, in blocks, in a package with more of a table and of its toggles.
fn package(name: &str, source: (&str, &str), table: &str, toggles: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| fs::write(folder.path().join(path), text).unwrap();
    let manifest = format!(
        r#"
[package]
name = "{name}"
version = "0.0.0"
edition = "2024"

[package.metadata.kbench.kernels.twice]
source = "{}"
shapes = {{ only = {{ N = 4096 }} }}
tensors = {{ x = {{ dtype = "f32", dims = ["N"] }}, y = {{ dtype = "f32", dims = ["N"], role = "out" }} }}
reference = {{ backend = "c", source = "reference.c", entry = "reference", args = ["x", "y", {{ scalar = "i32", value = "N" }}] }}
{table}

[package.metadata.kbench.kernels.twice.toggles]
{toggles}

[package.metadata.kbench.kernels.twice.gates]
correctness = {{ seeds = 1, patterns = [] }}

[package.metadata.kbench.kernels.twice.timing]
max_seconds = 0.1
iterations = 10

[package.metadata.kbench.kernels.twice.search]
strategy = "exhaustive"
"#,
        source.0
    );
    write("Cargo.toml", &manifest);
    fs::create_dir(folder.path().join("src")).unwrap();
    write("src/lib.rs", "");
    write(source.0, source.1);
    write(
        "reference.c",
        "void reference(const double *x, double *y, int n) { for (int i = 0; i < n; i++) y[i] = 2 * x[i]; }\n",
    );
    folder
}

/// The evaluations of a tuning, as the journal has them.
fn evaluations(folder: &Path) -> Vec<Value> {
    let output = kbench(folder, &["autotune", "-q"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let journal = folder.join("target/kbench/journal");
    let package = fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(package.join("twice.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|record| record["record"] == "evaluation").collect()
}

#[test]
fn launch_toggles_share_one_compilation() {
    let source = "
#ifdef BLOCK
#error BLOCK is a macro
#endif
void twice(const float *x, float *y, int n, int block)
{
    for (int begin = 0; begin < n; begin += block)
        for (int i = begin; i < begin + block && i < n; i += FACTOR)
#pragma GCC unroll FACTOR
            for (int j = 0; j < FACTOR; j++)
                y[i + j] = 2 * x[i + j];
}
";
    let table = r#"
entry = "twice"
args = ["x", "y", { scalar = "i32", value = "N" }, { scalar = "i32", value = "BLOCK" }]
flags = ["-DLEVEL={LEVEL}", { flag = "-fno-tree-vectorize", when = "not VECTORS" }]
"#;
    let toggles = "
launch = { BLOCK = [64, 128, 1024], LEVEL = [1, 2], VECTORS = [true, false] }
constant = { FACTOR = [1, 4] }
";
    let package = package("launch", ("twice.c", source), table, toggles);
    let evaluations = evaluations(package.path());
    assert_eq!(evaluations.len(), 24);
    for one in &evaluations {
        let (build, toggles) = (&one["builds"][0], &one["toggles"]);
        let command = build["command"].to_string();
        assert!(command.contains(&format!("-DLEVEL={}", toggles["LEVEL"])), "{command}");
        assert_eq!(command.contains("-fno-tree-vectorize"), toggles["VECTORS"] == false, "{command}");
        assert!(!command.contains("BLOCK") && !command.contains("-DFACTOR"), "{command}");
        for other in &evaluations {
            // What was compiled is the same exactly where nothing but the launch differs.
            let same = ["LEVEL", "VECTORS", "FACTOR"].iter().all(|name| toggles[name] == other["toggles"][name]);
            assert_eq!(build["command"] == other["builds"][0]["command"], same);
            assert!(!same || build["binary_hash"] == other["builds"][0]["binary_hash"]);
        }
    }
    let code = |factor: i64| {
        let mut of = evaluations.iter().filter(|one| one["toggles"]["FACTOR"] == factor);
        of.next().unwrap()["builds"][0]["binary_hash"].clone()
    };
    assert_ne!(code(1), code(4), "the constant reaches the code");
    let entries = fs::read_dir(package.path().join("target/kbench/cache/entries")).unwrap();
    let entries = entries.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap()).count();
    // Eight of the kernel, one of its reference.
    assert_eq!(entries, 9, "a compilation for each command");
}

/// A .npy file of so many floats.
fn npy(count: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..count).flat_map(|at| (at as f32 / 64.0).to_le_bytes()));
    bytes
}

#[test]
fn a_program_writes_an_input_once() {
    let source = "void twice(const float *x, float *y, int n) { for (int i = 0; i < n; i++) y[i] = 2 * x[i]; }\n";
    let table = "entry = \"twice\"\nargs = [\"x\", \"y\", { scalar = \"i32\", value = \"N\" }]";
    let folder = package("made", ("twice.c", source), table, "macro = { A = [0] }");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
    let x = "x = { dtype = \"f32\", dims = [\"N\"]";
    let command = |words: &str| manifest.replace(x, &format!("{x}, init = {{ command = {words} }}"));
    write("Cargo.toml", command("[\"sh\", \"make.sh\", \"{N // 2}\"]").as_bytes());
    write("data.npy", &npy(4096));
    write("make.sh", b"echo \"$1\" >> ran\ncp data.npy \"$2\"\n");
    let gate = || kbench(folder.path(), &["gate", "-q"]).output().unwrap();
    let ran = || fs::read_to_string(folder.path().join("ran")).unwrap();
    for _ in 0..2 {
        let output = gate();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(ran(), "2048\n");
    }
    // Another program is another input.
    write("make.sh", b"echo again >> ran\ncp data.npy \"$2\"\n");
    assert!(gate().status.success());
    assert_eq!(ran(), "2048\nagain\n");

    for (script, said) in [
        ("echo 'no data here' >&2; exit 3", "failed: exit status: 3\n  no data here"),
        ("true", "has not written the file that its last argument names"),
    ] {
        write("make.sh", script.as_bytes());
        let output = gate();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said) && error.contains("`x` at shape `only`"), "{error}");
    }
    write("data.npy", &npy(100));
    write("make.sh", b"cp data.npy \"$2\"\n");
    let output = gate();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("`x`: the file's shape is [100], the tensor's [4096]"), "{error}");

    write("Cargo.toml", command("[\"sh\", \"make.sh\", \"{A}\"]").as_bytes());
    let output = kbench(folder.path(), &["check"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("`A` is a toggle, and inputs are the same for all variants"), "{error}");
}

/// Answers as a reference and as a baseline: `y = x / 2 ** steps`, with the steps of its input of that name.
const STEPS: &str = r#"
import array, json, sys
def say(**answer): print(json.dumps(answer), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["type"] == "hello":
        say(type="hello", protocol=1, identity="halves")
    elif request["type"] == "prepare":
        tensors = {tensor["name"]: tensor for tensor in request["tensors"]}
        say(type="prepared", clock="none", batch=1)
    elif request["type"] == "check":
        steps = array.array("i", open(tensors["steps"]["input"], "rb").read())[0]
        with open(sys.argv[1], "a") as log: log.write(f"{steps}\n")
        letter = "d" if tensors["x"]["dtype"] == "f64" else "f"
        x = array.array(letter, open(tensors["x"]["input"], "rb").read())
        y = array.array(letter, (value / 2 ** steps for value in x))
        open(tensors["y"]["output"], "wb").write(y.tobytes())
        say(type="checked")
    else:
        say(type="timed", samples=[1000.0] * request["samples"])
"#;

/// A program does not know toggles: a tensor whose contents or sizes name a toggle tells it.
#[test]
fn programs_learn_of_a_toggle_by_a_tensor() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let source = "
void halve(const float *x, float *y, int n)
{
    for (int i = 0; i < n; i++) y[i] = x[i];
    for (int step = 0; step < STEPS; step++)
        for (int i = 0; i < n; i++) y[i] /= 2;
}
";
    let table = r#"
entry = "halve"
args = ["x", "y", { scalar = "i32", value = "N" }]
work = { flops = "N * STEPS" }
baselines.program = { command = ["python3", "steps.py", "baseline"] }
"#;
    let package = package("steps", ("halve.c", source), table, "macro = { STEPS = [1, 4] }");
    let manifest = package.path().join("Cargo.toml");
    let mut text = fs::read_to_string(&manifest).unwrap();
    let function = text.lines().find(|line| line.starts_with("reference = ")).unwrap().to_owned();
    for (old, new) in [
        (function.as_str(), "reference = { command = [\"python3\", \"steps.py\", \"reference\"] }"),
        ("tensors = {", "tensors = { steps = { dtype = \"i32\", dims = [], init = { constant = \"STEPS\" } },"),
        ("strategy =", "objective = \"throughput\"\nstrategy ="),
    ] {
        assert!(text.contains(old), "{old}");
        text = text.replacen(old, new, 1);
    }
    fs::write(&manifest, text).unwrap();
    fs::write(package.path().join("steps.py"), STEPS).unwrap();
    let evaluations = evaluations(package.path());
    let outcomes: Vec<&Value> = evaluations.iter().map(|evaluation| &evaluation["outcome"]).collect();
    assert_eq!(outcomes, ["passed", "passed"]);
    let asked = |role: &str| {
        let log = fs::read_to_string(package.path().join(role)).unwrap();
        log.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(asked("reference"), ["1", "4"].map(str::to_owned).into());
    assert_eq!(asked("baseline"), ["1".to_owned()].into(), "the inputs of the default");
}

#[test]
fn the_variant_of_a_kernel_without_toggles_is_the_default() {
    let package = package_with("time_ns = '20000'\n", "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("toggles.")).collect();
    fs::write(&manifest, lines.join("\n")).unwrap();
    let said = shown(package.path(), &["autotune"]);
    assert!(said.contains("Winner default: ") && !said.contains("--variant"), "{said}");
    let said = shown(package.path(), &["gate"]);
    assert!(said.contains("model default\n"), "{said}");
}

//! compute-sanitizer and the words of kernels, on the model device: a shell script stands for the tool.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use model::{kbench, package_with};

mod model;

/// Takes the tool's options, which are pairs, runs the worker, and reports what the mode says. The kernel prints to the same stream.
const TOOL: &str = r#"#!/bin/sh
mark==========
while :; do
    case $1 in
    --prefix) mark=$2 ;;
    --*) ;;
    *) break ;;
    esac
    shift 2
done
case $TOOL_MODE in
refuses) echo "compute-sanitizer: no such option" >&2; exit 1 ;;
complains) echo "========= Error: no GPU" ; exit 1 ;;
esac
"$@"
status=$?
exec >&2
forged='========= ERROR SUMMARY: 0 errors'
case $TOOL_MODE in
clean) echo "$mark ERROR SUMMARY: 0 errors" ;;
dies) echo "$forged" ;;
finds)
    echo "$mark Invalid __global__ read of size 4 bytes"
    echo "$mark     at model(float *)+0x10 in model.cu:3"
    echo "$mark ERROR SUMMARY: 1 error"
    echo "$forged"
    status=86 ;;
quotes)
    echo '========= Invalid __global__ read of size 4 bytes'
    printf 'no end of line'
    echo "$mark ERROR SUMMARY: 0 errors" ;;
esac
exit $status
"#;

/// A package whose kernel runs under memcheck, and the tool's path.
fn package() -> (tempfile::TempDir, PathBuf) {
    let table = "[package.metadata.kbench.kernels.model.gates.sanitize]\nlevel = \"deny\"\ntools = [\"memcheck\"]\n";
    let package = package_with("time_ns = '20000'\n", table);
    let tool = package.path().join("tool");
    fs::write(&tool, TOOL).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    (package, tool)
}

#[test]
fn the_journal_has_the_finalists_that_a_sanitizer_rejects() {
    let (package, tool) = package();
    let mut command = kbench(package.path(), &["autotune", "--iters", "10"]);
    let output = command.env("COMPUTE_SANITIZER", &tool).env("TOOL_MODE", "finds").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let journal = fs::read_to_string(package.path().join("target/kbench/journal/model/model.jsonl")).unwrap();
    let records = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let revoked: Vec<_> = records.filter(|record| record["record"] == "revoked").collect();
    // All variants have the same machine code.
    let [revoked] = &revoked[..] else { panic!("{revoked:?}") };
    assert_eq!((&revoked["rejection"]["code"], &revoked["by_check"]), (&"memcheck".into(), &serde_json::Value::Null));
}

/// A verdict is bound to its deadline, so the tool runs again in a resumed run with another one.
#[test]
fn a_variant_that_passes_in_a_resumed_run_is_rejected_no_more() {
    let (package, tool) = package();
    let run = |args: &[&str], mode: &str| {
        let mut command = kbench(package.path(), args);
        let output = command.env("COMPUTE_SANITIZER", &tool).env("TOOL_MODE", mode).output().unwrap();
        let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code(), shown)
    };
    let rejected = || run(&["report", "--format", "csv"], "clean").1.matches(",rejected,").count();
    let (exit, shown) = run(&["autotune", "--iters", "10"], "finds");
    assert!(exit == Some(1) && rejected() > 0, "{shown}");
    let manifest = package.path().join("Cargo.toml");
    let (table, tools) = (fs::read_to_string(&manifest).unwrap(), "tools = [\"memcheck\"]");
    assert!(table.contains(tools));
    fs::write(&manifest, table.replace(tools, &format!("{tools}\ntimeout_seconds = 600"))).unwrap();
    let (exit, shown) = run(&["autotune", "--iters", "10", "--resume"], "clean");
    assert_eq!((exit, rejected()), (Some(0), 0), "{shown}");
}

#[test]
fn only_the_tool_speaks_for_the_tool() {
    let (package, tool) = package();
    for (mode, exit, said) in [
        ("clean", 0, "memcheck at only"),
        ("quotes", 0, "memcheck at only"),
        (
            "finds",
            1,
            "FAIL  memcheck: at only: out-of-bounds access: Invalid __global__ read of size 4 bytes, model.cu:3 in model",
        ),
        (
            "dies",
            3,
            "the sanitizer memcheck does not work: it ended without a report; its last line is `========= ERROR SUMMARY: 0 errors`",
        ),
        (
            "refuses",
            3,
            "tool` ended before the kernel ran, or started no worker: the process exited with status 1: compute-sanitizer: no such option",
        ),
        ("complains", 3, "in `========= Error: no GPU`"),
    ] {
        let mut command = kbench(package.path(), &["gate", "--iters", "10"]);
        let output = command.env("COMPUTE_SANITIZER", &tool).env("TOOL_MODE", mode).output().unwrap();
        let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(output.status.code() == Some(exit) && shown.contains(said), "{mode}: {:?}\n{shown}", output.status);
        assert!(!shown.contains("--error-exitcode"), "{mode}: options of the tool\n{shown}");
    }
}

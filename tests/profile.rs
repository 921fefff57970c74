//! `profile` and the counters gate, on the model device: a shell script stands for ncu, a file for measured ceilings.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use model::{kbench, keep_ceilings, package_with, write_sealed};
use serde_json::{Value, json};

mod model;

/// Takes ncu's options, runs the worker, and writes what the mode says to where ncu would.
const NCU: &str = r#"#!/bin/sh
echo "$@" >>"$NCU_CALLS"
while [ "$1" != --metrics ]; do
    [ "$1" = --log-file ] && log=$2
    shift
done
shift 2
"$@"
status=$?
case $NCU_MODE in
denied) echo '==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters' >"$log" ;;
none) echo '==WARNING== No kernels were profiled.' >"$log" ;;
# It writes nothing, and the kernel prints a table.
dies) printf '"ID","sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"\n"","%%"\n"0","99"\n' >&2 ;;
*)
    a=${NCU_MODE%,*} b=${NCU_MODE#*,}
    cat >"$log" <<CSV
==PROF== Connected to process 1
"ID","Kernel Name","dram__throughput.avg.pct_of_peak_sustained_elapsed","gpu__time_duration.sum","sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active"
"","","%","ns","%"
"0","model","$b","12,345","$a"
CSV
    ;;
esac
exit $status
"#;

const WORK: &str = "[package.metadata.kbench.kernels.model.work]\nflops = \"1000 * N\"\nbytes = \"400 * N\"\n";

fn gate(table: &str) -> String {
    format!("[package.metadata.kbench.kernels.model.gates.counters]\n{table}\n")
}

/// A package whose kernel takes 20 µs, with more of its table and ncu's stand-in.
fn package(table: &str) -> tempfile::TempDir {
    let package = package_with("time_ns = \"20000 - 1000 * A\"\nnoise = 0.0", table);
    let ncu = package.path().join("ncu");
    fs::write(&ncu, NCU).unwrap();
    fs::set_permissions(&ncu, fs::Permissions::from_mode(0o755)).unwrap();
    package
}

/// Ceilings of the model device: 10^11 operations a second (10^12 by tensor cores) and 10^10 bytes.
fn ceilings(folder: &Path) {
    let ceilings = json!([
        { "peak": "copy", "rate": 1e10, "how": "a file" },
        { "peak": "fp32", "rate": 1e11, "how": "a file" },
        { "peak": "tensor-f16", "rate": 1e12, "how": "a file" },
    ]);
    keep_ceilings(folder, &ceilings);
}

/// A run with ncu in a mode: `denied`, `none`, or percents of the tensor pipe and of DRAM.
fn run(folder: &Path, mode: &str, args: &[&str]) -> Output {
    let mut command = kbench(folder, args);
    command.env("NCU", folder.join("ncu")).env("NCU_MODE", mode).env("NCU_CALLS", folder.join("calls"));
    command.output().unwrap()
}

fn messages(folder: &Path, mode: &str, args: &[&str]) -> (i32, Vec<Value>) {
    let output = run(folder, mode, &[args, &["--message-format", "json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let messages = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))), messages)
}

fn find<'a>(messages: &'a [Value], reason: &str) -> &'a Value {
    messages.iter().find(|message| message["reason"] == reason).unwrap_or_else(|| panic!("{messages:#?}"))
}

/// Exit code, reason code and message of `gate`.
fn gated(table: &str, mode: &str, with_ceilings: bool) -> (i32, String, String) {
    let package = package(table);
    if with_ceilings {
        ceilings(package.path());
    }
    let (exit, messages) = messages(package.path(), mode, &["gate"]);
    let verdict = find(&messages, "verdict");
    let text = |key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
    (exit, format!("{}/{}", text("gate"), text("code")), text("message"))
}

#[test]
fn profile_prints_counters_roofline_limit_and_advice() {
    let package = package(WORK);
    ceilings(package.path());
    let output = run(package.path(), "62.5,12.5", &["profile", "--variant", "A=1"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!("profiled", String::from_utf8(output.stdout).unwrap());

    // One launch of this kernel, with clocks as they are, and the numbers asked for by full name.
    let calls = fs::read_to_string(package.path().join("calls")).unwrap();
    assert_eq!(calls.lines().count(), 1);
    for part in ["--clock-control none", "--kernel-name model", "--launch-count 1", "sm__warps_active.avg.pct_of"] {
        assert!(calls.contains(part), "no {part} in {calls}");
    }
}

#[test]
fn a_profiled_time_is_never_a_measured_one() {
    let package = package(WORK);
    let (exit, messages) = messages(package.path(), "62.5,12.5", &["profile"]);
    let profile = find(&messages, "profile");
    assert_eq!((exit, &profile["timing"]["summary"]["p50"]), (0, &20_000.0.into()));
    let metrics = profile["counters"]["metrics"].as_array().unwrap();
    let duration = metrics.iter().find(|metric| metric["name"] == "gpu__time_duration.sum").unwrap();
    assert_eq!((&duration["value"], &duration["unit"]), (&12_345.0.into(), &"ns".into()));
    // Nothing measures ceilings of a model.
    assert_eq!(profile["roofline"]["unavailable"], "fake has no measured ceilings");
    assert_eq!(
        (&profile["diagnosis"]["limiter"], &profile["diagnosis"]["by"]),
        (&"compute".into(), &"counters".into())
    );
}

#[test]
fn a_wrong_variant_is_not_profiled() {
    let package = package("");
    fs::write(package.path().join("model.toml"), "time_ns = \"1000\"\n[[fault]]\nkind = \"wrong\"\nwhen = \"A == 1\"")
        .unwrap();
    let (exit, messages) = messages(package.path(), "60,10", &["profile", "--variant", "A=1"]);
    let verdict = find(&messages, "verdict");
    assert_eq!((exit, &verdict["gate"], &verdict["code"]), (1, &"correctness".into(), &"wrong".into()));
    assert!(!package.path().join("calls").exists());
}

#[test]
fn the_gate_judges_counters() {
    assert_eq!(gated(&gate(""), "50,90", false).0, 0);
    assert_eq!(gated(&gate(""), "10,49", false).0, 0);
    let (exit, code, message) = gated(&gate(""), "10,80", false);
    assert_eq!((exit, code.as_str()), (1, "counters/unmet"));
    assert!(message.contains("it is 80.0") && message.contains("memory-bound"), "{message}");
    let (exit, code, _) = gated(&gate("all = ['dram__throughput < 50', 'gpu__time_duration < 12000']"), "10,10", false);
    assert_eq!((exit, code.as_str()), (1, "counters/unmet"));
    assert_eq!(gated(&gate("level = 'warn'"), "10,80", false).0, 0);
    let (exit, code, message) = gated(&gate("any = ['sm__nonsense > 1']"), "10,80", false);
    assert_eq!((exit, code.as_str()), (1, "counters/undecided"));
    assert!(message.contains("ncu does not know it on this device"), "{message}");
    let (exit, code, message) = gated(&gate(""), "dies", false);
    assert_eq!((exit, code.as_str()), (1, "counters/undecided"));
    assert!(message.contains("ncu wrote no numbers"), "{message}");
}

#[test]
fn without_permission_the_roofline_judges_where_it_can() {
    let (exit, code, message) = gated(&gate(""), "denied", false);
    assert_eq!((exit, code.as_str()), (1, "counters/undecided"));
    assert!(message.contains("ERR_NVGPUCTRPERM") && message.contains("`work` is not in the table"), "{message}");
    // 102400 bytes in 20 µs are 51.2 % of 10^10 bytes a second.
    let table = format!("{WORK}{}", gate("any = ['dram__throughput < 50']"));
    let (exit, code, message) = gated(&table, "denied", true);
    assert_eq!((exit, code.as_str()), (1, "counters/unmet"));
    assert!(message.contains("it is 51.2 by the roofline"), "{message}");
    let table = format!("{WORK}{}", gate("any = ['dram__throughput < 52']"));
    assert_eq!(gated(&table, "denied", true).0, 0);
    assert_eq!(gated(&table, "none", true).0, 0);
    let package = package(&table);
    ceilings(package.path());
    let output = run(package.path(), "denied", &["gate"]);
    let text = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("(no counters: reading GPU counters needs a permission here"), "{text}");
}

#[test]
fn without_ncu_the_searched_places_are_listed() {
    let package = package("");
    let output = kbench(package.path(), &["profile"]).env("NCU", "no-such-ncu").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("$NCU names `no-such-ncu`"), "{text}");
}

#[test]
fn finalists_of_a_search_are_judged() {
    let package = package(&gate(""));
    let (exit, tuned) = messages(package.path(), "10,80", &["autotune"]);
    assert_eq!(exit, 1);
    let rejected = &find(&tuned, "tuned")["entry"]["search"]["rejected"];
    assert!(rejected["counters/unmet"].as_u64().unwrap() > 0, "{rejected}");
    let (exit, tuned) = messages(package.path(), "60,80", &["autotune"]);
    assert_eq!((exit, find(&tuned, "tuned")["entry"]["elite"].as_array().unwrap().len()), (0, 3));
}

const C: &str = r#"
[package]
name = "scale"
version = "0.0.0"
edition = "2024"

[workspace]

[package.metadata.kbench.kernels.scale]
source = "scale.c"
entry = "scale"
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes.only = { N = 4096 }
tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
toggles.macro = { FACTOR = [2] }
reference = { source = "scale.c", entry = "scale_reference" }
work = { flops = "N", bytes = "8 * N" }
gates.counters.all = ["roofline__memory > 0", "roofline__compute <= 1e6"]
timing.iterations = 10
"#;

const SCALE: &str = "
#ifndef FACTOR
#define FACTOR 2
#endif
void scale(const float *x, float *y, int n) { for (int i = 0; i < n; i++) y[i] = FACTOR * x[i]; }
void scale_reference(const double *x, double *y, int n) { for (int i = 0; i < n; i++) y[i] = 2 * x[i]; }
";

#[test]
fn a_c_kernel_is_compared_with_the_measured_ceilings() {
    let package = tempfile::tempdir().unwrap();
    let folder = package.path();
    fs::create_dir(folder.join("src")).unwrap();
    for (name, text) in [("Cargo.toml", C), ("scale.c", SCALE), ("src/lib.rs", "")] {
        fs::write(folder.join(name), text).unwrap();
    }
    let (exit, first) = messages(folder, "", &["gate"]);
    let profile = find(&first, "profile");
    assert_eq!(exit, 0, "{first:#?}");
    let roofline = &profile["roofline"];
    let share = |of: &str| roofline[of]["percent"].as_f64().unwrap();
    assert!(share("memory") > 0.0 && share("compute") > 0.0, "{roofline:#}");
    assert_eq!((&roofline["intensity"], &roofline["compute"]["ceiling"]["peak"]), (&0.125.into(), &"fp32".into()));
    // With counters or without, it is said which.
    let counters = &profile["counters"];
    assert!(counters["by"] == "perf_event" || counters["unavailable"].is_string(), "{counters:#}");

    // Measured once a device.
    let (_, second) = messages(folder, "", &["profile"]);
    assert_eq!(find(&second, "profile")["roofline"]["memory"]["ceiling"], roofline["memory"]["ceiling"]);

    // Ceilings of a busy machine are measured again before a search ends by them: of 10 MFLOP/s the kernel reaches some 10 %, of a core far
    // less than 0.1 %,
    let mut files = fs::read_dir(folder.join("target/kbench/ceilings")).unwrap().map(|entry| entry.unwrap().path());
    let path = files.find(|path| path.extension().is_some_and(|extension| extension == "json")).unwrap();
    let kept = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
    let keep_low = |rate: f64| {
        let mut low = kept();
        low.as_object_mut().unwrap().remove("sum").unwrap();
        for ceiling in low["ceilings"].as_array_mut().unwrap() {
            ceiling["rate"] = rate.into();
        }
        write_sealed(&path, &low);
        assert_eq!(kept()["ceilings"][1]["rate"], rate);
    };
    let is_confirmed =
        || kept()["ceilings"].as_array().unwrap().iter().all(|ceiling| ceiling["rate"].as_f64() > Some(1e8));
    keep_low(1e7);
    let stops = C.replace("flops = \"N\", bytes = \"8 * N\"", "flops = \"1\"").replace("[2]", "[2, 3]");
    let stops =
        stops.replace("gates.counters.all", "search = { strategy = 'exhaustive', stop = { roofline = 0.001 } }\n#");
    fs::write(folder.join("Cargo.toml"), stops).unwrap();
    let (exit, tuned) = messages(folder, "", &["autotune"]);
    assert_eq!((exit, &find(&tuned, "tuned")["entry"]["search"]["evaluated"]), (0, &2.into()), "{tuned:#?}");
    assert!(is_confirmed(), "{tuned:#?}");

    // and once before times count as impossible.
    keep_low(1e3);
    let impossible = C.replace("flops = \"N\"", "flops = \"1000000000000 * N\"").replace("[2]", "[2], TIMES = [1, 2]");
    fs::write(folder.join("Cargo.toml"), impossible.replace("gates.counters.all", "#")).unwrap();
    fs::write(
        folder.join("scale.c"),
        SCALE.replace("{ for", "{\n#ifdef TIMES\nfor (int k = 0; k < TIMES; k++)\n#endif\nfor"),
    )
    .unwrap();
    let output = run(folder, "", &["autotune"]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("2 of 2 by correctness/impossible") && !said.contains("0.0 GFLOP/s"), "{said}");
    assert_eq!(said.matches("Measuring the ceilings").count(), 1, "{said}");
    assert!(is_confirmed());
}

//! Searches for other things than p50 at one shape, on the model device.

use std::fs;
use std::path::Path;

use model::{kbench, package_with, shown};
use serde_json::Value;

mod model;

/// A package with shapes `small` and `large` and 16 variants, whose table goes on with `search`.
fn package(model: &str, search: &str) -> tempfile::TempDir {
    let package = package_with(model, &format!("[package.metadata.kbench.kernels.model.search]\n{search}"));
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let shapes = "shapes = { small = { N = 256 }, large = { N = 1024 } }\ndefines = { SIZE = \"N\" }";
    let text = text.replace("shapes.only = { N = 256 }", shapes);
    let text = text.replace("B = [0, 1, 2, 3] }", "B = [0, 1] }").replace("C = [0, 1], D", "D");
    fs::write(manifest, text).unwrap();
    package
}

/// What `autotune` wrote to elite.json.
fn tuned(folder: &Path, more: &[&str]) -> Value {
    let output = kbench(folder, &[&["autotune", "-q", "--iters", "20"], more].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let elite: Value = serde_json::from_slice(&fs::read(folder.join("elite.json")).unwrap()).unwrap();
    elite["kernels"][0].clone()
}

/// The toggles of the elite, as `A B D`.
fn variants(entry: &Value, front_only: bool) -> Vec<[i64; 3]> {
    let of = |variant: &Value| ["A", "B", "D"].map(|toggle| variant["toggles"][toggle].as_i64().unwrap());
    let elite = entry["elite"].as_array().unwrap().iter();
    elite.filter(|variant| !front_only || variant["front"] == true).map(of).collect()
}

fn records(folder: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("target/kbench/journal/model/model.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|record| record["record"] == kind).collect()
}

/// Fastest at A = 3 where it is small, at A = 0 where it is large, and nearly so at A = 2 in both.
const TWO_MINDS: &str = r#"
time_ns = "SIZE * (100 + 20 * (SIZE == 256 and A == 0) + 12 * (SIZE == 256 and A == 1) + 1 * (SIZE == 256 and A == 2) + 20 * (SIZE == 1024 and A == 3) + 30 * (SIZE == 1024 and A == 1) + 1 * (SIZE == 1024 and A == 2)) + 0.01 * B + 0.02 * D"
noise = 0.0001
"#;

#[test]
fn a_mean_over_shapes_selects_a_compromise() {
    let best = |search: &str| {
        let package = package(TWO_MINDS, &format!("strategy = 'exhaustive'\n{search}"));
        variants(&tuned(package.path(), &[]), false)[0][0]
    };
    assert_eq!(best("shape = 'small'"), 3);
    assert_eq!(best("shape = 'large'"), 0);
    assert_eq!(best("objective = { mean = { small = 1, large = 1 } }"), 2);
    assert_eq!(best("objective = { mean = { small = 1, large = 100 } }\nshape = 'small'"), 0);
}

/// A launch does A + 1 steps: the more it does the longer it takes, and the less time each step does.
const STEPS: &str = r#"
time_ns = "1000 * (3 + A) + 10 * B + 20 * D"
noise = 0.0001
"#;

#[test]
fn throughput_ranks_by_work_a_launch() {
    let best = |objective: &str, work: &str| {
        let package = package(STEPS, &format!("strategy = 'exhaustive'\nobjective = '{objective}'"));
        let manifest = package.path().join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        let text = text.replace("entry = \"model\"\nargs", &format!("entry = \"model\"\nwork = {work}\nargs"));
        fs::write(&manifest, text).unwrap();
        tuned(package.path(), &[])
    };
    let of = |entry: &Value| variants(entry, false)[0];
    assert_eq!(of(&best("p50", "{ flops = \"N * (A + 1)\" }")), [0, 0, 0]);
    let entry = best("throughput", "{ flops = \"N * (A + 1)\" }");
    assert_eq!(of(&entry), [3, 0, 0]);
    let winner = &entry["elite"][0];
    let p50 = winner["timing"]["summary"]["p50"].as_f64().unwrap();
    let value = winner["objectives"][0]["value"].as_f64().unwrap();
    assert!((value * 256.0 * 4.0 / p50 - 1.0).abs() < 1e-9, "{winner}");
    // Bytes where there are no flops; what is the same for all variants changes nothing.
    assert_eq!(of(&best("throughput", "{ bytes = \"N * (A + 1)\" }")), [3, 0, 0]);
    assert_eq!(of(&best("throughput", "{ flops = \"N\", bytes = \"N * (A + 1)\" }")), [0, 0, 0]);
}

#[test]
fn a_throughput_needs_work() {
    let package = package(STEPS, "objective = 'throughput'");
    let output = kbench(package.path(), &["check"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("a throughput follows from `work`"), "{text}");
}

#[test]
fn the_elite_of_a_mean_has_the_time_of_each_shape() {
    let package = package(TWO_MINDS, "objective = { mean = { large = 3, small = 1 } }");
    let entry = tuned(package.path(), &[]);
    assert_eq!(entry["shape"], "small", "the first of the mean, in the table's order");
    let objectives = serde_json::json!([{ "name": "mean", "weights": { "small": 1.0, "large": 3.0 } }]);
    assert_eq!(entry["search"]["objectives"], objectives);
    let winner = &entry["elite"][0];
    let p50 = |timing: &Value| timing["summary"]["p50"].as_f64().unwrap();
    assert_eq!(winner["more_timings"][0]["shape"], "large");
    let expected = (p50(&winner["timing"]).ln() + 3.0 * p50(&winner["more_timings"][0]).ln()) / 4.0;
    assert!((winner["objectives"][0]["value"].as_f64().unwrap().ln() - expected).abs() < 1e-9);
    assert_eq!(records(package.path(), "start")[0]["objectives"], objectives);
    for evaluation in records(package.path(), "evaluation") {
        assert_eq!(evaluation["objectives"][0]["name"], "mean");
        assert_eq!(evaluation["more_timings"][0]["shape"], "large");
    }
}

#[test]
fn a_finalist_that_is_wrong_at_another_shape_is_out_and_named() {
    let model = "time_ns = \"1000 * (4 - A)\"\n[[fault]]\nwhen = \"A == 3 and SIZE == 1024\"\nkind = \"wrong-again\"\n";
    let package = package(model, "objective = { mean = { small = 1, large = 1 } }\nelite = 1");
    let entry = tuned(package.path(), &[]);
    assert_eq!(variants(&entry, false)[0][0], 2, "the next one takes its place: {entry}");
    let rejected = &entry["search"]["rejected"]["correctness/unrepeatable"];
    assert!(rejected.as_u64() > Some(0), "{entry}");
}

/// The larger A and B, the faster and the more registers; D is slower at half the power.
const TRADE: &str = r#"
time_ns = "20000 - 2000 * A - 500 * B + 1000 * D"
noise = 0.0005
power_w = "200 - 100 * D"
resources = { registers = "32 + 16 * A + 8 * B" }
"#;

#[test]
fn the_front_of_two_objectives_is_found_and_printed() {
    let package = package(TRADE, "strategy = 'exhaustive'\nobjective = ['p50', 'registers']");
    let entry = tuned(package.path(), &[]);
    // D never pays.
    let expected: Vec<[i64; 3]> = [3, 2, 1, 0].into_iter().flat_map(|a| [[a, 1, 0], [a, 0, 0]]).collect();
    assert_eq!(variants(&entry, true), expected, "by p50, the fastest first");
    let times: Vec<f64> = entry["elite"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variant| variant["objectives"][0]["value"].as_f64().unwrap())
        .collect();
    assert!(times.is_sorted());
    insta::with_settings!({ filters => [(r"in \d+\.\d s", "in [SECONDS]")] }, {
        insta::assert_snapshot!(shown(package.path(), &["autotune", "-q", "--iters", "20"]));
    });
}

#[test]
fn a_model_finds_most_of_the_front_without_trying_all_and_the_same_again() {
    let run = || {
        let search = "strategy = 'auto'\nobjective = ['energy', 'registers']\nbudget = { evaluations = 12 }";
        let package = package(TRADE, search);
        let entry = tuned(package.path(), &[]);
        let tried: Vec<Value> =
            records(package.path(), "evaluation").iter().map(|record| record["toggles"].clone()).collect();
        (tried, variants(&entry, true))
    };
    let (tried, front) = run();
    assert_eq!(tried.len(), 12);
    // With D it takes less energy, at no cost in registers.
    assert!(front.iter().all(|variant| variant[2] == 1), "{front:?}");
    assert!(front.contains(&[3, 1, 1]) && front.contains(&[0, 0, 1]), "the best in each: {front:?}");
    assert_eq!((tried, front), run(), "the seed decides");
}

#[test]
fn energy_is_an_objective_if_the_device_has_a_counter() {
    let package = package(TRADE, "strategy = 'exhaustive'\nobjective = 'energy'");
    let entry = tuned(package.path(), &[]);
    assert_eq!(variants(&entry, false)[0][2], 1, "slower, at less power");
    let energy = entry["elite"][0]["objectives"][0]["value"].as_f64().unwrap();
    assert!(energy > 0.0 && energy < 20_000e-9 * 200.0, "{energy}");

    // Model devices of odd index cannot tell.
    fs::remove_dir_all(package.path().join("target")).unwrap();
    let output = kbench(package.path(), &["autotune", "--device", "1"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("`energy` of kernel `model` cannot be measured on fake"), "{stderr}");
    assert!(!package.path().join("target/kbench/journal/model/model.jsonl").exists(), "before the search");
}

#[test]
fn measurements_of_p50_are_reused_for_objectives_of_resources() {
    let package = package(TRADE, "strategy = 'exhaustive'");
    let manifest = package.path().join("Cargo.toml");
    let table = fs::read_to_string(&manifest).unwrap();
    let resumed = |objective: &str| {
        fs::write(&manifest, format!("{table}\nobjective = {objective}\n")).unwrap();
        let before = records(package.path(), "evaluation").len();
        let entry = tuned(package.path(), &["--resume"]);
        (records(package.path(), "evaluation").len() - before, variants(&entry, false)[0])
    };
    tuned(package.path(), &[]);
    assert_eq!(resumed("'p50'"), (0, [3, 1, 0]));
    assert_eq!(resumed("'registers'"), (0, [0, 0, 0]), "of the same count the fastest");
    let all = records(package.path(), "evaluation").len();
    assert_eq!(resumed("['p50', 'energy']"), (all, [3, 1, 0]), "energy was never measured");
    assert_eq!(resumed("'energy'").0, 0);
    assert_eq!(resumed("{ mean = { small = 1, large = 1 } }").0, all);
    assert_eq!(resumed("{ mean = { small = 1, large = 5 } }").0, 0, "weights are no measurement");
    assert_eq!(resumed("'p50'").0, 0);
}

#[test]
fn a_resource_that_the_compiler_does_not_report_ranks_nothing() {
    let package = package_with("time_ns = 5", "[package.metadata.kbench]\nsearch.objective = 'code_bytes'");
    let output = kbench(package.path(), &["autotune", "-q"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("resources/unavailable") && stdout.contains("code_bytes"), "{stdout}");
}

//! `bench`, `compare` and `build --against`: on the model device, whose times depend on the toggles alone, and with the C
//! compiler that is there.

use std::fs;
use std::path::Path;

use model::{MODEL, kbench, package_with, shown};
use serde_json::Value;

mod model;

const TABLE: &str = "
[package.metadata.kbench.kernels.model.work]
flops = \"1000 * N\"
[package.metadata.kbench.kernels.model.baselines]
other = { toggles = { A = 1 } }
program = { command = [\"no-such-program\"] }
";

/// The model with everything slower by a factor.
fn slower(folder: &Path, factor: f64) {
    let model =
        MODEL.replace("time_ns = \"20000", &format!("time_ns = \"{factor} * (20000")).replacen("D\"", "D)\"", 1);
    fs::write(folder.join("model.toml"), model).unwrap();
}

fn edit(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "no `{old}` in {text}");
    fs::write(path, text.replace(old, new)).unwrap();
}

fn assert_exit(folder: &Path, args: &[&str], exit: i32) -> String {
    let shown = shown(folder, args);
    assert!(shown.starts_with(&format!("exit {exit}\n")), "{args:?}: {shown}");
    shown
}

#[test]
fn bench_prints_a_variant_beside_the_default_and_the_baselines() {
    let package = package_with(MODEL, TABLE);
    insta::assert_snapshot!(shown(package.path(), &["bench", "--variant", "A=2,C=1"]));
}

#[test]
fn bench_shows_a_second_clock_and_the_time_on_zeros_if_asked() {
    let package = package_with(MODEL, "");
    let shown = assert_exit(package.path(), &["bench", "-v", "--save", "bench.json"], 0);
    // The second clock of the model runs 1 % fast, and its time depends on no values.
    assert!(
        shown
            .contains("control fake 20.00 µs and fake-fast 20.20 µs a launch (1.0 % apart), 100 launches back to back"),
        "{shown}"
    );
    assert!(shown.contains("the time on inputs of zeros") && shown.contains("no difference is known"), "{shown}");
    assert_exit(package.path(), &["compare", "bench.json", "bench.json"], 0);
    assert!(!assert_exit(package.path(), &["bench"], 0).contains("control"));
}

#[test]
fn bench_has_no_number_of_a_wrong_kernel() {
    let package = package_with(MODEL, TABLE);
    insta::assert_snapshot!(shown(package.path(), &["bench", "--variant", "A=2,B=3", "--save", "bench.json"]));
    // Nor of a baseline or a default that is wrong.
    let package =
        package_with(MODEL, "[package.metadata.kbench.kernels.model.baselines]\nbad = { toggles = { A = 2, B = 3 } }");
    let shown = assert_exit(package.path(), &["bench", "-q"], 0);
    assert!(shown.contains("unavailable bad: correctness/wrong at only"), "{shown}");
}

#[test]
fn bench_takes_the_winner_of_elite_json() {
    let package = package_with(MODEL, "");
    let shown = assert_exit(package.path(), &["bench", "--elite"], 2);
    assert!(shown.contains("elite.json has no winner of `model` at `only` on fake"), "{shown}");
    assert_exit(package.path(), &["autotune", "-q"], 0);
    let shown = assert_exit(package.path(), &["bench", "--elite", "-q"], 0);
    assert!(shown.contains("A=3 B=2 C=1 D=0\n"), "{shown}");
    assert_exit(package.path(), &["bench", "--elite", "--variant", "A=1"], 2);
}

#[test]
fn launch_modes_are_measured_and_not_compared_with_each_other() {
    let package = package_with(MODEL, "");
    let p50 = |file: &str, more: &[&str]| -> f64 {
        assert_exit(package.path(), &[&["bench", "-q", "--iters", "20", "--save", file], more].concat(), 0);
        let bench: Value = serde_json::from_slice(&fs::read(package.path().join(file)).unwrap()).unwrap();
        bench["kernels"][0]["entries"][0]["timing"]["summary"]["p50"].as_f64().unwrap()
    };
    // The model device adds 4 µs to a launch on a stream, and 9 µs to a launch that the host waits for.
    let graph = p50("graph.json", &[]);
    for (mode, cost) in [("stream", 4e3), ("host", 9e3)] {
        let file = format!("{mode}.json");
        let added = p50(&file, &["--launch", mode]) - graph;
        assert!((added - cost).abs() < 1e3, "{mode}: {added} ns");
        let refused = assert_exit(package.path(), &["compare", "graph.json", &file], 2);
        assert!(refused.contains(&format!("`timing.launch` is graph in OLD, {mode} in NEW")), "{refused}");
    }
    // A report tells how the winner of one mode does under the other.
    assert_exit(package.path(), &["autotune", "-q"], 0);
    assert!(!assert_exit(package.path(), &["report", "--format", "md"], 0).contains("launch mode"));
    assert_exit(package.path(), &["autotune", "-q", "--launch", "stream"], 0);
    let shown = assert_exit(package.path(), &["report", "--format", "md"], 0);
    assert!(
        shown.contains("With launch mode graph the winner takes 0.") && shown.contains("variants in both"),
        "{shown}"
    );
    let shown = assert_exit(package.path(), &["bench", "--launch", "queue"], 2);
    assert!(shown.contains("graph, stream, host"), "{shown}");
}

#[test]
fn bench_speaks_json() {
    let package = package_with(MODEL, TABLE);
    let output = kbench(package.path(), &["bench", "--message-format", "json", "--iters", "20"]).output().unwrap();
    let messages: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&message["reason"], &message["candidate"]), (&"bench".into(), &"default".into()));
    assert_eq!(message["entries"][1]["name"], "other");
    assert_eq!(message["entries"][1]["speedup"]["verdict"], "slower");
    assert_eq!(message["entries"][0]["samples"].as_array().unwrap().len(), 20);
}

#[test]
fn compare_lists_slower_and_faster_kernels() {
    let package = package_with(MODEL, TABLE);
    let folder = package.path();
    let bench = |file| assert_exit(folder, &["bench", "--variant", "A=1", "-q", "--save", file], 0);
    bench("old.json");
    slower(folder, 1.03);
    bench("new.json");
    insta::assert_snapshot!(shown(folder, &["compare", "old.json", "new.json"]));
    let shown = assert_exit(folder, &["compare", "new.json", "old.json"], 0);
    assert!(
        shown.contains("3 compared: 3 faster, 0 slower, 0 same, 0 inconclusive; 0 regressions beyond 1 %"),
        "{shown}"
    );
    let shown = assert_exit(folder, &["compare", "old.json", "new.json", "--threshold", "5%"], 0);
    assert!(shown.contains("3 same"), "{shown}");
    let shown = assert_exit(folder, &["compare", "old.json", "old.json"], 0);
    assert!(shown.contains("3 same"), "{shown}");
    let output = kbench(folder, &["compare", "old.json", "new.json", "--message-format", "json"]).output().unwrap();
    let message: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&message["reason"], &message["rows"][0]["verdict"]), (&"compared".into(), &"slower".into()));
}

#[test]
fn compare_reads_elite_files_and_journals() {
    let package = package_with(MODEL, "");
    let folder = package.path();
    let journal = folder.join("target/kbench/journal/model/model.jsonl");
    assert_exit(folder, &["autotune", "-q"], 0);
    fs::copy(folder.join("elite.json"), folder.join("old-elite.json")).unwrap();
    fs::copy(&journal, folder.join("old.jsonl")).unwrap();
    // What was the best is now slower than what was second, and a variant that passed does not any more.
    edit(&folder.join("model.toml"), "20000 - 1000 * A", "20000 - 1000 * min(A, 2)");
    fs::write(
        folder.join("model.toml"),
        fs::read_to_string(folder.join("model.toml")).unwrap()
            + "[[fault]]\nwhen = \"A == 1 and B == 0\"\nkind = \"wrong\"\n",
    )
    .unwrap();
    assert_exit(folder, &["autotune", "-q"], 0);
    fs::copy(&journal, folder.join("new.jsonl")).unwrap();
    insta::assert_snapshot!("elite_files", shown(folder, &["compare", "old-elite.json", "elite.json"]));
    insta::assert_snapshot!("journals", shown(folder, &["compare", "old.jsonl", "new.jsonl"]));
    // The journal has the default's samples, elite.json has its interval.
    let shown = assert_exit(folder, &["compare", "elite.json", "new.jsonl"], 0);
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("default: intervals overlap"), "{shown}");
}

#[test]
fn compare_refuses_other_conditions() {
    let package = package_with(MODEL, "");
    let folder = package.path();
    let bench = |file, args: &[&str]| {
        assert_exit(folder, &[&["bench", "-q", "--save", file], args].concat(), 0);
    };
    bench("old.json", &[]);
    edit(&folder.join("Cargo.toml"), "N = 256", "N = 512");
    bench("sizes.json", &[]);
    insta::assert_snapshot!(shown(folder, &["compare", "old.json", "sizes.json"]));
    let shown = assert_exit(folder, &["compare", "old.json", "sizes.json", "--allow", "dims"], 0);
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("OLD has N=256, NEW has N=512"), "{shown}");

    fs::copy(folder.join("old.json"), folder.join("device.json")).unwrap();
    edit(&folder.join("device.json"), "\"name\":\"fake\"", "\"name\":\"another\"");
    let shown = assert_exit(folder, &["compare", "old.json", "device.json", "--allow", "dims,timing"], 2);
    assert!(shown.contains("OLD is of fake") && shown.contains("NEW is of another"), "{shown}");
    assert_exit(folder, &["compare", "old.json", "device.json", "--allow", "device"], 0);

    edit(&folder.join("Cargo.toml"), "N = 512 }", "N = 256 }\ntiming.cache = \"hot\"");
    bench("hot.json", &[]);
    let shown = assert_exit(folder, &["compare", "old.json", "hot.json"], 2);
    assert!(shown.contains("the cache is cold in OLD, hot in NEW; --allow timing"), "{shown}");
    assert_exit(folder, &["compare", "old.json", "hot.json", "--allow", "timing"], 0);
}

#[test]
fn unreadable_files_exit_with_2() {
    let package = package_with(MODEL, "");
    let folder = package.path();
    assert_exit(folder, &["bench", "-q", "--save", "bench.json"], 0);
    assert_exit(folder, &["build", "--all", "-q", "--save", "resources.json"], 0);
    fs::write(folder.join("broken.json"), "{").unwrap();
    fs::copy(folder.join("bench.json"), folder.join("renamed.json")).unwrap();
    edit(&folder.join("renamed.json"), "\"kernel\":\"model\"", "\"kernel\":\"other\"");
    for (args, words) in [
        (&["compare", "bench.json", "none.json"][..], "none.json: No such file"),
        (&["compare", "bench.json", "broken.json"], "broken.json: neither an elite.json"),
        (&["compare", "bench.json", "resources.json"], "resources.json: neither an elite.json"),
        (&["compare", "bench.json", "renamed.json"], "no kernel, shape and variant in common"),
        (&["compare", "bench.json", "bench.json", "--threshold", "lots"], "expected a percentage"),
        (&["compare", "bench.json", "bench.json", "--allow", "all"], "possible values: device, dims, timing"),
        (&["build", "--all", "--against", "none.json"], "none.json: No such file"),
        (&["build", "--all", "--against", "broken.json"], "broken.json: EOF"),
        (&["build", "--all", "--against", "bench.json"], "bench.json: not a file of `build --save`"),
        (&["build", "--save", "resources.json"], "--all"),
        (&["build", "--all", "--save", "no/such/folder.json"], "no/such/folder.json: No such file"),
    ] {
        let shown = assert_exit(folder, args, 2);
        assert!(shown.contains(words), "{args:?}: {shown}");
    }
}

#[test]
fn resources_that_changed_are_shown_and_more_of_them_fails() {
    let resources =
        "resources = { registers = \"32 + A\", spill_stores = \"0\", spill_loads = \"0\", code_bytes = \"64 * B\" }";
    let package = package_with(&format!("{resources}\n{MODEL}"), "");
    let folder = package.path();
    assert_exit(folder, &["build", "--all", "-q", "--save", "resources.json"], 0);
    insta::assert_snapshot!("unchanged", shown(folder, &["build", "--all", "--against", "resources.json"]));

    edit(&folder.join("model.toml"), "32 + A", "31 + 2 * A");
    edit(&folder.join("Cargo.toml"), "D = [0, 1] }", "D = [0] }");
    edit(&folder.join("Cargo.toml"), "B = [0, 1, 2, 3] }", "B = [0, 1, 4] }");
    edit(&folder.join("Cargo.toml"), "toggles.micro = { C = [0, 1]", "toggles.micro = { C = [0]");
    insta::assert_snapshot!("drifted", shown(folder, &["build", "--all", "--against", "resources.json"]));

    // Once what is worse is accepted, it is no drift any more; and less is no failure.
    assert_exit(folder, &["build", "--all", "-q", "--against", "resources.json", "--save", "resources.json"], 1);
    assert_exit(folder, &["build", "--all", "-q", "--against", "resources.json"], 0);
    edit(&folder.join("model.toml"), "31 + 2 * A", "30");
    let shown = assert_exit(folder, &["build", "--all", "--against", "resources.json"], 0);
    assert!(shown.contains("0 worse, 12 better") && shown.contains("Improved 12 variants"), "{shown}");
}

#[test]
fn a_c_kernel_is_benched_compared_and_watched() {
    let scratch = tempfile::tempdir().unwrap();
    assert_exit(scratch.path(), &["new", "fresh"], 0);
    let folder = scratch.path().join("fresh");
    edit(&folder.join("Cargo.toml"), "iterations = 100 ", "max_seconds = 0.1\niterations = 100 ");
    for file in ["old.json", "new.json"] {
        let shown = assert_exit(&folder, &["bench", "--iters", "10", "--warmup", "1", "--save", file], 0);
        assert!(shown.contains("GB/s") && shown.contains("naive"), "{shown}");
    }
    // The same program on a machine with other work: any verdict may come of it, but one does.
    let shown = shown(&folder, &["compare", "old.json", "new.json"]);
    assert!(shown.starts_with("exit 0") || shown.starts_with("exit 1"), "{shown}");
    assert!(shown.contains("same binary") && shown.contains("4 compared"), "{shown}");

    edit(&folder.join("Cargo.toml"), "ROWS = [1, 2, 4, 8], COLS = [8, 16, 32]", "ROWS = [1, 2], COLS = [16]");
    edit(&folder.join("Cargo.toml"), "-march=native", "-g0");
    assert_exit(&folder, &["build", "--all", "-q", "--save", "resources.json"], 0);
    let saved = fs::read(folder.join("resources.json")).unwrap();
    assert_exit(&folder, &["build", "--all", "-q", "--against", "resources.json", "--save", "resources.json"], 0);
    assert_eq!(fs::read(folder.join("resources.json")).unwrap(), saved, "the file of the same build is the same");
    edit(
        &folder.join("src/matmul.c"),
        "    float *packed = PACK",
        "    volatile char waste[512];\n    waste[m % 512] = 0;\n    float *packed = PACK",
    );
    let shown = assert_exit(&folder, &["build", "--all", "--against", "resources.json"], 1);
    assert!(shown.contains("4 worse") && shown.contains("stack bytes"), "{shown}");
}

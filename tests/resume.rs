//! A run that is killed goes on where it ended: nothing finished is measured again, and elite.json is the one of an uninterrupted
//! run. On the model device, whose times depend on the toggles alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod model;

/// A package whose launches take long enough to be interrupted.
fn package() -> tempfile::TempDir {
    model::package_with(&format!("delay_ms = 1\n{}", model::MODEL), "")
}

fn autotune(folder: &Path) -> Command {
    let mut command = model::kbench(folder, &["autotune", "--resume", "--message-format", "json", "--iters", "10"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("target/kbench/journal/model/model.jsonl")
}

/// The journal's records of one kind.
fn records(folder: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(journal(folder)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|record| record["record"] == kind).collect()
}

/// elite.json without the date, the one thing that may differ.
fn elite(folder: &Path) -> Value {
    let mut elite: Value = serde_json::from_slice(&fs::read(folder.join("elite.json")).unwrap()).unwrap();
    for entry in elite["kernels"].as_array_mut().unwrap() {
        assert!(entry["date"].take().is_string());
    }
    elite
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The message with the result of a run.
fn tuned(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let messages = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    messages.into_iter().find(|message| message["reason"] == "tuned").expect("the run ended")
}

/// Waits until the journal has `lines` evaluations, or the run ends.
fn wait_for_evaluations(folder: &Path, child: &mut Child, count: usize) {
    let limit = Instant::now() + Duration::from_secs(60);
    while records(folder, "evaluation").len() < count && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < limit, "no progress");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_run_resumes_where_it_ended() {
    // One folder for both runs, since the recorded commands name it.
    let killed = package();
    assert_success(&autotune(killed.path()).output().unwrap());
    let expected = elite(killed.path());
    fs::remove_file(killed.path().join("elite.json")).unwrap();
    fs::remove_dir_all(killed.path().join("target")).unwrap();
    assert_eq!(expected["kernels"][0]["elite"].as_array().unwrap().len(), 3);
    assert_eq!(expected["kernels"][0]["search"]["evaluated"], 25);
    let rejected = &expected["kernels"][0]["search"]["rejected"];
    assert_eq!(rejected["launch/signal"], 1);
    assert_eq!(rejected["correctness/wrong"], 1);

    for evaluations in [1, 7, 20] {
        let mut child = autotune(killed.path()).spawn().unwrap();
        wait_for_evaluations(killed.path(), &mut child, evaluations);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The kill may have cut the last line; cut one more, so that this case is always met.
    let text = fs::read(journal(killed.path())).unwrap();
    fs::write(journal(killed.path()), &text[..text.len() - 5]).unwrap();
    assert!(!killed.path().join("elite.json").exists());
    let resumed = autotune(killed.path()).output().unwrap();
    assert_success(&resumed);
    assert_eq!(elite(killed.path()), expected);
    assert_eq!(tuned(&resumed)["finals_resumed"], false, "no run came to its finals");

    let keys: Vec<Value> = records(killed.path(), "evaluation").iter().map(|record| record["key"].clone()).collect();
    let distinct: std::collections::HashSet<&str> = keys.iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(distinct.len(), keys.len(), "something finished was measured again");
    assert_eq!(distinct.len(), 25);
}

#[test]
fn a_finished_run_is_not_run_again() {
    let folder = package();
    assert_success(&autotune(folder.path()).output().unwrap());
    let first = elite(folder.path());
    let again = autotune(folder.path()).output().unwrap();
    assert_success(&again);
    assert_eq!(tuned(&again)["finals_resumed"], true);
    assert_eq!(records(folder.path(), "evaluation").len(), 25);
    assert_eq!(records(folder.path(), "comparison").len(), 1);
    assert_eq!(elite(folder.path()), first);
}

/// The journal has the findings of the finals at level `warn`, and the finalists that the finals rejected.
#[test]
fn a_resumed_run_says_what_the_first_one_said() {
    let model = "time_ns = \"20000 - 1000 * A\"\n[[fault]]\nwhen = \"A == 3\"\nkind = \"wrong-again\"\n";
    for (level, has_warnings, comparisons) in [("warn", true, 1), ("deny", false, 2)] {
        let folder = model::package_with(model, "");
        let manifest = folder.path().join("Cargo.toml");
        let (table, seeds) = (fs::read_to_string(&manifest).unwrap(), "gates.correctness.seeds = 2");
        assert!(table.contains(seeds));
        let of_level = format!("gates.correctness = {{ seeds = 2, level = \"{level}\" }}");
        fs::write(&manifest, table.replace(seeds, &of_level)).unwrap();
        let run = || {
            let output = autotune(folder.path()).output().unwrap();
            assert_success(&output);
            let tuned = tuned(&output);
            assert_eq!(records(folder.path(), "comparison").len(), comparisons, "{level}: {tuned}");
            (tuned["finals_resumed"].clone(), tuned["warnings"].clone(), elite(folder.path()))
        };
        let first = run();
        let is_empty = first.1.as_array().unwrap().is_empty();
        assert_eq!((first.0, !is_empty), (false.into(), has_warnings), "{}", first.1);
        assert_eq!(run(), (true.into(), first.1, first.2), "{level}");
    }
}

/// A package of C kernels, of which the rest of a check rejects those with `A=1`.
fn package_with_a_late_rejection(toggles: &str) -> tempfile::TempDir {
    let folder = model::package_with("", "");
    let manifest = folder.path().join("Cargo.toml");
    let mut table = fs::read_to_string(&manifest).unwrap();
    for (old, new) in [
        ("\"fake\"", "\"c\""),
        ("model.toml", "k.c"),
        ("reference.toml", "r.c"),
        ("A = [0, 1, 2, 3], B = [0, 1, 2, 3]", toggles),
        ("toggles.micro = { C = [0, 1], D = [0, 1] }", "timing.max_seconds = 0.05"),
    ] {
        assert!(table.contains(old), "{old}");
        table = table.replace(old, new);
    }
    fs::write(&manifest, table).unwrap();
    // Of random inputs none is below -30; those of a pattern are.
    let copy = |element: &str, value: &str| {
        format!("void model(const {element} *x, {element} *y) {{ for (int i = 0; i < 256; i++) y[i] = {value}; }}\n")
    };
    fs::write(folder.path().join("k.c"), copy("float", "A == 1 && x[i] < -30 ? 0 : x[i]")).unwrap();
    fs::write(folder.path().join("r.c"), copy("double", "x[i]")).unwrap();
    folder
}

/// A finalist that the rest of its check rejected stays out: a kernel that is wrong at times may pass another one.
#[test]
fn a_check_that_failed_counts_in_a_resumed_run() {
    let folder = package_with_a_late_rejection("A = [0, 1]");
    let run = || {
        let output = autotune(folder.path()).output().unwrap();
        assert_success(&output);
        let rejected = elite(folder.path())["kernels"][0]["search"]["rejected"].clone();
        (rejected, records(folder.path(), "revoked").len(), records(folder.path(), "checked").len())
    };
    let first = run();
    assert_eq!(first, (serde_json::json!({ "correctness/wrong": 1 }), 1, 1));
    assert_eq!(run(), first, "no check was run again");
}

/// All variants of a program that was rejected late are rejected in `report` and `compare`, also after a resumed run.
#[test]
fn no_variant_of_a_rejected_program_has_a_time() {
    let folder = package_with_a_late_rejection("A = [0, 1], B = [0, 1]");
    let said = |args: &[&str]| {
        let output = model::kbench(folder.path(), args).output().unwrap();
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    let journal = "target/kbench/journal/model/model.jsonl";
    for run in ["first", "resumed"] {
        assert_success(&autotune(folder.path()).output().unwrap());
        let report = said(&["report", "--format", "csv"]);
        let rejected = report.lines().filter(|line| line.contains(",rejected,") && line.contains("A=1")).count();
        assert_eq!(rejected, 2, "{run}: {report}");
        let compared = said(&["compare", journal, journal]);
        assert!(compared.contains("A=0") && !compared.contains("A=1"), "{run}: {compared}");
    }
}

#[test]
fn a_second_run_reuses_unchanged_variants_and_measures_the_finals() {
    let folder = package();
    let run = |args: &[&str]| {
        let args = [&["autotune", "--iters", "10"], args].concat();
        let output = model::kbench(folder.path(), &args).output().unwrap();
        assert_success(&output);
        let search = &elite(folder.path())["kernels"][0]["search"];
        let text = String::from_utf8(output.stdout).unwrap();
        (search["recalled"].as_u64().unwrap_or(0), search["evaluated"].as_u64().unwrap(), text)
    };
    let (recalled, evaluated, text) = run(&[]);
    assert_eq!((recalled, evaluated, text.contains("recalled")), (0, 25, false));
    let first = elite(folder.path());
    // All but the default, which tells whether the machine is what it was, and the two that are rejected.
    let (recalled, evaluated, text) = run(&[]);
    assert_eq!((recalled, evaluated), (22, 25));
    assert!(text.contains("recalled 22 variants that earlier runs measured; --fresh measures them again"), "{text}");
    assert_eq!(elite(folder.path())["kernels"][0]["elite"], first["kernels"][0]["elite"]);
    assert_eq!(records(folder.path(), "comparison").len(), 2);
    // Each run's part of the journal is whole.
    assert_eq!(records(folder.path(), "evaluation").len(), 50);
    // The second run is the one that is resumed.
    assert_eq!(run(&["--resume"]).0, 22);
    assert_eq!(records(folder.path(), "evaluation").len(), 50);

    // Programs with D = 1 are others now.
    let model = format!("delay_ms = 1\n{}", model::MODEL.replace("11 * D", "12 * D"));
    fs::write(folder.path().join("model.toml"), model).unwrap();
    let (recalled, evaluated, _) = run(&[]);
    assert!(recalled > 15 && recalled < 22, "{recalled} of {evaluated}");
    assert_eq!(run(&["--fresh"]).0, 0);
}

#[cfg(unix)]
#[test]
fn a_changed_runner_script_measures_again() {
    let runner = "[package.metadata.kbench.kernels.model]\nrunner = [\"sh\", \"run.sh\"]";
    // With an elite of all variants none is cut short. A record that was cut short is reused only beside variants that are much faster,
    // and the order of variants depends on the moment.
    let folder = model::package_with(model::MODEL, "[package.metadata.kbench.kernels.model.search]\nelite = 64");
    let table = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
    let head = "[package.metadata.kbench.kernels.model]";
    assert!(table.contains(head), "{table}");
    fs::write(folder.path().join("Cargo.toml"), table.replacen(head, runner, 1)).unwrap();
    let recalled = |script: &str| {
        fs::write(folder.path().join("run.sh"), script).unwrap();
        assert_success(&model::kbench(folder.path(), &["autotune", "--iters", "10"]).output().unwrap());
        elite(folder.path())["kernels"][0]["search"]["recalled"].as_u64().unwrap_or(0)
    };
    assert_eq!(recalled("exec \"$@\"\n"), 0);
    // All 64 but the default and the 8 that are rejected.
    assert_eq!(recalled("exec \"$@\"\n"), 55);
    assert_eq!(recalled("exec nice -n 1 \"$@\"\n"), 0, "the script is part of the circumstances");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_run_and_keeps_the_journal() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let folder = package();
    let mut child = autotune(folder.path()).spawn().unwrap();
    wait_for_evaluations(folder.path(), &mut child, 5);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("interrupted") && stderr.contains("Stopping"), "{stderr}");
    let kept = records(folder.path(), "evaluation").len();
    assert!((5..25).contains(&kept));
    // The best of them were in the finals.
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("\"stopped\":\"Ctrl-C\""), "{stdout}");
    let entry = &elite(folder.path())["kernels"][0];
    assert_eq!((&entry["search"]["cut_off"], &entry["elite"][0]["rank"]), (&true.into(), &1.into()));
}

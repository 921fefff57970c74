//! Several workers: the same variants with the same results as one worker has, whatever becomes of the workers. On the model device, whose
//! times depend on the toggles alone.
//!
//! Longer than 400 lines: all cases share the commands that stand for workers, and the comparison of results.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;

mod model;

/// Every variant, so that what is tried does not depend on which worker is the first to answer.
const ALL: &str = "[package.metadata.kbench.kernels.model.search]\nstrategy = \"exhaustive\"";

fn journal(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("target/kbench/journal/model/model.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What came of each variant, by its toggles. Each is on record once.
fn results(folder: &Path) -> BTreeMap<String, String> {
    let mut results = BTreeMap::new();
    for record in journal(folder).iter().filter(|record| record["record"] == "evaluation") {
        let outcome = match record["outcome"].as_object() {
            Some(rejected) => rejected["rejected"]["code"].to_string(),
            None => record["outcome"].to_string(),
        };
        let timing = if record["timing"].is_null() { "none" } else { "timed" };
        let before = results.insert(record["toggles"].to_string(), format!("{outcome} {timing}"));
        assert_eq!(before, None, "{} is on record twice", record["toggles"]);
    }
    results
}

fn winner(folder: &Path) -> Value {
    let elite: Value = serde_json::from_slice(&fs::read(folder.join("elite.json")).unwrap()).unwrap();
    elite["kernels"][0]["elite"][0]["toggles"].clone()
}

fn autotune(folder: &Path, more: &[&str]) -> Output {
    let args = [&["autotune", "--iters", "10"], more].concat();
    model::kbench(folder, &args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn several_workers_try_the_variants_of_one_and_find_the_same_winner() {
    let one = model::package_with(model::MODEL, ALL);
    let output = autotune(one.path(), &[]);
    assert!(output.status.success() && !said(&output).contains("Workers"), "{}", said(&output));
    let expected = results(one.path());
    assert_eq!(expected.len(), 64);

    for workers in ["2", "5"] {
        let several = model::package_with(model::MODEL, ALL);
        let output = autotune(several.path(), &["--workers", workers]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(&format!("Workers {workers}, each with a fake")), "{}", said(&output));
        assert_eq!(results(several.path()).keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert_eq!(winner(several.path()), winner(one.path()));
    }
}

/// A runner that notes each worker that is killed, in a file `killed` of the folder where the tool runs.
const NOTED: &str = r#"
[package.metadata.kbench.kernels.model.workers]
runner = ["sh", "-c", "\"$@\"; status=$?; [ $status = 137 ] && echo one >> killed; exit $status", "sh"]
count = 3
"#;

fn killed(folder: &Path) -> usize {
    fs::read_to_string(folder.join("killed")).unwrap_or_default().lines().count()
}

/// 256 variants whose figures all differ.
fn many(model: &str) -> tempfile::TempDir {
    let package = model::package_with(
        &format!("time_ns = \"20000 - 1000 * A - 70 * B - 333 * C + 11 * D\"\n{model}"),
        &format!("{ALL}\n{NOTED}"),
    );
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(manifest, text.replace("[0, 1, 2, 3]", "[0, 1, 2, 3, 4, 5, 6, 7]")).unwrap();
    package
}

#[test]
fn no_kill_of_workers_and_drivers_loses_an_evaluation_or_counts_one_twice() {
    let calm = many("");
    assert!(autotune(calm.path(), &[]).status.success());
    let expected = results(calm.path());
    assert_eq!((expected.len(), killed(calm.path())), (256, 0));
    assert!(expected.values().all(|result| result == expected.values().next().unwrap()), "all pass: {expected:?}");

    // A fresh worker lives long enough for any evaluation, so that no variant is to blame for two.
    let package = many("killed_after = \"100 + (37 * A + 101 * B + 53 * C + 19 * D) % 60\"\n");
    for evaluations in [20, 60, 90, 150, 200] {
        let mut driver = model::kbench(package.path(), &["autotune", "--iters", "10", "--resume"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while journal(package.path()).len() < evaluations && driver.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        driver.kill().unwrap();
        driver.wait().unwrap();
    }
    let output = autotune(package.path(), &["--resume"]);
    assert!(output.status.success(), "{}", said(&output));
    let killed = killed(package.path());
    assert!(killed >= 50, "{killed} workers were killed");
    assert_eq!(results(package.path()).keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(results(package.path()).values().all(|result| result.contains("passed")), "{:?}", results(package.path()));
    assert_eq!(winner(package.path()), winner(calm.path()));
}

/// A table of workers: one that is sound and hears of no job before there is a file `go`, and one whose runner is this script, which has
/// the worker's command as its arguments.
fn beside(script: &str) -> String {
    let waits = r#"{ read -r hello; echo "$hello"; until [ -e go ]; do sleep 0.05; done; cat; } | "$@""#;
    let workers = "[[package.metadata.kbench.kernels.model.workers]]\n";
    format!("{ALL}\n{workers}{}{workers}{}", runner(waits), runner(script))
}

fn runner(script: &str) -> String {
    format!("runner = [\"sh\", \"-c\", '''{script}''', \"sh\"]\n")
}

#[test]
fn a_worker_that_is_broken_costs_no_variant_its_result() {
    let wrong =
        "time_ns = \"20000 - 1000 * A - 700 * B - 333 * C + 11 * D\"\n[[fault]]\nwhen = \"A == 2\"\nkind = \"wrong\"\n";
    let sound = model::package_with(wrong, ALL);
    assert!(autotune(sound.path(), &[]).status.success());
    for (name, script, why) in [
        ("absent", "exit 7", "could not start the worker"),
        ("garbage", r#""$@" | { read -r hello; echo "$hello"; echo nonsense; cat >/dev/null; }"#, "nonsense"),
        ("an end", r#""$@" | head -n 3"#, ""),
        (
            "another device",
            r#""$@" | sed -u 's/"name":"fake"/"name":"other"/'"#,
            "other with driver 0 where the others",
        ),
        ("another protocol", r#""$@" | sed -u 's/"protocol":[0-9]*/"protocol":999/'"#, "it speaks protocol 999"),
        ("no device", r#"read -r hello; echo '{"type":"no-device","message":"it fell off"}'"#, "it fell off"),
    ] {
        let package = model::package_with(wrong, &beside(script));
        let mut run = model::kbench(package.path(), &["autotune", "--iters", "10"]);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut is_said = false;
        for line in BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap) {
            if line.contains("Lost worker 2") {
                is_said |= line.contains(why);
                fs::write(package.path().join("go"), "").unwrap();
            }
            said.push_str(&line);
            said.push('\n');
        }
        assert!(run.wait().unwrap().success() && is_said, "{name}: {said}");
        assert_eq!(results(package.path()), results(sound.path()), "{name}: {said}");
        assert_eq!(winner(package.path()), winner(sound.path()), "{name}");
    }
}

#[test]
fn a_worker_that_ends_at_checks_in_full_leaves_them_to_the_finals() {
    let wrong = "time_ns = \"20000 - 1000 * A - 700 * B - 333 * C + 11 * D\"\n";
    let sound = model::package_with(wrong, ALL);
    assert!(autotune(sound.path(), &[]).status.success());
    // The request of a check in full names more than one seed. The first worker takes long for one, so that the second gets one too.
    let at = |action: &str| {
        format!(
            r#"while read -r line; do case "$line" in *'"seeds":[0,1'*) {action};; esac; echo "$line"; done | "$@""#
        )
    };
    let workers = "[[package.metadata.kbench.kernels.model.workers]]\n";
    let (slow, ends) = (runner(&at("sleep 2")), runner(&at("echo ended >> ended; exit")));
    let package = model::package_with(wrong, &format!("{ALL}\n{workers}{slow}{workers}{ends}"));
    let output = autotune(package.path(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(package.path().join("ended").exists(), "the second worker got no check: {}", said(&output));
    assert_eq!(results(package.path()), results(sound.path()), "{}", said(&output));
    assert_eq!(winner(package.path()), winner(sound.path()));
}

#[test]
fn a_first_worker_that_does_not_open_leaves_the_run_to_the_others() {
    let sound = model::package_with(model::MODEL, ALL);
    assert!(autotune(sound.path(), &[]).status.success());
    let workers = "[[package.metadata.kbench.kernels.model.workers]]\n";
    let table = format!("{ALL}\n{workers}{}{workers}{}", runner("exit 7"), runner("exec \"$@\""));
    let package = model::package_with(model::MODEL, &table);
    let output = autotune(package.path(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("Workers 2, each with a fake"), "{}", said(&output));
    assert_eq!(results(package.path()), results(sound.path()), "{}", said(&output));
    assert_eq!(winner(package.path()), winner(sound.path()));

    let none = model::package_with(
        model::MODEL,
        &format!("{ALL}\n{workers}{}{workers}{}", runner("exit 7"), runner("exit 8")),
    );
    let output = autotune(none.path(), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("could not start the worker `sh -c exit 7"), "{}", said(&output));
}

#[test]
fn devices_of_two_models_are_searched_apart() {
    // The second and the third worker have another device than the first.
    let other = r#""$@" | sed -u 's/"name":"fake"/"name":"other"/'"#;
    let workers = "[[package.metadata.kbench.kernels.model.workers]]\n";
    let wrong = "time_ns = \"20000 - 1000 * A - 700 * B - 333 * C + 11 * D\"\n";
    // The first worker measures once all were seen: a search that has ended hears of no other model.
    let waits = r#"{ read -r hello; echo "$hello"; until [ -e go ]; do sleep 0.05; done; cat; } | "$@""#;
    let table = format!("{ALL}\n{workers}{}{workers}count = 2\n{}", runner(waits), runner(other));
    let package = model::package_with(wrong, &table);
    let mut run = model::kbench(package.path(), &["autotune", "--iters", "10"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, mut others) = (String::new(), 0);
    for line in BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap) {
        others += usize::from(line.contains("other with driver 0 where the others have fake with 0"));
        if others == 2 {
            fs::write(package.path().join("go"), "").unwrap();
        }
        said.push_str(&line);
        said.push('\n');
    }
    assert!(run.wait().unwrap().success(), "{said}");
    assert!(said.contains("Splitting 2 workers") && said.contains("Workers 2, each with a other"), "{said}");
    let elite: Value = serde_json::from_slice(&fs::read(package.path().join("elite.json")).unwrap()).unwrap();
    let entries = elite["kernels"].as_array().unwrap();
    let devices: BTreeMap<&str, &Value> = entries
        .iter()
        .map(|entry| (entry["device"]["name"].as_str().unwrap(), &entry["search"]["evaluated"]))
        .collect();
    assert_eq!(devices.keys().collect::<Vec<_>>(), [&"fake", &"other"]);
    assert!(devices.values().all(|evaluated| **evaluated == 64), "{devices:?}");
}

#[test]
fn a_worker_that_is_slower_than_the_others_is_reported_and_measures_no_finals() {
    // It hears of no job before the other one does, which therefore takes part.
    let slow = r#"{ read -r hello; echo "$hello"; until [ -e go ]; do sleep 0.05; done; cat; } | KBENCH_FAKE_SLOWNESS=1.1 "$@""#;
    let other = r#"{ read -r hello; echo "$hello"; read -r job; touch go; echo "$job"; cat; } | "$@""#;
    let workers = "[[package.metadata.kbench.kernels.model.workers]]\n";
    let table = format!("{ALL}\n{workers}{}{workers}{}", runner(slow), runner(other));
    // The first worker is the slow one: by its times nothing that it measured would be in the finals.
    let package =
        model::package_with("time_ns = \"20000 - 1000 * A - 700 * B - 333 * C + 11 * D\"\ndelay_ms = 1\n", &table);
    let output = autotune(package.path(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
    assert!(text.contains("worker 1") && text.contains("% slower than the others on"), "{text}");
    let elite: Value = serde_json::from_slice(&fs::read(package.path().join("elite.json")).unwrap()).unwrap();
    let best = &elite["kernels"][0]["elite"][0];
    assert_eq!(best["toggles"], serde_json::json!({ "A": 3, "B": 3, "C": 1, "D": 0 }));
    // 20000 - 3000 - 2100 - 333
    let p50 = best["timing"]["p50"].as_f64().or(best["timing"]["summary"]["p50"].as_f64()).unwrap();
    assert!((p50 / 14_567.0 - 1.0).abs() < 0.02, "{p50}");
}

#[test]
fn a_variant_that_costs_two_workers_is_blamed_and_costs_no_third() {
    let package = many("killed_after = \"0 if A == 3 and C == 1 else 1000000\"\n");
    let output = autotune(package.path(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    let results = results(package.path());
    let blamed: Vec<&String> =
        results.iter().filter(|(_, result)| !result.contains("passed")).map(|(key, _)| key).collect();
    assert_eq!((results.len(), blamed.len()), (256, 16), "{results:?}");
    for key in blamed {
        assert!(key.contains("\"A\":3") && key.contains("\"C\":1"), "{key}");
        assert_eq!(results[key], "\"signal\" none");
    }
    assert_eq!(killed(package.path()), 2 * 16);
}

#[test]
fn without_workers_finished_evaluations_are_kept_and_the_run_resumes_elsewhere() {
    // The first two starts are workers that end; after them there is no device any more.
    let script = r#"echo start >> starts; if [ $(wc -l < starts) -le 2 ]; then exec "$@"; fi; read -r hello
        echo '{"type":"no-device","message":"it fell off"}'"#;
    let package = many("killed_after = \"100 + (37 * A + 101 * B + 53 * C + 19 * D) % 60\"\n");
    let manifest = package.path().join("Cargo.toml");
    let table = fs::read_to_string(&manifest).unwrap();
    let falling = format!("[package.metadata.kbench.kernels.model.workers]\ncount = 2\n{}", runner(script));
    fs::write(&manifest, table.replace(NOTED, &falling)).unwrap();
    let output = autotune(package.path(), &[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("no worker is left for kernel `model`"), "{}", said(&output));
    assert!(
        said(&output).contains("it fell off; finished evaluations are kept, and `--resume` continues"),
        "{}",
        said(&output)
    );
    let finished = results(package.path());
    assert!(!finished.is_empty() && finished.len() < 256, "{}", finished.len());

    // Other machines, on which it goes on.
    fs::write(&manifest, table).unwrap();
    let output = autotune(package.path(), &["--resume"]);
    assert!(output.status.success(), "{}", said(&output));
    let all = results(package.path());
    assert_eq!(all.len(), 256);
    assert!(finished.iter().all(|(key, result)| all[key] == *result));
}

/// A runner to a machine with other folders, without this program: as `ssh` does, it gives its words to a shell there.
const AWAY: &str = r#"case "$1" in */*) echo "$1: not found" >&2; exit 127;; esac
    cd away; exec env -i HOME="$PWD" TMPDIR="$PWD/tmp" PATH="$PWD/bin:/usr/bin:/bin" sh -c "$*""#;

/// A package whose two workers are on that machine.
fn away(model: &str) -> tempfile::TempDir {
    let workers = "[package.metadata.kbench.kernels.model.workers]\ncount = 2\n";
    let package = model::package_with(model, &format!("{ALL}\n{workers}{}", runner(AWAY)));
    fs::create_dir_all(package.path().join("away/bin")).unwrap();
    fs::create_dir(package.path().join("away/tmp")).unwrap();
    package
}

/// A command of the other machine.
fn stand_in(package: &Path, name: &str, script: &str) {
    let path = package.join("away/bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_machine_without_the_program_gets_one_copy_in_one_folder() {
    let sound = model::package_with(model::MODEL, ALL);
    assert!(autotune(sound.path(), &[]).status.success());
    let package = away(model::MODEL);
    let there = package.path().join("away");
    let mut copy = None;
    for run in 0..2 {
        let output = autotune(package.path(), &["--fresh"]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(results(package.path()), results(sound.path()), "{}", said(&output));
        assert_eq!(winner(package.path()), winner(sound.path()));
        assert_eq!(
            (names(&there), names(&there.join("tmp"))),
            (vec![".cache".into(), "bin".into(), "tmp".into()], vec![])
        );
        assert_eq!(names(&there.join(".cache")), ["cargo-kbench"]);
        let folder = there.join(".cache/cargo-kbench");
        let files = names(&folder);
        assert!(files.len() == 1 && files[0].starts_with("cargo-kbench-"), "{files:?}");
        let file = fs::metadata(folder.join(&files[0])).unwrap();
        let modes = [&file, &fs::metadata(&folder).unwrap()].map(|metadata| metadata.mode() & 0o777);
        assert_eq!(modes, [0o700; 2]);
        // Either of two workers that start together may be the last to put its copy there; a later run sends none.
        let before = copy.replace((file.ino(), file.mtime()));
        assert!(run == 0 || before == copy, "the second run sent it again");
        fs::remove_file(package.path().join("target/kbench/journal/model/model.jsonl")).unwrap();
    }
}

#[test]
fn a_machine_that_cannot_run_the_program_is_refused_with_the_reason() {
    let size = fs::metadata(env!("CARGO_BIN_EXE_cargo-kbench")).unwrap().len();
    let foreign = "#!/bin/sh\necho libc.so.6: version GLIBC_2.99 not found >&2\nexit 1\n";
    let sends = format!(
        "cat >/dev/null & printf '{}'; /usr/bin/head -c {} /dev/zero",
        foreign.replace('\n', "\\n"),
        size - foreign.len() as u64
    );
    for (name, script, why) in [
        ("uname", "echo Linux riscv64", "that machine is Linux riscv64, this build of cargo-kbench is for Linux"),
        ("head", &*sends, "does not run there: libc.so.6: version GLIBC_2.99 not found; build one there"),
        ("head", "exit 1", "did not arrive whole in"),
        ("mkdir", "exit 1", "no folder there takes cargo-kbench: set TMPDIR"),
    ] {
        let package = away(model::MODEL);
        stand_in(package.path(), name, script);
        let output = autotune(package.path(), &[]);
        assert_eq!(output.status.code(), Some(3), "{name}: {}", said(&output));
        assert!(said(&output).contains(why), "{name}: {}", said(&output));
        assert!(results(package.path()).is_empty());
        let cache = package.path().join("away/.cache/cargo-kbench");
        assert!(!cache.exists() || names(&cache).is_empty(), "{name} left something behind");
    }
}

#[test]
fn impossible_workers_are_refused() {
    let refused = |table: &str, args: &[&str]| {
        let package = model::package_with(model::MODEL, table);
        let output = autotune(package.path(), args);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    let several = "[[package.metadata.kbench.kernels.model.workers]]\ncount = 2\n\
                   [[package.metadata.kbench.kernels.model.workers]]\nrunner = [\"env\"]\n";
    assert!(refused(several, &["--workers", "3"]).contains("and the table has 2;"));
    let misspelt = "[package.metadata.kbench.kernels.model.workers]\nnumber = 2\n";
    assert!(refused(misspelt, &[]).contains("unknown key `number`"));
}

//! A space that is searched part by part, and results that are put together. On the model device.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

mod model;

/// Times without noise: what is measured in parts is what is measured at once. D changes no code where C is 0, and two variants of the
/// greatest A and B have faults.
const EXACT: &str = r#"
time_ns = "20000 - 1000 * A - 700 * B - 333 * C + 11 * C * D"
noise = 0
[[fault]]
when = "A == 3 and B == 3"
kind = "wrong"
"#;

fn package(model: &str) -> tempfile::TempDir {
    model::package_with(model, "[package.metadata.kbench.kernels.model.search]\nstrategy = \"exhaustive\"\n")
}

fn run(folder: &Path, args: &[&str]) -> String {
    let shown = model::shown(folder, args);
    assert!(shown.starts_with("exit 0\n"), "{shown}");
    shown
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A file of elites without what says when and by how many runs they were found.
fn undated(path: &Path) -> Value {
    let mut file = read(path);
    for entry in file["kernels"].as_array_mut().unwrap() {
        assert!(entry["date"].take().is_string());
        let search = entry["search"].as_object_mut().unwrap();
        search.remove("runs");
        search.remove("partition");
    }
    file
}

/// Searches every part of a package, each with a target directory of its own; gives the elites and the journals.
fn parts(package: &Path, of: usize) -> Vec<[PathBuf; 2]> {
    let part = |part: usize| {
        let target = format!("target/part-{part}-of-{of}");
        run(package, &["autotune", "-q", "--cold", "--partition", &format!("{part}/{of}"), "--target-dir", &target]);
        let elite = package.join(format!("{part}-of-{of}.json"));
        fs::rename(package.join("target/elite.json"), &elite).unwrap();
        [elite, package.join(target).join("kbench/journal/model/model.jsonl")]
    };
    (1..=of).map(part).collect()
}

fn merge(package: &Path, files: &[&PathBuf]) -> String {
    let files: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    run(package, &[&["merge"], &files[..]].concat())
}

/// The variants of the last search, sorted.
fn list(package: &Path) -> Vec<String> {
    let shown = run(package, &["list", "--columns", "outcome,p50,reason,A,B,C,D"]);
    let mut lines: Vec<String> =
        shown.lines().filter(|line| line.contains("passed") || line.contains("rejected")).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn forget(package: &Path) {
    let _ = fs::remove_file(package.join("elite.json"));
    let _ = fs::remove_dir_all(package.join("target/kbench"));
}

#[test]
fn a_rejected_default_is_counted_in_the_part_that_it_belongs_to() {
    let package = package("time_ns = '20000 - 1000 * A'\n[[fault]]\nwhen = 'A == 0 and B == 0'\nkind = 'wrong'\n");
    let rejected = |[elite, _]: &[PathBuf; 2]| {
        read(elite)["kernels"][0]["search"]["rejected"]["correctness/wrong"].as_u64().unwrap_or(0)
    };
    // Every part evaluates the default.
    assert_eq!(parts(package.path(), 3).iter().map(rejected).sum::<u64>(), 4);
}

#[test]
fn parts_merge_in_any_order_to_the_result_of_one_run() {
    let package = package(EXACT);
    let folder = package.path();
    run(folder, &["autotune", "-q"]);
    let whole = undated(&folder.join("elite.json"));
    let listed = list(folder);
    assert_eq!(
        (&whole["kernels"][0]["search"]["evaluated"], &whole["kernels"][0]["search"]["space"]),
        (&64.into(), &64.into())
    );
    for of in [1, 4] {
        forget(folder);
        let parts = parts(folder, of);
        let evaluated = |[elite, _]: &[PathBuf; 2]| read(elite)["kernels"][0]["search"]["evaluated"].as_u64().unwrap();
        assert_eq!(parts.iter().map(evaluated).sum::<u64>(), 64, "every variant in one part");
        let journals: Vec<&PathBuf> = parts.iter().map(|[_, journal]| journal).collect();
        let elites: Vec<&PathBuf> = parts.iter().map(|[elite, _]| elite).collect();
        let backwards: Vec<&PathBuf> = journals.iter().rev().chain(&journals).copied().collect();
        let all: Vec<&PathBuf> = parts.iter().flatten().collect();
        for (files, at_once) in
            [(&journals, true), (&elites, true), (&backwards, true), (&all, true), (&journals, false)]
        {
            forget(folder);
            if at_once {
                merge(folder, files);
            } else {
                for file in files {
                    merge(folder, &[file]);
                }
            }
            let merged = undated(&folder.join("elite.json"));
            if files == &elites && of > 1 {
                // Pairs of variants of different parts are known to journals only.
                continue;
            }
            assert_eq!(merged, whole, "{of} parts");
        }
        assert_eq!(list(folder), listed);
    }
}

#[test]
fn results_of_other_tables_and_versions_are_refused_and_of_other_devices_kept_separate() {
    let package = package(EXACT);
    let folder = package.path();
    let [first, second] = &parts(folder, 2)[..] else { unreachable!() };
    let refused = |files: &[&Path], why: &str| {
        let args: Vec<&str> = std::iter::once("merge").chain(files.iter().map(|path| path.to_str().unwrap())).collect();
        let shown = model::shown(folder, &args);
        assert!(shown.starts_with("exit 2\n") && shown.contains(why), "{why}: {shown}");
        assert!(!folder.join("elite.json").exists(), "nothing is written: {why}");
    };
    let changed = |of: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(of).unwrap();
        assert!(text.contains(from), "{from}");
        let path = folder.join("changed.json");
        fs::write(&path, text.replace(from, to)).unwrap();
        path
    };
    let table = read(&first[0])["kernels"][0]["question"]["table"].as_str().unwrap().to_owned();
    let source = read(&first[0])["kernels"][0]["question"]["sources"][0].as_str().unwrap().to_owned();
    for (from, to, why) in [
        (&*table, "0123", "another table"),
        (&*source, "0123", "sources or headers"),
        ("\"kernel\": \"model\"", "\"kernel\": \"other\"", "kernel `model/other`"),
        ("\"kbench\": \"0", "\"kbench\": \"9", "cargo-kbench"),
        ("\"multiprocessors\": ", "\"multiprocessors\": 1", "devices of the name"),
        ("\"warmup\": ", "\"warmup\": 1", "timing settings differ"),
        ("\"version\": 1", "\"version\": 9", "version 9"),
        ("\"A\": ", "\"Z\": ", "no toggle `Z`"),
    ] {
        refused(&[&second[0], &changed(&first[0], from, to)], why);
    }
    fs::write(folder.join("changed.json"), "no results").unwrap();
    refused(&[&folder.join("changed.json")], "neither an elite.json nor a journal");
    refused(&[&folder.join("not-there.json")], "not-there.json");

    // Another device is another entry.
    let elsewhere = changed(&first[0], "\"name\": \"fake\"", "\"name\": \"other\"");
    merge(folder, &[&second[0], &elsewhere]);
    let elite = read(&folder.join("elite.json"));
    let devices: Vec<&str> =
        elite["kernels"].as_array().unwrap().iter().map(|entry| entry["device"]["name"].as_str().unwrap()).collect();
    assert_eq!(devices, ["fake", "other"]);

    // An entry of another table gives way to what is merged, and a part is no whole.
    let shown = merge(folder, &[&first[1]]);
    assert!(shown.contains("64 variants of 2 runs") && !shown.contains("missing"), "{shown}");
    forget(folder);
    let shown = merge(folder, &[&first[1]]);
    assert!(shown.contains("missing no result of part 2/2"), "{shown}");
    let old = fs::read_to_string(folder.join("elite.json")).unwrap().replace(&table, "0123");
    fs::write(folder.join("elite.json"), old).unwrap();
    let shown = merge(folder, &[&second[0]]);
    assert!(shown.contains("Replacing") && shown.contains("the tables of the kernel differ"), "{shown}");
}

#[test]
fn a_merged_journal_is_resumed_reused_and_reported() {
    let package = package(EXACT);
    let folder = package.path();
    let parts = parts(folder, 3);
    let journals: Vec<&PathBuf> = parts.iter().map(|[_, journal]| journal).collect();
    merge(folder, &journals);
    let text = run(folder, &["report", "--format", "md"]);
    assert!(text.contains("A=3 B=2 C=1 D=0"), "{text}");
    let journal = folder.join("target/kbench/journal/model/model.jsonl");
    // Without variants that share a measurement: parts do not know of each other's identical code.
    let evaluations = || {
        let text = fs::read_to_string(&journal).unwrap();
        let is_measured = |line: &&str| line.contains("\"record\":\"evaluation\"") && line.contains("\"twin\":null");
        text.lines().filter(is_measured).count()
    };
    let before = evaluations();
    assert!(before > 48, "{before}");
    // Its finals are those of all parts' best: nothing else is measured.
    run(folder, &["autotune", "-q", "--resume"]);
    assert_eq!(evaluations(), before);
    let elite = read(&folder.join("elite.json"));
    let search = &elite["kernels"][0]["search"];
    assert_eq!((&search["evaluated"], &search["runs"]), (&64.into(), &Value::Null));
    run(folder, &["autotune", "-q"]);
    assert!(read(&folder.join("elite.json"))["kernels"][0]["search"]["recalled"].as_u64().unwrap() > 30);
}

#[test]
fn a_part_is_named_as_such() {
    let package = package(EXACT);
    for wrong in ["0/2", "3/2", "2", "a/b"] {
        let shown = model::shown(package.path(), &["autotune", "--partition", wrong]);
        assert!(shown.starts_with("exit 2\n") && shown.contains("number of a part"), "{shown}");
    }
}

//! Several workers: the same variants with the same results as one worker has, whatever becomes of the workers. On the model device, whose
//! times depend on the toggles alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

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
fn several_workers_try_what_one_tries_and_name_the_same_winner() {
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

#[test]
fn workers_that_there_cannot_be_are_refused() {
    let refused = |table: &str, args: &[&str]| {
        let package = model::package_with(model::MODEL, table);
        let output = autotune(package.path(), args);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    let several = "[[package.metadata.kbench.kernels.model.workers]]\ncount = 2\n\
                   [[package.metadata.kbench.kernels.model.workers]]\nrunner = [\"env\"]\n";
    assert!(refused(several, &["--workers", "3"]).contains("the table has 2 kinds"));
    let misspelt = "[package.metadata.kbench.kernels.model.workers]\nnumber = 2\n";
    assert!(refused(misspelt, &[]).contains("unknown key `number`"));
}

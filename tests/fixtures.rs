//! The table test: every fixture gets the verdict that `fixtures/expected.toml` gives it. Needs no GPU;
//! `gpu_fixtures.rs` is its sibling for one.

use std::collections::BTreeSet;
use std::env;
use std::fs;

use verdicts::{expected, fixtures, kbench, kbench_with};

mod verdicts;

#[test]
fn every_fixture_is_in_the_table() {
    let mut packages = BTreeSet::new();
    for language in ["c", "cuda"] {
        for entry in fs::read_dir(fixtures().join(language)).expect("the fixtures can be listed") {
            let path = entry.expect("the fixtures can be listed").path();
            if path.is_dir() {
                packages.insert(format!("{language}-{}", path.file_name().expect("a name").display()));
            }
        }
    }
    assert_eq!(packages, expected("").into_keys().collect());
}

#[test]
fn c_fixtures_get_their_verdicts() {
    let expected = expected("c-");
    let run = kbench("gate", expected.keys());
    run.assert_verdicts(&expected);
    run.assert_exit(1);
}

#[test]
fn exit_code_is_that_of_the_verdict() {
    let expected = expected("c-");
    for package in ["c-good", "c-prints", "c-wrong-value", "c-does-not-compile"] {
        kbench("gate", [&package.to_owned()]).assert_exit(expected[package].exit);
    }
}

#[test]
fn a_rejected_kernel_is_not_compared_with_its_baselines() {
    let run = kbench("gate", [&"c-worse-than-naive".to_owned()]);
    run.assert_exit(1);
    assert!(!run.stdout.contains(r#""reason":"comparison""#), "{}", run.stdout);
    let passed = kbench_with("gate", [&"c-partial-sums".to_owned()], &["--variant", "PARTS=2"]);
    assert!(passed.stdout.contains(r#""reason":"comparison""#), "{}", passed.stdout);
}

#[test]
fn build_gives_the_verdicts_that_need_no_device() {
    let mut expected = expected("");
    if !nvcc_is_there() {
        println!("CUDA fixtures skipped: no nvcc");
        expected.retain(|package, _| package.starts_with("c-"));
    }
    let run = kbench("build", expected.keys());
    run.assert_verdicts(expected.iter().filter(|(_, expected)| expected.build));
    let others = expected.iter().filter(|(_, expected)| !expected.build);
    let failed: Vec<_> = others
        .filter(|(package, _)| run.verdicts.get(*package).is_some_and(|verdict| verdict["status"] == "fail"))
        // Occupancy is the one resource that depends on the device; whether a build knows it is left to the build.
        .filter(|(_, expected)| expected.code != "occupancy")
        .map(|(package, _)| &run.verdicts[package])
        .collect();
    assert!(failed.is_empty(), "refused though they build: {failed:#?}");
    run.assert_exit(1);
}

#[test]
fn dead_toggles_are_named() {
    let expected = expected("c-");
    for package in ["c-good", "c-dead-toggle"] {
        let run = kbench("autotune", [&package.to_owned()]);
        run.assert_exit(0);
        let tuned = run.message("tuned");
        assert_eq!(tuned["entry"]["search"]["dead_toggles"], serde_json::json!(expected[package].dead), "{package}");
    }
}

#[test]
fn a_finalist_that_a_sanitizer_rejects_gives_its_place_to_the_next() {
    let run = kbench("autotune", [&"c-overflows-when-wide".to_owned()]);
    run.assert_exit(0);
    let tuned = run.message("tuned");
    assert_eq!(tuned["entry"]["search"]["rejected"], serde_json::json!({ "sanitize/undefined": 1 }));
    let elite = tuned["entry"]["elite"].as_array().expect("a list");
    assert_eq!(elite.len(), 1);
    assert_eq!(elite[0]["toggles"]["WIDE"], 0);
    // What ran under sanitizers is not time of our own.
    let spent = |what: &str| tuned["spent"][what].as_f64().expect("a number");
    assert!(spent("tools") > spent("own"), "{}", tuned["spent"]);
}

#[test]
fn a_variant_that_random_inputs_pass_does_not_win() {
    let run = kbench("autotune", [&"c-maximum-from-zero-when-wide".to_owned()]);
    run.assert_exit(0);
    let tuned = run.message("tuned");
    assert_eq!(tuned["entry"]["search"]["rejected"], serde_json::json!({ "correctness/wrong": 1 }));
    let elite = tuned["entry"]["elite"].as_array().expect("a list");
    assert_eq!(elite.len(), 1);
    assert_eq!(elite[0]["toggles"]["WIDE"], 0);
    let of_small = &elite[0]["errors"][0];
    assert_eq!(of_small["seeds"], 2);
    assert_eq!(of_small["patterns"].as_array().map(Vec::len), Some(13), "checked in full: {of_small}");
}

#[test]
fn a_baseline_computes_the_same_as_the_variant() {
    // `two` is right beside two sums alone.
    for (parts, measured) in [("PARTS=2", ["plain", "two"].as_slice()), ("PARTS=8", &["plain"])] {
        let run = kbench_with("gate", [&"c-partial-sums".to_owned()], &["--variant", parts]);
        run.assert_exit(0);
        let compared = run.message("comparison");
        let entries = compared["entries"].as_array().expect("a list");
        let names: Vec<_> = entries[1..].iter().map(|entry| entry["name"].as_str().expect("a name")).collect();
        assert_eq!(names, measured, "{compared}");
    }
}

/// Whether nvcc can be found without a search of the whole machine.
fn nvcc_is_there() -> bool {
    env::var_os("NVCC").is_some()
        || env::var_os("CUDA_HOME").is_some()
        || env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join("nvcc").is_file())
}

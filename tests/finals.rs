//! Who wins a search, and who is out though it passed so far, on the model device.

use std::fs;
use std::path::Path;

use model::{kbench, keep_ceilings, package_with};
use serde_json::Value;

mod model;

/// A package with four variants, A from 0 to 3.
fn package(model: &str, search: &str) -> tempfile::TempDir {
    let package = package_with(model, &format!("[package.metadata.kbench.kernels.model.search]\n{search}"));
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text.replace(", B = [0, 1, 2, 3] }", " }").replace("toggles.micro = { C = [0, 1], D = [0, 1] }\n", "");
    fs::write(manifest, text).unwrap();
    package
}

/// The entry of elite.json, and what was printed.
fn tuned(folder: &Path, more: &[&str]) -> (Value, String) {
    let output = kbench(folder, &[&["autotune", "--iters", "20"], more].concat()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{said}");
    let elite: Value = serde_json::from_slice(&fs::read(folder.join("elite.json")).unwrap()).unwrap();
    (elite["kernels"][0].clone(), said)
}

fn winner(entry: &Value) -> i64 {
    entry["elite"][0]["toggles"]["A"].as_i64().unwrap()
}

#[test]
fn a_finalist_that_is_wrong_when_it_is_measured_again_is_out() {
    let model = "time_ns = '20000 - 1000 * A'\n[[fault]]\nwhen = 'A == 3'\nkind = 'wrong-again'\n";
    for search in ["elite = 3", "elite = 1"] {
        let package = package(model, search);
        let (entry, said) = tuned(package.path(), &[]);
        // Of one finalist that is out the next takes the place.
        assert_eq!(winner(&entry), 2, "{search}: {said}");
        assert!(entry["elite"].as_array().unwrap().iter().all(|variant| variant["toggles"]["A"] != 3), "{said}");
    }
}

#[test]
fn a_long_variant_that_cannot_win_is_in_no_finals() {
    let elite = |unit: &str, fault: &str| {
        let times = "100 + 100 * (A == 0) + 20 * (A == 2) + 60 * (A == 3)";
        let package = package(&format!("time_ns = '{unit} * ({times})'\n{fault}"), "elite = 3");
        let (entry, said) = tuned(package.path(), &[]);
        assert_eq!(entry["baselines"][0]["name"], "default", "{said}");
        let elite = entry["elite"].as_array().unwrap().iter();
        elite.map(|variant| variant["toggles"]["A"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    // 0.16 s are more than 1.5 times 0.1 s, and less than 1.5 times 0.12 s.
    assert_eq!(elite("1000000", ""), [1, 2]);
    assert_eq!(elite("1000", ""), [1, 2, 3], "short launches");
    assert_eq!(elite("1000000", "[[fault]]\nwhen = 'A == 1'\nkind = 'wrong'\n"), [2, 3]);
}

#[test]
fn a_long_default_that_cannot_win_is_checked_as_a_baseline() {
    let names = |unit: &str, default: u32, fault: &str| {
        let times = format!("100 + {default} * (A == 0) + 20 * (A == 2) + 60 * (A == 3)");
        let fault = format!("[[fault]]\nwhen = 'A == 0'\nkind = '{fault}'\n");
        let package = package(&format!("time_ns = '{unit} * ({times})'\n{fault}"), "elite = 2");
        let (entry, said) = tuned(package.path(), &[]);
        assert_eq!(winner(&entry), 1, "{said}");
        let baselines = entry["baselines"].as_array().unwrap().iter();
        baselines.map(|baseline| baseline["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Finals find this fault in a kernel that may win, or whose launches are short.
    assert_eq!(names("1000000", 100, "wrong-again"), ["default"]);
    assert_eq!(names("1000000", 40, "wrong-again"), [""; 0]);
    assert_eq!(names("1000", 100, "wrong-again"), [""; 0]);
    // Kept results make it the fastest in the finals: then it is examined too.
    assert_eq!(names("1000000", 100, "memoises"), [""; 0]);
}

#[test]
fn ranks_are_coarse_where_the_finals_compare_nearly_all_variants() {
    let searched_in = |toggles: &str, slow: &str, search: &str| {
        let package = package(&format!("time_ns = '1000000 * (1 + {slow}) + A'\nnoise = 0.03\n"), search);
        let manifest = package.path().join("Cargo.toml");
        let (text, before) = (fs::read_to_string(&manifest).unwrap(), "toggles.macro");
        assert!(text.contains(before));
        fs::write(&manifest, text.replace(before, &format!("{toggles}\n{before}"))).unwrap();
        tuned(package.path(), &[]);
        let journal = fs::read_to_string(package.path().join("target/kbench/journal/model/model.jsonl")).unwrap();
        let records = journal.lines().map(|line| {
            let mut records = serde_json::Deserializer::from_str(&line[line.find('{').unwrap()..]).into_iter::<Value>();
            records.next().unwrap().unwrap()
        });
        let of = |kind: &'static str| records.clone().filter(move |record| record["record"] == kind);
        let samples = of("evaluation").map(|record| record["timing"]["summary"]["n"].as_u64().unwrap()).max().unwrap();
        let finalists = of("comparison").next().unwrap()["entries"].as_array().unwrap().len();
        (samples, finalists)
    };
    let searched = |slow: &str, search: &str| searched_in("", slow, search);
    // The four variants are equal, and the default may be one of the best three.
    let (samples, finalists) = searched("0", "elite = 3");
    assert!(
        (10..100).contains(&samples) && finalists == 5,
        "{samples} {finalists}: all of them, and the best once more"
    );
    let (samples, finalists) = searched("0", "elite = 2");
    assert!(samples >= 100 && finalists <= 4, "{samples} {finalists}: ranks decide");
    assert_eq!(searched("(A == 3)", "elite = 3").1, 4, "A = 3 is slower");
    // At the default there is one value of C, so the search learns later that it tries seven variants.
    let more = "toggles.micro = { C = [0, 1] }\ntoggles.constraints = ['A > 0 or C == 0']";
    let (samples, finalists) = searched_in(more, "0", "elite = 3");
    assert!(samples >= 100 && finalists <= 5, "{samples} {finalists}: ranks decide");
}

#[test]
fn a_finalist_that_is_faster_than_possible_is_out() {
    // 256 floats are 1 KiB: at the 128 bytes a nanosecond of this device they take 8 ns.
    let package = package("time_ns = '20000 - 6666.3333 * A'\n", "elite = 2");
    let (entry, said) = tuned(package.path(), &[]);
    assert_eq!(winner(&entry), 2, "{said}");
    assert!(said.contains("correctness/impossible"), "{said}");
}

#[test]
fn a_ceiling_that_nothing_confirms_rejects_no_finalist() {
    // At 10 TFLOP/s the operations take 100 µs. Ceilings of the model device cannot be measured again.
    let package = package("time_ns = '20000 - 1000 * A'\n", "elite = 2");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("shapes.only", "work.flops = '1000000000'\nshapes.only")).unwrap();
    keep_ceilings(package.path(), &serde_json::json!([{ "peak": "tensor-f16", "rate": 1e13, "how": "a test" }]));
    let (entry, said) = tuned(package.path(), &[]);
    assert_eq!(winner(&entry), 3, "{said}");
}

#[test]
fn a_kernel_that_keeps_results_wins_nothing() {
    let model = "time_ns = '20000 - 1000 * A'\n[[fault]]\nwhen = 'A == 3'\nkind = 'memoises'\n";
    let (entry, said) = tuned(package(model, "elite = 3").path(), &[]);
    assert_eq!(winner(&entry), 2, "{said}");
    assert!(said.contains("performance/skips-work"), "{said}");
}

#[test]
fn ties_are_decided_without_times() {
    let rule = |entry: &Value| entry["search"]["tie"]["by"].as_str().map(str::to_owned);
    // All alike: the default.
    let alike = package("time_ns = '20000 - 2 * A'\n", "elite = 3");
    let (entry, said) = tuned(alike.path(), &[]);
    assert_eq!((winner(&entry), rule(&entry).as_deref()), (0, Some("default")), "{said}");
    assert!(said.contains("it wins since it is the default"), "{said}");
    assert_eq!(entry["elite"].as_array().unwrap().len(), 3);
    // The default is slow: the first in the space, or the one that uses less.
    let slow = "time_ns = '20000 + 2000 * (A == 0) - 2 * A'\n";
    let order = package(slow, "elite = 3");
    let (entry, said) = tuned(order.path(), &[]);
    assert_eq!((winner(&entry), rule(&entry).as_deref()), (1, Some("order")), "{said}");
    let less = package(&format!("{slow}resources = {{ registers = '64 - 8 * (A == 2)' }}\n"), "elite = 3");
    let (entry, said) = tuned(less.path(), &[]);
    assert_eq!((winner(&entry), rule(&entry).as_deref()), (2, Some("resources")), "{said}");
    // What won before wins again.
    let path = order.path().join("elite.json");
    let mut elite: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    elite["kernels"][0]["elite"][0]["toggles"]["A"] = 3.into();
    fs::write(&path, elite.to_string()).unwrap();
    let (entry, said) = tuned(order.path(), &["--fresh"]);
    assert_eq!((winner(&entry), rule(&entry).as_deref()), (3, Some("elite")), "{said}");
    // Objectives other than a time have no ties of times.
    let fewest = package("time_ns = '20000'\nresources = { registers = '64 - 8 * A' }\n", "objective = 'registers'");
    let (entry, said) = tuned(fewest.path(), &[]);
    assert_eq!((winner(&entry), rule(&entry)), (3, None), "{said}");
    // What is surely faster ties with nothing.
    let (entry, said) = tuned(package("time_ns = '20000 - 1000 * A'\n", "elite = 3").path(), &[]);
    assert_eq!((winner(&entry), rule(&entry)), (3, None), "{said}");
}

#[test]
fn a_winner_has_its_own_warnings_and_a_search_to_the_end_is_not_cut_off() {
    let model = "time_ns = '20000 - 1000 * A'\nresources = { registers = '32 + A' }\n";
    let limit =
        "elite = 2\n[package.metadata.kbench.kernels.model.gates.resources]\nlevel = 'warn'\nmax_registers = 32";
    let (entry, said) = tuned(package(model, limit).path(), &[]);
    assert_eq!(winner(&entry), 3, "{said}");
    assert!(said.contains("35 registers") && !said.contains("34 registers"), "the second's are not shown: {said}");
    assert!(entry["search"]["cut_off"].is_null(), "{entry}");
}

#[test]
fn measurements_on_a_busy_device_are_reported_and_not_reused() {
    let package = package("time_ns = '20000 - 1000 * A'\nbeside_others = true\n", "elite = 2");
    for _ in 0..2 {
        let (_, said) = tuned(package.path(), &[]);
        assert!(said.contains("in use by another process"), "{said}");
        assert!(!said.contains("that earlier runs measured"), "{said}");
    }
}

#[test]
fn a_repeated_search_keeps_the_fastest_winner_and_prints_regrets() {
    // A budget of two: the default and one more, which the seed chooses. No run knows of the others.
    let package =
        package("noise = 0\ntime_ns = '20000 - 1000 * A'\n", "strategy = 'random'\nbudget = { evaluations = 2 }");
    let args = ["autotune", "--iters", "20", "--repeat", "6", "--message-format", "json"];
    let output = kbench(package.path(), &args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let repeated = lines.filter(|line| line["reason"] == "repeated").collect::<Vec<_>>();
    let [repeated] = &repeated[..] else { panic!("{said}") };
    let (runs, winners) = (repeated["runs"].as_array().unwrap(), repeated["winners"].as_array().unwrap());
    let seeds: Vec<u64> = runs.iter().map(|run| run["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [0, 1, 2, 3, 4, 5]);
    assert!(winners.len() > 1, "six seeds agree: {repeated}");
    assert_eq!(winners.iter().map(|winner| winner["runs"].as_u64().unwrap()).sum::<u64>(), 6);
    let best = 20000 - 1000 * winners[0]["toggles"]["A"].as_i64().unwrap();
    for winner in winners {
        let time = 20000 - 1000 * winner["toggles"]["A"].as_i64().unwrap();
        let regret = winner["regret"].as_f64().unwrap();
        assert!((regret - (time as f64 / best as f64 - 1.0)).abs() < 1e-3, "{winner}");
    }
    for run in runs {
        assert_eq!(run["evaluated"], 2, "nothing of another run was recalled: {run}");
    }
    let elite: Value = serde_json::from_slice(&fs::read(package.path().join("elite.json")).unwrap()).unwrap();
    assert_eq!(elite["kernels"][0]["elite"][0]["toggles"], winners[0]["toggles"], "the best of all runs is kept");
}

#[test]
fn a_search_ends_where_a_variant_reaches_the_share_of_the_ceiling() {
    let more = "stop = { roofline = 0.9 }\n[package.metadata.kbench.kernels.model.work]\nflops = '100 * N'";
    let package = package("noise = 0\ntime_ns = '20000 - 2000 * A'\n", &format!("strategy = 'exhaustive'\n{more}"));
    let (entry, said) = tuned(package.path(), &[]);
    assert_eq!(entry["search"]["evaluated"], 4, "{said}");
    assert!(said.contains("`search.stop.roofline` was not judged") && !said.contains("Headroom"), "{said}");
    // 25600 operations in 16000 ns, with A = 2, are 91 % of this; with A = 3 they are 104 %.
    keep_ceilings(package.path(), &serde_json::json!([{ "peak": "fp32", "rate": 1.75e9, "how": "a test" }]));
    for workers in ["1", "2"] {
        let (entry, said) = tuned(package.path(), &["--fresh", "--cold", "--workers", workers]);
        assert!(said.contains("stopped by `search.stop.roofline`"), "{workers}: {said}");
        let evaluated = entry["search"]["evaluated"].as_u64().unwrap();
        // What another worker measures meanwhile is kept.
        assert!(evaluated == 3 || workers == "2" && evaluated == 4, "{workers}: {said}");
        let share = if winner(&entry) == 2 { "91.4" } else { "104.5" };
        let headroom = format!("Headroom {share} % of the ceiling: fp32 1.8 GFLOP/s (a test)");
        assert!(said.contains(&headroom), "{workers}: {said}");
    }
}

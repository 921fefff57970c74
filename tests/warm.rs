//! What earlier searches found begins the next one, is believed in nothing, and serves several shapes. On the model device.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

mod model;

/// Small sizes are fastest with A = 0, large ones with A = 3.
const CROSSING: &str = "noise = 0\ntime_ns = \"20000 + A * (4096 - SIZE) + 700 * B + 33 * C + 11 * D\"\n";

fn change(folder: &Path, file: &str, change: impl FnOnce(String) -> String) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text, "nothing was replaced");
    fs::write(path, changed).unwrap();
}

/// A package of three shapes.
fn crossing() -> tempfile::TempDir {
    let package = model::package_with(CROSSING, "");
    change(package.path(), "Cargo.toml", |text| {
        let shapes = "shapes = { small = { N = 256 }, middle = { N = 1024 }, large = { N = 8192 } }";
        text.replace("shapes.only = { N = 256 }", &format!("{shapes}\ndefines = {{ SIZE = \"N\" }}"))
    });
    package
}

fn elite(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("elite.json")).unwrap()).unwrap()
}

/// What the same command twice has the same: all but when it was, and what the second did not measure again.
fn undated(mut elite: Value) -> Value {
    for entry in elite["kernels"].as_array_mut().into_iter().flatten() {
        entry["search"].as_object_mut().unwrap().remove("recalled");
    }
    for list in ["kernels", "covers"] {
        for entry in elite[list].as_array_mut().into_iter().flatten() {
            assert!(entry["date"].take().is_string());
        }
    }
    elite
}

fn run(folder: &Path, args: &[&str]) -> String {
    let shown = model::shown(folder, &[&["autotune", "--iters", "20"], args].concat());
    assert!(shown.starts_with("exit 0\n"), "{shown}");
    shown
}

#[test]
fn two_variants_cover_three_shapes() {
    let package = crossing();
    let shown = run(package.path(), &["--per-shape", "-q"]);
    let (_, cover) = shown.split_once("model at 3 shapes").expect("a summary");
    insta::assert_snapshot!(cover);
    let first = elite(package.path());
    assert_eq!(first["kernels"].as_array().unwrap().len(), 3);
    let cover = &first["covers"][0];
    assert_eq!((&cover["is_smallest"], cover["variants"].as_array().unwrap().len()), (&Value::from(true), 2));
    for shape in cover["shapes"].as_array().unwrap() {
        let chosen = &cover["variants"][shape["variant"].as_u64().unwrap() as usize];
        assert_eq!(chosen["A"], if shape["shape"] == "large" { 3 } else { 0 });
        assert!(shape["loss"].as_f64().unwrap() <= 0.02);
    }
    // All that any shape's elite has was measured at every shape.
    let elites = first["kernels"].as_array().unwrap().iter().flat_map(|entry| entry["elite"].as_array().unwrap());
    let union: BTreeSet<String> = elites.map(|variant| variant["toggles"].to_string()).collect();
    let measured = cover["measured"].as_array().unwrap();
    assert_eq!(measured.iter().map(|variant| variant["toggles"].to_string()).collect::<BTreeSet<_>>(), union);
    assert!(measured.iter().all(|variant| variant["p50_ns"].as_object().unwrap().len() == 3));
    // Each shape begins with what the shapes before it found, the most alike sizes first.
    let begun = |at: usize| first["kernels"][at]["search"]["warm_start"].as_array().cloned().unwrap_or_default();
    assert_eq!(begun(0), [] as [Value; 0]);
    assert!(!begun(1).is_empty() && begun(1).iter().all(|variant| variant["shape"] == "small"));
    assert_eq!(begun(2)[0]["shape"], "middle");

    // The same again does the same, whatever elite.json holds by now; a resumed run measures nothing again.
    run(package.path(), &["--per-shape", "-q"]);
    assert_eq!(undated(elite(package.path())), undated(first.clone()));
    let journals = || -> usize {
        let folder = package.path().join("target/kbench/journal/model");
        let shapes = ["small", "middle", "large"].map(|shape| folder.join(format!("model/{shape}.jsonl")));
        let texts =
            shapes.into_iter().chain([folder.join("model.jsonl")]).map(|path| fs::read_to_string(path).unwrap());
        texts
            .map(|text| {
                text.matches("\"record\":\"evaluation\"").count() + text.matches("\"record\":\"comparison\"").count()
            })
            .sum()
    };
    let before = journals();
    run(package.path(), &["--per-shape", "-q", "--resume"]);
    assert_eq!(journals(), before);
    assert_eq!(undated(elite(package.path())), undated(first));
}

/// A package whose elite.json was measured on another device, and whose search may try so many variants.
fn elsewhere(evaluations: u32) -> tempfile::TempDir {
    let package = model::package_with(model::MODEL, "");
    run(package.path(), &["-q"]);
    change(package.path(), "elite.json", |text| text.replace("\"name\": \"fake\"", "\"name\": \"other\""));
    change(package.path(), "Cargo.toml", |text| {
        let budget = format!("search.strategy = \"auto\"\nsearch.budget.evaluations = {evaluations}");
        text.replace("search.strategy = \"evo\"", &budget)
    });
    package
}

/// The entry of the device that is here.
fn entry(folder: &Path) -> Value {
    let elite = elite(folder);
    elite["kernels"].as_array().unwrap().iter().find(|entry| entry["device"]["name"] == "fake").unwrap().clone()
}

#[test]
fn another_devices_elite_is_tried_right_after_the_default() {
    let package = elsewhere(4);
    let best = elite(package.path())["kernels"][0]["elite"][0]["toggles"].clone();
    let shown = run(package.path(), &[]);
    assert!(
        shown.contains("  Warm start 3 variants from earlier elites, first A=3 B=2 C=1 D=0 (only on other)"),
        "{shown}"
    );
    let begun = entry(package.path());
    assert_eq!(begun["elite"][0]["toggles"], best);
    let from: Vec<&Value> =
        begun["search"]["warm_start"].as_array().unwrap().iter().map(|from| &from["device"]).collect();
    assert_eq!(from, ["other"; 3]);

    run(package.path(), &["--cold"]);
    let cold = entry(package.path());
    assert_ne!(cold["elite"][0]["toggles"], best, "4 of 64 variants would have done without it");
    assert_eq!(cold["search"]["warm_start"], Value::Null);

    // The file that a search adds to says nothing of this device, and another may.
    let given = package.path().join("given.json");
    fs::rename(package.path().join("elite.json"), &given).unwrap();
    run(package.path(), &[]);
    assert_eq!(entry(package.path())["search"]["warm_start"], Value::Null);
    run(package.path(), &["--from", "given.json"]);
    assert_eq!(entry(package.path())["elite"][0]["toggles"], best);
}

#[test]
fn invalid_variants_of_earlier_elites_are_dropped() {
    let package = elsewhere(25);
    let mut file = elite(package.path());
    let variants = file["kernels"][0]["elite"].as_array_mut().unwrap();
    // As fast as nothing is; a value that there is not, a toggle that there is not, and a variant that ends the worker.
    variants[0]["timing"]["summary"]["p50"] = 1e-3.into();
    variants[0]["toggles"] = serde_json::json!({ "A": 3, "B": 3, "C": 0, "D": 0 });
    variants[1]["toggles"] = serde_json::json!({ "A": 9, "B": "two", "C": 0, "D": 0 });
    variants[2]["toggles"] = serde_json::json!({ "A": 3, "STAGES": 4 });
    file["kernels"][0]["dims"]["N"] = i64::MIN.into();
    fs::write(package.path().join("elite.json"), file.to_string()).unwrap();
    let shown = run(package.path(), &["-v"]);
    for words in [
        "Dropped 2 variants from earlier elites, not in this space",
        "(rank 2 at only on other): `A` has no value `9`",
        "(rank 3 at only on other): no toggle `STAGES`",
        "launch/signal",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let entry = entry(package.path());
    assert_eq!(entry["search"]["warm_start"].as_array().unwrap().len(), 1);
    assert_eq!(entry["elite"][0]["toggles"].to_string(), r#"{"A":3,"B":2,"C":1,"D":0}"#, "the best is still found");
}

#[test]
fn a_file_that_cannot_be_begun_with_is_an_error() {
    let package = model::package_with(model::MODEL, "");
    let shown = model::shown(package.path(), &["autotune", "--from", "none.json"]);
    assert!(shown.starts_with("exit 2\n") && shown.contains("--from none.json: No such file"), "{shown}");
    fs::write(package.path().join("bad.json"), "{\"version\": 1, \"kernels\": [{}]}").unwrap();
    let shown = model::shown(package.path(), &["autotune", "--from", "bad.json"]);
    assert!(shown.contains("bad.json: missing field"), "{shown}");
    assert!(!package.path().join("elite.json").exists());
}

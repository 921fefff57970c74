use kbench_runtime::stats::Summary;

use super::*;

pub(crate) fn entry(kernel: &str, shape: &str, evaluated: u64) -> EliteEntry {
    EliteEntry {
        package: "p".into(),
        kernel: kernel.into(),
        device: DeviceRecord {
            kind: "fake".into(),
            name: "model".into(),
            driver: String::new(),
            compute_capability: None,
            multiprocessors: 1,
            clock_khz: 0,
        },
        shape: shape.into(),
        dims: BTreeMap::from([("N".into(), 64)]),
        timing: (&Timing::default()).into(),
        elite: vec![],
        baselines: vec![],
        unavailable: BTreeMap::new(),
        search: SearchRecord {
            strategy: "evo".into(),
            seed: 0,
            objectives: vec![],
            space: Some(64),
            evaluated,
            cached: 0,
            rejected: BTreeMap::new(),
            dead_toggles: vec![],
            proposer: None,
            cut_off: false,
            noise_floor: Some(0.004),
            tie: None,
            warm_start: vec![],
            partition: None,
            runs: vec![],
        },
        date: "2026-01-01T00:00:00Z".into(),
        kbench: "0.1.0".into(),
        question: None,
    }
}

#[test]
fn the_committed_schema_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/elite.schema.json");
    let current = serde_json::to_string_pretty(&schemars::schema_for!(EliteFile)).unwrap() + "\n";
    if std::env::var_os("KBENCH_UPDATE").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == current, "run `KBENCH_UPDATE=1 cargo test -p cargo-kbench schema`");
}

#[test]
fn entries_of_other_kernels_and_shapes_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("elite.json");
    let mut file = EliteFile::read(&path).unwrap();
    file.insert(entry("a", "small", 1));
    file.insert(entry("a", "large", 2));
    file.insert(entry("b", "small", 3));
    file.write(&path).unwrap();
    let mut file = EliteFile::read(&path).unwrap();
    file.insert(entry("a", "large", 9));
    file.write(&path).unwrap();
    let read = EliteFile::read(&path).unwrap();
    let evaluated: Vec<u64> = read.kernels.iter().map(|entry| entry.search.evaluated).collect();
    assert_eq!(evaluated, [1, 9, 3]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

/// The best variant of a kernel without toggles, all of whose samples take `time` nanoseconds.
fn variant(time: f64) -> EliteVariant {
    EliteVariant {
        rank: 1,
        toggles: Settings::default(),
        source: None,
        timing: TimingRecord {
            shape: "small".into(),
            summary: Summary::of(&[time; 3]).unwrap(),
            batch: 1,
            clock: "fake".into(),
            sampling: None,
        },
        more_timings: vec![],
        objectives: vec![],
        front: false,
        speedups: BTreeMap::new(),
        errors: vec![],
        builds: vec![],
        program: String::new(),
    }
}

#[test]
fn an_infinite_ratio_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("elite.json");
    let infinite = Speedup { ratio: f64::INFINITY, low: 2.0, high: f64::INFINITY };
    let mut entry = entry("a", "small", 1);
    entry.elite.push(EliteVariant { speedups: BTreeMap::from([("default".into(), infinite)]), ..variant(5e-324) });
    let written = EliteFile { version: VERSION, kernels: vec![entry], portfolios: vec![] };
    written.write(&path).unwrap();
    assert_eq!(EliteFile::read(&path).unwrap(), written);
}

#[test]
fn an_unreadable_elite_file_is_an_error_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("elite.json");
    for (text, message) in [("{", "EOF"), ("[]", "not an elite file"), (r#"{"version": 2}"#, "version 2")] {
        std::fs::write(&path, text).unwrap();
        let error = EliteFile::read(&path).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains("elite.json"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn the_winner_of_a_shape_is_the_first_of_its_elite_unless_it_was_proposed() {
    let of_source = |name: &str, source: Option<SourceRecord>| EliteVariant {
        toggles: Settings(vec![(name.into(), crate::expr::Value::Int(1))]),
        source,
        ..variant(5.0)
    };
    let proposed = SourceRecord { name: "p".into(), hash: String::new(), path: "p.c".into() };
    let of = |shape: &str, elite: Vec<EliteVariant>| EliteEntry { elite, ..entry("a", shape, 1) };
    let kernels = vec![
        of("none", vec![]),
        of("small", vec![of_source("A", None), of_source("B", None)]),
        of("large", vec![of_source("C", Some(proposed)), of_source("A", None)]),
    ];
    let file = EliteFile { version: VERSION, kernels, portfolios: vec![] };
    let winner = |kernel: &str, device: &str, shape: &str| {
        file.winner("p", kernel, device, shape).map(|toggles| toggles.to_string())
    };
    assert_eq!(winner("a", "model", "small").as_deref(), Some("A=1"));
    assert_eq!(
        [winner("a", "model", "large"), winner("a", "model", "none"), winner("a", "model", "other")],
        [const { None }; 3]
    );
    assert_eq!([winner("b", "model", "small"), winner("a", "other", "small")], [const { None }; 2]);
}

#[test]
fn a_portfolio_replaces_that_of_its_kernel_and_device() {
    let portfolio = |kernel: &str, limit| PortfolioRecord {
        package: "p".into(),
        kernel: kernel.into(),
        device: entry("k", "s", 1).device,
        limit,
        variants: vec![],
        is_smallest: true,
        shapes: vec![],
        measured: vec![],
        date: String::new(),
        kbench: String::new(),
    };
    let mut file = EliteFile { version: VERSION, kernels: vec![], portfolios: vec![] };
    for (kernel, limit) in [("a", 1.0), ("b", 2.0), ("a", 3.0)] {
        file.insert_portfolio(portfolio(kernel, limit));
    }
    assert_eq!(file.portfolios, [portfolio("b", 2.0), portfolio("a", 3.0)]);
}

#[test]
fn the_distance_of_sizes_is_that_of_their_ratios() {
    let sizes = |sizes: &[i64]| sizes.iter().map(|&size| ("N".to_owned(), size)).collect::<Vec<_>>();
    let of = |a: &[i64], b: &[i64]| distance(&sizes(a), &sizes(b));
    let four = f64::ln(4.0);
    for (a, b, expected) in
        [(&[8, 8][..], &[8, 8][..], 0.0), (&[8, 8], &[2, 8], four), (&[2, 8], &[8, 2], 2.0 * four), (&[0], &[4], four)]
    {
        assert!((of(a, b) - expected).abs() < 1e-12, "{a:?} {b:?}");
    }
}

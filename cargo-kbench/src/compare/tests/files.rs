//! Tests of the entries of elite.json, of a file of `bench --save`, and of a journal.

use kbench_runtime::protocol::DeviceInfo;

use super::program::build;
use super::*;
use crate::compare::bench::{BenchEntry, BenchFile, BenchRecord};
use crate::config::Timing;
use crate::record::elite::tests::entry;
use crate::record::elite::{BaselineRecord, EliteFile, EliteVariant};
use crate::record::evaluation::SourceRecord;

fn timing_at(shape: &str, p50: f64) -> TimingRecord {
    let summary = Summary::of(&[p50; 3]).unwrap();
    TimingRecord { shape: shape.into(), summary, batch: 1, clock: "fake".into(), sampling: None }
}

/// The entries of a file that `write` writes.
fn read_back(write: impl FnOnce(&std::path::Path)) -> Vec<Measured> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write(&path);
    read(&path).unwrap().0
}

/// Name, whether it is a variant, toggles, hash of the binary, and time or reason.
type Told = (String, bool, Option<String>, Option<String>, Result<f64, String>);

fn told(all: &[Measured]) -> Vec<Told> {
    let of = |it: &Measured| {
        let time = it.result.as_ref().map(|time| time.summary.p50).map_err(Clone::clone);
        let (toggles, binary) = (it.toggles.as_ref().map(Settings::to_string), it.build.as_ref());
        (it.name.clone(), it.is_variant, toggles, binary.map(|build| build.binary_hash.clone()), time)
    };
    all.iter().map(of).collect()
}

fn line(name: &str, is_variant: bool, toggles: Option<&str>, binary: Option<&str>, time: Result<f64, &str>) -> Told {
    let own = |text: &str| text.to_owned();
    (own(name), is_variant, toggles.map(own), binary.map(own), time.map_err(own))
}

fn variant(a: i64, p50: f64) -> EliteVariant {
    let other = BuildRecord { shapes: vec!["t".into()], ..build("of t", "1") };
    EliteVariant {
        rank: 1,
        toggles: toggles(a),
        source: None,
        timing: timing_at("s", p50),
        more_timings: Vec::new(),
        objectives: Vec::new(),
        front: false,
        speedups: BTreeMap::new(),
        errors: Vec::new(),
        builds: vec![other, build(&format!("of {a}"), "1")],
        program: String::new(),
    }
}

/// An elite with the default, `A=0 B=0`, and a baseline beside it.
fn of_elite(elite: Vec<EliteVariant>) -> Vec<Told> {
    let baseline = |name: &str, toggles, p50| BaselineRecord {
        name: name.into(),
        toggles,
        timing: timing_at("s", p50),
        objectives: Vec::new(),
        external: None,
    };
    let mut entry = entry("k", "s", 3);
    entry.elite = elite;
    entry.baselines = vec![baseline("naive", None, 500.0), baseline(DEFAULT, Some(toggles(0)), 101.0)];
    entry.unavailable = [("old", "no"), (DEFAULT, "out")].map(|(name, why)| (name.to_owned(), why.to_owned())).into();
    let file = EliteFile { kernels: vec![entry], ..EliteFile::read(std::path::Path::new("no such file")).unwrap() };
    told(&read_back(|path| file.write(path).unwrap()))
}

#[test]
fn an_elite_is_read_with_the_best_variant_the_default_once_and_the_baselines() {
    let naive = line("naive", false, None, None, Ok(500.0));
    let unavailable = [line(DEFAULT, true, None, None, Err("out")), line("old", false, None, None, Err("no"))];
    let [best, first] = [BEST, "A=1 B=0"].map(|name| line(name, true, Some("A=1 B=0"), Some("of 1"), Ok(90.0)));
    let default = line(DEFAULT, true, Some("A=0 B=0"), Some("of 0"), Ok(100.0));
    let with_default = [&[best.clone(), first.clone(), default, naive.clone()], &unavailable[..]].concat();
    assert_eq!(of_elite(vec![variant(1, 90.0), variant(0, 100.0)]), with_default);
    let beside = line(DEFAULT, true, Some("A=0 B=0"), None, Ok(101.0));
    let without = [&[best, first, naive.clone(), beside.clone()], &unavailable[..]].concat();
    assert_eq!(of_elite(vec![variant(1, 90.0)]), without);
    // A proposed source with the toggles of the default is not the default.
    let source = SourceRecord { name: "x".into(), hash: "0123456789".into(), path: "x.c".into() };
    let proposed = EliteVariant { source: Some(source), ..variant(0, 80.0) };
    let name = proposed.label();
    let [best, first] = [BEST, &name].map(|name| line(name, true, None, Some("of 0"), Ok(80.0)));
    assert_eq!(of_elite(vec![proposed]), [&[best, first, naive, beside], &unavailable[..]].concat());
}

#[test]
fn a_bench_file_is_read_with_its_samples_and_rejections() {
    let record = |name: &str, toggles, p50| BenchRecord {
        name: name.into(),
        toggles,
        timing: timing_at("s", p50),
        speedup: None,
        tflops: None,
        gbytes: None,
        build: Some(build(name, "1")),
        samples: vec![p50; 7],
    };
    let rejection = || Rejection::new(GateName::Correctness, Reason::Wrong, "off", Some("s"));
    let bench = |unavailable: [&str; 3]| {
        let entry = BenchEntry {
            package: "p".into(),
            kernel: "k".into(),
            device: (&DeviceInfo::fake(0)).into(),
            shape: "s".into(),
            dims: Sizes::from([("N".into(), 64)]),
            timing: TimingSettings::from(&Timing::default()),
            candidate: "A=1 B=0".into(),
            entries: vec![record("A=2 B=0", Some(toggles(2)), 90.0), record("naive", None, 500.0)],
            unavailable: unavailable.map(|name| (name.to_owned(), rejection())).into(),
            warnings: Vec::new(),
            controls: None,
            noise_floor: None,
            date: String::new(),
            kbench: String::new(),
        };
        read_back(|path| BenchFile::new(vec![entry]).write(path).unwrap())
    };
    let all = bench(["A=1 B=0", DEFAULT, "old"]);
    let why = rejection().to_string();
    let expected = [
        line("A=2 B=0", true, Some("A=2 B=0"), Some("A=2 B=0"), Ok(90.0)),
        line("naive", false, None, Some("naive"), Ok(500.0)),
        line("A=1 B=0", true, None, None, Err(&why)),
        line(DEFAULT, true, None, None, Err(&why)),
        line("old", false, None, None, Err(&why)),
    ];
    assert_eq!(told(&all), expected);
    assert_eq!(all[0].result.as_ref().unwrap().samples, [90.0; 7]);
    assert_eq!((&*all[0].kernel, &*all[0].shape, all[0].dims.as_ref().map(|dims| dims["N"])), ("p/k", "s", Some(64)));
}

#[test]
fn the_best_variant_of_a_journal_is_the_fastest_at_each_shape() {
    let all = read_back(|path| {
        let (mut journal, _) = Journal::open(path, Reuse::Nothing).unwrap();
        let shapes = ["s", "t"].map(|shape| (shape.to_owned(), Sizes::default())).into();
        journal.start(Start { kernel: "p/k".into(), device: "model".into(), shapes, ..Start::default() }).unwrap();
        for (a, p50) in [(0, 100.0), (1, 90.0), (2, 95.0)] {
            let evaluation = Evaluation {
                key: format!("key {a}"),
                timing: Some(timing_at("s", p50)),
                builds: vec![build(&format!("of {a}"), "1")],
                ..Evaluation::new(toggles(a), Vec::new())
            };
            journal.append(&Record::Evaluation(Box::new(evaluation))).unwrap();
        }
        let at_t =
            |a: i64, p50| Evaluation { timing: Some(timing_at("t", p50)), ..Evaluation::new(toggles(a), Vec::new()) };
        journal.append(&Record::Evaluation(Box::new(at_t(2, 40.0)))).unwrap();
    });
    let best: Vec<Told> = told(&all).into_iter().filter(|(name, ..)| name == BEST).collect();
    let expected =
        [line(BEST, true, Some("A=1 B=0"), Some("of 1"), Ok(90.0)), line(BEST, true, Some("A=2 B=0"), None, Ok(40.0))];
    assert_eq!(best, expected);
}

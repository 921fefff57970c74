use kbench_runtime::protocol::{CacheMode, LaunchMode};

use super::*;
use crate::expr::Value;
use crate::record::elite::TimingSettings;
use crate::record::evaluation::{Evaluation, GateName, Judgement, Reason, Rejection, TimingRecord};
use crate::record::journal::{Comparison, ComparisonEntry, EntryRole, Journal, Record, Reuse, Start};
use crate::record::run::Run;

mod files;
mod program;

const THRESHOLD: f64 = 0.01;

/// Samples around a centre, 0.2 % apart at most.
fn samples(centre: f64) -> Vec<f64> {
    (0..50).map(|i| centre * (1.0 + 0.0001 * f64::from((i * 7) % 21 - 10))).collect()
}

fn toggles(a: i64) -> Settings {
    Settings(vec![("A".into(), Value::Int(a)), ("B".into(), Value::Int(0))])
}

fn measured(name: &str, p50: f64) -> Measured {
    let samples = samples(p50);
    Measured {
        kernel: "k".into(),
        shape: "s".into(),
        dims: Some(Sizes::from([("N".into(), 64)])),
        device: Device { name: "model".into(), multiprocessors: Some(4), driver: Some("1".into()) },
        cache: Some("cold".into()),
        launch: Some(LaunchMode::Graph),
        name: name.into(),
        is_variant: true,
        toggles: Some(toggles(1)),
        build: None,
        result: Ok(Time { clock: "fake".into(), summary: Summary::of(&samples).unwrap(), samples, cached: false }),
    }
}

fn without_samples(mut measured: Measured) -> Measured {
    if let Ok(time) = &mut measured.result {
        time.samples.clear();
    }
    measured
}

fn row(old: Measured, new: Measured) -> Row {
    compare(&[old], &[new], &[], THRESHOLD).unwrap().rows.remove(0)
}

#[test]
fn verdicts_come_from_samples_or_else_from_intervals() {
    for strip in [|measured| measured, without_samples] {
        let verdict = |new| {
            let row = row(strip(measured("x", 1000.0)), strip(measured("x", new)));
            (row.verdict.unwrap(), row.regression)
        };
        assert_eq!(verdict(1000.0), (Verdict::Same, false));
        assert_eq!(verdict(1100.0), (Verdict::Slower, true));
        assert_eq!(verdict(900.0), (Verdict::Faster, false));
    }
    let reason = |old, new| row(old, new).reasons.remove(0);
    assert_eq!(reason(measured("x", 1.0), measured("x", 2.0)), "50 and 50 samples");
    assert_eq!(reason(without_samples(measured("x", 1.0)), measured("x", 2.0)), "intervals apart");
    assert_eq!(reason(without_samples(measured("x", 1.0)), measured("x", 1.0)), "intervals overlap");
}

#[test]
fn one_sample_decides_nothing() {
    let of = |p50, count: usize| {
        let mut measured = without_samples(measured("x", p50));
        measured.result.as_mut().unwrap().summary = Summary::of(&samples(p50)[..count]).unwrap();
        measured
    };
    for (old, new) in [(1, 1), (1, 7), (7, 1)] {
        let row = row(of(1000.0, old), of(1100.0, new));
        assert_eq!((row.verdict, row.regression), (Some(Verdict::Inconclusive), false), "{old} {new}");
        assert_eq!((row.speedup.is_some(), &*row.reasons[0]), (true, "one sample has no interval"));
    }
    assert_eq!(row(of(1000.0, 7), of(1100.0, 7)).verdict, Some(Verdict::Slower));
}

#[test]
fn a_slowdown_within_the_threshold_passes() {
    let regressions =
        |threshold| compare(&[measured("x", 1000.0)], &[measured("x", 1030.0)], &[], threshold).unwrap().regressions();
    assert_eq!((regressions(0.0), regressions(0.01), regressions(0.05)), (1, 1, 0));
    let mut baseline = [measured("naive", 1000.0), measured("naive", 2000.0)];
    for side in &mut baseline {
        side.is_variant = false;
    }
    let [old, new] = baseline;
    let row = row(old, new);
    assert_eq!((row.verdict, row.regression), (Some(Verdict::Slower), false), "a slow baseline is nobody's loss");
}

#[test]
fn wide_samples_are_inconclusive() {
    let wide = |seed: i32| {
        let mut measured = measured("x", 1.0);
        let samples: Vec<f64> = (0..50).map(|i| 1000.0 + f64::from((i * 37 + seed) % 101)).collect();
        measured.result =
            Ok(Time { clock: "fake".into(), summary: Summary::of(&samples).unwrap(), samples, cached: false });
        measured
    };
    assert_eq!(row(wide(0), wide(5)).verdict, Some(Verdict::Inconclusive));
}

#[test]
fn other_conditions_are_refused_unless_allowed() {
    type Edit = fn(&mut Measured);
    let edits: [(Condition, &str, Edit); 7] = [
        (Condition::Device, "OLD is of model with 4 processors, NEW is of other with 4 processors", |m| {
            m.device.name = "other".into();
        }),
        (Condition::Device, "NEW is of model with 8 processors", |m| m.device.multiprocessors = Some(8)),
        (Condition::Dims, "OLD has N=64, NEW has N=65", |m| m.dims = Some(Sizes::from([("N".into(), 65)]))),
        (Condition::Dims, "NEW has unknown sizes", |m| m.dims = None),
        (Condition::Timing, "the cache is cold in OLD, hot in NEW", |m| m.cache = Some("hot".into())),
        (Condition::Timing, "`timing.launch` is graph in OLD, host in NEW", |m| m.launch = Some(LaunchMode::Host)),
        (Condition::Timing, "the clock is fake in OLD, graph in NEW", |m| {
            m.result.as_mut().unwrap().clock = "graph".into();
        }),
    ];
    for (allow, words, edit) in edits {
        let mut new = measured("x", 1.0);
        edit(&mut new);
        let (old, new) = ([measured("x", 1.0)], [new]);
        let refused = compare(&old, &new, &[], THRESHOLD).unwrap_err();
        assert!(refused.len() == 1 && refused[0].contains(words), "{refused:?}");
        for other in [Condition::Device, Condition::Dims, Condition::Timing].into_iter().filter(|other| *other != allow)
        {
            assert!(compare(&old, &new, &[other], THRESHOLD).is_err());
        }
        let compared = compare(&old, &new, &[allow], THRESHOLD).unwrap();
        assert!(
            compared.rows[0].reasons.iter().any(|reason| words.contains(reason.as_str()) || reason.contains(words))
        );
    }
}

#[test]
fn devices_that_both_have_are_compared_with_themselves() {
    let on = |device: &str, p50| {
        let mut measured = measured("x", p50);
        measured.device.name = device.into();
        measured
    };
    let compared =
        compare(&[on("a", 1.0), on("b", 2.0)], &[on("b", 2.0), on("c", 9.0)], &[Condition::Device], THRESHOLD).unwrap();
    assert_eq!(compared.rows.len(), 1);
    assert_eq!(compared.rows[0].verdict, Some(Verdict::Same));
    assert_eq!((&*compared.only_old[0].device, &*compared.only_new[0].device), ("a", "c"));
}

#[test]
fn a_variant_that_is_rejected_now_is_a_regression() {
    let mut broken = measured("x", 1.0);
    broken.result = Err("correctness/wrong".into());
    let row = row(measured("x", 1.0), broken.clone());
    assert!(row.regression && row.verdict.is_none() && row.reasons[0].contains("rejected now: correctness/wrong"));
    let compared = compare(&[broken.clone()], &[measured("x", 1.0)], &[], THRESHOLD).unwrap();
    assert_eq!((compared.rows.len(), compared.only_new.len()), (0, 1));
    // A baseline may be missing for other reasons.
    broken.is_variant = false;
    let compared = compare(&[measured("x", 1.0)], &[broken], &[], THRESHOLD).unwrap();
    assert_eq!((compared.regressions(), compared.only_old.len()), (0, 1));
}

#[test]
fn variants_are_paired_by_values_and_best_with_best() {
    let mut reordered = measured("B=0 A=1", 1.0);
    reordered.toggles = Some(Settings(toggles(1).0.into_iter().rev().collect()));
    assert_eq!(row(measured("A=1 B=0", 1.0), reordered).verdict, Some(Verdict::Same));
    let best = |a| Measured { toggles: Some(toggles(a)), ..measured(BEST, 1.0) };
    let other = row(best(1), best(2));
    assert!(other.reasons.contains(&"was A=1 B=0, is A=2 B=0".to_owned()), "{other:?}");
    assert!(compare(&[best(1)], &[best(1)], &[], THRESHOLD).unwrap().rows.is_empty());
}

#[test]
fn a_journal_is_read_as_the_run_and_those_it_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (mut journal, _) = Journal::open(&path, Reuse::Nothing).unwrap();
    let timing = |p50| TimingRecord {
        shape: "s".into(),
        summary: Summary::of(&samples(p50)).unwrap(),
        batch: 1,
        clock: "fake".into(),
        sampling: None,
    };
    let tried = |journal: &mut Journal, a, outcome: Result<f64, Reason>| {
        let mut evaluation = Evaluation { key: format!("key {a}"), ..Evaluation::new(toggles(a), Vec::new()) };
        match outcome {
            Ok(p50) => evaluation.timing = Some(timing(p50)),
            Err(reason) => {
                evaluation.outcome =
                    Judgement::Rejected(Rejection::new(GateName::Correctness, reason, "off", Some("s")));
            }
        }
        journal.append(&Record::Evaluation(Box::new(evaluation))).unwrap();
    };
    let start = |resumed| Start {
        kernel: "p/k".into(),
        device: "model".into(),
        resumed,
        shapes: [("s".to_owned(), Sizes::from([("N".into(), 64)]))].into(),
        timing: Some(TimingSettings::from(&crate::config::Timing { cache: CacheMode::Hot, ..Default::default() })),
        default: toggles(0),
        ..Start::default()
    };
    journal.start(start(false)).unwrap();
    tried(&mut journal, 9, Ok(1.0));
    journal.start(start(false)).unwrap();
    tried(&mut journal, 0, Ok(100.0));
    tried(&mut journal, 1, Ok(90.0));
    tried(&mut journal, 3, Ok(80.0));
    journal.start(start(true)).unwrap();
    tried(&mut journal, 2, Err(Reason::Wrong));
    let entry = |name: &str, p50| ComparisonEntry {
        name: name.into(),
        role: EntryRole::Variant,
        program: String::new(),
        timing: timing(p50),
        samples: samples(p50),
        slack: 0.0,
        external: None,
    };
    let entries = vec![entry("A=0 B=0", 101.0), entry("naive", 500.0)];
    journal.append(&Record::Comparison(Box::new(Comparison { entries, ..Comparison::default() }))).unwrap();
    let rejection = Rejection::new(GateName::Sanitize, Reason::Memcheck, "a finding", None);
    let revoked = |key: &str| Record::Revoked { key: key.into(), rejection: rejection.clone(), by_check: false };
    journal.append(&revoked("key 3")).unwrap();
    journal.append(&revoked("key 9")).unwrap();
    drop(journal);

    let (all, damaged) = read(&path).unwrap();
    assert_eq!(damaged, 0);
    // A line that is no text is damaged like any other.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&bytes[..], b"\xff\xfe\n"].concat()).unwrap();
    let (again, damaged) = read(&path).unwrap();
    assert_eq!((again.len(), damaged, Run::read(&path).unwrap().damaged), (all.len(), 1, 1));
    let told: Vec<(&str, bool, Option<f64>, bool)> = all
        .iter()
        .map(|measured| {
            let time = measured.result.as_ref().ok();
            let p50 = time.map(|time| time.summary.p50.round());
            (&*measured.name, measured.is_variant, p50, time.is_some_and(|time| !time.samples.is_empty()))
        })
        .collect();
    let expected = [
        ("default", true, Some(101.0), true),
        ("A=1 B=0", true, Some(90.0), false),
        ("A=3 B=0", true, None, false),
        ("A=2 B=0", true, None, false),
        ("naive", false, Some(500.0), true),
        ("best", true, Some(101.0), true),
    ];
    assert_eq!(told, expected);
    assert!(all[2].result.as_ref().unwrap_err().contains("a finding"));
    let first = &all[0];
    assert_eq!((&*first.kernel, &*first.device.name, first.cache.as_deref()), ("p/k", "model", Some("hot")));
    assert_eq!(first.dims, Some(Sizes::from([("N".into(), 64)])));
}

#[test]
fn other_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for (text, words) in [
        ("", "neither an elite.json"),
        ("hello\n", "neither an elite.json"),
        ("{\"version\": 1}", "neither an elite.json"),
        ("[1]", "neither an elite.json"),
        ("{\"format\": \"kbench-resources\", \"version\": 1}", "neither an elite.json"),
        ("{\"format\": \"kbench-bench\"}", "it has no version"),
        ("{\"format\": \"kbench-bench\", \"version\": 9}", "version 9"),
        ("{\"format\": \"kbench-bench\", \"version\": 1}", "missing field `kernels`"),
        ("{\"version\": 7, \"kernels\": []}", "version 7"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("file"), "{text}: {error}");
    }
    assert!(read(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
}

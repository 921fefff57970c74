//! Tests of entries with builds, and of times that are intervals.

use super::*;
use crate::build::Resources;

/// A build of the source `source` to the binary `binary`.
pub(super) fn build(binary: &str, source: &str) -> BuildRecord {
    let resources = Resources {
        registers: Some(40),
        static_shared: Some(0),
        spill_stores: Some(0),
        spill_loads: Some(0),
        stack: Some(0),
        code_bytes: Some(512),
        ..Resources::default()
    };
    BuildRecord {
        shapes: vec!["s".into()],
        command: Vec::new(),
        link: Vec::new(),
        compiler: "13.0".into(),
        source_hash: source.into(),
        binary_hash: binary.into(),
        resources,
        functions: Vec::new(),
        messages: String::new(),
    }
}

fn built(name: &str, p50: f64, binary: &str) -> Measured {
    Measured { build: Some(build(binary, "1")), ..measured(name, p50) }
}

/// An entry of no samples whose median has this interval.
fn between(low: f64, p50: f64, high: f64) -> Measured {
    let mut measured = without_samples(measured("x", p50));
    let summary = &mut measured.result.as_mut().unwrap().summary;
    (summary.p50_low, summary.p50, summary.p50_high) = (low, p50, high);
    measured
}

fn verdict(old: Measured, new: Measured, threshold: f64) -> Verdict {
    compare(&[old], &[new], &[], threshold).unwrap().rows[0].verdict.unwrap()
}

#[test]
fn a_difference_of_one_program_comes_from_the_machine() {
    let of = |time, threshold| verdict(built("x", 1000.0, "a"), built("x", time, "a"), threshold);
    assert_eq!([of(960.0, 0.01), of(1040.0, 0.01)], [Verdict::Same; 2]);
    assert_eq!([of(900.0, 0.01), of(1100.0, 0.01)], [Verdict::Inconclusive; 2]);
    assert_eq!([of(900.0, 0.2), of(1100.0, 0.2)], [Verdict::Same; 2]);
    // Another binary, other toggles or another driver are another program.
    assert_eq!(verdict(built("x", 1000.0, "a"), built("x", 1040.0, "b"), 0.01), Verdict::Slower);
    let mut driver = built("x", 1040.0, "a");
    driver.device.driver = Some("2".into());
    assert_eq!(verdict(built("x", 1000.0, "a"), driver, 0.01), Verdict::Slower);
    let toggles = Measured { toggles: Some(toggles(2)), ..built("x", 1040.0, "a") };
    assert_eq!(verdict(built("x", 1000.0, "a"), toggles, 0.01), Verdict::Slower);
    let hot = Measured { cache: Some("hot".into()), ..built("x", 1040.0, "a") };
    let allowed = compare(&[built("x", 1000.0, "a")], &[hot], &[Condition::Timing], 0.01).unwrap();
    assert_eq!(allowed.rows[0].verdict, Some(Verdict::Slower));
}

#[test]
fn one_program_shows_the_noise_between_two_runs() {
    let of = |again: f64, time: f64| {
        let other = |time, binary: &str| Measured { toggles: Some(toggles(7)), ..built("y", time, binary) };
        let old = [built("x", 1000.0, "a"), other(1000.0, "b")];
        let compared = compare(&old, &[built("x", again, "a"), other(time, "c")], &[], THRESHOLD).unwrap();
        assert_eq!(compared.rows.len(), 2);
        compared.rows[1].verdict.unwrap()
    };
    assert_eq!([of(1000.0, 1030.0), of(1000.0, 970.0)], [Verdict::Slower, Verdict::Faster]);
    // The same program was 4 % slower or faster.
    for again in [1040.0, 960.0] {
        assert_eq!([of(again, 1030.0), of(again, 970.0)], [Verdict::Inconclusive; 2], "{again}");
        assert_eq!([of(again, 1060.0), of(again, 940.0)], [Verdict::Slower, Verdict::Faster], "{again}");
    }
}

#[test]
fn changes_of_the_code_are_named() {
    let changes = |change: fn(&mut BuildRecord)| {
        let mut new = build("b", "1");
        change(&mut new);
        code_changes(&build("a", "1"), &new)
    };
    assert_eq!(code_changes(&build("a", "1"), &build("a", "2")), ["same binary"]);
    assert_eq!(changes(|_| ()), [""; 0]);
    assert_eq!(changes(|new| new.source_hash = "2".into()), ["source changed"]);
    assert_eq!(changes(|new| new.compiler = "13.1".into()), ["compiler 13.0 → 13.1"]);
    let fewer = changes(|new| (new.resources.registers, new.resources.spill_loads) = (Some(32), Some(8)));
    assert_eq!(fewer, ["registers 40 → 32", "spills 0 → 8"]);
    assert_eq!(changes(|new| new.resources.stack = None), [""; 0], "unknown");
    let reasons = row(built("x", 1.0, "a"), built("x", 1.0, "a")).reasons;
    assert!(reasons.contains(&"same binary".to_owned()) && !reasons.iter().any(|reason| reason.contains("driver")));
    let mut driver = built("x", 1.0, "a");
    driver.device.driver = Some("2".into());
    assert!(row(built("x", 1.0, "a"), driver).reasons.contains(&"driver 1 → 2".to_owned()));
}

#[test]
fn a_regression_is_slower_by_more_than_the_threshold() {
    // Both are certainly slower. The ends of their intervals lie beyond the threshold.
    let of = |new, threshold| compare(&[between(990.0, 1000.0, 1010.0)], &[new], &[], threshold).unwrap();
    for (threshold, regressions) in [(0.03, 1), (0.05, 0)] {
        let compared = of(between(1020.0, 1040.0, 1075.0), threshold);
        let counts = [Verdict::Slower, Verdict::Same].map(|verdict| compared.count(verdict));
        assert_eq!((compared.regressions(), counts), (regressions, [1, 0]), "{threshold}");
    }
    assert_eq!(of(between(1200.0, 1250.0, 1400.0), 0.25).regressions(), 0, "the threshold itself");
}

#[test]
fn intervals_that_share_a_time_overlap() {
    let basis = |old, new| row(old, new).reasons.remove(0);
    for (low, high, apart) in
        [(1020.0, 1030.0, true), (1010.0, 1030.0, false), (970.0, 990.0, false), (970.0, 980.0, true)]
    {
        let said = if apart { "intervals apart" } else { "intervals overlap" };
        assert_eq!(basis(between(990.0, 1000.0, 1010.0), between(low, f64::midpoint(low, high), high)), said);
    }
    let speedup = row(between(900.0, 1000.0, 1100.0), between(1800.0, 2000.0, 2200.0)).speedup.unwrap();
    assert_eq!((speedup.ratio, speedup.low, speedup.high), (0.5, 900.0 / 2200.0, 1100.0 / 1800.0));
    for (old, new) in [(0.0, 1.0), (1.0, 0.0)] {
        let row = row(between(old, 1.0, 2.0), between(new, 1.0, 2.0));
        assert_eq!((row.speedup, &*row.reasons[0]), (None, "a time of 0 has no ratio"));
        assert_eq!(row.verdict, Some(Verdict::Inconclusive));
    }
}

#[test]
fn samples_that_may_be_too_long_widen_the_interval() {
    let with_low = |low| {
        let mut measured = measured("x", 1000.0);
        measured.result.as_mut().unwrap().summary.p50_low = low;
        measured
    };
    let close =
        |speedup: Speedup, low: f64, high: f64| (speedup.low - low).abs() < 1e-3 && (speedup.high - high).abs() < 1e-3;
    assert!(close(row(with_low(1000.0), with_low(1000.0)).speedup.unwrap(), 1.0, 1.0));
    assert!(close(row(with_low(800.0), with_low(1000.0)).speedup.unwrap(), 0.8, 1.0));
    assert!(close(row(with_low(1000.0), with_low(800.0)).speedup.unwrap(), 1.0, 1.25));
}

#[test]
fn kernels_and_shapes_are_compared_with_themselves() {
    let at =
        |kernel: &str, shape: &str, p50| Measured { kernel: kernel.into(), shape: shape.into(), ..measured("x", p50) };
    let all = [at("k", "s", 1.0), at("k", "t", 2.0), at("l", "s", 4.0), at("l", "t", 8.0)];
    let compared = compare(&all, &all, &[], THRESHOLD).unwrap();
    assert_eq!((compared.rows.len(), compared.count(Verdict::Same)), (4, 4));
    assert!(compared.only_old.is_empty() && compared.only_new.is_empty());
    // A place of one side only is no change of the device.
    let compared = compare(&all[..1], &all[1..2], &[], THRESHOLD).unwrap();
    assert_eq!((compared.rows.len(), compared.only_old.len(), compared.only_new.len()), (0, 1, 1));
}

#[test]
fn entries_of_other_names_and_toggles_are_no_pair() {
    let named = |name: &str, a| Measured { toggles: Some(toggles(a)), ..measured(name, 1.0) };
    let none = |old: Measured, new: Measured| compare(&[old], &[new], &[], THRESHOLD).unwrap().rows.is_empty();
    assert!(none(named("A=1 B=0", 1), named("A=2 B=0", 2)));
    // The default and the best variant are found by their names alone.
    assert!(none(named(DEFAULT, 1), named("A=1 B=0", 1)) && none(named("A=1 B=0", 1), named(DEFAULT, 1)));
    assert!(none(named(BEST, 1), named("A=1 B=0", 1)));
    let default = row(named(DEFAULT, 1), named(DEFAULT, 2));
    assert!(default.reasons.contains(&"was A=1 B=0, is A=2 B=0".to_owned()), "{default:?}");
    let best = compare(&[named(BEST, 1)], &[named("A=1 B=0", 1)], &[], THRESHOLD).unwrap();
    assert_eq!((best.only_old.len(), best.only_new.len()), (0, 1), "the best variant has an entry of its own");
    let mut cached = measured("x", 1.0);
    cached.result.as_mut().unwrap().cached = true;
    assert!(row(cached.clone(), measured("x", 1.0)).reasons.contains(&"recalled in OLD".to_owned()));
    assert!(row(measured("x", 1.0), cached).reasons.contains(&"recalled in NEW".to_owned()));
}

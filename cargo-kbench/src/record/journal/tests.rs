use kbench_runtime::protocol::Sampling;
use kbench_runtime::stats::Summary;

use super::*;
use crate::record::evaluation::{
    Checked, Evaluation, GateName, Judgement, Reason, Rejection, ShapeErrors, TimingRecord,
};
use crate::space::Settings;

fn evaluation(key: &str) -> Record {
    let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
    evaluation.key = key.to_owned();
    Record::Evaluation(Box::new(evaluation))
}

fn keys(known: &RunCache) -> Vec<&str> {
    let mut keys: Vec<&str> = known.evaluations.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_resumed_run_reuses_evaluations_of_earlier_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/journal.jsonl");
    let write = |resumed, key| {
        let (mut journal, _) = Journal::open(&path, Reuse::Nothing).unwrap();
        journal.start(Start { resumed, ..Start::default() }).unwrap();
        journal.append(&evaluation(key)).unwrap();
    };
    write(false, "a");
    write(true, "b");
    assert_eq!(keys(&Journal::open(&path, Reuse::Run).unwrap().1), ["a", "b"]);
    assert_eq!(keys(&Journal::open(&path, Reuse::Nothing).unwrap().1), Vec::<&str>::new());
    write(false, "c");
    assert_eq!(keys(&Journal::open(&path, Reuse::Run).unwrap().1), ["c"]);
}

/// A variant that was timed, with this median in nanoseconds.
fn timed(key: &str, p50: f64, converged: bool, cut_short: bool) -> Evaluation {
    let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
    let summary = Summary::of(&[p50; 10]).unwrap();
    let sampling = Some(Sampling { converged, cut_short, ..Sampling::default() });
    let (shape, clock) = ("s".into(), "fake".into());
    evaluation.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling });
    key.clone_into(&mut evaluation.key);
    evaluation
}

/// The reusable measurements after these runs; the default has the same record in all.
fn after(runs: &[Vec<Record>], reuse: Reuse) -> RunCache {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let default = Settings(vec![("A".into(), crate::expr::Value::Int(1))]);
    for records in runs {
        let (mut journal, _) = Journal::open(&path, Reuse::Nothing).unwrap();
        journal.start(Start { default: default.clone(), ..Start::default() }).unwrap();
        for record in records {
            journal.append(record).unwrap();
        }
    }
    Journal::open(&path, reuse).unwrap().1
}

fn passed(evaluation: Evaluation) -> Record {
    Record::Evaluation(Box::new(evaluation))
}

#[test]
fn how_far_a_variant_was_checked_is_known() {
    let once = |key| passed(Evaluation { checked: Checked::OneSeed, ..timed(key, 100.0, true, false) });
    let in_full = |key: &str| Record::Checked {
        key: key.to_owned(),
        errors: vec![ShapeErrors::worst("s", &[])],
        warnings: vec!["w".to_owned()],
    };
    let runs = [vec![once("once"), once("finalist"), in_full("finalist"), in_full("nobody")]];
    for reuse in [Reuse::Run, Reuse::Variants] {
        let known = after(&runs, reuse);
        assert_eq!(keys(&known), ["finalist", "once"]);
        let of = |key| known.evaluation(key).unwrap().0;
        assert_eq!((of("once").checked, of("once").errors.len()), (Checked::OneSeed, 0));
        assert_eq!((of("finalist").checked, of("finalist").errors.len()), (Checked::InFull, 1));
        assert_eq!(of("finalist").warnings, ["w"]);
    }
}

#[test]
fn complete_measurements_are_reused_in_every_run() {
    let rejection = Rejection::new(GateName::Performance, Reason::SkipsWork, "", None);
    let rejected = |key| {
        let outcome = Judgement::Rejected(rejection.clone());
        passed(Evaluation { outcome, ..timed(key, 100.0, true, false) })
    };
    let settled = |key| passed(timed(key, 100.0, true, false));
    let runs = [
        vec![
            settled("settled"),
            settled("later rejected"),
            settled("revoked"),
            settled("revoked once"),
            Record::Revoked { key: "revoked".into(), rejection: rejection.clone(), by_check: true },
            Record::Revoked { key: "revoked once".into(), rejection: rejection.clone(), by_check: true },
            Record::Round(Round { round: 1, key: String::new(), proposals: Vec::new() }),
            Record::Comparison(Box::new(Comparison { key: "c".into(), ..Comparison::default() })),
            Record::Sanitized(Box::new(SanitizedRun { key: "s".into(), finding: None, warnings: vec![] })),
        ],
        vec![passed(timed("cut short", 100.0, false, true)), passed(timed("shaky", 100.0, false, false))],
        vec![settled("revoked once"), rejected("later rejected"), rejected("rejected"), evaluation("untimed")],
    ];
    let known = after(&runs, Reuse::Variants);
    assert_eq!(keys(&known), ["cut short", "revoked once", "settled"]);
    assert!(keys(&known).iter().all(|key| known.evaluation(key).unwrap().1), "all are earlier runs'");
    assert_eq!((known.comparisons.len(), known.rounds.len(), known.sanitized.len()), (0, 0, 0));
    let known = after(&runs, Reuse::Run);
    let all = ["cut short", "later rejected", "rejected", "revoked once", "settled", "untimed"];
    assert_eq!(keys(&known), all);
    assert_eq!(all.map(|key| known.evaluation(key).unwrap().1), [true, false, false, false, true, false]);
    assert_eq!(keys(&after(&runs, Reuse::Nothing)), [""; 0]);
}

#[test]
fn cached_measurements_are_discarded_after_the_machine_changed() {
    let earlier = || vec![passed(timed("a", 100.0, true, false)), passed(timed("default", 100.0, true, false))];
    let anew = |p50| {
        let mut known = after(&[earlier()], Reuse::Variants);
        known.add(timed("default", p50, true, false), true);
        known
    };
    let same = anew(101.0);
    assert_eq!((keys(&same), &same.machine_changed), (vec!["a", "default"], &None));
    let slower = anew(103.0);
    assert_eq!(
        (keys(&slower), slower.machine_changed.as_deref()),
        (vec!["default"], Some("default takes 3 % longer now"))
    );
    // The median of a few samples with noise is not known as well.
    let noisy = |times: &[f64]| {
        let mut default = timed("default", 100.0, true, false);
        default.timing.as_mut().unwrap().summary = Summary::of(times).unwrap();
        default
    };
    let of_noisy = |times: &[f64]| {
        let mut known = after(&[vec![passed(noisy(&[96.0, 100.0, 104.0]))]], Reuse::Variants);
        known.add(noisy(times), true);
        known.machine_changed
    };
    assert_eq!(of_noisy(&[103.0, 108.0, 112.0]), None);
    assert_eq!(of_noisy(&[105.0, 108.0, 112.0]).as_deref(), Some("default takes 8 % longer now"));
    assert_eq!(of_noisy(&[88.0, 92.0, 95.0]).as_deref(), Some("default takes 8 % shorter now"));
    assert_eq!((of_noisy(&[106.0]), of_noisy(&[107.0]).as_deref()), (None, Some("default takes 7 % longer now")));
    let mut changed = after(&[earlier()], Reuse::Variants);
    changed.add(timed("another default", 100.0, true, false), true);
    assert_eq!((keys(&changed), &changed.machine_changed), (vec!["another default"], &None));
    let mut cached = after(&[earlier()], Reuse::Variants);
    cached.add(Evaluation { cached: true, ..timed("a", 100.0, true, false) }, false);
    assert_eq!((keys(&cached), cached.evaluation("a").unwrap().1), (vec!["a", "default"], false));
    // The resumed run had this result already.
    let resumed = after(&[earlier(), vec![passed(timed("default", 50.0, true, false))]], Reuse::Run);
    assert_eq!(keys(&resumed), ["default"]);
    let mut first = RunCache::default();
    first.add(timed("default", 100.0, true, false), true);
    assert_eq!(first.machine_changed, None, "there was nothing to count");
}

#[test]
fn damaged_lines_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (mut journal, _) = Journal::open(&path, Reuse::Nothing).unwrap();
    for record in [passed(timed("a", 100.0, true, false)), passed(timed("b", 100.0, true, false))] {
        journal.append(&record).unwrap();
    }
    drop(journal);
    let text = std::fs::read_to_string(&path).unwrap().replace("\"key\":\"a\"", "\"key\":\"a");
    std::fs::write(&path, format!("{text}\nno record\n")).unwrap();
    let (_, known) = Journal::open(&path, Reuse::Variants).unwrap();
    assert_eq!((keys(&known), known.damaged), (vec!["b"], 2));
}

#[test]
fn a_cut_last_line_is_dropped_and_the_next_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (mut journal, _) = Journal::open(&path, Reuse::Nothing).unwrap();
    journal.start(Start::default()).unwrap();
    journal.append(&evaluation("a")).unwrap();
    journal.append(&evaluation("b")).unwrap();
    drop(journal);
    let whole = std::fs::read(&path).unwrap();
    for cut in 1..40 {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let (mut journal, known) = Journal::open(&path, Reuse::Run).unwrap();
        assert_eq!(keys(&known), ["a"]);
        journal.append(&evaluation("c")).unwrap();
        drop(journal);
        assert_eq!(keys(&Journal::open(&path, Reuse::Run).unwrap().1), ["a", "c"]);
    }
}

#[test]
fn a_journal_does_not_grow_with_cached_evaluations() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let long = |key: String| Evaluation { warnings: vec!["x".repeat(4096)], ..timed(&key, 100.0, true, false) };
    let run = |last: u32| {
        let (mut journal, known) = Journal::open(&path, Reuse::Variants).unwrap();
        let default = Settings(vec![("A".into(), crate::expr::Value::Int(1))]);
        journal.start(Start { default, ..Start::default() }).unwrap();
        for number in 0..100 {
            let cached = known.evaluation(&number.to_string()).is_some();
            journal.append(&passed(Evaluation { cached, ..long(number.to_string()) })).unwrap();
        }
        journal.append(&passed(long(format!("only {last}")))).unwrap();
        (known.evaluations.len(), std::fs::metadata(&path).unwrap().len())
    };
    let lengths: Vec<(usize, u64)> = (0..12).map(run).collect();
    assert_eq!(lengths[11].0, 100 + 11, "nothing is forgotten");
    let once = lengths[0].1;
    assert!(lengths.iter().all(|(_, bytes)| *bytes < 6 * once), "{lengths:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // The last run is complete, for its continuation.
    let (_, known) = Journal::open(&path, Reuse::Run).unwrap();
    assert!(!known.evaluation("only 11").unwrap().1 && known.evaluation("only 3").unwrap().1);
    assert_eq!(known.damaged, 0);
}

#[test]
fn two_runs_do_not_share_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let _first = Journal::open(&path, Reuse::Nothing).unwrap();
    let error = Journal::open(&path, Reuse::Run).err().unwrap().to_string();
    assert!(error.contains("another kbench is running"), "{error}");
}

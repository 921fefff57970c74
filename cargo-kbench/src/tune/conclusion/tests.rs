use std::sync::Arc;

use kbench_runtime::protocol::DeviceKind;
use kbench_runtime::stats::Summary;

use super::*;
use crate::config::{Project, fixture};
use crate::gates::performance::Verdict;
use crate::harness::Proposed;
use crate::record::elite::DeviceRecord;
use crate::record::evaluation::{Evaluation, GateName, Reason, Rejection, SourceRecord};
use crate::record::objective::ObjectiveValue;
use crate::search::Candidates;
use crate::space::Partition;
use crate::tune::warm::WarmStart;

fn device() -> DeviceInfo {
    DeviceInfo {
        kind: DeviceKind::Fake,
        index: 0,
        name: "d".into(),
        driver: "1".into(),
        compute_capability: None,
        multiprocessors: 1,
        memory_bytes: 1 << 30,
        cache_bytes: 1 << 20,
        max_threads_per_block: 1024,
        max_shared_per_block: 1 << 16,
        clock_khz: 0,
    }
}

const BASELINES: &str =
    "baselines = { naive = { source = \"k.c\", entry = \"k\" }, old = { source = \"k.c\", entry = \"k\" } }";

/// Variants 0, 1 and 2 of the kernel, of which 1 is the default.
fn id(place: u16) -> EntrantId {
    (&Variant(vec![place])).into()
}

/// A search of a kernel that tried all three variants, with what is changed in their evaluations.
struct Searched {
    project: Project,
    changed: fn(u16, &mut Evaluation),
}

impl Searched {
    fn new(table: &str, changed: fn(u16, &mut Evaluation)) -> Self {
        Self { project: fixture::project(&format!("{BASELINES}\n{table}")), changed }
    }

    fn search(&self) -> Search<'_> {
        let kernel = &self.project.packages[0].kernels[0];
        let mut search = Search::new(kernel, Candidates::new(&kernel.space), &WarmStart::default());
        for place in 0..3 {
            let variant = Variant(vec![place]);
            let mut evaluation = Evaluation::new(kernel.space.settings(&variant), Vec::new());
            evaluation.key = place.to_string();
            evaluation.objectives = vec![value("p50", f64::from(place))];
            (self.changed)(place, &mut evaluation);
            let candidate = Candidate { variant, source: None };
            search.tried.push(Tried { candidate, evaluation: evaluation.into() });
            search.evaluated += 1;
        }
        search
    }

    /// The conclusion of the search, with its variants of these places in the finals.
    fn concluded(&self, finalists: &[usize], compared: &Compared) -> Tuned {
        let search = self.search();
        let finalists: Vec<Tried> = finalists.iter().map(|&place| search.tried[place].clone()).collect();
        search.conclude(&device(), &finalists, compared, &Vec::new(), None)
    }
}

fn value(name: &str, value: f64) -> ObjectiveValue {
    ObjectiveValue { name: name.into(), value, low: value, high: value }
}

/// Entries of about 9 µs, each with a number of nanoseconds more.
fn compared(entries: &[(EntrantId, f64)]) -> Compared {
    Compared::of(entries.iter().map(|(id, added)| Measured::of_two_modes(id.clone(), 50, *added, 100)))
}

/// Variant 0 before the default, and both baselines.
fn all() -> Compared {
    let [naive, old] = [0, 1].map(EntrantId::Baseline);
    compared(&[(id(0), 0.0), (id(2), 900.0), (id(1), 1800.0), (naive, 9000.0), (old, 18_000.0)])
}

#[test]
fn warnings_of_the_finals_and_of_the_winner_are_sorted_and_said_once() {
    let searched = Searched::new("", |place, evaluation| {
        evaluation.warnings = match place {
            0 => vec!["d".into(), "b".into(), "b".into()],
            _ => vec!["of a loser".into()],
        };
    });
    let mut compared = all();
    compared.warnings = ["c", "b", "a"].map(str::to_owned).into();
    assert_eq!(searched.concluded(&[2, 0], &compared).warnings, ["a", "b", "c", "d"]);
    assert_eq!(searched.concluded(&[], &compared).warnings, ["a", "b", "c"], "without a winner");
}

#[test]
fn only_the_default_has_toggles_and_objectives_beside_the_elite() {
    let records = |table: &str| {
        let searched = Searched::new(table, |_, evaluation| {
            evaluation.objectives = vec![value("p50", 1.0), value("energy", 32.0)];
        });
        let baselines = searched.concluded(&[0, 2], &all()).entry.baselines;
        let of = |record: BaselineRecord| {
            let values = record.objectives.iter().map(|value| value.value).collect::<Vec<_>>();
            (record.name, record.toggles.map(|toggles| toggles.to_string()), values)
        };
        baselines.into_iter().map(of).collect::<Vec<_>>()
    };
    let p50 = Summary::of(&all().entry(&id(1)).unwrap().samples[..]).unwrap().p50;
    let expected = |values: &[f64]| {
        let none = |name: &str| (name.to_owned(), None, Vec::new());
        [(DEFAULT.to_owned(), Some("T=2".to_owned()), values.to_vec()), none("naive"), none("old")]
    };
    assert_eq!(records(""), expected(&[p50]), "its time is that of the finals");
    assert_eq!(records("search.objective = [\"p50\", \"energy\"]"), expected(&[p50, 32.0]));
}

#[test]
fn the_elite_has_its_ranks_and_speedups_over_all_others_but_itself() {
    let searched = Searched::new("search.elite = 2", |_, _| ());
    let tuned = searched.concluded(&[2, 0], &all());
    let elite = &tuned.entry.elite;
    let shown: Vec<(usize, String, Vec<&String>)> =
        elite.iter().map(|variant| (variant.rank, variant.label(), variant.speedups.keys().collect())).collect();
    let names = ["default", "naive", "old"].map(str::to_owned);
    let names: Vec<&String> = names.iter().collect();
    assert_eq!(shown, [(1, "T=1".to_owned(), names.clone()), (2, "T=3".to_owned(), names)]);
    assert!(elite[0].speedups["naive"].ratio > 1.9 && elite[0].speedups["old"].ratio > 2.9, "{elite:?}");
    let [over_default, over_second] = [tuned.over_default, tuned.over_second].map(Option::unwrap);
    assert_eq!([over_default.verdict, over_second.verdict], [Verdict::Faster; 2]);
    assert!((1.15..1.25).contains(&over_default.speedup.ratio), "{over_default:?}");
    assert!((1.05..1.15).contains(&over_second.speedup.ratio), "{over_second:?}");

    // A default that wins has no speed-up over itself, and stays among the baselines.
    let first = compared(&[(id(1), 0.0), (id(2), 900.0)]);
    let tuned = searched.concluded(&[1, 2], &first);
    assert!(tuned.over_default.is_none() && tuned.over_second.is_some());
    assert_eq!(tuned.entry.elite.iter().map(|variant| variant.speedups.len()).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(tuned.entry.baselines.len(), 1);
}

#[test]
fn a_tie_puts_its_winner_first_and_keeps_the_order_of_the_others() {
    let elite = |table: &str, finalists: &[usize], compared: &Compared| {
        let tuned = Searched::new(table, |_, _| ()).concluded(finalists, compared);
        let labels = tuned.entry.elite.iter().map(EliteVariant::label).collect::<Vec<_>>();
        (labels.join(", "), tuned.entry.search.tie.map(|tie| tie.variants.join(", ")))
    };
    let tied = compared(&[(id(0), 1.0), (id(1), 2.0), (id(2), 0.0)]);
    let said = |elite: &str, tie: &str| (elite.to_owned(), Some(tie.to_owned()));
    assert_eq!(elite("", &[0, 1, 2], &tied), said("T=2, T=3, T=1", "T=2, T=1, T=3"));
    assert_eq!(elite("search.elite = 1", &[0, 1, 2], &tied), said("T=2", "T=2, T=1, T=3"));
    assert_eq!(elite("", &[0, 2], &all()), ("T=1, T=3".to_owned(), None));
    // The value of another objective is no time, so that nothing ties.
    assert_eq!(elite("search.objective = \"energy\"", &[2, 1, 0], &tied), ("T=1, T=2, T=3".to_owned(), None));
    // A front is whole.
    let front = "search = { elite = 1, objective = [\"p50\", \"energy\"] }";
    let two = |_: u16, evaluation: &mut Evaluation| {
        evaluation.objectives = vec![value("p50", 1.0), value("energy", 1.0)];
    };
    assert_eq!(Searched::new(front, two).concluded(&[0, 2], &all()).entry.elite.len(), 2);
}

#[test]
fn rejections_are_counted_by_reason_with_an_example_of_each() {
    let reject = |place: u16, evaluation: &mut Evaluation| {
        let code = if place == 2 { Reason::Unwritten } else { Reason::Wrong };
        evaluation.reject(Rejection::new(GateName::Correctness, code, format!("of {place}"), None));
    };
    let searched = Searched::new("", reject);
    let mut search = searched.search();
    // A proposal is counted by the record of its proposer.
    let record = SourceRecord { name: "p".into(), hash: String::new(), path: "p.c".into() };
    let source = Proposed { record, implementation: search.kernel.implementation.clone() };
    let proposed = Candidate { variant: Variant(vec![0]), source: Some(Arc::new(source)) };
    let evaluation = search.tried[0].evaluation.clone();
    search.tried.push(Tried { candidate: proposed, evaluation });
    let tuned = search.conclude(&device(), &[], &Compared::default(), &Vec::new(), None);
    let number = |reason: &str| tuned.entry.search.rejected.get(reason).copied();
    assert_eq!([number("correctness/wrong"), number("correctness/unwritten")], [Some(2), Some(1)]);
    let example = |label: &str, message: &str| (label.to_owned(), message.to_owned());
    assert_eq!(tuned.examples["correctness/wrong"], example("T=1", "of 0"));
    assert_eq!(tuned.examples["correctness/unwritten"], example("T=3", "of 2"));
}

#[test]
fn the_default_counts_only_in_the_part_of_the_space_that_has_it() {
    let counted = |part: &str| {
        let mut searched = Searched::new("", |_, evaluation| {
            evaluation.reject(Rejection::new(GateName::Correctness, Reason::Wrong, "no", None));
        });
        let kernel = &mut searched.project.packages[0].kernels[0];
        let partition: Partition = part.parse().unwrap();
        kernel.search.partition = Some(partition);
        let has_default = partition.of_space(&kernel.space).contains(&kernel.space.default);
        let search = searched.concluded(&[], &Compared::default()).entry.search;
        assert_eq!(search.partition, Some(partition));
        (has_default, search.evaluated, search.rejected["correctness/wrong"])
    };
    let mut parts = ["1/2", "2/2"].map(counted);
    parts.sort_unstable();
    let (with, without) = (parts[1], parts[0]);
    assert_eq!((with.0, with.1), (true, 3), "the search tried all three");
    assert_eq!((without.0, without.1), (false, 2));
    // The other variants of the other part were tried too, but a search of a part tries none of them but the default.
    assert!(without.2 < 3 && with.2 < 3 && with.2 + without.2 == 3, "{parts:?}");
}

#[test]
fn a_search_that_the_user_ended_is_cut_off_and_keeps_its_question() {
    let searched = Searched::new("", |_, _| ());
    let record = |stopped| {
        let mut search = searched.search();
        search.stopped = stopped;
        search.conclude(&device(), &[], &Compared::default(), &Vec::new(), None).entry
    };
    let cut_off = [None, Some(Stopped::Seconds), Some(Stopped::CtrlC)].map(|why| record(why).search.cut_off);
    assert_eq!(cut_off, [false, false, true]);
    let question = record(None).question.unwrap();
    assert_eq!((&question.table, question.sources.len()), (&searched.project.packages[0].kernels[0].table, 0));
}

#[test]
fn a_roofline_needs_work_and_ceilings() {
    let ceiling = |peak, rate| Ceiling { peak, rate, how: "a test".into() };
    let known = || {
        let ceilings = vec![ceiling(Peak::Copy, 1e9), ceiling(Peak::Fp32, 2e9)];
        Some(Ceilings::new(DeviceRecord::from(&device()), ceilings, String::new()))
    };
    let work = || vec![WorkRecord { label: "T=1".into(), flops: 1.0, bytes: 2.0 }];
    assert_eq!(roofline(Vec::new(), known), None, "a plot without a point");
    assert_eq!(roofline(work(), || None), None);
    let record = roofline(work(), known).unwrap();
    assert_eq!(record.work, work());
    let ceilings =
        record.ceilings.iter().map(|ceiling| (&*ceiling.name, ceiling.rate, ceiling.is_memory, &*ceiling.how));
    assert_eq!(ceilings.collect::<Vec<_>>(), [("copy", 1e9, true, "a test"), ("fp32", 2e9, false, "a test")]);
}

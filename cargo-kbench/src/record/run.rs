//! A whole run, read from its journal.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use kbench_runtime::protocol::LaunchMode;

use crate::file;
use crate::record::conclusion::Conclusion;
use crate::record::elite::TimingSettings;
use crate::record::evaluation::Evaluation;
use crate::record::journal::{self, Comparison, Record, Start};

/// The last run of a journal, with the runs that it resumed.
#[derive(Debug, Default)]
pub struct Run {
    /// The conditions of the run.
    pub start: Start,
    /// The variants in the order of evaluation, with all findings of the run.
    pub evaluations: Vec<Evaluation>,
    /// The interleaved measurements in order.
    pub comparisons: Vec<Comparison>,
    /// The end; none if the run was cut off.
    pub conclusion: Option<Conclusion>,
    /// Earlier runs of the same problem under other launch modes: the last run of each mode.
    pub other_launches: Vec<OtherLaunch>,
    /// Number of damaged lines of the journal.
    pub damaged: usize,
}

/// An earlier run under another launch mode.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherLaunch {
    /// Launch mode.
    pub mode: LaunchMode,
    /// p50 in nanoseconds of each variant that was measured to the end, by label.
    pub p50: BTreeMap<String, f64>,
    /// The conditions of that run.
    start: Start,
}

impl Run {
    /// Reads a journal.
    pub fn read(path: &Path) -> io::Result<Self> {
        // A damaged line may be no text.
        let bytes = file::read_named_bytes(path)?;
        let run = Self::of(journal::records(&bytes));
        if run.start.kernel.is_empty() {
            return Err(file::invalid(path, "no journal of `cargo kbench autotune`"));
        }
        Ok(run)
    }

    fn of(records: impl Iterator<Item = Option<Record>>) -> Self {
        let mut run = Self::default();
        // A variant has one index, though a resumed run may try it again.
        let mut places: HashMap<String, usize> = HashMap::new();
        for record in records {
            match record {
                Some(Record::Start(start)) => {
                    if !start.goes_on() {
                        let mut other_launches = std::mem::take(&mut run.other_launches);
                        other_launches.extend(OtherLaunch::of(&run));
                        run = Self { damaged: run.damaged, other_launches, ..Self::default() };
                        places.clear();
                    }
                    run.start = start;
                }
                Some(Record::Evaluation(evaluation)) => {
                    let place = *places.entry(evaluation.label()).or_insert(run.evaluations.len());
                    match run.evaluations.get_mut(place) {
                        Some(before) => *before = *evaluation,
                        None => run.evaluations.push(*evaluation),
                    }
                }
                Some(Record::Checked { key, errors, warnings }) => {
                    for evaluation in run.with_key(&key) {
                        evaluation.check_is(errors.clone(), warnings.clone());
                    }
                }
                Some(Record::Revoked { key, rejection, .. }) => {
                    for evaluation in run.with_key(&key) {
                        evaluation.reject(rejection.clone());
                    }
                }
                Some(Record::Comparison(comparison)) => run.comparisons.push(*comparison),
                Some(Record::End { conclusion, .. }) => run.conclusion = conclusion.map(|conclusion| *conclusion),
                Some(Record::Sanitized(_) | Record::Round(_)) => {}
                None => run.damaged += 1,
            }
        }
        run.keep_comparable_launches();
        run
    }

    /// Keeps, of the earlier runs, the last one of each other launch mode at the same problem.
    fn keep_comparable_launches(&mut self) {
        let problem = |start: &Start| {
            let settings =
                start.timing.clone().map(|timing| TimingSettings { launch: LaunchMode::default(), ..timing });
            (start.kernel.clone(), start.device.clone(), start.shapes.clone(), settings)
        };
        let own = self.start.timing.as_ref().map(|timing| timing.launch);
        let mut kept: Vec<OtherLaunch> = Vec::new();
        for other in std::mem::take(&mut self.other_launches).into_iter().rev() {
            let is_new = Some(other.mode) != own && kept.iter().all(|known| known.mode != other.mode);
            if is_new && problem(&other.start) == problem(&self.start) {
                kept.push(other);
            }
        }
        self.other_launches = kept;
    }

    /// p50 in nanoseconds of each variant that passed and was measured to the end, by label.
    pub fn p50(&self) -> BTreeMap<String, f64> {
        let measured = self.evaluations.iter().filter(|evaluation| !evaluation.is_cut_short());
        measured.filter_map(|evaluation| Some((evaluation.label(), evaluation.p50()?))).collect()
    }

    /// The evaluations with this key, which share one measurement.
    fn with_key<'r>(&'r mut self, key: &'r str) -> impl Iterator<Item = &'r mut Evaluation> {
        self.evaluations.iter_mut().filter(move |evaluation| evaluation.key == key)
    }

    /// The interleaved measurement of the finals.
    pub fn finals(&self) -> Option<&Comparison> {
        let shape = self.conclusion.as_ref().map(|conclusion| conclusion.entry.shape.as_str());
        let is_of = |comparison: &&Comparison| {
            comparison.entries.first().is_some_and(|first| shape.is_none_or(|shape| first.timing.shape == shape))
        };
        self.comparisons.iter().rfind(is_of)
    }
}

impl OtherLaunch {
    /// A run that is over; none where it measured nothing.
    fn of(run: &Run) -> Option<Self> {
        let (mode, p50) = (run.start.timing.as_ref()?.launch, run.p50());
        (!p50.is_empty()).then(|| Self { mode, p50, start: run.start.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Value;
    use LaunchMode::{Graph, Host, Stream};
    use kbench_runtime::stats::Summary;

    use crate::record::evaluation::{GateName, Judgement, Reason, Rejection, TimingRecord};
    use crate::space::Settings;

    fn tried(a: i64, key: &str) -> Record {
        let settings = Settings(vec![("A".to_owned(), Value::Int(a))]);
        let evaluation = Evaluation { key: key.to_owned(), ..Evaluation::new(settings, Vec::new()) };
        Record::Evaluation(Box::new(evaluation))
    }

    fn start(resumed: bool) -> Record {
        Record::Start(Start { version: journal::VERSION, kernel: "p/k".into(), resumed, ..Start::default() })
    }

    fn run<const N: usize>(records: [Record; N]) -> Run {
        Run::of(records.into_iter().map(Some))
    }

    fn labels(run: &Run) -> Vec<String> {
        run.evaluations.iter().map(Evaluation::label).collect()
    }

    #[test]
    fn only_the_last_run_and_those_it_resumed_count() {
        let before = [start(false), tried(1, "x"), start(false), tried(2, "x")].map(Some);
        let after = [start(true), tried(3, "y")].map(Some);
        let run = Run::of(before.into_iter().chain([None]).chain(after));
        assert_eq!((labels(&run), run.damaged), (vec!["A=2".to_owned(), "A=3".to_owned()], 1));
    }

    #[test]
    fn a_variant_that_is_tried_again_keeps_its_place() {
        let run = run([start(false), tried(1, ""), tried(2, "x"), start(true), tried(1, "y")]);
        assert_eq!(labels(&run), ["A=1", "A=2"]);
        assert_eq!(run.evaluations[0].key, "y");
    }

    #[test]
    fn the_last_run_under_each_other_launch_mode_is_kept() {
        let begin = |launch, iterations| {
            let timing = TimingSettings {
                warmup: 1,
                iterations,
                precision: None,
                max_seconds: None,
                cache: "hot".into(),
                launch,
            };
            let start =
                Start { version: journal::VERSION, kernel: "p/k".into(), timing: Some(timing), ..Start::default() };
            Record::Start(start)
        };
        let timed = |a: i64, nanoseconds: f64| {
            let Record::Evaluation(mut evaluation) = tried(a, "x") else { unreachable!() };
            let summary = Summary::of(&[nanoseconds; 10]).unwrap();
            let (shape, clock) = ("s".into(), "fake".into());
            evaluation.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling: None });
            Record::Evaluation(evaluation)
        };
        let run = run([
            begin(Stream, 10),
            timed(1, 50.0),
            begin(Stream, 10),
            timed(1, 40.0),
            begin(Host, 99),
            timed(1, 90.0),
            begin(Graph, 10),
            timed(1, 10.0),
            begin(Graph, 10),
            timed(2, 20.0),
        ]);
        let others: Vec<_> = run.other_launches.iter().map(|other| (other.mode, other.p50["A=1"])).collect();
        // Other settings than the launch mode make another problem.
        assert_eq!(others, [(Stream, 40.0)]);
        assert_eq!(run.p50(), BTreeMap::from([("A=2".to_owned(), 20.0)]));
    }

    #[test]
    fn a_rejection_in_the_finals_counts_for_all_with_that_code() {
        let rejection = Rejection::new(GateName::Sanitize, Reason::Racecheck, "a race", None);
        let revoked = Record::Revoked { key: "x".into(), rejection: rejection.clone(), by_check: false };
        let run = run([start(false), tried(1, "x"), tried(2, "x"), tried(3, "z"), revoked]);
        let of = |at: usize| run.evaluations[at].outcome.clone();
        assert_eq!([of(0), of(1)], [Judgement::Rejected(rejection.clone()), Judgement::Rejected(rejection)]);
        assert_eq!(of(2), Judgement::Passed);
    }
}

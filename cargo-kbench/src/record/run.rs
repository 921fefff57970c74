//! A whole run, as its journal tells it.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::file;
use crate::record::conclusion::Conclusion;
use crate::record::evaluation::Evaluation;
use crate::record::journal::{self, Comparison, Record, Start};

/// The last run of a journal, with the runs that it resumed.
#[derive(Debug, Default)]
pub struct Run {
    /// The conditions of the run.
    pub start: Start,
    /// The variants in the order in which they were tried, with all that the run found of them.
    pub evaluations: Vec<Evaluation>,
    /// The interleaved measurements, in their order.
    pub comparisons: Vec<Comparison>,
    /// The end; none of a run that was cut off.
    pub conclusion: Option<Conclusion>,
    /// Lines of the journal that are damaged.
    pub damaged: usize,
}

impl Run {
    /// Reads a journal.
    pub fn read(path: &Path) -> io::Result<Self> {
        let run = Self::of(journal::records(file::read(path)?.as_bytes()));
        if run.start.kernel.is_empty() {
            return Err(file::invalid(path, "no journal of `cargo kbench autotune`"));
        }
        Ok(run)
    }

    fn of(records: impl Iterator<Item = Option<Record>>) -> Self {
        let mut run = Self::default();
        // A variant has one place, though a resumed run may try it again.
        let mut places: HashMap<String, usize> = HashMap::new();
        for record in records {
            match record {
                Some(Record::Start(start)) => {
                    if !start.goes_on() {
                        run = Self { damaged: run.damaged, ..Self::default() };
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
                Some(Record::Revoked { key, rejection }) => {
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
        run
    }

    /// The evaluations that one measurement serves.
    fn with_key<'r>(&'r mut self, key: &'r str) -> impl Iterator<Item = &'r mut Evaluation> {
        self.evaluations.iter_mut().filter(move |evaluation| evaluation.key == key)
    }

    /// The interleaved measurement that decided the run.
    pub fn finals(&self) -> Option<&Comparison> {
        let shape = self.conclusion.as_ref().map(|conclusion| conclusion.entry.shape.as_str());
        let is_of = |comparison: &&Comparison| {
            comparison.entries.first().is_some_and(|first| shape.is_none_or(|shape| first.timing.shape == shape))
        };
        self.comparisons.iter().rfind(is_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Value;
    use crate::record::evaluation::{GateName, Judgement, Reason, Rejection};
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
    fn a_rejection_in_the_finals_counts_for_all_with_that_code() {
        let rejection = Rejection::new(GateName::Sanitize, Reason::Racecheck, "a race", None);
        let revoked = Record::Revoked { key: "x".into(), rejection: rejection.clone() };
        let run = run([start(false), tried(1, "x"), tried(2, "x"), tried(3, "z"), revoked]);
        let of = |at: usize| run.evaluations[at].outcome.clone();
        assert_eq!([of(0), of(1)], [Judgement::Rejected(rejection.clone()), Judgement::Rejected(rejection)]);
        assert_eq!(of(2), Judgement::Passed);
    }
}

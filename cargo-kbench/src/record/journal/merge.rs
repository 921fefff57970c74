//! Splits journals into searches and merges them: a merged journal holds the searches of all, each once, in a fixed
//! order.

use std::collections::BTreeMap;

use super::{Record, Start, VERSION, line, records};
use crate::record::conclusion::Conclusion;
use crate::record::evaluation::Evaluation;

/// One search, with the runs that resumed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    start: Start,
    /// The records after the start.
    rest: Vec<Record>,
}

impl Search {
    fn new(start: Start) -> Self {
        // A single search has its original form.
        Self { start: Start { merged: false, ..start }, rest: Vec::new() }
    }

    /// Kernel and conditions.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Records of the run, the start first.
    pub fn records(&self) -> Vec<Record> {
        std::iter::once(Record::Start(self.start.clone())).chain(self.rest.iter().cloned()).collect()
    }

    /// The tried variants.
    pub fn evaluations(&self) -> impl Iterator<Item = &Evaluation> {
        self.rest.iter().filter_map(|record| match record {
            Record::Evaluation(evaluation) => Some(&**evaluation),
            _ => None,
        })
    }

    /// The evaluation of the default variant.
    pub fn default(&self) -> Option<&Evaluation> {
        let default = &self.start().default;
        self.evaluations().find(|evaluation| evaluation.source.is_none() && evaluation.toggles.same(default))
    }

    /// The end; none if the search was cut off.
    pub fn conclusion(&self) -> Option<&Conclusion> {
        self.rest.iter().rev().find_map(|record| match record {
            Record::End { conclusion, .. } => conclusion.as_deref(),
            _ => None,
        })
    }

    /// The shape of the measurements; none if no variant was measured.
    pub fn shape(&self) -> Option<&str> {
        let of_evaluation = || self.evaluations().find_map(|evaluation| evaluation.timing.as_ref());
        let concluded = self.conclusion().map(|conclusion| conclusion.entry.shape.as_str());
        concluded.or_else(|| of_evaluation().map(|timing| timing.shape.as_str()))
    }

    /// Text of the search, equal for equal searches.
    fn text(&self) -> Vec<u8> {
        self.records().iter().filter_map(|record| line::encode(record).ok()).flatten().collect()
    }
}

/// The searches of a journal that count: for each device those of the last run, which are several in a merged journal.
/// Returns the number of damaged lines too.
pub fn searches(text: &[u8]) -> (Vec<Search>, usize) {
    let mut runs: BTreeMap<String, Vec<Search>> = BTreeMap::new();
    let (mut device, mut damaged) = (String::new(), 0);
    for record in records(text) {
        match record {
            Some(Record::Start(start)) if start.version != VERSION => {
                runs.clear();
                device.clear();
            }
            Some(Record::Start(start)) if start.resumed || start.merged => {
                device.clone_from(&start.device);
                let searches = runs.entry(device.clone()).or_default();
                match searches.last_mut() {
                    Some(search) if start.resumed && !start.merged && search.evaluations().next().is_some() => {
                        search.rest.push(Record::Start(start));
                    }
                    _ => searches.push(Search::new(start)),
                }
            }
            Some(Record::Start(start)) => {
                device.clone_from(&start.device);
                runs.insert(device.clone(), vec![Search::new(start)]);
            }
            Some(record) => {
                if let Some(search) = runs.get_mut(&device).and_then(|searches| searches.last_mut()) {
                    search.rest.push(record);
                }
            }
            None => damaged += 1,
        }
    }
    let has_tried = |search: &Search| search.evaluations().next().is_some();
    (runs.into_values().flatten().filter(has_tried).collect(), damaged)
}

/// The searches without repetitions, in an order that depends only on their contents; `last` comes last.
pub fn distinct(searches: impl IntoIterator<Item = Search>, is_last: impl Fn(&Search) -> bool) -> Vec<Search> {
    let keyed = searches.into_iter().map(|search| ((is_last(&search), search.text()), search));
    keyed.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The records of a journal of several searches, with the conclusion of all.
pub fn merged(searches: &[Search], conclusion: Option<Conclusion>) -> Vec<Record> {
    let time = searches.iter().map(|search| search.start().time).max().unwrap_or_default();
    let whole = Start { time, resumed: false, partition: None, ..searches[0].start().clone() };
    let mut all = vec![Record::Start(whole.clone())];
    for search in searches {
        all.push(Record::Start(Start { merged: true, ..search.start().clone() }));
        all.extend(search.rest.iter().cloned());
    }
    let evaluations = searches.iter().map(|search| search.evaluations().count() as u64).sum();
    all.push(Record::Start(Start { merged: true, ..whole }));
    all.push(Record::End { evaluations, conclusion: conclusion.map(Box::new) });
    all
}

/// Whether a journal ends with these records.
pub fn ends_with(text: &[u8], records: &[Record]) -> bool {
    let end: Vec<u8> = records.iter().filter_map(|record| line::encode(record).ok()).flatten().collect();
    text.ends_with(&end)
}

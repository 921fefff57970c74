//! Measurements that a run takes from earlier runs and adds itself.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::{Comparison, Kept, Record, Reuse, Round, SanitizedRun, VERSION, line, lines};
use crate::record::evaluation::{Evaluation, Reason, ShapeErrors, TimingRecord};
use crate::space::Settings;

/// Largest relative difference of a new p50 from the recorded one. A larger difference means that the machine changed.
const TOLERANCE: f64 = 0.02;

/// Measurements of earlier runs and of this run.
///
/// Of runs that this one does not resume only variants are known that passed and were measured to the end, and only as long as those
/// that are measured again, the default first of all, take the time that they took.
#[derive(Debug, Default)]
pub struct RunCache {
    /// Evaluations by key.
    pub(super) evaluations: HashMap<String, Evaluation>,
    /// Keys of those of earlier runs.
    earlier: HashSet<String>,
    /// Keys of variants that passed and were rejected in the finals.
    revoked: HashSet<String>,
    /// Comparisons by key.
    pub comparisons: HashMap<String, Comparison>,
    /// Runs under sanitizers by key.
    pub sanitized: HashMap<String, SanitizedRun>,
    /// Proposals, in order.
    pub rounds: Vec<Round>,
    /// Lines that are no record.
    pub damaged: usize,
    /// Why earlier runs count for nothing, where they do not.
    pub machine_changed: Option<String>,
}

impl RunCache {
    /// Reads whole lines; a line that is not what was written, or of another version, is counted and passed over. Also says which
    /// lines later runs need.
    pub(super) fn parse(text: &[u8], reuse: Reuse) -> (Self, Kept) {
        let (mut known, mut kept) = (RunCache::default(), Kept::default());
        if reuse == Reuse::Nothing {
            return (known, kept);
        }
        let mut default = Settings::default();
        let mut places: HashMap<String, Range<usize>> = HashMap::new();
        for (place, line) in lines(text) {
            match line::decode(line) {
                Some(Record::Start(start)) => {
                    if start.version != VERSION {
                        known = RunCache::default();
                    } else if !start.goes_on() {
                        known.leave_behind();
                    }
                    if !start.goes_on() {
                        kept.earlier = places
                            .iter()
                            .filter(|(key, _)| known.earlier.contains(*key))
                            .map(|(_, place)| place.clone())
                            .collect();
                        kept.last_run = place.start;
                    }
                    default = start.default;
                }
                Some(Record::Evaluation(evaluation)) => {
                    if !evaluation.key.is_empty() && !is_transient(&evaluation) {
                        let is_default = evaluation.source.is_none() && evaluation.toggles == default;
                        places.insert(evaluation.key.clone(), place);
                        known.add(*evaluation, is_default);
                    }
                }
                Some(Record::Checked { key, errors, warnings }) => known.checked(&key, &errors, &warnings),
                Some(Record::Revoked { key, .. }) => drop(known.revoked.insert(key)),
                Some(Record::Comparison(comparison)) => {
                    known.comparisons.insert(comparison.key.clone(), *comparison);
                }
                Some(Record::Sanitized(run)) => {
                    known.sanitized.insert(run.key.clone(), *run);
                }
                Some(Record::Round(round)) => known.rounds.push(round),
                Some(Record::End { .. }) => {}
                None => known.damaged += 1,
            }
        }
        if reuse == Reuse::Variants {
            known.leave_behind();
        }
        kept.earlier.sort_by_key(|place| place.start);
        (known, kept)
    }

    /// Makes what is known that of earlier runs. What is reported is always measured anew, and what was proposed is for that run to
    /// try.
    fn leave_behind(&mut self) {
        let RunCache { evaluations, revoked, damaged, comparisons, earlier, .. } = std::mem::take(self);
        (self.evaluations, self.damaged) = (evaluations, damaged);
        let is_new = |key: &String, evaluation: &Evaluation| !evaluation.cached && !earlier.contains(key);
        let in_use = |timing: Option<&TimingRecord>| timing.is_some_and(TimingRecord::is_in_use);
        let was_in_use = self.evaluations.iter().any(|(key, of)| is_new(key, of) && in_use(of.timing.as_ref()))
            || comparisons.values().flat_map(|comparison| &comparison.entries).any(|entry| entry.timing.is_in_use());
        // Beside another process nothing was as it is.
        self.evaluations.retain(|key, evaluation| !(was_in_use && is_new(key, evaluation)));
        self.evaluations.retain(|key, evaluation| is_settled(evaluation) && !revoked.contains(key));
        self.earlier = self.evaluations.keys().cloned().collect();
    }

    /// Adds an evaluation that this run measured or took from the cache.
    pub fn add(&mut self, evaluation: Evaluation, is_default: bool) {
        let was_earlier = self.earlier.remove(&evaluation.key);
        let tells = was_earlier || is_default && !self.earlier.is_empty();
        if !evaluation.cached && tells {
            let before = self.evaluations.get(&evaluation.key).filter(|_| was_earlier);
            let change = machine_change(before, &evaluation, is_default);
            if change != MachineChange::No {
                for key in self.earlier.drain() {
                    self.evaluations.remove(&key);
                }
            }
            if let (MachineChange::Yes(why), None) = (change, &self.machine_changed) {
                self.machine_changed = Some(why);
            }
        }
        self.revoked.remove(&evaluation.key);
        self.evaluations.insert(evaluation.key.clone(), evaluation);
    }

    /// The variant with this key passed the whole check.
    pub fn checked(&mut self, key: &str, errors: &[ShapeErrors], warnings: &[String]) {
        if let Some(evaluation) = self.evaluations.get_mut(key) {
            evaluation.check_is(errors.to_vec(), warnings.to_vec());
        }
    }

    /// The evaluation with this key, and whether it is an earlier run's.
    pub fn evaluation(&self, key: &str) -> Option<(&Evaluation, bool)> {
        self.evaluations.get(key).map(|evaluation| (evaluation, self.earlier.contains(key)))
    }
}

/// Whether a record and a new measurement of the same are of other conditions.
#[derive(Debug, PartialEq)]
enum MachineChange {
    No,
    /// Nobody knows, since the default has changed.
    Unknown,
    /// Yes, and how it shows.
    Yes(String),
}

fn machine_change(before: Option<&Evaluation>, now: &Evaluation, is_default: bool) -> MachineChange {
    match (before.and_then(Evaluation::p50), now.p50()) {
        (Some(before), Some(p50)) => {
            let apart = 100.0 * (p50 / before - 1.0);
            let than = if apart > 0.0 { "longer" } else { "shorter" };
            if apart.abs() <= 100.0 * TOLERANCE {
                return MachineChange::No;
            }
            MachineChange::Yes(format!("{} takes {:.0} % {than} now", now.label(), apart.abs()))
        }
        (None, _) if is_default => MachineChange::Unknown,
        (_, None) if is_default => MachineChange::Yes("the default does not pass any more".to_owned()),
        _ => MachineChange::No,
    }
}

/// Whether a variant passed and its time was known well enough, or well enough to be out of the race.
fn is_settled(evaluation: &Evaluation) -> bool {
    let settled = |timing: &TimingRecord| timing.sampling.as_ref().is_some_and(|how| how.converged || how.cut_short);
    let mut timings = evaluation.timing.iter().chain(&evaluation.more_timings);
    evaluation.p50().is_some_and(|p50| p50 > 0.0) && timings.all(settled)
}

/// Whether the outcome says more of the moment than of the variant.
fn is_transient(evaluation: &Evaluation) -> bool {
    matches!(evaluation.rejection(), Some(rejection) if [Reason::OutOfMemory, Reason::Protocol].contains(&rejection.code))
}

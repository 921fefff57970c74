//! Measurements that a run reuses from earlier runs, and its own.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::{Comparison, Kept, Record, Reuse, Round, SanitizedRun, VERSION, line, lines};
use crate::record::evaluation::{Evaluation, Reason, Rejection, ShapeErrors, TimingRecord};
use crate::space::Settings;

/// Largest relative difference of a new p50 from the recorded one. A larger difference means that the machine changed, unless the intervals
/// of both meet.
const TOLERANCE: f64 = 0.02;

/// Measurements of earlier runs and of this run.
///
/// From runs that are not resumed, only variants that passed and were measured to the end are reused, and only while
/// variants that are measured again, the default first, take their recorded time.
#[derive(Debug, Default)]
pub struct RunCache {
    /// Evaluations by key.
    pub(super) evaluations: HashMap<String, Arc<Evaluation>>,
    /// Keys of evaluations of earlier runs.
    earlier: HashSet<String>,
    /// Keys of variants that passed and were rejected later.
    revoked: HashSet<String>,
    /// Rejections by the rest of a check, by key.
    failed_checks: HashMap<String, Rejection>,
    /// Comparisons by key.
    pub comparisons: HashMap<String, Comparison>,
    /// Runs under sanitizers by key.
    pub sanitized: HashMap<String, SanitizedRun>,
    /// Proposals in order.
    pub rounds: Vec<Round>,
    /// Number of lines that are not records.
    pub damaged: usize,
    /// Reason why measurements of earlier runs are discarded; none if they are valid.
    pub machine_changed: Option<String>,
}

impl RunCache {
    /// Reads whole lines; a damaged line or one of another version is counted and skipped. Returns the lines that later
    /// runs need.
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
                    if !evaluation.key.is_empty() && !evaluation.rejection().is_some_and(is_transient) {
                        let is_default = evaluation.source.is_none() && evaluation.toggles == default;
                        places.insert(evaluation.key.clone(), place);
                        known.add(*evaluation, is_default);
                    }
                }
                Some(Record::Checked { key, errors, warnings }) => known.checked(&key, &errors, &warnings),
                Some(Record::Revoked { key, rejection, by_check }) => {
                    if by_check && !is_transient(&rejection) {
                        known.failed_checks.insert(key.clone(), rejection);
                    }
                    known.revoked.insert(key);
                }
                Some(Record::Comparison(comparison)) => {
                    if !comparison.rejected.as_ref().is_some_and(|(_, rejection)| is_transient(rejection)) {
                        known.comparisons.insert(comparison.key.clone(), *comparison);
                    }
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

    /// Marks all records as those of earlier runs. Reported times are always measured again, and proposals belong to
    /// their run.
    fn leave_behind(&mut self) {
        let RunCache { evaluations, revoked, damaged, comparisons, earlier, .. } = std::mem::take(self);
        (self.evaluations, self.damaged) = (evaluations, damaged);
        let is_new = |key: &String, evaluation: &Evaluation| !evaluation.cached && !earlier.contains(key);
        let in_use = |timing: Option<&TimingRecord>| timing.is_some_and(TimingRecord::is_in_use);
        let was_in_use = self.evaluations.iter().any(|(key, of)| is_new(key, of) && in_use(of.timing.as_ref()))
            || comparisons.values().flat_map(|comparison| &comparison.entries).any(|entry| entry.timing.is_in_use());
        // Measurements beside another process are not reused.
        self.evaluations.retain(|key, evaluation| !(was_in_use && is_new(key, evaluation)));
        self.evaluations.retain(|key, evaluation| is_settled(evaluation) && !revoked.contains(key));
        self.earlier = self.evaluations.keys().cloned().collect();
    }

    /// Adds an evaluation that this run measured or reused.
    pub fn add(&mut self, evaluation: impl Into<Arc<Evaluation>>, is_default: bool) {
        let evaluation = evaluation.into();
        let was_earlier = self.earlier.remove(&evaluation.key);
        let tells = was_earlier || is_default && !self.earlier.is_empty();
        if !evaluation.cached && tells {
            let before = self.evaluations.get(&evaluation.key).filter(|_| was_earlier).map(|before| &**before);
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

    /// Records that the variant with this key passed the whole check.
    pub fn checked(&mut self, key: &str, errors: &[ShapeErrors], warnings: &[String]) {
        if let Some(evaluation) = self.evaluations.get_mut(key) {
            Arc::make_mut(evaluation).check_is(errors.to_vec(), warnings.to_vec());
        }
    }

    /// The rejection of the variant with this key by the rest of its check.
    pub fn failed_check(&self, key: &str) -> Option<&Rejection> {
        self.failed_checks.get(key)
    }

    /// Whether the variant with this key passed and was rejected later.
    pub fn is_revoked(&self, key: &str) -> bool {
        self.revoked.contains(key)
    }

    /// The evaluation with this key, and whether an earlier run measured it.
    pub fn evaluation(&self, key: &str) -> Option<(&Arc<Evaluation>, bool)> {
        self.evaluations.get(key).map(|evaluation| (evaluation, self.earlier.contains(key)))
    }
}

/// Whether a record and a new measurement of the same variant have different conditions.
#[derive(Debug, PartialEq)]
enum MachineChange {
    No,
    /// Unknown, since the default has changed.
    Unknown,
    /// The conditions differ, with a description.
    Yes(String),
}

fn machine_change(before: Option<&Evaluation>, now: &Evaluation, is_default: bool) -> MachineChange {
    let summary = |of: &Evaluation| of.p50().and(of.timing.as_ref()).map(|timing| timing.summary);
    match (before.and_then(summary), summary(now)) {
        (Some(before), Some(now_takes)) => {
            let apart = 100.0 * (now_takes.p50 / before.p50 - 1.0);
            let than = if apart > 0.0 { "longer" } else { "shorter" };
            if apart.abs() <= 100.0 * TOLERANCE || now_takes.meets(&before, TOLERANCE) {
                return MachineChange::No;
            }
            MachineChange::Yes(format!("{} takes {:.0} % {than} now", now.label(), apart.abs()))
        }
        (None, _) if is_default => MachineChange::Unknown,
        (_, None) if is_default => MachineChange::Yes("the default does not pass any more".to_owned()),
        _ => MachineChange::No,
    }
}

/// Whether a variant passed and its p50 is known, or is known to be too slow.
fn is_settled(evaluation: &Evaluation) -> bool {
    let settled = |timing: &TimingRecord| timing.sampling.as_ref().is_some_and(|how| how.converged || how.cut_short);
    let mut timings = evaluation.timing.iter().chain(&evaluation.more_timings);
    evaluation.p50().is_some_and(|p50| p50 > 0.0) && timings.all(settled)
}

/// Whether a rejection may depend on the moment and not on the variant.
fn is_transient(rejection: &Rejection) -> bool {
    [Reason::OutOfMemory, Reason::Protocol].contains(&rejection.code)
}

//! The choice of finalists: the best variants of a search, as far as they may win.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::search::{Search, Tried};
use super::tie;
use crate::config::Objective;
use crate::evaluate::{COARSE, Race, judge_alone};
use crate::gates::performance::Compared;
use crate::harness::{Harness, Reporter, Results, RunError};
use crate::record::evaluation::{Checked, Evaluation, Rejection};

/// Nanoseconds a launch from which on only variants that may win are in the finals, and the factor by which the others are slower.
const LONG: f64 = 5e7;
const HOPELESS: f64 = 1.5;

impl Search<'_> {
    /// The race of the next variant.
    pub(super) fn race(&mut self) -> Race {
        Race { is_coarse: self.has_coarse_ranks, bar: self.bar() }
    }

    /// Time in nanoseconds that a variant has to beat to reach the finals; none until there are enough other variants,
    /// or for other objectives.
    fn bar(&mut self) -> Option<f64> {
        if self.kernel.objectives != [Objective::P50] {
            return None;
        }
        if self.fastest.iter().any(|&place| self.finished(place).is_none()) {
            // One of them was rejected since.
            self.fastest.clear();
            for place in 0..self.tried.len() {
                self.rank(place);
            }
        }
        self.fastest.get(self.kernel.search.elite - 1).and_then(|&place| self.finished(place))
    }

    /// p50 of each variant that passed and was timed to the end. Of variants with one program only the first counts.
    fn finished(&self, place: usize) -> Option<f64> {
        let evaluation = &self.tried[place].evaluation;
        evaluation.p50().filter(|_| evaluation.identical_code.is_none() && !evaluation.is_cut_short())
    }

    /// Adds a tried variant to the fastest, if it is one of them.
    pub(super) fn rank(&mut self, place: usize) {
        let Some(p50) = self.finished(place) else { return };
        let slower = |&other: &usize| self.finished(other).is_some_and(|other| other > p50);
        let at = self.fastest.partition_point(|other| !slower(other));
        self.fastest.insert(at, place);
        self.fastest.truncate(self.kernel.search.elite);
    }

    /// Indices of the variants with a time, best first. Of equal objectives, such as counts, the faster variant is
    /// better.
    fn ranked(&self) -> Vec<usize> {
        let rank = |index: usize| {
            let evaluation = &self.tried[index].evaluation;
            let slowness = self.slowness_of(evaluation);
            let of_objective = if self.kernel.objectives == [Objective::P50] { slowness } else { 1.0 };
            [(evaluation.objective(), of_objective), (evaluation.p50(), slowness)]
                .map(|(value, slowness)| value.map_or(f64::INFINITY, |value| value / slowness))
        };
        // A worker that is slower than the others may have ended the timing of a fast variant early.
        let is_wrong = |evaluation: &Evaluation| self.slowness_of(evaluation) > 1.0;
        let has_time = |evaluation: &Evaluation| {
            evaluation.p50().is_some() && (!evaluation.is_cut_short() || is_wrong(evaluation))
        };
        let mut ranked: Vec<usize> =
            (0..self.tried.len()).filter(|&index| has_time(&self.tried[index].evaluation)).collect();
        // The sort is stable: of candidates with identical code the first tried one represents all.
        ranked.sort_by(|&a, &b| {
            let ([of_a, p50_of_a], [of_b, p50_of_b]) = (rank(a), rank(b));
            of_a.total_cmp(&of_b).then(p50_of_a.total_cmp(&p50_of_b))
        });
        ranked
    }

    /// The factor by which the worker that measured an evaluation is slower than the others.
    fn slowness_of(&self, evaluation: &Evaluation) -> f64 {
        self.slowness.get(&evaluation.key).copied().unwrap_or(1.0)
    }

    /// Whether a variant may win beside the best so far. The checks and finals of a long variant that is much slower would take most of
    /// the time.
    fn may_win(&self, best: Option<&Evaluation>, evaluation: &Evaluation) -> bool {
        let time = |of: &Evaluation| Some(of.p50()? / self.slowness_of(of));
        let is_far = |(best, time): (f64, f64)| time >= LONG && time > HOPELESS * best;
        let times = best.and_then(time).zip(time(evaluation));
        self.kernel.objectives != [Objective::P50] || !times.is_some_and(is_far)
    }

    /// Whether the default may win beside the best finalist.
    pub(super) fn default_may_win(&self, best: &Tried) -> bool {
        let default = self.of_space(&self.kernel.space.default);
        default.is_none_or(|default| self.may_win(Some(&best.evaluation), default))
    }

    /// The K best variants that are different programs, best first.
    pub(super) fn best_distinct(&self) -> Vec<&Tried> {
        let mut best: Vec<&Tried> = Vec::new();
        for index in self.ranked() {
            let tried = &self.tried[index];
            if best.len() < self.limits.elite && best.iter().all(|other| other.evaluation.key != tried.evaluation.key) {
                best.push(tried);
            }
        }
        best
    }

    /// Whether a variant may be in the finals.
    pub(super) fn has_finalists(&self) -> bool {
        !self.ranked().is_empty()
    }

    /// Indices of the likely finalists, and of the default if it may win, as far as they have to be checked in full.
    pub(super) fn to_examine(&self, results: &Results) -> Vec<usize> {
        let default = self.tried.iter().position(|tried| tried.candidate.is(&self.kernel.space.default));
        let mut keys: Vec<&str> = Vec::new();
        let mut places = Vec::new();
        let ranked = if self.kernel.objectives.len() == 1 { self.ranked() } else { Vec::new() };
        let best = ranked.first().map(|&place| &*self.tried[place].evaluation);
        let may_win = |&place: &usize| self.may_win(best, &self.tried[place].evaluation);
        for place in ranked.iter().copied().take_while(may_win).chain(default.filter(may_win)) {
            let evaluation = &self.tried[place].evaluation;
            let is_known =
                results.evaluation(&evaluation.key).is_some_and(|(known, _)| known.checked == Checked::InFull)
                    || results.failed_check(&evaluation.key).is_some();
            if (keys.len() < self.limits.elite || Some(place) == default) && !keys.contains(&&*evaluation.key) {
                keys.push(&evaluation.key);
                if !is_known && evaluation.checked != Checked::InFull && evaluation.rejection().is_none() {
                    places.push(place);
                }
            }
        }
        places
    }

    /// Rejects the variants with this key, which had passed.
    pub(super) fn revoke(&mut self, key: &str, rejection: &Rejection) {
        for tried in self.tried.iter_mut().filter(|tried| tried.evaluation.key == key) {
            Arc::make_mut(&mut tried.evaluation).reject(rejection.clone());
        }
    }

    /// Whether there is room in the finals for a variant beside those before it: for one more than the elite if ranks are coarse and do not show that
    /// it is slower.
    fn has_room(&self, finalists: &[Tried], evaluation: &Evaluation) -> bool {
        let elite = self.kernel.search.elite;
        let last = || finalists.last()?.evaluation.timing.as_ref();
        let meets =
            || last().zip(evaluation.timing.as_ref()).is_some_and(|(last, of)| of.summary.meets(&last.summary, COARSE));
        finalists.len() < elite || finalists.len() == elite && self.has_coarse_ranks && meets()
    }

    /// Whether a variant may be in the finals beside those before it.
    fn may_follow(&self, finalists: &[Tried], evaluation: &Evaluation) -> bool {
        let best = finalists.first().map(|best| &*best.evaluation);
        self.has_room(finalists, evaluation) && self.may_win(best, evaluation)
    }

    /// The best variants with different machine code that may win and pass the gates that judge a single candidate, best first: the K
    /// best, and one more if [there is room](Self::has_room).
    pub(super) fn finalists(
        &mut self,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Tried>, RunError> {
        if self.kernel.objectives.len() > 1 {
            return self.front_finalists(harness, reporter);
        }
        self.prepare_finalists(harness)?;
        let mut finalists: Vec<Tried> = Vec::new();
        let mut unsound: BTreeMap<String, Rejection> = BTreeMap::new();
        for index in self.ranked() {
            if !self.may_follow(&finalists, &self.tried[index].evaluation) {
                break;
            }
            let Tried { candidate, evaluation } = &mut self.tried[index];
            let evaluation = Arc::make_mut(evaluation);
            if finalists.iter().any(|finalist| finalist.evaluation.key == evaluation.key) {
                continue;
            }
            if let Some(rejection) = unsound.get(&evaluation.key) {
                evaluation.reject(rejection.clone());
                continue;
            }
            judge_alone(harness, candidate, evaluation, reporter)?;
            match evaluation.rejection() {
                Some(rejection) => drop(unsound.insert(evaluation.key.clone(), rejection.clone())),
                None => finalists.push(self.tried[index].clone()),
            }
        }
        Ok(finalists)
    }

    /// Index of the default, if it ties with the best finalist and is none of them.
    fn tying_default(&self, finalists: &[Tried], compared: &Compared) -> Option<usize> {
        let default = &self.kernel.space.default;
        let is_one = finalists.iter().any(|finalist| finalist.candidate.is(default));
        let ties = tie::ties_with_fastest(compared, finalists, &default.into());
        let at = self.tried.iter().position(|tried| tried.candidate.is(default));
        at.filter(|_| ties && !is_one && self.kernel.objectives == [Objective::P50])
    }

    /// The finalists, and the default if it ties with the best of them: then it is the winner, if it passes as they do.
    pub(super) fn with_default(
        &mut self,
        mut finalists: Vec<Tried>,
        compared: &Compared,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Tried>, RunError> {
        if let Some(at) = self.tying_default(&finalists, compared) {
            let Tried { candidate, evaluation } = &mut self.tried[at];
            let evaluation = Arc::make_mut(evaluation);
            judge_alone(harness, candidate, evaluation, reporter)?;
            finalists.extend(evaluation.rejection().is_none().then(|| self.tried[at].clone()));
        }
        Ok(finalists)
    }
}

#[cfg(test)]
mod tests;

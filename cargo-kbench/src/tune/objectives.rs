//! Objectives of a search in its finals: entrants for a front, and values of each variant.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::search::{Search, Tried};
use crate::config::Objective;
use crate::evaluate::judge_alone;
use crate::gates::performance::{Compared, Entrant, EntrantId, compare};
use crate::harness::{Harness, Reporter, RunError};
use crate::record::elite::EliteVariant;
use crate::record::evaluation::{Evaluation, Rejection, TimingRecord};
use crate::record::objective::{self, ObjectiveValue};

/// Comparisons at other shapes than the search's, by index of the shape.
pub(super) type Elsewhere = Vec<(usize, Compared)>;

/// Measures the variants among the entrants together at each other shape of a mean objective.
pub(super) fn compare_elsewhere(harness: &mut Harness<'_>, entrants: &[Entrant]) -> Result<Elsewhere, RunError> {
    let kernel = harness.kernel();
    let variants: Vec<Entrant> =
        entrants.iter().filter(|entrant| matches!(entrant, Entrant::Candidate(_))).cloned().collect();
    let shapes = kernel.mean_shapes().filter(|&shape| shape != kernel.search.shape);
    shapes.map(|shape| Ok((shape, compare(harness, shape, &variants)?))).collect()
}

/// The rejection of an entrant in the finals, at the search's shape or at another one.
pub(super) fn rejection<'c>(id: &EntrantId, compared: &'c Compared, elsewhere: &'c Elsewhere) -> Option<&'c Rejection> {
    std::iter::once(compared).chain(elsewhere.iter().map(|(_, there)| there)).find_map(|there| there.rejection(id))
}

impl Search<'_> {
    /// The variants of the front in the order of the first objective, without those with identical code and those that
    /// a gate rejects. Variants that a rejected one dominated take part.
    pub(super) fn front_finalists(
        &mut self,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Tried>, RunError> {
        let mut sound: HashSet<usize> = HashSet::new();
        let mut unsound: BTreeMap<String, Rejection> = BTreeMap::new();
        loop {
            let mut front = self.front();
            if front.iter().all(|index| sound.contains(index)) {
                return Ok(front.into_iter().map(|index| self.tried[index].clone()).collect());
            }
            front.retain(|index| !sound.contains(index));
            for index in front {
                let Tried { candidate, evaluation } = &mut self.tried[index];
                let evaluation = Arc::make_mut(evaluation);
                judge_alone(harness, candidate, evaluation, reporter)?;
                match evaluation.rejection().cloned() {
                    None => drop(sound.insert(index)),
                    Some(rejection) => drop(unsound.insert(evaluation.key.clone(), rejection)),
                }
            }
            // Identical code has one verdict.
            for Tried { evaluation, .. } in &mut self.tried {
                if let Some(rejection) = unsound.get(&evaluation.key) {
                    Arc::make_mut(evaluation).reject(rejection.clone());
                }
            }
        }
    }

    /// Indices of the variants of the front in the order of the first objective: of those that passed and were timed to the end, without
    /// those with identical code.
    fn front(&self) -> Vec<usize> {
        let mut keys = HashSet::new();
        let mut passed: Vec<usize> = (0..self.tried.len()).collect();
        passed.retain(|&index| {
            let evaluation = &self.tried[index].evaluation;
            evaluation.objectives.len() == 2
                && evaluation.rejection().is_none()
                && !evaluation.is_cut_short()
                && keys.insert(evaluation.key.clone())
        });
        let points: Vec<&[ObjectiveValue]> =
            passed.iter().map(|&index| &self.tried[index].evaluation.objectives[..]).collect();
        let on_front = objective::front(&points);
        let mut front: Vec<usize> =
            passed.into_iter().zip(on_front).filter(|(_, is_on)| *is_on).map(|(index, _)| index).collect();
        front.sort_by(|&a, &b| {
            let of = |index: usize| self.tried[index].evaluation.objectives[0].value;
            of(a).total_cmp(&of(b))
        });
        front
    }

    /// Values of a variant in the finals: times of the finals, all others from its evaluation. `None` if it was not
    /// measured at every needed shape.
    pub(super) fn final_values(
        &self,
        id: &EntrantId,
        evaluation: &Evaluation,
        compared: &Compared,
        elsewhere: &Elsewhere,
    ) -> Option<(Vec<ObjectiveValue>, Vec<TimingRecord>)> {
        let kernel = self.kernel;
        let timing = |shape: usize| {
            let there = if shape == kernel.search.shape {
                compared
            } else {
                &elsewhere.iter().find(|(other, _)| *other == shape)?.1
            };
            Some(&there.entry(id)?.timing)
        };
        let mut values = Vec::new();
        for (at, objective) in kernel.objectives.iter().enumerate() {
            // The work of a launch is the same in the search and in the finals.
            let work = || Some(evaluation.timing.as_ref()?.summary.p50 / evaluation.objectives.get(at)?.value);
            let of_times = ObjectiveValue::of_times(
                objective,
                kernel.search.shape,
                |shape| timing(shape).map(|timing| &timing.summary),
                work,
            );
            let is_of_times = matches!(objective.name(), "p50" | "mean" | "throughput");
            let of_search = || evaluation.objectives.get(at).filter(|_| !is_of_times).cloned();
            values.push(of_times.or_else(of_search)?);
        }
        let more = elsewhere.iter().filter_map(|(shape, _)| timing(*shape).cloned()).collect();
        Some((values, more))
    }
}

/// Sorts the finalists by the first objective, and marks the front if there are two. If the objective is the time at
/// one shape, paired rounds decide, since the position of a median between two modes has little meaning.
pub(super) fn rank(objectives: &[Objective], elite: &mut [(EntrantId, EliteVariant)], compared: &Compared) {
    let first = |variant: &EliteVariant| variant.objectives.first().map_or(f64::INFINITY, |value| value.value);
    let p50 = |variant: &EliteVariant| variant.timing.summary.p50;
    elite.sort_by(|(_, a), (_, b)| first(a).total_cmp(&first(b)).then(p50(a).total_cmp(&p50(b))));
    // The first variant is compared too, since its speed-up over the second is reported.
    let passes = if objectives.first() == Some(&Objective::P50) { 2 } else { 0 };
    for _ in 0..passes {
        let Some(first) = elite.first().map(|(id, _)| id.clone()) else { break };
        let time = |id: &EntrantId| compared.relative_time(id, &first).unwrap_or(f64::INFINITY);
        elite.sort_by(|(a, _), (b, _)| time(a).total_cmp(&time(b)));
    }
    if elite.iter().all(|(_, variant)| variant.objectives.len() == 2) {
        let points: Vec<&[ObjectiveValue]> = elite.iter().map(|(_, variant)| &variant.objectives[..]).collect();
        let front = objective::front(&points);
        for ((_, variant), is_on) in elite.iter_mut().zip(front) {
            variant.front = is_on;
        }
    }
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::Sampling;

    use super::*;
    use crate::config::{ResourceName, fixture};
    use crate::gates::performance::Measured;
    use crate::harness::Candidate;
    use crate::record::evaluation::{GateName, Reason};
    use crate::record::journal::ComparisonEntry;
    use crate::search::Candidates;
    use crate::space::{Settings, Variant};
    use crate::tune::warm::WarmStart;

    fn elite(compared: &Compared, value: impl Fn(&ComparisonEntry) -> f64) -> Vec<(EntrantId, EliteVariant)> {
        let variant = |entry: &ComparisonEntry| EliteVariant {
            rank: 0,
            toggles: Settings::default(),
            source: None,
            timing: entry.timing.clone(),
            more_timings: Vec::new(),
            objectives: vec![ObjectiveValue { name: "o".into(), value: value(entry), low: 0.0, high: 0.0 }],
            front: false,
            speedups: BTreeMap::new(),
            errors: Vec::new(),
            builds: Vec::new(),
            program: String::new(),
        };
        compared.entries.iter().map(|Measured { id, entry }| (id.clone(), variant(entry))).collect()
    }

    /// Indices of the front of variants with these times and numbers of registers.
    fn front(values: &[(f64, f64)], change: impl Fn(usize, &mut Evaluation)) -> Vec<usize> {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let mut search = Search::new(kernel, Candidates::new(&kernel.space), &WarmStart::default());
        for (at, &(time, registers)) in values.iter().enumerate() {
            let variant = Variant(vec![0]);
            let mut evaluation = Evaluation::new(kernel.space.settings(&variant), Vec::new());
            evaluation.key = at.to_string();
            let value = |name: &str, value| ObjectiveValue { name: name.into(), value, low: value, high: value };
            evaluation.objectives = vec![value("p50", time), value("registers", registers)];
            change(at, &mut evaluation);
            search.tried.push(Tried { candidate: Candidate { variant, source: None }, evaluation: evaluation.into() });
        }
        search.front()
    }

    #[test]
    fn the_front_of_a_search_has_different_programs_that_passed_and_were_timed_to_the_end() {
        let values = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (4.0, 4.0)];
        assert_eq!(front(&values, |_, _| ()), [1, 2, 0], "in order of the first objective");
        // Without the second one only the third stands between the first and the fourth.
        let without = |change: &dyn Fn(&mut Evaluation)| {
            front(&values, |at, evaluation| {
                if at == 1 {
                    change(evaluation);
                }
            })
        };
        assert_eq!(without(&|evaluation| evaluation.objectives.truncate(1)), [2, 0]);
        let rejection = Rejection::new(GateName::Sanitize, Reason::Address, "no", None);
        assert_eq!(without(&|evaluation| evaluation.reject(rejection.clone())), [2, 0]);
        let cut_short = |evaluation: &mut Evaluation| {
            let mut timing = Measured::of_two_modes(EntrantId::Baseline(0), 0, 0.0, 10).entry.timing;
            timing.sampling = Some(Sampling { cut_short: true, ..Sampling::default() });
            evaluation.timing = Some(timing);
        };
        assert_eq!(without(&cut_short), [2, 0]);
        assert_eq!(without(&|evaluation| evaluation.key = "0".into()), [2, 0], "the first one has the same program");
    }

    #[test]
    fn values_of_the_finals_take_the_times_of_the_finals_and_the_work_of_the_search() {
        let final_value = |objective: &str, elsewhere: &[(usize, f64)]| {
            let project = fixture::project(&format!("work = {{ flops = \"N\" }}\nsearch.objective = {objective}"));
            let kernel = &project.packages[0].kernels[0];
            let search = Search::new(kernel, Candidates::new(&kernel.space), &WarmStart::default());
            let id = EntrantId::from(&Variant(vec![0]));
            let compared = |added| Compared::of([Measured::of_two_modes(id.clone(), 0, added, 100)]);
            let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
            // 100 operations in the time of the search.
            let mut timing = compared(0.0).entries[0].entry.timing.clone();
            timing.summary.p50 = 500.0;
            evaluation.timing = Some(timing);
            let name = kernel.objectives[0].name().to_owned();
            evaluation.objectives = vec![ObjectiveValue { name, value: 5.0, low: 5.0, high: 5.0 }];
            let elsewhere = elsewhere.iter().map(|&(shape, added)| (shape, compared(added))).collect();
            let (values, more) = search.final_values(&id, &evaluation, &compared(8.0), &elsewhere)?;
            Some((values[0].value, more.len()))
        };
        assert_eq!(final_value("\"p50\"", &[]), Some((9000.0, 0)));
        assert_eq!(final_value("\"throughput\"", &[]), Some((90.0, 0)));
        let mean = "{ mean = { s = 1, t = 1 } }";
        let (value, more) = final_value(mean, &[(1, 27_008.0)]).unwrap();
        assert!((value - 18_000.0).abs() < 1e-6 && more == 1, "of 9 and 36 µs: {value}");
        assert_eq!(final_value(mean, &[]), None, "it was not measured at `t`");
    }

    #[test]
    fn a_rejection_at_any_shape_of_the_finals_counts() {
        let [here, there, nowhere] = [0, 1, 2].map(EntrantId::Baseline);
        let without = |id: &EntrantId, message: &str| {
            let mut compared = Compared::default();
            compared.unavailable.push((id.clone(), Rejection::new(GateName::Sanitize, Reason::Address, message, None)));
            compared
        };
        let (compared, elsewhere) = (without(&here, "here"), vec![(1, without(&there, "there"))]);
        let said = [&here, &there, &nowhere].map(|id| rejection(id, &compared, &elsewhere).map(|why| &*why.message));
        assert_eq!(said, [Some("here"), Some("there"), None]);
    }

    #[test]
    fn two_objectives_have_a_front_and_one_has_none() {
        let [quick, small, worse] = [0, 1, 2].map(EntrantId::Baseline);
        let entry = |id: &EntrantId, added| Measured::of_two_modes(id.clone(), 0, added, 100);
        let compared = Compared::of([entry(&worse, 900.0), entry(&small, 450.0), entry(&quick, 0.0)]);
        let fronts = |count: usize| {
            let mut elite = elite(&compared, |entry| entry.timing.summary.p50);
            for (id, variant) in &mut elite {
                let time = &mut variant.objectives[0];
                (time.low, time.high) = (time.value, time.value);
                let value = if *id == small { 10.0 } else { 20.0 };
                let registers = ObjectiveValue { name: "registers".into(), value, low: value, high: value };
                variant.objectives.push(registers);
                variant.objectives.truncate(count);
            }
            let objectives = [Objective::P50, Objective::Resource(ResourceName::Registers)];
            rank(&objectives[..count], &mut elite, &compared);
            elite.into_iter().map(|(id, variant)| (id, variant.front)).collect::<Vec<_>>()
        };
        let ranked =
            |front: [bool; 3]| [&quick, &small, &worse].map(Clone::clone).into_iter().zip(front).collect::<Vec<_>>();
        assert_eq!(fronts(2), ranked([true, true, false]));
        assert_eq!(fronts(1), ranked([false; 3]));
    }

    #[test]
    fn ranks_by_time_are_those_of_the_rounds_and_others_those_of_the_values() {
        let [slower, faster, slowest] = [0, 1, 2].map(EntrantId::Baseline);
        let entry = |id: &EntrantId, late, added| Measured::of_two_modes(id.clone(), late, added, 100);
        let compared = Compared::of([entry(&slower, 48, 162.0), entry(&faster, 52, 0.0), entry(&slowest, 100, 400.0)]);
        let ranked = |objective: Objective, value: &dyn Fn(&ComparisonEntry) -> f64| {
            let mut elite = elite(&compared, value);
            rank(&[objective], &mut elite, &compared);
            elite.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        let p50 = |entry: &ComparisonEntry| entry.timing.summary.p50;
        assert!(p50(&compared.entries[0].entry) < p50(&compared.entries[1].entry));
        assert_eq!(ranked(Objective::P50, &p50), [&faster, &slower, &slowest].map(Clone::clone));
        assert_eq!(ranked(Objective::Mean(vec![(0, 1.0)]), &p50), [&slower, &faster, &slowest].map(Clone::clone));
        let registers = Objective::Resource(ResourceName::Registers);
        assert_eq!(ranked(registers, &|entry| -p50(entry)), [slowest, faster, slower]);
    }
}

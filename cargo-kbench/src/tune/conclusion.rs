//! Result of a search, from its finals: ranks, speed-ups, confidence, and the entry for elite.json.

use std::collections::BTreeMap;

use kbench_runtime::protocol::DeviceInfo;

use super::search::{Search, Tried};
use super::{Spent, Stopped, Tuned, objectives, space_size, tie};
use crate::config::{DEFAULT, Kernel, Level, Objective};
use crate::evaluate::dead_toggles;
use crate::gates::performance::{Compared, EntrantId, JudgedSpeedup, Measured, missed_limits};
use crate::harness::{Candidate, Harness};
use crate::profile::ceilings::{Ceiling, Ceilings, Peak};
use crate::record::conclusion::{CeilingRecord, Conclusion, RooflineRecord, WorkRecord};
use crate::record::elite::{BaselineRecord, EliteEntry, EliteVariant, Question, SearchRecord, TieRecord};
use crate::record::evaluation::Judgement;
use crate::record::objective::ObjectiveRecord;
use crate::space::{Settings, Variant};
use crate::text;

/// The name of an entrant: `default` for the default variant, not its toggles.
fn shown(kernel: &Kernel, id: &EntrantId) -> String {
    if *id == EntrantId::from(&kernel.space.default) { DEFAULT.to_owned() } else { id.name(kernel) }
}

impl Search<'_> {
    pub(super) fn conclude(
        &self,
        device: &DeviceInfo,
        finalists: &[Tried],
        compared: &Compared,
        elsewhere: &objectives::Elsewhere,
        on_file: Option<&Settings>,
    ) -> Tuned {
        let kernel = self.kernel;
        let shape = &kernel.shapes[kernel.search.shape];
        let default = EntrantId::from(&kernel.space.default);
        let (mut elite, tie) = self.elite(finalists, compared, elsewhere, on_file);
        let is_elite = |id: &EntrantId| elite.iter().any(|(elite, _)| elite == id);
        let others: Vec<&Measured> =
            compared.measured().filter(|measured| measured.id == default || !is_elite(&measured.id)).collect();
        let baselines = self.baselines(&others, compared, elsewhere);
        for (rank, (winner, variant)) in elite.iter_mut().enumerate() {
            variant.rank = rank + 1;
            variant.speedups = others
                .iter()
                .filter(|other| other.id != *winner)
                .filter_map(|other| Some((shown(kernel, &other.id), compared.speedup(winner, &other.id).ok()?)))
                .collect();
        }
        let winner = elite.first().map(|(id, _)| id.clone());
        let over_default = winner
            .as_ref()
            .filter(|winner| **winner != default)
            .and_then(|winner| JudgedSpeedup::of(compared, winner, &default));
        let over_second = winner
            .as_ref()
            .zip(elite.get(1))
            .and_then(|(winner, (second, _))| JudgedSpeedup::of(compared, winner, second));
        let mut warnings = compared.warnings.clone();
        warnings.extend(elsewhere.iter().flat_map(|(_, there)| there.warnings.iter().cloned()));
        if let Some(winner) = &winner {
            let of_winner = finalists.iter().find(|finalist| finalist.id() == *winner);
            warnings.extend(of_winner.into_iter().flat_map(|finalist| finalist.evaluation.warnings.clone()));
        }
        warnings.sort();
        warnings.dedup();
        let missed = winner.map(|winner| missed_limits(kernel, &winner, compared)).unwrap_or_default();

        let (rejected, examples) = self.rejected();
        let entry = EliteEntry {
            package: kernel.package.clone(),
            kernel: kernel.name.clone(),
            device: device.into(),
            shape: shape.name.clone(),
            dims: shape.dims.iter().cloned().collect(),
            timing: (&kernel.timing).into(),
            elite: elite.into_iter().map(|(_, variant)| variant).collect(),
            baselines,
            unavailable: compared.unavailable.iter().map(|(id, why)| (shown(kernel, id), why.to_string())).collect(),
            search: self.record(rejected, compared, tie),
            date: text::now(),
            kbench: env!("CARGO_PKG_VERSION").to_owned(),
            question: self.question(),
        };
        Tuned {
            entry,
            over_default,
            over_second,
            missed,
            warnings,
            examples,
            headroom: None,
            identical_code: self.identical_code,
            cached: self.cached,
            resumed: self.resumed,
            finals_resumed: compared.resumed,
            stopped: self.stopped,
            seconds: 0.0,
            spent: Spent::default(),
            elsewhere: Vec::new(),
        }
    }
    /// The elite in its order, and why the winner of a tie is the winner.
    fn elite(
        &self,
        finalists: &[Tried],
        compared: &Compared,
        elsewhere: &objectives::Elsewhere,
        on_file: Option<&Settings>,
    ) -> (Vec<(EntrantId, EliteVariant)>, Option<TieRecord>) {
        let kernel = self.kernel;
        let mut elite: Vec<(EntrantId, EliteVariant)> = finalists
            .iter()
            .filter_map(|finalist| {
                let (id, evaluation) = (finalist.id(), &finalist.evaluation);
                let compared_entry = compared.entry(&id)?;
                let (objectives, more_timings) = self.final_values(&id, evaluation, compared, elsewhere)?;
                let elite = EliteVariant {
                    rank: 0,
                    toggles: evaluation.toggles.clone(),
                    source: evaluation.source.clone(),
                    timing: compared_entry.timing.clone(),
                    more_timings,
                    objectives,
                    front: false,
                    speedups: BTreeMap::new(),
                    errors: evaluation.errors.clone(),
                    builds: evaluation.builds.clone(),
                    program: compared_entry.program.clone(),
                };
                Some((id, elite))
            })
            .collect();
        objectives::rank(&kernel.objectives, &mut elite, compared);
        let tie = (kernel.objectives == [Objective::P50])
            .then(|| tie::winner(kernel, finalists, compared, on_file))
            .flatten();
        if let Some((winner, _)) = &tie
            && let Some(at) = elite.iter().position(|(id, _)| id == winner)
        {
            elite[..=at].rotate_right(1);
        }
        if kernel.objectives.len() == 1 {
            elite.truncate(kernel.search.elite);
        }
        (elite, tie.map(|(_, tie)| tie))
    }

    /// The default and the baselines that were measured together with the elite.
    fn baselines(
        &self,
        others: &[&Measured],
        compared: &Compared,
        elsewhere: &objectives::Elsewhere,
    ) -> Vec<BaselineRecord> {
        let kernel = self.kernel;
        let default = EntrantId::from(&kernel.space.default);
        let of_default = self.of_space(&kernel.space.default);
        let of_default = of_default.and_then(|tried| self.final_values(&default, tried, compared, elsewhere));
        others
            .iter()
            .map(|Measured { id, entry }| BaselineRecord {
                name: shown(kernel, id),
                toggles: (*id == default).then(|| kernel.space.settings(&kernel.space.default)),
                timing: entry.timing.clone(),
                objectives: of_default
                    .iter()
                    .filter(|_| *id == default)
                    .flat_map(|(values, _)| values.clone())
                    .collect(),
                external: entry.external.clone(),
            })
            .collect()
    }

    /// The number of rejections by reason, and a variant and a message of each.
    fn rejected(&self) -> (BTreeMap<String, u64>, BTreeMap<String, (String, String)>) {
        let mut rejected = BTreeMap::new();
        let mut examples = BTreeMap::new();
        for Tried { candidate: Candidate { variant, source }, evaluation } in &self.tried {
            if let Judgement::Rejected(rejection) = &evaluation.outcome {
                let reason = format!("{}/{}", rejection.gate, rejection.code);
                if source.is_none() && !self.is_of_other_part(variant) {
                    *rejected.entry(reason.clone()).or_insert(0) += 1;
                }
                let example = || (evaluation.label(), rejection.message.clone());
                examples.entry(reason).or_insert_with(example);
            }
        }
        (rejected, examples)
    }

    /// The search as elite.json has it.
    fn record(&self, rejected: BTreeMap<String, u64>, compared: &Compared, tie: Option<TieRecord>) -> SearchRecord {
        let kernel = self.kernel;
        let of_space = self.tried.iter().filter(|tried| tried.candidate.source.is_none());
        let tried: Vec<(Variant, String)> =
            of_space.map(|tried| (tried.candidate.variant.clone(), tried.evaluation.key.clone())).collect();
        SearchRecord {
            strategy: kernel.search.strategy.name().to_owned(),
            seed: kernel.search.seed,
            objectives: ObjectiveRecord::all(kernel),
            space: space_size(kernel),
            evaluated: self.evaluated - u64::from(self.is_of_other_part(&kernel.space.default)),
            cached: self.cached,
            rejected,
            dead_toggles: dead_toggles(&kernel.space, &tried),
            proposer: None,
            noise_floor: compared.noise_floor(),
            tie,
            warm_start: self.warm.clone(),
            cut_off: self.stopped == Some(Stopped::CtrlC),
            partition: kernel.search.partition,
            runs: Vec::new(),
        }
    }
}

impl Search<'_> {
    /// Whether a variant, such as the default, belongs to another part of the space than the searched one.
    fn is_of_other_part(&self, variant: &Variant) -> bool {
        let space = &self.kernel.space;
        self.kernel.search.partition.is_some_and(|partition| !partition.of_space(space).contains(variant))
    }

    fn question(&self) -> Option<Question> {
        let default = self.of_space(&self.kernel.space.default)?;
        Some(Question::of(self.kernel.table.clone(), default))
    }
}

impl Tuned {
    /// The end of the search for the journal. Ceilings are not measured for it.
    pub(super) fn on_record(&self, harness: &Harness<'_>, finalists: &[Tried]) -> Conclusion {
        let kernel = harness.kernel();
        let work = |Tried { candidate, evaluation }: &Tried| {
            let (flops, bytes) = harness.context.point(kernel.search.shape, &candidate.variant).work();
            Some(WorkRecord { label: evaluation.label(), flops: flops?, bytes: bytes? })
        };
        let work = finalists.iter().filter_map(work).collect();
        Conclusion {
            entry: self.entry.clone(),
            over_default: self.over_default,
            over_second: self.over_second,
            missed: self.missed.clone(),
            missed_fails: kernel.gates.performance_level == Level::Deny,
            warnings: self.warnings.clone(),
            stopped: self.stopped,
            seconds: self.seconds,
            spent: self.spent,
            roofline: roofline(work, || harness.known_ceilings()),
        }
    }
}

/// The data of a roofline plot; none where no variant of the finals has `work`, or no ceilings are known.
fn roofline(work: Vec<WorkRecord>, known: impl FnOnce() -> Option<Ceilings>) -> Option<RooflineRecord> {
    let ceiling = |ceiling: &Ceiling| CeilingRecord {
        name: ceiling.peak.to_string(),
        rate: ceiling.rate,
        is_memory: ceiling.peak == Peak::Copy,
        how: ceiling.how.clone(),
    };
    let known = if work.is_empty() { None } else { known() };
    known.map(|known| RooflineRecord { work, ceilings: known.ceilings.iter().map(ceiling).collect() })
}

#[cfg(test)]
mod tests;

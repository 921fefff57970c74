//! One entry from several: the results of searches of one question, as the parts of a space are. Longer than 400 lines: its unit tests stand with it.
//!
//! Every search measures the default beside its finalists, so variants of different searches are ranked by their
//! speed-up over the default. The order of the entries has no influence, an entry that is given twice counts once, and
//! merged entries may be merged again.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use kbench_runtime::stats::Speedup;
use serde::Serialize;

use super::{DeviceRecord, EliteEntry, EliteVariant, MergedRun, Question, SearchRecord, TieRecord, TieRule};
use crate::config::DEFAULT;
use crate::record::evaluation::Evaluation;
use crate::record::objective::{self, ObjectiveValue};
use crate::record::verdict::{Verdict, is_noise, verdict};
use crate::space::Settings;

/// Reason why two entries cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A version that recorded no question wrote one of the entries.
    #[error("an older cargo-kbench wrote one of them, without the hash of its table; tune again")]
    NoQuestion,
    /// Different versions wrote the entries.
    #[error("cargo-kbench {0} wrote one and {1} the other; tune both with one version")]
    Version(String, String),
    /// The entries are for different kernels, shapes or devices.
    #[error("their kernels, shapes or devices differ")]
    Subject,
    /// The tables differ.
    #[error("the tables of the kernel differ; tune both with one table")]
    Table,
    /// The sources differ.
    #[error("the sources or headers of the kernel differ; tune both with the same sources")]
    Sources,
    /// The devices have one name and differ in another property.
    #[error("devices of the name {name} differ: {one} and {other}; merge their results into different files")]
    Device {
        /// The differing property.
        name: String,
        /// Value in the first entry.
        one: String,
        /// Value in the second entry.
        other: String,
    },
    /// Another condition of the times differs.
    #[error("the {0} differ; tune both with the same")]
    Conditions(&'static str),
}

impl Question {
    /// The question of a search, from the evaluation of its default variant.
    pub fn of(table: String, default: &Evaluation) -> Self {
        Self { table, sources: default.builds.iter().map(|build| build.source_hash.clone()).collect() }
    }
}

impl EliteEntry {
    /// Returns an error if this entry and another answer different questions.
    pub fn check_same_question(&self, other: &Self) -> Result<(), Mismatch> {
        let subject = |of: &Self| (of.package.clone(), of.kernel.clone(), of.shape.clone(), of.device.name.clone());
        let (Some(question), Some(of_other)) = (&self.question, &other.question) else {
            return Err(Mismatch::NoQuestion);
        };
        let conditions = [
            ("sizes of the shape", self.dims == other.dims),
            ("timing settings", self.timing == other.timing),
            ("objectives", self.search.objectives == other.search.objectives),
        ];
        if subject(self) != subject(other) {
            return Err(Mismatch::Subject);
        } else if self.kbench != other.kbench {
            return Err(Mismatch::Version(self.kbench.clone(), other.kbench.clone()));
        } else if question.table != of_other.table {
            return Err(Mismatch::Table);
        } else if question.sources != of_other.sources {
            return Err(Mismatch::Sources);
        } else if self.device != other.device {
            let name = self.device.name.clone();
            return Err(Mismatch::Device { name, one: shown(&self.device), other: shown(&other.device) });
        }
        let different = conditions.into_iter().find(|(_, same)| !same);
        different.map_or(Ok(()), |(what, _)| Err(Mismatch::Conditions(what)))
    }

    /// The searches of this entry.
    fn runs(&self) -> Vec<MergedRun> {
        let search = &self.search;
        if !search.runs.is_empty() {
            return search.runs.clone();
        }
        let is_surely_faster = |variant: &EliteVariant| {
            variant.speedups.get(DEFAULT).is_some_and(|speedup| is_faster(speedup, search.noise_floor))
        };
        vec![MergedRun {
            partition: search.partition,
            strategy: search.strategy.clone(),
            seed: search.seed,
            evaluated: search.evaluated,
            cached: search.cached,
            rejected: search.rejected.clone(),
            dead_toggles: search.dead_toggles.clone(),
            noise_floor: search.noise_floor,
            beats_default: self.elite.iter().any(is_surely_faster),
            cut_off: search.cut_off,
            date: self.date.clone(),
        }]
    }

    fn default_toggles(&self) -> Option<&Settings> {
        self.baselines.iter().find(|baseline| baseline.name == DEFAULT)?.toggles.as_ref()
    }
}

/// Merges entries with one question. At most `elite` variants are kept beside a front; `place` gives the index of a
/// variant in the space.
pub fn merged(
    entries: &[EliteEntry],
    elite: usize,
    place: &dyn Fn(&Settings) -> Vec<u16>,
) -> Result<EliteEntry, Mismatch> {
    let first = &entries[0];
    entries.iter().try_for_each(|entry| first.check_same_question(entry))?;
    if entries.iter().all(|entry| entry == first) {
        return Ok(first.clone());
    }
    let mut runs = distinct(entries.iter().flat_map(EliteEntry::runs));
    runs.sort_by(|a, b| (a.partition, &a.date).cmp(&(b.partition, &b.date)));
    let default = entries.iter().find_map(EliteEntry::default_toggles).cloned();
    let mut candidates: Vec<Candidate> = entries
        .iter()
        .flat_map(|entry| &entry.elite)
        .map(|variant| Candidate::new(variant, &first.search, default.as_ref(), place))
        .collect();
    candidates.sort_by(Candidate::order);
    let mut best: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if !best.iter().any(|better| better.is_same(&candidate)) {
            best.push(candidate);
        }
    }
    // The baselines of the fastest variant's run stand beside the elite.
    let fastest = best.first().map(|best| best.content.clone());
    let has_fastest = |entry: &&EliteEntry| entry.elite.iter().any(|variant| Some(content(variant)) == fastest);
    let beside = entries.iter().filter(has_fastest).min_by_key(|entry| text(&(&entry.baselines, &entry.unavailable)));
    let beside = beside.unwrap_or(first);

    let noise_floor = runs.iter().filter_map(|run| run.noise_floor).reduce(f64::max);
    let beats_default = runs.iter().any(|run| run.beats_default);
    let tie = match first.search.objectives.len() {
        2.. => {
            let points: Vec<&[ObjectiveValue]> = best.iter().map(|best| &best.variant.objectives[..]).collect();
            let mut on_front = objective::front(&points).into_iter();
            best.retain(|_| on_front.next() == Some(true));
            for best in &mut best {
                best.variant.front = true;
            }
            None
        }
        _ if is_p50(&first.search) => finals(&mut best, elite, beats_default, noise_floor),
        _ => {
            best.truncate(elite);
            None
        }
    };
    for (at, best) in best.iter_mut().enumerate() {
        best.variant.rank = at + 1;
    }
    let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in runs.iter().flat_map(|run| &run.rejected) {
        *rejected.entry(reason.clone()).or_insert(0) += count;
    }
    // A toggle counts as dead only if every run knows it as dead.
    let dead_toggles = runs[0].dead_toggles.iter();
    let dead_toggles = dead_toggles.filter(|toggle| runs.iter().all(|run| run.dead_toggles.contains(toggle)));
    let strategies: BTreeSet<&str> = runs.iter().map(|run| run.strategy.as_str()).collect();
    let mut warm_start = distinct(entries.iter().flat_map(|entry| entry.search.warm_start.clone()));
    warm_start.sort_by_key(text);
    Ok(EliteEntry {
        elite: best.into_iter().map(|best| best.variant).collect(),
        baselines: beside.baselines.clone(),
        unavailable: beside.unavailable.clone(),
        search: SearchRecord {
            strategy: strategies.into_iter().collect::<Vec<_>>().join(", "),
            seed: runs.iter().map(|run| run.seed).min().unwrap_or_default(),
            evaluated: runs.iter().map(|run| run.evaluated).sum(),
            cached: runs.iter().map(|run| run.cached).sum(),
            rejected,
            dead_toggles: dead_toggles.cloned().collect(),
            noise_floor,
            tie,
            warm_start,
            proposer: entries.iter().filter_map(|entry| entry.search.proposer.clone()).min_by_key(text),
            cut_off: runs.iter().any(|run| run.cut_off),
            space: entries.iter().filter_map(|entry| entry.search.space).max(),
            partition: None,
            objectives: first.search.objectives.clone(),
            runs: runs.clone(),
        },
        date: runs.iter().map(|run| run.date.clone()).max().unwrap_or_default(),
        ..first.clone()
    })
}

/// Removes all but the finalists, the winner first: the default if no variant is certainly faster, otherwise the first
/// of the tying variants by resources and index. Returns the record of the tie, if there is one.
fn finals(best: &mut Vec<Candidate>, elite: usize, beats_default: bool, noise_floor: Option<f64>) -> Option<TieRecord> {
    let ties = |candidate: &Candidate, fastest: &Candidate| {
        if candidate.is_default {
            return !beats_default;
        }
        if candidate.is_apart != fastest.is_apart {
            return false;
        }
        // Both speed-ups are over the default, in different rounds: the interval of their ratio is wider than that of a
        // comparison.
        let (fastest, other) = (fastest.speedup, candidate.speedup);
        let [ratio, low, high] = [fastest.ratio / other.ratio, fastest.low / other.high, fastest.high / other.low];
        !is_faster(&Speedup { ratio, low, high }, noise_floor)
    };
    let default = best.iter().skip(elite).find(|candidate| candidate.is_default).cloned();
    best.truncate(elite);
    best.extend(default.filter(|_| !beats_default));
    let mut tied: Vec<Candidate> = {
        let fastest = best.first()?;
        let others = best[1..].iter().filter(|candidate| ties(candidate, fastest));
        std::iter::once(fastest).chain(others).cloned().collect()
    };
    tied.sort_by_key(Candidate::standing);
    let at = best.iter().position(|candidate| candidate.content == tied[0].content)?;
    best[..=at].rotate_right(1);
    best.truncate(elite);
    let [winner, second, ..] = &tied[..] else { return None };
    let by = if winner.is_default {
        TieRule::Default
    } else if winner.resources == second.resources {
        TieRule::Order
    } else {
        TieRule::Resources
    };
    Some(TieRecord { variants: tied.iter().map(|candidate| candidate.variant.label()).collect(), by })
}

/// A variant of one of the entries, with its sort keys.
#[derive(Debug, Clone)]
struct Candidate {
    variant: EliteVariant,
    is_default: bool,
    /// Whether the variant cannot be compared with the default: then it comes last.
    is_apart: bool,
    /// Value of the minimised objective.
    value: f64,
    /// Speed-up over the default; 1 for the default itself.
    speedup: Speedup,
    resources: [u64; 5],
    place: Vec<u16>,
    content: String,
}

impl Candidate {
    fn new(
        variant: &EliteVariant,
        search: &SearchRecord,
        default: Option<&Settings>,
        place: &dyn Fn(&Settings) -> Vec<u16>,
    ) -> Self {
        let variant = EliteVariant { rank: 0, front: false, ..variant.clone() };
        let is_default = variant.source.is_none() && default.is_some_and(|default| default.same(&variant.toggles));
        let itself = Speedup { ratio: 1.0, low: 1.0, high: 1.0 };
        let over_default = variant.speedups.get(DEFAULT).copied().or(is_default.then_some(itself));
        let summary = &variant.timing.summary;
        let (value, is_apart) = match (over_default, variant.objectives.first()) {
            (Some(speedup), _) if is_p50(search) => (1.0 / speedup.ratio, false),
            (_, Some(objective)) if !is_p50(search) => (objective.value, false),
            _ => (summary.p50, true),
        };
        let by_time = Speedup { ratio: 1.0 / summary.p50, low: 1.0 / summary.p50_high, high: 1.0 / summary.p50_low };
        let resources = variant.builds.iter().find(|build| build.shapes.contains(&variant.timing.shape));
        Self {
            is_default,
            is_apart,
            value,
            speedup: over_default.unwrap_or(by_time),
            resources: resources.map_or([0; 5], |build| build.resources.standing()),
            place: if variant.source.is_none() { place(&variant.toggles) } else { vec![u16::MAX] },
            content: content(&variant),
            variant,
        }
    }

    /// Whether both are the same variant or identical code.
    fn is_same(&self, other: &Self) -> bool {
        let (one, other) = (&self.variant, &other.variant);
        !one.program.is_empty() && one.program == other.program || one.label() == other.label()
    }

    /// Order by speed-up, faster first.
    fn order(&self, other: &Self) -> Ordering {
        let p50 = |of: &Self| of.variant.timing.summary.p50;
        self.is_apart
            .cmp(&other.is_apart)
            .then(self.value.total_cmp(&other.value))
            .then(p50(self).total_cmp(&p50(other)))
            .then(other.is_default.cmp(&self.is_default))
            .then_with(|| self.place.cmp(&other.place))
            .then_with(|| self.content.cmp(&other.content))
    }

    /// Sort key of a tie; smaller is better.
    fn standing(&self) -> (bool, [u64; 5], Vec<u16>, String) {
        (!self.is_default, self.resources, self.place.clone(), self.content.clone())
    }
}

/// Whether a speed-up is certain, as in a comparison.
fn is_faster(speedup: &Speedup, noise_floor: Option<f64>) -> bool {
    verdict(speedup) == Verdict::Faster && !is_noise(speedup.ratio, 1.0, noise_floor)
}

fn is_p50(search: &SearchRecord) -> bool {
    // Versions that did not record an objective minimised p50.
    search.objectives.len() < 2 && search.objectives.first().is_none_or(|objective| objective.name == "p50")
}

/// A variant without the fields that depend on other variants.
fn content(variant: &EliteVariant) -> String {
    text(&EliteVariant { rank: 0, front: false, ..variant.clone() })
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

/// The items without repetitions, sorted.
fn distinct<T: Serialize>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.map(|item| (text(&item), item)).collect::<BTreeMap<_, _>>().into_values().collect()
}

fn shown(device: &DeviceRecord) -> String {
    let DeviceRecord { driver, multiprocessors, clock_khz, .. } = device;
    format!("driver {driver}, {multiprocessors} multiprocessors, {clock_khz} kHz")
}

#[cfg(test)]
mod tests {
    use kbench_runtime::stats::Summary;
    use proptest::prelude::*;

    use super::super::tests::entry;
    use super::*;
    use crate::expr::Value;
    use crate::record::elite::BaselineRecord;
    use crate::record::evaluation::TimingRecord;
    use crate::record::objective::ObjectiveRecord;

    const ELITE: usize = 3;
    const DEFAULT_TIME: f64 = 100.0;

    fn settings(number: usize) -> Settings {
        Settings(vec![("A".into(), Value::Int(number as i64))])
    }

    fn place(settings: &Settings) -> Vec<u16> {
        match settings.0[0].1 {
            Value::Int(number) => vec![number as u16],
            _ => unreachable!("all values are integers"),
        }
    }

    fn timing(time: f64) -> TimingRecord {
        let summary = Summary::of(&[time * 0.99, time, time * 1.01]).unwrap();
        TimingRecord { shape: "s".into(), summary, batch: 1, clock: "fake".into(), sampling: None }
    }

    fn variant(number: usize, time: f64) -> EliteVariant {
        let ratio = DEFAULT_TIME / time;
        let over_default = Speedup { ratio, low: ratio * 0.98, high: ratio * 1.02 };
        EliteVariant {
            rank: 0,
            toggles: settings(number),
            source: None,
            timing: timing(time),
            more_timings: Vec::new(),
            objectives: Vec::new(),
            front: false,
            // Variant 0 is the default.
            speedups: (number > 0).then(|| (DEFAULT.to_owned(), over_default)).into_iter().collect(),
            errors: Vec::new(),
            builds: Vec::new(),
            // Some variants are identical code.
            program: format!("{time}-{}", number % 3),
        }
    }

    /// The result of a search of these variants; `times` are those of all variants.
    fn part(number: u32, of: u32, variants: &[usize], times: &[f64]) -> EliteEntry {
        let mut elite: Vec<EliteVariant> = Vec::new();
        let mut ranked: Vec<usize> = variants.to_vec();
        ranked.sort_by(|&a, &b| times[a].total_cmp(&times[b]).then((a != 0).cmp(&(b != 0))).then(a.cmp(&b)));
        for found in ranked.iter().map(|&number| variant(number, times[number])) {
            if elite.len() < ELITE && elite.iter().all(|other| other.program != found.program) {
                elite.push(EliteVariant { rank: elite.len() + 1, ..found });
            }
        }
        let mut entry = entry("k", "s", variants.len() as u64);
        entry.elite = elite;
        entry.question = Some(Question { table: "t".into(), sources: vec!["s".into()] });
        entry.baselines = vec![BaselineRecord {
            name: DEFAULT.into(),
            toggles: Some(settings(0)),
            timing: timing(DEFAULT_TIME),
            objectives: Vec::new(),
            external: None,
        }];
        entry.search.partition = Some(format!("{number}/{of}").parse().unwrap());
        entry.search.rejected = BTreeMap::from([("compile/failed".into(), u64::from(number))]);
        entry.search.noise_floor = Some(f64::from(number) / 1000.0);
        entry
    }

    fn merge(entries: &[EliteEntry]) -> EliteEntry {
        merged(entries, ELITE, &place).unwrap()
    }

    fn toggles(entry: &EliteEntry) -> Vec<String> {
        entry.elite.iter().map(EliteVariant::label).collect()
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_and_idempotent(
            times in proptest::collection::vec(prop_oneof![Just(100u32), 60u32..140], 1..40),
            seeds in proptest::collection::vec(any::<u32>(), 40),
            of in 1u32..7,
            order in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let mut times: Vec<f64> = times.into_iter().map(f64::from).collect();
            times[0] = DEFAULT_TIME;
            let variants = |number: u32| -> Vec<usize> {
                (0..times.len()).filter(|&variant| seeds[variant] % of == number - 1).collect()
            };
            let parts: Vec<EliteEntry> = (1..=of).map(|number| part(number, of, &variants(number), &times)).collect();
            let at_once = merge(&parts);

            let mut shuffled = parts.clone();
            shuffled.sort_by_key(|part| order[part.search.partition.unwrap().part() as usize]);
            prop_assert_eq!(&merge(&shuffled), &at_once);

            // Two at a time, in a tree that the order selects, with one of them twice.
            let mut left = shuffled.clone();
            left.push(shuffled[0].clone());
            for step in &order {
                if left.len() < 2 {
                    break;
                }
                let one = left.remove(*step as usize % left.len());
                let other = left.remove(*step as usize / 7 % left.len());
                left.push(merge(&[one, other]));
            }
            prop_assert_eq!(&merge(&left), &at_once);
            prop_assert_eq!(&merge(&[at_once.clone(), parts[0].clone(), at_once.clone()]), &at_once);

            // The result of one search of all variants.
            let whole = part(1, 1, &(0..times.len()).collect::<Vec<_>>(), &times);
            prop_assert_eq!(at_once.search.evaluated, whole.search.evaluated);
            if at_once.search.tie.is_none() {
                prop_assert_eq!(toggles(&at_once), toggles(&whole));
            }
        }
    }

    #[test]
    fn the_default_wins_unless_a_variant_of_any_part_is_faster_for_sure() {
        let times = [100.0, 99.5, 99.0, 101.0, 98.5, 70.0];
        let tie = merge(&[part(1, 2, &[0, 1, 3], &times), part(2, 2, &[2, 4], &times)]);
        assert_eq!(toggles(&tie), ["A=0", "A=4", "A=2"]);
        let record = tie.search.tie.as_ref().unwrap();
        assert_eq!((record.by, record.variants[0].as_str()), (TieRule::Default, "A=0"));
        let faster = merge(&[tie, part(1, 1, &[5], &times)]);
        assert_eq!((toggles(&faster), faster.search.tie), (vec!["A=5".into(), "A=4".into(), "A=2".into()], None));
        assert_eq!(faster.search.rejected["compile/failed"], 4);
    }

    #[test]
    fn parts_of_a_front_merge_to_a_front() {
        let of = |number: u32, points: &[(usize, f64, f64)]| {
            let mut entry = part(number, 2, &[0], &[DEFAULT_TIME]);
            let objective = |name: &str| ObjectiveRecord { name: name.into(), weights: BTreeMap::new() };
            entry.search.objectives = ["p50", "registers"].map(objective).into();
            let value = |name: &str, value| ObjectiveValue { name: name.into(), value, low: value, high: value };
            let found = points.iter().map(|&(number, time, registers)| EliteVariant {
                objectives: vec![value("p50", time), value("registers", registers)],
                ..variant(number, time)
            });
            entry.elite = found.collect();
            entry
        };
        let (one, other) = (of(1, &[(1, 10.0, 64.0), (2, 20.0, 32.0)]), of(2, &[(3, 15.0, 24.0), (5, 30.0, 16.0)]));
        let front = merge(&[other.clone(), one.clone()]);
        assert_eq!(toggles(&front), ["A=1", "A=3", "A=5"]);
        assert!(front.elite.iter().all(|variant| variant.front));
        assert_eq!(merge(&[one, front.clone(), other]), front);
    }

    /// A variant whose speed-up over the default has an interval of this relative half width.
    fn with_ratio(number: usize, ratio: f64, half: f64) -> EliteVariant {
        let over_default = Speedup { ratio, low: ratio * (1.0 - half), high: ratio * (1.0 + half) };
        let speedups = BTreeMap::from([(DEFAULT.to_owned(), over_default)]);
        EliteVariant { speedups, program: number.to_string(), ..variant(number, DEFAULT_TIME / ratio) }
    }

    /// The elite of two entries of one variant each, and the rule of their tie.
    fn of_two(variants: [EliteVariant; 2], noise_floor: f64) -> (Vec<String>, Option<TieRule>) {
        let mut number = 0;
        let entries = variants.map(|variant| {
            number += 1;
            let mut entry = part(number, 2, &[], &[]);
            entry.search.noise_floor = Some(noise_floor);
            entry.elite = vec![variant];
            entry
        });
        let merged = merge(&entries);
        (toggles(&merged), merged.search.tie.map(|tie| tie.by))
    }

    #[test]
    fn variants_of_different_searches_tie_unless_the_ratio_of_their_speedups_is_certain() {
        let order = |elite: [&str; 2], by| (elite.map(str::to_owned).to_vec(), by);
        let (first, second) = (["A=1", "A=2"], ["A=2", "A=1"]);
        // The ratio is 1.005, 1.02 and 1.25.
        let slow = |ratio: f64, half| [with_ratio(1, 2.0 / ratio, half), with_ratio(2, 2.0, half)];
        assert_eq!(of_two(slow(1.25, 0.001), 0.0), order(second, None));
        assert_eq!(of_two(slow(1.25, 0.001), 0.3), order(first, Some(TieRule::Order)), "within the noise");
        assert_eq!(of_two(slow(1.02, 0.02), 0.0), order(first, Some(TieRule::Order)), "the intervals overlap");
        assert_eq!(of_two(slow(1.005, 0.0001), 0.0), order(first, Some(TieRule::Order)), "within 1 %");
    }

    #[test]
    fn a_variant_without_a_speedup_over_the_default_comes_last() {
        let apart = |number, time| EliteVariant { speedups: BTreeMap::new(), ..variant(number, time) };
        let (elite, tie) = of_two([apart(1, 1e-3), variant(2, 150.0)], 0.0);
        assert_eq!((elite, tie), (vec!["A=2".to_owned(), "A=1".to_owned()], None));
        let (elite, tie) = of_two([apart(1, 40.0), apart(2, 20.0)], 0.0);
        assert_eq!((elite, tie), (vec!["A=2".to_owned(), "A=1".to_owned()], None), "by their times");
    }

    #[test]
    fn values_of_another_objective_rank_by_themselves() {
        let of = |number: u32, variants: &[(usize, f64, f64)]| {
            let mut entry = part(number, 2, &[], &[]);
            entry.search.objectives = vec![ObjectiveRecord { name: "registers".into(), weights: BTreeMap::new() }];
            let found = variants.iter().map(|&(number, time, value)| EliteVariant {
                objectives: vec![ObjectiveValue { name: "registers".into(), value, low: value, high: value }],
                ..variant(number, time)
            });
            entry.elite = found.collect();
            entry
        };
        let merged = merge(&[of(1, &[(1, 10.0, 64.0), (2, 60.0, 24.0)]), of(2, &[(3, 40.0, 16.0), (4, 50.0, 24.0)])]);
        assert_eq!(toggles(&merged), ["A=3", "A=4", "A=2"], "of equal values the faster one is first");
        assert_eq!((merged.search.tie, merged.elite[0].rank), (None, 1));
        let equal_times = merge(&[of(1, &[(1, 40.0, 24.0)]), of(2, &[(2, 40.0, 16.0)])]);
        assert_eq!((toggles(&equal_times), equal_times.search.tie), (vec!["A=2".to_owned(), "A=1".to_owned()], None));
    }

    #[test]
    fn baselines_are_those_of_the_run_of_the_fastest_variant_and_the_date_is_the_latest() {
        let of = |number: u32, variant: usize, front: bool| {
            let mut entry = part(number, 2, &[variant], &[100.0, 90.0, 80.0]);
            entry.elite[0].front = front;
            entry.baselines[0].timing = timing(100.0 + f64::from(number));
            entry.unavailable = BTreeMap::from([(format!("naive {number}"), "no".to_owned())]);
            entry.date = format!("2026-01-0{number}T00:00:00Z");
            entry
        };
        for front in [false, true] {
            // The second variant is the fastest. The numbers are those of its run.
            for (fastest, slower) in [(of(1, 2, front), of(2, 1, front)), (of(2, 2, front), of(1, 1, front))] {
                for entries in [[fastest.clone(), slower.clone()], [slower, fastest.clone()]] {
                    let merged = merge(&entries);
                    assert_eq!(toggles(&merged), ["A=2", "A=1"]);
                    assert_eq!(
                        (merged.baselines, merged.unavailable),
                        (fastest.baselines.clone(), fastest.unavailable.clone())
                    );
                    assert_eq!(merged.date, "2026-01-02T00:00:00Z");
                }
            }
        }
    }

    #[test]
    fn an_entry_that_is_given_twice_stays_as_it_is() {
        let one = part(1, 2, &[0, 1], &[100.0, 90.0]);
        assert_eq!(merge(&[one.clone(), one.clone()]), one);
    }

    #[test]
    fn a_variant_or_program_that_two_searches_found_stands_once_in_the_elite() {
        let of = |number: u32, variant: EliteVariant| {
            let mut entry = part(number, 2, &[], &[]);
            entry.elite = vec![variant];
            entry
        };
        let named = |place, time, program: &str| EliteVariant { program: program.into(), ..variant(place, time) };
        let found = |one, other| toggles(&merge(&[of(1, one), of(2, other)])).len();
        assert_eq!(found(named(1, 90.0, ""), named(2, 80.0, "")), 2, "no program is recorded");
        assert_eq!(found(named(1, 90.0, "a"), named(2, 80.0, "b")), 2);
        assert_eq!(found(named(1, 90.0, "a"), named(2, 80.0, "a")), 1);
        assert_eq!(found(named(1, 90.0, "a"), named(1, 80.0, "b")), 1);
    }

    #[test]
    fn p50_is_the_objective_where_none_is_recorded() {
        let is_p50 = |names: &[&str]| {
            let mut search = entry("k", "s", 1).search;
            let objective = |name: &&str| ObjectiveRecord { name: (*name).into(), weights: BTreeMap::new() };
            search.objectives = names.iter().map(objective).collect();
            super::is_p50(&search)
        };
        assert!(is_p50(&[]) && is_p50(&["p50"]));
        assert!(!is_p50(&["registers"]) && !is_p50(&["p50", "registers"]));
    }

    #[test]
    fn a_speedup_is_certain_beyond_the_noise() {
        let speedup = |low, ratio, high| Speedup { ratio, low, high };
        let faster = speedup(1.02, 1.05, 1.08);
        assert!(is_faster(&faster, None) && is_faster(&faster, Some(0.04)) && !is_faster(&faster, Some(0.06)));
        assert!(!is_faster(&speedup(0.99, 1.05, 1.1), None) && !is_faster(&speedup(0.9, 0.95, 0.98), None));
    }

    #[test]
    fn only_answers_to_one_question_merge() {
        let one = part(1, 2, &[0, 1], &[100.0, 90.0]);
        let refused = |change: fn(&mut EliteEntry)| {
            let mut other = part(2, 2, &[0, 1], &[100.0, 90.0]);
            change(&mut other);
            let [ab, ba] =
                [[one.clone(), other.clone()], [other, one.clone()]].map(|pair| merged(&pair, ELITE, &place));
            assert_eq!(ab.is_err(), ba.is_err());
            ab.unwrap_err()
        };
        assert_eq!(refused(|other| other.question = None), Mismatch::NoQuestion);
        assert_eq!(refused(|other| other.kbench = "9".into()), Mismatch::Version("0.1.0".into(), "9".into()));
        assert_eq!(refused(|other| other.shape = "t".into()), Mismatch::Subject);
        assert_eq!(refused(|other| other.question.as_mut().unwrap().table.push('x')), Mismatch::Table);
        assert_eq!(refused(|other| other.question.as_mut().unwrap().sources.clear()), Mismatch::Sources);
        assert_eq!(refused(|other| other.timing.warmup += 1), Mismatch::Conditions("timing settings"));
        let Mismatch::Device { one, other, .. } = refused(|other| other.device.driver.push('x')) else { panic!() };
        let mut said = [one, other];
        said.sort_unstable();
        assert_eq!(said, ["driver , 1 multiprocessors, 0 kHz", "driver x, 1 multiprocessors, 0 kHz"]);
    }
}

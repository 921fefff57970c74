//! The winner among variants that no measurement distinguishes, by a rule without times, so that noise does not choose
//! the winner.

use super::Tried;
use crate::config::Kernel;
use crate::gates::performance::{Compared, EntrantId, JudgedSpeedup, Verdict};
use crate::harness::Candidate;
use crate::record::elite::{TieRecord, TieRule};
use crate::space::Settings;

/// Whether a variant is not certainly slower than the best.
pub(super) fn is_tie(compared: &Compared, best: &EntrantId, other: &EntrantId) -> bool {
    JudgedSpeedup::of(compared, best, other).is_some_and(|comparison| comparison.verdict != Verdict::Faster)
}

/// Whether a variant is not certainly slower than the fastest finalist.
pub(super) fn ties_with_fastest(compared: &Compared, finalists: &[Tried], other: &EntrantId) -> bool {
    let ids: Vec<EntrantId> = finalists.iter().map(Tried::id).collect();
    compared.fastest_of(&ids).is_some_and(|best| is_tie(compared, best, other))
}

/// Criteria of a tie in this order; smaller is better.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    is_not_default: bool,
    is_not_on_file: bool,
    /// Registers, and bytes of shared memory, spills, stack and code. Unknown resources are 0 for all variants.
    resources: [u64; 5],
    is_proposed: bool,
    /// Index in the space.
    place: Vec<usize>,
}

/// A variant that ties with the fastest.
struct Tied {
    standing: Standing,
    label: String,
    id: EntrantId,
}

/// The winner among the variants that tie with the fastest, and the record of the tie; none without a tie.
pub(super) fn winner(
    kernel: &Kernel,
    finalists: &[Tried],
    compared: &Compared,
    on_file: Option<&Settings>,
) -> Option<(EntrantId, TieRecord)> {
    let ids: Vec<EntrantId> = finalists.iter().map(Tried::id).collect();
    let best = compared.fastest_of(&ids)?;
    let tied = finalists.iter().zip(&ids).filter(|(_, id)| *id == best || is_tie(compared, best, id));
    let tied = tied.map(|(finalist, id)| Tied {
        standing: standing(kernel, finalist, on_file),
        label: finalist.evaluation.label(),
        id: id.clone(),
    });
    decide(tied.collect())
}

/// The variant with the smallest criteria, and the rule that distinguished it.
fn decide(mut tied: Vec<Tied>) -> Option<(EntrantId, TieRecord)> {
    tied.sort_by(|a, b| (&a.standing, &a.label).cmp(&(&b.standing, &b.label)));
    let [Tied { standing: first, id: winner, .. }, Tied { standing: second, .. }, ..] = &tied[..] else { return None };
    // A variant that would also win without the earlier file wins by that rule, so that two runs of the same command
    // report the same.
    let unfiled = |tied: &&Tied| Standing { is_not_on_file: true, ..tied.standing.clone() };
    let without_file = tied.iter().min_by_key(unfiled).map(|tied| &tied.id);
    let by = if first.is_not_default != second.is_not_default {
        TieRule::Default
    } else if without_file != Some(winner) {
        TieRule::Elite
    } else if first.resources != second.resources {
        TieRule::Resources
    } else {
        TieRule::Order
    };
    Some((winner.clone(), TieRecord { variants: tied.iter().map(|tied| tied.label.clone()).collect(), by }))
}

fn standing(kernel: &Kernel, finalist: &Tried, on_file: Option<&Settings>) -> Standing {
    let Tried { candidate: Candidate { variant, source }, evaluation } = finalist;
    let of_space = source.is_none();
    let shape = &kernel.shapes[kernel.search.shape].name;
    let build = evaluation.builds.iter().find(|build| build.shapes.contains(shape));
    Standing {
        is_not_default: !(of_space && *variant == kernel.space.default),
        is_not_on_file: !(of_space && on_file.is_some_and(|on_file| on_file.same(&evaluation.toggles))),
        resources: build.map_or([0; 5], |build| build.resources.standing()),
        is_proposed: !of_space,
        place: variant.0.iter().map(|value| *value as usize).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::build::Resources;
    use crate::config::fixture;
    use crate::gates::performance::Measured;
    use crate::harness::Proposed;
    use crate::record::evaluation::{Evaluation, SourceRecord};
    use crate::space::Variant;

    /// Criteria of a variant that is neither the default nor the earlier winner, at index 0.
    fn any() -> Standing {
        Standing {
            is_not_default: true,
            is_not_on_file: true,
            resources: [32, 0, 0, 0, 500],
            is_proposed: false,
            place: vec![0],
        }
    }

    /// The winner and the rule do not depend on the order of the variants.
    fn decided(standings: &[Standing]) -> (usize, TieRule) {
        let tied = |(at, standing): (usize, &Standing)| Tied {
            standing: standing.clone(),
            label: at.to_string(),
            id: EntrantId::Baseline(at),
        };
        let (winner, record) = decide(standings.iter().enumerate().map(tied).collect()).unwrap();
        let winner = (0..standings.len()).find(|at| winner == EntrantId::Baseline(*at)).unwrap();
        assert_eq!((record.variants.len(), &record.variants[0]), (standings.len(), &winner.to_string()));
        (winner, record.by)
    }

    #[test]
    fn the_default_then_the_file_then_resources_then_the_place_decide() {
        let default = Standing { is_not_default: false, resources: [99; 5], place: vec![9], ..any() };
        let on_file = Standing { is_not_on_file: false, resources: [98; 5], place: vec![8], ..any() };
        let last = Standing { place: vec![7], ..any() };
        assert_eq!(decided(&[any(), last.clone(), on_file.clone(), default.clone()]), (3, TieRule::Default));
        assert_eq!(decided(&[last.clone(), any(), on_file.clone()]), (2, TieRule::Elite));
        assert_eq!(decided(&[last.clone(), any()]), (1, TieRule::Order));
        for at in 0..5 {
            let mut more = any();
            more.resources[at] += 1;
            assert_eq!(decided(&[more, last.clone()]), (1, TieRule::Resources), "fewer of what is compared at {at}");
        }
        let proposed = Standing { is_proposed: true, ..any() };
        assert_eq!(decided(&[proposed, last]), (1, TieRule::Order));
        let alone = Tied { standing: any(), label: "alone".into(), id: EntrantId::Baseline(0) };
        assert_eq!(decide(vec![alone]), None);
        assert_eq!(decide(Vec::new()), None);
    }

    #[test]
    fn the_rule_of_a_tie_is_that_against_the_nearest_other() {
        let mine = Standing { is_not_on_file: false, ..any() };
        let larger = Standing { resources: [64, 0, 0, 0, 500], ..any() };
        let later = Standing { place: vec![7], ..any() };
        assert_eq!(decided(&[larger.clone(), mine.clone()]), (1, TieRule::Resources));
        assert_eq!(decided(&[later.clone(), mine.clone()]), (1, TieRule::Order));
        assert_eq!(decided(&[later, larger, mine]), (2, TieRule::Order), "the nearest of the others says by what");
        let default = Standing { is_not_default: false, is_not_on_file: false, ..any() };
        assert_eq!(decided(&[any(), default]), (1, TieRule::Default));
    }

    #[test]
    fn resources_that_are_not_known_are_none_and_spills_are_of_both_ways() {
        let known = Resources {
            registers: Some(3),
            static_shared: Some(5),
            spill_stores: Some(7),
            spill_loads: Some(11),
            stack: Some(13),
            code_bytes: Some(17),
            ..Resources::default()
        };
        assert_eq!(known.standing(), [3, 5, 18, 13, 17]);
        assert_eq!(Resources::default().standing(), [0; 5]);
    }

    #[test]
    fn a_proposed_source_is_neither_the_default_nor_on_file() {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let of = |source: Option<Arc<Proposed>>| {
            let variant = kernel.space.default.clone();
            let evaluation = Evaluation::new(kernel.space.settings(&variant), Vec::new()).into();
            let tried = Tried { candidate: Candidate { variant, source }, evaluation };
            standing(kernel, &tried, Some(&kernel.space.settings(&kernel.space.default)))
        };
        let own = Standing {
            is_not_default: false,
            is_not_on_file: false,
            resources: [0; 5],
            is_proposed: false,
            place: vec![1],
        };
        assert_eq!(of(None), own);
        let record = SourceRecord { name: "p".into(), hash: String::new(), path: "p.c".into() };
        let proposed = Proposed { record, implementation: kernel.implementation.clone() };
        let other = Standing { is_not_default: true, is_not_on_file: true, is_proposed: true, ..own };
        assert_eq!(of(Some(Arc::new(proposed))), other);
    }

    #[test]
    fn the_winner_is_the_default_or_on_file_or_first_among_those_that_tie_with_the_fastest() {
        let project = fixture::project("");
        let kernel = &project.packages[0].kernels[0];
        let tried = |place: u16| {
            let variant = Variant(vec![place]);
            let evaluation = Evaluation::new(kernel.space.settings(&variant), Vec::new());
            Tried { candidate: Candidate { variant, source: None }, evaluation: evaluation.into() }
        };
        let finalists = [tried(0), tried(1), tried(2)];
        let of = |added: [f64; 3], on_file: Option<u16>| {
            let entries = finalists.iter().zip(added);
            let entry = |(tried, added): (&Tried, f64)| Measured::of_two_modes(tried.id(), 50, added, 100);
            let compared = Compared::of(entries.map(entry));
            let on_file = on_file.map(|place| kernel.space.settings(&Variant(vec![place])));
            winner(kernel, &finalists, &compared, on_file.as_ref()).map(|(winner, tie)| (winner.name(kernel), tie.by))
        };
        let won = |label: &str, by| Some((label.to_owned(), by));
        assert_eq!(of([0.0, 1.0, 2.0], None), won("T=2", TieRule::Default));
        assert_eq!(of([0.0, 1.0, 2.0], Some(2)), won("T=2", TieRule::Default), "the file comes after it");
        assert_eq!(of([0.0, 900.0, 1.0], Some(2)), won("T=3", TieRule::Elite));
        assert_eq!(of([0.0, 900.0, 1.0], None), won("T=1", TieRule::Order));
        assert_eq!(of([900.0, 900.0, 1.0], None), None, "nothing ties with it");
    }

    #[test]
    fn a_variant_ties_unless_the_best_is_certainly_faster() {
        let [best, alike, slow, unknown] = [0, 1, 2, 3].map(EntrantId::Baseline);
        let entry = |id: &EntrantId, late, added| Measured::of_two_modes(id.clone(), late, added, 100);
        let compared = Compared::of([entry(&best, 50, 0.0), entry(&alike, 52, 1.0), entry(&slow, 50, 900.0)]);
        assert!(is_tie(&compared, &best, &alike) && !is_tie(&compared, &best, &slow));
        assert!(is_tie(&compared, &slow, &best), "it is not slower");
        assert!(!is_tie(&compared, &best, &unknown));
    }
}

//! Which of several variants wins that no measurement tells apart: by a rule that knows nothing of times, so that noise does not
//! name the winner.

use super::Tried;
use crate::build::Resources;
use crate::config::Kernel;
use crate::gates::performance::{Compared, JudgedSpeedup, Verdict};
use crate::harness::Candidate;
use crate::record::elite::{TieRecord, TieRule};
use crate::space::Settings;

/// Whether a variant is not surely slower than the best.
pub(super) fn is_tie(compared: &Compared, best: &str, name: &str) -> bool {
    JudgedSpeedup::of(compared, best, name).is_some_and(|comparison| comparison.verdict != Verdict::Faster)
}

/// What decides, in this order; less is better.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    is_not_default: bool,
    is_not_on_file: bool,
    /// Registers, and bytes of shared memory, spills, stack and code. What is not known is 0 for all.
    resources: [u64; 5],
    is_proposed: bool,
    /// The place in the space.
    place: Vec<usize>,
}

/// The winner among the variants that tie with the fastest, and the record of the tie; none where nothing ties with it.
pub(super) fn winner(
    kernel: &Kernel,
    finalists: &[Tried],
    compared: &Compared,
    on_file: Option<&Settings>,
) -> Option<(String, TieRecord)> {
    let best = compared.fastest_of(finalists.iter().map(|finalist| finalist.evaluation.label()))?;
    let mut tied: Vec<(Standing, String)> = finalists
        .iter()
        .map(|finalist| (standing(kernel, finalist, on_file), finalist.evaluation.label()))
        .filter(|(_, label)| *label == best || is_tie(compared, &best, label))
        .collect();
    tied.sort();
    let [(first, winner), (second, _), ..] = &tied[..] else { return None };
    // What would have won without the file is no other winner for being in it: the same command twice says the same.
    let unfiled = |standing: &Standing| Standing { is_not_on_file: true, ..standing.clone() };
    let without_file = tied.iter().min_by_key(|(standing, _)| unfiled(standing)).map(|(_, label)| label);
    let second = if without_file == Some(winner) {
        tied[1..].iter().map(|(standing, _)| unfiled(standing)).min().expect("there is a second")
    } else {
        second.clone()
    };
    let by = if first.is_not_default != second.is_not_default {
        TieRule::Default
    } else if without_file != Some(winner) {
        TieRule::Elite
    } else if first.resources != second.resources {
        TieRule::Resources
    } else {
        TieRule::Order
    };
    let variants = tied.iter().map(|(_, label)| label.clone()).collect();
    Some((winner.clone(), TieRecord { variants, by }))
}

fn standing(kernel: &Kernel, finalist: &Tried, on_file: Option<&Settings>) -> Standing {
    let Tried { candidate: Candidate { variant, source }, evaluation } = finalist;
    let of_space = source.is_none();
    let shape = &kernel.shapes[kernel.search.shape].name;
    let build = evaluation.builds.iter().find(|build| build.shapes.contains(shape));
    Standing {
        is_not_default: !(of_space && *variant == kernel.space.default),
        is_not_on_file: !(of_space && on_file.is_some_and(|on_file| on_file.same(&evaluation.toggles))),
        resources: build.map_or([0; 5], |build| resources(&build.resources)),
        is_proposed: !of_space,
        place: variant.0.iter().map(|value| *value as usize).collect(),
    }
}

fn resources(of: &Resources) -> [u64; 5] {
    let spills = of.spill_stores.unwrap_or(0) + of.spill_loads.unwrap_or(0);
    [of.registers, of.static_shared, Some(spills), of.stack, of.code_bytes].map(Option::unwrap_or_default)
}

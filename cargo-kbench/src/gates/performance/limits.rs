//! Compares the performance limits of the table with a comparison.

use kbench_runtime::stats::Speedup;

use super::compare::{Compared, EntrantId};
use super::verdict;
use crate::config::{BaselineKind, Kernel, Level, PerformanceBound};
use crate::record::evaluation::{GateName, Reason, Rejection};

/// The performance limits that a measured variant misses, at the shape of the comparison.
pub fn missed_limits(kernel: &Kernel, id: &EntrantId, compared: &Compared) -> Vec<Rejection> {
    if kernel.gates.performance_level == Level::Allow {
        return Vec::new();
    }
    let limits = kernel.gates.performance.iter().filter(|limit| limit.shape == kernel.search.shape);
    limits.filter_map(|limit| judge_limit(kernel, limit.shape, &limit.limit, id, compared)).collect()
}

/// Judges one performance limit by a comparison at its shape.
pub(super) fn judge_limit(
    kernel: &Kernel,
    shape: usize,
    bound: &PerformanceBound,
    id: &EntrantId,
    compared: &Compared,
) -> Option<Rejection> {
    let entry = compared.entry(id)?;
    let unknown = |id: &EntrantId| {
        let why = format!(
            "the time of {} is not known: it lost its core in too many samples, or another process used the GPU",
            id.name(kernel)
        );
        Some(Rejection::new(GateName::Performance, Reason::Undecided, why, Some(&kernel.shapes[shape].name)))
    };
    if !entry.timing.is_known() {
        return unknown(id);
    }
    let (baseline, speedup, floor) = match bound {
        PerformanceBound::MaxP50Us(_) => (String::new(), Err(String::new()), compared.noise_floor()),
        PerformanceBound::MinSpeedup { over, .. } => {
            let baseline = &kernel.baselines[*over];
            // A baseline that is a variant may have been measured as one of the candidates.
            let mut over = EntrantId::Baseline(*over);
            if let BaselineKind::Variant(variant) = &baseline.kind
                && compared.entry(&over).is_none()
                && compared.entry(&variant.into()).is_some()
            {
                over = variant.into();
            }
            if compared.entry(&over).is_some() && !compared.is_known(&over) {
                return unknown(&over);
            }
            let (speedup, floor) = if compared.same_program(id, &over) {
                // A difference of identical machine code is noise.
                (Ok(Speedup { low: 1.0, ratio: 1.0, high: 1.0 }), None)
            } else {
                (compared.speedup(id, &over), compared.noise_floor())
            };
            (baseline.name.clone(), speedup, floor)
        }
    };
    verdict::judge(bound, &kernel.shapes[shape].name, &entry.timing.summary, &baseline, speedup, floor)
}

#[cfg(test)]
mod tests {
    use kbench_runtime::protocol::{Disturbance, Sampling};

    use super::*;
    use crate::config::fixture;
    use crate::gates::performance::compare::Measured;
    use crate::record::journal::EntryRole;
    use crate::space::Variant;

    /// Codes of the limits that `T=1` misses, with 9 µs for it, 18 µs for the baseline `naive`, and more entries.
    fn missed(gates: &str, more: &[(EntrantId, f64)], unknown: &[EntrantId]) -> Vec<Reason> {
        let baselines = "baselines = { naive = { source = \"k.c\", entry = \"k\" }, old = { toggles = { T = 3 } } }";
        let project = fixture::project(&format!("{baselines}\n{gates}"));
        let kernel = &project.packages[0].kernels[0];
        let (id, naive) = (one(), EntrantId::Baseline(0));
        let entries = [(id.clone(), 0.0), (naive, 8992.0)].into_iter().chain(more.iter().cloned());
        let entries = entries.map(|(id, added)| {
            let mut measured = Measured::of_two_modes(id, 0, added, 100);
            if unknown.contains(&measured.id) {
                let disturbed = [(Disturbance::InvoluntaryContextSwitch, 100)].into();
                measured.entry.timing.sampling = Some(Sampling { disturbed, ..Sampling::default() });
            }
            measured
        });
        let missed = missed_limits(kernel, &id, &Compared::of(entries));
        missed.into_iter().map(|rejection| rejection.code).collect()
    }

    fn one() -> EntrantId {
        (&Variant(vec![0])).into()
    }

    fn limit(of: &str) -> String {
        format!("gates.performance = [{{ shape = \"s\", {of} }}]")
    }

    #[test]
    fn limits_apply_at_their_shape_and_level() {
        let (slow, fast) = (limit("max_p50_us = 8.9"), limit("max_p50_us = 9.1"));
        assert_eq!(missed(&slow, &[], &[]), [Reason::TooSlow]);
        assert_eq!(missed(&fast, &[], &[]), []);
        assert_eq!(missed(&slow.replace("\"s\"", "\"t\""), &[], &[]), [], "the winner was measured at `s`");
        assert_eq!(missed(&slow, &[], &[one()]), [Reason::Undecided]);
        let both = "gates.performance = [{ shape = \"s\", max_p50_us = 8 }, { shape = \"s\", max_p50_us = 7 }]";
        assert_eq!(missed(both, &[], &[]), [Reason::TooSlow; 2]);
        let allowed = format!("{slow}\ngates.performance_level = \"allow\"");
        assert_eq!(missed(&allowed, &[], &[]), []);
    }

    #[test]
    fn identical_machine_code_is_neither_faster_nor_slower_by_any_measurement() {
        let project = fixture::project(&format!(
            "baselines.naive = {{ source = \"k.c\", entry = \"k\" }}\n{}",
            limit("min_speedup = 1, over = \"naive\"")
        ));
        let kernel = &project.packages[0].kernels[0];
        let missed = |added, is_same, again: &[f64]| {
            let mut naive = Measured::of_two_modes(EntrantId::Baseline(0), 0, added, 100);
            if is_same {
                naive = naive.identical_to(&one());
            }
            let again = again.iter().map(|&added| {
                let mut again = Measured::of_two_modes(one(), 0, added, 100);
                again.entry.role = EntryRole::Again;
                again
            });
            let entries = [Measured::of_two_modes(one(), 0, 0.0, 100), naive].into_iter().chain(again);
            let missed = missed_limits(kernel, &one(), &Compared::of(entries));
            missed.into_iter().map(|rejection| rejection.code).collect::<Vec<_>>()
        };
        // Slower and faster by 1 %.
        assert_eq!((missed(-90.0, false, &[]), missed(90.0, false, &[])), (vec![Reason::TooSlow], vec![]));
        assert_eq!([-90.0, 90.0].map(|added| missed(added, true, &[])), [const { Vec::new() }; 2]);
        // The kernel differs from itself by 2 %, or by a tenth of that.
        assert_eq!([-90.0, 90.0].map(|added| missed(added, false, &[180.0])), [[Reason::Undecided]; 2].map(Vec::from));
        assert_eq!((missed(-90.0, false, &[18.0]), missed(90.0, false, &[18.0])), (vec![Reason::TooSlow], vec![]));
    }

    #[test]
    fn a_speedup_needs_both_times() {
        let over = |baseline: &str, ratio: f64| limit(&format!("min_speedup = {ratio}, over = \"{baseline}\""));
        assert_eq!(missed(&over("naive", 1.9), &[], &[]), []);
        assert_eq!(missed(&over("naive", 2.1), &[], &[]), [Reason::TooSlow]);
        assert_eq!(missed(&over("naive", 1.9), &[], &[EntrantId::Baseline(0)]), [Reason::Undecided]);
        // A baseline that is a variant counts as such if it was measured, else as the candidate that it is.
        let (old, three) = (EntrantId::Baseline(1), EntrantId::from(&Variant(vec![2])));
        assert_eq!(missed(&over("old", 1.4), &[(three.clone(), 4496.0)], &[]), []);
        assert_eq!(missed(&over("old", 1.6), &[(three.clone(), 4496.0)], &[]), [Reason::TooSlow]);
        assert_eq!(
            missed(&over("old", 1.4), &[(three.clone(), 4496.0)], std::slice::from_ref(&three)),
            [Reason::Undecided]
        );
        assert_eq!(missed(&over("old", 1.6), &[(three, 4496.0), (old.clone(), 8992.0)], &[]), []);
        assert_eq!(missed(&over("old", 1.4), &[], &[]), [Reason::Undecided], "not measured");
        assert_eq!(missed(&over("old", 1.4), &[(old.clone(), 8992.0)], &[old]), [Reason::Undecided]);
    }
}

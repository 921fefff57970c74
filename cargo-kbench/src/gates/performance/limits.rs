//! Compares the performance limits of the table with a comparison.

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
    let (baseline, speedup) = match bound {
        PerformanceBound::MaxP50Us(_) => (String::new(), Err(String::new())),
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
            let speedup = compared.speedup(id, &over);
            (baseline.name.clone(), speedup)
        }
    };
    verdict::judge(bound, &kernel.shapes[shape].name, &entry.timing.summary, &baseline, speedup)
}

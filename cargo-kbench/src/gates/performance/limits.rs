//! The performance limits of the table against a comparison.

use super::compare::Compared;
use super::verdict;
use crate::config::{BaselineKind, Kernel, Level, PerformanceBound};
use crate::record::evaluation::{GateName, Reason, Rejection};

/// The performance limits that a measured variant misses, at the shape of the comparison.
pub fn missed_limits(kernel: &Kernel, name: &str, compared: &Compared) -> Vec<Rejection> {
    if kernel.gates.performance_level == Level::Allow {
        return Vec::new();
    }
    let limits = kernel.gates.performance.iter().filter(|limit| limit.shape == kernel.search.shape);
    limits.filter_map(|limit| judge_limit(kernel, limit.shape, &limit.limit, name, compared)).collect()
}

/// One performance limit against a comparison at its shape.
pub(super) fn judge_limit(
    kernel: &Kernel,
    shape: usize,
    bound: &PerformanceBound,
    name: &str,
    compared: &Compared,
) -> Option<Rejection> {
    let entry = compared.entry(name)?;
    let unknown = |name: &str| {
        let why = format!(
            "the time of {name} is not known: it lost its core in too many samples, or another process used the GPU"
        );
        Some(Rejection::new(GateName::Performance, Reason::Undecided, why, Some(&kernel.shapes[shape].name)))
    };
    if !entry.timing.is_known() {
        return unknown(name);
    }
    let (baseline, speedup) = match bound {
        PerformanceBound::MaxP50Us(_) => (String::new(), Err(String::new())),
        PerformanceBound::MinSpeedup { over, .. } => {
            let baseline = &kernel.baselines[*over];
            // A baseline that is a variant was measured under the variant's label where it is one of the entrants.
            let label = match &baseline.kind {
                BaselineKind::Variant(variant) => kernel.space.label(variant),
                _ => baseline.name.clone(),
            };
            let over = if compared.entry(&baseline.name).is_some() { &baseline.name } else { &label };
            if compared.entry(over).is_some() && !compared.is_known(over) {
                return unknown(over);
            }
            let speedup =
                compared.speedup(name, over).map_err(|why| compared.speedup(name, &baseline.name).err().unwrap_or(why));
            (baseline.name.clone(), speedup)
        }
    };
    verdict::judge(bound, &kernel.shapes[shape].name, &entry.timing.summary, &baseline, speedup)
}

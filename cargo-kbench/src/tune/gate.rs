//! One variant through all gates, and what the performance limits say of a comparison.

use std::collections::BTreeMap;
use std::time::Duration;

use kbench_runtime::protocol::DeviceInfo;

use super::{Event, Reporter, finals, judge_counters, sanitize};
use crate::config::{BaselineKind, Kernel, Level, PerformanceBound};
use crate::evaluate::{Compared, Entrant, RunError, Step, Workbench};
use crate::gates;
use crate::profile::Profile;
use crate::record::evaluation::{BuildRecord, Evaluation, Gate, Outcome, Reason, Rejection};
use crate::space::Variant;
use crate::text;

/// What gating one variant found.
#[derive(Debug, Clone)]
pub struct Gated {
    /// Its record; the outcome includes gate 3.
    pub evaluation: Evaluation,
    /// Runs under sanitizers, `memcheck at small`.
    pub sanitized: Vec<String>,
    /// What gate 4 was judged by.
    pub profiles: Vec<Profile>,
    /// The comparisons that gate 3 was judged by, with their shapes' indices; empty where an earlier gate rejected.
    pub compared: Vec<(usize, Compared)>,
    /// Its name in them.
    pub label: String,
}

/// The gates of a kernel, in the order they are run.
pub fn gates_of(kernel: &Kernel) -> Vec<Gate> {
    let mut gates = vec![Gate::Compile, Gate::Resources, Gate::Launch, Gate::Correctness];
    if kernel.gates.sanitize.level != Level::Allow {
        gates.push(Gate::Sanitize);
    }
    gates.push(Gate::Performance);
    if kernel.gates.counters.level != Level::Allow {
        gates.push(Gate::Counters);
    }
    gates
}

impl Gated {
    /// The gates that were run and judged nothing, each with the reason.
    pub fn all_unjudged(&self, kernel: &Kernel) -> BTreeMap<Gate, String> {
        let end = self.evaluation.rejection().map(|rejection| rejection.gate);
        let run = gates_of(kernel).into_iter().filter(|&gate| end.is_none_or(|end| gate < end));
        run.filter_map(|gate| Some((gate, self.unjudged(kernel, gate)?))).collect()
    }

    /// Why a gate that found nothing wrong judged nothing; `None` where it judged.
    pub fn unjudged(&self, kernel: &Kernel, gate: Gate) -> Option<String> {
        let gates = &kernel.gates;
        let allowed = |level: Level| (level == Level::Allow).then(|| "at level `allow`".to_owned());
        let shapes = |shapes: &[usize]| {
            let names: Vec<&str> = shapes.iter().map(|&shape| kernel.shapes[shape].name.as_str()).collect();
            text::list(&names)
        };
        match gate {
            Gate::Compile | Gate::Launch => None,
            Gate::Resources => allowed(gates.resources.level).or_else(|| {
                let judged = |build: &BuildRecord| gates::resources::is_judged(&gates.resources, &build.resources);
                (!self.evaluation.builds.iter().any(judged)).then(|| "no limits".to_owned())
            }),
            Gate::Correctness => allowed(gates.correctness.level),
            Gate::Sanitize => self.sanitized.is_empty().then(|| "no tool was run".to_owned()),
            Gate::Performance => allowed(gates.performance_level).or_else(|| {
                gates.performance.is_empty().then(|| match &gates.performance_left_out[..] {
                    [] => "no limits".to_owned(),
                    left_out => format!("no limit here: the table has limits at {}", shapes(left_out)),
                })
            }),
            Gate::Counters => self.profiles.is_empty().then(|| "nothing was counted".to_owned()),
        }
    }
}

/// Runs one variant through the gates on an open bench; the sanitizers stand between gates 2 and 3.
pub fn gate(
    bench: &mut Workbench<'_>,
    device: &DeviceInfo,
    variant: &Variant,
    reporter: &mut dyn Reporter,
) -> Result<Gated, RunError> {
    let kernel = bench.kernel;
    let doing = bench.doing.clone();
    doing.set(Step::Compiling);
    reporter.event(Event::Started { kernel, device: Some(device), total: 1, doing: &doing, finals: Duration::ZERO });
    let attempt = bench.builder.build(variant)?;
    let evaluation = bench.evaluate(variant, attempt, None)?;
    let label = bench.label(variant);
    let mut gated =
        Gated { evaluation, sanitized: Vec::new(), profiles: Vec::new(), compared: Vec::new(), label: label.clone() };
    if gated.evaluation.rejection().is_none() {
        gated.sanitized = sanitize(bench, variant, &mut gated.evaluation, reporter)?;
    }
    if gated.evaluation.rejection().is_some() {
        return Ok(gated);
    }
    let mut shapes: Vec<usize> = kernel.gates.performance.iter().map(|limit| limit.shape).collect();
    if !kernel.baselines.is_empty() {
        shapes.push(kernel.search.shape);
    }
    shapes.sort_unstable();
    shapes.dedup();
    let mut entrants = vec![bench.entrant(variant)];
    entrants.extend((0..kernel.baselines.len()).map(Entrant::Baseline));
    for shape in shapes {
        reporter.event(finals(kernel, &entrants));
        let compared = bench.compare(shape, &entrants)?;
        if let Some(rejection) = compared.unavailable.get(&label) {
            gated.evaluation.outcome = Outcome::Rejected(rejection.clone());
        }
        let limits = kernel.gates.performance.iter().filter(|limit| limit.shape == shape);
        for limit in limits {
            let finding = judge_limit(kernel, shape, &limit.limit, &label, &compared);
            let level = kernel.gates.performance_level;
            let finding = gates::at_level(level, finding, &mut gated.evaluation.warnings);
            if let Some(rejection) = finding.filter(|_| gated.evaluation.rejection().is_none()) {
                gated.evaluation.outcome = Outcome::Rejected(rejection);
            }
        }
        gated.evaluation.warnings.extend(compared.warnings.iter().cloned());
        gated.compared.push((shape, compared));
    }
    gated.profiles = judge_counters(bench, variant, &mut gated.evaluation, reporter)?;
    Ok(gated)
}

/// The performance limits that a measured variant misses, at the shape of the comparison.
pub(super) fn missed_limits(kernel: &Kernel, name: &str, compared: &Compared) -> Vec<Rejection> {
    if kernel.gates.performance_level == Level::Allow {
        return Vec::new();
    }
    let limits = kernel.gates.performance.iter().filter(|limit| limit.shape == kernel.search.shape);
    limits.filter_map(|limit| judge_limit(kernel, limit.shape, &limit.limit, name, compared)).collect()
}

/// One performance limit against a comparison at its shape.
fn judge_limit(
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
        Some(Rejection::new(Gate::Performance, Reason::Undecided, why, Some(&kernel.shapes[shape].name)))
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
    gates::performance::judge(bound, &kernel.shapes[shape].name, &entry.timing.summary, &baseline, speedup)
}

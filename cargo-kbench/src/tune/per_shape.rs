//! The elites of several shapes, measured at every shape, and the smallest set that serves all shapes.

use std::collections::BTreeMap;

use crate::config::Kernel;
use crate::gates::performance::{Compared, Entrant, EntrantId, compare, finals};
use crate::harness::{Harness, Reporter, RunError};
use crate::record::elite::{LeftOut, MeasuredVariant, PortfolioRecord, ServedShape, distance};
use crate::space::Variant;
use crate::text;
use crate::tune::portfolio;

/// Largest loss of a shape to its fastest variant: a smaller loss rarely justifies another binary.
pub const LIMIT: f64 = 0.02;

/// The shapes of `autotune --per-shape`: those that gates check or measure.
pub fn shapes(kernel: &Kernel) -> Vec<usize> {
    let mut shapes = kernel.gates.correctness.shapes.clone();
    shapes.extend(kernel.gates.performance.iter().map(|limit| limit.shape));
    shapes.push(kernel.search.shape);
    shapes.retain(|&shape| !kernel.shapes[shape].check_only);
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

/// Measures variants at each of the shapes, interleaved, and finds the smallest set that serves all of them. `winners`
/// are the indices of the winners of each shape in `variants`. `None` if no variant could be measured at some shape.
pub fn portfolio(
    harness: &mut Harness<'_>,
    shapes: &[usize],
    variants: &[Variant],
    winners: &[Variant],
    reporter: &mut dyn Reporter,
) -> Result<Option<PortfolioRecord>, RunError> {
    let kernel = harness.kernel();
    let entrants: Vec<Entrant> = variants.iter().map(|variant| Entrant::Candidate(variant.into())).collect();
    let ids: Vec<EntrantId> = entrants.iter().map(Entrant::id).collect();
    let mut compared: Vec<Compared> = Vec::new();
    for &shape in shapes {
        reporter.event(finals(kernel, &entrants));
        let at_shape = compare(harness, shape, &entrants)?;
        if at_shape.entries.is_empty() {
            return Ok(None);
        }
        compared.push(at_shape);
    }
    let p50 = |at: &Compared, id: &EntrantId| at.entry(id).map(|entry| entry.timing.summary.p50);
    let fastest: Vec<&EntrantId> = compared.iter().map(|at| at.fastest().expect("checked above")).collect();
    let loss = |id: &EntrantId, at: usize| compared[at].loss(id, fastest[at]);
    let losses: Vec<Vec<f64>> = ids.iter().map(|id| (0..shapes.len()).map(|at| loss(id, at)).collect()).collect();
    let chosen = portfolio::choose(&losses, LIMIT);
    let left_out = |at: usize| {
        let dims = |at: usize| kernel.shapes[shapes[at]].dims.as_slice();
        let others = (0..shapes.len()).filter(|other| *other != at);
        let nearest = others.min_by(|a, b| distance(dims(*a), dims(at)).total_cmp(&distance(dims(*b), dims(at))))?;
        let winner = variants.iter().position(|variant| *variant == winners[nearest])?;
        let loss = Some(losses[winner][at]).filter(|loss| loss.is_finite());
        Some(LeftOut { nearest: kernel.shapes[shapes[nearest]].name.clone(), loss })
    };
    let served = |at: usize| {
        let of = |place: &usize| losses[chosen.variants[*place]][at];
        let variant = (0..chosen.variants.len()).min_by(|a, b| of(a).total_cmp(&of(b))).expect("one at least");
        let id = &ids[chosen.variants[variant]];
        let shape = &kernel.shapes[shapes[at]];
        ServedShape {
            shape: shape.name.clone(),
            dims: shape.dims.iter().cloned().collect(),
            variant,
            loss: of(&variant),
            interval: compared[at].loss_interval(id, fastest[at]),
            left_out: left_out(at),
        }
    };
    let measured = |((variant, id), losses): ((&Variant, &EntrantId), &Vec<f64>)| {
        let each = || shapes.iter().map(|&shape| kernel.shapes[shape].name.clone());
        let times = each().zip(&compared).filter_map(|(shape, at)| Some((shape, p50(at, id)?)));
        let losses = each().zip(losses.iter().copied()).filter(|(_, loss)| loss.is_finite());
        MeasuredVariant {
            toggles: kernel.space.settings(variant),
            p50_ns: times.collect::<BTreeMap<_, _>>(),
            losses: losses.collect(),
        }
    };
    Ok(Some(PortfolioRecord {
        package: kernel.package.clone(),
        kernel: kernel.name.clone(),
        device: (&harness.context.device).into(),
        limit: LIMIT,
        variants: chosen.variants.iter().map(|&variant| kernel.space.settings(&variants[variant])).collect(),
        is_smallest: chosen.is_smallest,
        shapes: (0..shapes.len()).map(served).collect(),
        measured: variants.iter().zip(&ids).zip(&losses).map(measured).collect(),
        date: text::now(),
        kbench: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}

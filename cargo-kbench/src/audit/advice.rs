//! The limit that would have rejected a survivor.

use kbench_runtime::protocol::Fault;

use super::plan::{Make, Mutant};
use super::toothless;
use crate::config::{CorrectnessLimits, Kernel};
use crate::record::evaluation::{Evaluation, ShapeErrors};

/// Smallest ratio of a mutant's error to the kernel's own at which a limit is proposed between the two.
const ROOM: f64 = 1.1;

/// Largest number of proposed limits.
const MOST: usize = 2;

/// A limit between the kernel's own errors and those of a mutant.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// The key of the table.
    pub limit: &'static str,
    /// The present value of the limit; none if the table has none.
    pub now: Option<f64>,
    /// The largest error of the kernel itself over all shapes.
    pub own: f64,
    /// The error of the mutant.
    pub mutants: f64,
    /// The shape of the mutant's error.
    pub shape: String,
}

impl Gap {
    fn width(&self) -> f64 {
        if self.own > 0.0 { self.mutants / self.own } else { f64::INFINITY }
    }

    /// A round number between the two errors, in the middle of their exponents.
    pub fn proposal(&self) -> f64 {
        if self.own <= 0.0 {
            return self.mutants / 2.0;
        }
        let middle = (self.own * self.mutants).sqrt();
        let unit = 10f64.powf(middle.log10().floor());
        let round = (middle / unit).round() * unit;
        if round > self.own && round < self.mutants { round } else { middle }
    }
}

/// The limits that distinguish a mutant from the kernel, widest gap first.
pub fn gaps(limits: &CorrectnessLimits, own: &[ShapeErrors], mutant: &[ShapeErrors]) -> Vec<Gap> {
    type Error = fn(&ShapeErrors) -> f64;
    let errors: [(&'static str, Option<f64>, Error); 4] = [
        ("max_rms_err", limits.max_rms_err, |errors| errors.rms_err),
        ("max_mean_err", limits.max_mean_err, |errors| errors.mean_abs_err),
        ("max_abs_err", limits.max_abs_err, |errors| errors.max_abs_err),
        ("max_bias", limits.max_bias, |errors| errors.bias.abs()),
    ];
    let mut gaps: Vec<Gap> = errors
        .into_iter()
        .filter_map(|(limit, now, error)| {
            let own = own.iter().map(error).fold(0.0, f64::max);
            let worst = mutant.iter().max_by(|a, b| error(a).total_cmp(&error(b)))?;
            let gap = Gap { limit, now, own, mutants: error(worst), shape: worst.shape.clone() };
            (gap.mutants > 0.0 && gap.width() > ROOM).then_some(gap)
        })
        .collect();
    // The sort is stable: of equal gaps the limit that scales with the output comes first.
    gaps.sort_by(|a, b| b.width().total_cmp(&a.width()));
    gaps
}

/// The one limit that rejects every survivor that a limit can reject, and the number of these survivors; none if fewer
/// than two.
pub fn remedy(own: &[ShapeErrors], survivors: &[&[ShapeErrors]]) -> Option<(Gap, usize)> {
    let none = CorrectnessLimits::default();
    let of_each: Vec<Vec<Gap>> =
        survivors.iter().map(|errors| gaps(&none, own, errors)).filter(|gaps| !gaps.is_empty()).collect();
    let (first, others) = of_each.split_first().filter(|(_, others)| !others.is_empty())?;
    let smallest = first.iter().filter_map(|gap| {
        others.iter().try_fold(gap.clone(), |least, gaps| {
            let same = gaps.iter().find(|gap| gap.limit == least.limit)?;
            Some(if same.mutants < least.mutants { same.clone() } else { least })
        })
    });
    let widest = smallest.max_by(|a, b| a.width().total_cmp(&b.width()))?;
    Some((widest, of_each.len()))
}

/// Advice to the user about a mutant that passed every gate.
pub fn advice(kernel: &Kernel, mutant: &Mutant, own: &[ShapeErrors], evaluation: &Evaluation) -> Vec<String> {
    let limits = &kernel.gates.correctness;
    let mut lines = Vec::new();
    if let Some(level) = toothless(limits.level) {
        lines.push(format!(
            "the correctness gate is at level `{level}`, which rejects no variant; limits for level `deny`:"
        ));
        lines.extend(evaluation.warnings.iter().map(|warning| format!("  {warning}")));
        return lines;
    }
    if matches!(mutant.make, Make::Wrapper { fault: Fault::First, .. }) && limits.seeds < 2 {
        lines.push("with one seed a memoised result is right: set `seeds = 2` or more".to_owned());
        return lines;
    }
    if !limits.deterministic && matches!(mutant.make, Make::Wrapper { fault: Fault::Late | Fault::First, .. }) {
        lines.push("`deterministic = false` turns off the comparison of two runs".to_owned());
    }
    let gaps = gaps(limits, own, &evaluation.errors);
    for gap in gaps.iter().take(MOST) {
        let now = gap.now.map_or_else(|| "not limited now".to_owned(), |now| format!("now {now:.1e}"));
        lines.push(format!(
            "{} = {:.1e} rejects it: its error is {:.2e} at {}, the kernel's own {:.2e} ({now})",
            gap.limit,
            gap.proposal(),
            gap.mutants,
            gap.shape,
            gap.own,
        ));
    }
    if gaps.is_empty() {
        lines.push(
            "no limit separates it from the kernel, whose errors are as large: add a shape or inputs that show the fault"
                .to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(shape: &str, scale: f64) -> ShapeErrors {
        ShapeErrors {
            shape: shape.into(),
            seeds: 1,
            max_abs_err: 7e-4 * scale,
            mean_abs_err: 2e-4 * scale,
            rms_err: 3e-4 * scale,
            bias: 0.0,
            naive_rms_err: None,
            quantization: None,
            patterns: Vec::new(),
        }
    }

    #[test]
    fn advice_names_the_limit_with_the_widest_gap_first() {
        let own = [errors("small", 1.0), errors("long", 0.5)];
        let mut mutant = [errors("small", 1.0), errors("long", 20.0)];
        mutant[1].rms_err = 0.12;
        let gaps = gaps(&CorrectnessLimits { max_abs_err: Some(0.06), ..CorrectnessLimits::default() }, &own, &mutant);
        assert_eq!(
            gaps.iter().map(|gap| gap.limit).collect::<Vec<_>>(),
            ["max_rms_err", "max_mean_err", "max_abs_err"]
        );
        assert_eq!((gaps[0].own, gaps[0].mutants, &*gaps[0].shape), (3e-4, 0.12, "long"));
        assert_eq!(gaps[2].now, Some(0.06));
        for gap in &gaps {
            assert!(gap.proposal() > gap.own && gap.proposal() < gap.mutants, "{gap:?}");
        }
        assert!((gaps[0].proposal() - 6e-3).abs() < 1e-9, "{}", gaps[0].proposal());
    }

    #[test]
    fn a_limit_for_all_survivors_is_below_the_smallest_error() {
        let own = [errors("small", 1.0)];
        let (large, little) = ([errors("small", 100.0)], [errors("small", 10.0)]);
        let mut unseen = [errors("small", 1.0)];
        unseen[0].seeds = 2;
        let (gap, count) = remedy(&own, &[&large, &unseen, &little]).unwrap();
        assert_eq!(count, 2, "what no limit rejects does not count");
        assert!(gap.mutants < 11.0 * gap.own && gap.proposal() < gap.mutants && gap.proposal() > gap.own, "{gap:?}");
        assert_eq!(remedy(&own, &[&large, &unseen]), None);
    }

    #[test]
    fn no_limit_is_advised_if_errors_equal_those_of_the_kernel() {
        let own = [errors("small", 1.0)];
        assert_eq!(gaps(&CorrectnessLimits::default(), &own, &[errors("small", 1.05)]), []);
        // Every limit above 0 distinguishes an exact kernel from a mutant.
        let exact = [errors("small", 0.0)];
        assert_eq!(gaps(&CorrectnessLimits::default(), &exact, &own).len(), 3);
    }
}

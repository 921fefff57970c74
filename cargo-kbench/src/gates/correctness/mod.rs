//! The gate `correctness`: outputs against the reference, before and after timing.

use super::{Gate, Limits, Trial, allowed};
use crate::config::{Kernel, Level};
use crate::record::evaluation::GateName;
use crate::text::count;

mod check;
mod judge;

pub use check::{Check, check_job, first_look, more_seeds, without_tolerance};
pub use judge::{WORST_ELEMENT, bad_above, judge, judge_at_level, tolerance, usual_rms_err};

/// The gate `correctness`.
pub struct Correctness;

impl Gate for Correctness {
    fn name(&self) -> GateName {
        GateName::Correctness
    }

    fn limits(&self, kernel: &Kernel) -> Option<(Level, Vec<String>)> {
        let table = &kernel.gates.correctness;
        let mut limits = Limits::default();
        if table.max_bad_fraction > 0.0 {
            limits.at_most("bad fraction", Some(table.max_bad_fraction));
        }
        limits.at_most("max abs err", table.max_abs_err);
        limits.at_most("mean err", table.max_mean_err);
        limits.at_most("rms err", table.max_rms_err);
        limits.at_most("bias", table.max_bias);
        limits.at_most("bias ratio", table.max_bias_ratio);
        limits.at_most("quantization err", table.max_quantization_err);
        limits.at_most("total err", table.max_total_err);
        let Limits(mut words) = limits;
        if let Some(naive) = table.naive {
            words.push(format!("errors <= {} x those of {}", table.max_naive_ratio, kernel.baselines[naive].name));
        }
        let stated = table.max_abs_err.or(table.max_mean_err).or(table.max_rms_err);
        if stated.is_none() && table.naive.is_none() {
            words.push("errors usual for each output's type".to_owned());
        }
        words.push(count(table.seeds as usize, "seed"));
        if !table.patterns.is_empty() {
            words.push(count(table.patterns.len(), "pattern"));
        }
        if table.shapes.len() < kernel.shapes.len() {
            words.push(format!("at {}", kernel.shape_names(&table.shapes).join(", ")));
        }
        if !table.deterministic {
            words.push("need not be deterministic".to_owned());
        }
        Some((table.level, words))
    }

    fn unjudged(&self, kernel: &Kernel, _trial: &Trial) -> Option<String> {
        allowed(kernel.gates.correctness.level)
    }
}

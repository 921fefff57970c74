//! The variants for the script of the page: one column for each property, so that 10,000 variants take little space.

use std::collections::BTreeMap;

use serde::Serialize;

use super::columns::{Column, Resource, columns, resources};
use super::facts::{Facts, Fate};
use super::places;
use super::plots::Figure;
use crate::record::evaluation::{GateName, Reason};
use crate::text::printable;

/// Data of the script.
#[derive(Debug, Serialize)]
pub struct Data<'f> {
    objective: &'f str,
    /// Whether values are nanoseconds.
    timed: bool,
    toggles: Vec<Column>,
    source: Vec<Option<&'f str>>,
    /// 0 measured, 1 stopped early, 2 rejected.
    fate: Vec<u8>,
    value: Vec<Option<f64>>,
    gates: Vec<String>,
    /// Index of the last gate that every variant which is not rejected has passed.
    passed: usize,
    /// Index into `gates`, -1 if no gate rejected the variant.
    gate: Vec<i32>,
    reasons: Vec<String>,
    /// Index into `reasons`, -1 if the variant has none.
    reason: Vec<i32>,
    message: Vec<Option<&'f str>>,
    /// Index of the variant with the same machine code, -1 if there is none.
    #[serde(rename = "twin")]
    identical_code: Vec<i32>,
    resources: Vec<Resource>,
    /// Variants of the marks of each plot, by name of the plot.
    marks: BTreeMap<&'static str, &'f [usize]>,
}

/// Gates that a search applies to every variant; other gates judge finalists only.
const OF_ALL: [GateName; 4] = [GateName::Compile, GateName::Resources, GateName::Launch, GateName::Correctness];

impl<'f> Data<'f> {
    /// Data of a run with its plots.
    pub fn of(facts: &'f Facts, figures: &'f [Figure]) -> Self {
        let variants = &facts.variants;
        let is_shown =
            |gate: &GateName| OF_ALL.contains(gate) || variants.iter().any(|variant| variant.gate == Some(*gate));
        let gates: Vec<GateName> = GateName::ALL.into_iter().filter(is_shown).collect();
        let reasons: Vec<Reason> = facts.rejected.iter().map(|rejected| rejected.reason).collect();
        let places = places(facts);
        let index = |at: Option<usize>| at.map_or(-1, |at| at as i32);
        Self {
            objective: &facts.objective,
            timed: ["p50", "mean"].contains(&&*facts.objective),
            toggles: columns(facts),
            source: variants
                .iter()
                .map(|variant| variant.variant.strip_prefix(&*printable(&variant.toggles.to_string())))
                .map(|rest| rest.filter(|rest| !rest.is_empty()).map(|rest| rest.trim_start_matches(" of ")))
                .collect(),
            fate: variants
                .iter()
                .map(|variant| match variant.fate {
                    Fate::Measured => 0,
                    Fate::Stopped => 1,
                    Fate::Rejected => 2,
                })
                .collect(),
            value: variants.iter().map(|variant| variant.value.map(rounded)).collect(),
            passed: gates.iter().position(|gate| *gate == GateName::Correctness).unwrap_or(0),
            gate: variants
                .iter()
                .map(|variant| index(variant.gate.and_then(|gate| gates.iter().position(|known| *known == gate))))
                .collect(),
            reason: variants
                .iter()
                .map(|variant| index(variant.reason.and_then(|of| reasons.iter().position(|known| *known == of))))
                .collect(),
            gates: gates.iter().map(GateName::to_string).collect(),
            reasons: reasons.iter().map(Reason::to_string).collect(),
            message: variants.iter().map(|variant| variant.message.as_deref()).collect(),
            identical_code: variants
                .iter()
                .map(|variant| index(variant.identical_code.as_deref().and_then(|other| places.get(other).copied())))
                .collect(),
            resources: resources(facts),
            marks: figures
                .iter()
                .filter(|figure| !figure.marks.is_empty())
                .map(|figure| (figure.name, &*figure.marks))
                .collect(),
        }
    }

    /// JSON for a `script` element, without a text that ends the element.
    pub fn script(&self) -> String {
        let text = serde_json::to_string(self).expect("strings and numbers");
        text.replace('<', "\\u003c")
    }
}

/// Rounds to six digits, more than any sample has.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

//! The variants of a run as comma-separated values, one line for each.

use kbench_runtime::stats::Summary;

use super::columns::{columns, resources};
use super::facts::Facts;
use super::markdown::fate;
use crate::text::number;

/// The table.
pub fn run(facts: &Facts) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let (toggles, resources) = (columns(facts), resources(facts));
    let of_toggles = toggles.iter().map(|toggle| toggle.name.as_str());
    let of_resources = resources.iter().map(|resource| resource.name);
    let fixed = ["number", "variant"];
    let measured = ["outcome", "objective", "p50_ns", "p50_low_ns", "p50_high_ns", "samples"];
    let rest = ["gate", "reason", "message", "same_code_as"];
    let head = fixed.into_iter().chain(of_toggles).chain(measured).chain(rest).chain(of_resources).map(safe);
    writer.write_record(head).expect("a text grows");
    for (at, variant) in facts.variants.iter().enumerate() {
        let level = |levels: &[i32], values: &[String]| {
            usize::try_from(levels[at]).ok().map_or_else(String::new, |level| values[level].clone())
        };
        let summary = variant.timing.as_ref().map(|timing| &timing.summary);
        let of = |value: Option<f64>| value.map_or_else(String::new, number);
        let mut row = vec![variant.number.to_string(), variant.variant.clone()];
        row.extend(toggles.iter().map(|toggle| level(&toggle.levels, &toggle.values)));
        row.push(fate(variant.fate).to_owned());
        row.push(of(variant.value));
        let interval = summary.and_then(Summary::interval);
        row.extend([summary.map(|of| of.p50), interval.map(|[low, _]| low), interval.map(|[_, high]| high)].map(of));
        row.push(summary.map_or_else(String::new, |summary| summary.n.to_string()));
        row.push(variant.gate.map_or_else(String::new, |gate| gate.to_string()));
        row.push(variant.reason.map_or_else(String::new, |reason| reason.to_string()));
        row.extend([&variant.message, &variant.identical_code].map(|text| text.clone().unwrap_or_default()));
        row.extend(
            resources.iter().map(|resource| resource.values[at].map_or_else(String::new, |used| used.to_string())),
        );
        writer.write_record(row.iter().map(|field| safe(field))).expect("a text grows");
    }
    let bytes = writer.into_inner().expect("a text grows");
    String::from_utf8(bytes).expect("it was written from texts")
}

/// A field that no spreadsheet takes for a formula.
pub(super) fn safe(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err();
    if is_formula { format!("'{field}") } else { field.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_becomes_a_text_and_a_number_stays_one() {
        assert_eq!(
            ["=1+1", "-3", "-cmd", "+1e3", "@x", "a=b", ""].map(safe),
            ["'=1+1", "-3", "'-cmd", "+1e3", "'@x", "a=b", ""]
        );
    }
}

//! Values of objectives as text.

use super::{count, time};
use crate::config::{DEFAULT, Objective};
use crate::record::elite::{BaselineRecord, EliteEntry, EliteVariant};
use crate::record::objective::ObjectiveValue;

/// A value of an objective, with its unit.
pub fn shown(name: &str, value: f64) -> String {
    match name {
        "p50" | "mean" => time(value),
        "energy" => joules(value),
        "throughput" => rate(value),
        "registers" => format!("{value}"),
        "command" => format!("{value:.3}"),
        _ => format!("{value} B"),
    }
}

/// Work in a second, from nanoseconds for each operation or byte.
fn rate(nanoseconds: f64) -> String {
    let (value, unit) = match 1e9 / nanoseconds {
        rate if rate >= 1e12 => (rate / 1e12, "T"),
        rate if rate >= 1e9 => (rate / 1e9, "G"),
        rate => (rate / 1e6, "M"),
    };
    format!("{} {unit}/s", super::figures(value))
}

fn joules(joules: f64) -> String {
    let (value, unit) = match joules {
        joules if joules < 1e-6 => (joules * 1e9, "nJ"),
        joules if joules < 1e-3 => (joules * 1e6, "µJ"),
        joules if joules < 1.0 => (joules * 1e3, "mJ"),
        joules => (joules, "J"),
    };
    // A window of a power counter is exact to three digits.
    format!("{} {unit}", super::figures(value))
}

/// All values of a variant: `p50 12.30 µs, energy 3.21 mJ`; p50 alone has no name.
pub fn all(values: &[ObjectiveValue]) -> String {
    match values {
        [only] if only.name == "p50" => time(only.value),
        values => {
            let each = values.iter().map(|value| format!("{} {}", value.name, shown(&value.name, value.value)));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

/// The columns for objectives other than p50.
pub fn columns(entry: &EliteEntry) -> Vec<String> {
    let mut columns = Vec::new();
    for value in others(entry.elite.first().map_or(&[], |best| &best.objectives[..])) {
        columns.push(value.name.clone());
        if !value.is_count() {
            columns.push("95 % interval".to_owned());
        }
    }
    columns
}

/// The cells of these columns; empty if a variant has no values.
pub fn cells(values: &[ObjectiveValue], columns: usize) -> Vec<String> {
    let mut cells = Vec::new();
    for value in others(values) {
        cells.push(shown(&value.name, value.value));
        if !value.is_count() {
            // The value is a cost: the lower its end, the higher the throughput.
            let ends = if is_throughput(value) { [value.high, value.low] } else { [value.low, value.high] };
            cells.push(ends.map(|end| shown(&value.name, end)).join(" to "));
        }
    }
    cells.resize(columns, String::new());
    cells
}

/// Whether the value is the time of an operation or byte, and is shown as operations or bytes in a second.
fn is_throughput(value: &ObjectiveValue) -> bool {
    value.name == Objective::Throughput.name()
}

fn others(values: &[ObjectiveValue]) -> impl Iterator<Item = &ObjectiveValue> {
    values.iter().filter(|value| value.name != "p50")
}

/// Whether the first objective is not p50.
pub fn is_other(entry: &EliteEntry) -> bool {
    entry.search.objectives.first().is_some_and(|objective| objective.name != "p50")
}

/// The winner's advantage in the first objective over the default and the second, by their intervals.
pub fn confidence(entry: &EliteEntry) -> String {
    let first = |values: &[ObjectiveValue]| values.first().cloned();
    let Some(winner) = entry.elite.first().and_then(|winner| first(&winner.objectives)) else { return String::new() };
    let is_default = |baseline: &&BaselineRecord| baseline.name == DEFAULT;
    let default = entry.baselines.iter().find(is_default).and_then(|default| first(&default.objectives));
    let mut parts = vec![match default {
        Some(default) if default.value > 0.0 => {
            let ratio = winner.value / default.value;
            let (low, high) = (winner.low / default.high, winner.high / default.low);
            let clear = if winner.is_clearly_below(&default) { "" } else { ", which may be noise" };
            if winner.name == Objective::COMMAND {
                let (low, high) = (winner.low, winner.high);
                let clear = if winner.is_clearly_below(&default) { "" } else { ", which may be noise" };
                format!(
                    "costs {:.3} of the default ({low:.3} to {high:.3}) by the program of `objective`{clear}",
                    winner.value
                )
            } else if winner.is_count() {
                format!("{ratio:.2} of the {} of the default", winner.name)
            } else if is_throughput(&winner) {
                let [ratio, low, high] = [1.0 / ratio, 1.0 / high, 1.0 / low];
                format!("{ratio:.2} times the throughput of the default ({low:.3} to {high:.3}){clear}")
            } else {
                format!("{ratio:.3} of the {} of the default ({low:.3} to {high:.3}){clear}", winner.name)
            }
        }
        Some(default) => format!("the default's {} is {}", default.name, shown(&default.name, default.value)),
        None => "the default was not measured beside it under another name".to_owned(),
    }];
    if let Some(second) = entry.elite.get(1).and_then(|second| first(&second.objectives)) {
        let tie = match (winner.is_clearly_below(&second), is_throughput(&winner)) {
            (true, true) => "clearly more than",
            (true, false) => "clearly less than",
            (false, _) => "a tie with",
        };
        parts.push(format!("{tie} rank 2"));
    }
    parts.join("; ")
}

/// Table of the front, where there are two objectives.
pub fn front(entry: &EliteEntry) -> Option<String> {
    let [first, second] = &entry.search.objectives[..] else { return None };
    let on_front = entry.elite.iter().filter(|variant| variant.front).count();
    Some(format!(
        "{}, marked *: no other is distinguishably better in one of {} and {} and no worse in the other",
        count(on_front as u64, "variant"),
        first.name,
        second.name
    ))
}

/// Mark of a variant on the front.
pub fn mark(variant: &EliteVariant) -> &'static str {
    if variant.front { "*" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_unit() {
        let values = [("p50", 12_300.0), ("energy", 0.003_21), ("registers", 32.0), ("code_bytes", 0.0)];
        let values: Vec<ObjectiveValue> = values
            .into_iter()
            .map(|(name, value)| ObjectiveValue { name: name.into(), value, low: value, high: value })
            .collect();
        assert_eq!(all(&values), "p50 12.30 µs, energy 3.21 mJ, registers 32, code_bytes 0 B");
        assert_eq!(all(&values[..1]), "12.30 µs");
        assert_eq!(cells(&values[1..3], 4), ["3.21 mJ", "3.21 mJ to 3.21 mJ", "32", ""]);
        let throughput = ObjectiveValue { name: "throughput".into(), value: 2.0, low: 1.0, high: 4.0 };
        assert_eq!(cells(&[throughput], 2), ["500 M/s", "250 M/s to 1.00 G/s"]);
    }
}

//! Toggles, constraints and the default variant.

use std::collections::HashSet;

use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Entry, Item, Node, Table};
use super::device::Device;
use super::env::{parse, place_in};
use super::names::check_macro;
use crate::expr::{Expr, Value};
use crate::space::{Layer, Reach, Space, Toggle, Variant, macro_text};

/// The tables of toggles, those of the macro layer first. Constants and sizes of the launch belong to the macro layer.
const TABLES: [(&str, Layer, Reach); 4] = [
    ("macro", Layer::Macro, Reach::Macro),
    ("constant", Layer::Macro, Reach::Constant),
    ("launch", Layer::Macro, Reach::Launch),
    ("micro", Layer::Micro, Reach::Macro),
];

/// Every toggle with the name of its table.
fn entries(table: &Table) -> impl Iterator<Item = (&Entry, &'static str, Layer, Reach)> {
    let toggles = table.get("toggles").and_then(Node::table);
    TABLES.into_iter().flat_map(move |(key, layer, reach)| {
        let entries = toggles.map_or(&[][..], |toggles| toggles.entries_of(key));
        entries.iter().map(move |entry| (entry, key, layer, reach))
    })
}

/// The names of all toggles, valid or not.
pub(super) fn names(table: &Table) -> Vec<String> {
    entries(table).map(|(entry, ..)| entry.key.clone()).collect()
}

/// The space, if all its parts are right.
pub(super) fn space(table: &Table, device: &Device, report: &Report) -> Option<Space> {
    let before = report.errors();
    let mut toggles: Vec<Toggle> = Vec::new();
    for (entry, of, layer, reach) in entries(table) {
        check_macro(&entry.key, &entry.key_place, report);
        if let Some((first, other, ..)) = entries(table).find(|(other, ..)| other.key == entry.key)
            && other != of
        {
            let diagnostic = Diagnostic::error(format!("toggle `{}` is in `{other}` and in `{of}`", entry.key));
            report.push(diagnostic.at(&entry.key_place, "again here").at(&first.key_place, "it is here"));
        }
        let values = values(entry, reach, report);
        toggles.push(Toggle { name: entry.key.clone(), values, layer, reach });
    }
    // A toggle with an unreadable value may have the value that other keys name.
    let unread = |entry: &Entry| match &entry.node.item {
        Item::List(nodes) => nodes.iter().any(|node| value(node).is_none()),
        _ => false,
    };
    if report.errors() > before || entries(table).any(|(entry, ..)| unread(entry)) {
        return None;
    }
    let constraints = constraints(table, &toggles, device, report);
    let mut space = Space { default: Variant(vec![0; toggles.len()]), toggles, constraints: Vec::new() };
    let settings = table.get("toggles").and_then(Node::table).map_or(&[][..], |toggles| toggles.entries_of("default"));
    if let Some(default) = variant(settings, &space, report) {
        space.default = default;
    }
    if report.errors() > before || toggles_mistyped(&space) {
        return None;
    }
    for (node, expr) in &constraints {
        default_satisfies(node, expr, &space, !settings.is_empty(), report);
    }
    space.constraints = constraints.into_iter().map(|(_, expr)| expr).collect();
    (report.errors() == before).then_some(space)
}

/// Whether some toggle has no value; this was reported by the check of types.
fn toggles_mistyped(space: &Space) -> bool {
    space.toggles.iter().any(|toggle| toggle.values.is_empty())
}

/// Largest number of values of a toggle: a [`Variant`] has an index of 16 bits for each.
const MOST_VALUES: usize = u16::MAX as usize;

fn values(entry: &Entry, reach: Reach, report: &Report) -> Vec<Value> {
    let nodes = match &entry.node.item {
        Item::List(nodes) => nodes,
        Item::Table(table) => return range(entry, table, report),
        _ => return Vec::new(),
    };
    if nodes.is_empty() {
        report.error(&entry.node.place, format!("toggle `{}` has no values", entry.key), "expected one value or more");
    }
    if nodes.len() > MOST_VALUES {
        too_many(entry, report);
    }
    let (mut values, mut texts) = (Vec::new(), HashSet::new());
    for node in nodes {
        let Some(value) = value(node) else { continue };
        let text = macro_text(&value);
        if texts.contains(&text) {
            let message = format!("toggle `{}` has the value `{value}` twice", entry.key);
            let label = match reach {
                Reach::Macro => format!("the compiler sees `-D{}={text}` both times", entry.key),
                Reach::Constant | Reach::Launch => String::new(),
            };
            report.error(&node.place, message, label);
        }
        if reach == Reach::Constant && matches!(value, Value::Str(_)) {
            let message = format!("the constant `{}` is a string", entry.key);
            let diagnostic = Diagnostic::error(message).at(&node.place, "expected a number or a boolean");
            report.push(diagnostic.help("a toggle in `macro` is replaced by its text, whatever that is"));
        }
        if text.contains(|c: char| c.is_control()) || text.trim() != text {
            let message = format!("`{}` cannot be the value of a toggle", text.escape_debug());
            report.error(&node.place, message, "`--variant K=V` could not name it");
        }
        values.push(value);
        texts.insert(text);
    }
    values
}

fn too_many(entry: &Entry, report: &Report) {
    report.error(&entry.node.place, format!("toggle `{}` has more than {MOST_VALUES} values", entry.key), "");
}

/// The values of `{ from = 32, to = 1024, step = 32 }` or `{ powers_of_two = [1, 64] }`, both ends included.
fn range(entry: &Entry, table: &Table, report: &Report) -> Vec<Value> {
    let place = &entry.node.place;
    let integer = |node: &Node| match node.item {
        Item::Integer(int) => Some(int),
        _ => None,
    };
    let none = || {
        report.error(place, format!("toggle `{}` has no values", entry.key), "no value is in this range");
        Vec::new()
    };
    if let Some(powers) = table.get("powers_of_two") {
        if let Some(other) = table.entries.iter().find(|entry| entry.key != "powers_of_two") {
            let message = format!("`powers_of_two` and `{}` exclude each other", other.key);
            report.error(&other.key_place, message, "");
        }
        let Item::List(ends) = &powers.item else { return Vec::new() };
        let [first, last] = ends.as_slice() else {
            report.error(&powers.place, "`powers_of_two` must be the least and the greatest value", "as in [1, 64]");
            return Vec::new();
        };
        let Some((first, last)) = integer(first).zip(integer(last)) else { return Vec::new() };
        let powers = (0..i64::BITS - 1).map(|exponent| 1_i64 << exponent);
        let values: Vec<Value> = powers.filter(|power| (first..=last).contains(power)).map(Value::Int).collect();
        return if values.is_empty() { none() } else { values };
    }
    for key in ["from", "to"] {
        if table.get(key).is_none() {
            report.error(place, format!("a range needs `{key}`"), "or `powers_of_two`");
        }
    }
    let ends = table.get("from").and_then(integer).zip(table.get("to").and_then(integer));
    let step = table.get("step").map_or(Some(1), integer).filter(|&step| step > 0);
    let Some(((from, to), step)) = ends.zip(step) else { return Vec::new() };
    if from > to {
        return none();
    }
    // The difference of two i64 may exceed an i64.
    if from.abs_diff(to) / step.unsigned_abs() >= MOST_VALUES as u64 {
        too_many(entry, report);
        return Vec::new();
    }
    std::iter::successors(Some(from), |value| value.checked_add(step).filter(|&next| next <= to))
        .map(Value::Int)
        .collect()
}

/// The value of a toggle.
fn value(node: &Node) -> Option<Value> {
    match &node.item {
        Item::Integer(int) => Some(Value::Int(*int)),
        Item::Float(float) => Some(Value::Float(*float)),
        Item::Bool(bool) => Some(Value::Bool(*bool)),
        Item::Text(text) => Some(Value::Str(text.clone())),
        _ => None,
    }
}

fn constraints<'t>(table: &'t Table, toggles: &[Toggle], device: &Device, report: &Report) -> Vec<(&'t Node, Expr)> {
    let Some(node) = table.get("toggles").and_then(Node::table).and_then(|toggles| toggles.get("constraints")) else {
        return Vec::new();
    };
    let Item::List(nodes) = &node.item else { return Vec::new() };
    let dims: Vec<&str> =
        table.entries_of("shapes").iter().filter_map(|shape| shape.node.table()).flat_map(Table::keys).collect();
    let mut constraints = Vec::new();
    for node in nodes {
        let Some(expr) = parse(node, report) else { continue };
        let expr = device.bind(&expr, &|name| toggles.iter().any(|toggle| toggle.name == name), false);
        for (name, range) in expr.names_at() {
            if toggles.iter().any(|toggle| toggle.name == name) {
                continue;
            }
            let diagnostic = Diagnostic::error(format!("unknown name `{name}` in a constraint"));
            let place = place_in(node, range);
            let known = toggles.iter().map(|toggle| toggle.name.as_str());
            report.push(if dims.contains(&name) {
                diagnostic
                    .at(&place, "a dimension")
                    .help("constraints are over toggles, so that they hold at every shape")
            } else {
                diagnostic.at(&place, "not a toggle").suggest(name, known)
            });
        }
        constraints.push((node, expr));
    }
    constraints
}

/// The variant with these settings; toggles that are not named have their default value.
pub(super) fn variant(settings: &[Entry], space: &Space, report: &Report) -> Option<Variant> {
    let mut variant = space.default.clone();
    let mut whole = true;
    for entry in settings {
        let Some(at) = space.toggle(&entry.key) else {
            let known = space.toggles.iter().map(|toggle| toggle.name.as_str());
            let diagnostic = Diagnostic::error(format!("no toggle `{}`", entry.key));
            report.push(diagnostic.at(&entry.key_place, "").suggest(&entry.key, known));
            whole = false;
            continue;
        };
        let Some(value) = value(&entry.node) else {
            whole = false;
            continue;
        };
        let toggle = &space.toggles[at];
        if let Some(index) = toggle.index_of(&value) {
            variant.0[at] = index as u16;
        } else {
            // A string and a number may have the same text: the quotes tell them apart.
            let is_ambiguous = toggle.values.iter().any(|known| known.to_string() == value.to_string());
            let shown = |value: &Value| match value {
                Value::Str(text) if is_ambiguous => format!("{text:?}"),
                value => value.to_string(),
            };
            let known: Vec<String> = toggle.values.iter().map(shown).collect();
            let message = format!("toggle `{}` has no value `{}`", entry.key, shown(&value));
            let label = format!("its values are {}", crate::text::list(&known));
            report.error(&entry.node.place, message, label);
            whole = false;
        }
    }
    whole.then_some(variant)
}

/// Warns of toggles of `launch` that reach nothing.
pub(super) fn warn_unused(table: &Table, used: &[&str], report: &Report) {
    for (entry, ..) in
        entries(table).filter(|(entry, _, _, reach)| *reach == Reach::Launch && !used.contains(&&*entry.key))
    {
        let message = format!("toggle `{}` has no effect", entry.key);
        let label = "no launch, argument, flag, entry, source or tensor names it";
        let diagnostic = Diagnostic::warning(message).at(&entry.key_place, label);
        report.push(diagnostic.help("a toggle of `launch` is not compiled in; in `macro` it is a macro of the source"));
    }
}

fn default_satisfies(node: &Node, expr: &Expr, space: &Space, given: bool, report: &Report) {
    let place = place_in(node, 0..expr.text().len());
    let label = format!("the default is `{}`", space.label(&space.default));
    match expr.eval_at(&|name| space.value(&space.default, name).cloned()) {
        Ok(value) if value.truth() == Some(true) => {}
        Ok(value) if value.truth().is_none() => {
            report.error(&place, "a constraint must be true or false", "this is a string");
        }
        Ok(_) => {
            let diagnostic =
                Diagnostic::error("the default variant does not satisfy this constraint").at(&place, label);
            report.push(if given {
                diagnostic
            } else {
                diagnostic.help("without `default`, it is the first value of each toggle; give one that satisfies it")
            });
        }
        Err((error, range)) => {
            let place = place_in(node, range);
            report.push(Diagnostic::error(format!("{error}, with the default variant")).at(&place, label));
        }
    }
}

/// A baseline's variant of the same kernel.
pub(super) fn baseline(entry: &Entry, space: &Space, report: &Report) -> Option<Variant> {
    let settings = &entry.node.table()?.entries;
    let variant = variant(settings, space, report)?;
    if let Some((constraint, _)) = space.violated(&variant) {
        let message = format!("this variant does not satisfy `{constraint}`");
        report.error(&entry.node.place, message, format!("it is `{}`", space.label(&variant)));
        return None;
    }
    Some(variant)
}

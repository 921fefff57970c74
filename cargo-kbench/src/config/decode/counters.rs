//! The counters gate: a level, or a table.

use super::super::counters::{Condition, Counters, OF_C, OF_CUDA, Quantifier, Relation, default_conditions, full_name};
use super::super::diagnostics::{Diagnostic, Place, Report};
use super::super::tree::{Node, Table};
use super::super::{Backend, Search};
use super::env::{Env, place_in};
use super::{settings, shapes};

/// Decodes the gate. `backend` is that of the kernel, `None` if its implementation was reported.
pub(super) fn counters(
    node: Option<&Node>,
    env: &Env<'_>,
    search: &Search,
    backend: Option<Backend>,
    report: &Report,
) -> Counters {
    let Some((node, backend)) = node.zip(backend) else { return Counters::default() };
    let empty = Table::default();
    let table = node.table().unwrap_or(&empty);
    let level = settings::level(node.text().or(table.text("level")));
    let (quantifier, list) = match (table.entry("any"), table.entry("all")) {
        (Some(any), Some(all)) => {
            let diagnostic = Diagnostic::error("`any` and `all` in one gate")
                .at(&all.key_place, "")
                .at(&any.key_place, "the other one")
                .help("keep one: of `any` one condition must hold, of `all` every one");
            report.push(diagnostic);
            return Counters::default();
        }
        (Some(any), None) => (Quantifier::Any, Some(&any.node)),
        (None, Some(all)) => (Quantifier::All, Some(&all.node)),
        (None, None) => (Quantifier::Any, None),
    };
    let conditions = match list {
        None => default_conditions(backend),
        Some(list) => {
            if list.elements().is_empty() {
                report.error(&list.place, "counters without a condition", "leave it out for the default conditions");
            }
            list.elements().iter().filter_map(|node| condition(node, backend, report)).collect()
        }
    };
    let shapes = match table.get("shapes") {
        Some(node) => {
            if node.elements().is_empty() {
                report.error(&node.place, "counters at no shape", "leave it out to count at the search's");
            }
            shapes::find_all(node, env, report)
        }
        None => vec![search.shape],
    };
    Counters { level, quantifier, conditions, shapes }
}

/// `metric >= number`.
fn condition(node: &Node, backend: Backend, report: &Report) -> Option<Condition> {
    let text = node.text()?;
    let relation = Relation::ALL.into_iter().find_map(|relation| Some((relation, text.find(relation.symbol())?)));
    let Some((relation, at)) = relation else {
        let diagnostic = Diagnostic::error(format!("`{text}` is not a comparison")).at(&node.place, "");
        report.push(
            diagnostic.help("write a metric, one of `>=`, `<=`, `>`, `<`, and a number: `dram__throughput < 50`"),
        );
        return None;
    };
    let name = text[..at].trim();
    let name_place = place_in(node, offset(text, name)..offset(text, name) + name.len());
    let number = text[at + relation.symbol().len()..].trim();
    let limit = number.parse::<f64>().ok().filter(|limit| limit.is_finite());
    if limit.is_none() {
        let place = place_in(node, offset(text, number)..offset(text, number) + number.len());
        report.error(&place, format!("`{number}` is no number"), "expected one in the metric's unit, percent for most");
    }
    check_name(name, &name_place, backend, report)?;
    Some(Condition { name: name.to_owned(), metric: full_name(name), relation, limit: limit? })
}

fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

fn check_name(name: &str, place: &Place, backend: Backend, report: &Report) -> Option<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c);
    let is_metric = name.split_once("__").is_some_and(|(unit, quantity)| !unit.is_empty() && !quantity.is_empty());
    let of_c = OF_C.contains(&name);
    let known: &[&str] = if backend == Backend::C { &OF_C } else { &OF_CUDA };
    let ours = name.starts_with("perf__") || name.starts_with("roofline__");
    let message = if !is_metric || !name.chars().all(plain) || (ours && !of_c) {
        format!("`{name}` is no metric")
    } else if backend == Backend::C && !of_c {
        format!("`{name}` cannot be counted of a kernel in C")
    } else if backend != Backend::C && name.starts_with("perf__") {
        format!("`{name}` cannot be counted of a kernel in CUDA")
    } else {
        return Some(());
    };
    report.push(Diagnostic::error(message).at(place, "").suggest(name, known.iter().copied()));
    None
}

//! The reference and the baselines.

use kbench_runtime::dtype::DType;

use super::super::diagnostics::{Diagnostic, Report};
use super::super::keys::BASELINE;
use super::super::tree::{Entry, Item, Node, Table};
use super::super::{Baseline, BaselineKind, ProgramBaseline, Reference, ReferenceKind};
use super::correctness;
use super::env::Env;
use super::implementation::{implementation, with_kernel_defaults};
use super::launches::several;
use super::names::{check_name, find};
use super::slot::Slot;
use super::tensors::Tensors;
use super::toggles;
use crate::config::DEFAULT;

pub(super) fn reference(kernel: &Entry, env: &Env<'_>, tensors: &Tensors, report: &Report) -> Option<Reference> {
    let kernel_table = kernel.node.table()?;
    let entry = kernel_table.entry("reference")?;
    let own = entry.node.table()?;
    let precision = match own.text("precision") {
        Some("f32") => DType::F32,
        _ => DType::F64,
    };
    let place = own.get("precision").map_or(&entry.key_place, |node| &node.place).clone();
    if let Some(program) = own.entry("command") {
        for extra in own.entries.iter().filter(|extra| !["command", "precision"].contains(&extra.key.as_str())) {
            let diagnostic = Diagnostic::error(format!("`{}` does not belong to a reference by `command`", extra.key));
            report.push(diagnostic.at(&extra.key_place, "").at(&program.key_place, ""));
        }
        return Some(Reference { kind: ReferenceKind::Command(command(&program.node, report)?), precision, place });
    }
    needs_source_and_args(own, kernel_table, entry, "reference", report);
    let table = with_kernel_defaults(own, kernel_table, false);
    let implementation = implementation(&table, &Slot { noun: "reference", entry, env, tensors, report });
    Some(Reference { kind: ReferenceKind::Function(Box::new(implementation?)), precision, place })
}

/// A function of its own has a source; it takes its arguments from the kernel, unless the kernel has several launches.
fn needs_source_and_args(own: &Table, kernel: &Table, entry: &Entry, noun: &str, report: &Report) {
    if own.get("source").is_none() {
        report.error(&entry.key_place, format!("a {noun} needs `source`"), "");
    }
    if let Some(launches) = several(kernel)
        && several(own).is_none()
        && own.get("args").is_none()
    {
        let diagnostic = Diagnostic::error(format!("a {noun} needs `args`")).at(&entry.key_place, "");
        report.push(diagnostic.at(&launches.key_place, "each of these has its own"));
    }
}

pub(super) fn baselines(
    kernel: &Entry,
    siblings: &[Entry],
    env: &Env<'_>,
    tensors: &Tensors,
    report: &Report,
) -> Vec<Baseline> {
    let Some(table) = kernel.node.table() else { return Vec::new() };
    table
        .entries_of("baselines")
        .iter()
        .filter_map(|entry| {
            check_name("baseline", &entry.key, &entry.key_place, report);
            if entry.key == DEFAULT {
                let message = format!("`{DEFAULT}` is the default variant, which is always measured");
                report.error(&entry.key_place, message, "choose another name");
            }
            let kind = baseline(entry, kernel, siblings, env, tensors, report)?;
            Some(Baseline { name: entry.key.clone(), kind })
        })
        .collect()
}

fn baseline(
    entry: &Entry,
    kernel: &Entry,
    siblings: &[Entry],
    env: &Env<'_>,
    tensors: &Tensors,
    report: &Report,
) -> Option<BaselineKind> {
    const KINDS: [&str; 4] = ["toggles", "kernel", "source", "command"];
    let own = entry.node.table()?;
    let kinds: Vec<&Entry> = own.entries.iter().filter(|entry| KINDS.contains(&entry.key.as_str())).collect();
    let kind = match kinds[..] {
        [kind] => kind,
        [] => {
            let message = format!("baseline `{}` needs one of: {}", entry.key, KINDS.join(", "));
            report.push(Diagnostic::error(message).at(&entry.key_place, ""));
            return None;
        }
        [first, second, ..] => {
            let diagnostic = Diagnostic::error(format!("baseline `{}` takes one of: {}", entry.key, KINDS.join(", ")));
            report.push(diagnostic.at(&second.key_place, "").at(&first.key_place, ""));
            return None;
        }
    };
    if kind.key == "source" {
        needs_source_and_args(own, kernel.node.table()?, entry, "baseline", report);
        if let Some(extra) = own.entry("correctness") {
            // A function has the limits of the kernel.
            report.error(&extra.key_place, "`correctness` does not belong to a baseline by `source`", "");
        }
        let table = with_kernel_defaults(own, kernel.node.table()?, true);
        let slot = Slot { noun: "baseline", entry, env, tensors, report };
        return implementation(&table, &slot)
            .map(|implementation| BaselineKind::Implementation(Box::new(implementation)));
    }
    let belongs = |extra: &Entry| extra.key == kind.key || kind.key == "command" && extra.key == "correctness";
    for extra in own.entries.iter().filter(|extra| !belongs(extra) && is_baseline_key(&extra.key)) {
        let message = format!("`{}` does not belong to a baseline by `{}`", extra.key, kind.key);
        report.error(&extra.key_place, message, "");
    }
    match kind.key.as_str() {
        "toggles" => toggles::baseline(kind, env.space.as_ref()?, report).map(BaselineKind::Variant),
        "kernel" => other_kernel(&kind.node, kernel, siblings, env, report).map(BaselineKind::Kernel),
        _ => {
            let limits = own.get("correctness").and_then(Node::table);
            let correctness = limits.map(|limits| correctness::limits(limits, report));
            command(&kind.node, report).map(|command| BaselineKind::Command(ProgramBaseline { command, correctness }))
        }
    }
}

/// Whether some kind of baseline has this key: other keys were reported as unknown.
fn is_baseline_key(key: &str) -> bool {
    BASELINE.get(key).is_some()
}

pub(super) fn command(node: &Node, report: &Report) -> Option<Vec<String>> {
    let Item::List(words) = &node.item else { return None };
    if words.is_empty() {
        report.error(&node.place, "an empty command", "expected a program and its arguments");
        return None;
    }
    Some(node.texts())
}

fn other_kernel(node: &Node, kernel: &Entry, siblings: &[Entry], env: &Env<'_>, report: &Report) -> Option<String> {
    let others = || siblings.iter().filter(|sibling| sibling.key != kernel.key);
    if node.text() == Some(&kernel.key) {
        let diagnostic = Diagnostic::error("a kernel cannot be its own baseline").at(&node.place, "");
        report.push(diagnostic.help("`toggles = { … }` names another variant of it"));
        return None;
    }
    let index = find(node, "kernel", others().map(|other| other.key.as_str()), report)?;
    let other = others().nth(index)?;
    for shape in env.named_shapes() {
        let theirs = other.node.table()?.entries_of("shapes").iter().find(|theirs| theirs.key == shape.name);
        let Some(theirs) = theirs.and_then(|theirs| theirs.node.table()) else {
            let message = format!("kernel `{}` has no shape `{}`", other.key, shape.name);
            report.error(&node.place, message, "a baseline is measured at the shape of the same name");
            continue;
        };
        let same = |(dim, size): &(String, i64)| theirs.get(dim).and_then(Node::integer) == Some(*size);
        if theirs.entries.len() != shape.dims.len() || !shape.dims.iter().all(same) {
            let message = format!("shape `{}` of kernel `{}` has other sizes", shape.name, other.key);
            report.error(&node.place, message, "two problems cannot be compared");
        }
    }
    Some(other.key.clone())
}

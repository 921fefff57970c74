//! The launches of an implementation: one, from the table itself, or several, from the tables in `launches`.

use std::path::Path;

use super::super::diagnostics::{Diagnostic, Place};
use super::super::keys::KERNEL;
use super::super::tree::{Entry, Node, Table};
use super::super::{Arg, ArgValue, Backend, CPP_EXTENSIONS, Launch, Layout, Word, is_cpp};
use super::args::{args, places};
use super::env::Need;
use super::names::{find, is_identifier};
use super::slot::Slot;
use crate::expr::{Brackets, Expr, Template};
use crate::text::list;

/// Keys for GPUs only.
const GEOMETRY: [&str; 5] = ["grid", "block", "cluster", "dynamic_shared", "cooperative"];

/// The key of several launches.
pub(super) const LAUNCHES: &str = "launches";

/// The entry `launches`, unless it is inherited and the table itself describes one launch.
pub(super) fn several(table: &Table) -> Option<&Entry> {
    let own_entry = table.entry("entry").is_some_and(|entry| !entry.inherited);
    table.entry(LAUNCHES).filter(|launches| !(launches.inherited && own_entry))
}

pub(super) fn launches(table: &Table, backend: Option<Backend>, slot: &Slot<'_>) -> Option<Vec<Launch>> {
    let Some(entry) = several(table) else {
        needs_entry_and_args(table, slot);
        let args = args(table, backend, slot);
        let the_kernels = slot.noun != "kernel" && table.entry("args").is_some_and(|args| args.inherited);
        if let (Some(args), Some(node), false) = (&args, table.get("args"), the_kernels) {
            all_outputs_are_written(node, args, "it is not among these arguments", slot);
        }
        let launch = launch(table, args, backend, &slot.entry.key_place, slot);
        names_of_c(table, backend, table.get("entry"), slot);
        return launch.map(|launch| vec![launch]);
    };
    says_one_launch_too(table, entry, slot);
    let nodes = entry.node.elements();
    if nodes.is_empty() {
        slot.report.error(&entry.node.place, "`launches` is empty", "expected one launch or more");
        return None;
    }
    let before = slot.report.errors();
    let launches: Vec<Launch> = nodes
        .iter()
        .filter_map(|node| {
            let table = node.table()?;
            let args = args(table, backend, slot);
            Some(launch(table, args, backend, &node.place, slot)?.conditional(table, slot))
        })
        .collect();
    if slot.report.errors() > before || launches.len() < nodes.len() {
        return None;
    }
    names_of_c(table, backend, nodes.iter().filter_map(|node| node.table()?.get("entry")), slot);
    let args = launches.iter().flat_map(|launch| &launch.args);
    all_outputs_are_written(&entry.node, args, "no launch has it among its `args`", slot);
    same_signature(nodes, &launches, slot);
    some_launch_runs(entry, &launches, slot);
    Some(launches)
}

/// Keys of one launch beside `launches`.
fn says_one_launch_too(table: &Table, launches: &Entry, slot: &Slot<'_>) {
    let of_one =
        table.entries.iter().filter(|entry| ["entry", "args"].contains(&&*entry.key) || is_geometry(&entry.key));
    for entry in of_one.filter(|entry| !entry.inherited) {
        let message = format!("`{}` and `launches` exclude each other", entry.key);
        let diagnostic = Diagnostic::error(message).at(&entry.key_place, "").at(&launches.key_place, "");
        slot.report.push(diagnostic.help(format!("each table in `launches` has its own `{}`", entry.key)));
    }
}

fn is_geometry(key: &str) -> bool {
    GEOMETRY.contains(&key)
}

/// A kernel without `launches` describes its one launch itself.
fn needs_entry_and_args(table: &Table, slot: &Slot<'_>) {
    let needed: &[&str] = if slot.noun == "kernel" { &["entry", "args"] } else { &["entry"] };
    for name in needed.iter().filter(|key| table.get(key).is_none()) {
        let diagnostic = Diagnostic::error(format!("a {} needs `{name}`", slot.noun)).at(&slot.entry.key_place, "");
        slot.report.push(match KERNEL.get(name).filter(|_| slot.noun == "kernel") {
            Some(key) => diagnostic.help(format!("`{name}`: {}", key.doc)),
            None => diagnostic,
        });
    }
}

/// The launch of a table; errors about missing keys are placed at `place`.
fn launch(
    table: &Table,
    args: Option<Vec<Arg>>,
    backend: Option<Backend>,
    place: &Place,
    slot: &Slot<'_>,
) -> Option<Launch> {
    let entry = table.get("entry").and_then(|node| entry(node, slot));
    let sizes = |key: &str, need| sizes(table, key, need, slot);
    let (grid, block, cluster) = (sizes("grid", Need::Grid), sizes("block", Need::Size), sizes("cluster", Need::Size));
    let dynamic_shared =
        table.get("dynamic_shared").and_then(|node| slot.env.expr(node, "dynamic_shared", Need::Bytes));
    match backend {
        Some(Backend::Cuda) => needs_grid_and_block(table, place, slot),
        Some(Backend::C) => warn_unused_keys(table, slot),
        Some(Backend::Fake) | None => {}
    }
    let launched = backend != Some(Backend::C);
    let args = args?;
    let places = places(table, &args, slot);
    let on_gpu = |sizes: Vec<Expr>| if launched { sizes } else { Vec::new() };
    Some(Launch {
        entry: entry?,
        grid: on_gpu(grid),
        block: on_gpu(block),
        cluster: on_gpu(cluster),
        dynamic_shared: dynamic_shared.filter(|_| launched),
        cooperative: launched && table.get("cooperative").and_then(Node::bool).unwrap_or(false),
        args,
        places,
        when: None,
        zero: Vec::new(),
    })
}

impl Launch {
    /// The launch with its condition and the tensors that are zeroed before it.
    fn conditional(mut self, table: &Table, slot: &Slot<'_>) -> Self {
        self.when = table.get("when").and_then(|node| slot.env.expr(node, "when", Need::Truth));
        if let (Some(when), Some(node)) = (&self.when, table.get("when"))
            && slot.env.is_never_true(when)
        {
            let message = format!("`{}` is never launched", self.entry.text());
            slot.report.error(&node.place, message, "this is false at every shape with every variant");
        }
        for node in table.get("zero").map(Node::elements).unwrap_or_default() {
            let Some(tensor) = find(node, "tensor", slot.tensors.names(), slot.report) else { continue };
            let is_input = slot.tensors.list.get(tensor).is_some_and(|tensor| tensor.role.is_read());
            if is_input {
                let name = node.text().unwrap_or_default();
                slot.report.error(&node.place, format!("`{name}` is an input"), "only outputs and scratch are zeroed");
            }
            self.zero.push(tensor);
        }
        self
    }
}

/// Functions in C have no qualified names.
fn names_of_c<'n>(
    table: &Table,
    backend: Option<Backend>,
    entries: impl IntoIterator<Item = &'n Node>,
    slot: &Slot<'_>,
) {
    let (Some(Backend::C), Some(source)) = (backend, table.text("source")) else { return };
    let path = Path::new(source);
    if is_cpp(path) {
        return;
    }
    for node in entries {
        if let Some(entry) = node.text().filter(|entry| entry.contains(['<', ':'])) {
            let message = format!("`{entry}` is a name in C++, and `{source}` is C");
            let known = list(&CPP_EXTENSIONS.map(|extension| format!(".{extension}")));
            let diagnostic = Diagnostic::error(message).at(&node.place, "expected a C identifier");
            slot.report.push(diagnostic.help(format!("sources in C++ end in {known}")));
        }
    }
}

fn entry(node: &Node, slot: &Slot<'_>) -> Option<Template> {
    let entry = slot.env.function(node, "entry")?;
    let text = entry.text();
    let (mut brackets, mut name) = (Brackets::default(), String::new());
    for char in text.chars() {
        let outside = brackets.is_empty();
        brackets.step(char);
        if outside && brackets.is_empty() {
            name.push(char);
        }
    }
    // The expression in braces may be the whole name.
    let is_name = |part: &str| is_identifier(&format!("_{part}")) && (!part.is_empty() || text.contains('{'));
    let plain = name.trim().trim_start_matches("::");
    if !brackets.is_empty()
        || !plain.split("::").all(|part| is_name(part.trim()))
        || plain.starts_with(|c: char| c.is_ascii_digit())
    {
        let label = "expected a C identifier, or a C++ name such as `ns::kernel<float, TILE>`";
        slot.report.error(&node.place, format!("`{text}` is no function name"), label);
        return None;
    }
    Some(entry)
}

fn sizes(table: &Table, key: &str, need: Need, slot: &Slot<'_>) -> Vec<Expr> {
    let Some(node) = table.get(key) else { return Vec::new() };
    let count = node.elements().len();
    if !(1..=3).contains(&count) {
        slot.report.error(
            &node.place,
            format!("`{key}` has one to three sizes: x, y and z"),
            format!("this has {count}"),
        );
    }
    slot.env.exprs(node, key, need)
}

fn needs_grid_and_block(table: &Table, place: &Place, slot: &Slot<'_>) {
    for key in ["grid", "block"] {
        if table.get(key).is_none() {
            let message = format!("a CUDA {} needs `{key}`", slot.noun);
            slot.report.error(place, message, "");
        }
    }
}

fn warn_unused_keys(table: &Table, slot: &Slot<'_>) {
    for key in GEOMETRY {
        // An inherited key is for the kernels that can use it.
        if let Some(entry) = table.entry(key).filter(|entry| !entry.inherited) {
            let message = format!("`{key}` is not used: a C {} is called, not launched", slot.noun);
            slot.report.push(Diagnostic::warning(message).at(&entry.key_place, ""));
        }
    }
}

/// An output that is not an argument is never written.
fn all_outputs_are_written<'a>(node: &Node, args: impl IntoIterator<Item = &'a Arg>, label: &str, slot: &Slot<'_>) {
    let passed: Vec<usize> = args.into_iter().flat_map(Arg::tensors).collect();
    for (_, tensor) in slot.tensors.outputs().filter(|(index, _)| !passed.contains(index)) {
        let message = format!("the {} does not get the output `{}`", slot.noun, tensor.name);
        slot.report.error(&node.place, message, label);
    }
}

/// Checks that all launches of one function pass arguments of the same types.
fn same_signature(nodes: &[Node], launches: &[Launch], slot: &Slot<'_>) {
    let types = |launch: &Launch| -> Vec<String> {
        let of = |arg: &Arg| match arg {
            Arg::Value(ArgValue::Tensor(tensor) | ArgValue::Offset { tensor, .. }) => {
                Some(format!("a tensor of {}", slot.tensors.list.get(*tensor)?.dtype))
            }
            Arg::Value(ArgValue::Struct { fields, .. }) => {
                Some(format!("a struct of {} bytes", Layout::of(fields).bytes))
            }
            Arg::Value(ArgValue::Scalar { word: Some(Word::Bool), .. }) => Some("a bool".to_owned()),
            Arg::Value(ArgValue::Scalar { word: Some(Word::Char), .. }) => Some("a char".to_owned()),
            Arg::Value(ArgValue::Scalar { dtype, .. }) => Some(format!("a scalar of {dtype}")),
            Arg::TensorMap(_) => Some("a tensor map".to_owned()),
            Arg::Symbol { .. } => None,
        };
        launch.args.iter().filter_map(of).collect()
    };
    for (at, (node, launch)) in nodes.iter().zip(launches).enumerate() {
        let Some(first) = launches[..at].iter().position(|other| other.entry.text() == launch.entry.text()) else {
            continue;
        };
        if types(&launches[first]) != types(launch) {
            let message = format!("two launches of `{}` have arguments of different types", launch.entry.text());
            let diagnostic = Diagnostic::error(message).at(&node.place, types(launch).join(", "));
            slot.report.push(diagnostic.at(&nodes[first].place, types(&launches[first]).join(", ")));
        }
    }
}

/// If every launch has a condition, checks that one is true at each shape with the default variant.
fn some_launch_runs(entry: &Entry, launches: &[Launch], slot: &Slot<'_>) {
    let conditions: Option<Vec<&Expr>> = launches.iter().map(|launch| launch.when.as_ref()).collect();
    let Some(conditions) = conditions else { return };
    if let Some(shape) = slot.env.shape_where_none_holds(&conditions) {
        let label = format!("no `when` is true at shape `{shape}` with the default variant");
        slot.report.error(&entry.node.place, format!("the {} launches nothing", slot.noun), label);
    }
}

//! A function in a source file and how to launch it: a kernel, its reference, an inline baseline.

use std::path::{Path, PathBuf};

use kbench_runtime::dtype::DType;

use super::super::diagnostics::{Diagnostic, Place, Report};
use super::super::keys::ARG;
use super::super::tree::{Entry, Item, Node, Table};
use super::super::{Arg, Backend, Flag, Implementation};
use super::env::{Env, Need};
use super::names::{check_macro, find, is_identifier};
use super::tensors::Tensors;
use crate::expr::{Brackets, Expr, Template};
use crate::space::{Variant, macro_text};

/// What an implementation is decoded for.
#[derive(Clone, Copy)]
pub(super) struct Slot<'s> {
    /// "kernel", "reference" or "baseline".
    pub(super) noun: &'static str,
    /// The table's entry: what is missing is missing there.
    pub(super) entry: &'s Entry,
    pub(super) env: &'s Env<'s>,
    pub(super) tensors: &'s Tensors,
    pub(super) report: &'s Report,
}

/// Keys that only mean something on a GPU.
const LAUNCH_KEYS: [&str; 5] = ["grid", "block", "cluster", "dynamic_shared", "cooperative"];

pub(super) fn implementation(table: &Table, slot: &Slot<'_>) -> Option<Implementation> {
    let backend = backend(table, slot);
    let source = table.get("source").and_then(|node| source_of(node, slot));
    let entry = table.get("entry").and_then(|node| entry(node, slot));
    let flags = flags(table, slot);
    let defines = defines(table, slot);
    let sizes = |key: &str, need| sizes(table, key, need, slot);
    let (grid, block, cluster) = (sizes("grid", Need::Grid), sizes("block", Need::Size), sizes("cluster", Need::Size));
    let dynamic_shared =
        table.get("dynamic_shared").and_then(|node| slot.env.expr(node, "dynamic_shared", Need::Bytes));
    let args = args(table, backend, slot);
    let places = places(table, &args, slot);
    match backend {
        Some(Backend::Cuda) => needs_grid_and_block(table, slot),
        Some(Backend::C) => warn_unused_keys(table, slot),
        Some(Backend::Fake) | None => {}
    }
    let launched = backend != Some(Backend::C);
    let on_gpu = |sizes: Vec<Expr>| if launched { sizes } else { Vec::new() };
    let (source, source_of) = source?;
    Some(Implementation {
        backend: backend?,
        source,
        source_of,
        source_root: table.get("source")?.place.source.directory().to_owned(),
        entry: entry?,
        flags,
        defines,
        grid: on_gpu(grid),
        block: on_gpu(block),
        cluster: on_gpu(cluster),
        dynamic_shared: dynamic_shared.filter(|_| launched),
        cooperative: launched && table.get("cooperative").and_then(Node::bool).unwrap_or(false),
        args,
        places,
    })
}

/// Where the type of each argument is said: that of a tensor where it is declared.
fn places(table: &Table, args: &[Arg], slot: &Slot<'_>) -> Vec<Place> {
    let nodes = table.get("args").map(Node::elements).unwrap_or_default();
    let place = |(arg, node): (&Arg, &Node)| match arg {
        Arg::Tensor(tensor) => slot.tensors.list.get(*tensor).map_or(&node.place, |tensor| &tensor.place).clone(),
        _ => node.table().and_then(|table| table.get("scalar")).map_or(&node.place, |scalar| &scalar.place).clone(),
    };
    args.iter().zip(nodes).map(place).collect()
}

/// The backend that the table says, or else the source's extension.
pub(super) fn stated_backend(table: &Table) -> Option<Backend> {
    match table.text("backend") {
        Some("cuda") => Some(Backend::Cuda),
        Some("c") => Some(Backend::C),
        Some("fake") => Some(Backend::Fake),
        Some(_) => None,
        None => match Path::new(table.text("source")?).extension()?.to_str()? {
            "cu" => Some(Backend::Cuda),
            "c" => Some(Backend::C),
            _ => None,
        },
    }
}

fn backend(table: &Table, slot: &Slot<'_>) -> Option<Backend> {
    let backend = stated_backend(table);
    if backend.is_none()
        && table.get("backend").is_none()
        && let Some(source) = table.get("source")
    {
        let diagnostic = Diagnostic::error(format!("which `backend` is this {} for?", slot.noun))
            .at(&source.place, "the extension does not say it")
            .help("say `backend = \"cuda\"` or `backend = \"c\"`");
        slot.report.push(diagnostic);
    }
    backend
}

/// The path, relative to the manifest that says it; it must be a file.
pub(super) fn source(node: &Node, report: &Report) -> Option<PathBuf> {
    let path = node.place.source.directory().join(node.text()?);
    if path.is_file() {
        return Some(path);
    }
    let label = if path.exists() { "not a file" } else { "no such file" };
    let message = format!("cannot find `{}`", node.text()?);
    let diagnostic = Diagnostic::error(message).at(&node.place, label);
    report.push(diagnostic.help("paths are relative to the manifest that says them"));
    None
}

/// The source with the default variant, and the template where toggles choose it. All files that they may choose must be there.
fn source_of(node: &Node, slot: &Slot<'_>) -> Option<(PathBuf, Option<Template>)> {
    if !node.text()?.contains(['{', '}']) {
        return Some((source(node, slot.report)?, None));
    }
    let template = slot.env.template(node, "source")?;
    let Some(space) = &slot.env.space else { return None };
    let names: Vec<&str> = template.exprs().flat_map(|(expr, _)| expr.names()).collect();
    if let Some(dim) = names.iter().find(|name| space.toggle(name).is_none()) {
        slot.report.error(&node.place, format!("`{dim}` is a dimension, and a source is chosen by toggles"), "");
        return None;
    }
    let directory = node.place.source.directory();
    let path = |variant: &Variant| {
        let value = |expr: &Expr| expr.eval(&|name| space.value(variant, name).cloned());
        template.fill(&value, macro_text).map(|text| directory.join(text))
    };
    let chosen = |variant: &Variant| -> String {
        let named = space.get(variant).filter(|(name, _)| names.contains(name));
        named.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    for variant in space.with_all_values(&names) {
        let path = match path(&variant) {
            Ok(path) if path.is_file() => continue,
            Ok(path) => path,
            Err(error) => {
                slot.report.error(&node.place, error.to_string(), format!("with `{}`", chosen(&variant)));
                return None;
            }
        };
        let name = path.strip_prefix(directory).unwrap_or(&path).display();
        let diagnostic = Diagnostic::error(format!("cannot find `{name}`"))
            .at(&node.place, format!("no such file, with `{}`", chosen(&variant)));
        slot.report.push(diagnostic.help("paths are relative to the manifest that says them"));
        return None;
    }
    Some((path(&space.default).ok()?, Some(template)))
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
    // What braces stand for may be all of a name.
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

fn flags(table: &Table, slot: &Slot<'_>) -> Vec<Flag> {
    let Some(Item::List(nodes)) = table.get("flags").map(|node| &node.item) else { return Vec::new() };
    let flag = |node: &Node| {
        let Some(conditional) = node.table() else {
            return Some(Flag { text: slot.env.template(node, "flags")?, when: None });
        };
        let text = slot.env.template(conditional.get("flag")?, "flag");
        let when = slot.env.expr(conditional.get("when")?, "when", Need::Truth);
        Some(Flag { text: text?, when: Some(when?) })
    };
    nodes.iter().filter_map(flag).collect()
}

fn defines(table: &Table, slot: &Slot<'_>) -> Vec<(String, Expr)> {
    let mut defines = Vec::new();
    for define in table.entries_of("defines") {
        check_macro(&define.key, &define.key_place, slot.report);
        if slot.env.has_toggle(&define.key) {
            let message = format!("`{}` is a toggle too", define.key);
            slot.report.error(&define.key_place, message, "a macro has one definition");
        }
        if let Some(value) = slot.env.expr(&define.node, &define.key, Need::Value) {
            defines.push((define.key.clone(), value));
        }
    }
    defines
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

fn needs_grid_and_block(table: &Table, slot: &Slot<'_>) {
    for key in ["grid", "block"] {
        if table.get(key).is_none() {
            let message = format!("a CUDA {} needs `{key}`", slot.noun);
            slot.report.error(&slot.entry.key_place, message, "");
        }
    }
}

fn warn_unused_keys(table: &Table, slot: &Slot<'_>) {
    for key in LAUNCH_KEYS {
        // An inherited key is meant for the kernels that it suits.
        if let Some(entry) = table.entry(key).filter(|entry| !entry.inherited) {
            let message = format!("`{key}` is not used: a C {} is called, not launched", slot.noun);
            slot.report.push(Diagnostic::warning(message).at(&entry.key_place, ""));
        }
    }
}

fn args(table: &Table, backend: Option<Backend>, slot: &Slot<'_>) -> Vec<Arg> {
    let Some(Entry { node, inherited, .. }) = table.entry("args") else { return Vec::new() };
    let Item::List(nodes) = &node.item else { return Vec::new() };
    let the_kernels = *inherited && slot.noun != "kernel";
    let before = slot.report.errors();
    let args: Vec<Arg> = nodes.iter().filter_map(|node| arg(node, backend, slot)).collect();
    if slot.report.errors() == before && args.len() == nodes.len() && !the_kernels {
        all_outputs_are_written(node, &args, slot);
    }
    args
}

/// An output that is no argument is never written, and would compare equal to nothing.
fn all_outputs_are_written(node: &Node, args: &[Arg], slot: &Slot<'_>) {
    for (index, tensor) in slot.tensors.outputs() {
        let passed = args.iter().any(|arg| match arg {
            Arg::Tensor(passed) | Arg::TensorMap { tensor: passed, .. } | Arg::Symbol { tensor: passed, .. } => {
                *passed == index
            }
            Arg::Scalar { .. } => false,
        });
        if !passed {
            let message = format!("the {} does not get the output `{}`", slot.noun, tensor.name);
            slot.report.error(&node.place, message, "it is not among these arguments");
        }
    }
}

fn arg(node: &Node, backend: Option<Backend>, slot: &Slot<'_>) -> Option<Arg> {
    let table = match &node.item {
        Item::Text(_) => return tensor(node, slot).map(Arg::Tensor),
        Item::Table(table) => table,
        _ => return None,
    };
    // Which kind it is, and the keys of that kind.
    let kinds: [(&str, &[&str]); 3] =
        [("scalar", &["value"]), ("tensor_map", &["dims", "box", "swizzle"]), ("symbol", &["tensor"])];
    let Some((kind, keys)) = kinds.iter().find(|(kind, _)| table.get(kind).is_some()) else {
        let message = "an argument is a tensor's name, a `scalar`, a `tensor_map` or a `symbol`";
        slot.report.error(&node.place, message, "none of these");
        return None;
    };
    for entry in &table.entries {
        if entry.key != *kind && !keys.contains(&entry.key.as_str()) && ARG.get(&entry.key).is_some() {
            let message = format!("`{}` does not belong to a `{kind}`", entry.key);
            slot.report.error(&entry.key_place, message, "");
        }
    }
    if *kind != "scalar" && backend == Some(Backend::C) {
        let message = format!("the {} is a C function: it has no `{kind}`", slot.noun);
        let diagnostic = Diagnostic::error(message).at(&node.place, "only CUDA has these");
        slot.report.push(if slot.noun == "kernel" { diagnostic } else { diagnostic.help("give it `args` of its own") });
    }
    match *kind {
        "scalar" => scalar(table, node, slot),
        "tensor_map" => tensor_map(table, node, slot),
        _ => symbol(table, node, slot),
    }
}

fn tensor(node: &Node, slot: &Slot<'_>) -> Option<usize> {
    // That there are none was reported.
    slot.tensors.names().next()?;
    find(node, "tensor", slot.tensors.names(), slot.report)
}

fn missing(kind: &str, key: &str, node: &Node, slot: &Slot<'_>) {
    slot.report.error(&node.place, format!("a `{kind}` needs `{key}`"), "");
}

fn scalar(table: &Table, node: &Node, slot: &Slot<'_>) -> Option<Arg> {
    let Some(value) = table.get("value") else {
        missing("scalar", "value", node, slot);
        return None;
    };
    let dtype: DType = table.text("scalar")?.parse().ok()?;
    let value = slot.env.expr(value, "value", Need::Scalar(dtype))?;
    Some(Arg::Scalar { dtype, value })
}

fn tensor_map(table: &Table, node: &Node, slot: &Slot<'_>) -> Option<Arg> {
    let index = table.get("tensor_map").and_then(|node| tensor(node, slot));
    let dims = table.get("dims").map(|node| slot.env.exprs(node, "dims", Need::Dimension)).unwrap_or_default();
    let Some(box_node) = table.get("box") else {
        missing("tensor_map", "box", node, slot);
        return None;
    };
    let r#box = slot.env.exprs(box_node, "box", Need::Size);
    let swizzle = table.get("swizzle").map_or(Some(0), Node::integer)?;
    if ![0, 32, 64, 128].contains(&swizzle) {
        slot.report.error(&table.get("swizzle")?.place, "`swizzle` must be 0, 32, 64 or 128", "bytes");
    }
    let tensor = index?;
    let rank = if dims.is_empty() { slot.tensors.list.get(tensor)?.dims.len() } else { dims.len() };
    if box_node.elements().len() != rank && slot.tensors.whole {
        let message = format!("the box has {} sizes, the tensor map {rank}", box_node.elements().len());
        slot.report.error(&box_node.place, message, "one for each dimension, outermost first");
    }
    Some(Arg::TensorMap { tensor, dims, r#box, swizzle: swizzle as u32 })
}

fn symbol(table: &Table, node: &Node, slot: &Slot<'_>) -> Option<Arg> {
    let symbol = table.text("symbol")?;
    if !is_identifier(symbol) {
        let place = &table.get("symbol")?.place;
        slot.report.error(place, format!("`{symbol}` is no symbol"), "expected a C identifier");
    }
    let Some(tensor_node) = table.get("tensor") else {
        missing("symbol", "tensor", node, slot);
        return None;
    };
    Some(Arg::Symbol { symbol: symbol.to_owned(), tensor: tensor(tensor_node, slot)? })
}

/// The table of a reference or a baseline, with what it leaves out taken from its kernel's. On another backend
/// only arguments and macros mean the same. A launch is taken over whole or not at all, except that a grid or a block
/// alone may be replaced.
pub(super) fn with_kernel_defaults(own: &Table, kernel: &Table, flags_too: bool) -> Table {
    let mut table = own.clone();
    let mut take = |key: &str| {
        if let (None, Some(entry)) = (own.entry(key), kernel.entry(key)) {
            table.entries.push(Entry { inherited: true, ..entry.clone() });
        }
    };
    take("args");
    take("defines");
    let kernel_backend = stated_backend(kernel);
    let backend = stated_backend(own).or(if own.get("backend").is_none() { kernel_backend } else { None });
    if stated_backend(own).is_none() {
        take("backend");
    }
    if backend == kernel_backend {
        if flags_too {
            take("flags");
        }
        take("grid");
        take("block");
        if own.entry("grid").is_none() && own.entry("block").is_none() {
            ["cluster", "dynamic_shared", "cooperative"].into_iter().for_each(take);
        }
    }
    table
}

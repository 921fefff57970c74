//! Arguments of a launch.

use kbench_runtime::dtype::DType;

use super::super::diagnostics::{Diagnostic, Place};
use super::super::keys::ARG;
use super::super::tree::{Item, Node, Table};
use super::super::{Arg, Backend};
use super::env::Need;
use super::implementation::Slot;
use super::names::{find, is_identifier};

/// Where the type of each argument is said: that of a tensor where it is declared.
pub(super) fn places(table: &Table, args: &[Arg], slot: &Slot<'_>) -> Vec<Place> {
    let nodes = table.get("args").map(Node::elements).unwrap_or_default();
    let place = |(arg, node): (&Arg, &Node)| match arg {
        Arg::Tensor(tensor) => slot.tensors.list.get(*tensor).map_or(&node.place, |tensor| &tensor.place).clone(),
        _ => node.table().and_then(|table| table.get("scalar")).map_or(&node.place, |scalar| &scalar.place).clone(),
    };
    args.iter().zip(nodes).map(place).collect()
}

/// The arguments that a table says; `None` where it says none or one of them is wrong.
pub(super) fn args(table: &Table, backend: Option<Backend>, slot: &Slot<'_>) -> Option<Vec<Arg>> {
    let Item::List(nodes) = &table.get("args")?.item else { return None };
    let before = slot.report.errors();
    let args: Vec<Arg> = nodes.iter().filter_map(|node| arg(node, backend, slot)).collect();
    (slot.report.errors() == before && args.len() == nodes.len()).then_some(args)
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

//! Arguments of a launch.

use kbench_runtime::dtype::DType;

use super::super::diagnostics::{Diagnostic, Place};
use super::super::keys::ARG;
use super::super::tree::{Item, Node, Table};
use super::super::{Arg, ArgValue, Backend, TensorMap, Word};
use super::env::Need;
use super::names::{find, is_identifier};
use super::slot::Slot;

/// Place of the type of each argument: for a tensor the place of its declaration.
pub(super) fn places(table: &Table, args: &[Arg], slot: &Slot<'_>) -> Vec<Place> {
    let nodes = table.get("args").map(Node::elements).unwrap_or_default();
    let place = |(arg, node): (&Arg, &Node)| match arg {
        Arg::Value(ArgValue::Tensor(tensor) | ArgValue::Offset { tensor, .. }) => {
            slot.tensors.list.get(*tensor).map_or(&node.place, |tensor| &tensor.place).clone()
        }
        _ => node.table().and_then(|table| table.get("scalar")).map_or(&node.place, |scalar| &scalar.place).clone(),
    };
    args.iter().zip(nodes).map(place).collect()
}

/// The arguments of a table; `None` if it has none or one of them is wrong.
pub(super) fn args(table: &Table, backend: Option<Backend>, slot: &Slot<'_>) -> Option<Vec<Arg>> {
    let Item::List(nodes) = &table.get("args")?.item else { return None };
    let before = slot.report.errors();
    let args: Vec<Arg> = nodes.iter().filter_map(|node| arg(node, backend, slot)).collect();
    (slot.report.errors() == before && args.len() == nodes.len()).then_some(args)
}

fn arg(node: &Node, backend: Option<Backend>, slot: &Slot<'_>) -> Option<Arg> {
    let table = match &node.item {
        Item::Text(_) => return tensor(node, slot).map(|tensor| Arg::Value(ArgValue::Tensor(tensor))),
        Item::Table(table) => table,
        _ => return None,
    };
    // Each kind of argument, with its keys.
    let kinds: [(&str, &[&str]); 5] = [
        ("scalar", &["value"]),
        ("tensor_map", &["dims", "box", "swizzle"]),
        ("symbol", &["tensor"]),
        ("struct", &["type"]),
        ("tensor", &["offset"]),
    ];
    let Some((kind, keys)) = kinds.iter().find(|(kind, _)| table.get(kind).is_some()) else {
        let message = "an argument is a tensor's name, a `scalar`, a `struct`, a `tensor` with an `offset`, a `tensor_map` or a `symbol`";
        slot.report.error(&node.place, message, "none of these");
        return None;
    };
    for entry in &table.entries {
        if entry.key != *kind && !keys.contains(&entry.key.as_str()) && ARG.get(&entry.key).is_some() {
            let message = format!("`{}` does not belong to a `{kind}`", entry.key);
            slot.report.error(&entry.key_place, message, "");
        }
    }
    if ["tensor_map", "symbol"].contains(kind) && backend == Some(Backend::C) {
        let message = format!("the {} is a C function: it has no `{kind}`", slot.noun);
        let diagnostic = Diagnostic::error(message).at(&node.place, "only CUDA has these");
        slot.report.push(if slot.noun == "kernel" { diagnostic } else { diagnostic.help("give it `args` of its own") });
    }
    match *kind {
        "scalar" => scalar(table, node, slot).map(Arg::Value),
        "tensor_map" => tensor_map(table, node, slot).map(Arg::TensorMap),
        "struct" => structure(table, node, backend, slot).map(Arg::Value),
        "tensor" => offset(table, node, slot).map(Arg::Value),
        _ => symbol(table, node, slot),
    }
}

fn tensor(node: &Node, slot: &Slot<'_>) -> Option<usize> {
    // Missing tensors were reported.
    slot.tensors.names().next()?;
    find(node, "tensor", slot.tensors.names(), slot.report)
}

fn missing(kind: &str, key: &str, node: &Node, slot: &Slot<'_>) {
    slot.report.error(&node.place, format!("a `{kind}` needs `{key}`"), "");
}

fn scalar(table: &Table, node: &Node, slot: &Slot<'_>) -> Option<ArgValue> {
    let Some(value) = table.get("value") else {
        missing("scalar", "value", node, slot);
        return None;
    };
    let (dtype, word, need) = match table.text("scalar")? {
        "bool" => (DType::U8, Some(Word::Bool), Need::Truth),
        "char" => (DType::I8, Some(Word::Char), Need::Scalar(DType::I8)),
        name => {
            let dtype: DType = name.parse().ok()?;
            (dtype, None, Need::Scalar(dtype))
        }
    };
    let value = slot.env.expr(value, "value", need)?;
    Some(ArgValue::Scalar { dtype, word, value })
}

/// A tensor from an element on.
fn offset(table: &Table, node: &Node, slot: &Slot<'_>) -> Option<ArgValue> {
    let tensor = table.get("tensor").and_then(|node| tensor(node, slot));
    let Some(offset_node) = table.get("offset") else {
        missing("tensor", "offset", node, slot);
        return None;
    };
    let (offset, tensor) = (slot.env.expr(offset_node, "offset", Need::Count)?, tensor?);
    if let Some(target) = slot.tensors.list.get(tensor) {
        for (shape, elements) in slot.env.elements(&target.dims) {
            let Some(&[at]) = slot.env.sizes(shape, std::slice::from_ref(&offset)).as_deref() else { continue };
            // The address behind the last element is one that C has.
            if i64::try_from(at).is_ok_and(|at| at > elements) {
                let label = format!("{at} at shape `{}` with the default variant", shape.name);
                let message = format!("`offset` is beyond the {elements} elements of `{}`", target.name);
                slot.report.error(&offset_node.place, message, label);
                break;
            }
        }
    }
    Some(ArgValue::Offset { tensor, offset })
}

fn structure(table: &Table, node: &Node, backend: Option<Backend>, slot: &Slot<'_>) -> Option<ArgValue> {
    let nodes = table.get("struct")?.elements();
    if nodes.is_empty() {
        slot.report.error(&node.place, "a `struct` has no fields", "expected one or more");
        return None;
    }
    let ty = table.text("type").map(str::to_owned);
    match &ty {
        Some(name) if !name.split(' ').flat_map(|word| word.split("::")).all(is_identifier) => {
            let place = &table.get("type")?.place;
            slot.report.error(place, format!("`{name}` is no type"), "expected a name, as in `view` or `struct view`");
        }
        None if backend == Some(Backend::C) => {
            let message = format!("the {} is a C function: its `struct` needs `type`", slot.noun);
            let diagnostic = Diagnostic::error(message).at(&node.place, "");
            let name = "its name in the source: `type = \"struct view\"`";
            slot.report.push(diagnostic.help(if slot.noun == "kernel" {
                name.to_owned()
            } else {
                format!("{name}; without `args` of its own, the {} has those of the kernel", slot.noun)
            }));
        }
        _ => {}
    }
    let mut fields = Vec::new();
    for node in nodes {
        // A struct in a struct has no name of its own.
        match arg(node, None, slot)? {
            Arg::Value(field) => fields.push(field),
            Arg::TensorMap(_) | Arg::Symbol { .. } => {
                slot.report.error(&node.place, "a `struct` holds tensors, scalars and structs", "");
            }
        }
    }
    Some(ArgValue::Struct { ty, fields })
}

fn tensor_map(table: &Table, node: &Node, slot: &Slot<'_>) -> Option<TensorMap> {
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
    Some(TensorMap { tensor, dims, r#box, swizzle: swizzle as u32 })
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

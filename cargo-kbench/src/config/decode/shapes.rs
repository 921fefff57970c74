//! Shapes: named sizes, the same dimensions in each.

use super::super::Shape;
use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Entry, Node, Table};
use super::names::{check_name, check_variable};

/// Shapes and the names of their dimensions.
pub(super) struct Shapes {
    /// The shapes of the table, then those that are only checked.
    pub(super) shapes: Vec<Shape>,
    pub(super) dims: Vec<String>,
}

pub(super) fn shapes(table: &Table, toggles: &[String], report: &Report) -> Shapes {
    let entries = table.entries_of("shapes");
    if let Some(entry) = table.entry("shapes")
        && entry.node.table().is_some_and(|table| table.entries.is_empty())
    {
        report.error(&entry.key_place, "no shapes", "expected one shape or more: `small = { N = 1024 }`");
    }
    let mut dims: Vec<(String, &str)> = Vec::new();
    for shape in entries {
        check_name("shape", &shape.key, &shape.key_place, report);
        for dim in shape.node.table().map_or(&[][..], |table| &table.entries) {
            if dims.iter().all(|(known, _)| *known != dim.key) {
                check_variable(&dim.key, &dim.key_place, report);
                if toggles.contains(&dim.key) {
                    let message = format!("`{}` is a dimension and a toggle", dim.key);
                    report.error(&dim.key_place, message, "expressions could not tell which is meant");
                }
                dims.push((dim.key.clone(), &shape.key));
            }
        }
    }
    for shape in entries {
        let Some(own) = shape.node.table() else { continue };
        for (dim, elsewhere) in &dims {
            if own.get(dim).is_none() {
                let diagnostic = Diagnostic::error(format!("shape `{}` has no dimension `{dim}`", shape.key))
                    .at(&shape.key_place, format!("shape `{elsewhere}` has it"))
                    .help("every shape gives a size to the same dimensions");
                report.push(diagnostic);
            }
        }
    }
    let mut shapes: Vec<Shape> = entries
        .iter()
        .filter_map(|shape| {
            let sizes = &shape.node.table()?.entries;
            let dims = sizes.iter().filter_map(|dim| Some((dim.key.clone(), dim.node.integer()?))).collect();
            Some(Shape { name: shape.key.clone(), dims, check_only: false })
        })
        .collect();
    let sizes = || table.get("gates")?.table()?.get("correctness")?.table();
    for entry in sizes().map_or(&[][..], |correctness| correctness.entries_of("sizes")) {
        if dims.iter().any(|(dim, _)| *dim == entry.key) {
            more_sizes(entry, &mut shapes);
        } else {
            let diagnostic = Diagnostic::error(format!("unknown dimension `{}`", entry.key)).at(&entry.key_place, "");
            report.push(diagnostic.suggest(&entry.key, dims.iter().map(|(dim, _)| dim.as_str())));
        }
    }
    Shapes { shapes, dims: dims.into_iter().map(|(dim, _)| dim).collect() }
}

/// The sizes for "any": the smallest, and sizes beside and between the powers of two that tiles have.
const ANY: [i64; 7] = [1, 2, 17, 31, 33, 64, 127];

/// Adds the smallest shape with each of the sizes at which a dimension is to be checked.
fn more_sizes(entry: &Entry, shapes: &mut Vec<Shape>) {
    let Some(smallest) = smallest(shapes).map(|index| shapes[index].clone()) else { return };
    let sizes = match entry.node.text() {
        Some(_) => ANY.to_vec(),
        None => entry.node.elements().iter().filter_map(Node::integer).collect(),
    };
    for size in sizes {
        let mut dims = smallest.dims.clone();
        for (_, own) in dims.iter_mut().filter(|(dim, _)| *dim == entry.key) {
            *own = size;
        }
        if shapes.iter().all(|shape| shape.dims != dims) {
            let name = format!("{} with {} = {size}", smallest.name, entry.key);
            shapes.push(Shape { name, dims, check_only: true });
        }
    }
}

/// The shape of the table with the smallest product of dimensions.
pub(super) fn smallest(shapes: &[Shape]) -> Option<usize> {
    let size = |index: &usize| shapes[*index].dims.iter().map(|&(_, size)| size as f64).product::<f64>();
    let named = (0..shapes.len()).filter(|&index| !shapes[index].check_only);
    named.min_by(|a, b| size(a).total_cmp(&size(b)))
}

/// The index of the shape in `node`.
pub(super) fn find(node: &Node, env: &super::Env<'_>, report: &Report) -> Option<usize> {
    super::names::find(node, "shape", env.shape_names(), report)
}

/// The indices of the shapes in an array, each once, in the table's order.
pub(super) fn find_all(node: &Node, env: &super::Env<'_>, report: &Report) -> Vec<usize> {
    let mut found: Vec<usize> = node.elements().iter().filter_map(|node| find(node, env, report)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

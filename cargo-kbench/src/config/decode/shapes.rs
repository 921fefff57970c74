//! Shapes: named sizes, the same dimensions in each.

use super::super::Shape;
use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Node, Table};
use super::names::{check_name, check_variable};

/// Shapes and the names of their dimensions.
pub(super) struct Shapes {
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
    let shapes = entries
        .iter()
        .filter_map(|shape| {
            let sizes = &shape.node.table()?.entries;
            let dims = sizes.iter().filter_map(|dim| Some((dim.key.clone(), dim.node.integer()?))).collect();
            Some(Shape { name: shape.key.clone(), dims })
        })
        .collect();
    Shapes { shapes, dims: dims.into_iter().map(|(dim, _)| dim).collect() }
}

/// The index of the shape that `node` names.
pub(super) fn find(node: &Node, env: &super::Env<'_>, report: &Report) -> Option<usize> {
    super::names::find(node, "shape", env.shape_names(), report)
}

/// The indices of the shapes that an array names, each once, in the table's order.
pub(super) fn find_all(node: &Node, env: &super::Env<'_>, report: &Report) -> Vec<usize> {
    let mut found: Vec<usize> = node.elements().iter().filter_map(|node| find(node, env, report)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

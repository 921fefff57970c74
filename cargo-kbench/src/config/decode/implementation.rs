//! Functions in a source file: a kernel, its reference, an inline baseline.

use std::path::{Component, Path, PathBuf};

use super::super::diagnostics::Diagnostic;
use super::super::tree::{Entry, Item, Node, Table};
use super::super::{Backend, Flag, Implementation, is_cpp};
use super::env::Need;
use super::launches::{launches, several};
use super::names::{check_macro, source};
use super::slot::Slot;
use crate::expr::{Expr, Template};
use crate::space::{Variant, macro_text};

pub(super) fn implementation(table: &Table, slot: &Slot<'_>) -> Option<Implementation> {
    let backend = backend(table, slot);
    let source = table.get("source").and_then(|node| source_of(node, slot));
    let flags = flags(table, slot);
    let defines = defines(table, slot);
    let headers = headers(table, slot);
    let launches = launches(table, backend, slot);
    let (source, source_of) = source?;
    Some(Implementation {
        backend: backend?,
        source,
        source_of,
        source_root: table.get("source")?.place.source.directory().to_owned(),
        flags,
        defines,
        headers,
        launches: launches?,
    })
}

/// The backend of the table, otherwise that of the source's extension.
pub(super) fn stated_backend(table: &Table) -> Option<Backend> {
    match table.text("backend") {
        Some("cuda") => Some(Backend::Cuda),
        Some("c") => Some(Backend::C),
        Some("fake") => Some(Backend::Fake),
        Some(_) => None,
        None => match Path::new(table.text("source")?).extension()?.to_str()? {
            "cu" | "cuh" => Some(Backend::Cuda),
            "c" => Some(Backend::C),
            _ => is_cpp(Path::new(table.text("source")?)).then_some(Backend::C),
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

/// The source with the default variant, and the template if toggles choose it. All files that the toggles may choose
/// must exist.
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

fn headers(table: &Table, slot: &Slot<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for header in table.entries_of("headers") {
        let path = Path::new(&header.key);
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if header.key.is_empty() || !is_inside || header.key.contains(['\n', '\r', '"']) {
            let message = format!("`{}` cannot name a header", header.key.escape_debug());
            slot.report.error(&header.key_place, message, "expected a relative path, as in `#include`");
        }
        if let Some(text) = header.node.text() {
            headers.push((header.key.clone(), text.to_owned()));
        }
    }
    headers
}

/// The table of a reference or a baseline, completed by its kernel's table. On another backend only arguments and
/// macros are inherited. A launch is inherited completely or not at all, except that a grid or a block alone may be
/// replaced.
pub(super) fn with_kernel_defaults(own: &Table, kernel: &Table, flags_too: bool) -> Table {
    let mut table = own.clone();
    let mut take = |key: &str| {
        if let (None, Some(entry)) = (own.entry(key), kernel.entry(key)) {
            table.entries.push(Entry { inherited: true, ..entry.clone() });
        }
    };
    // Several launches have arguments of their own.
    let one_launch = several(own).is_none() && several(kernel).is_none();
    if one_launch {
        take("args");
    }
    take("defines");
    let kernel_backend = stated_backend(kernel);
    let backend = stated_backend(own).or(if own.get("backend").is_none() { kernel_backend } else { None });
    if stated_backend(own).is_none() {
        take("backend");
    }
    if backend == kernel_backend {
        if flags_too {
            take("flags");
            take("headers");
        }
        if !one_launch {
            return table;
        }
        take("grid");
        take("block");
        if own.entry("grid").is_none() && own.entry("block").is_none() {
            ["cluster", "dynamic_shared", "cooperative"].into_iter().for_each(take);
        }
    }
    table
}

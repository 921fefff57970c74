//! The sanitizer gate: a level, or a table.

use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Node, Table};
use super::super::{Backend, Sanitize, SanitizeTool};
use super::env::Env;
use super::{settings, shapes};

/// Decodes the gate. `backend` is that of the kernel, `None` if its implementation was reported.
pub(super) fn sanitize(node: Option<&Node>, env: &Env<'_>, backend: Option<Backend>, report: &Report) -> Sanitize {
    let default = Sanitize::default();
    let Some((node, backend)) = node.zip(backend) else { return default };
    let empty = Table::default();
    let table = node.table().unwrap_or(&empty);
    let level = match node.text() {
        Some(word) => settings::level(Some(word)),
        None => settings::level(table.text("level")),
    };
    let own = SanitizeTool::of(backend);
    let tools = match table.get("tools") {
        None => own.to_vec(),
        Some(node) => tools(node, backend, own, report),
    };
    let shapes = match table.get("shapes") {
        Some(node) => {
            if node.elements().is_empty() {
                report.error(&node.place, "sanitizers at no shape", "leave it out to run them at the smallest");
            }
            shapes::find_all(node, env, report)
        }
        None => shapes::smallest(&env.shapes).into_iter().collect(),
    };
    let timeout_seconds = settings::deadline(table, default.timeout_seconds, report);
    Sanitize { level, tools, shapes, timeout_seconds }
}

/// The named tools, in the order of the backend's tools.
fn tools(node: &Node, backend: Backend, own: &[SanitizeTool], report: &Report) -> Vec<SanitizeTool> {
    if node.elements().is_empty() {
        report.error(&node.place, "sanitizers without a tool", "leave it out to run all, or say `level = \"allow\"`");
    }
    let named = || node.elements().iter().filter_map(|node| Some((node, node.text()?)));
    let known = |word: &str| {
        let backends = [Backend::Cuda, Backend::C];
        backends.iter().any(|&backend| SanitizeTool::of(backend).iter().any(|tool| tool.name() == word))
    };
    for (node, word) in named().filter(|(_, word)| known(word) && own.iter().all(|tool| tool.name() != *word)) {
        let (this, names) = match backend {
            Backend::Cuda => ("CUDA", "`memcheck`, `racecheck`, `initcheck` and `synccheck`"),
            _ => ("C", "`address` and `undefined`"),
        };
        let message = format!("`{word}` cannot watch a kernel in {this}");
        report.push(Diagnostic::error(message).at(&node.place, "").help(format!("its tools are {names}")));
    }
    own.iter().copied().filter(|tool| named().any(|(_, word)| word == tool.name())).collect()
}

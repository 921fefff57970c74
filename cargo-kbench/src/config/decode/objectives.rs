//! Objectives of the search: one, or two for a front.

use std::path::{Component, PathBuf};

use super::super::diagnostics::{Diagnostic, Report};
use super::super::objective::{Application, Better, Objective};
use super::super::tree::{Entry, Item, Node, Table};
use super::super::{Backend, Language, Search, Work};
use super::env::Env;
use super::names::find_name;
use crate::expr::Expr;

/// The objectives of a kernel; mistakes are reported. If they are a mean and the table names no shape for the search,
/// the search gets the first shape of the mean.
pub(super) fn objectives(
    kernel: &Table,
    env: &Env<'_>,
    search: &mut Search,
    work: &Work,
    backend: Option<Backend>,
    report: &Report,
) -> Vec<Objective> {
    let table = kernel.get("search").and_then(Node::table);
    let Some(node) = table.and_then(|table| table.get("objective")) else { return vec![Objective::P50] };
    let (nodes, is_list) = match &node.item {
        Item::List(nodes) => (&nodes[..], true),
        _ => (std::slice::from_ref(node), false),
    };
    if is_list && !(1..=2).contains(&nodes.len()) {
        let label = format!("this names {}", nodes.len());
        let diagnostic = Diagnostic::error("a search has one objective or two").at(&node.place, label);
        report.push(diagnostic.help("limits are no objectives: see `gates.resources` and `gates.performance`"));
    }
    let mut objectives: Vec<Objective> = Vec::new();
    for node in nodes {
        let Some(objective) = objective(node, kernel, env, backend, report) else { continue };
        if objective == Objective::Throughput {
            demand_work(node, kernel, env, (work, search.shape), report);
        }
        if objectives.iter().any(|other| other.name() == objective.name()) {
            report.error(&node.place, format!("the objective `{objective}` twice"), "name each once");
        }
        objectives.push(objective);
    }
    if table.is_some_and(|table| table.get("shape").is_none()) {
        let mean = objectives.iter().find_map(|objective| match objective {
            Objective::Mean(weights) => weights.first(),
            _ => None,
        });
        search.shape = mean.map_or(search.shape, |&(shape, _)| shape);
    }
    objectives
}

/// Reports a throughput without work at the search's shape.
fn demand_work(node: &Node, kernel: &Table, env: &Env<'_>, (work, shape): (&Work, usize), report: &Report) {
    let table = kernel.get("work").and_then(Node::table);
    if table.is_none_or(|table| table.keys().next().is_none()) {
        report.error(&node.place, "a throughput follows from `work`, which the kernel does not state", "");
        return;
    }
    let stated: Vec<&Expr> = [&work.flops, &work.bytes].into_iter().flatten().collect();
    if let Some(shape) = env.named_shapes().nth(shape).filter(|shape| env.are_zero(shape, &stated)) {
        report.error(&node.place, "a throughput follows from `work`, which is 0", format!("at `{}`", shape.name));
    }
}

fn objective(
    node: &Node,
    kernel: &Table,
    env: &Env<'_>,
    backend: Option<Backend>,
    report: &Report,
) -> Option<Objective> {
    if let Some(table) = node.table() {
        return match table.get(Objective::COMMAND) {
            Some(command) => {
                for key in ["runner", "workers"] {
                    if let Some(node) = kernel.get(key) {
                        report.error(
                            &node.place,
                            format!("`{key}` beside an objective with `command`"),
                            "the program runs here",
                        );
                    }
                }
                Some(Objective::Application(application(table, command, backend, report)))
            }
            None => mean(node, table, env, report),
        };
    }
    // An unknown word was reported by the check of choices.
    let (_, objective) = Objective::WORDS.into_iter().find(|(word, _)| node.text() == Some(*word))?;
    if backend.is_some_and(|backend| !objective.is_of(backend)) {
        report.error(&node.place, format!("`{objective}` cannot be told of a kernel in C"), "only of one in CUDA");
    }
    Some(objective)
}

fn mean(node: &Node, table: &Table, env: &Env<'_>, report: &Report) -> Option<Objective> {
    let Some(weights) = table.get(Objective::MEAN) else {
        let expected = "expected `mean = { SHAPE = WEIGHT, … }` or `command = [PROGRAM, …]`";
        report.error(&node.place, "an objective without a name", expected);
        return None;
    };
    for key in ["better", "lang", "out"] {
        if let Some(node) = table.get(key) {
            report.error(&node.place, format!("`{key}` belongs to an objective with `command`"), "");
        }
    }
    let entries = &weights.table()?.entries;
    if entries.is_empty() {
        report.error(&weights.place, "a mean of no shapes", "expected `mean = { SHAPE = WEIGHT, … }`");
    }
    let weight = |entry: &Entry| {
        let shape = find_name(&entry.key, &entry.key_place, "shape", env.shape_names(), report)?;
        let weight = entry.node.number()?;
        if weight == 0.0 {
            report.error(&entry.node.place, "a weight of zero", "leave the shape out");
        }
        Some((shape, weight))
    };
    let mut weights: Vec<(usize, f64)> = entries.iter().filter_map(weight).collect();
    weights.sort_by_key(|&(shape, _)| shape);
    Some(Objective::Mean(weights))
}

/// A program of the user: `command`, and how its number and the export are to be taken.
fn application(table: &Table, command: &Node, backend: Option<Backend>, report: &Report) -> Application {
    if let Some(mean) = table.get(Objective::MEAN) {
        report.error(&mean.place, "`mean` and `command` in one objective", "name each in a table of its own");
    }
    if backend == Some(Backend::Fake) {
        report.error(&command.place, "a kernel of the fake device has no code to export", "");
    }
    let words = command.texts();
    if words.is_empty() {
        report.error(&command.place, "a command without a program", "expected `command = [PROGRAM, …]`");
    }
    let better = if table.text("better") == Some("higher") { Better::Higher } else { Better::Lower };
    let language = Language::NAMES.iter().find(|(name, _)| table.text("lang") == Some(*name));
    let language = language.map_or_else(Language::default, |(_, language)| *language);
    let out = table.get("out");
    let folder = out.and_then(Node::text).map_or_else(|| language.folder().to_owned(), PathBuf::from);
    let is_inside = folder.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if let (Some(out), false) = (out, is_inside && folder.components().any(|part| matches!(part, Component::Normal(_))))
    {
        report.error(
            &out.place,
            "the folder of an export lies below the package's",
            "expected a relative path without `..`",
        );
    }
    if let (Some(lang), Language::Python, Some(Backend::C)) = (table.get("lang"), language, backend) {
        report.error(&lang.place, "a kernel in C has no export in Python", "expected \"rust\" or \"c\"");
    }
    Application { command: words, better, language, out: folder }
}

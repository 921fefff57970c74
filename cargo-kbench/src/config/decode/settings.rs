//! Settings of timing, search and compilation: plain values.

use kbench_runtime::protocol::{CacheMode, LaunchMode};

use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Item, Node, Table};
use super::super::{Backend, Level, Search, StrategyName, Timing, Workers};
use super::baselines::command;
use super::env::Env;
use super::shapes;

/// Longest deadline in seconds, a year: multiples of it are still valid times.
const LONGEST_DEADLINE: u64 = 365 * 24 * 60 * 60;

/// The deadline `timeout_seconds`.
pub(super) fn deadline(table: &Table, default: u64, report: &Report) -> u64 {
    integer(table, "timeout_seconds", default, report).min(LONGEST_DEADLINE)
}

/// An integer that fits its type; a smaller value than allowed was reported by the check of types.
pub(super) fn integer<T: TryFrom<i64>>(table: &Table, key: &str, default: T, report: &Report) -> T {
    let Some((node, int)) = table.get(key).and_then(|node| Some((node, node.integer()?))) else { return default };
    T::try_from(int).unwrap_or_else(|_| {
        if int > 0 {
            report.error(&node.place, format!("`{key}` is too large"), "");
        }
        default
    })
}

/// A number; one of the wrong type or too small was reported by the check of types.
fn number(table: &Table, key: &str, default: f64) -> f64 {
    table.get(key).and_then(Node::number).unwrap_or(default)
}

/// A number from 0 to 1.
pub(super) fn share(table: &Table, key: &str, report: &Report) -> Option<f64> {
    let node = table.get(key)?;
    let share = node.number()?;
    if share > 1.0 {
        report.error(&node.place, format!("`{key}` is a share"), "expected 0 to 1");
    }
    Some(share)
}

/// A level of a gate; an unknown word was reported by the check of choices.
pub(super) fn level(word: Option<&str>) -> Level {
    match word {
        Some("allow") => Level::Allow,
        Some("warn") => Level::Warn,
        _ => Level::Deny,
    }
}

pub(super) fn timing(kernel: &Table, report: &Report) -> Timing {
    let default = Timing::default();
    let Some(table) = kernel.get("timing").and_then(Node::table) else { return default };
    Timing {
        warmup: integer(table, "warmup", default.warmup, report),
        iterations: integer(table, "iterations", default.iterations, report),
        iterations_stated: table.get("iterations").is_some(),
        precision: number(table, "precision", default.precision),
        max_seconds: number(table, "max_seconds", default.max_seconds),
        cache: if table.text("cache") == Some("hot") { CacheMode::Hot } else { CacheMode::Cold },
        launch: table.text("launch").and_then(LaunchMode::named).unwrap_or_default(),
        timeout_seconds: deadline(table, default.timeout_seconds, report),
    }
}

pub(super) fn search(kernel: &Table, env: &Env<'_>, report: &Report) -> Search {
    let empty = Table::default();
    let table = kernel.get("search").and_then(Node::table).unwrap_or(&empty);
    let budget = table.get("budget").and_then(Node::table).unwrap_or(&empty);
    let limit = |key| budget.get(key).map(|_| integer(budget, key, 1, report));
    Search {
        strategy: strategy(table),
        elite: integer(table, "elite", 3, report),
        seed: integer(table, "seed", 0, report),
        evaluations: limit("evaluations"),
        seconds: limit("seconds"),
        roofline: roofline(table, kernel, report),
        shape: table.get("shape").and_then(|node| shapes::find(node, env, report)).unwrap_or(0),
        proposer: table.get("proposer").and_then(|node| command(node, report)),
        partition: None,
    }
}

/// `stop.roofline`, which needs `work`.
fn roofline(search: &Table, kernel: &Table, report: &Report) -> Option<f64> {
    let node = search.get("stop").and_then(Node::table)?.get("roofline")?;
    let share = node.number()?;
    if share <= 0.0 || share > 1.0 {
        report.error(&node.place, "`roofline` is a share of a ceiling: above 0 and at most 1", "");
    } else if kernel.get("work").is_none() {
        report.error(&node.place, "the share of a ceiling follows from `work`, which the kernel does not state", "");
    }
    Some(share)
}

/// The workers of a search, one entry for each way to start them. `runner` is the kernel's.
pub(super) fn workers(kernel: &Table, runner: &[String], backend: Option<Backend>, report: &Report) -> Vec<Workers> {
    let Some(node) = kernel.get("workers") else { return Vec::new() };
    let nodes = if let Item::List(nodes) = &node.item { nodes.as_slice() } else { std::slice::from_ref(node) };
    let tables: Vec<(&Node, &Table)> = nodes.iter().filter_map(|node| Some((node, node.table()?))).collect();
    let workers = |&(_, table): &(&Node, &Table)| Workers {
        runner: table.get("runner").map_or_else(|| runner.to_vec(), Node::texts),
        count: table.get("count").map(|_| integer(table, "count", 1, report)),
        path: table.text("path").map(str::to_owned),
    };
    let all: Vec<Workers> = tables.iter().map(workers).collect();
    let here = |(_, workers): &(usize, &Workers)| workers.runner.is_empty();
    let of_here: usize = all.iter().enumerate().filter(here).map(|(_, workers)| workers.count.unwrap_or(1)).sum();
    if let (Some((at, _)), true) = (all.iter().enumerate().find(here), backend == Some(Backend::C) && of_here > 1) {
        let diagnostic = Diagnostic::error("several workers for C kernels on one machine")
            .at(&tables[at].0.place, format!("{of_here} without a `runner`"))
            .help("kernels that run side by side disturb each other's times; keep one worker, or give a `runner` that separates them");
        report.push(diagnostic);
    }
    all
}

/// The strategy; an unknown name was reported by the check of choices.
fn strategy(table: &Table) -> StrategyName {
    let named = |name| StrategyName::ALL.into_iter().find(|strategy| strategy.name() == name);
    table.text("strategy").and_then(named).unwrap_or(StrategyName::Auto)
}

/// Architectures, such as `sm_90a`.
pub(super) fn arch(kernel: &Table, report: &Report) -> Vec<String> {
    let Some(node) = kernel.get("arch") else { return Vec::new() };
    for node in node.elements() {
        if let Some(arch) = node.text()
            && !is_arch(arch)
        {
            report.error(&node.place, format!("`{arch}` is no architecture"), "expected `sm_` and a number: `sm_90a`");
        }
    }
    node.texts()
}

/// Options of nvcc that select an architecture; the first two select exactly one.
const ARCH_OPTIONS: [&str; 6] = ["arch", "gpu-architecture", "code", "gpu-code", "gencode", "generate-code"];

/// The option that selects an architecture, with its value unless that is the next flag.
pub(crate) fn arch_flag(flag: &str) -> Option<(&str, Option<&str>)> {
    let option = flag.strip_prefix('-').map(|flag| flag.strip_prefix('-').unwrap_or(flag))?;
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    ARCH_OPTIONS.contains(&name).then_some((name, value))
}

/// Checks flags of nvcc that select an architecture: the key `arch` is for this, and the compiled code is assumed to be
/// for `arch`. A flag with the same architecture is allowed.
pub(super) fn arch_flags(table: &Table, arch: &[String], report: &Report) {
    let Some(Item::List(flags)) = table.get("flags").map(|node| &node.item) else { return };
    for (at, node) in flags.iter().enumerate() {
        let Some(flag) = node.text() else { continue };
        let Some((name, value)) = arch_flag(flag) else { continue };
        let value = value.or_else(|| flags.get(at + 1).and_then(Node::text)).unwrap_or_default();
        if ARCH_OPTIONS[..2].contains(&name) && arch == [value] {
            continue;
        }
        let label = match arch {
            [] => "the architecture is that of the GPU".to_owned(),
            _ => format!("the table says {}", arch.join(", ")),
        };
        let wanted = if is_arch(value) { value } else { "sm_90a" };
        let diagnostic = Diagnostic::error(format!("`{flag}` asks for another architecture than `arch`"))
            .at(&node.place, label)
            .help(format!("leave the flag out and say `arch = [\"{wanted}\"]`"));
        report.push(diagnostic);
    }
}

fn is_arch(arch: &str) -> bool {
    let Some(rest) = arch.strip_prefix("sm_") else { return false };
    let number = rest.strip_suffix(['a', 'f']).unwrap_or(rest);
    matches!(number.len(), 2 | 3) && number.bytes().all(|byte| byte.is_ascii_digit())
}

//! Gates: limits, and the names that they refer to.

use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Entry, Node, Table};
use super::super::{Gates, PerformanceBound, PerformanceLimit, ResourceLimits, Search};
use super::correctness::{self, Parts};
use super::env::Env;
use super::names::find;
use super::settings::{level, share};
use super::{counters, sanitize, shapes};

/// The gates; `None` if a mistake was reported.
pub(super) fn gates(
    kernel: &Table,
    env: &Env<'_>,
    search: &Search,
    parts: &Parts<'_>,
    report: &Report,
) -> Option<Gates> {
    let before = report.errors();
    let empty = Table::default();
    let table = kernel.get("gates").and_then(Node::table).unwrap_or(&empty);
    let sub = |key| table.get(key).and_then(Node::table).unwrap_or(&empty);
    let gates = Gates {
        resources: resources(sub("resources"), report),
        correctness: correctness::of_kernel(sub("correctness"), kernel, env, parts, report),
        performance: table
            .get("performance")
            .map_or(&[][..], Node::elements)
            .iter()
            .filter_map(|node| performance(node, kernel.entries_of("baselines"), env, search, report))
            .collect(),
        performance_left_out: Vec::new(),
        performance_level: level(table.text("performance_level")),
        sanitize: sanitize::sanitize(table.get("sanitize"), env, parts.backend, report),
        counters: counters::counters(table.get("counters"), env, search, parts.backend, report),
    };
    (report.errors() == before).then_some(gates)
}

fn resources(table: &Table, report: &Report) -> ResourceLimits {
    let limit = |key| table.get(key).and_then(Node::integer).and_then(|int| u64::try_from(int).ok());
    ResourceLimits {
        level: level(table.text("level")),
        max_registers: limit("max_registers"),
        max_shared_bytes: limit("max_shared_bytes"),
        max_spill_bytes: limit("max_spill_bytes"),
        max_stack_bytes: limit("max_stack_bytes"),
        max_code_bytes: limit("max_code_bytes"),
        min_occupancy: share(table, "min_occupancy", report),
    }
}

fn performance(
    node: &Node,
    baselines: &[Entry],
    env: &Env<'_>,
    search: &Search,
    report: &Report,
) -> Option<PerformanceLimit> {
    let table = node.table()?;
    let shape = match table.get("shape") {
        Some(node) => shapes::find(node, env, report),
        None => Some(search.shape),
    };
    let over = table
        .get("over")
        .and_then(|node| find(node, "baseline", baselines.iter().map(|baseline| baseline.key.as_str()), report));
    let limit = match (table.get("max_p50_us"), table.get("min_speedup"), table.entry("over")) {
        (Some(limit), None, None) => PerformanceBound::MaxP50Us(limit.number()?),
        (None, Some(ratio), Some(_)) => PerformanceBound::MinSpeedup { ratio: ratio.number()?, over: over? },
        (None, Some(ratio), None) => {
            let diagnostic =
                Diagnostic::error("`min_speedup` without a baseline").at(&ratio.place, "this needs `over`");
            report.push(diagnostic.help("name one of `baselines`: `over = \"…\"`"));
            return None;
        }
        (Some(_), None, Some(over)) => {
            report.error(&over.key_place, "`over` belongs to `min_speedup`", "");
            return None;
        }
        (None, None, _) => {
            report.error(&node.place, "a performance limit without a limit", "expected `max_p50_us` or `min_speedup`");
            return None;
        }
        (Some(_), Some(_), _) => {
            report.error(&node.place, "two limits in one", "say `max_p50_us` and `min_speedup` in tables of their own");
            return None;
        }
    };
    if let PerformanceBound::MaxP50Us(0.0) | PerformanceBound::MinSpeedup { ratio: 0.0, .. } = limit {
        report.error(&node.place, "a performance limit of zero", "expected more than 0");
    }
    Some(PerformanceLimit { shape: shape?, limit })
}

//! The correctness gate: limits, seeds, patterns and sizes.

use kbench_runtime::protocol::Pattern;

use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Node, Table};
use super::super::{Backend, Baseline, BaselineKind, CorrectnessLimits, Init};
use super::env::Env;
use super::names::find;
use super::settings::{self, level, share};
use super::shapes;
use super::tensors::Tensors;

/// Names that gates refer to, beside shapes and toggles.
pub(super) struct Parts<'p> {
    /// Backend of the kernel; `None` if the implementation was reported.
    pub(super) backend: Option<Backend>,
    pub(super) tensors: &'p Tensors,
    pub(super) baselines: &'p [Baseline],
}

/// The limits in a table; a missing key means no limit.
pub(super) fn limits(table: &Table, report: &Report) -> CorrectnessLimits {
    let limit = |key| table.get(key).and_then(Node::number);
    let default = CorrectnessLimits::default();
    let limits = CorrectnessLimits {
        level: level(table.text("level")),
        max_abs_err: limit("max_abs_err"),
        max_mean_err: limit("max_mean_err"),
        max_rms_err: limit("max_rms_err"),
        max_bias: limit("max_bias"),
        max_bias_ratio: share(table, "max_bias_ratio", report),
        max_quantization_err: limit("max_quantization_err"),
        max_total_err: limit("max_total_err"),
        max_naive_ratio: limit("max_naive_ratio").unwrap_or(default.max_naive_ratio),
        max_bad_fraction: share(table, "max_bad_fraction", report).unwrap_or(0.0),
        ..default
    };
    if limits.max_bad_fraction > 0.0
        && limits.max_abs_err.is_none()
        && let Some(entry) = table.entry("max_bad_fraction")
    {
        report.error(&entry.key_place, "`max_bad_fraction` needs `max_abs_err`", "elements above that count as bad");
    }
    limits
}

/// The gate of a kernel.
pub(super) fn of_kernel(
    table: &Table,
    kernel: &Table,
    env: &Env<'_>,
    parts: &Parts<'_>,
    report: &Report,
) -> CorrectnessLimits {
    let mut limits = CorrectnessLimits {
        seeds: settings::integer(table, "seeds", 5, report),
        shapes: (0..env.named_shapes().count()).collect(),
        patterns: patterns(table, parts, report),
        deterministic: table.get("deterministic").and_then(Node::bool).unwrap_or(true),
        naive: table.get("naive").and_then(|node| naive(node, kernel, parts, report)),
        ..limits(table, report)
    };
    if let Some(node) = table.get("shapes") {
        limits.shapes = shapes::find_all(node, env, report);
        if node.elements().is_empty() {
            report.error(&node.place, "correctness at no shape", "leave it out to check every shape");
        }
    }
    limits.shapes.extend((0..env.shapes.len()).filter(|&index| env.shapes[index].check_only));
    if let Some(entry) = table.entry("max_naive_ratio").filter(|entry| table.get("naive").is_none() && !entry.inherited)
    {
        report.error(&entry.key_place, "`max_naive_ratio` needs `naive`", "this limits errors by those of a baseline");
    }
    let quantized = parts.tensors.list.iter().any(|tensor| matches!(tensor.init, Init::Quantize { .. }));
    for key in ["max_quantization_err", "max_total_err"] {
        if let Some(entry) = table.entry(key).filter(|entry| !entry.inherited && !quantized && parts.tensors.whole) {
            report.error(&entry.key_place, format!("`{key}` where nothing is quantised"), "no tensor has `quantize`");
        }
    }
    limits
}

/// The named patterns, or all that change a tensor.
fn patterns(table: &Table, parts: &Parts<'_>, report: &Report) -> Vec<Pattern> {
    let changes = |pattern: &Pattern| {
        parts.tensors.list.iter().any(|tensor| {
            let source = tensor.init.source(&std::collections::HashMap::new());
            pattern.applies_to(tensor.dtype, &source)
        })
    };
    let Some(node) = table.get("patterns") else { return Pattern::ALL.into_iter().filter(changes).collect() };
    let named = |pattern: &Pattern| node.elements().iter().find(|node| node.text() == Some(pattern.name()));
    for (pattern, node) in Pattern::ALL.into_iter().filter_map(|pattern| Some((pattern, named(&pattern)?))) {
        let inherited = table.entry("patterns").is_some_and(|entry| entry.inherited);
        if !changes(&pattern) && parts.tensors.whole && !inherited {
            let diagnostic = Diagnostic::warning(format!("the pattern `{}` changes no tensor", pattern.name()));
            report.push(
                diagnostic
                    .at(&node.place, "")
                    .help("patterns are for tensors whose `init` is normal, uniform, or integers of both signs"),
            );
        }
    }
    Pattern::ALL.into_iter().filter(|pattern| named(pattern).is_some() && changes(pattern)).collect()
}

/// The baseline in `naive`, which must run on the device of the kernel.
fn naive(node: &Node, kernel: &Table, parts: &Parts<'_>, report: &Report) -> Option<usize> {
    let entries = kernel.entries_of("baselines");
    let index = find(node, "baseline", entries.iter().map(|entry| entry.key.as_str()), report)?;
    let index = parts.baselines.iter().position(|baseline| baseline.name == entries[index].key)?;
    match &parts.baselines[index].kind {
        BaselineKind::Variant(_) => Some(index),
        BaselineKind::Implementation(function) if Some(function.backend) == parts.backend => Some(index),
        _ => {
            let diagnostic = Diagnostic::error("this baseline cannot be `naive`").at(&node.place, "");
            report.push(diagnostic.help("name one by `toggles`, or by `source` with the kernel's own backend"));
            None
        }
    }
}

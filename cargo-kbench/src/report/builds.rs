//! The builds of variants: a table of their resources, and each message of the compilers once.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::table::Table;
use super::title;
use crate::compare::resource_diff::Usage;
use crate::config::{Backend, Kernel};
use crate::evaluate::BuildOutcome;
use crate::harness::{Builder, Built};
use crate::record::evaluation::{Evaluation, Rejection, SourceRecord};
use crate::space::Variant;

/// Variants that were built for one architecture.
pub struct Builds<'b> {
    /// The compiler.
    pub builder: &'b Builder<'b>,
    /// The variants.
    pub variants: &'b [Variant],
    /// Outcome of each variant.
    pub outcomes: &'b [BuildOutcome],
    /// Whether the table is shown, or only the number of variants that passed.
    pub table: bool,
}

/// Record of each variant, with its rejection.
pub fn evaluations<'b>(builds: &'b Builds<'_>) -> impl Iterator<Item = (Evaluation, Option<&'b Rejection>)> {
    let kernel = builds.builder.kernel;
    builds.variants.iter().zip(builds.outcomes).map(move |(variant, outcome)| {
        let (built, rejection) = parts(outcome);
        let mut evaluation = Evaluation::new(kernel.space.settings(variant), outcome.warnings.clone());
        evaluation.builds = built.map(|built| built.records(kernel)).unwrap_or_default();
        (evaluation, rejection)
    })
}

/// The binaries of an outcome, and its rejection.
fn parts(outcome: &BuildOutcome) -> (Option<&Built>, Option<&Rejection>) {
    match &outcome.result {
        Ok(built) => (Some(built), None),
        Err(failure) => (failure.built.as_ref(), Some(&failure.rejection)),
    }
}

/// The table, each rejection once, and the number of variants that passed.
pub fn shown(builds: &Builds<'_>, verbose: bool) -> String {
    let kernel = builds.builder.kernel;
    let mut table = Table::new(["gate 1"]);
    table.columns(columns(kernel).iter().map(|&column| column.to_owned()));
    let mut passed = 0;
    let (mut refused, mut warned) = (Said::default(), Said::default());
    for (variant, outcome) in builds.variants.iter().zip(builds.outcomes) {
        let label = SourceRecord::label(None, &kernel.space.label(variant));
        let (built, rejection) = parts(outcome);
        passed += usize::from(rejection.is_none());
        let mut row = vec![if rejection.is_none() { "pass" } else { "FAIL" }.to_owned()];
        row.extend(cells(builds.builder, variant, built));
        row.push(match rejection {
            Some(rejection) => format!("{label}  {}/{}", rejection.gate, rejection.code),
            None => label.clone(),
        });
        table.row(row);
        if let Some(rejection) = rejection {
            let output = rejection.output.as_deref().unwrap_or_default();
            refused.add(super::rejection(rejection), output.trim_end(), &label);
        }
        for said in super::compiler_messages(&built.map(|built| built.records(kernel)).unwrap_or_default()) {
            warned.add("the compiler warns".to_owned(), said, &label);
        }
    }
    let target = builds.builder.target();
    let mut text = String::new();
    if builds.table {
        let _ = write!(text, "{}{target}\n\n{table}\n", title(kernel));
    }
    let mut said = refused.shown(verbose);
    if verbose {
        said += &warned.shown(true);
    }
    if !said.is_empty() {
        text += &said;
        text.push('\n');
    }
    let of = if builds.table { String::new() } else { format!("{}{target}: ", title(kernel)) };
    text + &format!("{of}{passed} of {} pass gate 1\n", builds.variants.len())
}

/// Messages about variants, each once, with the labels of its variants.
#[derive(Default)]
struct Said {
    places: HashMap<(String, String), usize>,
    /// Message, output of the compiler, and labels.
    all: Vec<(String, String, Vec<String>)>,
}

impl Said {
    fn add(&mut self, what: String, output: &str, label: &str) {
        let at = *self.places.entry((what.clone(), output.to_owned())).or_insert(self.all.len());
        if at == self.all.len() {
            self.all.push((what, output.to_owned(), Vec::new()));
        }
        self.all[at].2.push(label.to_owned());
    }

    /// A line for each message. The first has the compiler's output; with `verbose` all have.
    fn shown(&self, verbose: bool) -> String {
        let mut text = String::new();
        let first = self.all.first().map(|(what, output, _)| (what, output));
        super::listed(&mut text, &self.all, verbose, |(what, output, labels)| {
            let line = match &labels[..] {
                [only] if only.is_empty() => what.clone(),
                [only] => format!("{only}: {what}"),
                labels => format!("{} variants, first {}: {what}", labels.len(), labels[0]),
            };
            let is_shown = verbose || first == Some((what, output));
            if is_shown && !output.is_empty() { format!("{line}\n{output}") } else { line }
        });
        text
    }
}

/// Columns between verdict and variant.
fn columns(kernel: &Kernel) -> &'static [&'static str] {
    match kernel.implementation.backend {
        Backend::Cuda => &["registers", "shared B", "spills B", "stack B", "code B", "occupancy", "variant"],
        Backend::C | Backend::Fake => &["stack B", "code B", "variant"],
    }
}

/// The largest values over the builds of a variant, and the smallest occupancy.
fn cells(builder: &Builder<'_>, variant: &Variant, built: Option<&Built>) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let Usage { registers, spills, shared, stack, occupancy, code, .. } = Usage::of(builder, variant, built);
    if builder.kernel.implementation.backend != Backend::Cuda {
        return vec![number(stack), number(code)];
    }
    let occupancy = occupancy.map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", value * 100.0));
    vec![number(registers), number(shared), number(spills), number(stack), number(code), occupancy]
}

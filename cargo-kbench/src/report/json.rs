//! Results as JSON lines on stdout, each with a `reason`, as cargo writes them.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::outln;
use crate::audit::{Audited, Report};
use crate::compare::FileDiff;
use crate::compare::bench::BenchEntry;
use crate::compare::resource_diff::ResourceDiff;
use crate::config::{Kernel, Objective};
use crate::gates::Trial;
use crate::harness::{Event, Reporter};
use crate::profile::Profile;
use crate::record::elite::PortfolioRecord;
use crate::record::evaluation::{Evaluation, Rejection};
use crate::replay::{Options, Overall, Replayed, Step};
use crate::text;
use crate::tune::Tuned;

/// Writes one message.
pub fn message(reason: &str, mut fields: Value) {
    fields["reason"] = reason.into();
    outln!("{}", escaped(&fields.to_string()));
}

/// JSON in which no character steers a terminal: those beyond ASCII stand in strings only, where JSON has an escape for each.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if text::steers(c) {
            let _ = c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(escaped, "\\u{unit:04x}"));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Writes every evaluation as it finishes.
pub struct Json<'a> {
    kernel: &'a Kernel,
}

impl<'a> Json<'a> {
    /// A reporter for one kernel.
    pub fn new(kernel: &'a Kernel) -> Self {
        Self { kernel }
    }
}

impl Reporter for Json<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started { device, total, .. } => {
                message(
                    "started",
                    json!({ "package": self.kernel.package, "kernel": self.kernel.name, "device": device, "total": total }),
                );
            }
            Event::Evaluated { evaluation, done, total, .. } => {
                let mut fields =
                    json!({ "package": self.kernel.package, "kernel": self.kernel.name, "done": done, "total": total });
                fields["evaluation"] = value(evaluation);
                message("evaluated", fields);
            }
            Event::Proposed { round, proposals } => {
                message(
                    "proposed",
                    json!({ "package": self.kernel.package, "kernel": self.kernel.name, "round": round, "proposals": proposals }),
                );
            }
            Event::Sanitized { label, sanitized } => {
                let mut fields = value(sanitized);
                fields["package"] = self.kernel.package.clone().into();
                fields["kernel"] = self.kernel.name.clone().into();
                fields["variant"] = label.into();
                message("sanitized", fields);
            }
            Event::Profiled { label, judged } => {
                for profile in &judged.profiles {
                    let mut fields = value(profile);
                    fields["variant"] = label.into();
                    message("profile", fields);
                }
            }
            Event::Built { .. } | Event::Finals { .. } => {}
        }
    }
}

/// The verdict on one variant; the last message of `gate` for a kernel.
pub fn verdict(kernel: &Kernel, evaluation: &Evaluation, status: &str, rejection: Option<&Rejection>) {
    message("verdict", verdict_of(kernel, evaluation, status, rejection));
}

/// The same with the gates that judged nothing, each with the reason.
pub fn gated(kernel: &Kernel, trial: &Trial) {
    let rejection = trial.evaluation.rejection();
    let status = if rejection.is_some() { "fail" } else { "pass" };
    let mut fields = verdict_of(kernel, &trial.evaluation, status, rejection);
    fields["unjudged"] = value(&trial.unjudged(kernel));
    message("verdict", fields);
}

fn verdict_of(kernel: &Kernel, evaluation: &Evaluation, status: &str, rejection: Option<&Rejection>) -> Value {
    let mut fields = json!({
            "package": kernel.package,
            "kernel": kernel.name,
            "variant": evaluation.toggles,
            "status": status,
            "gate": rejection.map(|rejection| rejection.gate),
            "code": rejection.map(|rejection| rejection.code),
            "shape": rejection.and_then(|rejection| rejection.shape.as_ref()),
            "message": rejection.map(|rejection| &rejection.message),
            "output": rejection.and_then(|rejection| rejection.output.as_ref()),
            "warnings": evaluation.warnings,
            "builds": evaluation.builds,
            "compiler_messages": super::compiler_messages(&evaluation.builds),
            "errors": evaluation.errors,
            "timing": evaluation.timing,
    });
    if let Some(source) = &evaluation.source {
        fields["source"] = value(source);
    }
    fields
}

/// The comparisons behind a verdict.
pub fn comparisons(kernel: &Kernel, trial: &Trial) {
    let label = &trial.candidate.label(kernel);
    for (shape, compared) in &trial.compared {
        let entries: Vec<Value> = compared
            .entries
            .iter()
            .map(|entry| {
                let speedup = compared.speedup(label, &entry.name).ok().filter(|_| entry.name != *label);
                json!({ "name": entry.name, "timing": entry.timing, "speedup_over": speedup, "external": entry.external })
            })
            .collect();
        message(
            "comparison",
            json!({
                "package": kernel.package,
                "kernel": kernel.name,
                "shape": kernel.shapes[*shape].name,
                "entries": entries,
                "unavailable": compared.unavailable,
            }),
        );
    }
}

/// What was measured side by side.
pub fn bench(entry: &BenchEntry) {
    message("bench", value(entry));
}

/// What limits a variant.
pub fn profile(profile: &Profile) {
    message("profile", value(profile));
}

/// One mutant of an audit, as it ends.
pub fn mutant(kernel: &Kernel, audited: &Audited, done: usize, total: usize) {
    let mut fields = value(audited);
    fields["package"] = kernel.package.clone().into();
    fields["kernel"] = kernel.name.clone().into();
    fields["done"] = done.into();
    fields["total"] = total.into();
    message("mutant", fields);
}

/// What an audit comes to; its mutants have each had a message.
pub fn audited(report: &Report) {
    let [killed, survived, neither] = report.counts();
    let mut fields = value(report);
    fields["mutants"] = json!({
        "killed": killed,
        "killed_by_gates_not_in_force": report.killed_out_of_force(),
        "survived": survived,
        "equivalent_or_stillborn": neither,
    });
    message("audited", fields);
}

/// How few variants serve all shapes.
pub fn portfolio(portfolio: &PortfolioRecord) {
    message("cover", value(portfolio));
}

/// What two files come to.
pub fn compared(compared: &FileDiff) {
    message("compared", value(compared));
}

/// The runs on a record, each with its trajectory.
pub fn replayed(replayed: &Replayed, options: &Options) {
    let recorded = &replayed.recorded;
    let list = recorded.candidates.list().unwrap_or_default();
    let runs: Vec<Value> = replayed
        .runs
        .iter()
        .map(|run| {
            let step = |step: &Step| {
                json!({ "toggles": recorded.candidates.settings(&list[step.configuration]), "time": step.time })
            };
            let trajectory: Vec<Value> = run.trajectory.iter().map(step).collect();
            json!({ "seed": run.seed, "seconds": run.seconds, "trajectory": trajectory })
        })
        .collect();
    let mut fields = value(&replayed.scores);
    fields["strategy"] = options.name().into();
    fields["seeds"] = options.seeds.into();
    fields["budget"] = options.budget.into();
    let first = recorded.candidates.first().iter().map(|variant| recorded.candidates.settings(variant));
    fields["warm_start"] = first.map(|settings| value(&settings)).collect();
    fields["runs"] = runs.into();
    message("replayed", fields);
}

/// What the runs on all records come to.
pub fn overall(overall: &Overall, options: &Options) {
    let mut fields = value(overall);
    fields["strategy"] = options.name().into();
    fields["seeds"] = options.seeds.into();
    fields["budget"] = options.budget.into();
    message("replayed-all", fields);
}

/// How the resources of a kernel's variants changed.
pub fn resource_diff(diff: &ResourceDiff) {
    message("drift", value(diff));
}

/// The result of tuning a kernel.
pub fn tuned(tuned: &Tuned) {
    message("tuned", value(tuned));
}

fn value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data")
}

/// The search space of a kernel.
pub fn space(kernel: &Kernel) {
    let space = &kernel.space;
    message(
        "space",
        json!({
            "package": kernel.package,
            "kernel": kernel.name,
            "valid": crate::tune::space_size(kernel),
            "default": space.settings(&space.default),
            "shapes": kernel.shapes.iter().map(|shape| &shape.name).collect::<Vec<_>>(),
            "tuned_at": kernel.shapes[kernel.search.shape].name,
            "strategy": kernel.search.strategy,
            "budget": { "evaluations": kernel.search.evaluations, "seconds": kernel.search.seconds },
            "objectives": kernel.objectives.iter().map(Objective::name).collect::<Vec<_>>(),
            "warnings": crate::gates::launch::fit::misfits(kernel),
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_steers_no_terminal_and_says_the_same() {
        let value = json!({ "\u{1b}[2J": "\u{9b}2J \u{202e} \u{7f} µs" });
        let escaped = escaped(&value.to_string());
        assert_eq!(escaped, r#"{"\u001b[2J":"\u009b2J \u202e \u007f µs"}"#);
        assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
    }
}

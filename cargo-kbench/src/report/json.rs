//! Results as JSON lines on stdout, each with a `reason`, as cargo writes them.

use std::fmt::Write as _;

use super::messages::{
    Audit, Budget, Exported, ExportedFile, Line, Message, MutantCounts, Of, ReplayOptions, ReplayRun, ReplayStep,
    Space, Status, TimedKernel, VERSION, Verdict,
};
use super::outln;
use crate::audit::{Audited, Report};
use crate::config::{Kernel, Objective};
use crate::export::{Export, File};
use crate::gates::Trial;
use crate::gates::performance::{EntrantId, Measured};
use crate::harness::{Event, Reporter};
use crate::record::evaluation::{Evaluation, Rejection};
use crate::replay::{Options, Overall, Replayed, Step};
use crate::text;

/// Writes one message.
pub fn write(message: Message<'_>) {
    // A value sorts its keys.
    let line = serde_json::to_value(Line { version: VERSION, message }).expect("plain data");
    outln!("{}", escaped(&line.to_string()));
}

/// JSON without characters that a terminal interprets: characters beyond ASCII occur in strings only, where JSON has an
/// escape for each.
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
        let of = of(self.kernel);
        match event {
            Event::Started { device, total, .. } => write(Message::Started { of, device, total }),
            Event::Evaluated { evaluation, done, total, .. } => {
                write(Message::Evaluated { of, done, total, evaluation });
            }
            Event::Proposed { round, proposals } => write(Message::Proposed { of, round, proposals }),
            Event::Sanitized { label, sanitized } => write(Message::Sanitized { of, variant: label, sanitized }),
            Event::Profiled { label, judged } => {
                for profile in &judged.profiles {
                    write(Message::Profile { variant: Some(label), profile });
                }
            }
            Event::Built { .. } | Event::Workers { .. } | Event::Finals { .. } => {}
        }
    }
}

/// The kernel that a message is about.
pub fn of(kernel: &Kernel) -> Of<'_> {
    Of { package: &kernel.package, kernel: &kernel.name }
}

/// Writes the verdict on one variant.
pub fn verdict(kernel: &Kernel, evaluation: &Evaluation, status: Status, rejection: Option<&Rejection>) {
    write(Message::Verdict(Box::new(verdict_of(kernel, evaluation, status, rejection))));
}

/// Writes the verdict on a variant that went through all gates, with the gates that judged nothing; the last message of
/// `gate` for a kernel.
pub fn gated(kernel: &Kernel, trial: &Trial) {
    let rejection = trial.evaluation.rejection();
    let status = if rejection.is_some() { Status::Fail } else { Status::Pass };
    let unjudged = Some(trial.unjudged(kernel));
    let verdict = Verdict { unjudged, ..verdict_of(kernel, &trial.evaluation, status, rejection) };
    write(Message::Verdict(Box::new(verdict)));
}

fn verdict_of<'a>(
    kernel: &'a Kernel,
    evaluation: &'a Evaluation,
    status: Status,
    rejection: Option<&'a Rejection>,
) -> Verdict<'a> {
    Verdict {
        of: of(kernel),
        variant: &evaluation.toggles,
        source: evaluation.source.as_ref(),
        status,
        gate: rejection.map(|rejection| rejection.gate),
        code: rejection.map(|rejection| rejection.code),
        shape: rejection.and_then(|rejection| rejection.shape.as_deref()),
        message: rejection.map(|rejection| &*rejection.message),
        output: rejection.and_then(|rejection| rejection.output.as_deref()),
        warnings: &evaluation.warnings,
        builds: &evaluation.builds,
        compiler_messages: super::compiler_messages(&evaluation.builds),
        errors: &evaluation.errors,
        timing: evaluation.timing.as_ref(),
        unjudged: None,
    }
}

/// Writes the comparisons behind a verdict.
pub fn comparisons(kernel: &Kernel, trial: &Trial) {
    let candidate = EntrantId::from(trial.candidate.clone());
    for (shape, compared) in &trial.compared {
        let entries = compared.measured().map(|Measured { id, entry }| TimedKernel {
            name: &entry.name,
            timing: &entry.timing,
            speedup_over: compared.speedup(&candidate, id).ok().filter(|_| *id != candidate),
            external: entry.external.as_ref(),
        });
        write(Message::Comparison {
            of: of(kernel),
            shape: &kernel.shapes[*shape].name,
            entries: entries.collect(),
            unavailable: compared.unavailable_names(kernel),
            noise_floor: compared.noise_floor(),
        });
    }
}

/// Writes one mutant of an audit, as it ends.
pub fn mutant(kernel: &Kernel, audited: &Audited, done: usize, total: usize) {
    write(Message::Mutant { of: of(kernel), done, total, audited });
}

/// Writes the numbers of an audit; each mutant has had a message.
pub fn audited(report: &Report) {
    let [killed, survived, equivalent_or_stillborn] = report.counts();
    let killed_by_gates_not_in_force = report.killed_out_of_force();
    write(Message::Audited(Audit {
        of: Of { package: &report.package, kernel: &report.kernel },
        device: &report.device,
        variant: &report.variant,
        errors: &report.errors,
        mutants: MutantCounts { killed, killed_by_gates_not_in_force, survived, equivalent_or_stillborn },
        absent: &report.absent,
        deadline: report.deadline,
    }));
}

/// Writes the runs on a record, each with its trajectory.
pub fn replayed(replayed: &Replayed, options: &Options) {
    let candidates = &replayed.recorded.candidates;
    let list = candidates.list().unwrap_or_default();
    let step = |step: &Step| ReplayStep { toggles: candidates.settings(&list[step.configuration]), time: step.time };
    let runs = replayed.runs.iter().map(|run| ReplayRun {
        seed: run.seed,
        seconds: run.seconds,
        trajectory: run.trajectory.iter().map(step).collect(),
    });
    write(Message::Replayed {
        options: replay_options(options),
        scores: &replayed.scores,
        warm_start: candidates.first().iter().map(|variant| candidates.settings(variant)).collect(),
        runs: runs.collect(),
    });
}

/// Writes the runs on all records.
pub fn overall(overall: &Overall, options: &Options) {
    write(Message::ReplayedAll { options: replay_options(options), overall });
}

fn replay_options(options: &Options) -> ReplayOptions {
    ReplayOptions { strategy: options.name(), seeds: options.seeds, budget: options.budget, batch: options.batch }
}

/// Writes the search space of a kernel.
pub fn space(kernel: &Kernel) {
    let (space, search) = (&kernel.space, &kernel.search);
    write(Message::Space(Space {
        of: of(kernel),
        valid: crate::tune::space_size(kernel),
        default: space.settings(&space.default),
        shapes: kernel.shapes.iter().map(|shape| &*shape.name).collect(),
        tuned_at: &kernel.shapes[search.shape].name,
        strategy: search.strategy,
        budget: Budget { evaluations: search.evaluations, seconds: search.seconds },
        objectives: kernel.objectives.iter().map(Objective::name).collect(),
        warnings: crate::gates::launch::fit::misfits(kernel),
    }));
}

/// Writes an export.
pub fn exported(package: &str, export: &Export, stale: Option<&[String]>) {
    write(Message::Exported(Exported {
        package,
        folder: &export.folder,
        files: export.files.iter().map(|File { name, bytes }| ExportedFile { name, bytes: bytes.len() }).collect(),
        variants: export.variants,
        warnings: &export.warnings,
        stale,
    }));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn json_has_no_control_characters_and_the_same_content() {
        let value = json!({ "\u{1b}[2J": "\u{9b}2J \u{202e} \u{7f} µs" });
        let escaped = escaped(&value.to_string());
        assert_eq!(escaped, r#"{"\u001b[2J":"\u009b2J \u202e \u007f µs"}"#);
        assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
    }
}

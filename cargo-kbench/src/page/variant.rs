//! All records of one variant, for a terminal.

use std::fmt::Write as _;

use super::facts::{Facts, Fate};
use super::values::said;
use crate::record::evaluation::{Evaluation, ShapeErrors, TimingRecord};
use crate::record::run::Run;
use crate::report::{self, hanging, objectives};
use crate::text::{count, printable};

/// Number of variants that are named as examples if a name fits several.
const EXAMPLES: usize = 3;

/// Reason why a name selects no variant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No variant of the run has this name.
    #[error("no variant `{0}` in this search; `cargo kbench list` lists its variants")]
    Unknown(String),
    /// Several variants have this name.
    #[error(
        "{number} variants have `{name}`, such as {examples}; name more toggles, or the number that `cargo kbench list` shows"
    )]
    Several {
        /// The given name.
        name: String,
        /// Number of variants that fit.
        number: usize,
        /// Names of some of them.
        examples: String,
    },
}

/// Index of the variant that a number or toggles name.
pub fn find(facts: &Facts, name: &str) -> Result<usize, NameError> {
    let variants = &facts.variants;
    if let Some(at) = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
        return if at < variants.len() { Ok(at) } else { Err(NameError::Unknown(name.to_owned())) };
    }
    if let Some(at) = variants.iter().position(|variant| variant.variant == name) {
        return Ok(at);
    }
    let parts: Vec<&str> = name.split([',', ' ']).filter(|part| !part.is_empty()).collect();
    let fits = |at: &usize| {
        let has = |part: &&str| variants[*at].toggles.0.iter().any(|(name, value)| format!("{name}={value}") == **part);
        !parts.is_empty() && parts.iter().all(has)
    };
    let found: Vec<usize> = (0..variants.len()).filter(fits).collect();
    match found[..] {
        [] => Err(NameError::Unknown(name.to_owned())),
        [at] => Ok(at),
        _ => {
            let examples = found.iter().take(EXAMPLES).map(|at| variants[*at].variant.as_str());
            let examples = examples.collect::<Vec<_>>().join("; ");
            Err(NameError::Several { name: name.to_owned(), number: found.len(), examples })
        }
    }
}

/// The records of the variant at an index.
pub fn text(facts: &Facts, run: &Run, at: usize, is_verbose: bool) -> String {
    let (variant, evaluation) = (&facts.variants[at], &run.evaluations[at]);
    let mut text = format!("{}: variant {} of {}\n\n", facts.title(), variant.number, facts.variants.len());
    let mut line = |label: &str, what: &str| {
        for part in printable(what).lines() {
            let start = format!("  {label:<12} ");
            let _ = writeln!(text, "{start}{}", hanging(&start, part));
        }
    };
    line("variant", &variant.variant);
    match (variant.fate, evaluation.rejection()) {
        (_, Some(rejection)) => {
            line("outcome", &format!("rejected by {rejection}"));
            line("explained", &format!("`cargo kbench explain {}`", rejection.code));
        }
        (Fate::Stopped, _) => line("outcome", "sampling stopped early: clearly slower than the best"),
        _ => line("outcome", "passed"),
    }
    if let Some(source) = &evaluation.source {
        line("source", &format!("{} in {}", source, source.path.display()));
    }
    if let Some(other) = &variant.identical_code {
        line("same code as", other);
    }
    if evaluation.cached {
        line("measured", "by an earlier run");
    }
    for timing in evaluation.timing.iter().chain(&evaluation.more_timings) {
        line("time", &time(timing));
    }
    if evaluation.objectives.iter().any(|value| value.name != "p50") {
        line("objectives", &objectives::all(&evaluation.objectives));
    }
    if let Some(application) = &evaluation.application {
        let [own, default] = application.medians();
        let rounds = count(application.variant.len(), "round");
        line("program", &format!("median {own} with the variant and {default} with the default, {rounds}"));
    }
    if let Some(finalist) = finalist(facts, run, evaluation) {
        let rank = finalist.rank.map_or_else(String::new, |rank| format!("rank {rank}; "));
        line("finals", &format!("{rank}{}", time(&finalist.timing)));
        for (name, speedup) in &finalist.speedups {
            line(
                "",
                &format!("{:.2}x over {name} (95 % interval {})", speedup.ratio, report::speedup_interval(speedup)),
            );
        }
        let samples: Vec<String> = finalist.samples.iter().map(|sample| report::time(*sample)).collect();
        if is_verbose {
            line("samples", &samples.join(", "));
        } else if !samples.is_empty() {
            line("samples", &format!("{}; -v lists them", count(samples.len(), "sample")));
        }
    }
    for errors in &evaluation.errors {
        line("errors", &self::errors(errors));
    }
    for warning in &evaluation.warnings {
        line("warning", warning);
    }
    for build in &evaluation.builds {
        line("built for", &build.shapes.join(", "));
        line("resources", &build.resources.to_string());
        line("compiler", &build.compiler);
        line("command", &report::command(build.command.iter().map(String::as_str)));
        if !build.link.is_empty() {
            line("link", &report::command(build.link.iter().map(String::as_str)));
        }
        line("source hash", &build.source_hash);
        line("binary hash", &build.binary_hash);
    }
    if let Some(output) = evaluation.rejection().and_then(|rejection| rejection.output.as_deref()) {
        line("output", output.trim_end());
    }
    text
}

/// The row of the finals for this variant; the default has the name `default` there.
fn finalist<'f>(facts: &'f Facts, run: &Run, evaluation: &Evaluation) -> Option<&'f super::facts::Finalist> {
    let label = said(&evaluation.label());
    let is_default = evaluation.source.is_none() && evaluation.toggles.same(&run.start.default);
    facts.finals.iter().find(|row| row.name == label || is_default && row.rank.is_none() && row.toggles.is_some())
}

fn time(timing: &TimingRecord) -> String {
    let summary = &timing.summary;
    let interval =
        summary.interval().map_or_else(String::new, |_| format!(" (95 % interval {})", report::interval(timing)));
    format!(
        "p50 {}{interval}, p90 {}, p99 {} at {}; {} by {}, {} each",
        report::time(summary.p50),
        report::time(summary.p90),
        report::time(summary.p99),
        timing.shape,
        count(summary.n, "sample"),
        timing.clock,
        if timing.batch == 1 { "1 launch".to_owned() } else { format!("{} launches", timing.batch) }
    )
}

fn errors(errors: &ShapeErrors) -> String {
    let patterns = if errors.patterns.is_empty() {
        String::new()
    } else {
        format!(" and {}", count(errors.patterns.len(), "pattern"))
    };
    format!(
        "at {}: max_abs_err {:.2e}, mean_abs_err {:.2e}, rms_err {:.2e}, bias {:.2e}; {}{patterns}",
        errors.shape,
        errors.max_abs_err,
        errors.mean_abs_err,
        errors.rms_err,
        errors.bias,
        count(errors.seeds, "seed")
    )
}

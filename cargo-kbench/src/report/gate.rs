//! Text of `gate`: a line for each gate.

use std::fmt::Write as _;

use super::style::{BAD, GOOD, NOTE, WARN};
use super::{Verbosity, count, p50, place_and_message, sampling, title};
use crate::build::Resources;
use crate::config::Kernel;
use crate::gates::performance::{EntrantId, Measured};
use crate::gates::{Gate, Trial, asked};
use crate::record::evaluation::{BuildRecord, GateName, ShapeErrors, TimingRecord};

/// Result of one variant: a line for each gate.
pub fn gated(trial: &Trial, kernel: &Kernel, verbosity: Verbosity) -> String {
    gates(trial, kernel, &trial.candidate.label(kernel), asked(kernel), verbosity)
}

/// Text of the gates where no device was found.
pub fn without_device(trial: &Trial, kernel: &Kernel, label: &str) -> String {
    let before_device = asked(kernel).take_while(|gate| gate.name() <= GateName::Resources);
    gates(trial, kernel, label, before_device, Verbosity::Normal)
}

fn gates(
    trial: &Trial,
    kernel: &Kernel,
    label: &str,
    gates: impl Iterator<Item = &'static dyn Gate>,
    verbosity: Verbosity,
) -> String {
    let mut text = String::new();
    let evaluation = &trial.evaluation;
    let rejection = evaluation.rejection();
    let _ = writeln!(text, "{} {}", title(kernel), label);
    for gate in gates {
        let name = gate.name();
        let (style, word, facts) = match rejection {
            Some(rejection) if rejection.gate == name => {
                (BAD, "FAIL", format!("{}: {}", rejection.code, place_and_message(rejection)))
            }
            Some(rejection) if rejection.gate < name => (NOTE, "-", "not run".to_owned()),
            _ => match gate.unjudged(kernel, trial) {
                Some(why) => (NOTE, "-", format!("{why}\n{}", facts(name, trial, kernel, verbosity))),
                None => (GOOD, "pass", facts(name, trial, kernel, verbosity)),
            },
        };
        let start = format!("  {:<12} {style}{word:<4}{style:#}  ", name.to_string());
        // An error is one line, so that a search in a log finds it.
        let lines =
            facts.lines().map(|line| if word == "FAIL" { line.to_owned() } else { super::hanging(&start, line) });
        let facts = lines.collect::<Vec<_>>().join(&format!("\n{:21}", ""));
        let _ = writeln!(text, "{}", format!("{start}{facts}").trim_end());
    }
    if let Some(output) = rejection.and_then(|rejection| rejection.output.as_ref()) {
        let _ = writeln!(text, "\n{}", output.trim_end());
    }
    if verbosity == Verbosity::Verbose {
        for said in super::compiler_messages(&evaluation.builds) {
            let _ = writeln!(text, "{WARN}warning{WARN:#} of the compiler:\n{said}");
        }
    }
    for line in sampling::lines(&timings(trial), kernel.timing.precision, verbosity) {
        let _ = writeln!(text, "{WARN}warning{WARN:#}: {line}");
    }
    for warning in &evaluation.warnings {
        let _ = writeln!(text, "{WARN}warning{WARN:#}: {warning}");
    }
    if let Some(rejection) = rejection.filter(|_| verbosity != Verbosity::Quiet) {
        let _ = writeln!(text, "{NOTE}{:>12}{NOTE:#} cargo kbench explain {}", "Next", rejection.code);
    }
    text
}

/// Times of a trial variant: from the comparison with the baselines, or of the variant alone if there are no baselines.
fn timings(trial: &Trial) -> Vec<(&str, &TimingRecord)> {
    let compared = trial.compared.iter().flat_map(|(_, compared)| compared.measured());
    let compared: Vec<_> = compared.map(|Measured { entry, .. }| (entry.name.as_str(), &entry.timing)).collect();
    if !compared.is_empty() {
        return compared;
    }
    let evaluation = &trial.evaluation;
    evaluation.timing.iter().chain(&evaluation.more_timings).map(|timing| ("", timing)).collect()
}

fn facts(gate: GateName, trial: &Trial, kernel: &Kernel, verbosity: Verbosity) -> String {
    let evaluation = &trial.evaluation;
    match gate {
        GateName::Compile => evaluation.builds.first().map_or_else(String::new, |build| build.compiler.clone()),
        GateName::Resources => {
            let of = |build: &BuildRecord| {
                // Shapes that are only checked are numerous; only a build of their own is mentioned.
                let mut names: Vec<&str> = build.shapes.iter().map(String::as_str).collect();
                if names.iter().any(|name| !is_check_only(kernel, name)) {
                    names.retain(|name| !is_check_only(kernel, name));
                }
                format!("{}: {}", names.join(", "), build.resources)
            };
            let known = |build: &&BuildRecord| build.resources != Resources::default();
            evaluation.builds.iter().filter(known).map(of).collect::<Vec<_>>().join("\n")
        }
        GateName::Launch => "ran to its end on every shape and seed".to_owned(),
        GateName::Correctness => {
            let (sizes, named): (Vec<&ShapeErrors>, Vec<_>) =
                evaluation.errors.iter().partition(|of| is_check_only(kernel, &of.shape));
            let (few, all) = match sizes[..] {
                [] => (None, named),
                _ if verbosity == Verbosity::Verbose => (None, evaluation.errors.iter().collect()),
                _ => (Some(format!("right at {} too", count(sizes.len() as u64, "more size"))), named),
            };
            let lines = |of| std::iter::once(errors(of)).chain(quantization(of, kernel, verbosity));
            all.into_iter().flat_map(lines).chain(few).collect::<Vec<_>>().join("\n")
        }
        GateName::Sanitize => trial.sanitized.join(", "),
        GateName::Performance => performance(trial, kernel),
        GateName::Counters => trial.profiles.iter().map(super::profile::in_short).collect::<Vec<_>>().join("\n"),
    }
}

fn is_check_only(kernel: &Kernel, shape: &str) -> bool {
    kernel.shapes.iter().any(|other| other.check_only && other.name == shape)
}

fn errors(errors: &ShapeErrors) -> String {
    let ShapeErrors { shape, seeds, max_abs_err, mean_abs_err, rms_err, bias, .. } = errors;
    let patterns = errors.patterns.len() as u64;
    let tried = match patterns {
        0 => count(*seeds as u64, "seed"),
        _ => format!("{} and {}", count(*seeds as u64, "seed"), count(patterns, "pattern")),
    };
    format!(
        "{shape}, {tried}: max_abs_err {max_abs_err:.2e}, mean_err {mean_abs_err:.2e}, rms_err {rms_err:.2e}, bias {bias:+.1e}"
    )
}

/// Effect of quantised inputs on the result: shown if a limit judges it, or with `-v`.
fn quantization(errors: &ShapeErrors, kernel: &Kernel, verbosity: Verbosity) -> Option<String> {
    let limits = &kernel.gates.correctness;
    let judged = limits.max_quantization_err.or(limits.max_total_err).is_some();
    let of = errors.quantization.filter(|_| judged || verbosity == Verbosity::Verbose)?;
    Some(format!(
        "  quantization: max {:.2e}, mean {:.2e}, rms {:.2e}; with the kernel's: max {:.2e}, mean {:.2e}, rms {:.2e}",
        of.max_abs_err, of.mean_abs_err, of.rms_err, of.total_max_abs_err, of.total_mean_abs_err, of.total_rms_err
    ))
}

fn performance(trial: &Trial, kernel: &Kernel) -> String {
    let candidate = EntrantId::from(trial.candidate.clone());
    let mut lines = Vec::new();
    for (shape, compared) in &trial.compared {
        let name = &kernel.shapes[*shape].name;
        let Some(entry) = compared.entry(&candidate) else { continue };
        lines.push(format!("{name}: p50 {}", p50(&entry.timing)));
        for Measured { id, entry: other } in compared.entries.iter().filter(|measured| measured.id != candidate) {
            if let Ok(speedup) = compared.speedup(&candidate, id) {
                let (ratio, low, high) = (speedup.ratio, speedup.low, speedup.high);
                lines.push(format!("  {ratio:.2}x over {} ({low:.3} to {high:.3})", other.name));
            }
            if let Some(external) = &other.external {
                lines.push(format!("    {}", super::external(external, &other.timing)));
            }
        }
        lines.extend(compared.noise_floor().map(|floor| format!("  noise floor {:.2} %", 100.0 * floor)));
        lines.extend(
            compared.unavailable_names(kernel).iter().map(|(name, why)| format!("  {name} unavailable: {why}")),
        );
    }
    if lines.is_empty()
        && let Some(timing) = &trial.evaluation.timing
    {
        lines.push(format!("{}: p50 {}", timing.shape, p50(timing)));
    }
    lines.join("\n")
}

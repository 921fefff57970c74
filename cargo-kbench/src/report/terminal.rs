//! Progress and results as text.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;

use indicatif::ProgressBar;

use super::live::Live;
use super::tuned::space_size;
use super::{BAD, Verbosity, WARN, count, line, status, time, title};
use super::{bars, objectives};
use crate::harness::{Event, Reporter};
use crate::record::evaluation::{BuildRecord, Evaluation, Rejection};

/// Shows progress on stderr: a bar on a terminal, plain lines elsewhere.
pub struct Terminal {
    verbosity: Verbosity,
    bar: Option<ProgressBar>,
    /// Lines below the bar of a search.
    live: Live,
    fancy: bool,
    /// Whether several variants are evaluated; a warning about a single variant stands in its verdict.
    tuning: bool,
    /// The name of the first objective.
    objective: &'static str,
    /// Whether the bar is one of compilations.
    compiling: bool,
    /// Rejections so far, with the label of the first variant; each rejection is printed once.
    rejected: BTreeMap<String, String>,
    /// Warnings of compilers so far.
    warned: BTreeSet<String>,
}

impl Terminal {
    /// A reporter for this process's stderr.
    pub fn new(verbosity: Verbosity) -> Self {
        let fancy = verbosity > Verbosity::Quiet && !super::log::is_on() && std::io::stderr().is_terminal();
        let (rejected, warned) = (BTreeMap::new(), BTreeSet::new());
        let live = Live::default();
        Self { verbosity, bar: None, live, fancy, tuning: false, objective: "p50", compiling: false, rejected, warned }
    }

    /// Removes the bar, so that further output starts on a new line.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Prints new warnings of compilers.
    fn warn_of(&mut self, label: &str, builds: &[BuildRecord]) {
        for said in super::compiler_messages(builds) {
            if self.warned.insert(said.to_owned()) {
                line(format_args!("{WARN}{:>12}{WARN:#} of {label}:\n{said}", "Warned"));
            }
        }
    }

    /// Prints a rejection in full, or the label of the variant with the same rejection.
    fn reject(&mut self, label: &str, rejection: &Rejection) {
        let Rejection { gate, code, .. } = rejection;
        let said = format!("{}{}", super::rejection(rejection), rejection.output.as_deref().unwrap_or_default());
        if let Some(first) = self.rejected.get(&said) {
            let text = format!("{WARN}{:>12}{WARN:#} {label}: {BAD}{gate}/{code}{BAD:#}, as {first}", "Rejected");
            return line(text);
        }
        self.rejected.insert(said, label.to_owned());
        line(format_args!("{WARN}{:>12}{WARN:#} {label}: {}", "Rejected", super::rejection(rejection)));
        if let Some(output) = &rejection.output {
            line(output.trim_end());
        }
    }

    fn evaluated(&mut self, evaluation: &Evaluation, label: &str, place: (u64, u64), best: Option<(&str, f64)>) {
        let (done, total) = place;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            self.live.add(evaluation, best);
            bar.set_message(self.live.lines(self.objective, super::stderr_width()));
        }
        let rejected = evaluation.rejection();
        if self.verbosity == Verbosity::Verbose {
            self.warn_of(label, &evaluation.builds);
        }
        if let Some(rejection) = rejected.filter(|_| self.verbosity == Verbosity::Verbose) {
            self.reject(label, rejection);
        } else if self.bar.is_none() {
            let values = objectives::all(&evaluation.objectives);
            let by = match evaluation {
                Evaluation { identical_code: Some(_), .. } => " (same machine code as a variant before)",
                Evaluation { cached: true, .. } => " (by an earlier run)",
                Evaluation { resumed: true, .. } => " (by the run that is resumed)",
                _ => "",
            };
            let outcome = match (evaluation.p50(), rejected) {
                (Some(p50), _) if evaluation.is_cut_short() => {
                    format!("about {}, stopped: clearly slower than the best", time(p50))
                }
                (Some(_), _) => values,
                (None, Some(rejection)) => format!("{}/{}", rejection.gate, rejection.code),
                (None, None) => "not timed".to_owned(),
            };
            status("Evaluated", format_args!("{done}/{total} {label}: {outcome}{by}"));
        }
    }
}

impl Reporter for Terminal {
    fn event(&mut self, event: Event<'_>) {
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        match event {
            Event::Started { kernel, device, total, doing, finals } => {
                self.finish();
                self.live = Live::default();
                self.tuning = total > 1;
                self.objective = kernel.objectives[0].name();
                let on = device.map_or_else(String::new, |device| format!(" on {}", device.name));
                let what = if total > 1 { "Tuning" } else { "Gating" };
                let space = if total > 1 { format!(", {}", space_size(kernel)) } else { String::new() };
                status(what, format_args!("{}{on}{space}", title(kernel)));
                if self.fancy {
                    let bar = if total > 1 { bars::search(total, doing, finals) } else { bars::single(doing) };
                    self.bar = Some(bar);
                }
            }
            Event::Built { done, total } => match &self.bar {
                Some(bar) if self.compiling => bar.set_position(done),
                Some(bar) if self.tuning => {
                    self.live.compiled(done, total);
                    bar.set_message(self.live.lines(self.objective, super::stderr_width()));
                }
                None if self.fancy && !self.tuning && total > 1 && done < total => {
                    self.compiling = true;
                    self.bar = Some(bars::compilation(total));
                }
                _ => {}
            },
            Event::Workers { busy, open, total } => {
                if let Some(bar) = &self.bar {
                    self.live.workers(busy, open, total);
                    bar.set_message(self.live.lines(self.objective, super::stderr_width()));
                }
            }
            Event::Evaluated { evaluation, label, done, total, best } => {
                self.evaluated(evaluation, label, (done, total), best);
            }
            Event::Proposed { round, proposals } => {
                self.finish();
                status("Proposed", format_args!("{} in round {round}", count(proposals as u64, "source")));
            }
            Event::Sanitized { label, sanitized } => {
                self.finish();
                let said = match &sanitized.rejection {
                    Some(rejection) => format!("{}/{}", rejection.gate, rejection.code),
                    None if sanitized.runs.is_empty() => "no tool".to_owned(),
                    None if sanitized.warnings.is_empty() => format!("passed {}", sanitized.runs.join(", ")),
                    None => format!("{}, with warnings", sanitized.runs.join(", ")),
                };
                status("Sanitized", format_args!("{label}: {said}"));
                for warning in sanitized.warnings.iter().filter(|_| self.tuning) {
                    line(format_args!("{WARN}warning{WARN:#}: {warning}"));
                }
            }
            Event::Profiled { label, judged } => {
                self.finish();
                let said = match (&judged.rejection, judged.profiles.last()) {
                    (Some(rejection), _) => format!("{}/{}", rejection.gate, rejection.code),
                    (None, Some(profile)) => profile.diagnosis.limiter.to_string(),
                    (None, None) => "no counter was read".to_owned(),
                };
                status("Profiled", format_args!("{label}: {said}"));
                for warning in judged.warnings.iter().filter(|_| self.tuning) {
                    line(format_args!("{WARN}warning{WARN:#}: {warning}"));
                }
            }
            Event::Finals { entrants, programs, at_most } => {
                self.finish();
                let kernels = count((entrants - programs) as u64, "kernel");
                if programs > 0 {
                    status("Comparing", format_args!("{kernels} and {}, in turn", count(programs as u64, "program")));
                } else if entrants > 1 {
                    status("Comparing", format_args!("{kernels}, interleaved"));
                }
                if self.fancy && entrants > 0 {
                    self.bar = Some(bars::comparison(at_most));
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.finish();
    }
}

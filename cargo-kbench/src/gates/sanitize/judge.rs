//! Parses and judges a tool's report on one run. A run is clean only if the kernel ran to its end and the tool says
//! that it found nothing.

use std::fmt;

use kbench_runtime::protocol::Failure;

use crate::build::sanitizer::{FOUND, MARK};
use crate::config::SanitizeTool;
use crate::process::executor::Watched;
use crate::record::evaluation::{GateName, Reason, Rejection};

/// Number of lines of a report that are shown.
const SHOWN: usize = 60;

/// Kind of a fault of an access, a barrier or an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An access outside of every allocation.
    OutOfBounds,
    /// An access to memory that the kernel has freed.
    UseAfterEnd,
    /// An access to an address that is not a multiple of its size.
    Misaligned,
    /// A race with another thread's access.
    Race,
    /// A read of memory that was never written.
    Uninitialised,
    /// A barrier that not all threads reach.
    Barrier,
    /// An operation that the language does not define.
    Undefined,
    /// Another error of a tool.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::OutOfBounds => "out-of-bounds access",
            Kind::UseAfterEnd => "access to memory that is gone",
            Kind::Misaligned => "misaligned access",
            Kind::Race => "race",
            Kind::Uninitialised => "uninitialised read",
            Kind::Barrier => "barrier error",
            Kind::Undefined => "undefined behaviour",
            Kind::Other => "error",
        })
    }
}

/// A finding of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    kind: Kind,
    /// Whether the tool calls it a warning.
    warning: bool,
    /// Message of the tool.
    text: String,
    /// Source line and function, or another place that the tool names.
    place: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, ", {place}"))
    }
}

/// A parsed report.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
    /// Number of errors, from the last line of the report; `None` if the line is missing.
    total: Option<u64>,
    /// The tool's message about its own failure.
    failed: Option<String>,
}

/// Verdict on one run under a tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// The rejection, if there is one.
    pub rejection: Option<Rejection>,
    /// Warnings of the tool.
    pub warnings: Vec<String>,
}

/// Judges a run; the error is the reason why the tool itself failed. `mark`: start of the lines of compute-sanitizer.
pub fn judge(tool: SanitizeTool, shape: &str, watched: &Watched, mark: &str) -> Result<Judgement, String> {
    let report = match tool {
        SanitizeTool::Address | SanitizeTool::Undefined => of_c(&watched.report),
        _ => of_cuda(&watched.report, mark),
    };
    let warnings = report.findings.iter().filter(|finding| finding.warning);
    let warnings = warnings.map(|finding| format!("{} at {shape}: {finding}", tool.name())).collect();
    let reject = |code, message: String| {
        let shown = excerpt(&watched.report).replace(mark, MARK);
        let output = (!shown.is_empty()).then_some(shown);
        Rejection { output, ..Rejection::new(GateName::Sanitize, code, message, Some(shape)) }
    };
    let errors: Vec<&Finding> = report.findings.iter().filter(|finding| !finding.warning).collect();
    let total = report.total.unwrap_or(0).max(errors.len() as u64);
    let rejection = if let Some(first) = errors.first() {
        let more = if total > 1 { format!(" ({total} in all)") } else { String::new() };
        Some(reject(code(tool), format!("{first}{more}")))
    } else if total > 0 || watched.status == Some(FOUND) || in_kernel_process(watched) {
        Some(reject(code(tool), "the tool reported an error; its output follows".to_owned()))
    } else if let Some(why) = report.failed {
        return Err(why);
    } else {
        match &watched.failure {
            None if report.total.is_none() => return Err(silent(&watched.report, mark)),
            None => None,
            Some(Failure::Hang { seconds, .. }) => {
                let message = format!(
                    "no end within {seconds} s under {}; raise `gates.sanitize.timeout_seconds`, or name a smaller shape",
                    tool.name()
                );
                Some(reject(Reason::Undecided, message))
            }
            // A failure that is probably not due to the kernel.
            Some(Failure::Exited { .. } | Failure::Protocol { .. }) => {
                return Err(silent(&watched.report, mark));
            }
            Some(failure) => Some(reject(failure.into(), format!("under {}: {failure}", tool.name()))),
        }
    };
    Ok(Judgement { rejection, warnings })
}

/// Whether the tool ended the process of a C kernel with the exit code of a finding.
fn in_kernel_process(watched: &Watched) -> bool {
    matches!(watched.failure, Some(Failure::Exited { code: FOUND, .. }))
}

/// The part of a report about the kernel: without frames of the worker and without the dump of the shadow memory.
fn excerpt(report: &str) -> String {
    let mut in_worker = false;
    let about_kernel = |line: &&str| {
        let frame = line.trim_start().starts_with('#');
        in_worker = frame && (in_worker || line.contains(" in kbench_entry "));
        !in_worker
    };
    let lines =
        report.lines().take_while(|line| !line.starts_with("Shadow bytes") && !line.starts_with("allocated by"));
    lines.filter(about_kernel).take(SHOWN).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The reason code of a tool.
fn code(tool: SanitizeTool) -> Reason {
    match tool {
        SanitizeTool::Memcheck => Reason::Memcheck,
        SanitizeTool::Racecheck => Reason::Racecheck,
        SanitizeTool::Initcheck => Reason::Initcheck,
        SanitizeTool::Synccheck => Reason::Synccheck,
        SanitizeTool::Address => Reason::Address,
        SanitizeTool::Undefined => Reason::Undefined,
    }
}

fn silent(report: &str, mark: &str) -> String {
    let last = report.lines().rev().find(|line| !line.trim().is_empty());
    format!("it ended without a report; its last line is `{}`", last.unwrap_or_default().trim().replace(mark, MARK))
}

/// Parses the report of compute-sanitizer: what follows its mark in a line. The first line of a finding is not indented. A kernel may have printed
/// the start of a line.
fn of_cuda(text: &str, mark: &str) -> Report {
    let mut report = Report::default();
    for line in text.lines().filter_map(|line| Some(line.split_once(mark)?.1)) {
        let line = line.strip_prefix(' ').unwrap_or(line);
        if line.starts_with(' ') {
            if let Some(finding) = report.findings.last_mut() {
                detail(finding, line.trim());
            }
            continue;
        }
        if let Some((_, summary)) = line.split_once("SUMMARY: ") {
            // `3 errors`, or `2 hazards displayed (1 error, 1 warning)`.
            let counted = summary.split_once('(').map_or(summary, |(_, counts)| counts);
            let number = counted.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            report.total = report.total.max(number);
            continue;
        }
        let (warning, words) = match line.strip_prefix("Warning: ") {
            Some(words) => (true, words),
            None => (false, line.strip_prefix("Error: ").unwrap_or(line)),
        };
        let kind = if words.starts_with("Race reported") || words.contains("hazard detected") {
            Kind::Race
        } else if words.starts_with("Invalid __") || words.starts_with("Potential invalid __") {
            Kind::OutOfBounds
        } else if words.starts_with("Uninitialized") || words.contains("uninitialized memory access") {
            Kind::Uninitialised
        } else if words.starts_with("Barrier error") || words.starts_with("Deadlock detected") {
            Kind::Barrier
        } else if words.starts_with("Internal Sanitizer") || line.starts_with("Error: ") {
            report.failed.get_or_insert_with(|| words.to_owned());
            continue;
        } else if words.contains(" error detected.")
            || words.starts_with("Malloc/Free")
            || words.starts_with("Stack overflow")
        {
            Kind::Other
        } else {
            // The banner, and `Program hit …`, which is a consequence of the finding.
            continue;
        };
        let (text, place) = match words.split_once(" access at ") {
            Some((text, place)) => (format!("{text} access"), Some(cuda_place(place))),
            None => (words.to_owned(), None),
        };
        report.findings.push(Finding { kind, warning, text, place });
    }
    report
}

/// A line after the first of a finding.
fn detail(finding: &mut Finding, line: &str) {
    if line.contains("misaligned") {
        finding.kind = Kind::Misaligned;
    }
    if let Some(place) = line.strip_prefix("at ").filter(|_| finding.place.is_none()) {
        finding.place = Some(cuda_place(place));
    }
}

/// `k(const float *, int)+0x130 in kernel.cu:12` as `kernel.cu:12 in k`; other texts unchanged.
fn cuda_place(place: &str) -> String {
    let shortened = place.split_once("+0x").and_then(|(function, rest)| {
        let (_, line) = rest.split_once(" in ")?;
        let name = function.split('(').next().unwrap_or(function);
        Some(format!("{line} in {name}"))
    });
    shortened.unwrap_or_else(|| place.trim().to_owned())
}

/// Parses the report of the C compiler's sanitizers. They end the process at the first finding, and print nothing
/// without one.
fn of_c(text: &str) -> Report {
    let mut report = Report { total: Some(0), ..Report::default() };
    for line in text.lines() {
        if let Some((_, words)) = line.split_once("ERROR: AddressSanitizer: ") {
            let name = words.split(' ').next().unwrap_or(words);
            let kind = if name.contains("use-after") || name.contains("double-free") {
                Kind::UseAfterEnd
            } else if name.contains("overflow") || name.contains("underflow") || name == "SEGV" {
                Kind::OutOfBounds
            } else {
                Kind::Other
            };
            report.findings.push(Finding { kind, warning: false, text: name.to_owned(), place: None });
        } else if let Some((place, words)) = line.split_once(": runtime error: ") {
            let (text, place) = (words.to_owned(), Some(place.trim().to_owned()));
            report.findings.push(Finding { kind: Kind::Undefined, warning: false, text, place });
        } else if line.contains("ASan runtime does not come first") || line.contains("AddressSanitizer CHECK failed") {
            report.failed.get_or_insert_with(|| line.trim().to_owned());
        } else if let Some(finding) = report.findings.last_mut().filter(|finding| finding.place.is_none()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [access @ ("READ" | "WRITE"), "of", "size", size, ..] => {
                    finding.text = format!("{}, {} of {size} bytes", finding.text, access.to_lowercase());
                }
                // Frames without a line belong to the runtime.
                [frame, _, "in", function, line] if frame.starts_with('#') && line.contains(':') => {
                    finding.place = Some(format!("{line} in {function}"));
                }
                _ => {}
            }
        }
    }
    report
}

#[cfg(test)]
mod tests;

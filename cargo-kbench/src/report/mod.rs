//! Output for users: status lines in cargo's manner on stderr, results on stdout, or JSON lines.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write as _};

use kbench_runtime::stats::Speedup;

use crate::config::{Kernel, Shape};
use crate::harness::{Exit, Notice};
use crate::record::evaluation::{BuildRecord, ExternalRecord, Rejection, TimingRecord};
use crate::text::{dims, kernel_name, printable};
use style::{BAD, GOOD, NOTE, WARN};

pub mod audit;
pub mod bars;
pub mod bench;
pub mod builds;
pub mod check;
pub mod compare;
mod doctor;
pub mod export;
pub mod gate;
pub mod json;
mod live;
pub mod log;
pub mod merged;
mod messages;
pub mod objectives;
pub mod output;
pub mod plan;
pub mod portfolio;
pub mod profile;
mod repeated;
pub mod replay;
pub mod resource_diff;
pub mod sampling;
pub mod style;
pub mod table;
pub mod terminal;
pub mod tuned;

pub use output::{Finding, Format, Output};

/// Verbosity of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Results and errors.
    Quiet,
    /// Results, errors and progress.
    Normal,
    /// Also each rejection in full.
    Verbose,
}

/// `print!` for results: a reader that has closed its end, such as `head`, causes no panic.
macro_rules! out {
    ($($arg:tt)*) => { $crate::report::write_result(format_args!($($arg)*)) };
}

/// `println!` for results; see [`out`].
macro_rules! outln {
    ($($arg:tt)*) => { $crate::report::write_result(format_args!("{}\n", format_args!($($arg)*))) };
}

pub(crate) use {out, outln};

/// Writes a result to stdout. A failed write, such as on a full disk, ends the process with its exit code.
pub(crate) fn write_result(text: fmt::Arguments<'_>) {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(style::ansi(&text.to_string()).as_bytes()).and_then(|()| stdout.flush()) {
        Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
            error(format_args!("could not write the result: {failure}"));
            std::process::exit(Exit::Missing.code().into());
        }
        _ => {}
    }
}

/// Smallest width that results are made to fit: narrower columns would break every word.
const NARROWEST: usize = 30;

/// Width of the terminal for results, in columns: `COLUMNS`, or the width of the terminal, or 80.
pub fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    said.or_else(terminal).filter(|&width| width > 0).unwrap_or(80).max(NARROWEST)
}

/// Width of the terminal for progress, in columns; 80 if there is no terminal.
fn stderr_width() -> usize {
    terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0))
}

/// A line of two columns whose second is wrapped to the width of the terminal, with further lines below the second
/// column.
pub fn hanging(start: &str, text: &str) -> String {
    let indent = crate::text::width_of(&style::plain(start));
    let lines = crate::text::wrapped(text, width().saturating_sub(indent).max(NARROWEST));
    lines.join(&format!("\n{:indent$}", ""))
}

/// Writes a status line: a verb, right-aligned in cargo's twelve columns, and a message.
pub fn status(verb: &str, message: impl Display) {
    line(format_args!("{GOOD}{verb:>12}{GOOD:#} {message}"));
}

/// Writes a notice about work that takes a while and that the user did not request.
pub fn notice(notice: &Notice) {
    match notice {
        Notice::CutOff => status("Stopping", "the finals of the best so far; Ctrl-C again ends the run without them"),
        Notice::Ceilings { device } => status("Measuring", format_args!("the ceilings of {device}, once")),
        Notice::Workers { count, device } => status("Workers", format_args!("{count}, each with a {device}")),
        Notice::WorkerLost { worker, why, again: Some(after) } if after.is_zero() => {
            status("Lost", format_args!("{worker}: {why}; it is started again"));
        }
        Notice::WorkerLost { worker, why, again: Some(after) } => {
            status("Lost", format_args!("{worker}: {why}; it is started again in {:.1} s", after.as_secs_f64()));
        }
        Notice::WorkerLost { worker, why, again: None } => {
            status("Lost", format_args!("{worker}: {why}; the others go on without it"));
        }
    }
}

/// Writes an error.
pub fn error(message: impl Display) {
    line(format_args!("{BAD}error{BAD:#}: {message}"));
}

/// Writes a line to stderr, above the bar if one is shown.
fn line(text: impl Display) {
    bars::above(|| to_stderr(&format!("{}\n", style::ansi(&text.to_string()))));
}

/// Writes to stderr. If it is closed or on a full disk, the run goes on: its results lie elsewhere.
fn to_stderr(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Writes the output of clap: help, the version or a mistake, which quotes arguments.
pub fn usage(said: &clap::Error) -> io::Result<()> {
    let plain = said.render().to_string();
    match printable(&plain) {
        Cow::Borrowed(_) => said.print(),
        Cow::Owned(shown) => anstream::stderr().write_all(shown.as_bytes()),
    }
}

/// A duration in a suitable unit, with four significant digits.
pub fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let decimals = match value {
        value if value < 10.0 => 3,
        value if value < 100.0 => 2,
        _ => 1,
    };
    format!("{value:.decimals$} {unit}")
}

/// A share in percent, with one decimal.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A number with three significant digits.
pub fn figures(rate: f64) -> String {
    let decimals = match rate {
        rate if rate < 1e-3 => return format!("{rate:.2e}"),
        rate if rate < 0.1 => 4,
        rate if rate < 1.0 => 3,
        rate if rate < 10.0 => 2,
        rate if rate < 100.0 => 1,
        _ => 0,
    };
    format!("{rate:.decimals$}")
}

/// The interval of p50, as text.
pub fn interval(timing: &TimingRecord) -> String {
    timing.summary.interval().map_or_else(|| "-".to_owned(), |[low, high]| format!("{} to {}", time(low), time(high)))
}

/// p50, with its interval if there is one.
pub fn p50(timing: &TimingRecord) -> String {
    let p50 = time(timing.summary.p50);
    if timing.summary.interval().is_some() { format!("{p50} ({})", interval(timing)) } else { p50 }
}

/// Command, versions and measurement of a program.
pub fn external(external: &ExternalRecord, timing: &TimingRecord) -> String {
    let versions = external.versions.iter().map(|(name, version)| format!("{name} {version}"));
    let errors = &external.errors;
    [format!("in its own process by {}, {} samples a turn", timing.clock, external.turn)]
        .into_iter()
        .chain(versions)
        .chain([format!("max_abs_err {:.2e}, rms_err {:.2e}", errors.max_abs_err, errors.rms_err)])
        .collect::<Vec<_>>()
        .join("; ")
}

/// The interval of a speed-up, as text.
pub fn speedup_interval(speedup: &Speedup) -> String {
    format!("{:.3} to {:.3}", speedup.low, speedup.high)
}

/// A rejection as one line.
pub fn rejection(rejection: &Rejection) -> String {
    format!("{BAD}{}/{}{BAD:#}: {}", rejection.gate, rejection.code, place_and_message(rejection))
}

fn place_and_message(rejection: &Rejection) -> String {
    match &rejection.shape {
        Some(shape) => format!("at {shape}: {}", rejection.message),
        None => rejection.message.clone(),
    }
}

/// Warnings of compilers, each text once.
pub fn compiler_messages(builds: &[BuildRecord]) -> Vec<&str> {
    let mut messages: Vec<&str> =
        builds.iter().map(|build| build.messages.trim()).filter(|said| !said.is_empty()).collect();
    messages.sort_unstable();
    messages.dedup();
    messages
}

/// Name of a kernel in messages: `package/kernel`, or one word where both are the same.
pub fn title(kernel: &Kernel) -> String {
    kernel_name(&kernel.package, &kernel.name)
}

/// A command that can be pasted into a shell.
pub fn command<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    // Only a NUL cannot be quoted, and no argument of this process holds one.
    shlex::try_join(words).unwrap_or_default()
}

/// The sizes of a shape, such as `M=64 N=64`.
pub fn sizes(shape: &Shape) -> String {
    dims(shape.dims.iter().map(|(name, size)| (name, size)))
}

/// Writes a line for each item; of many items only the first, and the number of the others.
pub(crate) fn listed<T>(text: &mut String, items: &[T], verbose: bool, line: impl Fn(&T) -> String) {
    const MOST: usize = 10;
    // A line in place of a single item would save nothing.
    let shown = if verbose || items.len() <= MOST + 1 { items.len() } else { MOST };
    for item in &items[..shown] {
        text.push_str(&line(item));
        text.push('\n');
    }
    if shown < items.len() {
        let _ = fmt::Write::write_fmt(text, format_args!("  and {} more; -v shows them\n", items.len() - shown));
    }
}

/// A number with its noun: `1 variant`, `2 variants`.
pub fn count(n: u64, noun: &str) -> String {
    crate::text::count(n as usize, noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let shown = [0.000_012_34, 0.012_34, 0.1234, 1.234, 12.34, 1878.4].map(figures);
        assert_eq!(shown, ["1.23e-5", "0.0123", "0.123", "1.23", "12.3", "1878"]);
    }

    #[test]
    fn few_samples_have_no_interval() {
        let of = |samples: &[f64]| TimingRecord {
            shape: "s".into(),
            summary: kbench_runtime::stats::Summary::of(samples).unwrap(),
            batch: 1,
            clock: "fake".into(),
            sampling: None,
        };
        let said = |samples: &[f64]| (interval(&of(samples)), p50(&of(samples)));
        assert_eq!(said(&[10.0, 11.0, 12.0, 13.0, 14.0]), ("-".into(), "12.00 ns".into()));
        let six = said(&[10.0, 11.0, 12.0, 12.0, 13.0, 14.0]);
        assert_eq!(six, ("10.00 ns to 14.00 ns".into(), "12.00 ns (10.00 ns to 14.00 ns)".into()));
    }

    #[test]
    fn times_have_four_digits() {
        let shown: Vec<String> = [0.5, 812.34, 9_490.0, 13_000.0, 108_200.0, 3_888_000.0, 2.5e9].map(time).into();
        assert_eq!(shown, ["0.500 ns", "812.3 ns", "9.490 µs", "13.00 µs", "108.2 µs", "3.888 ms", "2.500 s"]);
    }
}

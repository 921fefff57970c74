//! Text of `autotune`: the result of a search.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kbench_runtime::stats::{FEWEST_ROUNDS, Speedup};

use super::table::Table;
use super::{BAD, GOOD, NOTE, Verbosity, WARN, count, interval, objectives, sampling, time, title};
use crate::config::{DEFAULT, Kernel, Level};
use crate::gates::performance::{JudgedSpeedup, Verdict};
use crate::record::conclusion::Stopped;
use crate::record::elite::{EliteEntry, EliteVariant, ProposerRecord, TieRecord};
use crate::record::evaluation::TimingRecord;
use crate::space::Layer;
use crate::text::steers;
use crate::tune::{self, Spent, Tuned};

pub(super) fn space_size(kernel: &Kernel) -> String {
    let layer = |layer| {
        let points = kernel.space.count_of_layer(layer);
        points.map_or_else(|| "many".to_owned(), |points| points.to_string())
    };
    format!("{} ({} macro x {} micro)", space_size_of(kernel), layer(Layer::Macro), layer(Layer::Micro))
}

fn space_size_of(kernel: &Kernel) -> String {
    tune::space_size(kernel).map_or_else(|| "a space too large to count".to_owned(), |size| count(size, "variant"))
}

/// Parts of a search's wall time, on one line.
pub fn spent(spent: &Spent) -> String {
    let cores = spent.utilisation.map_or_else(String::new, |part| format!(" with {:.0} % of the cores", 100.0 * part));
    let where_any =
        |what: &str, seconds: f64| if seconds >= 0.005 { format!("{what} {seconds:.2} s, ") } else { String::new() };
    let (tools, proposer) = (where_any("tools", spent.tools), where_any("proposer", spent.proposer));
    format!(
        "verify {:.2} s, time {:.2} s, {tools}idle {:.2} s{cores}, {proposer}overhead {:.2} s; compile {:.2} s of all cores",
        spent.verify, spent.time, spent.idle, spent.overhead, spent.compile
    )
}

/// The result of tuning: a table, the rejections, and the three lines with winner, confidence and next step. `flags`
/// are the flags of this run that a `gate` of the winner needs too.
pub fn tuned(
    tuned: &Tuned,
    kernel: &Kernel,
    elite_path: &std::path::Path,
    flags: &[String],
    verbosity: Verbosity,
) -> String {
    let mut text = String::new();
    let entry = &tuned.entry;
    let shape = &kernel.shapes[kernel.search.shape];
    let _ = writeln!(text, "{} at {} ({}) on {}\n", title(kernel), shape.name, super::sizes(shape), entry.device.name);
    if !entry.elite.is_empty() {
        let _ = writeln!(text, "{}", table(entry));
    }
    baselines(entry, &mut text);
    rejections(tuned, &mut text);
    notes(tuned, &mut text);
    warnings(tuned, kernel, verbosity, &mut text);
    not_judged(kernel, &mut text);
    if let Some(why) = tuned.stopped {
        let why = match why {
            Stopped::CtrlC => "Ctrl-C",
            Stopped::Evaluations => "the budget of evaluations",
            Stopped::Seconds => "the budget of seconds",
            Stopped::Roofline => "`search.stop.roofline`",
        };
        let _ = writeln!(
            text,
            "{WARN}stopped{WARN:#} by {why}: {} of {} tried",
            entry.search.evaluated,
            space_size_of(kernel)
        );
    }
    let Some(winner) = entry.elite.first() else {
        let _ =
            writeln!(text, "{BAD}{:>12}{BAD:#} none of {} passed", "Winner", count(entry.search.evaluated, "variant"));
        let _ = writeln!(text, "{:>12} {}; # shows why the default fails", "Next", gate_command(entry, flags, &[]));
        return text;
    };
    if text.ends_with("\n\n") {
        text.pop();
    }
    winner_of(tuned, winner, kernel, elite_path, flags, &mut text);
    text
}

/// The elite and the baselines, a row each.
fn table(entry: &EliteEntry) -> Table {
    let others: Vec<&str> = entry.baselines.iter().map(|baseline| baseline.name.as_str()).collect();
    let is_front = entry.search.objectives.len() > 1;
    let mut table = Table::new(["rank", "p50", "95 % interval"]);
    let objective_columns = objectives::columns(entry);
    table.columns(objective_columns.iter().cloned());
    table.columns(others.iter().map(|name| format!("over {name}")));
    table.columns(["variant".to_owned()]);
    for variant in &entry.elite {
        let mark = if is_front { objectives::mark(variant) } else { "" };
        let mut row =
            vec![format!("{mark}{}", variant.rank), time(variant.timing.summary.p50), interval(&variant.timing)];
        row.extend(objectives::cells(&variant.objectives, objective_columns.len()));
        row.extend(others.iter().map(|name| match variant.speedups.get(*name) {
            Some(speedup) => format!("{:.2}x", speedup.ratio),
            None => "-".to_owned(),
        }));
        row.push(variant.label());
        table.row(row);
    }
    for baseline in &entry.baselines {
        let mut row = vec![String::new(), time(baseline.timing.summary.p50), interval(&baseline.timing)];
        row.extend(objectives::cells(&baseline.objectives, objective_columns.len()));
        row.extend(others.iter().map(|_| String::new()));
        row.push(baseline.name.clone());
        table.row(row);
    }
    table
}

/// Programs among the baselines, and baselines that were not measured.
fn baselines(entry: &EliteEntry, text: &mut String) {
    for baseline in &entry.baselines {
        if let Some(external) = &baseline.external {
            let _ = writeln!(
                text,
                "{NOTE}program{NOTE:#} {}: {}",
                baseline.name,
                super::external(external, &baseline.timing)
            );
        }
    }
    for (name, why) in &entry.unavailable {
        let _ = writeln!(text, "{WARN}unavailable{WARN:#} {name}: {why}");
    }
}

/// Numbers of rejected variants of the space and of a proposer.
fn rejections(tuned: &Tuned, text: &mut String) {
    let search = &tuned.entry.search;
    for (reason, n) in &search.rejected {
        let (label, message) = &tuned.examples[reason];
        let _ = writeln!(
            text,
            "{WARN}rejected{WARN:#} {n} of {} by {reason}, such as {label}: {message}",
            search.evaluated
        );
    }
    if let Some(proposer) = &search.proposer {
        let _ = writeln!(text, "{NOTE}proposed{NOTE:#} {}", proposed(proposer));
        for (reason, n) in &proposer.rejected {
            let (label, message) = &tuned.examples[reason];
            let of = proposer.evaluated;
            let _ =
                writeln!(text, "{WARN}rejected{WARN:#} {n} of {of} proposed by {reason}, such as {label}: {message}");
        }
    }
}

/// Ties, variants that were not measured, and toggles without effect.
fn notes(tuned: &Tuned, text: &mut String) {
    let search = &tuned.entry.search;
    if let Some(TieRecord { variants, by }) = &search.tie {
        let others = variants[1..].join(", ");
        let _ = writeln!(
            text,
            "{NOTE}tie{NOTE:#} no measurement distinguishes the winner from {others}; it wins since {by}"
        );
    }
    if tuned.identical_code > 0 {
        let _ = writeln!(
            text,
            "{NOTE}merged{NOTE:#} {}: same machine code and launch as another",
            count(tuned.identical_code, "variant")
        );
    }
    if tuned.cached > 0 {
        let cached = count(tuned.cached, "variant");
        let _ =
            writeln!(text, "{NOTE}recalled{NOTE:#} {cached} that earlier runs measured; --fresh measures them again");
    }
    if tuned.resumed > 0 || tuned.finals_resumed {
        let variants = count(tuned.resumed, "variant");
        let finals = if tuned.finals_resumed { " and the finals" } else { "" };
        let _ = writeln!(text, "{NOTE}resumed{NOTE:#} {variants}{finals} that the run which was cut off measured");
    }
    for toggle in &search.dead_toggles {
        let _ = writeln!(text, "{WARN}dead{WARN:#} {toggle} never changed the machine code or the launch");
    }
}

/// Samples that are not as they should be, and warnings of the search.
fn warnings(tuned: &Tuned, kernel: &Kernel, verbosity: Verbosity, text: &mut String) {
    let entry = &tuned.entry;
    let of_elite = entry.elite.iter().flat_map(|variant| {
        std::iter::once(&variant.timing).chain(&variant.more_timings).map(|timing| (variant.label(), timing))
    });
    let of_baselines = entry.baselines.iter().map(|baseline| (baseline.name.clone(), &baseline.timing));
    let timings: Vec<(String, &TimingRecord)> = of_elite.chain(of_baselines).collect();
    let timings: Vec<(&str, &TimingRecord)> = timings.iter().map(|(name, timing)| (name.as_str(), *timing)).collect();
    for line in sampling::lines(&timings, kernel.timing.precision, verbosity) {
        let _ = writeln!(text, "{WARN}warning{WARN:#} {line}");
    }
    for warning in &tuned.warnings {
        let _ = writeln!(text, "{WARN}warning{WARN:#} {warning}");
    }
}

/// Performance limits at shapes that were not measured.
fn not_judged(kernel: &Kernel, text: &mut String) {
    let shape = &kernel.shapes[kernel.search.shape];
    let elsewhere = kernel.gates.performance.iter().map(|limit| limit.shape).filter(|&at| at != kernel.search.shape);
    let elsewhere: BTreeSet<usize> = elsewhere.chain(kernel.gates.performance_left_out.iter().copied()).collect();
    if !elsewhere.is_empty() && kernel.gates.performance_level != Level::Allow {
        let names: Vec<&str> = elsewhere.iter().map(|&shape| kernel.shapes[shape].name.as_str()).collect();
        let _ = writeln!(
            text,
            "{NOTE}not judged{NOTE:#} the performance limits at {}: this was measured at {}; `gate` judges them",
            crate::text::list(&names),
            shape.name
        );
    }
}

/// The winner, its confidence and the next command.
fn winner_of(
    tuned: &Tuned,
    winner: &EliteVariant,
    kernel: &Kernel,
    elite_path: &std::path::Path,
    flags: &[String],
    text: &mut String,
) {
    let entry = &tuned.entry;
    let label = winner.label();
    let _ = writeln!(text, "\n{GOOD}{:>12}{GOOD:#} {label}: {}", "Winner", objectives::all(&winner.objectives));
    let confidence =
        if objectives::is_other(entry) { objectives::confidence(entry) } else { confidence(tuned, kernel) };
    let _ = writeln!(text, "{GOOD}{:>12}{GOOD:#} {confidence}", "Confidence");
    if let Some(headroom) = &tuned.headroom {
        let _ = writeln!(text, "{GOOD}{:>12}{GOOD:#} {headroom}", "Headroom");
    }
    if let Some(front) = objectives::front(entry) {
        let _ = writeln!(text, "{GOOD}{:>12}{GOOD:#} {front}", "Front");
    }
    if let Some(source) = &winner.source {
        let root = elite_path.parent().unwrap_or(elite_path);
        let _ = writeln!(text, "{GOOD}{:>12}{GOOD:#} {}", "Source", root.join(&source.path).display());
    }
    let (style, level) = if kernel.gates.performance_level == Level::Deny { (BAD, "") } else { (WARN, " (a warning)") };
    for missed in &tuned.missed {
        let _ = writeln!(text, "{style}{:>12}{style:#} {}{level}", "Missed", super::rejection(missed));
    }
    let variant = match &winner.source {
        None if winner.toggles.0.is_empty() => vec![],
        None if !label.contains(steers) => vec!["--variant", &*label],
        // A proposed source cannot be given on a command line.
        _ => vec!["--elite"],
    };
    let _ = writeln!(
        text,
        "{GOOD}{:>12}{GOOD:#} {}; # {} has all {}",
        "Next",
        gate_command(entry, flags, &variant),
        elite_path.display(),
        entry.elite.len()
    );
}

/// The `gate` of a tuned kernel, ready for a shell.
fn gate_command(entry: &EliteEntry, flags: &[String], more: &[&str]) -> String {
    let words = ["cargo", "kbench", "gate", "-p", &entry.package, "--kernel", &entry.kernel];
    super::command(words.into_iter().chain(flags.iter().map(String::as_str)).chain(more.iter().copied()))
}

fn proposed(proposer: &ProposerRecord) -> String {
    let ProposerRecord { rounds, evaluated, refused, rejected, .. } = proposer;
    let passed = evaluated - rejected.values().sum::<u64>();
    let refused = if *refused > 0 { format!("; {} not tried", count(*refused, "more")) } else { String::new() };
    format!("{} in {}: {passed} passed{refused}", count(*evaluated, "source"), count(*rounds, "round"))
}

/// The winner's speed-ups and their confidence.
fn confidence(tuned: &Tuned, kernel: &Kernel) -> String {
    let mut parts = Vec::new();
    match &tuned.over_default {
        Some(comparison) => parts.push(against(comparison, DEFAULT)),
        None if tuned.entry.elite.first().is_some_and(|winner| {
            winner.source.is_none() && winner.toggles == kernel.space.settings(&kernel.space.default)
        }) =>
        {
            parts.push("the default is the winner".to_owned());
        }
        None if tuned.entry.baselines.iter().any(|baseline| baseline.name == DEFAULT) => {
            parts.push(format!("too few samples to compare with {DEFAULT}: take at least {FEWEST_ROUNDS}"));
        }
        None => parts.push(format!("{DEFAULT} was not measured in the same run, so there is no speed-up")),
    }
    if let Some(comparison) = &tuned.over_second {
        parts.push(match comparison.verdict {
            Verdict::Faster | Verdict::Slower => against(comparison, "rank 2"),
            _ => "a tie with rank 2".to_owned(),
        });
    }
    if let Some(floor) = tuned.entry.search.noise_floor {
        parts.push(format!("noise floor {:.2} %", 100.0 * floor));
    }
    parts.join("; ")
}

fn against(comparison: &JudgedSpeedup, other: &str) -> String {
    let with_interval = |speedup: &Speedup| format!("95 % interval {}", super::speedup_interval(speedup));
    let (speedup, slowdown) = (&comparison.speedup, comparison.speedup.inverse());
    match comparison.verdict {
        Verdict::Faster => format!("{:.2}x faster than {other} ({})", speedup.ratio, with_interval(speedup)),
        Verdict::Slower => format!("{:.2}x slower than {other} ({})", slowdown.ratio, with_interval(&slowdown)),
        Verdict::Same => format!("the same as {other} within 1 % ({})", with_interval(speedup)),
        Verdict::Inconclusive => format!("inconclusive against {other} ({})", with_interval(speedup)),
    }
}

//! Text of `bench`: kernels side by side.

use std::fmt::Write as _;

use kbench_runtime::protocol::TwoClocks;
use kbench_runtime::stats::Speedup;

use super::table::Table;
use super::{NOTE, Verbosity, WARN, figures, interval, rejection, sampling, speedup_interval, time};
use crate::compare::bench::{BenchEntry, BenchRecord};
use crate::text::{dims, kernel_name};

/// Value of a column that exists only if the table has `work`.
type Rate = fn(&BenchRecord) -> Option<f64>;

/// `cuda-event 12.30 µs and globaltimer 12.33 µs a launch (0.2 % apart), 162 launches back to back`.
fn clocks(clocks: &TwoClocks) -> String {
    let TwoClocks { first, first_ns, second, second_ns, launches } = clocks;
    let apart = 100.0 * (second_ns / first_ns - 1.0).abs();
    let (one, other) = (time(*first_ns), time(*second_ns));
    format!("{first} {one} and {second} {other} a launch ({apart:.1} % apart), {launches} launches back to back")
}

/// `1.021x the time on zeros (1.018x to 1.024x): the kernel's time depends on values`.
fn over_zeros(speedup: &Speedup) -> String {
    let depends = !(speedup.low..=speedup.high).contains(&1.0);
    let words = if depends { "the time depends on the values" } else { "no difference is known" };
    format!("{:.3}x the time on inputs of zeros ({}): {words}", speedup.ratio, speedup_interval(speedup))
}

/// A table of kernels that were measured together, the candidate first.
pub fn side_by_side(entry: &BenchEntry, verbosity: Verbosity) -> String {
    let mut text = format!(
        "{} at {} ({}) on {}\n",
        kernel_name(&entry.package, &entry.kernel),
        entry.shape,
        dims(&entry.dims),
        entry.device.name
    );
    if let Some(why) = entry.rejection() {
        let _ = writeln!(text, "\n{}: not measured: {}", entry.candidate, rejection(why));
        if let Some(output) = &why.output {
            let _ = writeln!(text, "\n{}", output.trim_end());
        }
        return text;
    }
    let rates: [(&str, Rate); 2] = [("TFLOP/s", |record| record.tflops), ("GB/s", |record| record.gbytes)];
    let known = |(_, rate): &(&str, Rate)| entry.entries.iter().any(|record| rate(record).is_some());
    let rates: Vec<_> = rates.into_iter().filter(known).collect();
    let mut table = Table::new(["p50", "95 % interval", "p90", "p99"]);
    table.columns(rates.iter().map(|(name, _)| (*name).to_owned()));
    table.columns(["speed-up over it", "95 % interval", "verdict", "kernel"].map(str::to_owned));
    for record in &entry.entries {
        let summary = &record.timing.summary;
        let mut row = vec![time(summary.p50), interval(&record.timing), time(summary.p90), time(summary.p99)];
        row.extend(rates.iter().map(|(_, rate)| rate(record).map_or_else(|| "-".to_owned(), figures)));
        row.extend(match &record.speedup {
            Some(comparison) => {
                let ratio = format!("{:.2}x", comparison.speedup.ratio);
                [ratio, speedup_interval(&comparison.speedup), comparison.verdict.to_string()]
            }
            None => [const { String::new() }; 3],
        });
        row.push(match &record.toggles {
            Some(toggles) if record.name != toggles.to_string() && !toggles.0.is_empty() => {
                format!("{} ({toggles})", record.name)
            }
            _ => record.name.clone(),
        });
        table.row(row);
    }
    let _ = writeln!(text, "\n{table}");
    for (name, why) in &entry.unavailable {
        let _ = writeln!(text, "{WARN}unavailable{WARN:#} {name}: {why}");
    }
    if let Some(floor) = entry.noise_floor {
        let _ = writeln!(text, "{NOTE}noise floor{NOTE:#} {:.2} %", 100.0 * floor);
    }
    let timings: Vec<_> = entry.entries.iter().map(|record| (record.name.as_str(), &record.timing)).collect();
    for line in sampling::lines(&timings, entry.timing.precision.unwrap_or_default(), verbosity) {
        let _ = writeln!(text, "{WARN}warning{WARN:#} {line}");
    }
    if let Some(controls) = &entry.controls {
        let lines = [controls.clocks.as_ref().map(clocks), controls.over_zeros.as_ref().map(over_zeros)];
        for line in lines.into_iter().flatten() {
            let _ = writeln!(text, "{NOTE}control{NOTE:#} {line}");
        }
    }
    for warning in &entry.warnings {
        let _ = writeln!(text, "{WARN}warning{WARN:#} {warning}");
    }
    text
}

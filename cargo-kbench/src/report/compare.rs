//! Text of `compare`.

use std::fmt::Write as _;

use super::table::Table;
use super::{BAD, GOOD, count, listed, speedup_interval, time};
use crate::compare::{FileDiff, Only, Row};
use crate::gates::performance::Verdict;

/// A table for each kernel and shape, then the entries of one file only, then the totals.
pub fn compared(compared: &FileDiff, threshold: f64, verbose: bool) -> String {
    let mut text = String::new();
    let place = |row: &Row| (row.kernel.clone(), row.shape.clone(), row.device.clone());
    for rows in compared.rows.chunk_by(|a, b| place(a) == place(b)) {
        let _ = writeln!(text, "{} at {} on {}\n", rows[0].kernel, rows[0].shape, rows[0].device);
        let mut table = Table::new(["old p50", "new p50", "speed-up", "95 % interval", "verdict", "variant"]);
        for row in rows {
            let missing = || "-".to_owned();
            table.row(vec![
                time(row.old.p50),
                row.new.map_or_else(missing, |new| time(new.p50)),
                row.speedup.map_or_else(missing, |speedup| format!("{:.3}x", speedup.ratio)),
                row.speedup.as_ref().map_or_else(missing, speedup_interval),
                row.verdict.map_or_else(|| "rejected".to_owned(), |verdict| verdict.to_string()),
                format!("{}: {}", row.name, row.reasons.join("; ")),
            ]);
        }
        let _ = writeln!(text, "{table}");
    }
    for (file, only) in [("OLD", &compared.only_old), ("NEW", &compared.only_new)] {
        listed(&mut text, only, verbose, |Only { kernel, shape, device, name, p50 }| {
            format!("only in {file}: {kernel} at {shape} on {device}, {name}: {}", time(*p50))
        });
    }
    if !text.ends_with("\n\n") {
        text.push('\n');
    }
    let verdicts = [Verdict::Faster, Verdict::Slower, Verdict::Same, Verdict::Inconclusive];
    let verdicts: Vec<String> =
        verdicts.iter().map(|&verdict| format!("{} {verdict}", compared.count(verdict))).collect();
    let regressions = compared.regressions();
    let style = if regressions == 0 { GOOD } else { BAD };
    let _ = writeln!(
        text,
        "{} compared: {}; {style}{}{style:#} beyond {} %",
        compared.rows.len(),
        verdicts.join(", "),
        count(regressions as u64, "regression"),
        // A fraction that was a percentage, rounded to remove digits of the division.
        (threshold * 1e8).round() / 1e6
    );
    text
}

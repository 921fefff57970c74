//! Text of `audit`: mutants as they end, and a summary.

use std::fmt::Write as _;

use super::{BAD, GOOD, NOTE, WARN, count};
use crate::audit::{Audited, Fate, Report};
use crate::text::kernel_name;

/// Width in columns of the gate, the code and the shape.
const BY: usize = 42;

/// Line of a mutant; `width` is the length of the longest name. Advice about a survivor follows below the line.
pub fn mutant(audited: &Audited, width: usize) -> String {
    let (style, word, by) = match &audited.fate {
        Fate::Killed { rejection, .. } => {
            let at = rejection.shape.as_ref().map_or_else(String::new, |shape| format!(" at {shape}"));
            (GOOD, "killed", format!("{}/{}{at}", rejection.gate, rejection.code))
        }
        Fate::Survived { .. } => (BAD, "SURVIVED", "every gate".to_owned()),
        Fate::Equivalent { .. } => (NOTE, "no fault", "-".to_owned()),
        Fate::Stillborn { .. } => (NOTE, "not made", "-".to_owned()),
    };
    let mut text = format!("{style}{word:>8}{style:#}  {:<width$}  {by:<BY$}  {}\n", audited.name, audited.what);
    let mut below = |line: &str| {
        let _ = writeln!(text, "{:>10}{line}", "");
    };
    match &audited.fate {
        Fate::Killed { .. } => {}
        Fate::Survived { advice, .. } => advice.iter().for_each(|line| below(line)),
        Fate::Equivalent { why } | Fate::Stillborn { why } => below(why),
    }
    text
}

/// The rejection of a killed mutant.
pub fn message(audited: &Audited) -> Option<&str> {
    match &audited.fate {
        Fate::Killed { rejection, .. } => Some(&rejection.message),
        _ => None,
    }
}

/// The last lines: numbers of mutants, and the limit that rejects the survivors.
pub fn summary(report: &Report) -> String {
    let [killed, survived, neither] = report.counts();
    let mut text = String::new();
    for absent in &report.absent {
        let _ = writeln!(text, "{NOTE}{:>8}{NOTE:#}  {absent}", "none");
    }
    let total = count((killed + survived) as u64, "mutant");
    let style = if survived > 0 { BAD } else { GOOD };
    let _ = write!(
        text,
        "\n{}: {killed} of {total} killed, {style}{survived} survived{style:#}",
        kernel_name(&report.package, &report.kernel)
    );
    if neither > 0 {
        let _ = write!(text, "; {neither} more, no fault or not made");
    }
    text.push('\n');
    if let Some((gap, number)) = report.remedy() {
        let (limit, proposal) = (gap.limit, gap.proposal());
        let _ = writeln!(
            text,
            "{NOTE}help{NOTE:#}: `{limit} = {proposal:.1e}` would have killed {number} of the survivors"
        );
    }
    let out_of_force = report.killed_out_of_force();
    if out_of_force > 0 {
        let _ = writeln!(
            text,
            "{WARN}warning{WARN:#}: {out_of_force} of them by racecheck alone, which the table does not ask for: say \
             `sanitize = \"deny\"` among the gates"
        );
    }
    text
}

//! A run in Markdown, for pull requests. Texts from outside stand in code spans, where they are not interpreted.

use std::fmt::Write as _;

use super::facts::{Facts, Fate};
use super::html;
use crate::report;

/// The run as Markdown.
pub fn run(facts: &Facts) -> String {
    let mut text = format!("### {}\n\n", code(&facts.title()));
    match &facts.winner {
        Some(winner) => {
            let _ = write!(text, "**Winner** {}", code(&winner.variant));
            if let Some(row) = facts.finals.first() {
                let _ = write!(text, ": {}", report::p50(&row.timing));
            }
            text.push_str("\n\n");
        }
        None if facts.ended => text.push_str("**No variant passed the gates.**\n\n"),
        None => text.push_str("**The run was cut off before its finals.**\n\n"),
    }
    for sentence in html::sentences(facts) {
        let _ = writeln!(text, "- {sentence}");
    }
    if let Some(floor) = facts.winner.as_ref().and_then(|winner| winner.noise_floor) {
        let _ = writeln!(text, "- Noise floor: {:.2} %.", 100.0 * floor);
    }
    for missed in &facts.missed {
        let level = if facts.missed_fails { "" } else { " (a warning)" };
        let _ = writeln!(text, "- Limit missed{level}: {}", code(missed));
    }
    for warning in &facts.warnings {
        let _ = writeln!(text, "- Warning: {}", code(warning));
    }
    let _ = writeln!(text, "- {}.\n", html::counts(facts));
    finals(&mut text, facts);
    if !facts.rejected.is_empty() {
        text.push_str("| gate | reason | variants | such as | message |\n| --- | --- | ---: | --- | --- |\n");
        for row in &facts.rejected {
            let (example, message) = (cell(&row.example), cell(&row.message));
            let _ = writeln!(text, "| {} | {} | {} | {example} | {message} |", row.gate, row.reason, row.variants);
        }
        text.push('\n');
    }
    for (name, why) in &facts.unavailable {
        let _ = writeln!(text, "Not measured: {}: {}\n", code(name), code(why));
    }
    text
}

fn finals(text: &mut String, facts: &Facts) {
    if facts.finals.is_empty() {
        return;
    }
    let over: Vec<&str> = facts.finals.iter().filter(|row| row.rank.is_none()).map(|row| row.name.as_str()).collect();
    text.push_str("| rank | variant or baseline | p50 | 95 % interval |");
    for name in &over {
        let _ = write!(text, " over {} |", cell(name));
    }
    let _ = writeln!(text, "\n| ---: | --- | ---: | ---: |{}", " ---: |".repeat(over.len()));
    for row in &facts.finals {
        let rank = row.rank.map_or_else(String::new, |rank| rank.to_string());
        let (p50, interval) = (report::time(row.timing.summary.p50), report::interval(&row.timing));
        let _ = write!(text, "| {rank} | {} | {p50} | {interval} |", cell(&row.name));
        for name in &over {
            let ratio = row.speedups.get(*name).map_or_else(String::new, |speedup| format!("{:.2}x", speedup.ratio));
            let _ = write!(text, " {ratio} |");
        }
        text.push('\n');
    }
    text.push('\n');
}

/// A code span, whose fence is longer than every row of backticks inside.
pub fn code(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') || text.is_empty() { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A code span in a cell of a table.
pub fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// Name of the outcome of a variant.
pub fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Measured => "measured",
        Fate::Stopped => "stopped early",
        Fate::Rejected => "rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_in_a_code_span_do_not_end_it() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("`a`"), "`` `a` ``");
        assert_eq!(code("a``b\nc"), "```a``b c```");
        assert_eq!(cell("a|b"), "`a\\|b`");
        assert_eq!(code(""), "`  `");
    }
}

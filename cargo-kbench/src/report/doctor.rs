//! Text of `doctor`: a line for each piece.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::style::{BAD, GOOD, WARN};
use super::{hanging, time};
use crate::doctor::{Examination, Need, Piece, State};

/// Tools and devices of a machine, and the missing ones that the selected kernels need.
pub fn examined(found: &Examination, needs: Option<&[Need]>) -> String {
    let mut text = String::new();
    for check in &found.checks {
        let (style, word) = match check.state {
            State::Good => (GOOD, "good"),
            State::Poor => (WARN, "poor"),
            State::Missing => (BAD, "none"),
        };
        let start = format!("  {:<17} {style}{word}{style:#}  ", check.piece.name());
        let effect = if check.state == State::Missing { format!("it {}", check.effect) } else { check.effect.clone() };
        let lines = [check.found.clone(), effect, fix(&check.fix)];
        let lines = lines.iter().filter(|line| !line.is_empty()).map(|line| hanging(&start, line));
        let _ = writeln!(text, "{start}{}", lines.collect::<Vec<_>>().join(&format!("\n{:26}", "")));
    }
    if let Some(noise) = &found.noise {
        let (style, word) = if noise.spread < 0.02 { (GOOD, "good") } else { (WARN, "poor") };
        let start = format!("  {:<17} {style}{word}{style:#}  ", "noise");
        let line = format!(
            "of {} samples of {} on one core, the slowest 5 % took at least {:.1} % longer than the median; {:.1} % took 1.5 times the median or more",
            noise.samples,
            time(noise.p50_ns),
            100.0 * noise.spread,
            100.0 * noise.disturbed
        );
        let _ = writeln!(text, "{start}{}", hanging(&start, &line));
    }
    let Some(needs) = needs else { return text };
    text.push('\n');
    let mut lacking: BTreeMap<(&str, Piece, &str), Vec<&str>> = BTreeMap::new();
    for need in needs.iter().filter(|need| !need.is_met) {
        lacking.entry((&need.package, need.piece, &need.by)).or_default().push(&need.kernel);
    }
    for ((package, piece, by), kernels) in &lacking {
        let start = format!("  {BAD}lacks{BAD:#} {}: ", piece.name());
        let line = format!("package `{package}`, {by} of {}", crate::text::list(kernels));
        let _ = writeln!(text, "{start}{}", hanging(&start, &line));
    }
    if lacking.is_empty() {
        let _ = writeln!(text, "  This machine {GOOD}has{GOOD:#} all that the gates need");
    }
    text
}

fn fix(fix: &str) -> String {
    if fix.is_empty() { String::new() } else { format!("to change this: {fix}") }
}

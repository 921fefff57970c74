//! Text of a repeated search.

use std::fmt::Write as _;

use super::table::Table;
use super::{GOOD, WARN, count, percent, time};
use crate::text::kernel_name;
use crate::tune::repeat::{Repeated, RepeatedWinner};

/// A table of the winners, and the regret of a run.
pub fn repeated(repeated: &Repeated) -> String {
    let Repeated { package, kernel, device, shape, runs, winners } = repeated;
    let all = runs.len() as u64;
    let mut text = format!("{} at {shape} on {device}, {}\n\n", kernel_name(package, kernel), count(all, "run"));
    let mut table = Table::new(["runs", "p50", "regret", "95 % interval", "variant"]);
    for RepeatedWinner { toggles, runs, p50_ns, regret, interval } in winners {
        table.row(vec![
            runs.to_string(),
            p50_ns.map_or_else(|| "failed".to_owned(), time),
            loss(*regret),
            interval.map_or_else(String::new, |(low, high)| format!("{} to {}", percent(low), percent(high))),
            toggles.to_string(),
        ]);
    }
    let _ = writeln!(text, "{table}");
    let regrets = || runs.iter().map(|run| run.winner.map_or(f64::INFINITY, |winner| winners[winner].regret));
    let worst = regrets().fold(0.0, f64::max);
    let mean = regrets().sum::<f64>() / runs.len() as f64;
    let lost = runs.iter().filter(|run| run.winner.is_none()).count() as u64;
    if lost > 0 {
        let _ = writeln!(text, "{WARN}{:>12}{WARN:#} {} without a variant that survived", "Failed", count(lost, "run"));
    }
    let changed = runs.windows(2).filter(|pair| pair[0].winner != pair[1].winner).count() as u64;
    let _ = writeln!(
        text,
        "{GOOD}{:>12}{GOOD:#} {} in {}; the winner changed {}; regret of a run: mean {}, worst {}",
        "Repeated",
        count(winners.len() as u64, "different winner"),
        count(all, "run"),
        count(changed, "time"),
        loss(mean),
        loss(worst)
    );
    text
}

/// A loss in percent; `none` if it has no bound.
fn loss(share: f64) -> String {
    if share.is_finite() { percent(share) } else { "none".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Settings;
    use crate::tune::repeat::RepeatedRun;

    #[test]
    fn regrets_are_listed_and_runs_without_a_winner_counted() {
        let winner = |runs, regret| RepeatedWinner {
            toggles: Settings::default(),
            runs,
            p50_ns: Some(1000.0 * (1.0 + regret)),
            regret,
            interval: (regret > 0.0).then_some((regret - 0.01, regret + 0.01)),
        };
        let run = |seed, winner| RepeatedRun { seed, evaluated: 9, winner };
        let mut found = Repeated {
            package: "p".into(),
            kernel: "k".into(),
            device: "fake".into(),
            shape: "s".into(),
            runs: vec![run(0, Some(0)), run(1, Some(1)), run(2, Some(0)), run(3, Some(0))],
            winners: vec![winner(3, 0.0), winner(1, 0.04)],
        };
        let text = super::super::style::plain(&repeated(&found));
        let last = "    Repeated 2 different winners in 4 runs; the winner changed 2 times; regret of a run: mean 1.0 %, worst 4.0 %\n";
        assert!(text.ends_with(last) && text.contains("4.0 %  3.0 % to 5.0 %"), "{text}");
        found.runs[3].winner = None;
        let text = super::super::style::plain(&repeated(&found));
        assert!(
            text.contains("Failed 1 run without a variant that survived") && text.ends_with("worst none\n"),
            "{text}"
        );
    }
}

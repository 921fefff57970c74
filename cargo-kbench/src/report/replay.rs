//! Text of `replay`: scores of a strategy on recorded spaces.

use std::fmt::Write as _;

use super::table::Table;
use super::{NOTE, count};
use crate::replay::scores::{CHECKPOINTS, Overall, Reached, Scores};
use crate::replay::{Options, Replayed};

/// A row for each record and one for all.
pub fn table(all: &[Replayed], overall: &Overall, options: &Options) -> String {
    let mut text = format!(
        "{} on {}: {} of {} each, best / optimum after each number of evaluations\n\n",
        options.name(),
        count(all.len() as u64, "record"),
        count(options.seeds, "run"),
        count(options.budget, "evaluation"),
    );
    let mut table = Table::new([]);
    table.columns(CHECKPOINTS.iter().map(ToString::to_string));
    table.columns(["to 5 %", "runs", "to 1 %", "runs", "P200", "P", "failed", "own µs", "record"].map(str::to_owned));
    for replayed in all {
        let Scores { name, best, to_5, to_1, p200, p, failed, micros, .. } = &replayed.scores;
        table.row(row(name.clone(), best, [to_5, to_1], [*p200, *p], *failed, *micros));
    }
    let Overall { best, to_5, to_1, p200, p, failed, micros } = overall;
    if all.len() > 1 {
        table.row(row("all".to_owned(), best, [to_5, to_1], [*p200, *p], *failed, *micros));
    }
    let _ = writeln!(text, "{table}");
    let _ = writeln!(
        text,
        "{NOTE}Note{NOTE:#} geometric means of best / optimum; medians of evaluations to within 5 % and 1 %, with the share of \
         runs that get there;\nP200 and P: 0 is random search, 1 the optimum at once; own µs: what the strategy itself takes for one evaluation"
    );
    text
}

fn row(
    name: String,
    best: &[(usize, Option<f64>)],
    goals: [&Reached; 2],
    scores: [Option<f64>; 2],
    failed: f64,
    micros: f64,
) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut cells: Vec<String> = best.iter().map(|(_, best)| or_dash(best.map(|best| format!("{best:.3}")))).collect();
    for Reached { median, share } in goals {
        cells.push(or_dash(median.map(|median| median.to_string())));
        cells.push(format!("{:.0} %", share * 100.0));
    }
    cells.extend(scores.map(|score| or_dash(score.map(|score| format!("{score:.3}")))));
    cells.push(format!("{failed:.1}"));
    cells.push(format!("{micros:.1}"));
    cells.push(name);
    cells
}

//! The lines below the bar of a search: the best variant, the course of the best time, and the number of rejected
//! variants by reason.

use std::collections::BTreeMap;

use super::objectives;
use crate::record::evaluation::Evaluation;
use crate::text::printable;

/// Largest width of the sparkline in columns.
const COLUMNS: usize = 24;
/// Levels of the sparkline, lowest value first.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns before the text of a line: width of cargo's verbs and a space.
const INDENT: usize = 13;

/// State of a search for the lines below its bar.
#[derive(Debug, Default)]
pub struct Live {
    /// Number of variants compiled and to compile, while the device waits for them.
    compiled: Option<(u64, u64)>,
    /// Number of workers that measure, that are open, and of all, where there are several.
    workers: Option<(usize, usize, usize)>,
    /// Label and value of the best variant.
    best: Option<(String, f64)>,
    /// Value of the best variant after each evaluation since the first that passed.
    values: Vec<f64>,
    /// Number of rejected variants by `gate/code`.
    rejected: BTreeMap<String, u64>,
}

impl Live {
    /// Sets how many variants are compiled.
    pub fn compiled(&mut self, done: u64, total: u64) {
        self.compiled = (done < total).then_some((done, total));
    }

    /// Sets how many of several workers measure and how many are open.
    pub fn workers(&mut self, busy: usize, open: usize, total: usize) {
        self.workers = Some((busy, open, total));
    }

    /// Adds an evaluation. `best` is the label and value of the best variant so far.
    pub fn add(&mut self, evaluation: &Evaluation, best: Option<(&str, f64)>) {
        if let Some(rejection) = evaluation.rejection() {
            *self.rejected.entry(format!("{}/{}", rejection.gate, rejection.code)).or_default() += 1;
        }
        self.values.extend(best.map(|(_, value)| value));
        self.best = best.map(|(label, value)| (label.to_owned(), value));
        self.compiled = None;
    }

    /// The lines below the bar, each of `width` columns at most. `objective` is the name of the search's objective.
    pub fn lines(&self, objective: &str, width: usize) -> String {
        let best = self.best.iter().map(|(label, value)| {
            printable(&format!("best {} {label}", objectives::shown(objective, *value))).into_owned()
        });
        let compiled = self.compiled.map(|(done, total)| format!("compiled {done} of {total}"));
        let workers = self.workers.map(|(busy, open, total)| match total - open {
            0 => format!("{busy} of {total} workers busy"),
            lost => format!("{busy} of {total} workers busy, {lost} not open"),
        });
        let parts = [Some(sparkline(&self.values)), workers, compiled, self.reasons()];
        let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        let below = (!parts.is_empty()).then(|| parts.join("  "));
        let lines = best.chain(below).map(|line| {
            let columns = width.saturating_sub(INDENT);
            let cut = if line.chars().count() > columns { "…" } else { "" };
            let kept: String = line.chars().take(columns - cut.chars().count().min(columns)).collect();
            format!("\n{:INDENT$}{kept}{cut}", "")
        });
        lines.collect()
    }

    /// `7 rejected: resources/spills 4, correctness/wrong 3`.
    fn reasons(&self) -> Option<String> {
        let total: u64 = self.rejected.values().sum();
        let mut reasons: Vec<(&String, &u64)> = self.rejected.iter().collect();
        reasons.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
        let reasons = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ");
        (total > 0).then(|| format!("{total} rejected: {reasons}"))
    }
}

/// A bar for each value, on a logarithmic scale from the smallest to the largest. More values than [`COLUMNS`] share
/// columns, each of which shows its last value. Empty for fewer than two values, and if a value has no logarithm.
fn sparkline(values: &[f64]) -> String {
    if values.len() < 2 || values.iter().any(|value| !value.is_finite() || *value <= 0.0) {
        return String::new();
    }
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(least, most), &v| (least.min(v), most.max(v)));
    let columns = values.len().min(COLUMNS);
    let shown = (1..=columns).map(|column| values[column * values.len() / columns - 1]);
    let level = |value: f64| if most > least { (value / least).ln() / (most / least).ln() } else { 0.0 };
    shown.map(|value| LEVELS[(level(value) * (LEVELS.len() - 1) as f64).round() as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::evaluation::Rejection;
    use crate::space::Settings;

    fn rejected(gate: &str, code: &str) -> Evaluation {
        let mut evaluation = Evaluation::new(Settings::default(), Vec::new());
        evaluation.reject(
            serde_json::from_value::<Rejection>(serde_json::json!({
                "gate": gate, "code": code, "message": "",
            }))
            .unwrap(),
        );
        evaluation
    }

    #[test]
    fn a_search_shows_its_best_how_it_fell_and_why_variants_were_rejected() {
        let mut live = Live::default();
        assert_eq!(live.lines("p50", 80), "");
        live.add(&rejected("resources", "spills"), None);
        assert_eq!(live.lines("p50", 80), "\n             1 rejected: resources/spills 1");
        for best in [8e3, 8e3, 4e3, 1e3] {
            live.add(&Evaluation::new(Settings::default(), Vec::new()), Some(("A=1", best)));
        }
        live.add(&rejected("correctness", "wrong"), Some(("A=1 \u{1b}[2J", 1e3)));
        live.add(&rejected("correctness", "wrong"), Some(("A=1 \u{1b}[2J", 1e3)));
        live.compiled(3, 5);
        let expected = "
             best 1.000 µs A=1 \\u{1b}[2J
             ██▆▁▁▁  compiled 3 of 5  3 rejected: correctness/wrong 2, resources/spills 1";
        assert_eq!(live.lines("p50", 100), expected);
        live.workers(2, 3, 4);
        let busy = live.lines("p50", 100);
        assert!(busy.contains("██▆▁▁▁  2 of 4 workers busy, 1 not open  compiled 3 of 5"), "{busy}");
        live.workers = None;
        live.compiled(5, 5);
        let narrow = "
             best 1.000 µs A=1 \\u{1b}[2J
             ██▆▁▁▁  3 rejected: correctne…";
        assert_eq!(live.lines("p50", 43), narrow);
        assert_eq!(live.lines("p50", 3).lines().count(), 3, "too narrow for any text");
    }

    #[test]
    fn a_long_search_fits_the_columns_of_its_sparkline() {
        let values: Vec<f64> = (0..1000).map(|at| f64::from(2000 - at)).collect();
        assert_eq!(sparkline(&values).chars().count(), COLUMNS);
        assert!(sparkline(&values).ends_with('▁') && sparkline(&values).starts_with('█'));
        assert_eq!(sparkline(&[1.0, 1.0]), "▁▁");
        assert_eq!(sparkline(&[1.0]), "");
        assert_eq!(sparkline(&[1.0, 0.0]), "", "no logarithm");
    }
}

//! The page. askama escapes every text; texts that are marked safe were made here, by plotters or by `serde_json`.

use askama::Template;
use kbench_runtime::fingerprint;
use kbench_runtime::stats::Speedup;

use super::data::Data;
use super::effects::Interaction;
use super::facts::{Facts, Finalist, Transfer, Winner};
use super::plots::{self, Figure, ink};
use crate::config::DEFAULT;
use crate::record::conclusion::Stopped;
use crate::record::run::Run;
use crate::record::verdict::{JudgedSpeedup, Verdict};
use crate::report::{self, objectives};
use crate::text::{count, date_of, dims, printable};

/// The template.
#[derive(Template)]
#[template(path = "report.html")]
struct Page<'f> {
    facts: &'f Facts,
    /// Nonce of the scripts that may run. It is a hash of all data of the page, so that no text in the page can contain
    /// it.
    nonce: String,
    style: &'static str,
    ink: &'static str,
    script: &'static str,
    sizes: String,
    date: String,
    counts: String,
    cards: Vec<Card>,
    sentences: Vec<String>,
    /// Names of the speed-up columns.
    over: Vec<String>,
    /// Names of the objectives of the finals other than p50.
    objectives: Vec<String>,
    finals: Vec<Row>,
    figures_of_finals: Vec<&'f Figure>,
    figures_of_search: Vec<&'f Figure>,
    interactions: Vec<Pair>,
    provenance: Vec<(String, String)>,
    version: &'static str,
    data: String,
}

/// A number of the summary.
struct Card {
    value: String,
    label: String,
}

/// A cell: its sort key, and its text.
type Cell = (String, String);

/// A row of the finals.
struct Row {
    is_winner: bool,
    order: usize,
    rank: String,
    name: String,
    ties: bool,
    p50: Cell,
    interval: String,
    p90: Cell,
    p99: Cell,
    samples: usize,
    over: Vec<Cell>,
    objectives: Vec<Cell>,
}

/// The table of an interaction.
struct Pair {
    title: String,
    corner: String,
    columns: Vec<String>,
    /// Value of the row, and a class and a text for each column.
    rows: Vec<(String, Vec<(&'static str, String)>)>,
}

fn pair(of: &Interaction) -> Pair {
    let (rows, columns) = &of.toggles;
    let cell = |factor: &Option<f64>| match *factor {
        None => ("none", "–".to_owned()),
        Some(factor) => (shade(factor), format!("{factor:.2}×")),
    };
    let cells = of.factors.iter().map(|row| row.iter().map(cell).collect());
    Pair {
        title: format!("{rows} and {columns}: {:.1} %", 100.0 * of.share),
        corner: format!("{rows} \\ {columns}"),
        columns: of.columns.clone(),
        rows: of.rows.iter().cloned().zip(cells).collect(),
    }
}

/// Class of a factor: three shades for slower and three for faster.
fn shade(factor: f64) -> &'static str {
    match factor {
        factor if factor > 1.25 => "slow3",
        factor if factor > 1.08 => "slow2",
        factor if factor > 1.02 => "slow1",
        factor if factor < 0.8 => "fast3",
        factor if factor < 0.92 => "fast2",
        factor if factor < 0.98 => "fast1",
        _ => "even",
    }
}

/// The page of a run.
pub fn page(facts: &Facts, run: &Run) -> String {
    let figures = plots::all(facts, run);
    let data = Data::of(facts, &figures).script();
    let (of_finals, of_search): (Vec<&Figure>, Vec<&Figure>) = figures
        .iter()
        .partition(|figure| ["finals", "ecdf-finalists", "ecdf-baselines", "roofline"].contains(&figure.name));
    let over: Vec<String> = facts.finals.iter().filter(|row| row.rank.is_none()).map(|row| row.name.clone()).collect();
    let first = facts.finals.first().map_or(&[][..], |row| &row.objectives);
    let others: Vec<String> = first.iter().map(|value| value.name.clone()).filter(|name| name != "p50").collect();
    let page = Page {
        facts,
        nonce: fingerprint::of_bytes(data.as_bytes()),
        style: include_str!("html/report.css"),
        ink: ink::STYLE,
        script: concat!(include_str!("html/sort.js"), include_str!("html/report.js")),
        sizes: dims(&facts.dims),
        date: date_of(facts.time),
        counts: counts(facts),
        cards: facts.winner.as_ref().map_or_else(Vec::new, |winner| cards(facts, winner)),
        sentences: sentences(facts),
        finals: facts.finals.iter().enumerate().map(|(at, row)| self::row(at, row, &over, &others)).collect(),
        over,
        objectives: others,
        figures_of_finals: of_finals,
        figures_of_search: of_search,
        interactions: facts.effects.iter().flat_map(|effects| &effects.interactions).map(pair).collect(),
        provenance: provenance(facts, run),
        version: env!("CARGO_PKG_VERSION"),
        data,
    };
    page.render().unwrap_or_else(|error| unreachable!("a template that compiles is rendered: {error}"))
}

/// Numbers of variants, in words.
pub(super) fn counts(facts: &Facts) -> String {
    let of = &facts.counts;
    let space = of.space.map_or_else(String::new, |space| format!(" of {space}"));
    let mut parts = vec![format!("{}{space} tried", count(of.tried, "variant")), format!("{} measured", of.measured)];
    let more = [
        (of.stopped, "stopped early"),
        (of.rejected, "rejected"),
        (of.identical_code, "with the code of another"),
        (of.cached, "measured by an earlier run"),
    ];
    parts.extend(more.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
    parts.join(", ")
}

fn cards(facts: &Facts, winner: &Winner) -> Vec<Card> {
    let mut cards = Vec::new();
    if let Some(row) = facts.finals.first() {
        let label = match row.timing.summary.interval() {
            Some(_) => format!("p50; 95 % interval {}", report::interval(&row.timing)),
            None => format!("p50 of {}", count(row.timing.summary.n, "sample")),
        };
        cards.push(Card { value: report::time(row.timing.summary.p50), label });
        for value in winner.objectives.iter().filter(|value| value.name != "p50") {
            cards.push(Card { value: objectives::shown(&value.name, value.value), label: value.name.clone() });
        }
        for (name, speedup) in &row.speedups {
            let label = format!("over {name}; 95 % interval {}", report::speedup_interval(speedup));
            cards.push(Card { value: format!("{:.2}×", speedup.ratio), label });
        }
    }
    if let Some(floor) = winner.noise_floor {
        let label = "noise floor: difference of the winner from itself".to_owned();
        cards.push(Card { value: format!("{:.2} %", 100.0 * floor), label });
    }
    cards
}

/// Confidence of the result, in words.
pub(super) fn sentences(facts: &Facts) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(winner) = &facts.winner {
        all.extend(winner.over_default.as_ref().map(|judged| against(judged, DEFAULT)));
        all.extend(winner.over_second.as_ref().map(|judged| against(judged, "rank 2")));
        if let Some(by) = winner.tie_by.filter(|_| winner.tie.len() > 1) {
            all.push(format!(
                "The winner ties with {}; it wins since {by}.",
                count(winner.tie.len() - 1, "other variant")
            ));
        }
    }
    all.extend(facts.stopped.map(|why| match why {
        Stopped::CtrlC => "The user ended the search before its budget did.".to_owned(),
        Stopped::Evaluations => "The search was stopped by its budget of evaluations.".to_owned(),
        Stopped::Seconds => "The search was stopped by its budget of seconds.".to_owned(),
        Stopped::Roofline => {
            "The search ended since a variant reached the share of the ceiling that the table states.".to_owned()
        }
    }));
    all.extend(facts.launches.iter().map(|Transfer { mode, variants, loss_there, loss_here, .. }| {
        let (there, here) = (100.0 * loss_there, 100.0 * loss_here);
        format!(
            "With launch mode {} the winner takes {there:.1} % longer than the fastest variant there, which takes {here:.1} % longer than the \
             fastest here; by the times of two searches, {} in both.",
            mode.name(),
            count(*variants, "variant")
        )
    }));
    all
}

fn against(judged: &JudgedSpeedup, other: &str) -> String {
    let with_interval = |speedup: &Speedup| format!("(95 % interval {})", report::speedup_interval(speedup));
    let (speedup, slowdown) = (&judged.speedup, judged.speedup.inverse());
    match judged.verdict {
        Verdict::Faster => format!("{:.2}× faster than {other} {}.", speedup.ratio, with_interval(speedup)),
        Verdict::Slower => format!("{:.2}× slower than {other} {}.", slowdown.ratio, with_interval(&slowdown)),
        Verdict::Same => format!("The same as {other} within 1 % {}.", with_interval(speedup)),
        Verdict::Inconclusive => format!("Not distinguishable from {other} {}.", with_interval(speedup)),
    }
}

fn row(at: usize, row: &Finalist, over: &[String], others: &[String]) -> Row {
    let summary = &row.timing.summary;
    let cell = |nanoseconds: f64| (nanoseconds.to_string(), report::time(nanoseconds));
    let over = over.iter().map(|name| match row.speedups.get(name) {
        Some(speedup) => {
            (speedup.ratio.to_string(), format!("{:.2}× ({})", speedup.ratio, report::speedup_interval(speedup)))
        }
        None => (String::new(), String::new()),
    });
    let objectives = others.iter().map(|name| match row.objectives.iter().find(|value| value.name == *name) {
        Some(value) => (value.value.to_string(), objectives::shown(&value.name, value.value)),
        None => (String::new(), String::new()),
    });
    Row {
        is_winner: row.rank == Some(1),
        order: at,
        rank: row.rank.map_or_else(String::new, |rank| rank.to_string()),
        name: row.name.clone(),
        ties: row.ties,
        p50: cell(summary.p50),
        interval: report::interval(&row.timing),
        p90: cell(summary.p90),
        p99: cell(summary.p99),
        samples: summary.n,
        over: over.collect(),
        objectives: objectives.collect(),
    }
}

/// Rows of the section Provenance.
fn provenance(facts: &Facts, run: &Run) -> Vec<(String, String)> {
    let mut all: Vec<(&str, String)> = vec![("kernel", facts.kernel.clone()), ("device", facts.device.clone())];
    if let Some(entry) = run.conclusion.as_ref().map(|conclusion| &conclusion.entry) {
        let device = &entry.device;
        all.push(("driver or system", device.driver.clone()));
        all.extend(device.compute_capability.as_ref().map(|capability| ("compute capability", capability.clone())));
        all.push(("multiprocessors or cores", device.multiprocessors.to_string()));
        if device.clock_khz > 0 {
            all.push(("highest clock", format!("{} MHz", device.clock_khz / 1000)));
        }
        all.push(("search", format!("{}, seed {}", entry.search.strategy, entry.search.seed)));
        all.push(("ended", entry.date.clone()));
        all.push(("cargo kbench", entry.kbench.clone()));
        if !entry.search.dead_toggles.is_empty() {
            all.push(("toggles that changed nothing", entry.search.dead_toggles.join(", ")));
        }
    }
    all.push(("begun", date_of(facts.time)));
    if let Some(timing) = &run.start.timing {
        let precision = timing.precision.map_or_else(String::new, |share| format!(", precision {} %", share * 100.0));
        let (warmup, iterations, cache, launch) =
            (timing.warmup, timing.iterations, &timing.cache, timing.launch.name());
        all.push((
            "timing",
            format!("cache {cache}, launch {launch}, warm-up {warmup}, at least {iterations} samples{precision}"),
        ));
    }
    all.push(("default", run.start.default.to_string()));
    let winner = run.conclusion.as_ref().and_then(|conclusion| conclusion.entry.elite.first());
    for build in winner.into_iter().flat_map(|winner| &winner.builds) {
        let shapes = build.shapes.join(", ");
        all.push(("compiler of the winner", build.compiler.clone()));
        all.push(("command", report::command(build.command.iter().map(String::as_str))));
        if !build.link.is_empty() {
            all.push(("link command", report::command(build.link.iter().map(String::as_str))));
        }
        all.push(("shapes of that build", shapes));
        all.push(("source, blake3", build.source_hash.clone()));
        all.push(("binary, blake3", build.binary_hash.clone()));
        all.push(("resources", build.resources.to_string()));
    }
    if run.damaged > 0 {
        all.push(("journal", crate::record::journal::damaged_lines(run.damaged)));
    }
    all.into_iter().map(|(name, value)| (name.to_owned(), printable(&value).into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_stands_on_the_scale_of_the_number_beside_it() {
        let of = |ratio: f64, verdict| JudgedSpeedup {
            speedup: Speedup { ratio, low: 0.8 * ratio, high: 1.25 * ratio },
            verdict,
        };
        assert_eq!(
            against(&of(2.0, Verdict::Faster), "default"),
            "2.00× faster than default (95 % interval 1.600 to 2.500)."
        );
        assert_eq!(
            against(&of(0.5, Verdict::Slower), "default"),
            "2.00× slower than default (95 % interval 1.600 to 2.500)."
        );
    }
}

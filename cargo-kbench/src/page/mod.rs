//! Documents made of a run's records: the report as a page, as text, as data.

use std::collections::HashMap;

use crate::record::run::Run;
use facts::Facts;

mod columns;
pub mod compare;
mod csv;
mod data;
mod effects;
mod facts;
mod html;
mod junit;
mod listing;
mod markdown;
mod plots;
mod tuner;
mod values;
mod variant;

pub use listing::{Query, QueryError};
pub use variant::NameError;

/// A format of a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A page that needs no other file
    #[default]
    Html,
    /// Markdown, for a pull request
    Md,
    /// Comma-separated values, a line for each variant
    Csv,
    /// All facts as JSON, by `schema/report.schema.json`
    Json,
    /// `JUnit` XML, for a server of continuous integration
    Junit,
    /// Results in the T4 format of the auto-tuning community
    T4,
    /// A cachefile of Kernel Tuner
    Cachefile,
}

/// A document about a run.
#[derive(Debug)]
pub struct Document<'r> {
    run: &'r Run,
    facts: Facts,
}

impl<'r> Document<'r> {
    /// The document about `run`.
    pub fn new(run: &'r Run) -> Self {
        Self { run, facts: Facts::of(run) }
    }

    /// The page as one file that needs no other.
    pub fn html(&self) -> String {
        html::page(&self.facts, self.run)
    }

    /// The plots: file name and SVG of each.
    pub fn plots(&self) -> Vec<(String, String)> {
        let figures = plots::all(&self.facts, self.run);
        figures.iter().map(|figure| (format!("{}.svg", figure.name), figure.file())).collect()
    }

    /// Markdown.
    pub fn markdown(&self) -> String {
        markdown::run(&self.facts)
    }

    /// Comma-separated values.
    pub fn csv(&self) -> String {
        csv::run(&self.facts)
    }

    /// T4 results.
    pub fn t4(&self) -> String {
        tuner::t4(&self.facts)
    }

    /// A cachefile of Kernel Tuner.
    pub fn cachefile(&self) -> String {
        tuner::cachefile(&self.facts)
    }

    /// Title of the run: kernel, shape and device.
    pub fn title(&self) -> String {
        self.facts.title()
    }

    /// The variants as a table for a terminal.
    pub fn listing(&self, query: &Query<'_>) -> Result<String, QueryError> {
        listing::table(&self.facts, query)
    }

    /// All records of the variant that a number or toggles name.
    pub fn variant(&self, name: &str, is_verbose: bool) -> Result<String, NameError> {
        let at = variant::find(&self.facts, name)?;
        Ok(variant::text(&self.facts, self.run, at, is_verbose))
    }
}

/// Documents as JSON.
pub fn json(documents: &[Document<'_>]) -> String {
    let all: Vec<&Facts> = documents.iter().map(|document| &document.facts).collect();
    serde_json::to_string_pretty(&all).expect("texts and numbers") + "\n"
}

/// Documents as `JUnit` XML.
pub fn junit(documents: &[Document<'_>]) -> String {
    junit::runs(&documents.iter().map(|document| &document.facts).collect::<Vec<_>>())
}

/// Indices of variants by their label.
fn places(facts: &Facts) -> HashMap<&str, usize> {
    facts.variants.iter().enumerate().map(|(at, tried)| (&*tried.variant, at)).collect()
}

#[cfg(test)]
mod tests {
    use kbench_runtime::stats::Summary;

    use super::*;
    use crate::expr::Value;
    use crate::record::evaluation::{Evaluation, GateName, Reason, Rejection, TimingRecord};
    use crate::record::journal::Start;
    use crate::space::Settings;

    #[test]
    fn the_page_of_ten_thousand_variants_is_below_ten_megabytes() {
        const TOGGLES: [(&str, i64); 5] = [("TILE_M", 10), ("TILE_N", 10), ("UNROLL", 10), ("STAGES", 5), ("ASYNC", 2)];
        let evaluation = |at: i64| {
            let digits = TOGGLES.iter().scan(at, |rest, (name, values)| {
                let value = *rest % values;
                *rest /= values;
                Some(((*name).to_owned(), Value::Int(value)))
            });
            let mut evaluation = Evaluation::new(Settings(digits.collect()), Vec::new());
            if at % 3 == 0 {
                let message =
                    format!("rms_err {at} > 1e-4; worst at element {at} of `y`: 3.0 where the reference has 0");
                evaluation.reject(Rejection::new(GateName::Correctness, Reason::Wrong, message, Some("square")));
            } else {
                let summary = Summary::of(&[1e4 + at as f64; 3]).unwrap();
                let (shape, clock) = ("square".to_owned(), "fake".to_owned());
                evaluation.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling: None });
            }
            evaluation
        };
        let start = Start { kernel: "p/k".into(), device: "d".into(), ..Start::default() };
        let run = Run { start, evaluations: (0..10_000).map(evaluation).collect(), ..Run::default() };
        let page = Document::new(&run).html();
        assert!(page.len() < 10_000_000, "{}", page.len());
        // All variants, in the plot of the search.
        assert_eq!(page.matches("class=\"f p3 m\"").count() + page.matches("<polygon").count(), 10_000);
    }

    #[test]
    fn the_committed_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/report.schema.json");
        let current = serde_json::to_string_pretty(&schemars::schema_for!(Vec<Facts>)).unwrap() + "\n";
        if std::env::var_os("KBENCH_UPDATE").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == current, "run `KBENCH_UPDATE=1 cargo test -p cargo-kbench schema`");
    }
}

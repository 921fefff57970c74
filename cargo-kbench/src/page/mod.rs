//! Documents made of a run's records: the report as a page, as text, as data.

use std::collections::HashMap;

use crate::record::run::Run;
use facts::Facts;

mod data;
mod effects;
mod facts;
mod html;
mod plots;

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

    /// The page: one file that needs no other.
    pub fn html(&self) -> String {
        html::page(&self.facts, self.run)
    }

    /// The plots: a file name and an SVG each.
    pub fn plots(&self) -> Vec<(String, String)> {
        let figures = plots::all(&self.facts, self.run);
        figures.iter().map(|figure| (format!("{}.svg", figure.name), figure.file())).collect()
    }

    /// What the run is of: kernel, shape and device.
    pub fn title(&self) -> String {
        self.facts.title()
    }

    /// Whether variants were tried at all.
    pub fn is_empty(&self) -> bool {
        self.facts.variants.is_empty()
    }
}

/// Indices of variants by their label.
fn places(facts: &Facts) -> HashMap<&str, usize> {
    facts.variants.iter().enumerate().map(|(at, tried)| (&*tried.variant, at)).collect()
}

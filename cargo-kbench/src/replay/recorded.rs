//! A recorded space: every configuration with its outcome.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::expr::Value;
use crate::search::{Candidates, Outcome};
use crate::space::{Layer, Reach, Settings, Space, Toggle, Variant};

use super::ELITE;
use super::problem::Problem;

/// A recorded space.
#[derive(Debug)]
pub struct Recorded {
    /// Name of the file.
    pub name: String,
    /// The configurations, sorted by value indices.
    pub candidates: Candidates,
    /// Outcome and cost of each configuration.
    pub entries: Vec<Entry>,
    /// Times of the configurations that passed, ascending, in the record's unit.
    pub times: Vec<f64>,
}

/// One configuration's record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Outcome.
    pub outcome: Outcome,
    /// Cost of the evaluation in milliseconds: compilation, checks, all samples and the tuner's own time. `None` if the
    /// record has no costs.
    pub cost: Option<f64>,
}

impl Recorded {
    /// A space of these configurations. Its toggles are in the order of the first configuration, their values ascending
    /// (texts in order of first appearance), so that the same data gives the same space from every format. Records have
    /// no layers: toggles with more than two values are macro toggles.
    pub(super) fn new(name: String, rows: &[(Settings, Entry)]) -> Result<Self, Problem> {
        let Some((first, _)) = rows.first() else { return Err(Problem::Empty) };
        let mut toggles: Vec<Toggle> = first
            .0
            .iter()
            .map(|(name, _)| Toggle {
                name: name.clone(),
                values: Vec::new(),
                layer: Layer::Macro,
                reach: Reach::Macro,
            })
            .collect();
        for (row, (settings, _)) in rows.iter().enumerate() {
            if settings.0.len() != toggles.len() {
                return Err(Problem::Parameters { row, settings: settings.clone() });
            }
            for toggle in &mut toggles {
                let value =
                    settings.get(&toggle.name).ok_or(Problem::Parameters { row, settings: settings.clone() })?;
                if toggle.index_of(value).is_none() {
                    toggle.values.push(value.clone());
                }
            }
        }
        for toggle in &mut toggles {
            toggle.values.sort_by(compare);
            if toggle.values.len() <= 2 {
                toggle.layer = Layer::Micro;
            }
        }
        let indices: Vec<HashMap<String, u16>> = toggles
            .iter()
            .map(|toggle| toggle.values.iter().enumerate().map(|(at, value)| (value.to_string(), at as u16)).collect())
            .collect();
        let index = |settings: &Settings, toggle: usize| {
            let value = settings.get(&toggles[toggle].name).expect("checked above");
            let of_text = indices[toggle].get(&value.to_string()).copied();
            of_text.unwrap_or_else(|| toggles[toggle].index_of(value).expect("gathered above") as u16)
        };
        let mut variants: Vec<(Variant, Entry)> = rows
            .iter()
            .map(|(settings, entry)| {
                (Variant((0..toggles.len()).map(|toggle| index(settings, toggle)).collect()), *entry)
            })
            .collect();
        variants.sort_by(|(a, _), (b, _)| a.cmp(b));
        let default = variants[0].0.clone();
        let (variants, entries): (Vec<Variant>, Vec<Entry>) = variants.into_iter().unzip();
        let space = Space { toggles, constraints: Vec::new(), default };
        if let Some([twice, _]) = variants.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Problem::Twice(space.settings(twice)));
        }
        let mut times: Vec<f64> = entries.iter().filter_map(|entry| entry.outcome.objective()).collect();
        if times.is_empty() {
            return Err(Problem::NoTime);
        }
        times.sort_by(f64::total_cmp);
        Ok(Self { name, candidates: Candidates::recorded(space, variants), entries, times })
    }

    /// The toggles of the best configurations, best first.
    pub fn elite(&self) -> Vec<Settings> {
        let time = |at: &usize| self.entries[*at].outcome.objective().unwrap_or(f64::INFINITY);
        let mut best: Vec<usize> = (0..self.entries.len()).collect();
        best.sort_by(|a, b| time(a).total_cmp(&time(b)));
        let list = self.candidates.list().unwrap_or_default();
        best.into_iter().take(ELITE).map(|at| self.candidates.settings(&list[at])).collect()
    }

    /// Starts every run with these configurations, if the record has them.
    pub fn begin_with(&mut self, settings: &[Settings]) {
        let variants: Vec<Variant> =
            settings.iter().filter_map(|settings| self.candidates.variant(settings).ok()).collect();
        self.candidates = self.candidates.clone().beginning_with(variants);
    }

    /// The best time.
    pub fn optimum(&self) -> f64 {
        self.times[0]
    }

    /// The worst time of a configuration that passed.
    pub fn worst(&self) -> f64 {
        self.times[self.times.len() - 1]
    }
}

/// Order of values: numbers ascending, then texts in their present order.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_float(), b.as_float()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

//! Toggles and resources of the variants, one column each.

use serde::Serialize;

use super::facts::Facts;
use super::values::sort;
use crate::build::Resources;
use crate::expr::Value;
use crate::text::printable;

/// A toggle.
#[derive(Debug, Serialize)]
pub struct Column {
    /// Name of the toggle.
    pub name: String,
    /// Values in ascending order.
    pub values: Vec<String>,
    /// Index into `values` by variant, -1 if a variant has none.
    pub levels: Vec<i32>,
}

impl Column {
    /// The height of a value on an axis from 0 to 1.
    pub fn height(&self, level: usize) -> f64 {
        level as f64 / (self.values.len() - 1).max(1) as f64
    }

    /// The height of the value of a variant.
    pub fn place(&self, variant: usize) -> f64 {
        self.height(usize::try_from(self.levels[variant]).unwrap_or(0))
    }
}

/// A resource.
#[derive(Debug, Serialize)]
pub struct Resource {
    /// Name of the resource.
    pub name: &'static str,
    /// Amount by variant.
    pub values: Vec<Option<u64>>,
}

/// The toggles.
pub fn columns(facts: &Facts) -> Vec<Column> {
    let Some(first) = facts.variants.first() else { return Vec::new() };
    let column = |(name, _): &(String, Value)| {
        let of: Vec<Option<&Value>> = facts.variants.iter().map(|variant| variant.toggles.get(name)).collect();
        let mut values: Vec<Value> = Vec::new();
        for value in of.iter().copied().flatten() {
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        sort(&mut values);
        let level = |value: Option<&Value>| {
            value.and_then(|value| values.iter().position(|known| known == value)).map_or(-1, |at| at as i32)
        };
        let levels = of.iter().copied().map(level).collect();
        Column {
            name: printable(name).into_owned(),
            values: values.iter().map(|value| printable(&value.to_string()).into_owned()).collect(),
            levels,
        }
    };
    first.toggles.0.iter().map(column).collect()
}

type Get = fn(&Resources) -> Option<u64>;

/// The resources in which variants differ.
pub fn resources(facts: &Facts) -> Vec<Resource> {
    let all: [(&'static str, Get); 5] = [
        ("registers", |used| used.registers),
        ("static shared B", |used| used.static_shared),
        ("spill B", Resources::spills),
        ("stack B", |used| used.stack),
        ("code B", |used| used.code_bytes),
    ];
    let of = |(name, get): (&'static str, Get)| Resource {
        name,
        values: facts.variants.iter().map(|variant| variant.resources.as_ref().and_then(get)).collect(),
    };
    let differ = |resource: &Resource| {
        let mut known = resource.values.iter().flatten();
        known.next().is_some_and(|first| known.any(|other| other != first))
    };
    all.into_iter().map(of).filter(differ).collect()
}

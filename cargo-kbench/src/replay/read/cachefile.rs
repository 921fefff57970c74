//! Kernel Tuner's cachefile: `cache` maps each configuration to its parameters, its time or the name of its failure,
//! and its costs in milliseconds.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::sound;
use crate::expr::Value;
use crate::replay::problem::Problem;
use crate::replay::recorded::Entry;
use crate::search::{Failure, Outcome};
use crate::space::Settings;

#[derive(Deserialize)]
struct File {
    tune_params_keys: Vec<String>,
    #[serde(deserialize_with = "values_in_order")]
    cache: Vec<HashMap<String, Field>>,
}

/// Parameters and results lie side by side.
#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Value(Value),
    Times(Vec<f64>),
    Other(serde::de::IgnoredAny),
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(Settings, Entry)>, Problem> {
    let file: File =
        serde_json::from_slice(bytes).map_err(|error| Problem::Format { format: "Kernel Tuner cachefile", error })?;
    let row = |(row, mut fields): (usize, HashMap<String, Field>)| {
        let setting = |key: &String| match fields.get(key) {
            Some(Field::Value(value)) => Some((key.clone(), value.clone())),
            _ => None,
        };
        let settings = Settings(file.tune_params_keys.iter().filter_map(setting).collect());
        if settings.0.len() != file.tune_params_keys.len() {
            return Err(Problem::Parameters { row, settings });
        }
        let outcome = match fields.get("time") {
            Some(Field::Value(Value::Str(name))) => Some(Outcome::Failed(failure(name))),
            Some(Field::Value(time)) => time.as_float().and_then(sound).map(Outcome::Measured),
            _ => None,
        };
        let Some(outcome) = outcome else { return Err(Problem::Outcome { row, settings }) };
        let samples = match fields.remove("times") {
            Some(Field::Times(times)) => times.iter().sum(),
            _ => 0.0,
        };
        let part = |key: &str| match fields.get(key) {
            Some(Field::Value(value)) => value.as_float(),
            _ => None,
        };
        let cost = part("compile_time").map(|compile| {
            let others = ["verification_time", "framework_time", "strategy_time"];
            compile + samples + others.into_iter().filter_map(part).sum::<f64>()
        });
        Ok((settings, Entry { outcome, cost }))
    };
    file.cache.into_iter().enumerate().map(row).collect()
}

/// The failure with a name of Kernel Tuner.
fn failure(name: &str) -> Failure {
    match name {
        "CompilationFailedConfig" => Failure::Compile,
        "InvalidConfig" => Failure::Resources,
        _ => Failure::Launch,
    }
}

/// The text of an open file, completed to valid JSON.
pub(super) fn closed(bytes: &[u8]) -> Vec<u8> {
    let text = bytes.trim_ascii_end();
    let text = text.strip_suffix(b",").unwrap_or(text);
    [text, b"}}"].concat()
}

/// The values of a map in the file's order.
fn values_in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HashMap<String, Field>>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<HashMap<String, Field>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of configurations")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some((_, entry)) = map.next_entry::<serde::de::IgnoredAny, _>()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(Entries)
}

//! The T4 results format of the auto-tuning community.

use serde::Deserialize;

use super::sound;
use crate::expr::Value;
use crate::replay::problem::Problem;
use crate::replay::recorded::Entry;
use crate::search::{Failure, Outcome};
use crate::space::Settings;

#[derive(Deserialize)]
struct File {
    results: Vec<ResultOf>,
}

#[derive(Deserialize)]
struct ResultOf {
    configuration: Settings,
    #[serde(default)]
    times: Option<Times>,
    invalidity: Invalidity,
    #[serde(default)]
    measurements: Vec<Measurement>,
}

/// Times in milliseconds.
#[derive(Deserialize)]
struct Times {
    /// Time of compilation; the schema names it `compilation_time`, some files name it `compilation`.
    #[serde(alias = "compilation_time")]
    compilation: Option<f64>,
    #[serde(default)]
    framework: f64,
    #[serde(default)]
    search_algorithm: f64,
    #[serde(default)]
    validation: f64,
    #[serde(default)]
    runtimes: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Invalidity {
    Correct,
    Compile,
    Runtime,
    Timeout,
    Correctness,
    Constraints,
}

#[derive(Deserialize)]
struct Measurement {
    name: String,
    value: Value,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(Settings, Entry)>, Problem> {
    let file: File =
        serde_json::from_slice(bytes).map_err(|error| Problem::Format { format: "T4 results file", error })?;
    let row = |(row, result): (usize, ResultOf)| {
        let time = result.measurements.iter().find(|measurement| measurement.name == "time");
        let outcome = match result.invalidity {
            Invalidity::Correct => {
                let time = time.and_then(|time| time.value.as_float()).and_then(sound);
                let settings = || result.configuration.clone();
                Outcome::Measured(time.ok_or_else(|| Problem::Outcome { row, settings: settings() })?)
            }
            Invalidity::Compile => Outcome::Failed(Failure::Compile),
            Invalidity::Constraints => Outcome::Failed(Failure::Resources),
            Invalidity::Runtime | Invalidity::Timeout => Outcome::Failed(Failure::Launch),
            Invalidity::Correctness => Outcome::Failed(Failure::Correctness),
        };
        let cost = result.times.as_ref().and_then(|times| {
            let samples: f64 = times.runtimes.iter().sum();
            Some(times.compilation? + times.framework + times.search_algorithm + times.validation + samples)
        });
        Ok((result.configuration, Entry { outcome, cost }))
    };
    file.results.into_iter().enumerate().map(row).collect()
}

//! A run in the formats of Kernel Tuner and of the auto-tuning community: T4 results and a cachefile. Times are in milliseconds there.
//!
//! Variants of a proposed source are left out: in these formats a configuration is its parameters.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::facts::{Facts, Fate, Tried};
use crate::record::evaluation::{GateName, Reason};
use crate::text::{date_of, printable};

/// The variants of the kernel's own source.
fn configurations(facts: &Facts) -> impl Iterator<Item = &Tried> {
    facts.variants.iter().filter(|tried| tried.variant == printable(&tried.toggles.to_string()))
}

/// Name of the objective; these formats call the time `time`.
fn objective(facts: &Facts) -> &str {
    if facts.objective == "p50" { "time" } else { &facts.objective }
}

/// Time in milliseconds: measured, or the estimate for a variant that was stopped early.
fn time(facts: &Facts, tried: &Tried) -> Option<f64> {
    let measured = tried.timing.as_ref().map(|timing| timing.summary.p50);
    measured.or(tried.value.filter(|_| facts.objective == "p50")).map(|nanoseconds| nanoseconds / 1e6)
}

/// T4 results, version 1.0.0 of the schema.
pub fn t4(facts: &Facts) -> String {
    let result = |tried: &Tried| {
        let time = time(facts, tried).map(|time| json!({ "name": "time", "value": time, "unit": "ms" }));
        let other = tried.value.filter(|_| facts.objective != "p50");
        let other = other.map(|value| json!({ "name": facts.objective, "value": value, "unit": "" }));
        let measurements: Vec<Value> = time.into_iter().chain(other).collect();
        let correct = u8::from(tried.fate != Fate::Rejected);
        json!({
            "configuration": tried.toggles,
            "times": {},
            "invalidity": invalidity(tried),
            "correctness": correct,
            "measurements": measurements,
            "objectives": [objective(facts)],
        })
    };
    let results: Vec<Value> = configurations(facts).map(result).collect();
    let file = json!({ "schema_version": "1.0.0", "results": results });
    serde_json::to_string_pretty(&file).expect("texts and numbers") + "\n"
}

/// Reason why a variant is invalid, by T4's names.
fn invalidity(tried: &Tried) -> &'static str {
    match (tried.gate, tried.reason) {
        (None, _) => "correct",
        (_, Some(Reason::Hang)) => "timeout",
        (Some(GateName::Compile), _) => "compile",
        (Some(GateName::Launch), _) => "runtime",
        (Some(GateName::Correctness | GateName::Sanitize), _) => "correctness",
        // The other gates have limits of the table: on resources, times and counters.
        (Some(_), _) => "constraints",
    }
}

/// A cachefile.
#[derive(Serialize)]
struct Cachefile<'f> {
    schema_version: &'static str,
    device_name: &'f str,
    kernel_name: &'f str,
    problem_size: Vec<&'f i64>,
    tune_params_keys: Vec<&'f str>,
    tune_params: Map<String, Value>,
    objective: &'f str,
    cache: InOrder,
}

/// A map that keeps the order of evaluation.
struct InOrder(Vec<(String, Value)>);

impl Serialize for InOrder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// Kernel Tuner's cachefile, version 1.1.0 of its schema. The journal has no times of the steps of an evaluation: they
/// are 0.
pub fn cachefile(facts: &Facts) -> String {
    let mut cache = InOrder(Vec::new());
    for tried in configurations(facts) {
        let mut entry = Map::new();
        let mut key = Vec::new();
        for (name, value) in &tried.toggles.0 {
            key.push(value.to_string());
            entry.insert(name.clone(), json!(value));
        }
        let failed = match tried.gate {
            None => None,
            Some(GateName::Compile) => Some("CompilationFailedConfig"),
            Some(GateName::Launch | GateName::Correctness | GateName::Sanitize) => Some("RuntimeFailedConfig"),
            Some(_) => Some("InvalidConfig"),
        };
        let time = match failed {
            Some(name) => json!(name),
            None => json!(time(facts, tried)),
        };
        entry.insert("time".to_owned(), time);
        if let Some(value) = tried.value.filter(|_| facts.objective != "p50") {
            entry.insert(facts.objective.clone(), json!(value));
        }
        for step in ["compile_time", "verification_time", "benchmark_time", "strategy_time", "framework_time"] {
            entry.insert(step.to_owned(), json!(0));
        }
        entry.insert("timestamp".to_owned(), json!(date_of(facts.time)));
        cache.0.push((key.join(","), Value::Object(entry)));
    }
    let first = facts.variants.first().map_or(&[][..], |first| &first.toggles.0);
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    let mut values: Map<String, Value> = Map::new();
    for tried in configurations(facts) {
        for (name, value) in &tried.toggles.0 {
            let known = values.entry(name.clone()).or_insert_with(|| json!([])).as_array_mut().expect("made so");
            if !known.contains(&json!(value)) {
                known.push(json!(value));
            }
        }
    }
    let file = Cachefile {
        schema_version: "1.1.0",
        device_name: &facts.device,
        kernel_name: &facts.kernel,
        problem_size: facts.dims.values().collect(),
        tune_params_keys: names,
        tune_params: values,
        objective: objective(facts),
        cache,
    };
    serde_json::to_string_pretty(&file).expect("texts and numbers") + "\n"
}

#[cfg(test)]
mod tests {
    use kbench_runtime::stats::Summary;

    use super::*;
    use crate::expr;
    use crate::record::evaluation::{Evaluation, Rejection, SourceRecord, TimingRecord};
    use crate::record::journal::Start;
    use crate::record::run::Run;
    use crate::replay;
    use crate::search::{Failure, Outcome};
    use crate::space::Settings;

    /// A run with a variant for each outcome.
    fn facts() -> Facts {
        let variant = |size: i64, method: &str| {
            let method = expr::Value::Str(method.to_owned());
            let settings = vec![("SIZE".to_owned(), expr::Value::Int(size)), ("METHOD".to_owned(), method)];
            Evaluation::new(Settings(settings), Vec::new())
        };
        let timed = |mut evaluation: Evaluation, nanoseconds: f64| {
            let summary = Summary::of(&[nanoseconds; 3]).unwrap();
            let (shape, clock) = ("square".to_owned(), "fake".to_owned());
            evaluation.timing = Some(TimingRecord { shape, summary, batch: 1, clock, sampling: None });
            evaluation
        };
        let rejected = |mut evaluation: Evaluation, gate, reason| {
            evaluation.reject(Rejection::new(gate, reason, "no".to_owned(), None));
            evaluation
        };
        let mut proposed = timed(variant(1, "a"), 1e3);
        proposed.source = Some(SourceRecord { name: "one".to_owned(), hash: "0".repeat(64), path: "one.cu".into() });
        let evaluations = vec![
            timed(variant(1, "a"), 2e6),
            timed(variant(2, "a"), 3.5e6),
            rejected(variant(4, "a"), GateName::Compile, Reason::CompileFailed),
            rejected(variant(1, "b"), GateName::Resources, Reason::Threads),
            rejected(variant(2, "b"), GateName::Launch, Reason::Hang),
            rejected(variant(4, "b"), GateName::Correctness, Reason::Wrong),
            proposed,
        ];
        let dims = [("N".to_owned(), 64)].into();
        let shapes = [("square".to_owned(), dims)].into();
        let start = Start { kernel: "p/k".into(), device: "d".into(), time: 1_700_000_000, shapes, ..Start::default() };
        Facts::of(&Run { start, evaluations, ..Run::default() })
    }

    #[test]
    fn replay_reads_written_t4_and_cachefiles() {
        let folder = tempfile::tempdir().unwrap();
        let (facts, path) = (facts(), folder.path().join("run.json"));
        for (text, wrong) in [(t4(&facts), Failure::Correctness), (cachefile(&facts), Failure::Launch)] {
            std::fs::write(&path, text).unwrap();
            let recorded = replay::read(&path).unwrap();
            let outcome = |size: i64, method: &str| {
                let method = expr::Value::Str(method.to_owned());
                let settings = [("SIZE", expr::Value::Int(size)), ("METHOD", method)];
                let settings = Settings(settings.map(|(name, value)| (name.to_owned(), value)).to_vec());
                let variant = recorded.candidates.variant(&settings).unwrap();
                recorded.entries[recorded.candidates.position(&variant).unwrap()].outcome
            };
            assert_eq!(recorded.entries.len(), 6, "what a proposer handed in is no configuration");
            assert_eq!([outcome(1, "a"), outcome(2, "a")], [2.0, 3.5].map(Outcome::Measured));
            let failed = [outcome(4, "a"), outcome(1, "b"), outcome(2, "b"), outcome(4, "b")];
            assert_eq!(failed, [Failure::Compile, Failure::Resources, Failure::Launch, wrong].map(Outcome::Failed));
        }
    }

    #[test]
    fn the_formats() {
        insta::assert_snapshot!(t4(&facts()).lines().take(40).collect::<Vec<_>>().join("\n"));
        insta::assert_snapshot!(cachefile(&facts()).lines().take(40).collect::<Vec<_>>().join("\n"));
    }
}

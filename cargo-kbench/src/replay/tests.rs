// Compared floats are exact by construction.
#![allow(clippy::float_cmp)]

use std::io::Write as _;

use serde_json::{Value as Json, json};

use super::*;
use crate::report;
use crate::search::Failure;

const NAMES: [&str; 4] = ["X", "Y", "UNROLL", "FAST"];

/// An artificial kernel: 8 x 5 x 4 x 2 configurations with X * Y <= 1024; configurations with too large products fail
/// in two ways.
fn rows() -> Vec<([i64; 4], Result<f64, &'static str>)> {
    let mut rows = Vec::new();
    for x in [16, 32, 48, 64, 96, 128, 192, 256] {
        for y in [1, 2, 4, 8, 16] {
            for unroll in [1, 2, 4, 8] {
                for fast in [0, 1] {
                    let off = |value: i64, best: f64| (value as f64 / best).log2().powi(2);
                    let time =
                        (1.0 + 0.2 * off(x * y, 256.0) + 0.1 * off(unroll, 4.0)) * if fast == 1 { 1.0 } else { 1.2 };
                    let outcome = match x * y * unroll {
                        4097.. => Err("RuntimeFailedConfig"),
                        _ if x == 256 && unroll == 8 => Err("CompilationFailedConfig"),
                        _ => Ok(time),
                    };
                    if x * y <= 1024 {
                        rows.push(([x, y, unroll, fast], outcome));
                    }
                }
            }
        }
    }
    rows
}

fn cachefile() -> Json {
    let entry = |(values, outcome): ([i64; 4], Result<f64, &str>)| {
        let key = values.map(|value| value.to_string()).join(",");
        let mut entry: Json =
            NAMES.iter().zip(values).map(|(name, value)| ((*name).to_owned(), Json::from(value))).collect();
        entry["time"] = outcome.map_or_else(Json::from, Json::from);
        entry["times"] = outcome.map_or_else(|_| json!([]), |time| json!([time, time]));
        for (name, cost) in
            [("compile_time", 100.0), ("verification_time", 1.0), ("framework_time", 2.0), ("strategy_time", 3.0)]
        {
            entry[name] = cost.into();
        }
        (key, entry)
    };
    let cache: serde_json::Map<String, Json> = rows().into_iter().map(entry).collect();
    json!({ "device_name": "none", "kernel_name": "made-up", "tune_params_keys": NAMES, "objective": "time", "cache": cache })
}

fn t4() -> String {
    let result = |(values, outcome): ([i64; 4], Result<f64, &str>)| {
        let configuration: Vec<String> =
            NAMES.iter().zip(values).map(|(name, value)| format!("\"{name}\": {value}")).collect();
        let (invalidity, time, samples) = match outcome {
            Ok(time) => ("correct", Json::from(time), json!([time, time])),
            Err("CompilationFailedConfig") => ("compile", "CompilationFailedConfig".into(), json!([])),
            Err(other) => ("runtime", other.into(), json!([])),
        };
        format!(
            r#"{{ "configuration": {{ {} }}, "invalidity": "{invalidity}", "measurements": [{{ "name": "time", "value": {time}, "unit": "" }}],
            "times": {{ "compilation": 100.0, "framework": 2.0, "search_algorithm": 3.0, "validation": 1.0, "runtimes": {samples} }} }}"#,
            configuration.join(", ")
        )
    };
    let results: Vec<String> = rows().into_iter().map(result).collect();
    format!(r#"{{ "schema_version": "1.0.0", "metadata": {{}}, "results": [{}] }}"#, results.join(","))
}

fn read_bytes(name: &str, bytes: &[u8]) -> Result<Recorded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    read(&path).map_err(|error| {
        error.to_string().strip_prefix(&format!("{}: ", path.display())).expect("errors name the file").to_owned()
    })
}

fn recorded() -> Recorded {
    read_bytes("made-up.json", cachefile().to_string().as_bytes()).unwrap()
}

fn same(a: &Recorded, b: &Recorded) {
    assert_eq!(a.candidates.toggles(), b.candidates.toggles());
    assert_eq!(a.candidates.list(), b.candidates.list());
    assert_eq!(a.entries, b.entries);
}

#[test]
fn a_cachefile_is_read() {
    let recorded = recorded();
    assert_eq!(recorded.name, "made-up");
    let names: Vec<&str> = recorded.candidates.toggles().iter().map(|toggle| toggle.name.as_str()).collect();
    assert_eq!(names, NAMES);
    assert_eq!(recorded.entries.len(), rows().len());
    assert_eq!(recorded.times.len(), rows().iter().filter(|(_, outcome)| outcome.is_ok()).count());
    assert_eq!(recorded.optimum(), 1.0);
    let failures = |failure| {
        recorded.entries.iter().filter(|entry| entry.outcome == crate::search::Outcome::Failed(failure)).count()
    };
    assert_eq!(
        failures(Failure::Compile),
        rows().iter().filter(|(_, outcome)| *outcome == Err("CompilationFailedConfig")).count()
    );
    assert!(failures(Failure::Launch) > 0);
    let cost = recorded.entries[0].cost.unwrap();
    assert!((cost - 106.0 - 2.0 * recorded.entries[0].outcome.objective().unwrap()).abs() < 1e-9, "{cost}");
}

#[test]
fn every_format_gives_the_same_space() {
    let recorded = recorded();
    same(&recorded, &read_bytes("made-up_T4.json", t4().as_bytes()).unwrap());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(cachefile().to_string().as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    same(&recorded, &read_bytes("made-up.json.gz", &packed).unwrap());
    let error = read_bytes("made-up.json.gz", &packed[..packed.len() / 2]).unwrap_err();
    assert!(error.contains("cannot be unpacked, it may be cut"), "{error}");
}

#[test]
fn a_cachefile_that_kernel_tuner_has_not_closed_is_read() {
    let text = cachefile().to_string();
    // Keys are sorted, so `cache` comes first here; Kernel Tuner writes it last.
    let cache = serde_json::to_string(&cachefile()["cache"]).unwrap();
    let rest = text.replacen(&format!("\"cache\":{cache},"), "", 1);
    let open = format!("{},\"cache\":{},\n", rest.trim_end_matches('}'), cache.trim_end_matches('}').to_owned() + "}");
    same(&recorded(), &read_bytes("made-up.json", open.as_bytes()).unwrap());
    let error = read_bytes("made-up.json", &open.as_bytes()[..open.len() - 40]).unwrap_err();
    assert!(error.contains("not a record"), "cut within an entry: {error}");
}

#[test]
fn files_without_a_record_are_refused() {
    let error = |text: &str| read_bytes("file.json", text.as_bytes()).unwrap_err();
    insta::assert_snapshot!(error(""), @"not a record: expected a Kernel Tuner cachefile, a T4 results file or a kbench journal (EOF while parsing a value at line 1 column 0)");
    insta::assert_snapshot!(error("hello"), @"not a record: expected a Kernel Tuner cachefile, a T4 results file or a kbench journal (expected value at line 1 column 1)");
    insta::assert_snapshot!(error("{}"), @"not a record: a Kernel Tuner cachefile has `tune_params_keys` and `cache`, a T4 file has `results`, a kbench journal lines with `record`; this has none of them");
    insta::assert_snapshot!(error(r#"{"tune_params_keys": ["A"], "cache": {}}"#), @"no configuration is recorded");
    insta::assert_snapshot!(error(r#"{"tune_params_keys": ["A"], "cache": {"1": {"A": 1}}}"#), @"configuration 0 (A=1) has neither a time above 0 nor a failure");
    insta::assert_snapshot!(error(r#"{"tune_params_keys": ["A"], "cache": {"1": {"A": 1, "time": -2.0}}}"#), @"configuration 0 (A=1) has neither a time above 0 nor a failure");
    insta::assert_snapshot!(error(r#"{"tune_params_keys": ["A", "B"], "cache": {"1": {"A": 1, "time": 2.0}}}"#), @"configuration 0 (A=1) has other parameters than the first one");
    insta::assert_snapshot!(error(r#"{"tune_params_keys": ["A"], "cache": {"1": {"A": 1, "time": 2.0}, "x": {"A": 1, "time": 3.0}}}"#), @"configuration A=1 is recorded twice; a record to replay has each once");
    insta::assert_snapshot!(error(r#"{"tune_params_keys": ["A"], "cache": {"1": {"A": 1, "time": "InvalidConfig"}}}"#), @"no recorded configuration has a time: all of them failed");
    insta::assert_snapshot!(error(r#"{"tune_params_keys": "A", "cache": {}}"#), @r#"not a Kernel Tuner cachefile: invalid type: string "A", expected a sequence at line 1 column 24"#);
    insta::assert_snapshot!(error(r#"{"results": [{"configuration": {"A": 1}, "invalidity": "odd"}]}"#), @"not a T4 results file: unknown variant `odd`, expected one of `correct`, `compile`, `runtime`, `timeout`, `correctness`, `constraints` at line 1 column 60");
    insta::assert_snapshot!(error(r#"{"results": [{"configuration": {"A": 1}, "invalidity": "correct"}]}"#), @"configuration 0 (A=1) has neither a time above 0 nor a failure");
    let missing = read(std::path::Path::new("/nowhere/record.json")).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/record.json: "), "{missing}");
}

/// Four variants of a run that was interrupted in its fourth, and resumed.
#[test]
fn a_journal_is_read() {
    use crate::record::evaluation::{Evaluation, Judgement, Reason, Rejection};
    use crate::record::journal::{Record, Start};
    let start =
        |resumed| Record::Start(Start { version: crate::record::journal::VERSION, resumed, ..Start::default() });
    let rejected = |a: i64| {
        let settings = crate::space::Settings(vec![("A".to_owned(), crate::expr::Value::Int(a))]);
        let mut evaluation = Evaluation::new(settings, Vec::new());
        evaluation.outcome = Judgement::Rejected(Rejection::new(
            crate::record::evaluation::GateName::Resources,
            Reason::Registers,
            "too many",
            None,
        ));
        evaluation
    };
    let timed = |a: i64, p50: f64| {
        let mut evaluation = rejected(a);
        evaluation.outcome = Judgement::Passed;
        let summary = kbench_runtime::stats::Summary::of(&[p50, p50, p50]).unwrap();
        evaluation.timing = Some(crate::record::evaluation::TimingRecord {
            shape: "s".into(),
            summary,
            batch: 1,
            clock: "fake".into(),
            sampling: None,
        });
        evaluation
    };
    let records = [
        start(false),
        Record::Evaluation(Box::new(timed(99, 5.0))),
        start(false),
        Record::Evaluation(Box::new(timed(1, 30.0))),
        Record::Evaluation(Box::new(timed(2, 20.0))),
        start(true),
        Record::Evaluation(Box::new(timed(2, 20.0))),
        Record::Evaluation(Box::new(rejected(4))),
    ];
    let mut text: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    text.push_str("{\"record\":\"evalu");
    let recorded = read_bytes("kernel.jsonl", text.as_bytes()).unwrap();
    assert_eq!(recorded.name, "kernel");
    assert_eq!(recorded.entries.len(), 3);
    assert_eq!(recorded.times, [20.0, 30.0]);
    let options = Options { strategy: StrategyName::Auto, seeds: 2, budget: 10, batch: 1 };
    let replayed = Replayed::new(recorded, &options);
    assert!(replayed.runs.iter().all(|run| run.trajectory.len() == 3));
    assert_eq!(replayed.scores.p, None, "a journal has no costs of evaluations");
}

#[test]
fn the_same_on_any_number_of_threads() {
    let recorded = recorded();
    for strategy in [StrategyName::Auto, StrategyName::Annealing, StrategyName::Genetic, StrategyName::Random] {
        let options = Options { strategy, seeds: 3, budget: 30, batch: 1 };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let runs = pool.install(|| replay(&recorded, &options));
            runs.into_iter().map(|run| (run.seed, run.trajectory)).collect::<Vec<_>>()
        };
        assert_eq!(on(1), on(3));
        assert_eq!(on(1).iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [0, 1, 2]);
    }
}

/// A run that tries these configurations, in this order.
fn run_of(recorded: &Recorded, configurations: impl IntoIterator<Item = usize>) -> Run {
    let step = |configuration: usize| Step { configuration, time: recorded.entries[configuration].outcome.objective() };
    Run { seed: 0, trajectory: configurations.into_iter().map(step).collect(), seconds: 0.000_1 }
}

#[test]
fn scores_of_runs_that_are_known() {
    let recorded = recorded();
    let optimum = recorded.entries.iter().position(|entry| entry.outcome.objective() == Some(1.0)).unwrap();
    let at_once = scores::score(&recorded, &[run_of(&recorded, [optimum])], 200);
    assert!(at_once.best.iter().all(|(_, best)| (best.unwrap() - 1.0).abs() < 1e-12), "the best is kept after the end");
    assert_eq!((at_once.to_5.median, at_once.to_1.share), (Some(1), 1.0));
    assert!((at_once.p200.unwrap() - 1.0).abs() < 1e-9, "{:?}", at_once.p200);
    assert!(at_once.p.unwrap() > 0.8, "{:?}", at_once.p);

    let failing = recorded.entries.iter().position(|entry| entry.outcome.objective().is_none()).unwrap();
    let never = scores::score(&recorded, &[run_of(&recorded, [failing])], 100);
    assert!((never.best[0].1.unwrap() - recorded.worst()).abs() < 1e-9, "a failure counts as the worst");
    assert_eq!(never.best[3].1, None, "beyond the budget");
    assert_eq!((never.to_5.median, never.to_5.share, never.failed), (None, 0.0, 1.0));
    assert!(never.p200.unwrap() < -1.0);
    assert_eq!(scores::score(&recorded, &[run_of(&recorded, [failing])], 9).p200, None, "the first 9 do not count");

    let options = Options { strategy: StrategyName::Random, seeds: 200, budget: 200, batch: 1 };
    let random = Replayed::new(recorded, &options).scores;
    assert!(random.p200.unwrap().abs() < 0.05, "random search is what P200 compares with: {:?}", random.p200);
    assert!(random.p.unwrap() < 0.2, "{:?}", random.p);
}

#[test]
fn output_is_as_documented() {
    let replayed = || {
        let options = Options { strategy: StrategyName::Evo, seeds: 3, budget: 100, batch: 1 };
        let mut replayed = Replayed::new(recorded(), &options);
        replayed.scores.micros = 1.25;
        replayed
    };
    let options = Options { strategy: StrategyName::Evo, seeds: 3, budget: 100, batch: 1 };
    let all = [replayed(), replayed()];
    let overall = scores::overall(&all);
    insta::assert_snapshot!(report::style::plain(&report::replay::table(&all, &overall, &options)));
}

//! The fake backend: the source is a TOML model of a variant's time and faults.
//!
//! ```toml
//! time_ns = "1000 + 10 * TILE"           # an expression over the macros, or a number
//! noise = 0.01                           # relative standard deviation; left out: the device's own
//! power_w = 300                          # an expression or a number; left out: the device's own
//! delay_ms = 1                           # what a launch really takes
//! beside_others = true                   # another process uses the device meanwhile
//! killed_after = "50 + A"                # the worker is killed at a launch after this number of launches of any kernels; left out: never
//! resources = { registers = "32 * A" }   # any of the names of Resources
//! [[fault]]
//! when = "A == 3"                        # the first that is true counts
//! kind = "hang"                          # a fault of the fake device, or "does-not-compile"
//! ```
//!
//! The machine code is JSON for the fake device: `{"time_ns":…,"noise":…,"fault":…}`. Two variants with the same JSON
//! are identical code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kbench_runtime::fingerprint;
use serde::{Deserialize, Serialize};

use super::error::CompileError;
use super::{Bounds, Built, Entry, Function, Resources, Unit};
use crate::expr::{Expr, Value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    time_ns: toml::Value,
    noise: Option<toml::Value>,
    power_w: Option<toml::Value>,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    beside_others: bool,
    killed_after: Option<toml::Value>,
    #[serde(default)]
    fault: Vec<Fault>,
    #[serde(default)]
    resources: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    when: String,
    kind: String,
}

#[derive(Debug, Serialize)]
struct Code<'a> {
    time_ns: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    noise: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_w: Option<f64>,
    fault: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    delay_ms: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    beside_others: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    killed_after: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Evaluates the model with the unit's macros and constants.
pub(super) fn build(unit: &Unit) -> Result<Built, CompileError> {
    let constants = unit.constants.iter().map(|constant| (constant.name.clone(), constant.value.clone()));
    let unit = &Unit { macros: unit.macros.iter().cloned().chain(constants).collect(), ..unit.clone() };
    let text = fs::read_to_string(&unit.source).map_err(CompileError::io("read", &unit.source))?;
    let wrong = |message: String| CompileError::Model { path: unit.source.clone(), message };
    let model: Model = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let command = std::iter::once("fake".to_owned())
        .chain(unit.macros.iter().map(|(name, value)| format!("-D{name}={value}")))
        .chain([unit.source.display().to_string()])
        .collect();

    let float = |value: &toml::Value| match value {
        toml::Value::String(text) => {
            evaluate(text, &unit.macros)?.as_float().ok_or_else(|| format!("`{text}` is not a number"))
        }
        toml::Value::Float(number) => Ok(*number),
        toml::Value::Integer(number) => Ok(*number as f64),
        other => Err(format!("`{other}` is neither a number nor an expression")),
    };
    let mut fault = None;
    for Fault { when, kind } in &model.fault {
        let holds = evaluate(when, &unit.macros)
            .and_then(|value| value.truth().ok_or_else(|| format!("`{when}` is neither true nor false")));
        if holds.map_err(wrong)? {
            fault = Some(kind.as_str());
            break;
        }
    }
    if fault == Some("does-not-compile") {
        let stderr = "fake: error: this variant does not compile\n".to_owned();
        return Err(CompileError::Failed { command, status: "exit status: 1".to_owned(), stderr });
    }
    let code = Code {
        time_ns: float(&model.time_ns).map_err(wrong)?,
        noise: model.noise.as_ref().map(float).transpose().map_err(wrong)?,
        power_w: model.power_w.as_ref().map(float).transpose().map_err(wrong)?,
        fault,
        delay_ms: model.delay_ms,
        beside_others: model.beside_others,
        killed_after: model.killed_after.as_ref().map(float).transpose().map_err(wrong)?.map(|after| after as u64),
    };
    let mut resources = BTreeMap::new();
    for (name, value) in &model.resources {
        resources.insert(name, float(value).map_err(wrong)? as u64);
    }
    let resources: Resources = serde_json::to_value(&resources)
        .and_then(serde_json::from_value)
        .map_err(|error| wrong(format!("resources: {error}")))?;
    let code = serde_json::to_string(&code).expect("finite numbers and text");
    let function = |entry: &Entry| Function {
        entry: entry.name.clone(),
        symbol: entry.name.clone(),
        resources,
        bounds: Bounds::default(),
    };
    Ok(Built {
        identity: fingerprint::of("fake", &(&code, resources)),
        code: code.into_bytes(),
        functions: unit.entries.iter().map(function).collect(),
        defined: Vec::new(),
        command,
        link: Vec::new(),
        messages: String::new(),
        dependencies: vec![unit.source.clone()],
        absent: Some(BTreeSet::new()),
    })
}

fn evaluate(text: &str, macros: &[(String, String)]) -> Result<Value, String> {
    let expression = Expr::parse(text).map_err(|error| format!("`{text}`: {error}"))?;
    let lookup = |name: &str| macros.iter().rev().find(|(macro_, _)| macro_ == name).map(|(_, value)| typed(value));
    expression.eval(&lookup).map_err(|error| error.to_string())
}

/// The most likely value of a macro's text.
fn typed(text: &str) -> Value {
    if let Ok(number) = text.parse() {
        return Value::Int(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::Float(number),
        _ => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => Value::Str(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Backend;

    fn built(model: &str, macros: &[(&str, &str)]) -> Result<Built, CompileError> {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model.toml");
        fs::write(&source, model).unwrap();
        build(&Unit {
            backend: Backend::Fake,
            source,
            entries: vec![Entry { name: "k".into(), signature: vec![] }],
            flags: vec![],
            macros: macros.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            constants: vec![],
            headers: vec![],
            arch: None,
            directory: folder.path().to_owned(),
        })
    }

    const MODEL: &str = r#"
        time_ns = "1000 + 10 * TILE"
        noise = 0.5
        resources = { registers = "32 * A" }
        [[fault]]
        when = "A == 3"
        kind = "hang"
        [[fault]]
        when = "A == 4"
        kind = "does-not-compile"
    "#;

    #[test]
    fn a_model_is_evaluated() {
        let good = built(MODEL, &[("TILE", "64"), ("A", "1"), ("DEAD", "x")]).unwrap();
        assert_eq!(good.code, br#"{"time_ns":1640.0,"noise":0.5,"fault":null}"#);
        assert_eq!(good.functions[0].resources.registers, Some(32));
        let hangs = built(MODEL, &[("TILE", "64"), ("A", "3")]).unwrap();
        assert_eq!(hangs.code, br#"{"time_ns":1640.0,"noise":0.5,"fault":"hang"}"#);
        let same = built(MODEL, &[("TILE", "64"), ("A", "1"), ("DEAD", "y")]).unwrap();
        assert_eq!(same.identity, good.identity);
        assert_ne!(hangs.identity, good.identity);
        assert_eq!(built("time_ns = 5", &[]).unwrap().code, br#"{"time_ns":5.0,"fault":null}"#);
        assert!(matches!(built(MODEL, &[("TILE", "64"), ("A", "4")]), Err(CompileError::Failed { .. })));
    }

    #[test]
    fn mistakes_of_a_model_are_named() {
        for (model, word) in [
            ("time_ns = '1 +'", "1 +"),
            ("time_ns = 'X'", "X"),
            ("time_ns = '\"a\"'", "not a number"),
            ("time = 1", "time"),
            ("time_ns = 1\nresources = { speed = 1 }", "speed"),
            ("time_ns = 1\nfault = [{ when = '\"a\"', kind = 'hang' }]", "neither"),
        ] {
            let error = built(model, &[]).err().unwrap();
            assert!(matches!(&error, CompileError::Model { .. }), "{error:?}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

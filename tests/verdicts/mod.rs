//! Runs the tool over the fixtures and compares its verdicts with `fixtures/expected.toml`.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a fixture must be told: the exit code of `gate`, and of the verdict gate and reason code.
#[derive(Debug)]
pub struct Expected {
    pub exit: i64,
    pub gate: Option<String>,
    pub code: String,
    /// Decided by the compiler alone.
    pub build: bool,
    /// Words of a warning.
    pub warns: Option<String>,
    /// Toggles that must be called dead.
    pub dead: Vec<String>,
}

/// What one run of the tool said.
pub struct Run {
    /// None where a signal ended it.
    pub exit: Option<i32>,
    /// The verdicts by package; of several the first that failed.
    pub verdicts: BTreeMap<String, Value>,
    pub stdout: String,
    pub stderr: String,
}

/// The fixtures' workspace. A GPU machine may have the tree elsewhere than the machine that built this test.
pub fn fixtures() -> PathBuf {
    let root = env::var_os("KBENCH_ROOT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a workspace").to_path_buf(),
        PathBuf::from,
    );
    root.join("tests/fixtures")
}

/// The expectations for the packages whose names start with `prefix`.
pub fn expected(prefix: &str) -> BTreeMap<String, Expected> {
    let text = fs::read_to_string(fixtures().join("expected.toml")).expect("expected.toml can be read");
    let table: toml::Table = text.parse().expect("expected.toml is TOML");
    let string = |entry: &toml::Value, key: &str| entry.get(key).and_then(|value| value.as_str().map(str::to_owned));
    table
        .iter()
        .filter(|(package, _)| package.starts_with(prefix))
        .map(|(package, entry)| {
            let expected = Expected {
                exit: entry["exit"].as_integer().expect("`exit` is a number"),
                gate: string(entry, "gate"),
                code: string(entry, "code").expect("`code` is a string"),
                build: entry.get("build").is_some_and(|build| build.as_bool().expect("`build` is a boolean")),
                warns: string(entry, "warns"),
                dead: entry.get("dead").map_or_else(Vec::new, |dead| {
                    let names = dead.as_array().expect("`dead` is a list");
                    names.iter().map(|name| name.as_str().expect("`dead` holds names").to_owned()).collect()
                }),
            };
            (package.clone(), expected)
        })
        .collect()
}

/// Runs `cargo-kbench kbench VERB` once over `packages`, with nothing cached from earlier runs.
pub fn kbench<'a>(verb: &str, packages: impl IntoIterator<Item = &'a String>) -> Run {
    kbench_with(verb, packages, &[])
}

/// The same with more arguments.
pub fn kbench_with<'a>(verb: &str, packages: impl IntoIterator<Item = &'a String>, more: &[&str]) -> Run {
    // In the workspace, so that elite.json is this run's own.
    let folder = fixtures().join("target");
    fs::create_dir_all(&folder).expect("a folder can be made");
    let scratch = tempfile::tempdir_in(folder).expect("a temporary folder can be made");
    let program = env::var_os("KBENCH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_cargo-kbench").into());
    let mut command = Command::new(program);
    command.args(["kbench", verb, "--message-format", "json", "--manifest-path"]);
    command.arg(fixtures().join("Cargo.toml")).arg("--target-dir").arg(scratch.path().join("target"));
    for package in packages {
        command.args(["-p", package]);
    }
    command.args(more);
    let output = command.output().expect("the tool can be run");
    let stdout = String::from_utf8(output.stdout).expect("stdout is UTF-8");
    let mut verdicts = BTreeMap::<String, Value>::new();
    for line in stdout.lines() {
        let message: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("stdout holds something else than JSON: {error}: {line}"));
        if message["reason"] == "verdict" {
            let package = message["package"].as_str().expect("a verdict names its package").to_owned();
            if verdicts.get(&package).is_none_or(|earlier| earlier["status"] != "fail") {
                verdicts.insert(package, message);
            }
        }
    }
    Run { exit: output.status.code(), verdicts, stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

impl Run {
    /// The only message with this reason.
    pub fn message(&self, reason: &str) -> Value {
        let messages = self.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("checked when read"));
        let mut found = messages.filter(|message| message["reason"] == reason);
        let message = found.next().unwrap_or_else(|| panic!("no `{reason}` in\n{}\n{}", self.stdout, self.stderr));
        assert!(found.next().is_none(), "several `{reason}`");
        message
    }

    /// Fails with every difference from the table at once.
    pub fn assert_verdicts<'a>(&self, expected: impl IntoIterator<Item = (&'a String, &'a Expected)>) {
        let differences: Vec<String> = expected
            .into_iter()
            .filter_map(|(package, expected)| {
                let actual = self.verdicts.get(package);
                let wanted = match &expected.gate {
                    None => "pass".to_owned(),
                    Some(gate) => format!("fail {gate} {}", expected.code),
                };
                let found = actual.map_or_else(|| "no verdict".to_owned(), describe);
                let warnings = actual.map(|verdict| verdict["warnings"].to_string()).unwrap_or_default();
                if let Some(words) = expected.warns.as_deref().filter(|words| !warnings.contains(*words)) {
                    return Some(format!("{package}: no warning says `{words}`: {warnings}"));
                }
                (wanted != found).then(|| {
                    let message = actual.and_then(|verdict| verdict["message"].as_str()).unwrap_or("-");
                    format!("{package}: expected `{wanted}`, found `{found}` ({message})")
                })
            })
            .collect();
        assert!(
            differences.is_empty(),
            "{} fixtures differ from expected.toml:\n  {}\nstderr:\n{}",
            differences.len(),
            differences.join("\n  "),
            self.stderr
        );
    }

    /// Fails, with what the tool said, unless it exited with `code`.
    pub fn assert_exit(&self, code: i64) {
        assert_eq!(self.exit.map(i64::from), Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
    }
}

/// `pass`, or status, gate and code.
fn describe(verdict: &Value) -> String {
    let word = |key: &str| verdict[key].as_str().unwrap_or("?").to_owned();
    match verdict["status"].as_str() {
        Some("pass") => "pass".to_owned(),
        _ => format!("{} {} {}", word("status"), word("gate"), word("code")),
    }
}

//! Proposers: a shell script stands for one. What it proposes are files, and what it does wrong is an argument.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{kbench, package_with};
use serde_json::{Value, json};

mod model;

/// Speaks as the protocol wants it, but for one mode's fault. The proposals of round N are the lines of `round-N`.
const PROPOSER: &str = r#"
mode=$1
say() { printf '%s\n' "$1"; }
while read -r request; do
    printf '%s\n' "$request" >>log
    case $request in
    '{"type":"hello"'*)
        case $mode in
        old) say '{"type":"hello","protocol":0}' ;;
        exits) echo 'ImportError: no module' >&2; exit 7 ;;
        *) say '{"type":"hello","protocol":1}' ;;
        esac ;;
    '{"type":"round"'*)
        round=${request#*'"round":'}; round=${round%%,*}
        case $mode in
        crashes) kill -SEGV $$ ;;
        hangs) sleep 100 ;;
        junk) say 'Thinking about your kernel ...' ;;
        flood) while say '{"type":"propose","name":"a","source":"b"}'; do :; done 2>/dev/null ;;
        endless) yes | tr -d '\n' ;;
        esac
        cat "round-$round" 2>/dev/null
        say '{"type":"done"}' ;;
    esac
done
"#;

/// A package whose kernel takes 10 µs, with a proposer of this mode.
fn package(mode: &str, search: &str) -> tempfile::TempDir {
    let table = format!(
        "[package.metadata.kbench.kernels.model.search]\nstrategy = \"evo\"\nproposer = [\"sh\", \"proposer.sh\", \"{mode}\"]\n{search}"
    );
    let package = package_with("time_ns = \"10000 + A\"\nnoise = 0.001", &table);
    fs::write(package.path().join("proposer.sh"), PROPOSER).unwrap();
    package
}

fn propose(folder: &Path, round: u64, proposals: &[Value]) {
    let lines: Vec<String> = proposals.iter().map(Value::to_string).collect();
    fs::write(folder.join(format!("round-{round}")), lines.join("\n") + "\n").unwrap();
}

fn proposal(name: &str, source: &str) -> Value {
    json!({ "type": "propose", "name": name, "source": source })
}

fn fault(kind: &str) -> Value {
    proposal(kind, &format!("time_ns = 100\nfault = [{{ when = '1 == 1', kind = '{kind}' }}]"))
}

/// The messages of a run.
fn messages(folder: &Path, args: &[&str]) -> (i32, Vec<Value>) {
    let output = kbench(folder, args).args(["--message-format", "json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let messages = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))), messages)
}

/// What tuning comes to, without the date.
fn tune(folder: &Path, args: &[&str]) -> Value {
    let (code, messages) = messages(folder, &[&["autotune", "--iters", "10"], args].concat());
    let tuned = messages.iter().find(|message| message["reason"] == "tuned").unwrap_or_else(|| panic!("{messages:#?}"));
    assert_eq!(code, 0, "{tuned:#}");
    let mut tuned = tuned.clone();
    assert!(tuned["entry"]["date"].take().is_string());
    tuned
}

/// What the proposer was told, of one type.
fn told(folder: &Path, kind: &str) -> Vec<Value> {
    let log = fs::read_to_string(folder.join("log")).unwrap();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|message| message["type"] == kind).collect()
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("target/kbench/journal/model/model.jsonl")
}

#[test]
fn a_proposal_wins_and_the_others_get_reasons() {
    let package = package("good", "");
    let folder = package.path();
    let fast = proposal("fast", "time_ns = 5000\nnoise = 0.001");
    let mut elsewhere = proposal("elsewhere", "time_ns = '8000 + A'\nnoise = 0.001");
    elsewhere["toggles"] = json!({ "A": 3, "D": 1 });
    let mut unknown = proposal("unknown", "time_ns = 1");
    unknown["toggles"] = json!({ "A": 7 });
    let own = fs::read_to_string(folder.join("model.toml")).unwrap();
    propose(
        folder,
        1,
        &[
            fast.clone(),
            proposal("slow", "time_ns = 50000"),
            proposal("nonsense", "int main() {}"),
            fault("does-not-compile"),
            fault("wrong"),
            // Skips its work where the output is there already.
            fault("stale"),
            fault("segfault"),
            elsewhere,
            fast,
            unknown,
            proposal("own", &own),
            proposal("a name", "time_ns = 1"),
            proposal("empty", ""),
        ],
    );
    propose(folder, 2, &[proposal("twin", "time_ns = 5000.0\nnoise = 0.001\n")]);
    let tuned = tune(folder, &[]);
    let entry = &tuned["entry"];
    let winner = &entry["elite"][0];
    let hash = winner["source"]["hash"].as_str().unwrap();
    assert_eq!(winner["source"]["name"], "fast");
    assert_eq!(winner["source"]["path"], format!("target/kbench/proposed/{hash}.toml"));
    assert_eq!(
        fs::read_to_string(folder.join(winner["source"]["path"].as_str().unwrap())).unwrap(),
        "time_ns = 5000\nnoise = 0.001"
    );
    assert!(winner["speedups"]["default"]["low"].as_f64().unwrap() > 1.9, "{winner:#}");
    assert_eq!(
        (&entry["elite"][1]["source"]["name"], &entry["elite"][1]["toggles"]["A"]),
        (&"elsewhere".into(), &3.into())
    );
    assert_eq!(entry["elite"][2]["source"], Value::Null, "the best of the space");
    assert_eq!(entry["search"]["evaluated"], 25);
    let proposer = &entry["search"]["proposer"];
    assert_eq!((&proposer["rounds"], &proposer["evaluated"], &proposer["refused"]), (&2.into(), &9.into(), &5.into()));
    assert_eq!(
        proposer["rejected"],
        json!({ "compile/compile-failed": 2, "correctness/stale-output": 1, "correctness/wrong": 1, "launch/signal": 1 })
    );
    assert_eq!(proposer["failed"], Value::Null);

    let verdicts: Vec<String> = told(folder, "verdict")
        .iter()
        .map(|verdict| {
            let why = if verdict["refusal"].is_null() { &verdict["rejection"]["code"] } else { &verdict["refusal"] };
            format!("{} {} {} {}", verdict["round"], verdict["name"].as_str().unwrap(), verdict["status"], why)
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            // At once, since they are not tried.
            r#"1 fast "refused" "duplicate""#,
            r#"1 unknown "refused" "toggles""#,
            r#"1 own "refused" "duplicate""#,
            r#"1 a name "refused" "name""#,
            r#"1 empty "refused" "size""#,
            r#"1 fast "passed" null"#,
            r#"1 slow "passed" null"#,
            r#"1 nonsense "rejected" "compile-failed""#,
            r#"1 does-not-compile "rejected" "compile-failed""#,
            r#"1 wrong "rejected" "wrong""#,
            r#"1 stale "rejected" "stale-output""#,
            r#"1 segfault "rejected" "signal""#,
            r#"1 elsewhere "passed" null"#,
            r#"2 twin "passed" null"#,
        ]
    );
    let verdicts = told(folder, "verdict");
    assert_eq!((&verdicts[5]["rank"], &verdicts[12]["rank"]), (&1.into(), &2.into()));
    assert_eq!((&verdicts[6]["rank"], &verdicts[6]["raced"]), (&Value::Null, &true.into()), "not measured to the end");
    assert_eq!((&verdicts[13]["twin"], &verdicts[13]["rank"]), (&true.into(), &Value::Null));

    // What it was told before it proposed.
    let hello = &told(folder, "hello")[0]["kernel"];
    assert_eq!((&hello["text"], &hello["entry"], &hello["default"]["A"]), (&own.into(), &"model".into(), &0.into()));
    assert_eq!(hello["shapes"], json!({ "only": { "N": 256 } }));
    let rounds = told(folder, "round");
    assert_eq!((rounds.len(), &rounds[0]["elite"][0]["source"]), (3, &Value::Null));
    assert_eq!(rounds[1]["elite"][0]["text"], "time_ns = 5000\nnoise = 0.001");
    assert!(rounds[0]["elite"][0]["p50_ns"].as_f64().unwrap() > 9000.0);

    // The winner can be gated, measured and profiled as it is named.
    for verb in ["gate", "bench"] {
        let (code, messages) = messages(folder, &[verb, "--elite", "--iters", "10"]);
        assert_eq!(code, 0, "{messages:#?}");
        assert!(
            messages.iter().any(|message| message.to_string().contains("fast@") || message["source"]["hash"] == hash),
            "{messages:#?}"
        );
    }
    fs::write(folder.join(winner["source"]["path"].as_str().unwrap()), "time_ns = 1").unwrap();
    let output = kbench(folder, &["gate", "--elite"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("not the source that was measured"), "{said}");
}

#[test]
fn a_faulty_proposer_does_not_end_the_search() {
    for (mode, why) in [
        ("exits", "exited: the program exited with status 7: ImportError: no module"),
        ("crashes", "signal: killed by SIGSEGV"),
        ("junk", "in `Thinking about your kernel ...`"),
        ("old", "it speaks protocol 0, this is 1"),
        ("flood", "more than 64 proposals in a round"),
        ("endless", "a line of more than "),
    ] {
        let package = package(mode, "budget = { evaluations = 6 }");
        let tuned = tune(package.path(), &[]);
        let failed = tuned["entry"]["search"]["proposer"]["failed"].as_str().unwrap();
        assert!(failed.contains(why), "{mode}: {failed}");
        assert!(!tuned["entry"]["elite"].as_array().unwrap().is_empty(), "{mode}");
        assert!(tuned["warnings"].to_string().contains("the proposer failed and was ended"), "{mode}");
    }
    let package = package("missing", "budget = { evaluations = 6 }");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap().replace("\"sh\", \"proposer.sh\"", "\"no-such-program\"");
    fs::write(&manifest, text).unwrap();
    let tuned = tune(package.path(), &[]);
    let failed = tuned["entry"]["search"]["proposer"]["failed"].as_str().unwrap();
    assert!(failed.contains("unavailable: could not start `no-such-program`"), "{failed}");
}

#[test]
fn a_silent_proposer_is_ended_with_the_budget() {
    let package = package("hangs", "budget = { seconds = 4 }");
    let started = Instant::now();
    let tuned = tune(package.path(), &[]);
    assert!(started.elapsed() < Duration::from_secs(60), "the one that sleeps was waited for");
    assert_eq!((&tuned["stopped"], &tuned["entry"]["search"]["proposer"]["failed"]), (&"seconds".into(), &Value::Null));
    assert!(!tuned["entry"]["elite"].as_array().unwrap().is_empty());
}

#[test]
fn half_of_the_budget_is_kept_for_proposals() {
    let package = package("good", "budget = { evaluations = 9 }");
    let sources: Vec<Value> = (0..6).map(|n| proposal(&format!("p{n}"), &format!("time_ns = {}", 9000 - n))).collect();
    propose(package.path(), 1, &sources);
    let tuned = tune(package.path(), &[]);
    let search = &tuned["entry"]["search"];
    assert_eq!((&search["evaluated"], &search["proposer"]["evaluated"]), (&5.into(), &4.into()));
    assert_eq!((&search["proposer"]["refused"], &tuned["stopped"]), (&2.into(), &"evaluations".into()));
    assert_eq!(told(package.path(), "round")[0]["left"], 4);
}

/// What two runs must agree on: not where their time went.
fn outcome(tuned: &Value) -> &Value {
    &tuned["entry"]
}

#[test]
fn a_resumed_run_continues_with_journaled_proposals() {
    let package = package("good", "");
    let folder = package.path();
    propose(folder, 1, &[proposal("a", "time_ns = 7000"), fault("wrong"), proposal("b", "time_ns = 6000")]);
    propose(folder, 2, &[proposal("c", "time_ns = 5000")]);
    let whole = tune(folder, &[]);
    let journal = journal(folder);
    let text = fs::read_to_string(&journal).unwrap();

    // The same again is the same, in a journal of its own.
    fs::remove_file(&journal).unwrap();
    assert_eq!(outcome(&tune(folder, &[])), outcome(&whole));
    assert_eq!(told(folder, "round").len(), 6);

    // Cut after the first proposal of the first round; another proposer would not propose it again.
    let cut = text.find("\"record\":\"round\"").unwrap();
    let cut = cut + text[cut..].match_indices('\n').nth(1).unwrap().0 + 1;
    fs::write(&journal, &text[..cut]).unwrap();
    fs::remove_file(folder.join("log")).unwrap();
    fs::remove_file(folder.join("round-1")).unwrap();
    assert_eq!(outcome(&tune(folder, &["--resume"])), outcome(&whole));
    let rounds: Vec<Value> = told(folder, "round").iter().map(|round| round["round"].clone()).collect();
    assert_eq!(rounds, [2, 3]);
    let names: Vec<Value> = told(folder, "verdict").iter().map(|verdict| verdict["name"].clone()).collect();
    assert_eq!(names, ["a", "wrong", "b", "c"]);
    let text = fs::read_to_string(&journal).unwrap();
    let keys: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record["record"] == "evaluation" && record["twin"].is_null())
        .map(|record| record["key"].to_string())
        .collect();
    let distinct: std::collections::HashSet<&String> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "something finished was measured again");
}

/// A C kernel that does everything fifty times, and a proposer that sees it.
#[test]
fn the_example_proposer_improves_a_c_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = "#include \"repeats.h\"\n#include <stdint.h>\n\
        void scale(const float *x, float *y, int32_t n)\n{\n    START\n\
        \x20   for (int r = 0; r < REPEATS; r++)\n\
        \x20       for (int i = 0; i < n; i++)\n\
        \x20           *(volatile float *)&y[i] = 2 * x[i];\n}\n";
    let reference = "#include <stdint.h>\nvoid reference(const double *x, double *y, int32_t n)\n{\n\
        \x20   for (int i = 0; i < n; i++)\n        y[i] = 2 * x[i];\n}\n";
    fs::create_dir(folder.join("src")).unwrap();
    for (name, text) in [
        ("src/scale.c", source),
        // Proposals find it beside the original.
        ("src/repeats.h", "#define REPEATS 50\n#define START\n"),
        ("src/reference.c", reference),
        ("src/lib.rs", ""),
        ("proposer.sh", PROPOSER),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let manifest = r#"
[package]
name = "model"
version = "0.0.0"
edition = "2024"

[workspace]

[package.metadata.kbench.kernels.model]
backend = "c"
source = "src/scale.c"
entry = "scale"
args = ["x", "y", { scalar = "i32", value = "N" }]
shapes.only = { N = 4096 }
gates.correctness.seeds = 2
timing = { iterations = 10, warmup = 2, max_seconds = 0.2, cache = "hot" }
search.proposer = ["sh", "proposer.sh", "good"]
tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }

[package.metadata.kbench.kernels.model.reference]
backend = "c"
source = "src/reference.c"
entry = "reference"
args = ["x", "y", { scalar = "i32", value = "N" }]
"#;
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    let with = |name: &str, from: &str, to: &str| proposal(name, &source.replace(from, to));
    propose(
        folder,
        1,
        &[
            with("once", "REPEATS;", "1;"),
            with("typo", "volatile float", "volatile flaot"),
            with("other", "scale(", "scales("),
            with("half", "i < n", "i < n / 2"),
            // Right the first time, and fast ever after.
            with("cheat", "START", "static int done; if (done) return; done = 1;"),
        ],
    );
    let tuned = tune(folder, &[]);
    let entry = &tuned["entry"];
    let winner = &entry["elite"][0];
    assert_eq!(winner["source"]["name"], "once", "{entry:#}");
    assert!(winner["speedups"]["default"]["low"].as_f64().unwrap() > 2.0, "{winner:#}");
    let verdicts = told(folder, "verdict");
    let of = |name: &str| verdicts.iter().find(|verdict| verdict["name"] == name).unwrap();
    assert!(of("typo")["rejection"]["output"].as_str().unwrap().contains("flaot"), "{:#}", of("typo"));
    assert!(of("other")["rejection"]["message"].as_str().unwrap().contains("scale"), "{:#}", of("other"));
    for name in ["half", "cheat"] {
        assert_eq!(of(name)["rejection"]["gate"], "correctness", "{:#}", of(name));
    }
    let (code, messages) = messages(folder, &["gate", "--elite"]);
    assert_eq!(code, 0, "{messages:#?}");
}

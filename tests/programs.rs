//! Baselines that are programs: a shell script stands for one, and what it does wrong is an argument. Longer than 400 lines: references are
//! programs of the same protocol.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use model::{kbench, package_with};
use serde_json::Value;

mod model;

/// Answers as the protocol wants it, but for one mode's fault. Zeros are right: the model device's kernels write nothing else.
const PROGRAM: &str = r#"
mode=$1
runs=0
say() { printf '%s\n' "$1"; }
while read -r request; do
    printf '%s\n' "$request" >>"log-$mode"
    case $request in
    *'"type":"hello"'*)
        case $mode in
        old) say '{"type":"hello","protocol":0}' ;;
        mute) exit 7 ;;
        exits) echo 'starting' >&2; echo 'ImportError: no module' >&2; exit 7 ;;
        *) say '{"type":"hello","protocol":1}' ;;
        esac ;;
    *'"type":"prepare"'*)
        input=$(printf '%s' "$request" | sed 's/.*"input":"\([^"]*\)".*/\1/')
        output=$(printf '%s' "$request" | sed 's/.*"output":"\([^"]*\)".*/\1/')
        cp "$input" "input-$mode"
        say '{"type":"stage","stage":"inputs"}'
        case $mode in
        unavailable) say '{"type":"unavailable","message":"no module named torch"}' ;;
        junk) say 'Downloading model ...' ;;
        elsewhere) say '{"type":"prepared","clock":"monotonic","batch":1,"device":"another"}' ;;
        *) say '{"type":"prepared","clock":"a shell","batch":3,"device":"fake","versions":{"sh":"1.0"}}' ;;
        esac ;;
    *'"type":"check"'*)
        runs=$((runs + 1))
        case $mode-$runs in
        wrong-*|turns-wrong-2) printf '\100%.0s' $(seq 1024) >"$output" ;;
        cut-*) printf '\0' >"$output" ;;
        unwritten-*) ;;
        *) head -c 1024 /dev/zero >"$output" ;;
        esac
        say '{"type":"checked"}' ;;
    *'"type":"time"'*)
        n=${request#*samples\":}; n=${n%%\}*}
        case $mode in
        hangs) sleep 100 ;;
        crashes) kill -SEGV $$ ;;
        long) ;;
        # More than 60 microseconds for each sample.
        *) sleep $(printf '%d.%04d' $((n / 10000)) $((n % 10000))) ;;
        esac
        case $mode in
        fewer) n=$((n - 1)) ;;
        once) [ -e crashed ] || { : >crashed; kill -SEGV $$; } ;;
        esac
        time=20000
        case $mode in
        negative) time=-1 ;;
        long) time=5000000000 ;;
        short) time=1 ;;
        brief) time=10 ;;
        esac
        samples=$time
        i=1; while [ $i -lt $n ]; do
            # A few per cent of noise: enough samples settle it.
            [ "$mode" = noisy ] && time=$((20000 + (i + n) * 7919 % 1500))
            samples="$samples,$time"; i=$((i + 1))
        done
        say "{\"type\":\"timed\",\"samples\":[$samples]}" ;;
    esac
done
"#;

/// A package whose kernel takes 10 µs, with a baseline for each mode and more of its table.
fn package(modes: &[&str], table: &str) -> tempfile::TempDir {
    let mut text = "[package.metadata.kbench.kernels.model.baselines]\n".to_owned();
    for mode in modes {
        let _ = writeln!(text, "{mode} = {{ command = [\"sh\", \"program.sh\", \"{mode}\"] }}");
    }
    text += "[package.metadata.kbench.kernels.model.timing]\ntimeout_seconds = 1\n";
    let package = package_with("time_ns = \"10000 + A\"\nnoise = 0.001", &format!("{text}{table}"));
    fs::write(package.path().join("program.sh"), PROGRAM).unwrap();
    package
}

/// The messages of a run.
fn messages(folder: &Path, args: &[&str]) -> (i32, Vec<Value>) {
    let output = kbench(folder, args).args(["--message-format", "json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let messages = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr))), messages)
}

fn find<'a>(messages: &'a [Value], reason: &str) -> &'a Value {
    messages.iter().find(|message| message["reason"] == reason).unwrap_or_else(|| panic!("{messages:#?}"))
}

#[test]
fn a_program_is_measured_in_turn_with_the_kernels() {
    let limits = "[[package.metadata.kbench.kernels.model.gates.performance]]\nmin_speedup = 1.9\nover = \"good\"";
    let package = package(&["good"], limits);
    let (code, messages) = messages(package.path(), &["gate", "--iters", "25"]);
    assert_eq!(code, 0, "{messages:#?}");
    let comparison = find(&messages, "comparison");
    let [kernel, program] = &comparison["entries"].as_array().unwrap()[..] else { panic!("{comparison:#}") };
    assert_eq!((&kernel["external"], &kernel["timing"]["summary"]["n"]), (&Value::Null, &25.into()));
    assert_eq!((&program["timing"]["clock"], &program["timing"]["batch"]), (&"a shell".into(), &3.into()));
    assert_eq!(program["timing"]["summary"]["n"], 25);
    let ratio = program["speedup_over"]["ratio"].as_f64().unwrap();
    assert!((1.98..2.02).contains(&ratio), "{ratio}");
    let record = &program["external"];
    assert_eq!((&record["turn"], &record["versions"]["sh"]), (&10.into(), &"1.0".into()));
    assert_eq!((&record["command"][2], &record["errors"]["max_abs_err"]), (&"good".into(), &0.0.into()));
    assert_eq!(record["errors"]["seeds"], 1, "both checks have the same seed");

    assert_eq!(program["timing"]["sampling"]["converged"], true);
    // The kernel was measured twice for the limit.
    assert!(comparison["noise_floor"].as_f64().is_some_and(|floor| floor < 0.01), "{comparison:#}");

    // Ten, ten and five samples, outputs looked at before and after.
    let log = fs::read_to_string(package.path().join("log-good")).unwrap();
    let asked: Vec<String> = log
        .lines()
        .map(|line| {
            let request: Value = serde_json::from_str(line).unwrap();
            format!("{} {}", request["type"].as_str().unwrap(), request["samples"])
        })
        .collect();
    assert_eq!(asked, ["hello null", "prepare null", "check null", "time 10", "time 10", "time 5", "check null"]);
    let prepare: Value = serde_json::from_str(log.lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        (&prepare["shape"], &prepare["dims"]["N"], &prepare["cache"]),
        (&"only".into(), &256.into(), &"cold".into())
    );
    assert_eq!(prepare["tensors"][0]["dtype"], "f32");
    // The files were there, and are gone.
    assert_eq!(fs::metadata(package.path().join("input-good")).unwrap().len(), 1024);
    assert_eq!(fs::read_dir(package.path().join("target/kbench/programs")).unwrap().count(), 0);
}

#[test]
fn a_faulty_program_affects_no_other_measurement() {
    let faults = [
        ("unavailable", "unavailable", "no module named torch"),
        ("elsewhere", "unavailable", "it runs on another, the kernels on fake"),
        ("exits", "exited", "the program exited with status 7: ImportError: no module"),
        ("mute", "exited", "the program exited with status 7 and said nothing"),
        ("crashes", "signal", "killed by SIGSEGV"),
        ("hangs", "hang", "no answer for 1 s"),
        ("junk", "protocol", "in `Downloading model ...`"),
        ("old", "protocol", "it speaks protocol 0, this is 1"),
        ("fewer", "protocol", "9 samples where 10 were asked for"),
        ("long", "forged-time", "its 10 samples of 3 runs each are 150000.000 ms by its clock, but its answer took "),
        ("short", "impossible", "is less than the 0.008 µs that this device needs at least to load and store"),
        ("negative", "protocol", "samples that are no times"),
        ("wrong", "wrong", "rms_err"),
        ("turns-wrong", "wrong", "after timing: rms_err"),
        ("cut", "protocol", "`y` has 1 bytes where 1024 were expected"),
        ("unwritten", "protocol", "an output was not written"),
    ];
    let modes: Vec<&str> = faults.iter().map(|(mode, ..)| *mode).chain(["good"]).collect();
    let package = package(&modes, "");
    let started = Instant::now();
    let (code, messages) = messages(package.path(), &["gate", "--iters", "10"]);
    assert_eq!(code, 0, "{messages:#?}");
    assert!(started.elapsed() < Duration::from_secs(60), "the one that sleeps was waited for");
    let comparison = find(&messages, "comparison");
    let measured: Vec<&str> =
        comparison["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(measured[1..], ["good"]);
    for (mode, code, words) in faults {
        let why = &comparison["unavailable"][mode];
        assert_eq!(why["code"], code, "{mode}: {why}");
        assert!(why["message"].as_str().unwrap().contains(words), "{mode}: {why}");
    }
}

#[test]
fn a_program_needs_no_work_that_depends_on_toggles() {
    // 10 ns suffice for the 1024 bytes of the output, but not for all 2048.
    for (bytes, code) in [("2048", Some("impossible")), ("2048 + A", None)] {
        let package =
            package(&["brief"], &format!("[package.metadata.kbench.kernels.model.work]\nbytes = \"{bytes}\""));
        let (exit, messages) = messages(package.path(), &["gate", "--iters", "10"]);
        assert_eq!(exit, 0, "{messages:#?}");
        let comparison = find(&messages, "comparison");
        assert_eq!(comparison["unavailable"]["brief"]["code"].as_str(), code, "{bytes}: {comparison:#}");
    }
}

#[test]
fn a_resumed_run_tries_a_program_again() {
    let package = package(&["once"], "");
    let is_measured = |args: &[&str]| {
        assert_eq!(messages(package.path(), &[&["autotune", "--iters", "10"], args].concat()).0, 0);
        let elite: Value = serde_json::from_slice(&fs::read(package.path().join("elite.json")).unwrap()).unwrap();
        let baselines = elite["kernels"][0]["baselines"].as_array().unwrap();
        baselines.iter().any(|baseline| baseline["name"] == "once")
    };
    assert!(!is_measured(&[]), "it crashed");
    // The run was killed before its end.
    let journal = package.path().join("target/kbench/journal/model/model.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"record\":\"end\"")).collect();
    assert_eq!(lines.len() + 1, text.lines().count());
    fs::write(&journal, lines.join("\n") + "\n").unwrap();
    assert!(is_measured(&["--resume"]));
}

#[test]
fn a_program_that_does_not_run_gets_no_time_of_another_in_a_resumed_run() {
    // The first of two programs is unavailable, so that the measurement has an entry less than the table.
    let package = package(&["elsewhere", "good"], "");
    for args in [&["autotune", "--iters", "10"][..], &["autotune", "--iters", "10", "--resume"]] {
        let (code, messages) = messages(package.path(), args);
        assert_eq!(code, 0, "{messages:#?}");
        let entry = &find(&messages, "tuned")["entry"];
        let baselines = entry["baselines"].as_array().unwrap().iter().map(|baseline| baseline["name"].as_str());
        assert_eq!(baselines.collect::<Vec<_>>(), [Some("default"), Some("good")], "{args:?}: {entry:#}");
        assert!(entry["elite"][0]["speedups"]["good"]["low"].as_f64().unwrap() > 1.9, "{args:?}: {entry:#}");
        assert!(entry["unavailable"]["elsewhere"].as_str().unwrap().contains("it runs on another"), "{entry:#}");
    }
}

#[test]
fn a_limit_whose_program_is_missing_is_inconclusive() {
    let limits = "[[package.metadata.kbench.kernels.model.gates.performance]]\n\
                  min_speedup = 1.1\nover = \"missing\"\n\
                  [package.metadata.kbench.kernels.model.baselines.missing]\ncommand = [\"no-such-program\"]\n";
    let package = package(&[], limits);
    let (code, messages) = messages(package.path(), &["gate", "--iters", "10"]);
    let verdict = find(&messages, "verdict");
    assert_eq!((code, &verdict["code"]), (1, &"undecided".into()), "{verdict:#}");
    assert!(verdict["message"].as_str().unwrap().contains("could not start `no-such-program`"), "{verdict:#}");
}

#[test]
fn an_unavailable_pytorch_baseline_has_a_reason() {
    // Without python3, without PyTorch, or because the model device is no GPU.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/sdpa/baselines/torch_sdpa.py");
    let baseline = format!(
        "[package.metadata.kbench.kernels.model.baselines.torch]\n\
         command = [\"python3\", {script:?}, \"--backend\", \"math\"]\n"
    );
    let package = package_with("time_ns = \"10000 + A\"", &baseline);
    let (code, messages) = messages(package.path(), &["gate", "--iters", "10"]);
    let why = &find(&messages, "comparison")["unavailable"]["torch"];
    assert_eq!((code, &why["code"]), (0, &"unavailable".into()), "{why}");
    let output = kbench(package.path(), &["gate", "--iters", "10"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("torch unavailable: performance/unavailable at only: "), "{shown}");
}

#[test]
fn a_program_may_have_limits_of_its_own() {
    let own = "[package.metadata.kbench.kernels.model.baselines.wrong]\ncommand = [\"sh\", \"program.sh\", \"wrong\"]\n\
               correctness = { max_abs_err = 100.0 }\n";
    let package = package(&[], own);
    let (code, messages) = messages(package.path(), &["gate", "--iters", "10"]);
    assert_eq!(code, 0);
    let error = find(&messages, "comparison")["entries"][1]["external"]["errors"]["max_abs_err"].as_f64().unwrap();
    assert!((1.0..100.0).contains(&error), "{error}");
}

#[test]
fn autotune_records_programs_and_resumes_with_them() {
    let package = package(&["good", "unavailable"], "");
    let tune = |args: &[&str]| {
        let (code, messages) = messages(package.path(), &[&["autotune", "--iters", "10"], args].concat());
        assert_eq!(code, 0);
        find(&messages, "tuned")["entry"].clone()
    };
    let entry = tune(&[]);
    let program = entry["baselines"].as_array().unwrap().iter().find(|baseline| baseline["name"] == "good").unwrap();
    assert_eq!(program["external"]["turn"], 10);
    assert!(entry["elite"][0]["speedups"]["good"]["low"].as_f64().unwrap() > 1.9);
    assert!(entry["unavailable"]["unavailable"].as_str().unwrap().contains("no module named torch"));
    let elite: Value = serde_json::from_slice(&fs::read(package.path().join("elite.json")).unwrap()).unwrap();
    assert_eq!(elite["kernels"][0]["baselines"], entry["baselines"]);

    // What is in the journal is not measured again, until the program is another.
    let times = || fs::read_to_string(package.path().join("log-good")).unwrap().matches("\"time\"").count();
    assert_eq!(times(), 1);
    assert_eq!(tune(&["--resume"])["baselines"], entry["baselines"]);
    assert_eq!(times(), 1);
    fs::write(package.path().join("program.sh"), PROGRAM.replace("time=20000", "time=30000")).unwrap();
    let entry = tune(&["--resume"]);
    assert_eq!(times(), 2);
    assert!(entry["elite"][0]["speedups"]["good"]["low"].as_f64().unwrap() > 2.9);
}

#[test]
fn turns_grow_until_the_times_of_all_are_known() {
    let package = package(&["noisy"], "");
    let (code, messages) = messages(package.path(), &["gate", "--iters", "20"]);
    assert_eq!(code, 0, "{messages:#?}");
    let entries = find(&messages, "comparison")["entries"].clone();
    let of = |index: usize, key: &str| entries[index]["timing"]["sampling"][key].clone();
    let n: Vec<u64> = (0..2).map(|index| entries[index]["timing"]["summary"]["n"].as_u64().unwrap()).collect();
    assert!(n[0] == n[1] && n[0] > 60, "as many of each, and as many as it takes: {n:?}");
    assert_eq!((of(0, "converged"), of(1, "converged")), (true.into(), true.into()));
    let log = fs::read_to_string(package.path().join("log-noisy")).unwrap();
    let turns = log.lines().filter(|line| line.contains("\"time\"")).count();
    assert!(turns < 30, "{turns}");
}

/// A reference that answers in double precision, but for one mode's fault.
const REFERENCE: &str = r#"
mode=$1
say() { printf '%s\n' "$1"; }
while read -r request; do
    printf '%s\n' "$request" >>"log-$mode"
    case $request in
    *'"type":"hello"'*)
        case $mode in
        silent) say '{"type":"hello","protocol":1}' ;;
        *) say "{\"type\":\"hello\",\"protocol\":1,\"identity\":\"$(cat imported 2>/dev/null)\"}" ;;
        esac ;;
    *'"type":"prepare"'*)
        output=$(printf '%s' "$request" | sed 's/.*"output":"\([^"]*\)".*/\1/')
        say '{"type":"stage","stage":"inputs"}'
        case $mode in
        unavailable) say '{"type":"unavailable","message":"no module named numpy"}' ;;
        crashes) kill -SEGV $$ ;;
        *) say '{"type":"prepared","clock":"none","batch":1}' ;;
        esac ;;
    *'"type":"check"'*)
        case $mode in
        ones) for i in $(seq 256); do printf '\0\0\0\0\0\0\360\077'; done >"$output" ;;
        short) printf '\0' >"$output" ;;
        nan) head -c 2048 /dev/zero | tr '\0' '\377' >"$output" ;;
        *) head -c 2048 /dev/zero >"$output" ;;
        esac
        say '{"type":"checked"}' ;;
    esac
done
"#;

/// The model package with a program as its reference.
fn referred(mode: &str) -> tempfile::TempDir {
    let package = package_with("time_ns = \"10000 + A\"", "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let function = "backend = \"fake\"\nsource = \"reference.toml\"\nentry = \"model\"\n";
    assert!(text.contains(function));
    let program = format!("command = [\"sh\", \"reference.sh\", \"{mode}\"]\n");
    fs::write(&manifest, text.replace(function, &program)).unwrap();
    fs::write(package.path().join("reference.sh"), REFERENCE).unwrap();
    package
}

/// Requests of a type that a reference got so far.
fn requests(package: &Path, mode: &str, of: &str) -> usize {
    let log = fs::read_to_string(package.join(format!("log-{mode}"))).unwrap();
    let asked = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    asked.filter(|request| request["type"] == of).count()
}

#[test]
fn a_program_may_be_the_reference() {
    let package = referred("good");
    let gate = || {
        let (code, messages) = messages(package.path(), &["gate", "--iters", "10"]);
        assert_eq!(code, 0, "{messages:#?}");
        let errors = &find(&messages, "verdict")["errors"][0];
        assert_eq!((&errors["seeds"], &errors["max_abs_err"]), (&2.into(), &0.0.into()), "{errors}");
        (requests(package.path(), "good", "prepare"), errors["patterns"].as_array().unwrap().len())
    };
    // Two seeds, one after timing, and each pattern; a second run finds all of that in the cache.
    let (first, patterns) = gate();
    assert_eq!(first, 3 + patterns);
    assert_eq!(gate().0, first);
    let log = fs::read_to_string(package.path().join("log-good")).unwrap();
    let prepare: Value = serde_json::from_str(log.lines().nth(1).unwrap()).unwrap();
    let tensors = &prepare["tensors"];
    assert_eq!((&tensors[0]["name"], &tensors[0]["dtype"]), (&"x".into(), &"f64".into()));
    assert_eq!((&tensors[1]["name"], &tensors[1]["dtype"]), (&"y".into(), &"f64".into()));
    // Another program has other results, and so has one that states another identity.
    fs::write(package.path().join("reference.sh"), format!("{REFERENCE}\n# changed")).unwrap();
    assert_eq!(gate().0, 2 * first);
    fs::write(package.path().join("imported"), "version 2").unwrap();
    assert_eq!(gate().0, 3 * first);
    assert_eq!(requests(package.path(), "good", "hello"), 4, "one process a run");
}

#[test]
fn results_of_a_program_are_sent_to_workers_that_do_not_see_the_folder() {
    let package = referred("good");
    let manifest = package.path().join("Cargo.toml");
    // A worker with a path has no folder, and no environment either.
    let workers = format!(
        "[[package.metadata.kbench.kernels.model.workers]]\nrunner = [\"env\", \"-i\"]\npath = {:?}\n",
        env!("CARGO_BIN_EXE_cargo-kbench")
    );
    fs::write(&manifest, format!("{}\n{workers}count = 2\n", fs::read_to_string(&manifest).unwrap())).unwrap();
    let (code, of_gate) = messages(package.path(), &["gate", "--iters", "10"]);
    assert_eq!(code, 0, "{of_gate:#?}");
    let errors = &find(&of_gate, "verdict")["errors"][0];
    assert_eq!((&errors["seeds"], &errors["max_abs_err"]), (&2.into(), &0.0.into()), "{errors}");
    let first = requests(package.path(), "good", "prepare");
    let (code, of_search) = messages(package.path(), &["autotune", "--iters", "10"]);
    assert_eq!(code, 0, "{of_search:#?}");
    let search = &find(&of_search, "tuned")["entry"]["search"];
    assert_eq!(search["rejected"], serde_json::json!({}), "{search}");
    assert_eq!(requests(package.path(), "good", "prepare"), first, "the driver keeps the results");
}

#[test]
fn a_reference_that_states_no_identity_is_asked_in_each_run() {
    let package = referred("silent");
    let tune = |more: &[&str]| {
        let (code, messages) = messages(package.path(), &[&["autotune", "--iters", "10"], more].concat());
        assert_eq!(code, 0, "{messages:#?}");
        let recalled = find(&messages, "tuned")["entry"]["search"]["recalled"].clone();
        (requests(package.path(), "silent", "prepare"), recalled.as_u64().unwrap_or(0))
    };
    let (first, _) = tune(&[]);
    // Its results are what they were: what was measured by them still counts.
    let (second, recalled) = tune(&[]);
    assert!(second > first && recalled > 0, "{first} {second} {recalled}");
    let changed =
        REFERENCE.replace("*) head -c 2048 /dev/zero >", "*) head -c 2047 /dev/zero >\"$output\"; printf '\\200' >>");
    assert_ne!(changed, REFERENCE);
    fs::write(package.path().join("reference.sh"), changed).unwrap();
    let (_, recalled) = tune(&[]);
    assert_eq!(recalled, 0, "judged by other results");
}

#[test]
fn results_of_a_program_are_keyed_by_its_whole_input() {
    let package = referred("good");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    // Shapes that differ in a number that is no size of a tensor.
    let shapes = "shapes = { only = { N = 256, P = 1 }, other = { N = 256, P = 2 } }";
    fs::write(&manifest, text.replace("shapes.only = { N = 256 }", shapes)).unwrap();
    let (code, messages) = messages(package.path(), &["gate", "--iters", "10", "--seeds", "3"]);
    assert_eq!(code, 0, "{messages:#?}");
    let log = fs::read_to_string(package.path().join("log-good")).unwrap();
    for size in [1, 2] {
        let prepared = log.lines().filter(|line| line.contains(&format!("\"P\":{size}"))).count();
        assert!(prepared >= 3, "each of three seeds at P = {size}: {prepared}");
    }
}

#[test]
fn a_faulty_reference_program_rejects_no_kernel() {
    for (mode, code, words) in [
        ("ones", 1, "rms_err 1.000e0"),
        ("unavailable", 3, "the reference of kernel `model` is unavailable: no module named numpy"),
        ("crashes", 2, "the reference failed: killed by SIGSEGV"),
        ("short", 2, "its `y` has 1 bytes where 2048 were expected"),
        ("nan", 2, "it gives no finite number in `y`"),
    ] {
        let package = referred(mode);
        let shown = model::shown(package.path(), &["gate", "--iters", "10"]);
        assert!(shown.starts_with(&format!("exit {code}\n")) && shown.contains(words), "{mode}: {shown}");
    }
}

//! The output of every verb, on the model device. Above 400 lines: one test for each output.

use std::fs;

use model::{MODEL, kbench, package_with, shown};

mod model;

macro_rules! assert_shown {
    ($shown:expr) => {
        insta::with_settings!({ filters => [(r"in \d+\.\d s", "in [SECONDS]")] }, {
            insta::assert_snapshot!($shown);
        });
    };
}

#[test]
fn autotune_prints_winner_confidence_and_next_command() {
    let package = package_with(MODEL, "");
    assert_shown!(shown(package.path(), &["autotune", "-q"]));
}

#[test]
fn progress_is_plain_lines_where_there_is_no_terminal() {
    let package = package_with("time_ns = \"1000 - A\"\nnoise = 0", "");
    assert_shown!(shown(package.path(), &["autotune", "--iters", "20"]));
}

#[test]
fn a_search_without_survivors_fails() {
    let package = package_with("time_ns = \"1000\"\n[[fault]]\nwhen = \"true\"\nkind = \"wrong\"", "");
    assert_shown!(shown(package.path(), &["autotune", "-q"]));
    assert!(!package.path().join("elite.json").exists());
}

#[test]
fn gate_names_the_failed_gate_and_shape() {
    let package = package_with(MODEL, "");
    assert_shown!(shown(package.path(), &["gate", "--variant", "A=2,B=3"]));
}

#[test]
fn explain_prints_reason_codes_and_keys_and_suggests_names() {
    let folder = tempfile::tempdir().unwrap();
    let of = |what: &str| shown(folder.path(), &["explain", what]);
    assert_shown!([of("correctness/unwritten"), of("max_shared_bytes"), of("unwriten")].concat());
    let all = shown(folder.path(), &["explain"]);
    assert!(all.starts_with("exit 0\n") && all.contains("dram__throughput"), "{all}");
}

#[test]
fn the_command_line_replaces_how_the_table_searches() {
    let package = package_with(MODEL, "");
    let of = |flags: &[&str]| shown(package.path(), &[&["autotune", "-q", "--fresh", "--cold"], flags].concat());
    let three = of(&["--budget", "3", "--strategy", "random"]);
    assert!(three.starts_with("exit 0\n"), "{three}");
    let elite: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(package.path().join("elite.json")).unwrap()).unwrap();
    let search = &elite["kernels"][0]["search"];
    assert_eq!((&search["evaluated"], &search["strategy"]), (&3.into(), &"random".into()));
    for (flags, said) in [
        (["--budget", "0"], "0 is not in 1.."),
        (["--objective", "speed"], "`speed` is no objective; name one of `p50`, `throughput`"),
        (["--objective", "p50,p50"], "`p50` is named twice"),
    ] {
        let shown = of(&flags);
        assert!(shown.starts_with("exit 2\n") && shown.contains(said), "{shown}");
    }
}

#[test]
fn doctor_names_missing_pieces_of_a_package() {
    let package = package_with(MODEL, "");
    let whole = shown(package.path(), &["doctor", "--no-noise", "-p", "model"]);
    assert!(whole.starts_with("exit 0\n") && whole.contains("has all that the gates need"), "{whole}");
    assert!(whole.contains("C compiler"), "{whole}");
    let json = shown(package.path(), &["doctor", "--no-noise", "--json"]);
    assert!(json.contains("\"reason\":\"examined\"") && json.contains("\"noise\":null"), "{json}");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let counters = "[package.metadata.kbench.kernels.model.gates]\ncounters = { any = [\"dram__throughput < 50\"] }\n";
    fs::write(&manifest, text + counters).unwrap();
    let shown = shown(package.path(), &["doctor", "--no-noise", "-p", "model"]);
    // Where this machine counts, nothing is missing.
    assert!(shown.starts_with("exit 3\n") == shown.contains("lacks perf_event: package `model`"), "{shown}");
}

#[test]
fn gate_passes_the_default() {
    let package =
        package_with(MODEL, "[package.metadata.kbench.kernels.model.baselines]\nother = { toggles = { A = 1 } }");
    assert_shown!(shown(package.path(), &["gate"]));
}

#[test]
fn a_reference_of_the_wrong_precision_is_reported() {
    let package = package_with(MODEL, "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let c = "backend = \"c\"\nsource = \"r.c\"\nentry = \"r\"";
    fs::write(&manifest, text.replace("backend = \"fake\"\nsource = \"reference.toml\"\nentry = \"model\"", c))
        .unwrap();
    fs::write(package.path().join("r.c"), "void r(const float *x, float *y) { y[0] = x[0]; }\n").unwrap();
    let shown = shown(package.path(), &["gate", "-q"]);
    assert!(shown.starts_with("exit 2\n"), "{shown}");
    for said in [
        "the reference `r` takes float where it is passed double",
        "say `precision = \"f32\"`",
        "kernels.model.reference]",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
}

#[test]
fn two_outputs_may_be_the_same_bytes() {
    let package = package_with(MODEL, "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let both = "y = { dtype = \"f32\", dims = [\"N\"], role = \"inout\", init = { constant = 0.0 } }\n\
                z = { dtype = \"f32\", dims = [\"N\"], role = \"out\" }";
    let text = text.replace("y = { dtype = \"f32\", dims = [\"N\"], role = \"out\" }", both);
    fs::write(&manifest, text.replace("\"x\", \"y\"", "\"x\", \"y\", \"z\"")).unwrap();
    let shown = shown(package.path(), &["gate", "-q"]);
    assert!(shown.starts_with("exit 0\n"), "{shown}");
}

/// A limit at a shape that is not run judges nothing, whatever stands in the table.
#[test]
fn a_gate_that_judged_nothing_does_not_print_pass() {
    let package = package_with(MODEL, "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text.replace("shapes.only = { N = 256 }", "shapes.only = { N = 256 }\nshapes.ragged = { N = 77 }");
    let limits = "gates.correctness.seeds = 2\ngates.performance = [{ shape = \"only\", max_p50_us = 1000 }]";
    let text = text.replace("gates.correctness.seeds = 2", limits);
    fs::write(&manifest, &text).unwrap();
    assert_shown!(shown(package.path(), &["gate", "-q", "--shapes", "ragged"]));
    let said = shown(package.path(), &["gate", "-q", "--shapes", "only"]);
    assert!(said.contains("performance  pass  only: p50"), "{said}");
    let json = kbench(package.path(), &["gate", "--shapes", "ragged", "--message-format", "json"]).output().unwrap();
    let json = String::from_utf8(json.stdout).unwrap();
    let verdict: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(verdict["unjudged"]["performance"], "no limit here: the table has limits at `only`");
    let said = shown(package.path(), &["autotune", "-q", "--shapes", "ragged"]);
    assert!(said.starts_with("exit 0") && said.contains("not judged the performance limits at `only`"), "{said}");
    assert!(said.contains("gate -p model --kernel model --shapes ragged --variant"), "{said}");

    let allowed = text.replace("gates.performance =", "gates.performance_level = \"allow\"\ngates.performance =");
    fs::write(&manifest, allowed).unwrap();
    let said = shown(package.path(), &["gate", "-q"]);
    assert!(said.contains("performance  -     at level `allow`"), "{said}");
}

#[test]
fn a_winner_that_misses_a_denied_limit_fails_the_run() {
    let package = package_with(MODEL, "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let at_level = |level: &str| {
        let limits = format!("gates.performance = [{{ max_p50_us = 1 }}]\ngates.performance_level = \"{level}\"\n");
        fs::write(&manifest, text.replace("gates.correctness", &(limits + "gates.correctness"))).unwrap();
    };
    at_level("deny");
    assert_shown!(shown(package.path(), &["autotune", "-q"]));
    assert!(package.path().join("elite.json").exists(), "it is the best that there is");
    let report = || shown(package.path(), &["report", "--format", "md"]);
    assert!(report().contains("- Limit missed: "), "{}", report());
    at_level("warn");
    let said = shown(package.path(), &["autotune", "-q"]);
    assert!(said.starts_with("exit 0") && said.contains("Missed performance/too-slow"), "{said}");
    assert!(report().contains("- Limit missed (a warning): "), "{}", report());
    at_level("allow");
    let said = shown(package.path(), &["autotune", "-q"]);
    assert!(said.starts_with("exit 0") && !said.contains("Missed"), "{said}");
}

/// What is printed after `Next` goes through a shell and comes back as the same variant, from another folder too.
#[test]
fn the_next_command_can_be_pasted_into_a_shell() {
    let package = package_with("time_ns = \"1000\"\nnoise = 0", "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (types, message) = ("[\"float\", \"unsigned int\"]", r#""\"it's $HOME `x`\" \\""#);
    let strings = format!(
        "toggles.macro = {{ T = {types}, MSG = [\"a, b\", {message}] }}\n\
         toggles.default = {{ T = \"unsigned int\", MSG = {message} }}\n\
         toggles.constraints = [\"T == 'unsigned int'\", \"MSG != 'a, b'\"]"
    );
    fs::write(&manifest, text.replace("toggles.macro = { A = [0, 1, 2, 3], B = [0, 1, 2, 3] }", &strings)).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let said = shown(elsewhere.path(), &["autotune", "-q", "--manifest-path", manifest.to_str().unwrap()]);
    let next = said.lines().find_map(|line| line.trim_start().strip_prefix("Next cargo kbench ")).expect(&said);
    let line = format!("{} kbench {next}", env!("CARGO_BIN_EXE_cargo-kbench"));
    for shell in ["sh", "bash"] {
        let mut shell = std::process::Command::new(shell);
        let ran = shell.args(["-c", &line]).current_dir(elsewhere.path()).env_remove("CARGO_TARGET_DIR").output();
        let ran = ran.unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        let variant = r#"T=unsigned int MSG="it's $HOME `x`" \ C="#;
        assert!(ran.status.success() && said.contains(variant), "{line}\n{ran:?}");
    }
}

#[test]
fn packages_are_named_as_cargo_names_them() {
    let package = package_with(MODEL, "");
    for spec in ["model", "model@0.0.0", "model@0", "mod*", "m?del"] {
        let said = shown(package.path(), &["check", "-p", spec]);
        assert!(said.starts_with("exit 0\nmodel (fake"), "{spec}: {said}");
    }
    let url = format!("path+file://{}", package.path().canonicalize().unwrap().display());
    for spec in [url.clone(), format!("{url}#0.0.0"), format!("{url}#model@0.0.0")] {
        let said = shown(package.path(), &["check", "-p", &spec]);
        assert!(said.starts_with("exit 0"), "{spec}: {said}");
    }
    for (spec, words) in [
        ("model@1.0.0", "did you mean `model@0.0.0`?"),
        ("x*", "no package `x*`"),
        ("[", "no pattern of package names"),
    ] {
        let said = shown(package.path(), &["check", "-p", spec]);
        assert!(said.starts_with("exit 2") && said.contains(words), "{spec}: {said}");
    }
}

#[test]
fn a_resumed_run_marks_recalled_measurements() {
    let package = package_with(MODEL, "");
    let first = shown(package.path(), &["autotune", "--iters", "20"]);
    assert!(first.starts_with("exit 0") && !first.contains("resumed"), "{first}");
    let resumed = shown(package.path(), &["autotune", "--iters", "20", "--resume"]);
    assert!(
        resumed.contains("resumed 25 variants and the finals that the run which was cut off measured"),
        "{resumed}"
    );
    let marks = resumed.matches(" (by the run that is resumed)").count();
    assert_eq!(marks, 25, "{resumed}");

    // Also those that were stopped early.
    let package = package_with("time_ns = '1000 + 9000 * A + B + C + D'", "");
    shown(package.path(), &["autotune"]);
    let resumed = shown(package.path(), &["autotune", "--resume"]);
    let stopped: Vec<_> = resumed.lines().filter(|line| line.contains("stopped: clearly slower")).collect();
    assert!(
        !stopped.is_empty() && stopped.iter().all(|line| line.ends_with(" (by the run that is resumed)")),
        "{resumed}"
    );
}

#[test]
fn budgets_stop_a_search() {
    let package = package_with(MODEL, "[package.metadata.kbench.kernels.model.search]\nbudget = { evaluations = 4 }");
    assert_shown!(shown(package.path(), &["autotune", "-q"]));
}

#[test]
fn a_search_is_planned_and_narrowed() {
    let package = package_with(MODEL, "[package.metadata.kbench.kernels.model.search]\nstrategy = \"exhaustive\"");
    let told =
        |more: &[&str]| shown(package.path(), &[&["autotune", "--toggle", "A=1,2", "--toggle", "B=3"], more].concat());
    assert_shown!(told(&["--dry-run"]));
    assert!(!package.path().join("elite.json").exists());
    let searched = told(&[]);
    assert!(searched.contains(" A=1 B=3 C=") && !searched.contains("A=0") && !searched.contains("B=0"), "{searched}");
    let planned = told(&["--dry-run"]);
    assert!(planned.contains("the last search took") && planned.contains("at most 8 variants"), "{planned}");
    let refused = kbench(package.path(), &["autotune", "--toggle", "A=9"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("--toggle of kernel `model`: `A` has no value `9`"), "{error}");
}

#[test]
fn a_space_may_depend_on_the_device() {
    let constraints = "constraints = [\"A * 65536 <= MAX_SHARED\", \"B <= SM_COUNT\"]";
    let package = package_with(MODEL, "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("toggles.micro", &format!("toggles.{constraints}\ntoggles.micro"))).unwrap();
    let count = |more: &[&str]| {
        let output = kbench(package.path(), &[&["check", "--message-format", "json"], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["valid"].as_u64().unwrap()
    };
    // 4 x 4 x 2 x 2 points; 227 KiB hold A = 3, 64 KiB A = 1.
    assert_eq!(count(&[]), 64);
    assert_eq!(count(&["--device-model", "sm_90a"]), 64);
    assert_eq!(count(&["--device-model", "sm_75"]), 32);
    let told = shown(package.path(), &["check", "--device-model", "sm_75"]);
    assert!(told.contains("sm_75, T4: SM_COUNT=40 MAX_SHARED=65536; the table depends on it"), "{told}");
    let refused = shown(package.path(), &["check", "--device-model", "sm_20"]);
    assert!(refused.contains("no limits of `sm_20` are known; those of `sm_70`"), "{refused}");
    // The model device has one multiprocessor.
    let told = shown(package.path(), &["autotune", "-q", "--strategy", "exhaustive"]);
    assert!(told.contains("exit 0") && !told.contains("B=2") && !told.contains("B=3"), "{told}");
}

/// 2^56 points, most of them valid: counted, not walked through.
#[test]
fn check_counts_a_space_that_is_too_large_to_list() {
    let package = package_with(MODEL, "");
    let manifest = package.path().join("Cargo.toml");
    let values: Vec<String> = (1..=32).map(|value| value.to_string()).collect();
    let toggles: Vec<String> = (0..10).map(|toggle| format!("T{toggle} = [{}]", values.join(", "))).collect();
    let sum: Vec<String> = (0..10).map(|toggle| format!("T{toggle}")).collect();
    let old = "{ C = [0, 1], D = [0, 1] }";
    let new = format!("{{ C = [0, 1], D = [0, 1], {} }}", toggles.join(", "));
    let constraints = format!("toggles.constraints = [\"{} <= 165\", \"A <= T0 * T9\"]", sum.join(" + "));
    let text = fs::read_to_string(&manifest).unwrap().replace(old, &format!("{new}\n{constraints}"));
    fs::write(&manifest, text).unwrap();
    assert_shown!(shown(package.path(), &["check"]));
    let refused = kbench(package.path(), &["build", "--all"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("more than 100000 variants, too many for --all"));
}

#[test]
fn check_warns_of_sizes_that_do_not_fit() {
    let package = package_with(MODEL, "");
    let table = r#"
[package]
name = "fit"
version = "0.0.0"
edition = "2024"

[workspace]

[package.metadata.kbench.kernels.fit]
source = "fit.cu"
entry = "fit"
grid = ["N // TILE", "M + 70000"]
block = ["TILE", 8]
args = ["x", "y", { tensor_map = "z", box = [512, 3], swizzle = 32 }]
shapes = { even = { N = 512, M = 6 }, ragged = { N = 500, M = 6 } }
tensors.x = { dtype = "f32", dims = ["N"], init = { file = "x.npy" } }
tensors.y = { dtype = "f32", dims = ["N"], role = "out" }
tensors.z = { dtype = "f32", dims = ["N", "M"] }
toggles = { macro = { TILE = [128, 256] }, default = { TILE = 256 } }
search = { objective = { mean = { even = 1, ragged = 2 } }, shape = "ragged", budget = { seconds = 60 }, elite = 5 }
gates = { sanitize = "warn", counters = { any = ["dram__throughput < 50"] } }

[package.metadata.kbench.kernels.fit.reference]
source = "fit.c"
entry = "fit"
args = ["x", "y"]
"#;
    fs::write(package.path().join("Cargo.toml"), table).unwrap();
    fs::write(package.path().join("fit.cu"), "").unwrap();
    fs::write(package.path().join("fit.c"), "").unwrap();
    let mut header = "{'descr': '<f4', 'fortran_order': False, 'shape': (512,), }".to_owned();
    header += &" ".repeat(63 - (10 + header.len()) % 64);
    let header =
        [b"\x93NUMPY\x01\x00", &(header.len() as u16 + 1).to_le_bytes()[..], header.as_bytes(), b"\n"].concat();
    fs::write(package.path().join("x.npy"), [&header[..], &[0; 2048]].concat()).unwrap();
    assert_shown!(shown(package.path(), &["check"]));
    let json = kbench(package.path(), &["check", "--message-format", "json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["warnings"].as_array().unwrap().len(), 7, "{json}");
    assert_eq!((json["tuned_at"].as_str(), json["strategy"].as_str()), (Some("ragged"), Some("auto")));
}

#[test]
fn mistakes_are_drawn_at_their_place() {
    let package = package_with(MODEL, "[package.metadata.kbench.kernels.model.timing]\nwarmpu = 3");
    assert_shown!(shown(package.path(), &["check"]));

    let output = kbench(package.path(), &["check", "--message-format", "json"]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(2), &b""[..]));
    let message: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let word = |name: &str| message[name].as_str().unwrap();
    assert_eq!((word("reason"), word("level")), ("diagnostic", "error"));
    assert!(word("rendered").contains(word("message")));
    let span = &message["spans"][0];
    assert_eq!(span["label"].as_str(), Some("did you mean `warmup`?"));
    let text = fs::read_to_string(package.path().join(span["file_name"].as_str().unwrap())).unwrap();
    let at = |name: &str| usize::try_from(span[name].as_u64().unwrap()).unwrap();
    assert_eq!(&text[at("byte_start")..at("byte_end")], "warmpu");
    let line = text.lines().nth(at("line_start") - 1).unwrap();
    assert_eq!(&line[at("column_start") - 1..at("column_end") - 1], "warmpu");
}

#[test]
fn wrong_usage_exits_with_2() {
    let package = package_with(MODEL, "");
    for (args, words) in [
        (&["gate", "--variant", "E=1"][..], "no toggle `E`"),
        (&["gate", "--variant", "A=9"], "has no value `9`"),
        (&["gate", "--variant", "A=1 B"], "expected `TOGGLE=value`, found `B`"),
        (&["gate", "--kernel", "none"], "no kernel `none`; the kernels are model"),
        (&["gate", "--kernel", "other/model"], "no kernel `other/model`; the kernels are model"),
        (&["gate", "--shapes", "none"], "no shape `none`"),
        (&["gate", "-p", "none"], "no package `none`"),
        (&["gate", "--iters", "0"], "0 is not in 1.."),
        (&["gates"], "similar"),
    ] {
        let shown = shown(package.path(), args);
        assert!(shown.starts_with("exit 2\n---\n") && shown.contains(words), "{args:?}: {shown}");
    }
    let named = shown(package.path(), &["check", "--kernel", "model/model"]);
    assert!(named.starts_with("exit 0\nmodel (fake"), "{named}");
}

#[test]
fn a_runner_starts_the_same_worker_elsewhere() {
    let run = |runner: &str| {
        let package = package_with(MODEL, &format!("[package.metadata.kbench.kernels.model]\nrunner = {runner}"));
        // The table above is already open; a key may be added to it only inside.
        let manifest = package.path().join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        let (head, _) = text.rsplit_once("[package.metadata.kbench.kernels.model]").unwrap();
        let text = head.replace("entry = \"model\"\nargs", &format!("entry = \"model\"\nrunner = {runner}\nargs"));
        fs::write(&manifest, text).unwrap();
        shown(package.path(), &["gate", "--variant", "A=3,B=3", "-q"])
    };
    // A shell reports the signal of its child as 128 + its number.
    for runner in [r#"["env", "A=B"]"#, r#"["sh", "-c", "\"$@\"", "sh"]"#] {
        let shown = run(runner);
        assert!(
            shown.starts_with("exit 1") && shown.contains("signal: at only: killed by SIGSEGV"),
            "{runner}: {shown}"
        );
    }
    let shown = run(r#"["no-such-runner"]"#);
    assert!(shown.starts_with("exit 3") && shown.contains("could not start the worker `no-such-runner"), "{shown}");
    let shown = run(r#"["false"]"#);
    assert!(shown.starts_with("exit 3") && shown.contains("exited with status 1"), "{shown}");
}

#[test]
fn json_is_one_message_a_line() {
    let package = package_with(MODEL, "");
    let output = kbench(package.path(), &["autotune", "--message-format", "json"]).output().unwrap();
    let reasons: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(message["version"], 1);
            message["reason"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(reasons.first().unwrap(), "started");
    assert_eq!(reasons.iter().filter(|reason| *reason == "evaluated").count(), 25);
    assert_eq!(reasons.last().unwrap(), "tuned");
}

#[test]
fn the_log_is_on_stderr_and_leaves_json_alone() {
    let package = package_with(MODEL, "");
    let run = |args: &[&str], log: &str| kbench(package.path(), args).env("KBENCH_LOG", log).output().unwrap();
    let stderr = |output: &std::process::Output| String::from_utf8(output.stderr.clone()).unwrap();
    let json = ["gate", "--message-format", "json"];
    let output = run(&[&json[..], &["-vv"]].concat(), "");
    assert!(stderr(&output).contains("process started"), "{}", stderr(&output));
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let searched = run(&["autotune", "-q"], "cargo_kbench::tune=debug");
    assert!(stderr(&searched).contains("strategy asks for a variant variant=A="), "{}", stderr(&searched));
    assert!(!stderr(&searched).contains("process started"));
    assert!(!stderr(&run(&json, "")).contains("process started"));
    assert_eq!(run(&json, "build=nonsense").status.code(), Some(2));
}

#[test]
fn two_problems_are_not_compared() {
    let other = "[package.metadata.kbench.kernels.model.baselines]\ndefault = { toggles = { A = 1 } }\n\
                 small = { kernel = \"small\" }\n[package.metadata.kbench.kernels.small]\nbackend = \"fake\"\n\
                 source = \"model.toml\"\nentry = \"model\"\nargs = [\"x\", \"y\"]\nshapes.only = { N = 64 }\n\
                 tensors = { x = { dtype = \"f32\", dims = [\"N\"] }, y = { dtype = \"f32\", dims = [\"N\"], role = \"out\" } }\n\
                 reference = { backend = \"fake\", source = \"reference.toml\", entry = \"model\" }";
    let package = package_with(MODEL, other);
    let shown = shown(package.path(), &["check"]);
    assert!(shown.starts_with("exit 2") && shown.contains("shape `only` of kernel `small` has other sizes"), "{shown}");
    assert!(shown.contains("`default` is the default variant, which is always measured"), "{shown}");
}

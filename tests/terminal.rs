//! What other people's texts may do to a terminal: nothing.

use std::fs;

use model::{MODEL, kbench, package_with, shown};

mod model;

/// Clears the screen, sets a title, colours, goes back in the line, the C1 form of an escape, reorders text.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;TITLE\u{7}\u{1b}[32m\u{8}\u{9b}2J\u{202e}";

/// Both streams of a run, as a terminal would get them.
fn coloured(folder: &std::path::Path, args: &[&str]) -> String {
    let output = kbench(folder, args).args(["--color", "always"]).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// Whatever steers a terminal and is no colour of ours.
fn foreign(text: &str) -> Vec<String> {
    let own = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[36m"];
    // Those of configuration errors, of which a foreign text has none.
    let drawn = ["\u{1b}[91m", "\u{1b}[92m", "\u{1b}[93m", "\u{1b}[94m", "\u{1b}[96m"];
    let mut rest = text.to_owned();
    for code in own.into_iter().chain(drawn) {
        rest = rest.replace(code, "");
    }
    let at = rest.char_indices().filter(|&(_, c)| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}');
    at.map(|(at, c)| format!("{c:?} after {:?}", rest[..at].chars().rev().take(40).collect::<String>())).collect()
}

/// A C kernel instead of the model.
fn c_package(source: &str, table: &str) -> tempfile::TempDir {
    let package = package_with("", table);
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text.replace("\"fake\"", "\"c\"").replace("model.toml", "k.c").replace("reference.toml", "r.c");
    // Few variants and samples: it is words that are looked at.
    let text =
        text.replace("A = [0, 1, 2, 3], B = [0, 1, 2, 3]", "A = [0, 1]").replace("C = [0, 1], D = [0, 1]", "C = [0]");
    let text = text.replace("gates.correctness.seeds = 2", "gates.correctness.seeds = 2\ntiming.max_seconds = 0.05");
    fs::write(&manifest, text).unwrap();
    fs::write(package.path().join("k.c"), source).unwrap();
    let reference = "void model(const double *x, double *y) { for (int i = 0; i < 256; i++) y[i] = x[i]; }";
    fs::write(package.path().join("r.c"), reference).unwrap();
    package
}

const COPY: &str = "void model(const float *x, float *y) { for (int i = 0; i < 256; i++) y[i] = x[i]; }\n";

#[test]
fn texts_of_tables_and_files_are_escaped() {
    let escaped = HOSTILE.chars().map(|c| format!("\\U{:08x}", c as u32)).collect::<Vec<_>>().concat();
    let mistakes = [
        format!("[package.metadata.kbench.kernels.model.timing]\n\"{escaped}\" = 1"),
        format!("[package.metadata.kbench.kernels.model.baselines]\n\"{escaped}\" = {{ toggles = {{ A = 1 }} }}"),
        format!("[package.metadata.kbench.kernels.model.search]\nstrategy = \"{escaped}\""),
        // In the source line itself.
        "[package.metadata.kbench.kernels.model.timing]\n# \u{9b}2J \u{202e}\n\"x\u{9b}2J\" = 1 # \u{9b}2J\u{202e}"
            .to_owned(),
    ];
    for mistake in mistakes {
        let package = package_with(MODEL, &mistake);
        let said = coloured(package.path(), &["check"]);
        assert!(said.contains("error") && foreign(&said).is_empty(), "{:?} in {said:?}", foreign(&said));
    }

    let package = package_with(MODEL, "");
    coloured(package.path(), &["autotune", "--iters", "20"]);
    let elite = fs::read_to_string(package.path().join("elite.json")).unwrap();
    let json = serde_json::to_string(HOSTILE).unwrap();
    let json = json.trim_matches('"');
    fs::write(package.path().join("strange.json"), elite.replace("\"package\": \"", &format!("\"package\": \"{json}")))
        .unwrap();
    fs::write(package.path().join("elite.json"), elite.replace("\"A\"", &format!("\"A{json}\""))).unwrap();
    let hostile_path = format!("{}.json", HOSTILE.replace('/', ""));
    fs::write(package.path().join(&hostile_path), "{}").unwrap();
    for args in [
        &["compare", "strange.json", "strange.json"][..],
        &["gate", "--elite"],
        &["replay", &hostile_path],
        &["gate", "--kernel", HOSTILE],
        &[HOSTILE],
    ] {
        let said = coloured(package.path(), args);
        assert!(said.contains("\\u{9b}2J") && foreign(&said).is_empty(), "{args:?}: {:?} in {said:?}", foreign(&said));
    }
}

#[test]
fn words_of_compilers_kernels_and_programs_are_escaped() {
    let program = "[package.metadata.kbench.kernels.model.baselines]\nb = { command = [\"./b.sh\"] }";
    let c = HOSTILE.bytes().map(|byte| format!("\\{byte:03o}")).collect::<Vec<_>>().concat();
    let dies = format!(
        "#include <stdio.h>\n#include <stdlib.h>\n{}",
        COPY.replace("{ for", &format!("{{ fprintf(stderr, \"{c}\\n\"); exit(3); for"))
    );
    for (source, table, verb) in [
        (format!("#error \"{HOSTILE}\"\n"), "", &["gate"][..]),
        (format!("#warning \"{HOSTILE}\"\n{COPY}"), "", &["gate", "-v", "--iters", "10"]),
        (dies, "", &["gate", "--iters", "10"]),
        (COPY.to_owned(), program, &["bench", "--iters", "10"]),
    ] {
        let package = c_package(&source, table);
        let script = format!("#!/bin/sh\nprintf '{c}\\n' >&2\nprintf '{c}\\n'\nexit 4\n");
        fs::write(package.path().join("b.sh"), script).unwrap();
        let script = fs::File::open(package.path().join("b.sh")).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        script.set_permissions(executable).unwrap();
        drop(script);
        let said = coloured(package.path(), verb);
        assert!(said.contains("\\u{9b}2J") && foreign(&said).is_empty(), "{source}: {:?} in {said:?}", foreign(&said));
    }
}

/// A mistake that all variants share is told once, at any verbosity.
#[test]
fn a_reference_that_counts_its_calls_is_blamed_itself() {
    let package = c_package(COPY, "");
    let reference = "static double calls; void model(const double *x, double *y) { calls += 1; for (int i = 0; i < 256; i++) y[i] = x[i] + calls; }";
    fs::write(package.path().join("r.c"), reference).unwrap();
    let said = shown(package.path(), &["gate"]);
    assert!(said.starts_with("exit 2\n"), "{said}");
    assert!(
        said.contains("the reference failed: it gives another result on the same inputs when it runs again"),
        "{said}"
    );
}

#[test]
fn a_repeated_error_is_printed_once() {
    let package = c_package("#error \"not like this\"\n", "");
    for args in [&["build", "--all"][..], &["build", "--all", "-v"], &["autotune", "-v"], &["autotune"]] {
        let said = coloured(package.path(), args);
        // In the line of the rejection, and twice in the compiler's output: its own line and the source's.
        let times = said.matches("not like this").count();
        assert!((1..=4).contains(&times), "{args:?}: {times} times in\n{said}");
    }
}

#[test]
fn warnings_of_the_compiler_are_printed_with_v() {
    let package = c_package(&format!("#warning \"look here\"\n{COPY}"), "");
    for verb in [&["gate", "--iters", "10"][..], &["build", "--all"], &["autotune", "--iters", "10"]] {
        let quiet = coloured(package.path(), verb);
        assert!(!quiet.contains("look here"), "{verb:?}: {quiet}");
        let verbose = coloured(package.path(), &[verb, &["-v"]].concat());
        // In the message and in the source line below it.
        assert_eq!(verbose.matches("look here").count(), 2, "{verb:?}: {verbose}");
    }
}

/// Whatever is asked for and however wide the terminal is: no row of a table is wider.
#[test]
fn tables_fit_the_terminal() {
    let long = "time_ns = \"20000 - 1000 * A\"\nnoise = 0";
    let package = package_with(long, "");
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let toggles = "toggles.macro = { A = [0, 1], NUMBER_OF_PRODUCER_WARPS = [1], A_LONG_NAME_OF_A_TOGGLE = [128], \
        USE_PERSISTENT_BLOCKS = [0, 1] }";
    let text = text.replace("toggles.macro = { A = [0, 1, 2, 3], B = [0, 1, 2, 3] }", toggles);
    let baselines = "[package.metadata.kbench.kernels.model.baselines]\nanother_variant = { toggles = { A = 1 } }\n\
        persistent = { toggles = { USE_PERSISTENT_BLOCKS = 1 } }\n";
    fs::write(&manifest, format!("{text}{baselines}")).unwrap();
    for columns in ["80", "60"] {
        for args in [
            &["autotune", "-q", "--iters", "20"][..],
            &["bench", "-q", "--iters", "20"],
            &["build", "--all"],
            &["gate", "-q", "--iters", "20"],
            &["check"],
            &["compare", "elite.json", "elite.json"],
        ] {
            let output = kbench(package.path(), args).env("COLUMNS", columns).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            // Sentences are the terminal's to wrap; so is a command that is to be pasted.
            let is_sentence = |line: &&str| {
                ["rejected", "merged", "dead", "warning", "not judged", "recalled", "model"]
                    .iter()
                    .any(|word| line.starts_with(word))
                    || ["  Winner", "  Confidence", "  Next", " compared: "].iter().any(|word| line.contains(word))
            };
            let wide: Vec<&str> = said
                .lines()
                .filter(|line| !is_sentence(line) && line.chars().count() > columns.parse().unwrap())
                .collect();
            assert!(output.status.success() && wide.is_empty(), "{args:?} at {columns}: {wide:#?} of\n{said}");
        }
    }
}

#[test]
fn a_terminal_of_one_column_breaks_no_word() {
    let package = package_with(MODEL, "");
    let checked = |columns| kbench(package.path(), &["check"]).env("COLUMNS", columns).output().unwrap().stdout;
    assert_eq!(String::from_utf8(checked("1")), String::from_utf8(checked("30")));
}

/// On a terminal, stderr has bars: of the search with a time left that knows of the finals, and of the finals.
#[test]
fn a_terminal_has_bars() {
    // Finals of at most 5 entrants of 100 s each: the time left says so from the first.
    let package = package_with(MODEL, "[package.metadata.kbench.kernels.model.timing]\nmax_seconds = 100.0");
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut child = kbench(package.path(), &["autotune"])
        .env("TERM", "xterm")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::from(pty.slave))
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    // Ends with an error where the last one that could write is gone.
    let _ = std::io::Read::read_to_end(&mut fs::File::from(pty.master), &mut said);
    assert!(child.wait().unwrap().success());
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("8m left") || said.contains("9m left"), "{said}");
    let steps = ["Compiling", "Checking", "Timing"];
    assert!(steps.iter().any(|step| said.contains(step)), "{said}");
    assert!(said.contains("of at most 8m"), "{said}");
}

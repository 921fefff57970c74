//! `cargo kbench completions`, in the shells themselves: `cargo kbench` is completed, and the rest of cargo as before.

use std::path::Path;
use std::process::Command;

use model::kbench;

mod model;

/// The folder with the tool in it, for the PATH.
fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cargo-kbench")).parent().unwrap()
}

fn script(shell: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = kbench(folder.path(), &["completions", shell]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// What a shell prints that runs a text; `None` where there is no such shell.
fn run(shell: &str, args: &[&str], text: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = std::env::join_paths(
        std::iter::once(bin().to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let output = Command::new(shell).args(args).arg(file.path()).env("PATH", path.unwrap()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}

/// Loads the script after a completion of cargo's, then prints what some lines are completed to.
const BASH: &str = r#"
complete_line() {
    COMP_LINE=$1 COMP_POINT=${#1}
    read -ra COMP_WORDS <<<"$1"
    [[ $1 != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    [[ $(complete -p "${COMP_WORDS[0]}") =~ \ -F\ ([^ ]+)\  ]]
    "${BASH_REMATCH[1]}" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    printf '%s: %s\n' "$1" "${COMPREPLY[*]}"
}
complete_line 'cargo kbench au'
complete_line 'cargo kbench '
complete_line 'cargo +nightly kbench gate --sha'
complete_line 'cargo kbench gate --color '
complete_line 'cargo-kbench gate --sha'
complete_line 'cargo bu'
complete_line 'cargo kb'
complete_line 'cargo test --'
"#;

fn assert_completed(said: &str, line: &str, expected: &str) {
    let found =
        said.lines().find_map(|said| said.strip_prefix(&format!("{line}: "))).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(found.trim(), expected, "`{line}` in:\n{said}");
}

#[test]
fn bash_completes_kbench_and_cargo_as_before() {
    let of_cargo = "_cargo() { [[ $2 != --bogus ]] && COMPREPLY=(\"cargo's $1 $2 $3\"); }\ncomplete -F _cargo cargo\n";
    let said = run("bash", &["--norc"], &format!("{of_cargo}{}{BASH}", script("bash"))).expect("bash");
    assert_completed(&said, "cargo kbench au", "audit autotune");
    assert_completed(&said, "cargo +nightly kbench gate --sha", "--shapes");
    assert_completed(&said, "cargo kbench gate --color ", "auto always never");
    assert_completed(&said, "cargo-kbench gate --sha", "--shapes");
    assert_completed(&said, "cargo bu", "cargo's cargo bu cargo");
    assert_completed(&said, "cargo kb", "cargo's cargo kb cargo kbench");
    assert_completed(&said, "cargo test --", "cargo's cargo -- test");
    assert!(said.lines().nth(1).unwrap().contains("autotune") && !said.lines().nth(1).unwrap().contains("cargo's"));
    // Loaded twice, it still calls cargo's own.
    let twice = format!("{of_cargo}{0}{0}{BASH}", script("bash"));
    assert_completed(&run("bash", &["--norc"], &twice).unwrap(), "cargo bu", "cargo's cargo bu cargo");
    // Without any completion of cargo's.
    let alone = run("bash", &["--norc"], &format!("{}{BASH}", script("bash"))).unwrap();
    assert_completed(&alone, "cargo kbench au", "audit autotune");
    assert_completed(&alone, "cargo bu", "");
}

/// With the completions that Rust and the system come with, where they are there.
#[test]
fn bash_completes_beside_the_real_completion_of_cargo() {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    let of_cargo = String::from_utf8(sysroot.stdout).unwrap().trim().to_owned() + "/etc/bash_completion.d/cargo";
    let of_system = "/usr/share/bash-completion/bash_completion";
    if ![&*of_cargo, of_system].into_iter().all(|path| Path::new(path).exists()) {
        return;
    }
    let loads = format!("source {of_system}; source {of_cargo}\n{}{BASH}", script("bash"));
    let said = run("bash", &["--norc"], &loads).unwrap();
    assert_completed(&said, "cargo kbench au", "audit autotune");
    assert_completed(&said, "cargo kb", "kbench");
    let bu = said.lines().find(|line| line.starts_with("cargo bu: ")).unwrap();
    assert!(bu.contains(" build"), "{said}");
    assert!(said.lines().last().unwrap().contains(" --lib"), "{said}");
}

#[test]
fn fish_completes_kbench_and_cargo_as_before() {
    let more = "complete -c cargo -n __fish_use_subcommand -f -a 'build'\n";
    let lines = ["cargo kbench au", "cargo +nightly kbench gate --sha", "cargo bu", "cargo kb"];
    let asks: Vec<String> =
        lines.iter().map(|line| format!("echo '{line}:' (complete -C '{line}' | string split -f1 \\t)\n")).collect();
    let Some(said) = run("fish", &["--no-config"], &format!("{more}{}{}", script("fish"), asks.concat())) else {
        return;
    };
    assert_completed(&said, "cargo kbench au", "audit autotune");
    assert_completed(&said, "cargo +nightly kbench gate --sha", "--shapes");
    let of = |line: &str| said.lines().find(|said| said.starts_with(&format!("{line}:"))).unwrap().to_owned();
    assert!(of("cargo bu").contains("build") && of("cargo kb").contains("kbench"), "{said}");
}

/// Cargo's own completion calls a function of this name.
#[test]
fn zsh_finds_the_function_that_cargos_completion_calls() {
    let script = script("zsh");
    assert!(script.starts_with("#compdef cargo-kbench\n") && script.contains("\n_cargo-kbench() {\n"), "{script}");
    let text = format!(
        "autoload -U compinit; compinit -u -D\n{script}\nprint ${{+functions[_cargo-kbench]}} $_comps[cargo]\n"
    );
    if let Some(said) = run("zsh", &["-f"], &text) {
        assert!(!said.trim().ends_with("_cargo-kbench") && said.starts_with('1'), "cargo's own is left alone: {said}");
    }
}

#[test]
fn every_verb_has_a_man_page_that_names_its_flags() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let output = kbench(folder.path(), &["man", pages.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let overview = std::fs::read_to_string(pages.join("cargo-kbench.1")).unwrap();
    let verbs: Vec<&str> = overview.lines().filter_map(|line| line.strip_prefix("cargo\\-kbench\\-")).collect();
    assert!(verbs.contains(&"autotune(1)"), "{overview}");
    for verb in verbs {
        let page = format!("cargo-kbench-{}.1", verb.strip_suffix("(1)").unwrap());
        assert!(std::fs::read_to_string(pages.join(&page)).is_ok_and(|text| text.contains("SYNOPSIS")), "{page}");
    }
    let gate = std::fs::read_to_string(pages.join("cargo-kbench-gate.1")).unwrap();
    assert!(gate.contains("\\-\\-elite"), "{gate}");
}

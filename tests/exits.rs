//! Exit codes: one error has one, wherever it shows, and an error of one kernel leaves the others to be run.

use std::fs;

use model::{kbench, package_with, shown};

mod model;

#[test]
fn a_damaged_elite_json_has_one_exit_code_in_every_verb() {
    let package = package_with("time_ns = '20000'\n", "");
    let verbs: [&[&str]; 6] = [
        &["gate", "--elite"],
        &["bench", "--elite"],
        &["profile", "--elite"],
        &["autotune"],
        &["export"],
        &["compare", "elite.json", "elite.json"],
    ];
    for damage in ["{ \"version\": ", "", "[]", "null", "{ \"version\": 99999, \"kernels\": [] }"] {
        fs::write(package.path().join("elite.json"), damage).unwrap();
        for verb in verbs {
            let said = shown(package.path(), verb);
            assert!(said.starts_with("exit 2\n") && said.contains("elite.json"), "{verb:?} {damage}: {said}");
        }
    }
}

#[test]
fn a_full_disk_behind_stderr_ends_no_run() {
    let package = package_with("time_ns = '20000 - A'\n", "");
    let code = |args: &[&str]| {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        kbench(package.path(), args).stderr(full).output().unwrap().status.code()
    };
    assert_eq!(code(&["autotune", "--budget", "3", "-vv"]), Some(0));
    assert!(package.path().join("elite.json").exists());
    fs::write(package.path().join("Cargo.toml"), "[package]\nname = 'a'\nversion = '0.0.0'\n[kbench]\nmistake = 1\n")
        .unwrap();
    assert_eq!(code(&["check"]), Some(2));
}

#[test]
fn folders_and_fifos_in_place_of_files_have_one_exit_code() {
    let package = package_with("time_ns = '20000'\n", "");
    let folder = package.path();
    fs::create_dir_all(folder.join("fifo")).unwrap();
    for fifo in ["fifo/Cargo.toml", "fifo.json"] {
        nix::unistd::mkfifo(&folder.join(fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    for verb in [
        &["check", "--manifest-path", "fifo/Cargo.toml"][..],
        &["check", "--manifest-path", "src"],
        &["gate", "--target-dir", "Cargo.toml"],
    ] {
        let said = shown(folder, verb);
        assert!(said.starts_with("exit 2\n"), "{verb:?}: {said}");
    }
    let journal = folder.join("target/kbench/journal/model");
    fs::create_dir_all(&journal).unwrap();
    nix::unistd::mkfifo(&journal.join("model.jsonl"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = shown(folder, &["autotune"]);
    assert!(said.starts_with("exit 2\n") && said.contains("not an ordinary file"), "{said}");
    for verb in [&["bench", "--save", "fifo.json"][..], &["build", "--all", "--save", "fifo.json"]] {
        let said = shown(folder, verb);
        assert!(said.starts_with("exit 2\n---\nerror: fifo.json: not an ordinary file"), "before the work: {said}");
    }
    for odd in ["fifo.json", "/dev/zero", "src", "src/lib.rs/no"] {
        for verb in [&["compare", odd, odd][..], &["replay", odd], &["merge", odd], &["import", odd]] {
            let said = shown(folder, verb);
            assert!(said.starts_with("exit 2\n"), "{verb:?}: {said}");
        }
    }
}

#[test]
fn a_file_of_one_kernel_that_cannot_be_opened_does_not_end_the_others() {
    let package = package_with("time_ns = '20000 - A'\n", "");
    // The table's order is that of the run: the kernel whose journal cannot be opened comes first.
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (head, model) = text.split_at(text.find("[package.metadata.kbench.kernels.model]").unwrap());
    fs::write(&manifest, format!("{head}{}\n{model}", model.replace("kernels.model", "kernels.first"))).unwrap();
    fs::create_dir_all(package.path().join("target/kbench/journal/model/first.jsonl")).unwrap();
    let output = kbench(package.path(), &["autotune", "--iters", "10"]).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("error: model/first: ") && said.contains("first.jsonl"), "{said}");
    let elite: serde_json::Value =
        serde_json::from_slice(&fs::read(package.path().join("elite.json")).unwrap()).unwrap();
    let kernels = elite["kernels"].as_array().unwrap();
    assert!(kernels.len() == 1 && kernels[0]["kernel"] == "model", "{said}");
}

#[test]
fn times_beyond_every_clock_are_no_limits() {
    let table = "[package.metadata.kbench.kernels.model.timing]\ntimeout_seconds = 9223372036854775807\n\
                 [package.metadata.kbench.kernels.model.search]\nbudget = { seconds = 9223372036854775807 }\n";
    let package = package_with("time_ns = '20000 - A'\n", table);
    for arguments in
        [&["gate", "-q"][..], &["autotune", "-q"], &["autotune", "-q", "--seconds", "18446744073709551615"]]
    {
        let said = shown(package.path(), arguments);
        assert!(said.starts_with("exit 0\n"), "{arguments:?}: {said}");
    }
}

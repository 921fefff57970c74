//! What `cargo kbench new` writes is an ordinary cargo package that passes at once.

use std::path::Path;
use std::process::Command;

use model::kbench;

mod model;

fn assert_success(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{command:?}:\n{text}");
    text
}

fn cargo(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).current_dir(folder).env_remove("CARGO_TARGET_DIR");
    command
}

#[test]
fn a_new_c_package_builds_gates_and_autotunes() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(kbench(folder.path(), &["new", "fresh"]));
    let package = folder.path().join("fresh");
    assert_success(cargo(&package, &["build", "--offline"]));
    assert_success(kbench(&package, &["check"]));
    // Fewer samples than a user takes: whether it passes is asked here, not how fast it is.
    assert_success(kbench(&package, &["gate", "--iters", "10", "--warmup", "1"]));
    assert_success(kbench(&package, &["autotune", "--iters", "10", "--warmup", "1"]));
    let elite: serde_json::Value = serde_json::from_slice(&std::fs::read(package.join("elite.json")).unwrap()).unwrap();
    assert_eq!(elite["kernels"][0]["elite"].as_array().unwrap().len(), 3);
}

#[test]
fn a_new_cuda_package_builds_and_its_table_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(kbench(folder.path(), &["new", "fresh", "--template", "cuda"]));
    let package = folder.path().join("fresh");
    assert_success(cargo(&package, &["build", "--offline"]));
    let shown = assert_success(kbench(&package, &["check"]));
    assert!(shown.contains("cuda"), "{shown}");
}

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
    pin(&package);
    let ran = assert_success(cargo(&package, &["run", "--offline"]));
    assert!(ran.contains("since it is the default"), "{ran}");
    assert_success(cargo(&package, &["test", "--offline"]));
    assert_success(kbench(&package, &["check"]));
    // What the template carries is what an export writes.
    let carried = exported(&package);
    assert_success(kbench(&package, &["export"]));
    assert_eq!(exported(&package), carried);
    // Fewer samples than a user takes: whether it passes is asked here, not how fast it is.
    assert_success(kbench(&package, &["gate", "--iters", "10", "--warmup", "1"]));
    assert_success(kbench(&package, &["autotune", "--iters", "10", "--warmup", "1"]));
    let elite: serde_json::Value = serde_json::from_slice(&std::fs::read(package.join("elite.json")).unwrap()).unwrap();
    assert_eq!(elite["kernels"][0]["elite"].as_array().unwrap().len(), 3);
    assert_success(kbench(&package, &["export"]));
    let ran = assert_success(cargo(&package, &["run", "--offline"]));
    assert!(ran.contains("since it won on this device at these sizes"), "{ran}");
    assert_success(kbench(&package, &["export", "--check"]));
}

/// The versions that are there without a network.
fn pin(package: &Path) {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    std::fs::copy(lock, package.join("Cargo.lock")).unwrap();
}

/// The texts of an export, without the lines that name hashes and compilers, and without white space: rustfmt may have other ideas.
fn exported(package: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(package.join("src/kbench")).unwrap().map(|entry| entry.unwrap().path());
    let mut texts: Vec<(String, String)> = entries
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let is_hash = |line: &&str| ["// matmul: ", "// sdpa: "].iter().any(|begin| line.starts_with(begin));
            let lines = text.lines().filter(|line| !is_hash(line));
            let text = lines.flat_map(|line| line.chars()).filter(|c| !c.is_whitespace() && *c != ',').collect();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), text)
        })
        .collect();
    texts.sort();
    texts
}

#[test]
fn a_new_cuda_package_builds_and_its_table_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(kbench(folder.path(), &["new", "fresh", "--template", "cuda"]));
    let package = folder.path().join("fresh");
    pin(&package);
    assert_success(cargo(&package, &["test", "--offline"]));
    let shown = assert_success(kbench(&package, &["check"]));
    assert!(shown.contains("cuda"), "{shown}");
}

#[test]
fn a_new_sdpa_package_builds_and_names_missing_pieces_without_a_gpu() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(kbench(folder.path(), &["new", "fresh", "--template", "sdpa"]));
    let package = folder.path().join("fresh");
    pin(&package);
    assert_success(cargo(&package, &["test", "--offline"]));
    assert!(assert_success(kbench(&package, &["check"])).contains("sdpa"));
    let carried = exported(&package);
    if std::env::var_os("NVCC").is_some() {
        assert_success(kbench(&package, &["build"]));
        // Other versions of nvcc make other machine code.
        let texts = |all: Vec<(String, String)>| {
            all.into_iter()
                .filter(|(name, _)| Path::new(name).extension().is_some_and(|extension| extension == "rs"))
                .collect::<Vec<_>>()
        };
        assert_success(kbench(&package, &["export"]));
        assert_eq!(texts(exported(&package)), texts(carried));
    } else {
        println!("skipped: no nvcc in $NVCC");
    }
    if Path::new("/proc/driver/nvidia").exists() {
        return println!("skipped: there is a GPU");
    }
    for verb in ["gate", "autotune"] {
        let output = kbench(&package, &[verb]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("NVIDIA driver") || text.contains("nvcc was not found"), "{text}");
    }
}

/// As `cargo new` does it; the package is then found from its own folder, and builds.
#[test]
fn a_new_package_joins_the_workspace_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("Cargo.toml");
    std::fs::write(&manifest, "# ours\n[workspace]\nmembers = [\"kernels/*\"]\nresolver = \"3\"\n").unwrap();
    // One that a pattern has is a member already.
    let shown = assert_success(kbench(folder.path(), &["new", "kernels/other"]));
    assert!(!shown.contains("Added"), "{shown}");
    assert_success(kbench(folder.path(), &["check", "-p", "other"]));

    let shown = assert_success(kbench(folder.path(), &["new", "more/of it/fresh"]));
    assert!(shown.contains("Added") && shown.contains("Next cd 'more/of it/fresh' && cargo kbench gate"), "{shown}");
    let text = std::fs::read_to_string(&manifest).unwrap();
    assert_eq!(text, "# ours\n[workspace]\nmembers = [\"kernels/*\", \"more/of it/fresh\"]\nresolver = \"3\"\n");
    let package = folder.path().join("more/of it/fresh");
    assert!(assert_success(kbench(&package, &["check"])).contains("matmul"));
    assert!(assert_success(kbench(folder.path(), &["check", "-p", "fresh"])).contains("matmul"));
    assert_success(cargo(&package, &["metadata", "--offline", "--no-deps"]));

    // In the empty folder that one stands in.
    let empty = folder.path().join("kernels/third");
    std::fs::create_dir(&empty).unwrap();
    let shown = assert_success(kbench(&empty, &["new", "."]));
    assert!(shown.contains("Next cargo kbench gate"), "{shown}");
    assert_success(kbench(&empty, &["check"]));
    let output = kbench(&empty, &["new", "."]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "it is not empty any more");
}

//! A search through Slurm, on a cluster of one machine that this test starts: a controller and two nodes. Where Slurm is not installed, or does
//! not run, the test says that it skips.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use cluster::{Cluster, NODES};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

mod cluster;
mod model;

/// The block of code of the page that begins so.
fn block(begins: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clusters.md");
    let page = fs::read_to_string(page).unwrap();
    let mut blocks = page.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap().1);
    blocks.find(|block| block.starts_with(begins)).unwrap_or_else(|| panic!("no block `{begins}`")).to_owned()
}

/// A package with a C kernel of 24 variants, of which that with the least work is the fastest by far, and the workers of the page.
fn package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = r#"
[package]
name = "sum"
version = "0.0.0"
edition = "2024"

[workspace]

[package.metadata.kbench.kernels.sum]
source = "src/sum.c"
entry = "sum"
args = ["x", "y"]
shapes.only = { N = 4096 }
tensors = { x = { dtype = "f32", dims = ["N"] }, y = { dtype = "f32", dims = ["N"], role = "out" } }
toggles.macro = { PASSES = [1, 2, 3, 4, 5, 6], MORE = [0, 6, 12, 18] }
reference = { source = "src/reference.c", entry = "reference" }
gates.correctness.seeds = 2
timing = { warmup = 2, iterations = 10, max_seconds = 0.3 }
search.strategy = "exhaustive"
"#;
    let workers = block("[package.metadata.kbench.workers]");
    fs::create_dir(folder.path().join("src")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("Cargo.toml", &format!("{manifest}\n{workers}"));
    write("src/lib.rs", "");
    write(
        "src/sum.c",
        "void sum(const float *x, float *y) {\n  for (int pass = 0; pass < PASSES + MORE; pass++)\n    \
         for (int i = 0; i < 4096; i++) { volatile float v = x[i]; y[i] = v * 2; }\n}\n",
    );
    write(
        "src/reference.c",
        "void reference(const double *x, double *y) {\n  for (int i = 0; i < 4096; i++) y[i] = x[i] * 2;\n}\n",
    );
    folder
}

/// What came of each variant in the journals below a folder; each is on record once.
fn results(journals: &[PathBuf]) -> BTreeMap<String, String> {
    let mut results = BTreeMap::new();
    for path in journals {
        let text = fs::read_to_string(path).unwrap_or_default();
        for record in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if record["record"] == "evaluation" {
                let before = results.insert(record["toggles"].to_string(), record["outcome"].to_string());
                assert_eq!(before, None, "{} is on record twice", record["toggles"]);
            }
        }
    }
    results
}

fn journal(package: &Path, target: &str) -> PathBuf {
    package.join(target).join("kbench/journal/sum/sum.jsonl")
}

fn assert_winner(package: &Path) {
    let elite: Value = serde_json::from_slice(&fs::read(package.join("elite.json")).unwrap()).unwrap();
    let best = &elite["kernels"][0]["elite"][0]["toggles"];
    assert_eq!(*best, serde_json::json!({ "PASSES": 1, "MORE": 0 }));
}

fn assert_success(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// From a login node: workers that are jobs of their own, of which one is cancelled and one's node dies.
fn kills(cluster: &mut Cluster) {
    let package = package();
    let journal = journal(package.path(), "target");
    let log = fs::File::create(package.path().join("log")).unwrap();
    let mut driver = cluster.command(env!("CARGO_BIN_EXE_cargo-kbench"));
    let driver = driver.args(["kbench", "autotune"]).current_dir(package.path());
    let mut driver = driver.stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
    let said = || fs::read_to_string(package.path().join("log")).unwrap();
    let mut until = |count: usize| {
        while results(std::slice::from_ref(&journal)).len() < count {
            assert!(driver.try_wait().unwrap().is_none(), "it ended before {count} evaluations: {}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    until(3);
    if let Some(job) = cluster.jobs().first() {
        assert_success(&cluster.command("scancel").arg(format!("{job}.0")).output().unwrap());
    }
    until(9);
    cluster.kill_node("n1");
    until(14);
    cluster.start_node("n1").unwrap();
    assert!(driver.wait().unwrap().success(), "{}", said());
    let results = results(std::slice::from_ref(&journal));
    let passed = results.values().filter(|outcome| outcome.contains("passed")).count();
    // One variant may have been hit by both.
    assert!(results.len() == 24 && passed >= 23, "{results:?}\n{}", said());
    assert_winner(package.path());
}

/// The jobs of the page.
fn recipes(cluster: &Cluster) {
    let folder = Path::new(env!("CARGO_BIN_EXE_cargo-kbench")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&path))).unwrap();
    let submit = |package: &Path, script: &str| {
        fs::write(package.join("job"), script).unwrap();
        let output = cluster.command("sbatch").args(["--wait", "job"]).env("PATH", &path).current_dir(package).output();
        let output = output.unwrap();
        let logs = fs::read_dir(package).unwrap().flatten().map(|file| file.path());
        let logs = logs.filter(|file| file.extension().is_some_and(|kind| kind == "out"));
        let logs: String = logs.map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
        assert!(output.status.success(), "{}{logs}", String::from_utf8_lossy(&output.stderr));
        logs
    };
    let one = package();
    let logs = submit(one.path(), &block("#!/bin/sh\n#SBATCH --ntasks=2"));
    assert!(logs.contains("Workers 2, each with a"), "{logs}");
    assert_eq!(results(&[journal(one.path(), "target")]).len(), 24);
    assert_winner(one.path());

    let parts = package();
    // In a task of an array there is one worker, which needs no step of its own.
    let manifest = fs::read_to_string(parts.path().join("Cargo.toml")).unwrap();
    let workers = block("[package.metadata.kbench.workers]");
    fs::write(parts.path().join("Cargo.toml"), manifest.replace(&workers, "")).unwrap();
    submit(parts.path(), &block("#!/bin/sh\n#SBATCH --ntasks=1 --array"));
    let merge = block("$ cargo kbench merge").replace("$ cargo kbench", env!("CARGO_BIN_EXE_cargo-kbench"));
    let merge = merge.replace("cargo-kbench merge", "cargo-kbench kbench merge");
    assert_success(&cluster.command("sh").args(["-c", &merge]).current_dir(parts.path()).output().unwrap());
    let merged = journal(parts.path(), "target");
    let text = fs::read_to_string(&merged).unwrap();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let evaluated =
        records.filter(|record| record["record"] == "evaluation").map(|record| record["toggles"].to_string());
    assert_eq!(evaluated.collect::<std::collections::BTreeSet<_>>().len(), 24);
    assert_winner(parts.path());
}

/// Kills of workers, steps, nodes and drivers, in an order that looks random, while a search on the model device goes on.
fn random_kills(cluster: &mut Cluster) {
    const KILLS: usize = 50;
    /// Evaluations between two kills: all kills together come before the end of the search.
    const BETWEEN: usize = 4;
    let workers = block("[package.metadata.kbench.workers]");
    let search = "[package.metadata.kbench.kernels.model.search]\nstrategy = \"exhaustive\"";
    let time = "time_ns = \"20000 - 1000 * A - 70 * B - 333 * C + 11 * D\"\ndelay_ms = 20\n";
    let package = model::package_with(time, &format!("{search}\n{workers}"));
    let manifest = package.path().join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("[0, 1, 2, 3]", "[0, 1, 2, 3, 4, 5, 6, 7]")).unwrap();
    let journal = package.path().join("target/kbench/journal/model/model.jsonl");
    let log = package.path().join("log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let start = |cluster: &Cluster| -> Child {
        let mut driver = cluster.command(env!("CARGO_BIN_EXE_cargo-kbench"));
        let driver = driver.args(["kbench", "autotune", "--iters", "10", "--resume"]).current_dir(package.path());
        let log = fs::File::options().append(true).create(true).open(&log).unwrap();
        driver.stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).spawn().unwrap()
    };
    let mut driver = start(cluster);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut kills = BTreeMap::new();
    let mut resumed = Instant::now();
    while kills.values().sum::<usize>() < KILLS {
        let limit = Instant::now() + Duration::from_secs(300);
        while results(std::slice::from_ref(&journal)).len() < BETWEEN * (kills.values().sum::<usize>() + 1) {
            assert!(driver.try_wait().unwrap().is_none(), "the search ended after {kills:?}: {}", said());
            assert!(Instant::now() < limit, "nothing goes on after {kills:?}: {}", said());
            std::thread::sleep(Duration::from_millis(10));
            // Slurm keeps a node out of use whose tasks it could not end itself; an administrator takes it back.
            if resumed.elapsed() > Duration::from_secs(5) {
                resumed = Instant::now();
                let nodes = format!("NodeName={}", NODES.join(","));
                let _ = cluster.command("scontrol").args(["update", &nodes, "State=RESUME"]).output();
            }
        }
        let what = match random(20) {
            0 => {
                let node = NODES[random(2)];
                cluster.kill_node(node);
                cluster.start_node(node).unwrap();
                "node"
            }
            1..=3 => {
                driver.kill().unwrap();
                driver.wait().unwrap();
                driver = start(cluster);
                "driver"
            }
            4..=9 => {
                let jobs = cluster.jobs();
                let Some(job) = jobs.get(random(jobs.len().max(1))) else { continue };
                assert_success(&cluster.command("scancel").arg(format!("{job}.0")).output().unwrap());
                "step"
            }
            _ => {
                let is_worker = |pid: i32| {
                    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"kbench\0worker\0"))
                };
                let all = NODES.iter().flat_map(|node| cluster.processes(Some(node)));
                let workers: Vec<i32> = all.map(|(pid, _)| pid).filter(|pid| is_worker(*pid)).collect();
                let Some(worker) = workers.get(random(workers.len().max(1))) else { continue };
                let _ = kill(Pid::from_raw(*worker), Signal::SIGKILL);
                "worker"
            }
        };
        *kills.entry(what).or_insert(0) += 1;
    }
    assert!(driver.wait().unwrap().success(), "{}", said());
    assert_eq!(kills.len(), 4, "{kills:?}");
    let results = results(&[journal]);
    let passed = results.values().filter(|outcome| outcome.contains("passed")).count();
    println!("killed {kills:?}: {} variants are on record, each once, {passed} passed", results.len());
    assert_eq!(results.len(), 256, "{}", said());
    // A variant is blamed once it has cost two workers; a node has at most two.
    let lost = kills["worker"] + kills["step"] + 2 * kills["node"];
    assert!(2 * (256 - passed) <= lost, "{kills:?}, {passed} passed: {}", said());
}

#[test]
fn slurm_runs_a_search_that_loses_a_step_and_a_node_and_the_jobs_of_the_page() {
    match Cluster::start() {
        Ok(mut cluster) => {
            kills(&mut cluster);
            recipes(&cluster);
        }
        Err(why) => eprintln!("skipped: {why}"),
    }
}

#[test]
#[ignore = "takes some minutes"]
fn no_kill_of_workers_steps_nodes_and_drivers_loses_an_evaluation_or_counts_one_twice() {
    match Cluster::start() {
        Ok(mut cluster) => random_kills(&mut cluster),
        Err(why) => eprintln!("skipped: {why}"),
    }
}

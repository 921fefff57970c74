//! A search through Slurm, on a cluster of one machine that this test starts: a controller and two nodes. Where Slurm is not installed, or does
//! not run, the test says that it skips.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const NODES: [&str; 2] = ["n0", "n1"];

/// A running cluster, with all its files in a folder of its own. Dropping it ends it.
struct Cluster {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
    nodes: BTreeMap<&'static str, Child>,
}

/// A program that may lie where only root looks for programs.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn text(command: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(command).args(args).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A port that nothing listens on.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// Starts a cluster, or says why there is none.
    fn start() -> Result<Self, String> {
        for name in ["munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "squeue"] {
            program(name).ok_or_else(|| format!("{name} is not installed"))?;
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let at = folder.path().display().to_string();
        fs::create_dir(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("munge.key"), [b'k'; 1024]).unwrap();
        let (user, host) = (text("id", &["-un"]), text("hostname", &["-s"]));
        let (user, host) = user.zip(host).ok_or("neither user nor host are known")?;
        let head = format!(
            "ClusterName=kbench\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\nSlurmUser={user}\nSlurmdUser={user}\n\
             AuthType=auth/munge\nAuthInfo=socket={at}/munge.sock\nCredType=cred/munge\nStateSaveLocation={at}/state\n\
             SlurmdSpoolDir={at}/spool-%n\nSlurmctldPidFile={at}/slurmctld.pid\nSlurmdPidFile={at}/slurmd-%n.pid\n\
             SlurmctldLogFile={at}/slurmctld.log\nSlurmdLogFile={at}/slurmd-%n.log\nProctrackType=proctrack/linuxproc\n\
             TaskPlugin=task/none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nMpiDefault=none\n\
             SwitchType=switch/none\nJobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
             ReturnToService=2\nSlurmdParameters=config_overrides\nKillWait=2\nSlurmdTimeout=20\n",
            port()
        );
        let [first, second] = NODES
            .map(|node| format!("NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=2\n", port()));
        let partition = "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n";
        fs::write(folder.path().join("slurm.conf"), [&head, &first, &second, partition].concat()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(folder.path().join("munge.key"), private).unwrap();
        let mut cluster = Self { folder, daemons: Vec::new(), nodes: BTreeMap::new() };
        let file = |option: &str, name: &str| format!("--{option}={at}/{name}");
        let munge = ["key-file", "socket", "pid-file", "log-file", "seed-file"];
        let munge = munge.map(|option| match option {
            "socket" => file(option, "munge.sock"),
            "key-file" => file(option, "munge.key"),
            _ => file(option, option),
        });
        let mut daemon = cluster.command("munged");
        cluster.daemons.push(quiet(daemon.args(["--foreground", "--force"]).args(munge))?);
        let mut daemon = cluster.command("slurmctld");
        cluster.daemons.push(quiet(daemon.arg("-D"))?);
        for node in NODES {
            cluster.start_node(node)?;
        }
        let limit = Instant::now() + Duration::from_secs(60);
        while !cluster.command("timeout").args(["20", "srun", "-N2", "-n2", "true"]).output().unwrap().status.success()
        {
            if Instant::now() > limit {
                let log = fs::read_to_string(cluster.folder.path().join("slurmctld.log")).unwrap_or_default();
                return Err(format!("Slurm does not run here: {log}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(cluster)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name).unwrap_or_else(|| name.into()));
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf")).env_remove("CARGO_TARGET_DIR");
        command
    }

    fn start_node(&mut self, node: &'static str) -> Result<(), String> {
        let started = quiet(self.command("slurmd").args(["-D", "-N", node]))?;
        self.nodes.insert(node, started);
        Ok(())
    }

    /// Ends a node with all that runs there, as a loss of power does.
    fn kill_node(&mut self, node: &str) {
        let mut daemon = self.nodes.remove(node).unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        for (pid, parent) in self.processes(Some(node)) {
            let _ = kill(Pid::from_raw(parent), Signal::SIGKILL);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Processes of this cluster's tasks: those on `node`, each with the process of the step above it; or all, each twice.
    fn processes(&self, node: Option<&str>) -> Vec<(i32, i32)> {
        let mine = format!("SLURM_CONF={}", self.folder.path().join("slurm.conf").display());
        let on_node = node.map(|node| format!("SLURMD_NODENAME={node}"));
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|pid| pid.parse::<i32>().ok()) else { continue };
            let read = |file: &str| fs::read(process.path().join(file)).unwrap_or_default();
            let environment = read("environ");
            let has = |wanted: &str| environment.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes());
            if pid == std::process::id() as i32 || !has(&mine) {
                continue;
            }
            let Some(on_node) = &on_node else {
                found.push((pid, pid));
                continue;
            };
            let status = String::from_utf8(read("status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok());
            let is_step = |parent: &i32| {
                fs::read(format!("/proc/{parent}/cmdline")).is_ok_and(|line| line.starts_with(b"slurmstepd"))
            };
            if has(on_node) {
                found.push((pid, parent.filter(is_step).unwrap_or(pid)));
            }
        }
        found
    }

    /// Jobs that run.
    fn jobs(&self) -> Vec<String> {
        let output = self.command("squeue").args(["-h", "-t", "R", "-o", "%i"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in self.nodes.values_mut().chain(&mut self.daemons).rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for (pid, _) in self.processes(None) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn quiet(command: &mut Command) -> Result<Child, String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| error.to_string())
}

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

//! Slurm on one machine, for a test: a controller and two nodes.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const NODES: [&str; 2] = ["n0", "n1"];

/// A running cluster, with all its files in a folder of its own. Dropping it ends it.
pub struct Cluster {
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
    pub fn start() -> Result<Self, String> {
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

    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name).unwrap_or_else(|| name.into()));
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf")).env_remove("CARGO_TARGET_DIR");
        command
    }

    pub fn start_node(&mut self, node: &'static str) -> Result<(), String> {
        let started = quiet(self.command("slurmd").args(["-D", "-N", node]))?;
        self.nodes.insert(node, started);
        Ok(())
    }

    /// Ends a node with all that runs there, as a loss of power does.
    pub fn kill_node(&mut self, node: &str) {
        let mut daemon = self.nodes.remove(node).unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        for (pid, parent) in self.processes(Some(node)) {
            let _ = kill(Pid::from_raw(parent), Signal::SIGKILL);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Processes of this cluster's tasks: those on `node`, each with the process of the step above it; or all, each twice.
    pub fn processes(&self, node: Option<&str>) -> Vec<(i32, i32)> {
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
    pub fn jobs(&self) -> Vec<String> {
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

//! Tools and devices of this machine that kbench can use; for each missing one its benefit, and the command that installs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use schemars::JsonSchema;
use serde::Serialize;

use crate::build::Compiler;
use crate::process::executor::{Executor, ExecutorError, WorkerOptions};
use crate::toolchain;
use kbench_runtime::protocol::{DeviceInfo, DeviceKind};

pub use needs::{Need, needs};
pub use noise::Noise;

mod needs;
mod noise;

/// A tool, a device or a property of the machine that kbench can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// A C compiler.
    Cc,
    /// CUDA's compiler.
    Nvcc,
    /// A GPU with its driver.
    Gpu,
    /// NVIDIA's profiler, and the permission to read counters.
    Ncu,
    /// CUDA's sanitizers.
    ComputeSanitizer,
    /// `PyTorch` in the `python3` of `PATH`.
    Pytorch,
    /// Counters of the processor.
    PerfEvent,
    /// The clocks of the processor.
    CpuClock,
    /// Programs that use the GPU, and its clocks.
    GpuUse,
    /// Load of the processor.
    CpuUse,
    /// Free space for the compile cache and results.
    Disk,
}

impl Piece {
    /// Name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Piece::Cc => "C compiler",
            Piece::Nvcc => "nvcc",
            Piece::Gpu => "GPU",
            Piece::Ncu => "ncu",
            Piece::ComputeSanitizer => "compute-sanitizer",
            Piece::Pytorch => "PyTorch",
            Piece::PerfEvent => "perf_event",
            Piece::CpuClock => "CPU clock",
            Piece::GpuUse => "GPU in use",
            Piece::CpuUse => "CPU in use",
            Piece::Disk => "disk",
        }
    }
}

/// Whether and where a piece was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The piece works.
    Good,
    /// The piece works with a restriction that makes results worse.
    Poor,
    /// The piece is missing or does not work.
    Missing,
}

/// State of one piece.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Check {
    /// The piece.
    pub piece: Piece,
    /// State of the piece.
    pub state: State,
    /// Version and place of the piece, or the error.
    pub found: String,
    /// Benefit of the piece, or cost of its state; empty if its state is good.
    pub effect: String,
    /// The command or the change that repairs the state; empty if the state is good.
    pub fix: String,
}

impl Check {
    fn good(piece: Piece, found: impl Into<String>) -> Self {
        Self { piece, state: State::Good, found: found.into(), effect: String::new(), fix: String::new() }
    }

    fn not(piece: Piece, state: State, found: impl Into<String>, effect: &str, fix: &str) -> Self {
        Self { piece, state, found: found.into(), effect: effect.to_owned(), fix: fix.to_owned() }
    }

    fn missing(piece: Piece, found: impl Into<String>, effect: &str, fix: &str) -> Self {
        Self::not(piece, State::Missing, found, effect, fix)
    }
}

/// Tools and devices of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Examination {
    /// The pieces.
    pub checks: Vec<Check>,
    /// The GPUs.
    pub gpus: Vec<DeviceInfo>,
    /// Noise of one core's times; none if it was not measured.
    pub noise: Option<Noise>,
}

impl Examination {
    /// Whether a piece works.
    pub fn has(&self, piece: Piece) -> bool {
        self.checks.iter().any(|check| check.piece == piece && check.state != State::Missing)
    }
}

/// Examines this machine. `work_directory` is `<target>/kbench`. `measure_noise` adds a measurement of noise, which
/// takes 5 s.
pub fn examine(compiler: &Compiler, work_directory: &Path, measure_noise: bool) -> Examination {
    let (gpus, why) = gpus(work_directory);
    let mut checks = vec![cc(compiler), nvcc(compiler), gpu(&gpus, &why), ncu(compiler)];
    checks.extend([compute_sanitizer(compiler), pytorch(), perf_event()]);
    checks.extend(cpu_clock());
    checks.push(cpu_use());
    checks.extend((!gpus.is_empty()).then(gpu_use));
    checks.extend(disk(work_directory));
    Examination { checks, gpus, noise: measure_noise.then(noise::measure) }
}

fn cc(compiler: &Compiler) -> Check {
    match compiler.c_compiler() {
        Ok(version) => Check::good(Piece::Cc, version),
        Err(error) => Check::missing(
            Piece::Cc,
            briefly(&error.to_string()),
            "compiles C kernels, and references for kernels of both kinds",
            "install gcc or clang (Debian: `apt-get install gcc libc6-dev`), or set CC",
        ),
    }
}

fn nvcc(compiler: &Compiler) -> Check {
    match compiler.cuda_compiler() {
        Ok((path, version)) => Check::good(Piece::Nvcc, format!("{version} ({})", path.display())),
        Err(error) => Check::missing(
            Piece::Nvcc,
            briefly(&error.to_string()),
            "compiles CUDA kernels and judges their resources, without a GPU too",
            "`cargo kbench toolchain install`",
        ),
    }
}

/// The GPUs that a worker can open, and the error that ended the search for more.
fn gpus(work_directory: &Path) -> (Vec<DeviceInfo>, String) {
    let mut gpus = Vec::new();
    loop {
        let options = WorkerOptions {
            runner: Vec::new(),
            tool: Vec::new(),
            device: DeviceKind::Cuda,
            index: gpus.len() as u32,
            path: None,
            cache: work_directory.join("references"),
            mutation: None,
        };
        match Executor::new(options).device() {
            Ok(device) => gpus.push(device),
            Err(ExecutorError::NoDevice(why)) => return (gpus, why),
            Err(error) => return (gpus, error.to_string()),
        }
    }
}

fn gpu(gpus: &[DeviceInfo], why: &str) -> Check {
    let Some(first) = gpus.first() else {
        return Check::missing(
            Piece::Gpu,
            briefly(why),
            "runs CUDA kernels; without a GPU they are compiled, and only their resources are judged",
            "use a machine with an NVIDIA GPU and its driver, or `runner = [\"ssh\", \"HOST\"]` in the table",
        );
    };
    let each = gpus.iter().map(|gpu| {
        let (major, minor) = gpu.compute_capability.unwrap_or_default();
        format!(
            "{} (sm_{major}{minor}, {} multiprocessors, {:.0} GiB, {} KiB shared memory a block)",
            gpu.name,
            gpu.multiprocessors,
            gpu.memory_bytes as f64 / f64::from(1 << 30),
            gpu.max_shared_per_block >> 10
        )
    });
    let found = format!("{}; driver for CUDA {}", each.collect::<Vec<_>>().join("; "), first.driver);
    let (major, minor) = toolchain::CUDA;
    if is_older(&first.driver, (major, minor)) {
        let effect = "code from `cargo kbench toolchain install` needs a driver for CUDA 13.0";
        return Check::not(Piece::Gpu, State::Poor, found, effect, "update the driver to 580 or newer");
    }
    Check::good(Piece::Gpu, found)
}

/// Whether a version such as `12.4` is older than another.
fn is_older(version: &str, than: (u32, u32)) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    matches!((parts.next().flatten(), parts.next().flatten()), (Some(major), Some(minor)) if (major, minor) < than)
}

fn ncu(compiler: &Compiler) -> Check {
    let effect =
        "reads hardware counters of CUDA kernels, for `profile` and the counters gate; without ncu the roofline judges";
    match compiler.ncu(false) {
        Err(error) => Check::missing(
            Piece::Ncu,
            briefly(&error.to_string()),
            effect,
            "install the CUDA toolkit, or its package nsight-compute",
        ),
        Ok(path) if is_restricted() => Check::missing(
            Piece::Ncu,
            format!("{}: the driver permits counters to root only", path.display()),
            effect,
            "run as root, or load the driver with `NVreg_RestrictProfilingToAdminUsers=0`",
        ),
        Ok(path) => Check::good(Piece::Ncu, path.display().to_string()),
    }
}

/// Whether the driver permits counters to root only and the user is not root.
fn is_restricted() -> bool {
    let params = fs::read_to_string("/proc/driver/nvidia/params").unwrap_or_default();
    params.lines().any(|line| line == "RmProfilingAdminOnly: 1") && !rustix::process::geteuid().is_root()
}

fn compute_sanitizer(compiler: &Compiler) -> Check {
    match compiler.compute_sanitizer() {
        Ok(path) => Check::good(Piece::ComputeSanitizer, path.display().to_string()),
        Err(error) => Check::missing(
            Piece::ComputeSanitizer,
            briefly(&error.to_string()),
            "finds races and accesses outside of memory of CUDA kernels (`sanitize = \"deny\"`)",
            "`cargo kbench toolchain install`, or install the CUDA toolkit",
        ),
    }
}

fn pytorch() -> Check {
    let script = "import torch; print(torch.__version__, 'with CUDA' if torch.cuda.is_available() else 'without CUDA')";
    match printed("python3", &["-c", script]) {
        Some(version) => Check::good(Piece::Pytorch, version),
        None => Check::missing(
            Piece::Pytorch,
            "python3 cannot import torch",
            "runs baselines and references that are written with PyTorch",
            "`python3 -m pip install torch`",
        ),
    }
}

fn perf_event() -> Check {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    match level.trim().parse::<i32>() {
        Ok(level) if level <= 2 || rustix::process::geteuid().is_root() => {
            Check::good(Piece::PerfEvent, format!("permitted (kernel.perf_event_paranoid is {level})"))
        }
        level => Check::missing(
            Piece::PerfEvent,
            level.map_or_else(
                |_| "this kernel has no perf_event".to_owned(),
                |level| format!("kernel.perf_event_paranoid is {level}"),
            ),
            "counts instructions and cycles of C kernels, for `profile` and the counters gate",
            "`sysctl kernel.perf_event_paranoid=2`",
        ),
    }
}

fn cpu_clock() -> Option<Check> {
    let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok()?;
    let governor = governor.trim();
    Some(if governor == "performance" {
        Check::good(Piece::CpuClock, "governor performance")
    } else {
        Check::not(
            Piece::CpuClock,
            State::Poor,
            format!("governor {governor}"),
            "the clock changes while C kernels are measured",
            "`cpupower frequency-set -g performance`",
        )
    })
}

fn cpu_use() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let found = format!("load {load:.1} on {cores} cores in the last minute");
    if load <= 0.5 * cores as f64 {
        return Check::good(Piece::CpuUse, found);
    }
    let effect = "other programs disturb measurements; verdicts may be undecided";
    Check::not(Piece::CpuUse, State::Poor, found, effect, "end the other programs")
}

fn gpu_use() -> Check {
    let query = |what: &str, fields: &str| {
        printed("nvidia-smi", &[&format!("--query-{what}={fields}"), "--format=csv,noheader"])
    };
    let Some(clocks) = query("gpu", "clocks.sm,clocks.max.sm,clocks_event_reasons.active") else {
        return Check::not(
            Piece::GpuUse,
            State::Poor,
            "nvidia-smi does not run",
            "clocks and other users are not known here",
            "install nvidia-smi",
        );
    };
    let clocks = clocks.lines().next().unwrap_or_default().to_owned();
    let apps = query("compute-apps", "pid,process_name").unwrap_or_default();
    if apps.is_empty() {
        return Check::good(Piece::GpuUse, format!("no other program; clock, maximum, reasons: {clocks}"));
    }
    let programs = apps.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    let effect = "other programs disturb measurements";
    Check::not(
        Piece::GpuUse,
        State::Poor,
        programs,
        effect,
        "end the other programs, or select another GPU with --device",
    )
}

fn disk(work_directory: &Path) -> Option<Check> {
    let free = crate::file::room(work_directory)?;
    let found = format!("{:.1} GiB free at {}", free as f64 / f64::from(1 << 30), work_directory.display());
    if free > 1 << 30 {
        return Some(Check::good(Piece::Disk, found));
    }
    let effect = "compiled variants and results need room";
    Some(Check::not(Piece::Disk, State::Poor, found, effect, "free some room, or name another --target-dir"))
}

/// Output of a program, if the program succeeds and prints anything.
fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// The first part of an error, without the places that were searched.
fn briefly(error: &str) -> String {
    let line = error.lines().next().unwrap_or_default().trim_start_matches("`gates.sanitize`: ");
    line.split(';').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_piece_has_an_effect_and_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let compiler = Compiler::new(folder.path(), crate::build::CompilerOptions::default());
        let found = examine(&compiler, folder.path(), false);
        assert!(found.has(Piece::Cc), "{found:#?}");
        for check in &found.checks {
            let is_good = check.state == State::Good;
            assert!(is_good == check.effect.is_empty() && is_good == check.fix.is_empty(), "{check:?}");
            assert!(!check.found.is_empty(), "{check:?}");
        }
    }

    #[test]
    fn versions_of_drivers_are_compared_by_numbers() {
        assert!(is_older("12.4", (13, 0)) && !is_older("13.0", (13, 0)) && !is_older("13.10", (13, 2)));
        assert!(is_older("9.2", (13, 0)) && !is_older("unknown", (13, 0)));
    }
}

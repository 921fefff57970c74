//! `CudaDevice` on a real GPU. Without one, or without nvcc, it says so and passes.
//!
//! Not libtest: a kernel's fault ends CUDA for its whole process, so that each such case runs in a process of its own.
//! `gpu_device [FILTER]` runs the cases whose names contain FILTER.

#![allow(clippy::float_cmp)] // these kernels compute exact values

#[path = "gpu_device/cases.rs"]
mod cases;
#[path = "gpu_device/faults.rs"]
mod faults;
#[path = "gpu_device/timing.rs"]
mod timing;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use kbench_runtime::gpu_device::{BoundArg, BoundLaunch, Device, Purpose, Region};
use kbench_runtime::gpu_device::{CudaBound, CudaBuffer, CudaDevice, CudaKernels};
use kbench_runtime::protocol::{CacheMode, Failure, Geometry};

const SOURCE: &str = include_str!("gpu_device/kernels.cu");

/// A child runs the case named in this variable, on the cubin named in the other.
const CASE: &str = "KBENCH_GPU_DEVICE_CASE";
const CUBIN: &str = "KBENCH_GPU_DEVICE_CUBIN";

/// A cubin of another architecture, in the same folder.
const OTHER: &str = "other.cubin";

/// No case takes this long; one that does has hung.
const DEADLINE: Duration = Duration::from_secs(60);

type Case = (&'static str, fn(&mut Gpu));

const CASES: &[Case] = &[
    ("info", cases::info),
    ("load_failures", cases::load_failures),
    ("good_kernel", cases::good_kernel),
    ("memory", cases::memory),
    ("digests", cases::digests),
    ("shared_memory", cases::shared_memory),
    ("clusters", cases::clusters),
    ("cooperative", cases::cooperative),
    ("impossible_launches", cases::impossible_launches),
    ("wrong_arguments", cases::wrong_arguments),
    ("symbol", cases::symbol),
    ("tensor_map", cases::tensor_map),
    ("out_of_memory", cases::out_of_memory),
    ("illegal_access", faults::illegal_access),
    ("misaligned", faults::misaligned),
    ("traps", faults::traps),
    ("fault_in_sample", faults::fault_in_sample),
    ("known_duration", timing::known_duration),
    ("launch_cost", timing::launch_cost),
    ("launch_modes", timing::launch_modes),
    ("cold_and_hot", timing::cold_and_hot),
    ("repeatability", timing::repeatability),
    ("placement", timing::placement),
    ("energy", timing::energy),
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(CASE) {
        let (_, case) = CASES.iter().find(|(known, _)| *known == name).expect("a case of this table");
        let code = std::fs::read(std::env::var_os(CUBIN).expect("a cubin")).expect("a readable cubin");
        case(&mut Gpu { device: CudaDevice::open(0).expect("the parent opened it"), code });
        return ExitCode::SUCCESS;
    }
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let capability = match CudaDevice::open(0) {
        Ok(device) => device.info().compute_capability.expect("a GPU has one"),
        Err(why) => return skipped("no CUDA device", &why),
    };
    assert!(CudaDevice::open(10_000).is_err_and(|why| why.contains("there is no CUDA device 10000")));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(nvcc) = nvcc() else { return skipped("no nvcc", "looked at $NVCC, PATH and /usr/local/cuda/bin") };
    let cubin = compile(&nvcc, capability, folder.path());
    let failed: Vec<&str> = CASES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.contains(&filter))
        .filter(|name| !run_case(name, &cubin))
        .collect();
    println!("{} failed {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn skipped(what: &str, why: &str) -> ExitCode {
    println!("skipped: {what} ({why})");
    ExitCode::SUCCESS
}

fn run_case(name: &str, cubin: &Path) -> bool {
    let started = Instant::now();
    let executable = std::env::current_exe().expect("this executable");
    let mut child = Command::new(executable).env(CASE, name).env(CUBIN, cubin).spawn().expect("this executable starts");
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            break status.to_string();
        }
        if started.elapsed() > DEADLINE {
            child.kill().expect("a child to kill");
            child.wait().expect("a child to wait for");
            break "killed at its deadline".into();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let passed = status == "exit status: 0";
    let verdict = if passed { "ok".to_owned() } else { format!("FAILED ({status})") };
    println!("test {name} ... {verdict} ({:.2} s)", started.elapsed().as_secs_f64());
    passed
}

fn nvcc() -> Option<PathBuf> {
    let named = std::env::var_os("NVCC").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let searched = std::env::split_paths(&path).map(|folder| folder.join("nvcc"));
    named.into_iter().chain(searched).chain([PathBuf::from("/usr/local/cuda/bin/nvcc")]).find(|nvcc| nvcc.is_file())
}

fn compile(nvcc: &Path, (major, minor): (u32, u32), folder: &Path) -> PathBuf {
    let source = folder.join("gpu_device.cu");
    std::fs::write(&source, SOURCE).expect("a writable folder");
    let specific = if major >= 9 { "a" } else { "" };
    let other = if major == 8 { "-arch=sm_90".into() } else { "-arch=sm_80".to_owned() };
    let [cubin, _] =
        [("gpu_device.cubin", format!("-arch=sm_{major}{minor}{specific}")), (OTHER, other)].map(|(name, arch)| {
            let cubin = folder.join(name);
            let mut command = Command::new(nvcc);
            command.args(["-cubin", "-std=c++17", &arch, "-o"]).args([&cubin, &source]);
            let output = command.output().expect("nvcc starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            cubin
        });
    cubin
}

/// A device with the machine code of all test kernels.
struct Gpu {
    device: CudaDevice,
    code: Vec<u8>,
}

type Args = Vec<BoundArg<CudaBuffer>>;

impl Gpu {
    fn kernel(&mut self, entry: &str) -> CudaKernels {
        self.device.load(&self.code, &[entry], Purpose::Kernel).expect("a kernel of gpu_device.cu")
    }

    fn bind(&mut self, entry: &str, geometry: &Geometry, args: &Args) -> Result<CudaBound, Failure> {
        let kernel = self.kernel(entry);
        self.device.bind(&kernel, &[BoundLaunch::new(geometry.clone(), args.clone())])
    }

    fn run(&mut self, entry: &str, geometry: &Geometry, args: &Args) -> Result<(), Failure> {
        let bound = self.bind(entry, geometry, args)?;
        self.device.run(&bound)
    }

    fn alloc(&mut self, bytes: usize) -> CudaBuffer {
        self.device.alloc(bytes).expect("memory")
    }

    fn upload(&mut self, values: &[f32]) -> CudaBuffer {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        let buffer = self.alloc(bytes.len());
        self.device.upload(&buffer, 0, &bytes).expect("an upload");
        buffer
    }

    fn words(&mut self, buffer: &CudaBuffer, count: usize) -> Vec<[u8; 4]> {
        let mut bytes = vec![0; 4 * count];
        self.device.download(buffer, 0, &mut bytes).expect("a download");
        bytes.chunks_exact(4).map(|word| word.try_into().expect("four bytes")).collect()
    }

    fn floats(&mut self, buffer: &CudaBuffer, count: usize) -> Vec<f32> {
        self.words(buffer, count).into_iter().map(f32::from_ne_bytes).collect()
    }

    fn integers(&mut self, buffer: &CudaBuffer, count: usize) -> Vec<i32> {
        self.words(buffer, count).into_iter().map(i32::from_ne_bytes).collect()
    }

    /// The median of `count` samples.
    fn p50(&mut self, bound: &mut CudaBound, batch: u32, cache: CacheMode, count: usize) -> f64 {
        median((0..count).map(|_| self.device.sample(bound, batch, cache).expect("a sample")).collect())
    }

    /// The batch that fills the shortest sample.
    fn batch(&mut self, bound: &mut CudaBound) -> u32 {
        let one = self.p50(bound, 1, CacheMode::Hot, 5);
        (self.device.shortest_sample().expect("a clock") / one).ceil() as u32
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn pointer(buffer: &CudaBuffer, bytes: usize) -> BoundArg<CudaBuffer> {
    BoundArg::Pointer(Region { tensor: 0, buffer: buffer.clone(), offset: 0, bytes })
}

fn int(value: i32) -> BoundArg<CudaBuffer> {
    BoundArg::Scalar(value.to_ne_bytes().to_vec())
}

fn blocks(grid: u32, block: u32) -> Geometry {
    Geometry { grid: [grid, 1, 1], block: [block, 1, 1], ..Geometry::default() }
}

fn refused(result: Result<impl Sized, Failure>, words: &str) {
    match result.err() {
        Some(Failure::LaunchRefused { message }) if message.contains(words) => println!("  {message}"),
        other => panic!("expected a refusal with {words:?}, got {other:?}"),
    }
}

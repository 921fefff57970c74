//! `CudaDevice` on a real GPU. Without one, or without nvcc, it says so and passes.
//!
//! Not libtest: a kernel's fault ends CUDA for its whole process, so that each such case runs in a process of its own.
//! `gpu_device [FILTER]` runs the cases whose names contain FILTER.

#![allow(clippy::float_cmp)] // these kernels compute exact values

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use kbench_runtime::device::cuda::{CudaBound, CudaBuffer, CudaDevice, CudaKernel};
use kbench_runtime::device::{BoundArg, Device};
use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::{CacheMode, Failure, Geometry, TensorMap};

const SOURCE: &str = include_str!("gpu_device.cu");

/// A child runs the case named in this variable, on the cubin named in the other.
const CASE: &str = "KBENCH_GPU_DEVICE_CASE";
const CUBIN: &str = "KBENCH_GPU_DEVICE_CUBIN";

/// A cubin of another architecture, in the same folder.
const OTHER: &str = "other.cubin";

/// No case takes this long; one that does has hung.
const DEADLINE: Duration = Duration::from_secs(60);

type Case = (&'static str, fn(&mut Gpu));

const CASES: &[Case] = &[
    ("info", info),
    ("load_failures", load_failures),
    ("good_kernel", good_kernel),
    ("memory", memory),
    ("shared_memory", shared_memory),
    ("clusters", clusters),
    ("cooperative", cooperative),
    ("impossible_launches", impossible_launches),
    ("wrong_arguments", wrong_arguments),
    ("symbol", symbol),
    ("tensor_map", tensor_map),
    ("out_of_memory", out_of_memory),
    ("illegal_access", illegal_access),
    ("misaligned", misaligned),
    ("traps", traps),
    ("fault_in_sample", fault_in_sample),
    ("known_duration", known_duration),
    ("launch_cost", launch_cost),
    ("cold_and_hot", cold_and_hot),
    ("repeatability", repeatability),
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
    fn kernel(&mut self, entry: &str) -> CudaKernel {
        self.device.load(&self.code, entry).expect("a kernel of gpu_device.cu")
    }

    fn bind(&mut self, entry: &str, geometry: &Geometry, args: &Args) -> Result<CudaBound, Failure> {
        let kernel = self.kernel(entry);
        self.device.bind(&kernel, geometry, args)
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
        (self.device.shortest_sample() / one).ceil() as u32
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn pointer(buffer: &CudaBuffer, bytes: usize) -> BoundArg<CudaBuffer> {
    BoundArg::Pointer { buffer: buffer.clone(), offset: 0, bytes }
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

fn info(gpu: &mut Gpu) {
    let info = gpu.device.info();
    println!("  {info:?}");
    assert!(!info.name.is_empty() && info.driver.contains('.'));
    assert!(info.compute_capability.is_some_and(|(major, _)| major >= 5));
    assert!(info.multiprocessors > 0 && info.memory_bytes > 1 << 30 && info.cache_bytes > 0 && info.clock_khz > 0);
    assert!(info.max_threads_per_block >= 1024 && info.max_shared_per_block >= 48 << 10);
}

fn load_failures(gpu: &mut Gpu) {
    let code = gpu.code.clone();
    let symbol = gpu.device.load(&code, "nothing").err();
    assert_eq!(symbol, Some(Failure::SymbolNotFound { symbol: "nothing".into() }));
    let symbol = gpu.device.load(&code, "a\0b").err();
    assert_eq!(symbol, Some(Failure::SymbolNotFound { symbol: "a\0b".into() }));
    let other = std::fs::read(PathBuf::from(std::env::var_os(CUBIN).expect("a cubin")).with_file_name(OTHER));
    let other = other.expect("a cubin for another architecture");
    for bad in [b"hello".to_vec(), code[..1000].to_vec(), code[..code.len() - 100].to_vec(), other] {
        match gpu.device.load(&bad, "add").err() {
            Some(Failure::LoadFailed { message }) => println!("  {message}"),
            other => panic!("{other:?}"),
        }
    }
    // PTX goes through the driver's own compiler, whose log is what is shown.
    match gpu.device.load(b".version 7.0\n.target sm_70\n.address_size 64\nnonsense;\n", "add").err() {
        Some(Failure::LoadFailed { message }) => println!("  {message}"),
        other => panic!("{other:?}"),
    }
    good_kernel(gpu);
}

fn good_kernel(gpu: &mut Gpu) {
    let n = 1000;
    let values: Vec<f32> = (0..n as u16).map(f32::from).collect();
    let input = gpu.upload(&values);
    let output = gpu.alloc(4 * n);
    gpu.device.fill(&output, 0, 4 * n, 0xff).expect("a fill");
    let args = vec![
        pointer(&input, 4 * n),
        pointer(&output, 4 * n),
        int(n as i32),
        BoundArg::Scalar(0.5f32.to_ne_bytes().to_vec()),
    ];
    let mut bound = gpu.bind("add", &blocks(8, 128), &args).expect("a launch");
    drop((args, input));
    let expected: Vec<f32> = values.iter().map(|value| value + 0.5).collect();
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.floats(&output, n), expected);
    for (batch, cache) in [(1, CacheMode::Cold), (1, CacheMode::Hot), (50, CacheMode::Hot)] {
        gpu.device.fill(&output, 0, 4 * n, 0xff).expect("a fill");
        let nanoseconds = gpu.device.sample(&mut bound, batch, cache).expect("a sample");
        assert!(nanoseconds > 100.0 && nanoseconds < 1e7, "{nanoseconds}");
        assert_eq!(gpu.floats(&output, n), expected, "after {batch} {cache:?}");
    }
}

fn memory(gpu: &mut Gpu) {
    let buffer = gpu.alloc(10);
    gpu.device.fill(&buffer, 0, 10, 7).expect("a fill");
    gpu.device.fill(&buffer, 2, 3, 9).expect("a fill");
    gpu.device.upload(&buffer, 8, &[1, 2]).expect("an upload");
    let mut bytes = [0; 9];
    gpu.device.download(&buffer, 1, &mut bytes).expect("a download");
    assert_eq!(bytes, [7, 9, 9, 9, 7, 7, 7, 1, 2]);
    for past in [gpu.device.upload(&buffer, 9, &[1, 2]), gpu.device.fill(&buffer, usize::MAX, 2, 0)] {
        assert!(matches!(past, Err(Failure::Inputs { .. })), "{past:?}");
    }
    let nothing = gpu.alloc(0);
    gpu.device.upload(&nothing, 0, &[]).expect("an empty upload");
}

fn shared_memory(gpu: &mut Gpu) {
    let most = gpu.device.info().max_shared_per_block;
    for bytes in [1 << 10, 48 << 10, (64 << 10) + 16, most] {
        let words = bytes as usize / 4;
        let out = gpu.alloc(4 * words);
        let geometry = Geometry { dynamic_shared: bytes, ..blocks(1, 256) };
        gpu.run("big_shared", &geometry, &vec![pointer(&out, 4 * words), int(words as i32)]).expect("a run");
        let values = gpu.floats(&out, words);
        assert!(values.iter().rev().zip(0u32..).all(|(value, index)| *value == index as f32), "{bytes} bytes");
    }
    let out = gpu.alloc(4);
    let args = vec![pointer(&out, 4), int(0)];
    refused(
        gpu.bind("big_shared", &Geometry { dynamic_shared: most + 16, ..blocks(1, 256) }, &args),
        &format!("exceed this device's {most}"),
    );
}

fn clusters(gpu: &mut Gpu) {
    if gpu.device.info().compute_capability < Some((9, 0)) {
        return println!("  skipped: no clusters on this device");
    }
    let out = gpu.alloc(4 * 64);
    let args = vec![pointer(&out, 4 * 64)];
    for size in [2, 4, 8, 16] {
        let geometry = Geometry { cluster: Some([size, 1, 1]), ..blocks(64, 32) };
        gpu.run("clusters", &geometry, &args).expect("a run");
        let expected: Vec<i32> = (0..64).map(|block| 100 * size as i32 + block % size as i32).collect();
        assert_eq!(gpu.integers(&out, 64), expected);
    }
    let geometry = Geometry { cluster: Some([4, 1, 1]), ..blocks(62, 32) };
    refused(gpu.bind("clusters", &geometry, &args), "no multiple of the cluster's 4");
    let geometry = Geometry { cluster: Some([32, 1, 1]), ..blocks(64, 32) };
    refused(gpu.bind("clusters", &geometry, &args), "clusters of 32x1x1");
    good_kernel(gpu);
}

fn cooperative(gpu: &mut Gpu) {
    let sms = gpu.device.info().multiprocessors;
    let (sum, out) = (gpu.alloc(4), gpu.alloc(4 * 65_536));
    gpu.device.fill(&sum, 0, 4, 0).expect("a fill");
    let args = vec![pointer(&sum, 4), pointer(&out, 4 * 65_536)];
    let geometry = Geometry { cooperative: true, ..blocks(sms, 128) };
    let mut bound = gpu.bind("cooperative", &geometry, &args).expect("a launch");
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.integers(&out, sms as usize), vec![sms as i32; sms as usize]);
    // Every launch of a batch runs, lead included, whether it could be captured or not.
    gpu.device.fill(&sum, 0, 4, 0).expect("a fill");
    let nanoseconds = gpu.device.sample(&mut bound, 10, CacheMode::Hot).expect("a sample");
    let runs = gpu.integers(&sum, 1)[0] / sms as i32;
    println!("  cooperative: {nanoseconds:.0} ns a launch, {runs} launches for a sample of 10");
    assert!(runs >= 20 && runs % 20 == 0, "{runs}");
    let geometry = Geometry { cooperative: true, ..blocks(65_536, 128) };
    refused(gpu.bind("cooperative", &geometry, &args), "a cooperative grid of 65536 blocks exceeds the ");
}

fn impossible_launches(gpu: &mut Gpu) {
    let out = gpu.alloc(4 * 2048);
    let args = vec![pointer(&out, 4 * 2048)];
    let square = Geometry { block: [64, 32, 1], ..Geometry::default() };
    refused(gpu.bind("bounded", &square, &args), "a block of 2048 threads exceeds this device's 1024");
    refused(gpu.bind("bounded", &blocks(1, 512), &args), "a block of 512 threads exceeds the 256 ");
    refused(gpu.bind("bounded", &blocks(0, 32), &args), "the grid is 0 in x");
    refused(gpu.bind("bounded", &Geometry { grid: [1, 70_000, 1], ..blocks(1, 32) }, &args), "70000 in y");
    gpu.run("bounded", &blocks(1, 256), &args).expect("a run");
    assert_eq!(gpu.floats(&out, 256), [1.0; 256]);
}

fn wrong_arguments(gpu: &mut Gpu) {
    let buffer = gpu.alloc(64);
    let p = || pointer(&buffer, 64);
    refused(gpu.bind("add", &blocks(1, 1), &vec![p(), p(), int(1)]), "takes 4 parameters, `args` gives 3");
    refused(gpu.bind("add", &blocks(1, 1), &vec![p(), p(), int(1), int(1), int(1)]), "gives 5");
    refused(
        gpu.bind("add", &blocks(1, 1), &vec![p(), p(), p(), int(1)]),
        "parameter 3 is 4 bytes, `args` gives a tensor's address of 8 bytes",
    );
    refused(gpu.bind("empty", &blocks(1, 1), &vec![p()]), "takes 0 parameters, `args` gives 1");
    let past = gpu.bind("add", &blocks(1, 1), &vec![p(), pointer(&buffer, 65), int(1), int(1)]).err();
    assert!(matches!(past, Some(Failure::Inputs { .. })), "{past:?}");
}

fn symbol(gpu: &mut Gpu) {
    let kernel = gpu.kernel("polynomial");
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
    gpu.device.set_symbol(&kernel, "coefficients", &bytes(&[1.0, 2.0, 3.0, 4.0])).expect("a symbol");
    let (input, output) = (gpu.upload(&[2.0]), gpu.alloc(4));
    let args = vec![pointer(&input, 4), pointer(&output, 4)];
    let bound = gpu.device.bind(&kernel, &blocks(1, 1), &args).expect("a launch");
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.floats(&output, 1), [49.0]);
    gpu.device.set_symbol(&kernel, "coefficients", &bytes(&[3.0])).expect("part of a symbol");
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.floats(&output, 1), [51.0]);
    let missing = gpu.device.set_symbol(&kernel, "coefficient", &[]);
    assert_eq!(missing, Err(Failure::SymbolNotFound { symbol: "coefficient".into() }));
    match gpu.device.set_symbol(&kernel, "coefficients", &[0; 17]) {
        Err(Failure::Inputs { message }) => println!("  {message}"),
        other => panic!("{other:?}"),
    }
}

fn tensor_map(gpu: &mut Gpu) {
    let (rows, columns) = (16usize, 64usize);
    let values: Vec<f32> = (0..(rows * columns) as u16).map(f32::from).collect();
    let (input, output) = (gpu.upload(&values), gpu.alloc(4 * 256));
    let args = |r#box: [u32; 2], swizzle, x, y| {
        let map = TensorMap { tensor: 0, dims: vec![rows as u64, columns as u64], r#box: r#box.to_vec(), swizzle };
        let map = BoundArg::TensorMap { buffer: input.clone(), offset: 0, dtype: DType::F32, map };
        vec![map, pointer(&output, 4 * 256), int(x), int(y)]
    };
    if gpu.device.info().compute_capability < Some((9, 0)) {
        let unsupported = gpu.bind("tensor_map", &blocks(1, 32), &args([8, 32], 0, 0, 0)).err();
        assert!(matches!(unsupported, Some(Failure::Unsupported { .. })), "{unsupported:?}");
        return;
    }
    for (swizzle, x, y) in [(0, 32, 4), (128, 32, 4), (0, 48, 12)] {
        gpu.run("tensor_map", &blocks(1, 32), &args([8, 32], swizzle, x, y)).expect("a run");
        let found = gpu.floats(&output, 256);
        for row in 0..8usize {
            for column in 0..32usize {
                // The swizzle exchanges 16-byte chunks within each row of 128 bytes.
                let chunk = if swizzle == 128 { (column / 4) ^ row } else { column / 4 };
                let (from_row, from_column) = (row + y as usize, column + x as usize);
                let inside = from_row < rows && from_column < columns;
                let expected = if inside { values[from_row * columns + from_column] } else { 0.0 };
                assert_eq!(found[row * 32 + chunk * 4 + column % 4], expected, "swizzle {swizzle}, {row}, {column}");
            }
        }
    }
    refused(gpu.bind("tensor_map", &blocks(1, 32), &args([8, 64], 128, 0, 0)), "256 bytes exceed the swizzle's 128");
    let map = TensorMap { tensor: 0, dims: vec![16, 60], r#box: vec![8, 32], swizzle: 0 };
    let map = BoundArg::TensorMap { buffer: input.clone(), offset: 4, dtype: DType::F32, map };
    // The driver's own refusal: the address is no multiple of 16.
    let args = vec![map, pointer(&output, 4 * 256), int(0), int(0)];
    refused(gpu.bind("tensor_map", &blocks(1, 32), &args), "CUDA_ERROR_INVALID_VALUE");
}

fn out_of_memory(gpu: &mut Gpu) {
    let bytes = gpu.device.info().memory_bytes as usize * 2;
    assert_eq!(gpu.device.alloc(bytes).err(), Some(Failure::OutOfMemory { bytes: bytes as u64 }));
    assert!(matches!(gpu.device.alloc(usize::MAX).err(), Some(Failure::OutOfMemory { .. })));
    good_kernel(gpu);
}

/// After a kernel's fault every call fails, the way the fault did, and nothing panics or hangs.
fn everything_fails(gpu: &mut Gpu, buffer: &CudaBuffer, bound: &mut CudaBound, expected: fn(&Failure) -> bool) {
    let started = Instant::now();
    let Gpu { device, code } = gpu;
    let failures = [
        device.run(bound).err(),
        device.sample(bound, 1, CacheMode::Cold).err(),
        device.sample(bound, 10, CacheMode::Hot).err(),
        device.upload(buffer, 0, &[0]).err(),
        device.download(buffer, 0, &mut [0]).err(),
        device.fill(buffer, 0, 1, 0).err(),
        device.alloc(1 << 20).err(),
        device.load(code, "add").err(),
    ];
    for (index, failure) in failures.into_iter().enumerate() {
        let failure = failure.unwrap_or_else(|| panic!("call {index} passed after a fault"));
        assert!(expected(&failure) && failure.is_fatal(), "call {index}: {failure:?}");
    }
    println!("  8 more calls: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    println!("  opened again: {:?}", CudaDevice::open(0).err());
}

fn fault(gpu: &mut Gpu, entry: &str, with_buffer: bool, expected: fn(&Failure) -> bool) {
    let buffer = gpu.alloc(4096);
    let args = if with_buffer { vec![pointer(&buffer, 4096)] } else { Vec::new() };
    let mut bound = gpu.bind(entry, &blocks(4, 32), &args).expect("a launch");
    let failure = gpu.device.run(&bound).expect_err("a fault");
    println!("  {failure}");
    assert!(expected(&failure) && failure.is_fatal(), "{failure:?}");
    everything_fails(gpu, &buffer, &mut bound, expected);
}

fn is_illegal_access(failure: &Failure) -> bool {
    matches!(failure, Failure::IllegalAccess { .. })
}

fn is_device_fault(failure: &Failure) -> bool {
    matches!(failure, Failure::DeviceFault { .. })
}

fn illegal_access(gpu: &mut Gpu) {
    fault(gpu, "far_away", true, is_illegal_access);
}

fn misaligned(gpu: &mut Gpu) {
    fault(gpu, "misaligned", true, is_device_fault);
}

fn traps(gpu: &mut Gpu) {
    fault(gpu, "traps", false, is_device_fault);
}

fn fault_in_sample(gpu: &mut Gpu) {
    let buffer = gpu.alloc(4096);
    let mut bound = gpu.bind("far_away", &blocks(4, 32), &vec![pointer(&buffer, 4096)]).expect("a launch");
    let failure = gpu.device.sample(&mut bound, 10, CacheMode::Hot).expect_err("a fault");
    println!("  {failure}");
    assert!(is_illegal_access(&failure), "{failure:?}");
}

fn known_duration(gpu: &mut Gpu) {
    println!("  spin for      cold p50    hot p50 (batch)");
    for microseconds in [10i64, 100, 1000] {
        let nanoseconds = 1000 * microseconds;
        let args = vec![BoundArg::Scalar(nanoseconds.to_ne_bytes().to_vec())];
        let mut bound = gpu.bind("spin", &blocks(1, 1), &args).expect("a launch");
        let batch = gpu.batch(&mut bound);
        let cold = gpu.p50(&mut bound, 1, CacheMode::Cold, 20);
        let hot = gpu.p50(&mut bound, batch, CacheMode::Hot, 20);
        println!("  {microseconds:>5} us   {:>8.2} us {:>8.2} us ({batch})", cold / 1e3, hot / 1e3);
        for sample in [cold, hot] {
            let over = sample - nanoseconds as f64;
            assert!((-1100.0..8000.0).contains(&over), "{over} ns over");
        }
    }
}

fn launch_cost(gpu: &mut Gpu) {
    let mut bound = gpu.bind("empty", &blocks(1, 32), &Vec::new()).expect("a launch");
    let cold = gpu.p50(&mut bound, 1, CacheMode::Cold, 100);
    print!("  empty kernel: cold {:.2} us; hot by batch:", cold / 1e3);
    for batch in [1, 2, 10, 100, 400, 1000] {
        let hot = gpu.p50(&mut bound, batch, CacheMode::Hot, 50);
        print!("  {batch}: {:.3} us", hot / 1e3);
    }
    println!();
    assert!(cold > 300.0 && cold < 20_000.0);
}

fn cold_and_hot(gpu: &mut Gpu) {
    println!("  read          cold p50    hot p50 (batch)");
    for megabytes in [4usize, 16, 64, 1024] {
        let bytes = megabytes << 20;
        let (input, output) = (gpu.alloc(bytes), gpu.alloc(4));
        gpu.device.fill(&input, 0, bytes, 0).expect("a fill");
        let args = vec![pointer(&input, bytes), pointer(&output, 4), int((bytes / 16) as i32)];
        let grid = gpu.device.info().multiprocessors * 4;
        let mut bound = gpu.bind("read_all", &blocks(grid, 512), &args).expect("a launch");
        let batch = gpu.batch(&mut bound);
        let cold = gpu.p50(&mut bound, 1, CacheMode::Cold, 30);
        let hot = gpu.p50(&mut bound, batch, CacheMode::Hot, 30);
        let rate = |sample: f64| bytes as f64 / sample;
        println!(
            "  {megabytes:>5} MB   {:>8.2} us {:>8.2} us ({batch}), {:.0} and {:.0} GB/s",
            cold / 1e3,
            hot / 1e3,
            rate(cold),
            rate(hot)
        );
        if megabytes <= 16 {
            assert!(cold > 1.1 * hot, "{cold} and {hot}");
        }
    }
}

fn repeatability(gpu: &mut Gpu) {
    println!("  p50 of 100 samples, five times over, in us");
    let out = gpu.alloc(4 * 132 * 1024);
    for rounds in [2_000i32, 440_000] {
        let args = vec![pointer(&out, 4 * 132 * 1024), int(rounds)];
        let mut bound = gpu.bind("chain", &blocks(132, 1024), &args).expect("a launch");
        let batch = gpu.batch(&mut bound);
        gpu.p50(&mut bound, batch, CacheMode::Hot, 20);
        for (cache, batch) in [(CacheMode::Hot, batch), (CacheMode::Cold, 1)] {
            let repeats: Vec<f64> = (0..5).map(|_| gpu.p50(&mut bound, batch, cache, 100) / 1e3).collect();
            let low = repeats.iter().copied().fold(f64::INFINITY, f64::min);
            let high = repeats.iter().copied().fold(0.0, f64::max);
            println!(
                "  {rounds:>7} rounds {cache:?} {batch:>4}: {repeats:.3?}, spread {:.2} %",
                100.0 * (high / low - 1.0)
            );
        }
    }
}

//! This machine's CPU: kernels are shared objects, called through a generated shim. Above 400 lines: it implements the whole `Device`
//! trait.
//!
//! Each function of a kernel has a shim, `void NAME(void **args)`, and `NAME` is the launch's entry. `args[i]` is the i-th argument's
//! address: for a tensor the address of its first byte, for a scalar the address of its bytes. The array must not be changed.
//!
//! Each loaded kernel has a [process](process) of its own, which shares only the memory of its tensors with the worker.
//! The process unloads nothing: it ends. A kernel's effects on its process never reach another kernel.

mod caches;
mod channel;
mod clock;
mod counters;
mod environment;
mod guard_pages;
mod info;
mod memory;
mod pinning;
mod process;
mod rapl;
mod sample;
mod supervisor;
mod symbols;
mod threads;
mod vary;

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use self::channel::{Answer, Argument, Call, Command, Stretch};
use self::clock::Window;
use self::info::{available_memory, info};
use self::memory::Shared;
use self::pinning::{CorePinning, Launches};
pub use self::process::run_kernel_process;
use self::rapl::Rapl;
use self::supervisor::Process;
use super::{BoundArg, BoundLaunch, Device, DisturbanceCheck, Energy, Purpose, Region, Resolution, Sample, Write};
use crate::data::digest::Bytes;
use crate::protocol::{CacheMode, Counts, DeviceInfo, Failure};

/// Number of bytes that one parallel task compares.
const PART: usize = 1 << 20;

/// The CPU.
#[derive(Debug)]
pub struct HostDevice {
    info: DeviceInfo,
    resolution: Resolution,
    pinning: CorePinning,
    /// Opened on first use.
    rapl: Option<Rapl>,
    /// Whether a tool observes the worker.
    watched: bool,
    /// Deadline of a launch or a sample of a kernel.
    limit: Option<Duration>,
    /// A process without a kernel, started on first use, as the yardstick of kernels' clocks.
    spinning: Option<Process>,
}

/// Memory of the CPU.
#[derive(Debug, Clone)]
pub struct Buffer(Rc<Shared>);

impl Buffer {
    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        let end = offset.checked_add(bytes);
        assert!(end.is_some_and(|end| end <= self.0.bytes), "{offset} + {bytes} is beyond the buffer");
        // SAFETY: the offset is within the memory, as just asserted.
        unsafe { self.0.start().as_ptr().add(offset) }
    }
}

/// A loaded shared object and its functions, in a process of its own.
#[derive(Debug, Clone)]
pub struct Kernel {
    process: Rc<Process>,
    /// Size in bytes of each global, if the machine code has it.
    globals: Rc<HashMap<String, u64>>,
    /// Number of bound launches.
    bound: Rc<std::cell::Cell<usize>>,
}

/// A kernel with its arguments.
#[derive(Debug)]
pub struct Bound {
    process: Rc<Process>,
    index: usize,
    /// Memory of the tensors, in the order of the process.
    buffers: Vec<Buffer>,
    /// Tensors among the arguments.
    passed: Vec<Stretch>,
    launches: Launches,
    /// Samples whose clock is still to be judged.
    window: Window,
}

impl HostDevice {
    /// Opens this machine's CPU.
    pub fn open() -> Self {
        Self {
            info: info(),
            resolution: resolution(),
            pinning: CorePinning::new(),
            rapl: None,
            watched: false,
            limit: None,
            spinning: None,
        }
    }
}

impl Bound {
    fn launch(&self, times: u32) -> Result<(), Failure> {
        match self.process.ask(&Command::Run { bound: self.index, times }, &[], &[])? {
            Answer::Ran(used) => {
                self.launches.note(&used);
                Ok(())
            }
            other => Err(odd(&other)),
        }
    }

    /// Evicts the tensors among the arguments from all caches.
    fn flush(&self) {
        let ranges = self
            .passed
            .iter()
            .map(|stretch| (self.buffers[stretch.memory].at(stretch.offset, stretch.bytes), stretch.bytes));
        caches::flush(&ranges.collect::<Vec<_>>());
    }

    /// Brings the lines that this process wrote into the caches of the kernel's core, where the kernel would have found
    /// its own writes.
    fn written(&self, writes: &[Write<Buffer>]) -> Vec<Stretch> {
        let stretch = |write: &Write<Buffer>| {
            let (Write::Fill { buffer, offset, bytes, .. }
            | Write::Copy { to: buffer, offset, bytes, .. }
            | Write::Vary { buffer, offset, bytes, .. }) = write;
            let memory = self.buffers.iter().position(|other| Rc::ptr_eq(&other.0, &buffer.0))?;
            Some(Stretch { memory, offset: *offset, bytes: *bytes })
        };
        writes.iter().filter_map(stretch).collect()
    }
}

/// Writes to memory of the CPU.
fn write(writes: &[Write<Buffer>]) {
    for write in writes {
        match write {
            // SAFETY: the range is inside the memory.
            Write::Fill { buffer, offset, bytes, byte } => unsafe {
                buffer.at(*offset, *bytes).write_bytes(*byte, *bytes);
            },
            // SAFETY: both ranges are inside their memory; a copy within one may overlap.
            Write::Copy { from, from_offset, to, offset, bytes } => unsafe {
                from.at(*from_offset, *bytes).copy_to(to.at(*offset, *bytes), *bytes);
            },
            Write::Vary { buffer, offset, bytes, dtype, number } => {
                // SAFETY: the range is inside the memory, and no kernel runs meanwhile: their processes are stopped.
                let elements = unsafe { std::slice::from_raw_parts_mut(buffer.at(*offset, *bytes), *bytes) };
                vary::vary(elements, *dtype, *number);
            }
        }
    }
}

fn odd(answer: &Answer) -> Failure {
    Failure::Protocol { message: format!("the kernel's process answered {answer:?}") }
}

impl Device for HostDevice {
    type Buffer = Buffer;
    type Kernel = Kernel;
    type Bound = Bound;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn use_plain_allocations(&mut self) {
        self.watched = true;
    }

    fn limit(&mut self, launch: Duration) {
        self.limit = Some(launch);
    }

    fn load(&mut self, code: &[u8], entries: &[&str], purpose: Purpose) -> Result<Kernel, Failure> {
        // The loader takes two names of one file for one object, so each instance has a file of its own.
        let files: Vec<File> = (0..if purpose == Purpose::SecondInstance { 2 } else { 1 })
            .map(|_| code_file(code))
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::Machine {
                message: format!("could not keep {} bytes of machine code in memory: {error}", code.len()),
            })?;
        let descriptors: Vec<_> = files.iter().map(File::as_raw_fd).collect();
        let process = Process::start(self.limit.filter(|_| purpose != Purpose::Reference))
            .map_err(|error| supervisor::not_started(&error))?;
        let entries = entries.iter().map(|&entry| entry.to_owned()).collect();
        process.ask(&Command::Load { entries }, &[], &descriptors)?;
        let globals = Rc::new(symbols::sizes(code));
        Ok(Kernel { process: Rc::new(process), globals, bound: Rc::default() })
    }

    fn alloc(&mut self, bytes: usize) -> Result<Buffer, Failure> {
        let out_of_memory = Failure::OutOfMemory { bytes: bytes as u64 };
        // Linux allocates memory that it may not have and kills the process on use, so the free memory is tested first.
        if bytes > 64 << 20 && available_memory().is_some_and(|available| bytes as u64 > available) {
            return Err(out_of_memory);
        }
        let memory = Shared::new(bytes).map_err(|error| match error.kind() {
            ErrorKind::OutOfMemory | ErrorKind::InvalidInput => out_of_memory,
            ErrorKind::FileTooLarge if !is_limited(bytes) => out_of_memory,
            _ => Failure::Machine { message: format!("could not allocate {bytes} bytes for a tensor: {error}") },
        });
        Ok(Buffer(Rc::new(memory?)))
    }

    fn upload(&mut self, buffer: &Buffer, offset: usize, data: &[u8]) -> Result<(), Failure> {
        // SAFETY: the range is inside the memory, and `data`, a Rust slice, cannot overlap it.
        unsafe { buffer.at(offset, data.len()).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }

    fn download(&mut self, buffer: &Buffer, offset: usize, data: &mut [u8]) -> Result<(), Failure> {
        // SAFETY: as in `upload`; memory is never without contents.
        unsafe { data.as_mut_ptr().copy_from_nonoverlapping(buffer.at(offset, data.len()), data.len()) };
        Ok(())
    }

    fn fill(&mut self, buffer: &Buffer, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure> {
        // SAFETY: the range is inside the memory.
        unsafe { buffer.at(offset, bytes).write_bytes(byte, bytes) };
        Ok(())
    }

    fn holds(&mut self, buffer: &Buffer, offset: usize, data: &Bytes) -> Result<bool, Failure> {
        // SAFETY: the range is inside the memory, and no kernel runs meanwhile: their processes are stopped.
        let held = unsafe { std::slice::from_raw_parts(buffer.at(offset, data.len()), data.len()) };
        Ok(held.par_chunks(PART).zip(data.par_chunks(PART)).all(|(held, data)| held == data))
    }

    fn write(&mut self, writes: &[Write<Buffer>]) -> Result<(), Failure> {
        write(writes);
        Ok(())
    }

    fn set_symbol(&mut self, kernel: &Kernel, symbol: &str, data: &[u8]) -> Result<(), Failure> {
        if let Some(bytes) = kernel.globals.get(symbol).filter(|bytes| **bytes < data.len() as u64) {
            let message = format!("the symbol `{symbol}` holds {bytes} bytes, its tensor has {}", data.len());
            return Err(Failure::LaunchRefused { message });
        }
        for (at, part) in data.chunks(channel::MOST_BYTES).enumerate() {
            let (symbol, offset) = (symbol.to_owned(), at * channel::MOST_BYTES);
            kernel.process.ask(&Command::SetSymbol { symbol, offset }, part, &[])?;
        }
        Ok(())
    }

    fn bind(&mut self, kernel: &Kernel, launches: &[BoundLaunch<Buffer>]) -> Result<Bound, Failure> {
        let mut buffers: Vec<Buffer> = Vec::new();
        let mut stretch = |Region { buffer, offset, bytes, .. }: &Region<Buffer>| {
            let known = buffers.iter().position(|other| Rc::ptr_eq(&other.0, &buffer.0));
            let memory = known.unwrap_or(buffers.len());
            if known.is_none() {
                buffers.push(buffer.clone());
            }
            Stretch { memory, offset: *offset, bytes: *bytes }
        };
        let mut calls = Vec::new();
        let mut passed = Vec::new();
        for launch in launches {
            let mut arguments = Vec::new();
            for arg in &launch.args {
                arguments.push(match arg {
                    BoundArg::Pointer(region) => Argument::Pointer(stretch(region)),
                    BoundArg::Scalar(bytes) => Argument::Scalar(bytes.clone()),
                    BoundArg::Struct { bytes, pointers } => {
                        let pointers = pointers.iter().map(|(at, region)| (*at, stretch(region))).collect();
                        Argument::Struct { bytes: bytes.clone(), pointers }
                    }
                    BoundArg::TensorMap { .. } => {
                        return Err(Failure::Unsupported { message: "tensor maps need a CUDA device".into() });
                    }
                });
            }
            for stretch in arguments.iter().flat_map(Argument::stretches) {
                if !passed.contains(&stretch) {
                    passed.push(stretch);
                }
            }
            calls.push(Call { arguments, zero: launch.zero.iter().map(&mut stretch).collect() });
        }
        let sizes = buffers.iter().map(|buffer| buffer.0.bytes).collect();
        let descriptors: Vec<_> = buffers.iter().map(|buffer| buffer.0.as_raw_fd()).collect();
        kernel.process.ask(&Command::Bind { sizes, calls, watched: self.watched }, &[], &descriptors)?;
        let index = kernel.bound.replace(kernel.bound.get() + 1);
        let process = Rc::clone(&kernel.process);
        Ok(Bound { process, index, buffers, passed, launches: Launches::default(), window: Window::default() })
    }

    fn run(&mut self, bound: &Bound) -> Result<(), Failure> {
        bound.launch(1)
    }

    fn count(&mut self, bound: &Bound) -> Result<Counts, Failure> {
        match bound.process.ask(&Command::Count { bound: bound.index }, &[], &[])? {
            Answer::Counted(counts) => counts.map_err(|message| Failure::Unsupported { message }),
            other => Err(odd(&other)),
        }
    }

    fn run_many(&mut self, bound: &Bound, writes: &[Write<Buffer>], launches: u32) -> Result<(), Failure> {
        if writes.is_empty() {
            return bound.launch(launches);
        }
        for _ in 0..launches {
            self.write(writes)?;
            bound.launch(1)?;
        }
        Ok(())
    }

    fn sample_after(
        &mut self,
        writes: &[Write<Buffer>],
        bound: &mut Bound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure> {
        let batch = if cache == CacheMode::Cold { 1 } else { batch.max(1) };
        let sampled = self.take(writes, bound, batch, cache, None)?;
        bound.window.add(batch, sampled.claim);
        if bound.window.is_full() && std::mem::take(&mut bound.window).is_suspicious() {
            self.judge_clock(writes, bound, batch, cache)?;
        }
        Ok(sampled.of(batch))
    }

    fn forget(&mut self, bound: &Bound) -> Result<(), Failure> {
        bound.process.pin(self.pinning.choose(&bound.launches));
        bound.process.ask(&Command::Forget, &[], &[]).map(drop)
    }

    fn sample_after_pause(
        &mut self,
        writes: &[Write<Buffer>],
        bound: &mut Bound,
        pause: Duration,
    ) -> Result<Option<Sample>, Failure> {
        // Threads of a team sleep after a pause, and waking them takes long.
        if self.core(bound).is_none() {
            return Ok(None);
        }
        let sampled = self.take(writes, bound, 1, CacheMode::Hot, Some(pause.as_nanos() as u64))?;
        Ok(Some(sampled.of(1)))
    }

    fn clock(&self, _bound: &Bound, _batch: u32) -> &'static str {
        "monotonic"
    }

    fn energy(&mut self) -> Result<Energy, String> {
        let rapl = match self.rapl.take() {
            Some(rapl) => rapl,
            None => Rapl::open(Path::new(rapl::ROOT))?,
        };
        self.rapl.insert(rapl).read()
    }

    fn resolution(&mut self) -> Result<Resolution, Failure> {
        clock::check()?;
        Ok(self.resolution)
    }

    /// A thousand steps of the clock, two hundred times the cost of reading it, and at least 20 µs.
    fn shortest_sample(&mut self) -> Result<f64, Failure> {
        let Resolution { step, overhead } = self.resolution;
        Ok((1000.0 * step).max(200.0 * overhead).max(20_000.0))
    }

    fn check_disturbance(&mut self, now: bool) -> DisturbanceCheck {
        self.pinning.check_disturbance(now)
    }

    fn in_use(&mut self) -> Option<String> {
        self.pinning.in_use()
    }

    fn is_in_use(&self) -> bool {
        self.pinning.is_in_use()
    }

    fn core(&self, bound: &Bound) -> Option<u32> {
        self.pinning.core(&bound.launches)
    }
}

/// Whether the user's limit on file sizes, which applies to files in memory too, forbids this number of bytes.
fn is_limited(bytes: usize) -> bool {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(limit, _)| limit < bytes as u64)
}

/// A file with machine code. On Linux the file is in memory: folders for temporary files may be full, or may forbid the
/// execution of their files.
fn code_file(code: &[u8]) -> std::io::Result<File> {
    #[cfg(target_os = "linux")]
    let mut file = memory::memfd(c"kbench-code", 0)?;
    #[cfg(not(target_os = "linux"))]
    let mut file = tempfile::tempfile()?;
    file.write_all(code)?;
    #[cfg(not(target_os = "linux"))]
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Measures the clock: its smallest step, and the median of empty intervals.
fn resolution() -> Resolution {
    let mut nothing: Vec<f64> = (0..1001).map(|_| Instant::now().elapsed().as_nanos() as f64).collect();
    nothing.sort_unstable_by(f64::total_cmp);
    let step = (0..100)
        .map(|_| {
            let start = Instant::now();
            loop {
                let elapsed = start.elapsed().as_nanos();
                if elapsed > 0 {
                    return elapsed as f64;
                }
            }
        })
        .fold(f64::INFINITY, f64::min);
    Resolution { step, overhead: nothing[nothing.len() / 2] }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exactness is what is tested
mod tests;

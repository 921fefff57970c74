//! This machine's CPU: kernels are shared objects, called through a generated shim.
//!
//! The shim is `void NAME(void **args)`, and `NAME` is the launch's entry. `args[i]` is the i-th argument's address: for a
//! tensor the address of its first byte, for a scalar the address of its bytes. The array must not be changed.

mod counters;
mod environment;
mod info;
mod memory;
mod quiet;
mod rapl;
mod symbols;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
#[cfg(target_os = "linux")]
use std::fs::File;
use std::io::Write as _;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rayon::prelude::*;

use self::environment::Environment;
use self::info::{available_memory, info};
pub use self::memory::OUT_OF_BOUNDS;
use self::memory::{Allocation, watch_moats};
use self::quiet::{Launches, Quiet};
use self::rapl::Rapl;
use super::{BoundArg, Device, Energy, Resolution, Sample, Watch, Write};
use crate::digest::Bytes;
use crate::protocol::{CacheMode, Counts, DeviceInfo, Disturbance, Failure, Geometry};

/// Bytes that one parallel task compares.
const PART: usize = 1 << 20;

type Entry = unsafe extern "C" fn(*mut *mut c_void);

/// The CPU.
#[derive(Debug)]
pub struct HostDevice {
    info: DeviceInfo,
    resolution: Resolution,
    quiet: Quiet,
    /// Opened when first asked for.
    rapl: Option<Rapl>,
    /// What [`HostDevice::flush`] streams through where cache lines cannot be flushed by address.
    stream: RefCell<Vec<u8>>,
    /// A tool looks on.
    watched: bool,
}

/// Memory of the CPU.
#[derive(Debug, Clone)]
pub struct Buffer(Rc<Allocation>);

impl Buffer {
    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        let end = offset.checked_add(bytes);
        assert!(end.is_some_and(|end| end <= self.0.bytes), "{offset} + {bytes} is beyond the buffer");
        // SAFETY: the offset is within the allocation, as just asserted.
        unsafe { self.0.start.as_ptr().add(offset) }
    }
}

/// A loaded shared object and its entry.
#[derive(Debug, Clone)]
pub struct Kernel {
    entry: Entry,
    /// How loading left the floating-point environment. `-ffast-math` has a constructor that flushes denormals to zero.
    environment: Environment,
    /// Bytes of each global, where the machine code says.
    globals: Rc<HashMap<String, u64>>,
    library: Rc<Library>,
    /// Its code. Closed after the library, whose name it is.
    _file: Rc<CodeFile>,
}

#[cfg(target_os = "linux")]
type CodeFile = File;
#[cfg(not(target_os = "linux"))]
type CodeFile = tempfile::NamedTempFile;

/// A kernel with its arguments.
#[derive(Debug)]
pub struct Bound {
    kernel: Kernel,
    /// What the shim receives: addresses inside `ranges` and `scalars`.
    args: Vec<*mut c_void>,
    ranges: Vec<(*mut u8, usize)>,
    buffers: Vec<Buffer>,
    /// Eight-byte words, so that each scalar is aligned for its type; moving the vector does not move them.
    scalars: Vec<Box<[u64]>>,
    launches: Launches,
}

impl Bound {
    /// Calls `calls` with the floating-point environment that the kernel was loaded with, whatever another kernel, or
    /// this one, made of it; the worker gets its own back.
    fn in_environment<R>(&self, calls: impl FnOnce(&Self) -> R) -> R {
        let own = Environment::get();
        self.kernel.environment.set();
        let result = in_one_process(|| calls(self));
        own.set();
        result
    }

    /// No allocation and no copy: this is what is timed.
    #[inline]
    fn call(&self) {
        // SAFETY: the entry is a shim of this signature that only reads the array, and each address in it stays valid as long
        // as `self` does. What the user's code behind it does is not known; that is why this runs in a process of its own.
        unsafe { (self.kernel.entry)(self.args.as_ptr().cast_mut()) }
    }
}

impl HostDevice {
    /// Opens this machine's CPU.
    pub fn open() -> Self {
        watch_moats();
        Self {
            info: info(),
            resolution: resolution(),
            quiet: Quiet::new(),
            rapl: None,
            stream: RefCell::default(),
            watched: false,
        }
    }

    /// Drops what the arguments hold from every level of the cache.
    fn flush(&self, bound: &Bound) {
        #[cfg(target_arch = "x86_64")]
        {
            let _ = &self.stream;
            flush_lines(&bound.ranges);
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = bound;
            let bytes = (2 * self.info.cache_bytes as usize).clamp(8 << 20, 256 << 20);
            let mut stream = self.stream.borrow_mut();
            stream.resize(bytes, 0);
            for line in stream.chunks_mut(64) {
                line[0] = std::hint::black_box(line[0].wrapping_add(1));
            }
        }
    }
}

/// Runs the user's code. If it forks and returns twice, the copy ends here: it would go on as a second worker, on the same pipes.
fn in_one_process<R>(code: impl FnOnce() -> R) -> R {
    let process = std::process::id();
    let result = code();
    if std::process::id() != process {
        // SAFETY: always allowed. Destructors and exit handlers are the worker's, not its copy's.
        unsafe { nix::libc::_exit(0) }
    }
    result
}

/// Writes back and evicts every line of the ranges. Exact, and its cost grows with the buffers, not with the cache.
#[cfg(target_arch = "x86_64")]
fn flush_lines(ranges: &[(*mut u8, usize)]) {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid_count, _mm_clflush, _mm_mfence};
    // clflush waits for the flush before it; clflushopt does not, and is several times faster.
    // SAFETY: every x86-64 has cpuid. Safe to call from Rust 1.94 on.
    #[allow(unused_unsafe)]
    let optimised = unsafe { __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 23 != 0 };
    for (start, bytes) in ranges.iter().filter(|(_, bytes)| *bytes > 0) {
        // The last byte is on a line that whole steps miss when the start is not on one.
        for offset in (0..*bytes).step_by(64).chain([bytes - 1]) {
            // SAFETY: the offset is inside a buffer that the binding keeps alive.
            let line = unsafe { start.add(offset) }.cast_const();
            if optimised {
                // SAFETY: this CPU has clflushopt, as asked above; it changes no contents.
                unsafe { asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags)) }
            } else {
                // SAFETY: every x86-64 has clflush.
                unsafe { _mm_clflush(line) }
            }
        }
    }
    // SAFETY: every x86-64 has mfence.
    unsafe { _mm_mfence() }
}

impl Device for HostDevice {
    type Buffer = Buffer;
    type Kernel = Kernel;
    type Bound = Bound;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn be_watched(&mut self) {
        self.watched = true;
    }

    fn load(&mut self, code: &[u8], entry: &str) -> Result<Kernel, Failure> {
        let refused = |error: &dyn std::fmt::Display| Failure::LoadFailed { message: error.to_string() };
        let (file, path) = code_file(code).map_err(|error| refused(&error))?;
        let own = Environment::get();
        // SAFETY: constructors of the shared object run here; it is the user's own code, in a process kept for it.
        let library = in_one_process(|| unsafe { Library::open(Some(&*path), RTLD_NOW | RTLD_LOCAL) });
        let environment = Environment::get();
        own.set();
        let library = library.map_err(|error| refused(&error))?;
        // SAFETY: the symbol is a generated shim of this signature; it is not called after the library is closed,
        // since `Kernel` holds both.
        let entry = *unsafe { library.get::<Entry>(entry) }
            .map_err(|_| Failure::SymbolNotFound { symbol: entry.to_owned() })?;
        let globals = Rc::new(symbols::sizes(code));
        Ok(Kernel { entry, environment, globals, library: Rc::new(library), _file: Rc::new(file) })
    }

    fn alloc(&mut self, bytes: usize) -> Result<Buffer, Failure> {
        let out_of_memory = Failure::OutOfMemory { bytes: bytes as u64 };
        // Linux promises memory that it does not have and kills who uses it, so ask first.
        if bytes > 64 << 20 && available_memory().is_some_and(|available| bytes as u64 > available) {
            return Err(out_of_memory);
        }
        let allocation = Allocation::new(bytes, self.watched).ok_or(out_of_memory)?;
        Ok(Buffer(Rc::new(allocation)))
    }

    fn upload(&mut self, buffer: &Buffer, offset: usize, data: &[u8]) -> Result<(), Failure> {
        // SAFETY: the range is inside the allocation, and `data`, a Rust slice, cannot overlap it.
        unsafe { buffer.at(offset, data.len()).copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }

    fn download(&mut self, buffer: &Buffer, offset: usize, data: &mut [u8]) -> Result<(), Failure> {
        // SAFETY: as in `upload`; whoever allocated filled what is downloaded.
        unsafe { data.as_mut_ptr().copy_from_nonoverlapping(buffer.at(offset, data.len()), data.len()) };
        Ok(())
    }

    fn fill(&mut self, buffer: &Buffer, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure> {
        // SAFETY: the range is inside the allocation.
        unsafe { buffer.at(offset, bytes).write_bytes(byte, bytes) };
        Ok(())
    }

    fn holds(&mut self, buffer: &Buffer, offset: usize, data: &Bytes) -> Result<bool, Failure> {
        // SAFETY: the range is inside the allocation; whoever allocated filled it, and no kernel runs meanwhile.
        let held = unsafe { std::slice::from_raw_parts(buffer.at(offset, data.len()), data.len()) };
        Ok(held.par_chunks(PART).zip(data.par_chunks(PART)).all(|(held, data)| held == data))
    }

    fn write(&mut self, writes: &[Write<Buffer>]) -> Result<(), Failure> {
        for write in writes {
            match write {
                Write::Fill { buffer, offset, bytes, byte } => self.fill(buffer, *offset, *bytes, *byte)?,
                // SAFETY: both ranges are inside their allocations; a copy within one may overlap.
                Write::Copy { from, to, offset, bytes } => unsafe {
                    from.at(*offset, *bytes).copy_to(to.at(*offset, *bytes), *bytes);
                },
            }
        }
        Ok(())
    }

    fn set_symbol(&mut self, kernel: &Kernel, symbol: &str, data: &[u8]) -> Result<(), Failure> {
        // SAFETY: only the address is taken.
        let address = *unsafe { kernel.library.get::<*mut u8>(symbol) }
            .map_err(|_| Failure::SymbolNotFound { symbol: symbol.to_owned() })?;
        if let Some(bytes) = kernel.globals.get(symbol).filter(|bytes| **bytes < data.len() as u64) {
            let message = format!("the symbol `{symbol}` holds {bytes} bytes, its tensor has {}", data.len());
            return Err(Failure::LaunchRefused { message });
        }
        // SAFETY: the symbol holds as many bytes, unless the machine code does not say; then the table is believed.
        unsafe { address.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        Ok(())
    }

    fn bind(&mut self, kernel: &Kernel, _geometry: &Geometry, args: &[BoundArg<Buffer>]) -> Result<Bound, Failure> {
        let mut bound = Bound {
            kernel: kernel.clone(),
            args: Vec::new(),
            ranges: Vec::new(),
            buffers: Vec::new(),
            scalars: Vec::new(),
            launches: Launches::default(),
        };
        for arg in args {
            match arg {
                BoundArg::Pointer { buffer, offset, bytes } => {
                    let start = buffer.at(*offset, *bytes);
                    bound.args.push(start.cast());
                    bound.ranges.push((start, *bytes));
                    bound.buffers.push(buffer.clone());
                }
                BoundArg::Scalar(bytes) => {
                    let mut words: Box<[u64]> = bytes
                        .chunks(8)
                        .map(|bytes| {
                            let mut word = [0; 8];
                            word[..bytes.len()].copy_from_slice(bytes);
                            u64::from_ne_bytes(word)
                        })
                        .collect();
                    bound.args.push(words.as_mut_ptr().cast());
                    bound.scalars.push(words);
                }
                BoundArg::TensorMap { .. } => {
                    return Err(Failure::Unsupported { message: "tensor maps need a CUDA device".into() });
                }
            }
        }
        Ok(bound)
    }

    fn run(&mut self, bound: &Bound) -> Result<(), Failure> {
        bound.launches.counted(|| bound.in_environment(Bound::call));
        Ok(())
    }

    fn count(&mut self, bound: &Bound) -> Result<Result<Counts, String>, Failure> {
        Ok(bound.in_environment(|bound| counters::around(|| bound.call())))
    }

    fn sample_after(
        &mut self,
        writes: &[Write<Buffer>],
        bound: &mut Bound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure> {
        self.write(writes)?;
        // From before the flush on: another core has other caches.
        let pinned = self.quiet.pin(&bound.launches);
        let batch = match cache {
            CacheMode::Cold => {
                self.flush(bound);
                1
            }
            CacheMode::Hot => batch.max(1),
        };
        let ((elapsed, processor), switches) = bound.launches.watched(|| {
            bound.in_environment(|bound| {
                let (before, start) = (quiet::process_time(), Instant::now());
                for _ in 0..batch {
                    bound.call();
                }
                let elapsed = start.elapsed();
                (elapsed, quiet::process_time().saturating_sub(before))
            })
        });
        drop(pinned);
        Ok(Sample {
            nanoseconds: elapsed.as_nanos() as f64 / f64::from(batch),
            cpu_nanoseconds: (processor > 0).then(|| processor as f64 / f64::from(batch)),
            preemptions: switches.preemptions,
            waits: switches.waits,
            exposed: false,
            disturbance: (switches.preemptions > 0).then_some(Disturbance::InvoluntaryContextSwitch),
        })
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
        Ok(self.resolution)
    }

    /// A thousand steps of the clock, two hundred times the cost of reading it, and at least 20 µs.
    fn shortest_sample(&mut self) -> Result<f64, Failure> {
        let Resolution { step, overhead } = self.resolution;
        Ok((1000.0 * step).max(200.0 * overhead).max(20_000.0))
    }

    fn watch(&mut self, now: bool) -> Watch {
        self.quiet.watch(now)
    }

    fn core(&self, bound: &Bound) -> Option<u32> {
        self.quiet.core(&bound.launches)
    }
}

/// A file of its own for every load, so that every load has its own globals, and the name to open it by. On Linux it is memory:
/// folders for temporary files may be full, or forbid to run what lies in them.
fn code_file(code: &[u8]) -> std::io::Result<(CodeFile, PathBuf)> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the name is a C string, and the descriptor that comes back is nobody else's.
        let mut file = unsafe {
            match nix::libc::memfd_create(c"kbench".as_ptr(), nix::libc::MFD_CLOEXEC) {
                -1 => return Err(std::io::Error::last_os_error()),
                descriptor => File::from_raw_fd(descriptor),
            }
        };
        file.write_all(code)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok((file, path.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let mut file = tempfile::Builder::new().prefix("kbench-").suffix(".so").tempfile()?;
        file.write_all(code)?;
        let path = file.path().to_owned();
        Ok((file, path))
    }
}

/// Measures the clock: its smallest step, and the median of what it shows of nothing.
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

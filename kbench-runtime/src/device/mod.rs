//! The devices that run kernels, behind one trait.

pub mod cuda;
pub mod fake;
pub mod host;
pub mod mutant;

use std::time::Duration;

use crate::data::digest::Bytes;
use crate::data::dtype::DType;
use crate::protocol::{
    CacheMode, Counts, DeviceInfo, Disturbance, Failure, Geometry, LaunchMode, SideEffects, SmClock, TensorMap,
    TwoClocks,
};

/// Size in bytes of each guard band: enough to catch a write some rows beyond the end of most tensors. A multiple of the alignment that
/// [`Device::alloc`] promises, so that the tensors between guard bands are aligned too.
pub const GUARD: usize = 64 << 10;

/// Use of loaded machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The kernel that is judged: time limits and the faults of an audit apply to it.
    Kernel,
    /// Loads the kernel again into a program that has loaded it before; the two loads must not disturb each other. Limits and faults
    /// apply.
    SecondInstance,
    /// A reference, which is exempt from both, even if its machine code is the kernel's own.
    Reference,
}

/// A device that runs kernels. Calls are synchronous: when a call returns, its work is done and its failure is known.
pub trait Device {
    /// Memory of the device. Clones share it; the last clone frees it.
    type Buffer: Clone;
    /// A loaded kernel. Clones share it.
    type Kernel: Clone;
    /// A kernel whose launches are bound to their arguments, ready to run any number of times. A run makes all launches in order. Keeps
    /// its buffers and its module alive.
    type Bound;

    /// Properties of the device.
    fn info(&self) -> &DeviceInfo;

    /// Allocates from now on with the allocator that sanitizers and profilers know, each buffer exactly as large as asked for.
    fn use_plain_allocations(&mut self) {}

    /// Sets the longest time that a launch or a sample may take, for kernels that are loaded afterwards. Only for devices that can end a
    /// kernel alone; for other devices the driver ends the worker.
    fn limit(&mut self, _launch: Duration) {}

    /// Sets the meaning of the samples that follow. Only for devices on which a launch costs more than its work.
    fn launch_as(&mut self, _mode: LaunchMode) {}

    /// Loads machine code and finds the function of each launch in it.
    fn load(&mut self, code: &[u8], entries: &[&str], purpose: Purpose) -> Result<Self::Kernel, Failure>;

    /// Allocates `bytes` bytes, aligned to at least 256 bytes. The contents are undefined.
    fn alloc(&mut self, bytes: usize) -> Result<Self::Buffer, Failure>;

    /// Copies `data` to `buffer` from byte `offset` on.
    fn upload(&mut self, buffer: &Self::Buffer, offset: usize, data: &[u8]) -> Result<(), Failure>;

    /// Copies from `buffer`, from byte `offset` on, to `data`.
    fn download(&mut self, buffer: &Self::Buffer, offset: usize, data: &mut [u8]) -> Result<(), Failure>;

    /// Sets `bytes` bytes from `offset` on to `byte`.
    fn fill(&mut self, buffer: &Self::Buffer, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure>;

    /// The digests (see `data::digest`) of ranges, computed by the device; `None` if fetching the contents is faster.
    fn digests(&mut self, _ranges: &[Range<'_, Self::Buffer>]) -> Result<Option<Vec<u64>>, Failure> {
        Ok(None)
    }

    /// Whether `buffer` holds `data` from byte `offset` on.
    fn holds(&mut self, buffer: &Self::Buffer, offset: usize, data: &Bytes) -> Result<bool, Failure> {
        match self.digests(&[Range { buffer, offset, bytes: data.len() }])? {
            Some(digests) => Ok(digests == [data.digest()]),
            None => holds_by_download(self, buffer, offset, data),
        }
    }

    /// Makes writes in the given order. The exception to synchronous calls: the writes are complete only before the next call to this
    /// device has an effect.
    fn write(&mut self, writes: &[Write<Self::Buffer>]) -> Result<(), Failure>;

    /// Copies `data` to a `__constant__` or `__device__` symbol of the kernel's module, or to a global of the shared object. A symbol that
    /// is too small is refused with [`Failure::LaunchRefused`].
    fn set_symbol(&mut self, kernel: &Self::Kernel, symbol: &str, data: &[u8]) -> Result<(), Failure>;

    /// Binds the launches of one run, one for each entry that was [loaded](Device::load) and in that order.
    fn bind(&mut self, kernel: &Self::Kernel, launches: &[BoundLaunch<Self::Buffer>]) -> Result<Self::Bound, Failure>;

    /// Fills on-chip memory with one byte before the next launch: shared memory and registers, if the device has them. A kernel must write
    /// them before it reads them.
    fn poison_on_chip(&mut self, _byte: u8) -> Result<(), Failure> {
        Ok(())
    }

    /// Effects of launches beside their outputs since the last call: the maximum over the launches.
    fn side_effects(&mut self) -> SideEffects {
        SideEffects::default()
    }

    /// Runs once and waits for the end.
    fn run(&mut self, bound: &Self::Bound) -> Result<(), Failure>;

    /// Runs once as [`Device::run`] does and reads the processor's counters around the launch. [`Failure::Unsupported`] if the counters
    /// cannot be read.
    fn count(&mut self, bound: &Self::Bound) -> Result<Counts, Failure> {
        self.run(bound)?;
        Err(Failure::Unsupported { message: "the worker reads no counters of this device".to_owned() })
    }

    /// Takes one sample over `batch` runs back to back. The first run finds the memory as `writes` leave it.
    ///
    /// In [`CacheMode::Cold`] the last-level cache is flushed between the writes and the launch, and `batch` is 1. Untimed launches in
    /// [`CacheMode::Hot`] come before the writes.
    fn sample_after(
        &mut self,
        writes: &[Write<Self::Buffer>],
        bound: &mut Self::Bound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure>;

    /// Has the processor forget the branches of earlier launches, if it can remember any. Untimed.
    fn forget(&mut self, _bound: &Self::Bound) -> Result<(), Failure> {
        Ok(())
    }

    /// Takes one sample, in [`CacheMode::Hot`], over a launch that comes some time after an untimed launch. `None` if the time between two
    /// launches has no meaning on this device, or for this kernel.
    fn sample_after_pause(
        &mut self,
        _writes: &[Write<Self::Buffer>],
        _bound: &mut Self::Bound,
        _pause: Duration,
    ) -> Result<Option<Sample>, Failure> {
        Ok(None)
    }

    /// Takes one sample without writes before it. Nanoseconds a launch.
    fn sample(&mut self, bound: &mut Self::Bound, batch: u32, cache: CacheMode) -> Result<f64, Failure> {
        Ok(self.sample_after(&[], bound, batch, cache)?.nanoseconds)
    }

    /// Name of the clock that samples of that batch read: `cuda-event`, `cuda-graph`, `monotonic` or `fake`.
    fn clock(&self, bound: &Self::Bound, batch: u32) -> &'static str;

    /// Runs `launches` times back to back, each time after `writes`, and waits for the end.
    fn run_many(&mut self, bound: &Self::Bound, writes: &[Write<Self::Buffer>], launches: u32) -> Result<(), Failure> {
        for _ in 0..launches {
            self.write(writes)?;
            self.run(bound)?;
        }
        Ok(())
    }

    /// Reads the energy counter, in joules. The error is the reason why the device has none.
    fn energy(&mut self) -> Result<Energy, String> {
        Err("the worker reads no energy counter of this device".to_owned())
    }

    /// Times `launches` launches back to back by the clock of the samples and by another one. `None` if the device has no other clock.
    fn two_clocks(&mut self, _bound: &Self::Bound, _launches: u32) -> Result<Option<TwoClocks>, Failure> {
        Ok(None)
    }

    /// The resolution of the clock, measured.
    fn resolution(&mut self) -> Result<Resolution, Failure>;

    /// The shortest sample, in nanoseconds, that the clock measures accurately. If the cache mode allows, launches are batched up to it.
    fn shortest_sample(&mut self) -> Result<f64, Failure>;

    /// Whether anything disturbed the samples since the last check. Called between samples; the device checks when a check is due, or at
    /// once if `now` is set.
    fn check_disturbance(&mut self, _now: bool) -> DisturbanceCheck {
        DisturbanceCheck::Undisturbed
    }

    /// The clock of the multiprocessors, as read by [`Device::check_disturbance`] since the last call.
    fn sm_clock(&mut self) -> Option<SmClock> {
        None
    }

    /// A description of the other users of the device that [`Device::check_disturbance`] has seen since the last call.
    fn in_use(&mut self) -> Option<String> {
        None
    }

    /// Whether other programs use the device at this moment, and may evict data of the kernel from its caches.
    fn is_in_use(&self) -> bool {
        false
    }

    /// The core that samples of this kernel are pinned to.
    fn core(&self, _bound: &Self::Bound) -> Option<u32> {
        None
    }
}

/// A reading of an energy counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// Joules since an arbitrary moment.
    pub joules: f64,
    /// The shortest time over which a difference is accurate: many times the time between two updates of the counter.
    pub window: Duration,
}

/// [`Device::holds`] by fetching the contents.
fn holds_by_download<D: Device + ?Sized>(
    device: &mut D,
    buffer: &D::Buffer,
    offset: usize,
    data: &[u8],
) -> Result<bool, Failure> {
    // In parts: allocating memory for a large tensor takes longer than comparing it.
    const PART: usize = 8 << 20;
    let mut copy = vec![0; data.len().min(PART)];
    for (at, data) in data.chunks(PART).enumerate() {
        let copy = &mut copy[..data.len()];
        device.download(buffer, offset + at * PART, copy)?;
        if copy != data {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The resolution of a clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resolution {
    /// The smallest step.
    pub step: f64,
    /// The time that the clock shows between two readings with nothing between them.
    pub overhead: f64,
}

/// The result of [`Device::check_disturbance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisturbanceCheck {
    /// No check was due.
    NotDue,
    /// Nothing disturbed the samples since the last check.
    Undisturbed,
    /// The samples since the last check were disturbed.
    Disturbed(Disturbance),
}

/// A range of memory.
#[derive(Debug)]
pub struct Range<'a, B> {
    /// The buffer.
    pub buffer: &'a B,
    /// Offset in bytes from the start of the buffer.
    pub offset: usize,
    /// Length in bytes.
    pub bytes: usize,
}

/// A write to memory before a launch.
#[derive(Debug, Clone)]
pub enum Write<B> {
    /// Sets bytes to one value.
    Fill {
        /// The buffer.
        buffer: B,
        /// Offset in bytes from the start of the buffer.
        offset: usize,
        /// Length in bytes.
        bytes: usize,
        /// The value.
        byte: u8,
    },
    /// Copies between two buffers.
    Copy {
        /// The source.
        from: B,
        /// Offset in bytes from the start of the source.
        from_offset: usize,
        /// The destination.
        to: B,
        /// Offset in bytes from the start of the destination.
        offset: usize,
        /// Length in bytes.
        bytes: usize,
    },
    /// Gives each number of a tensor a value close to its own, so that it is new. A GPU leaves the values as they are.
    Vary {
        /// The buffer.
        buffer: B,
        /// Offset in bytes from the start of the buffer.
        offset: usize,
        /// Length in bytes.
        bytes: usize,
        /// Type of the numbers.
        dtype: DType,
        /// Seed: another number gives other values.
        number: u64,
    },
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Nanoseconds a launch.
    pub nanoseconds: f64,
    /// Processor time of all threads of the kernel's process, in nanoseconds a launch. `None` if unknown.
    pub cpu_nanoseconds: Option<f64>,
    /// Number of involuntary context switches of those threads during the sample.
    pub preemptions: u32,
    /// Number of voluntary context switches of those threads during the sample: to sleep, or to wait for a thread or a file.
    pub waits: u32,
    /// Whether the device may have waited for the host during the sample.
    pub exposed: bool,
    /// Known disturbance of this sample.
    pub disturbance: Option<Disturbance>,
}

/// The memory of a tensor.
#[derive(Debug, Clone)]
pub struct Region<B> {
    /// Index of the tensor in its case.
    pub tensor: usize,
    /// The buffer.
    pub buffer: B,
    /// Offset in bytes from the start of the buffer.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
}

/// A launch with the memory of its arguments.
#[derive(Debug, Clone)]
pub struct BoundLaunch<B> {
    /// Grid, block and shared memory.
    pub geometry: Geometry,
    /// Arguments in the order of the function's signature.
    pub args: Vec<BoundArg<B>>,
    /// Memory that is filled with zero bytes before the launch, in each run.
    pub zero: Vec<Region<B>>,
}

impl<B> BoundLaunch<B> {
    /// A launch that zeroes nothing.
    pub fn new(geometry: Geometry, args: Vec<BoundArg<B>>) -> Self {
        Self { geometry, args, zero: Vec::new() }
    }
}

/// An argument with its memory.
#[derive(Debug, Clone)]
pub enum BoundArg<B> {
    /// The address of a tensor.
    Pointer(Region<B>),
    /// The bytes of a scalar in native order.
    Scalar(Vec<u8>),
    /// A struct by value.
    Struct {
        /// Bytes of the struct; those of addresses are zero.
        bytes: Vec<u8>,
        /// The addresses in it, each with the byte where it lies.
        pointers: Vec<(usize, Region<B>)>,
    },
    /// A tensor map over a tensor in a buffer.
    TensorMap {
        /// The memory of the tensor.
        region: Region<B>,
        /// Element type of the map.
        dtype: DType,
        /// Sizes, box and swizzle.
        map: TensorMap,
    },
}

impl<B> BoundArg<B> {
    /// The memory that it gives the kernel.
    pub fn regions(&self) -> Vec<&Region<B>> {
        match self {
            BoundArg::Pointer(region) | BoundArg::TensorMap { region, .. } => vec![region],
            BoundArg::Struct { pointers, .. } => pointers.iter().map(|(_, region)| region).collect(),
            BoundArg::Scalar(_) => Vec::new(),
        }
    }
}

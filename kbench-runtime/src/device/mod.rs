//! The devices that run kernels, behind one trait.

pub mod cuda;
pub mod fake;
pub mod host;
pub mod mutant;

use crate::data::digest::Bytes;
use crate::protocol::{CacheMode, Counts, DeviceInfo, Disturbance, Failure, Geometry, LeftBehind, SmClock, TensorMap};

/// Bytes of each guard band: enough for a write some rows beyond the end of most tensors. A multiple of the alignment that
/// [`Device::alloc`] promises, so that the tensors between them are aligned too.
pub const GUARD: usize = 64 << 10;

/// Something that runs kernels. Calls are synchronous: when one returns, its work is done and its failure known.
pub trait Device {
    /// Memory of the device; clones share it, the last one frees it.
    type Buffer: Clone;
    /// A loaded kernel; clones share it.
    type Kernel: Clone;
    /// A kernel bound to its arguments, ready to run any number of times. Keeps its buffers and module alive.
    type Bound;

    /// What is known of the device.
    fn info(&self) -> &DeviceInfo;

    /// A tool looks on from now on: memory comes from where it knows of it, each buffer exactly as large as was asked for.
    fn be_watched(&mut self) {}

    /// Whether what is loaded from now on is a reference's: the faults of an audit are not for it, be its code the kernel's own.
    fn be_reference(&mut self, _is: bool) {}

    /// How long a launch or a sample may take from now on, of kernels that are loaded after this and are no references. For a device
    /// that can end a kernel alone; of others the driver ends the worker.
    fn limit(&mut self, _launch: std::time::Duration) {}

    /// Loads machine code and finds `entry` in it.
    fn load(&mut self, code: &[u8], entry: &str) -> Result<Self::Kernel, Failure>;

    /// Allocates `bytes`, aligned to at least 256 bytes; contents undefined.
    fn alloc(&mut self, bytes: usize) -> Result<Self::Buffer, Failure>;

    /// Copies `data` to `buffer` at byte `offset`.
    fn upload(&mut self, buffer: &Self::Buffer, offset: usize, data: &[u8]) -> Result<(), Failure>;

    /// Copies from `buffer` at byte `offset` to `data`.
    fn download(&mut self, buffer: &Self::Buffer, offset: usize, data: &mut [u8]) -> Result<(), Failure>;

    /// Sets `bytes` bytes from `offset` on to `byte`.
    fn fill(&mut self, buffer: &Self::Buffer, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure>;

    /// The [digests](crate::data::digest) of ranges, computed where they lie; `None` where to fetch them is quicker.
    fn digests(&mut self, _ranges: &[Range<'_, Self::Buffer>]) -> Result<Option<Vec<u64>>, Failure> {
        Ok(None)
    }

    /// Whether `data` lies in `buffer` from byte `offset` on.
    fn holds(&mut self, buffer: &Self::Buffer, offset: usize, data: &Bytes) -> Result<bool, Failure> {
        match self.digests(&[Range { buffer, offset, bytes: data.len() }])? {
            Some(digests) => Ok(digests == [data.digest()]),
            None => holds_in_parts(self, buffer, offset, data),
        }
    }

    /// Makes writes in their order. The exception to the rule above: they need only have happened before whatever this device
    /// is asked to do next.
    fn write(&mut self, writes: &[Write<Self::Buffer>]) -> Result<(), Failure>;

    /// Copies `data` to a `__constant__` or `__device__` symbol of the kernel's module (a global of the shared object).
    /// One that is too small is refused: [`Failure::LaunchRefused`].
    fn set_symbol(&mut self, kernel: &Self::Kernel, symbol: &str, data: &[u8]) -> Result<(), Failure>;

    /// Binds arguments in the order of the kernel's signature.
    fn bind(
        &mut self,
        kernel: &Self::Kernel,
        geometry: &Geometry,
        args: &[BoundArg<Self::Buffer>],
    ) -> Result<Self::Bound, Failure>;

    /// Has the next launch find one byte everywhere in what it must write before it reads it and that is no tensor: shared memory and
    /// registers, where the device has such.
    fn soil(&mut self, byte: u8) -> Result<(), Failure> {
        let _ = byte;
        Ok(())
    }

    /// What launches left behind, the most of any, since this was last asked.
    fn left_behind(&mut self) -> LeftBehind {
        LeftBehind::default()
    }

    /// Runs once and waits for the end.
    fn run(&mut self, bound: &Self::Bound) -> Result<(), Failure>;

    /// Runs once as [`Device::run`] does and reads the processor's counters meanwhile; the inner error is why it cannot.
    fn count(&mut self, bound: &Self::Bound) -> Result<Result<Counts, String>, Failure> {
        self.run(bound)?;
        Ok(Err("the worker reads no counters of this device".to_owned()))
    }

    /// Takes one sample over `batch` launches back to back, whose first one finds memory as `writes` leave it.
    ///
    /// In [`CacheMode::Cold`] the last-level cache is flushed between the writes and the launch, and `batch` is 1. What a device
    /// launches untimed in [`CacheMode::Hot`] comes before the writes.
    fn sample_after(
        &mut self,
        writes: &[Write<Self::Buffer>],
        bound: &mut Self::Bound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure>;

    /// As [`Device::sample_after`] with no writes: nanoseconds a launch.
    fn sample(&mut self, bound: &mut Self::Bound, batch: u32, cache: CacheMode) -> Result<f64, Failure> {
        Ok(self.sample_after(&[], bound, batch, cache)?.nanoseconds)
    }

    /// What samples of that batch read: `cuda-event`, `cuda-graph`, `monotonic`, `fake`.
    fn clock(&self, bound: &Self::Bound, batch: u32) -> &'static str;

    /// Runs `launches` times back to back, each after `writes`, and waits for the end.
    fn run_many(&mut self, bound: &Self::Bound, writes: &[Write<Self::Buffer>], launches: u32) -> Result<(), Failure> {
        for _ in 0..launches {
            self.write(writes)?;
            self.run(bound)?;
        }
        Ok(())
    }

    /// What the device has consumed so far, or why it cannot tell.
    fn energy(&mut self) -> Result<Energy, String> {
        Err("the worker reads no energy counter of this device".to_owned())
    }

    /// What the clock can tell apart, measured.
    fn resolution(&mut self) -> Result<Resolution, Failure>;

    /// The shortest sample, in nanoseconds, that the clock measures well; launches are batched up to it where the cache mode
    /// allows.
    fn shortest_sample(&mut self) -> Result<f64, Failure>;

    /// Whether the samples since the last look at the machine were taken in peace. Called between samples; the device looks
    /// when it is time to, or `now`.
    fn watch(&mut self, now: bool) -> Watch {
        let _ = now;
        Watch::Calm
    }

    /// The clock of the multiprocessors as read by [`Device::watch`] since this was last asked.
    fn sm_clock(&mut self) -> Option<SmClock> {
        None
    }

    /// What else used the device while samples were taken, in words, as seen by [`Device::watch`] since this was last asked.
    fn in_use(&mut self) -> Option<String> {
        None
    }

    /// The core that samples of this kernel are pinned to.
    fn core(&self, bound: &Self::Bound) -> Option<u32> {
        let _ = bound;
        None
    }
}

/// A reading of an energy counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Energy {
    /// Joules since some moment.
    pub joules: f64,
    /// The shortest stretch of time over which a difference is worth something: many times that between two updates.
    pub window: std::time::Duration,
}

/// [`Device::holds`] by fetching what lies there.
fn holds_in_parts<D: Device + ?Sized>(
    device: &mut D,
    buffer: &D::Buffer,
    offset: usize,
    data: &[u8],
) -> Result<bool, Failure> {
    // In parts: to get fresh memory for a large tensor takes longer than to compare it.
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

/// What a clock can tell apart, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Resolution {
    /// The smallest step.
    pub step: f64,
    /// What it shows of nothing.
    pub overhead: f64,
}

/// What a look at the machine came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It was not time to look yet.
    Later,
    /// Nothing disturbed the samples since the last look.
    Calm,
    /// Something did.
    Disturbed(Disturbance),
}

/// A stretch of memory.
#[derive(Debug)]
pub struct Range<'a, B> {
    /// The buffer.
    pub buffer: &'a B,
    /// Bytes from its start.
    pub offset: usize,
    /// How many.
    pub bytes: usize,
}

/// A write to memory ahead of a launch.
#[derive(Debug, Clone)]
pub enum Write<B> {
    /// Sets bytes to one value.
    Fill {
        /// The buffer.
        buffer: B,
        /// Bytes from its start.
        offset: usize,
        /// How many.
        bytes: usize,
        /// The value.
        byte: u8,
    },
    /// Copies between two buffers.
    Copy {
        /// The source.
        from: B,
        /// Bytes from its start.
        from_offset: usize,
        /// The destination.
        to: B,
        /// Bytes from its start.
        offset: usize,
        /// How many.
        bytes: usize,
    },
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Nanoseconds a launch.
    pub nanoseconds: f64,
    /// Processor time, in nanoseconds a launch, of all threads of the process that runs the kernel. None where it is not known.
    pub cpu_nanoseconds: Option<f64>,
    /// How often the system took the core from one of those threads during the sample.
    pub preemptions: u32,
    /// How often one of those threads gave up its core during the sample: to sleep, or to wait for another thread or a file.
    pub waits: u32,
    /// Whether the device may have waited for the host meanwhile.
    pub exposed: bool,
    /// What is known to have disturbed this very sample.
    pub disturbance: Option<Disturbance>,
}

/// An argument with its memory.
#[derive(Debug, Clone)]
pub enum BoundArg<B> {
    /// The address `offset` bytes into a buffer.
    Pointer {
        /// The buffer.
        buffer: B,
        /// Bytes from its start.
        offset: usize,
        /// Size of the tensor there, in bytes.
        bytes: usize,
    },
    /// A scalar's bytes in native order.
    Scalar(Vec<u8>),
    /// A tensor map over memory `offset` bytes into a buffer.
    TensorMap {
        /// The buffer.
        buffer: B,
        /// Bytes from its start.
        offset: usize,
        /// Size of the tensor there, in bytes.
        bytes: usize,
        /// Element type of the map.
        dtype: crate::data::dtype::DType,
        /// Sizes, box and swizzle.
        map: TensorMap,
    },
}

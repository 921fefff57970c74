//! NVIDIA GPUs, through the CUDA driver API.
//!
//! cudarc has the bindings and loads the driver library at run time; ownership is implemented here, since a worker must
//! be able to report after a kernel has broken the context. Every return code is checked, the stream is waited for
//! after every run, and no destructor panics.

mod args;
mod clocks;
mod digest;
mod driver;
mod error;
mod global_timer;
mod graph;
mod image;
mod launch;
mod limits;
mod mapping;
mod memory;
mod module;
mod near;
mod on_chip_poison;
mod side_effects;
mod staging;
mod tensor_map;
mod timing;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use self::clocks::Clocks;
use self::digest::Digester;
use self::driver::{Context, Driver, Stream};
use self::global_timer::GlobalTimer;
use self::limits::DeviceLimits;
use self::mapping::Mapper;
use self::memory::MappedBuffer;
use self::on_chip_poison::OnChipPoison;
use self::side_effects::{CapturedStdout, HeapProbe};
use self::staging::Staging;
use self::timing::Timer;
use super::{BoundLaunch, Device, DisturbanceCheck, Energy, Purpose, Range, Resolution, Sample, Write};
use crate::data::digest::{digest, key};
use crate::protocol::{CacheMode, DeviceInfo, DeviceKind, Failure, LaunchMode, SideEffects, SmClock, TwoClocks};

pub use self::launch::CudaBound;
pub use self::memory::CudaBuffer;
pub use self::module::CudaKernels;

/// One NVIDIA GPU, with one stream. Stays on the thread that opened it.
pub struct CudaDevice {
    info: DeviceInfo,
    driver: Driver,
    limits: DeviceLimits,
    timer: Timer,
    /// `None` inside if this driver does not accept the kernel.
    digester: OnceCell<Option<Digester>>,
    on_chip_poison: OnceCell<Option<OnChipPoison>>,
    heap: OnceCell<Option<HeapProbe>>,
    /// `None` inside if there is no memory for it.
    staging: OnceCell<Option<Staging>>,
    /// `None` if memory comes from the driver's own allocations.
    mapper: Option<Mapper>,
    /// Buffers in ranges of their own.
    mapped: Vec<MappedBuffer>,
    /// Digests of the remainders around them, by their bytes.
    padding_digests: HashMap<usize, u64>,
    side_effects: SideEffects,
    clocks: Clocks,
    stream: Rc<Stream>,
    context: Rc<Context>,
}

impl CudaDevice {
    /// Opens the GPU with an index (`CUDA_VISIBLE_DEVICES` applies), or returns the reason why there is none.
    pub fn open(index: u32) -> Result<Self, String> {
        let driver = Driver::open()?;
        let device = Driver::device(index)?;
        let failed = |error: error::CudaError| format!("CUDA device {index} cannot be used: {}", error.words());
        near::stay_near(device);
        let context = Context::retain(device).map_err(failed)?;
        let limits = DeviceLimits::query(device);
        let info = DeviceInfo {
            kind: DeviceKind::Cuda,
            index,
            name: driver::name(device).map_err(failed)?,
            driver: driver::version_text(driver.version),
            compute_capability: Some(limits.capability),
            multiprocessors: limits.multiprocessors,
            memory_bytes: driver::memory(device).map_err(failed)?,
            cache_bytes: u64::from(driver::attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)),
            max_threads_per_block: limits.threads,
            max_shared_per_block: limits.shared,
            clock_khz: driver::attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
        };
        let stream = Stream::new(&context).map_err(failed)?;
        let timer = Timer::new(driver, &stream, info.cache_bytes).map_err(failed)?;
        let clocks = Clocks::new(device);
        Ok(Self {
            info,
            driver,
            limits,
            timer,
            digester: OnceCell::new(),
            on_chip_poison: OnceCell::new(),
            heap: OnceCell::new(),
            staging: OnceCell::new(),
            mapper: Mapper::new(device),
            mapped: Vec::new(),
            padding_digests: HashMap::new(),
            side_effects: SideEffects::default(),
            clocks,
            stream,
            context,
        })
    }
}

impl CudaDevice {
    /// UUIDs of the devices that this process sees, by index; empty if one of them has none.
    pub fn visible() -> Vec<String> {
        let uuids = (0..).map_while(|index| Driver::device(index).ok()).map(driver::uuid);
        uuids.collect::<Option<_>>().unwrap_or_default()
    }

    /// Pinned memory for a large copy; none for a small one.
    fn staging(&mut self, bytes: usize) -> Option<&mut Staging> {
        if bytes < staging::LARGE {
            return None;
        }
        self.staging.get_or_init(|| Staging::new(&self.stream).ok());
        self.staging.get_mut().and_then(Option::as_mut)
    }

    /// `None` if this driver does not accept the kernel, or computed wrong digests.
    fn digester(&self) -> Option<&Digester> {
        let new = || {
            let new = Digester::new(self.driver, &self.context, &self.stream, &self.limits);
            new.ok().filter(Digester::is_right)
        };
        self.digester.get_or_init(new).as_ref()
    }

    /// Runs once and waits.
    fn launch(&self, bound: &CudaBound) -> Result<(), Failure> {
        let launched = bound.enqueue();
        // Also after a refusal: an error of earlier work would appear here.
        let waited = self.stream.synchronize();
        launched?;
        waited.map_err(|error| error.failure("in the kernel"))
    }

    /// Compares the remainders around buffers with address ranges of their own: a write there is beyond all guard
    /// bands.
    fn look_around(&mut self) -> Result<(), Failure> {
        let padding = |mapped: &MappedBuffer| mapped.rest().into_iter().flatten().filter(|(_, bytes)| *bytes > 0);
        let ranges: Vec<_> = self.mapped.iter().flat_map(padding).collect();
        let Some(digester) = self.digester().filter(|_| !ranges.is_empty()) else { return Ok(()) };
        let found = digester.digests_at(&ranges)?;
        for ((_, bytes), found) in ranges.iter().zip(found) {
            let want =
                *self.padding_digests.entry(*bytes).or_insert_with(|| digest(&vec![mapping::REST; *bytes], key()));
            if found != want {
                let message = "a write outside of all tensors, more than 64 KB beside one".to_owned();
                return Err(Failure::IllegalAccess { message });
            }
        }
        Ok(())
    }

    /// Records the loss of the device's heap since the kernel's first launch.
    fn look_at_heap(&mut self, bound: &CudaBound) -> Result<(), Failure> {
        let new = || HeapProbe::new(self.driver, &self.context, &self.stream, &self.limits).ok();
        if let Some(heap) = self.heap.get_or_init(new) {
            let kept = bound.kernel().kept(heap.left()?);
            self.side_effects.heap = self.side_effects.heap.max(kept);
        }
        Ok(())
    }
}

impl Device for CudaDevice {
    type Buffer = CudaBuffer;
    type Kernel = CudaKernels;
    type Bound = CudaBound;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn load(&mut self, code: &[u8], entries: &[&str], _purpose: Purpose) -> Result<CudaKernels, Failure> {
        CudaKernels::load(self.driver, &self.context, code, entries)
    }

    /// A tool knows the driver's own allocations and their ends.
    fn use_plain_allocations(&mut self) {
        self.mapper = None;
    }

    fn alloc(&mut self, bytes: usize) -> Result<CudaBuffer, Failure> {
        let Some(mapper) = self.mapper else { return CudaBuffer::new(&self.context, bytes) };
        match CudaBuffer::mapped(&self.stream, mapper, bytes) {
            Ok(buffer) => {
                self.mapped.retain(|mapped| mapped.rest().is_some());
                self.mapped.push(buffer.mapping_handle());
                Ok(buffer)
            }
            Err(error) if error.is_out_of_memory() => Err(Failure::OutOfMemory { bytes: bytes as u64 }),
            Err(_) => CudaBuffer::new(&self.context, bytes),
        }
    }

    fn poison_on_chip(&mut self, byte: u8) -> Result<(), Failure> {
        let new = || OnChipPoison::new(self.driver, &self.context, &self.stream, &self.limits).ok();
        self.on_chip_poison.get_or_init(new).as_ref().map_or(Ok(()), |poison| poison.enqueue(byte))
    }

    fn side_effects(&mut self) -> SideEffects {
        std::mem::take(&mut self.side_effects)
    }

    fn upload(&mut self, buffer: &CudaBuffer, offset: usize, data: &[u8]) -> Result<(), Failure> {
        match self.staging(data.len()) {
            Some(staging) => staging
                .upload(buffer.range(offset, data.len())?, data)
                .map_err(|error| error.failure("when copying to the device")),
            None => buffer.upload(&self.stream, offset, data),
        }
    }

    fn download(&mut self, buffer: &CudaBuffer, offset: usize, data: &mut [u8]) -> Result<(), Failure> {
        match self.staging(data.len()) {
            Some(staging) => staging
                .download(buffer.range(offset, data.len())?, data)
                .map_err(|error| error.failure("when copying from the device")),
            None => buffer.download(&self.stream, offset, data),
        }
    }

    fn fill(&mut self, buffer: &CudaBuffer, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure> {
        buffer.enqueue_fill(&self.stream, offset, bytes, byte)?;
        self.stream.synchronize().map_err(|error| error.failure("when filling memory"))
    }

    /// For a small range, and after wrong digests, the host is used.
    fn digests(&mut self, ranges: &[Range<'_, CudaBuffer>]) -> Result<Option<Vec<u64>>, Failure> {
        if ranges.iter().map(|range| range.bytes).sum::<usize>() < digest::WORTHWHILE {
            return Ok(None);
        }
        self.digester().map(|digester| digester.digests(ranges)).transpose()
    }

    fn write(&mut self, writes: &[Write<CudaBuffer>]) -> Result<(), Failure> {
        memory::enqueue(&self.stream, writes)
    }

    /// A symbol that is larger than `data` keeps its remaining contents: `__constant__` arrays are often sized for the
    /// largest case.
    fn set_symbol(&mut self, kernel: &CudaKernels, symbol: &str, data: &[u8]) -> Result<(), Failure> {
        let (address, bytes) = kernel.global(symbol)?;
        if data.len() > bytes {
            let message = format!("the symbol `{symbol}` holds {bytes} bytes, its tensor has {}", data.len());
            return Err(Failure::LaunchRefused { message });
        }
        memory::copy_in(&self.stream, address, data)
    }

    fn bind(&mut self, kernel: &CudaKernels, launches: &[BoundLaunch<CudaBuffer>]) -> Result<CudaBound, Failure> {
        let tensor_maps = self.limits.tensor_maps && self.driver.knows_tensor_maps;
        CudaBound::new(&self.limits, tensor_maps, &self.stream, kernel, launches)
    }

    fn run(&mut self, bound: &CudaBound) -> Result<(), Failure> {
        let calls = bound.kernel().calls();
        let captured = if calls.prints { CapturedStdout::new() } else { None };
        let launched = self.launch(bound);
        if let Some(captured) = captured {
            self.side_effects.printed = self.side_effects.printed.max(captured.end());
        }
        launched?;
        if calls.allocates {
            self.look_at_heap(bound)?;
        }
        self.look_around()
    }

    fn launch_as(&mut self, mode: LaunchMode) {
        self.timer.launch = mode;
    }

    fn sample_after(
        &mut self,
        writes: &[Write<CudaBuffer>],
        bound: &mut CudaBound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure> {
        self.take_sample(writes, bound, batch, cache)
    }

    fn clock(&self, bound: &CudaBound, batch: u32) -> &'static str {
        match self.timer.launch {
            LaunchMode::Host => "monotonic",
            LaunchMode::Graph if bound.has_graph(batch) => "cuda-graph",
            LaunchMode::Graph | LaunchMode::Stream => "cuda-event",
        }
    }

    fn resolution(&mut self) -> Result<Resolution, Failure> {
        self.timer.resolution()
    }

    /// Half a millisecond: the constant 2.2 µs of a sample (see `timing`) are then below half a per cent, and 100
    /// samples with their untimed repeats take a tenth of a second. More if the events are coarser or cost more.
    /// with their untimed repeats take a tenth of a second. More where the events are coarser or cost more than that.
    fn shortest_sample(&mut self) -> Result<f64, Failure> {
        let Resolution { step, overhead } = self.timer.resolution()?;
        Ok((1000.0 * step).max(200.0 * overhead).max(500_000.0))
    }

    fn check_disturbance(&mut self, now: bool) -> DisturbanceCheck {
        self.clocks.check_disturbance(now)
    }

    fn run_many(&mut self, bound: &CudaBound, writes: &[Write<CudaBuffer>], launches: u32) -> Result<(), Failure> {
        let enqueue = || {
            for _ in 0..launches {
                memory::enqueue(&self.stream, writes)?;
                bound.enqueue()?;
            }
            Ok(())
        };
        let launched = enqueue();
        let waited = self.stream.synchronize();
        launched?;
        waited.map_err(|error| error.failure("in the kernel"))
    }

    fn two_clocks(&mut self, bound: &CudaBound, launches: u32) -> Result<Option<TwoClocks>, Failure> {
        let timer = GlobalTimer::new(self.driver, &self.context, &self.stream, &self.limits)?;
        let times = timer.time(bound, launches);
        if times.is_err() {
            let _ = self.stream.synchronize();
        }
        times.map(Some)
    }

    fn energy(&mut self) -> Result<Energy, String> {
        self.clocks.energy()
    }

    fn in_use(&mut self) -> Option<String> {
        self.clocks.in_use()
    }

    fn sm_clock(&mut self) -> Option<SmClock> {
        self.clocks.taken()
    }
}

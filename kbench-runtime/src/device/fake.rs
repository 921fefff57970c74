//! A model of a device: kernels with a stated time and a stated fault, for tests without a device. Above 400 lines: the
//! model, its faults and the whole `Device` trait in one place.
//!
//! The machine code is a [`Model`] in JSON. A kernel without a fault fills its last pointer argument with zero bytes,
//! which are 0 in every element type, so that a model without a fault can be the reference of every other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, raise, signal};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::{
    BoundArg, BoundLaunch, Device, DisturbanceCheck, Energy, Purpose, Range, Region, Resolution, Sample, Write,
};
use crate::data::digest::{digest, key};
use crate::protocol::{CacheMode, DeviceInfo, Disturbance, Failure, LaunchMode, SmClock, TwoClocks};

/// The machine code of a fake kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Nanoseconds a launch.
    pub time_ns: f64,
    /// Standard deviation of the samples, relative to `time_ns`.
    #[serde(default = "default_noise")]
    pub noise: f64,
    /// Fault of the kernel.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Real time of a launch in milliseconds, so that a test can interrupt a run.
    #[serde(default)]
    pub delay_ms: u64,
    /// Power during a launch, in watts.
    #[serde(default = "default_power")]
    pub power_w: f64,
    /// Growth of the time from each sample to the next, relative to `time_ns`.
    #[serde(default)]
    pub drift: f64,
    /// The first sample during throttling, and the first one after it; samples between take twice as long.
    #[serde(default)]
    pub throttled: Option<(u64, u64)>,
    /// Interval of samples that lose the core once, and take three times as long by the clock, not by processor time.
    #[serde(default)]
    pub preempted: Option<u64>,
    /// Whether another process uses the device meanwhile.
    #[serde(default)]
    pub beside_others: bool,
    /// Number of threads: with several, processor time does not determine the time.
    #[serde(default = "default_threads")]
    pub threads: u32,
    /// Number of launches of the process, of any kernels, after which the next launch of this kernel kills the process
    /// as if from outside.
    #[serde(default)]
    pub killed_after: Option<u64>,
}

fn default_noise() -> f64 {
    0.002
}

fn default_threads() -> u32 {
    1
}

fn default_power() -> f64 {
    100.0
}

/// Faults of a fake kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Writes bytes 0x40 instead of zeros: an error of at least 2 in every element type.
    Wrong,
    /// Writes bytes 0xff: NaN in every floating-point type.
    Nan,
    /// Does not write the last quarter of the output.
    Unwritten,
    /// Writes 16 bytes past the output's end.
    OutOfBounds,
    /// Changes the first byte of its first pointer argument.
    ClobberInput,
    /// Writes zeros only where it finds 0xff.
    Stale,
    /// Writes another first byte every other launch.
    Unrepeatable,
    /// Is wrong if the same code is loaded already.
    WrongAgain,
    /// Writes the byte that it finds in on-chip memory.
    Uninitialised,
    /// Keeps the results of eight inputs, distinguished by their first bytes, and takes a twentieth of the time for
    /// them.
    Memoises,
    /// Does nothing, in the time of its work, if the first byte of the output is right.
    LeavesAlone,
    /// Takes a twentieth of the time if the whole output is right.
    Skips,
    /// Takes a twentieth of the time in a launch that follows another one of a batch.
    BackToBack,
    /// Is refused at launch.
    LaunchRefused,
    /// Reads memory that is not its own.
    IllegalAccess,
    /// Needs more memory than there is.
    OutOfMemory,
    /// Never ends.
    Hang,
    /// Ends the process with SIGSEGV.
    Segfault,
    /// Ends the process with SIGABRT.
    Abort,
}

/// Share of its time that a launch with less work takes.
const FAST: f64 = 0.05;

/// Nanoseconds that a pause adds to the next launch.
const PAUSED: f64 = 150.0;

/// The model device.
#[derive(Debug)]
pub struct FakeDevice {
    pub(crate) info: DeviceInfo,
    /// The shortest sample in nanoseconds.
    pub(crate) shortest_sample: f64,
    /// Whether other programs use the device at each of the next questions, one bit a question.
    pub(crate) users: Cell<u128>,
    /// Whether a sample since the last check was throttled.
    throttled: bool,
    /// Readings of the clock, in MHz.
    clocks: Vec<u32>,
    /// Joules of all launches.
    joules: f64,
    /// Whether another process used the device since the last check.
    in_use: bool,
    /// Launch mode of a sample.
    launch: LaunchMode,
    /// The byte that fills on-chip memory.
    on_chip: Rc<Cell<u8>>,
    /// Loaded kernels, by the hash of their code.
    loaded: HashMap<[u8; 32], Weak<Cell<u64>>>,
    /// Launches of all kernels.
    pub(crate) launches: Rc<Cell<u64>>,
    /// Factor on times: `KBENCH_FAKE_SLOWNESS` in the environment.
    slowness: f64,
}

/// Nanoseconds of a launch beside the time of its model.
fn launch_cost(launch: LaunchMode) -> f64 {
    match launch {
        LaunchMode::Graph => 0.0,
        LaunchMode::Stream => 4e3,
        LaunchMode::Host => 9e3,
    }
}

/// Memory of the model device.
pub type Buffer = Rc<RefCell<Vec<u8>>>;

/// A loaded model.
#[derive(Debug, Clone)]
pub struct Kernel {
    model: Model,
    seed: [u8; 32],
    launches: Rc<Cell<u64>>,
    /// Launches of all kernels of the device.
    of_device: Rc<Cell<u64>>,
    /// Whether the same code was loaded already.
    is_second: bool,
    on_chip: Rc<Cell<u8>>,
    /// First bytes of inputs whose results are kept.
    kept: Rc<RefCell<Vec<Vec<u8>>>>,
    /// Whether the last launch did less work.
    is_fast: Rc<Cell<bool>>,
}

/// A model with its arguments.
#[derive(Debug)]
pub struct Bound {
    kernel: Kernel,
    pointers: Vec<Region<Buffer>>,
    samples: u64,
}

impl FakeDevice {
    /// Opens a model device; every index exists, and devices of odd index have no energy counter.
    pub fn open(index: u32) -> Self {
        let info = DeviceInfo::fake(index);
        Self {
            info,
            shortest_sample: 0.0,
            users: Cell::default(),
            throttled: false,
            clocks: Vec::new(),
            joules: 0.0,
            in_use: false,
            launch: LaunchMode::Graph,
            on_chip: Rc::default(),
            loaded: HashMap::new(),
            launches: Rc::default(),
            slowness: std::env::var("KBENCH_FAKE_SLOWNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0),
        }
    }
}

impl Kernel {
    /// Looks up the first bytes of the inputs among those with kept results.
    fn look_up(&self, first: &[u8]) {
        let mut kept = self.kept.borrow_mut();
        self.is_fast.set(kept.iter().any(|kept| kept == first));
        if !self.is_fast.get() {
            if kept.len() == 8 {
                kept.remove(0);
            }
            kept.push(first.to_vec());
        }
    }
}

impl Bound {
    fn launch(&self) -> Result<(), Failure> {
        let launches = self.kernel.launches.get() + 1;
        self.kernel.launches.set(launches);
        let of_device = self.kernel.of_device.get() + 1;
        self.kernel.of_device.set(of_device);
        if self.kernel.model.killed_after.is_some_and(|after| of_device > after) {
            die(Signal::SIGKILL);
        }
        let fault = self.kernel.model.fault;
        match fault {
            Some(Fault::LaunchRefused) => return Err(Failure::LaunchRefused { message: "a fake refusal".into() }),
            Some(Fault::IllegalAccess) => return Err(Failure::IllegalAccess { message: "a fake access".into() }),
            Some(Fault::Hang) => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            Some(Fault::Segfault) => die(Signal::SIGSEGV),
            Some(Fault::Abort) => die(Signal::SIGABRT),
            _ => {}
        }
        if fault == Some(Fault::ClobberInput)
            && let [input, _, ..] = &self.pointers[..]
        {
            input.buffer.borrow_mut()[input.offset] ^= 0xff;
        }
        if fault == Some(Fault::Memoises)
            && let [input, _, ..] = &self.pointers[..]
        {
            self.kernel.look_up(&input.buffer.borrow()[input.offset..][..input.bytes.min(8)]);
        }
        let Some(output) = self.pointers.last() else { return Ok(()) };
        let mut memory = output.buffer.borrow_mut();
        let end = output.offset + output.bytes;
        if fault == Some(Fault::OutOfBounds) {
            let past = (end + 16).min(memory.len());
            memory[end..past].fill(0);
        }
        let output = &mut memory[output.offset..end];
        match fault {
            Some(Fault::Wrong) => output.fill(0x40),
            Some(Fault::WrongAgain) if self.kernel.is_second => output.fill(0x40),
            Some(Fault::Nan) => output.fill(0xff),
            Some(Fault::Uninitialised) => output.fill(self.kernel.on_chip.get()),
            Some(Fault::Unwritten) => {
                // A multiple of 8 bytes, so that no element is half written.
                let written = output.len() * 3 / 4 / 8 * 8;
                output[..written].fill(0);
            }
            Some(Fault::LeavesAlone) if output.first() == Some(&0) => {}
            Some(Fault::Skips) => {
                self.kernel.is_fast.set(output.iter().all(|byte| *byte == 0));
                output.fill(0);
            }
            Some(Fault::Stale) => {
                for byte in output {
                    *byte = if *byte == 0xff { 0 } else { 0x40 };
                }
            }
            _ => output.fill(0),
        }
        Ok(())
    }
}

/// Ends the process by a signal, without the handler of Rust's standard library for stack overflows.
fn die(with: Signal) -> ! {
    // SAFETY: the default action is no handler, so nothing runs in signal context.
    let _ = unsafe { signal(with, SigHandler::SigDfl) };
    let _ = raise(with);
    std::process::abort()
}

impl Device for FakeDevice {
    type Buffer = Buffer;
    type Kernel = Kernel;
    type Bound = Bound;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn load(&mut self, code: &[u8], _entries: &[&str], _purpose: Purpose) -> Result<Kernel, Failure> {
        let model: Model =
            serde_json::from_slice(code).map_err(|error| Failure::LoadFailed { message: error.to_string() })?;
        let (seed, launches) = (*blake3::hash(code).as_bytes(), Rc::default());
        let before = self.loaded.insert(seed, Rc::downgrade(&launches));
        let is_second = before.is_some_and(|before| before.upgrade().is_some());
        let on_chip = Rc::clone(&self.on_chip);
        let of_device = Rc::clone(&self.launches);
        Ok(Kernel { model, seed, launches, of_device, is_second, on_chip, kept: Rc::default(), is_fast: Rc::default() })
    }

    fn alloc(&mut self, bytes: usize) -> Result<Buffer, Failure> {
        if bytes as u64 > self.info.memory_bytes {
            return Err(Failure::OutOfMemory { bytes: bytes as u64 });
        }
        Ok(Rc::new(RefCell::new(vec![0xa5; bytes])))
    }

    fn upload(&mut self, buffer: &Buffer, offset: usize, data: &[u8]) -> Result<(), Failure> {
        buffer.borrow_mut()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn download(&mut self, buffer: &Buffer, offset: usize, data: &mut [u8]) -> Result<(), Failure> {
        data.copy_from_slice(&buffer.borrow()[offset..offset + data.len()]);
        Ok(())
    }

    fn digests(&mut self, ranges: &[Range<'_, Buffer>]) -> Result<Option<Vec<u64>>, Failure> {
        let one = |range: &Range<'_, Buffer>| digest(&range.buffer.borrow()[range.offset..][..range.bytes], key());
        Ok(Some(ranges.iter().map(one).collect()))
    }

    fn fill(&mut self, buffer: &Buffer, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure> {
        buffer.borrow_mut()[offset..offset + bytes].fill(byte);
        Ok(())
    }

    fn write(&mut self, writes: &[Write<Buffer>]) -> Result<(), Failure> {
        for write in writes {
            match write {
                Write::Vary { .. } => {}
                Write::Fill { buffer, offset, bytes, byte } => self.fill(buffer, *offset, *bytes, *byte)?,
                Write::Copy { from, from_offset, to, offset, bytes } => {
                    let from = &from.borrow()[*from_offset..][..*bytes];
                    to.borrow_mut()[*offset..][..*bytes].copy_from_slice(from);
                }
            }
        }
        Ok(())
    }

    fn set_symbol(&mut self, _kernel: &Kernel, _symbol: &str, _data: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    fn bind(&mut self, kernel: &Kernel, launches: &[BoundLaunch<Buffer>]) -> Result<Bound, Failure> {
        if kernel.model.fault == Some(Fault::OutOfMemory) {
            return Err(Failure::OutOfMemory { bytes: u64::MAX });
        }
        let pointers = launches.iter().flat_map(|launch| &launch.args).flat_map(BoundArg::regions).cloned().collect();
        Ok(Bound { kernel: kernel.clone(), pointers, samples: 0 })
    }

    fn poison_on_chip(&mut self, byte: u8) -> Result<(), Failure> {
        self.on_chip.set(byte);
        Ok(())
    }

    fn run(&mut self, bound: &Bound) -> Result<(), Failure> {
        std::thread::sleep(Duration::from_millis(bound.kernel.model.delay_ms));
        bound.launch()?;
        self.joules += bound.kernel.model.power_w * bound.kernel.model.time_ns * 1e-9;
        if bound.kernel.model.fault == Some(Fault::Unrepeatable)
            && bound.kernel.launches.get().is_multiple_of(2)
            && let Some(output) = bound.pointers.last()
        {
            output.buffer.borrow_mut()[output.offset] = 0x40;
        }
        Ok(())
    }

    fn launch_as(&mut self, mode: LaunchMode) {
        self.launch = mode;
    }

    fn sample_after(
        &mut self,
        writes: &[Write<Buffer>],
        bound: &mut Bound,
        batch: u32,
        _cache: CacheMode,
    ) -> Result<Sample, Failure> {
        self.write(writes)?;
        // The sum over the launches, and their mean.
        let mut share = 0.0;
        for launch in 0..batch {
            self.run(bound)?;
            let follows = launch > 0 && bound.kernel.model.fault == Some(Fault::BackToBack);
            share += if bound.kernel.is_fast.get() || follows { FAST } else { 1.0 };
        }
        share /= f64::from(batch);
        let mut rng = ChaCha8Rng::from_seed(bound.kernel.seed);
        rng.set_stream(bound.samples);
        bound.samples += 1;
        let Model { time_ns, noise, drift, throttled, preempted, .. } = bound.kernel.model;
        let number = bound.samples;
        let throttled = throttled.is_some_and(|(from, to)| (from..to).contains(&number));
        let preempted = preempted.is_some_and(|every| number.is_multiple_of(every));
        self.throttled |= throttled;
        self.in_use |= bound.kernel.model.beside_others;
        let deviation: f64 = StandardNormal.sample(&mut rng);
        let longer = if throttled { 2.0 } else { 1.0 };
        let time = self.slowness * time_ns * longer * share * (1.0 + noise * deviation + drift * (number - 1) as f64);
        let time = time.max(f64::MIN_POSITIVE) + launch_cost(self.launch);
        Ok(Sample {
            nanoseconds: if preempted { 3.0 * time } else { time },
            cpu_nanoseconds: Some(time),
            preemptions: u32::from(preempted),
            waits: 0,
            exposed: false,
            disturbance: preempted.then_some(Disturbance::InvoluntaryContextSwitch),
        })
    }

    fn sample_after_pause(
        &mut self,
        writes: &[Write<Buffer>],
        bound: &mut Bound,
        _pause: Duration,
    ) -> Result<Option<Sample>, Failure> {
        let sample = self.sample_after(writes, bound, 1, CacheMode::Hot)?;
        Ok(Some(Sample { nanoseconds: sample.nanoseconds + PAUSED, ..sample }))
    }

    fn is_in_use(&self) -> bool {
        let users = self.users.get();
        self.users.set(users >> 1);
        users & 1 == 1
    }

    fn clock(&self, _bound: &Bound, _batch: u32) -> &'static str {
        "fake"
    }

    /// The second clock of the model runs 1 % fast.
    fn two_clocks(&mut self, bound: &Bound, launches: u32) -> Result<Option<TwoClocks>, Failure> {
        let first_ns = bound.kernel.model.time_ns;
        let (first, second) = ("fake".to_owned(), "fake-fast".to_owned());
        Ok(Some(TwoClocks { first, first_ns, second, second_ns: 1.01 * first_ns, launches }))
    }

    fn energy(&mut self) -> Result<Energy, String> {
        if !self.info.index.is_multiple_of(2) {
            return Err("this model device has no energy counter".to_owned());
        }
        Ok(Energy { joules: self.joules, window: Duration::ZERO })
    }

    fn resolution(&mut self) -> Result<Resolution, Failure> {
        Ok(Resolution::default())
    }

    fn shortest_sample(&mut self) -> Result<f64, Failure> {
        Ok(self.shortest_sample)
    }

    fn check_disturbance(&mut self, now: bool) -> DisturbanceCheck {
        let throttled = std::mem::take(&mut self.throttled);
        if throttled || now {
            self.clocks.push(if throttled { 500 } else { 1000 });
        }
        match (throttled, now) {
            (true, _) => DisturbanceCheck::Disturbed(Disturbance::Throttled),
            (false, true) => DisturbanceCheck::Undisturbed,
            (false, false) => DisturbanceCheck::NotDue,
        }
    }

    fn in_use(&mut self) -> Option<String> {
        std::mem::take(&mut self.in_use).then(|| "another process".to_owned())
    }

    fn core(&self, bound: &Bound) -> Option<u32> {
        (bound.kernel.model.threads == 1).then_some(0)
    }

    fn sm_clock(&mut self) -> Option<SmClock> {
        SmClock::of(&mut std::mem::take(&mut self.clocks), 1000, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Geometry;

    fn bound(json: &str) -> Result<(FakeDevice, Bound, Buffer, Buffer), Failure> {
        let mut device = FakeDevice::open(0);
        let kernel = device.load(json.as_bytes(), &["k"], Purpose::Kernel)?;
        let input = device.alloc(64)?;
        let output = device.alloc(128)?;
        let args = vec![
            BoundArg::Pointer(Region { tensor: 0, buffer: input.clone(), offset: 0, bytes: 64 }),
            BoundArg::Scalar(vec![1]),
            BoundArg::Pointer(Region { tensor: 1, buffer: output.clone(), offset: 32, bytes: 64 }),
        ];
        let bound = device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args)])?;
        Ok((device, bound, input, output))
    }

    #[test]
    fn a_good_kernel_writes_its_output_and_nothing_else() {
        let (mut device, bound, input, output) = bound(r#"{"time_ns":1000}"#).unwrap();
        device.run(&bound).unwrap();
        assert_eq!(output.borrow()[32..96], [0; 64]);
        assert_eq!(output.borrow()[..32], [0xa5; 32]);
        assert_eq!(output.borrow()[96..], [0xa5; 32]);
        assert_eq!(input.borrow()[..], [0xa5; 64]);
    }

    #[test]
    fn samples_depend_on_the_code_and_their_number_only() {
        let take = |json: &str| -> Vec<f64> {
            let (mut device, mut bound, ..) = bound(json).unwrap();
            (0..50).map(|_| device.sample(&mut bound, 1, CacheMode::Cold).unwrap()).collect()
        };
        let samples = take(r#"{"time_ns":1000}"#);
        assert_eq!(samples, take(r#"{"time_ns":1000}"#));
        assert_ne!(samples, take(r#"{"time_ns":1000.0}"#));
        assert!(samples.iter().all(|sample| (sample - 1000.0).abs() < 10.0), "{samples:?}");
        assert_eq!(take(r#"{"time_ns":5,"noise":0}"#), vec![5.0; 50]);
    }

    #[test]
    fn failures_are_typed() {
        let failure = |fault: &str| {
            bound(&format!(r#"{{"time_ns":1,"fault":"{fault}"}}"#))
                .and_then(|(mut device, bound, ..)| device.run(&bound))
                .unwrap_err()
        };
        assert!(matches!(failure("launch-refused"), Failure::LaunchRefused { .. }));
        assert!(matches!(failure("illegal-access"), Failure::IllegalAccess { .. }));
        assert!(matches!(failure("out-of-memory"), Failure::OutOfMemory { .. }));
        assert!(matches!(failure("no-such-fault"), Failure::LoadFailed { .. }));
    }
}

//! Times below what the device can do, which show that a kernel skips work or forges its time.
//!
//! No right kernel can exceed the bounds, wherever its data lie. Operations take the time of the device's fastest units
//! for numbers of that size. Data that no cache can hold come from memory at the rate of a copy; data that a cache may
//! hold pass between it and the cores at the largest number of bytes a cycle that a core loads and stores. Without
//! `work` the outputs are written once. Bytes in `work` count up to the size of all tensors together.

use kbench_runtime::protocol::{DeviceInfo, DeviceKind, Role, TensorSpec};

use crate::profile::ceilings::{Ceilings, Peak};
use crate::record::evaluation::{GateName, Reason, Rejection, TimingRecord};

/// Share of the possible time below which a measured time is rejected: clocks, ceilings and counts are not exact.
const POSSIBLE: f64 = 0.8;

/// Largest number of bytes that a multiprocessor, or a core of a CPU, loads and stores in a cycle.
const GPU_BYTES: f64 = 128.0;
const CPU_BYTES: f64 = 192.0;

/// Largest clock of a CPU in Hz: the reported clock may be without boost.
const CPU_CLOCK: f64 = 6e9;

/// Factor for a CPU: a copy reads its destination too, so that reading alone may be twice as fast.
const CPU_READS: f64 = 2.0;

/// Rates below which no time is suspicious, and no ceiling is measured: operations a cycle of a multiprocessor, by
/// bytes of a number, or of a core; bytes a second from memory for each of them.
const GPU_OPERATIONS: [f64; 2] = [8192.0, 4096.0];
const CPU_OPERATIONS: f64 = 32.0;
const GPU_MEMORY: f64 = 25e9;
const CPU_MEMORY: f64 = 25e9;

/// Smallest number of operations and bytes of a launch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Operations, if the table states them.
    flops: Option<f64>,
    /// Moved bytes.
    bytes: f64,
    /// Bytes of the narrowest input number.
    narrowest: usize,
}

impl Demand {
    /// Demand of a case, with the table's `work`.
    pub fn new(tensors: &[TensorSpec], (flops, bytes): (Option<f64>, Option<f64>)) -> Self {
        let sum = |wanted: fn(Role) -> bool| -> f64 {
            tensors.iter().filter(|spec| wanted(spec.role)).map(|spec| spec.bytes() as f64).sum()
        };
        let written = sum(|role| matches!(role, Role::Out | Role::Inout));
        let all = sum(|role| role != Role::Scratch) + sum(Role::is_in_place);
        let read = tensors.iter().filter(|spec| spec.role.is_read());
        Self {
            flops,
            bytes: bytes.map_or(written, |bytes| bytes.min(all)),
            narrowest: read.map(|spec| spec.dtype.size()).min().unwrap_or(1),
        }
    }
}

/// A bound in seconds, with its description.
struct Bound {
    seconds: f64,
    what: String,
}

/// Properties of a device that bound a launch.
struct Limits<'a> {
    info: &'a DeviceInfo,
    demand: &'a Demand,
    /// Number of multiprocessors, or of cores that the kernel may have used.
    cores: f64,
    is_gpu: bool,
}

impl<'a> Limits<'a> {
    fn new(info: &'a DeviceInfo, demand: &'a Demand, timing: &TimingRecord) -> Self {
        let is_alone = timing.sampling.as_ref().is_some_and(|sampling| sampling.core.is_some());
        let is_gpu = info.kind != DeviceKind::Host;
        let cores = if is_alone && !is_gpu { 1.0 } else { f64::from(info.multiprocessors.max(1)) };
        Self { info, demand, cores, is_gpu }
    }

    fn clock(&self) -> f64 {
        let clock = f64::from(self.info.clock_khz) * 1e3;
        if self.is_gpu && clock > 0.0 { clock } else { clock.max(CPU_CLOCK) }
    }

    /// Number of bytes beyond every cache.
    fn beyond_cache(&self) -> f64 {
        (self.demand.bytes - self.info.cache_bytes as f64).max(0.0)
    }

    fn on_chip(&self) -> Bound {
        let rate = self.cores * self.clock() * if self.is_gpu { GPU_BYTES } else { CPU_BYTES };
        let what = format!("to load and store {:.0} bytes at {:.0} GB/s", self.demand.bytes, rate / 1e9);
        Bound { seconds: self.demand.bytes / rate, what }
    }

    /// Whether a time is so short that the ceilings have to be measured.
    fn is_suspicious(&self, seconds: f64) -> bool {
        let operations = if self.is_gpu {
            self.clock() * GPU_OPERATIONS[usize::from(self.demand.narrowest > 1)]
        } else {
            CPU_CLOCK * CPU_OPERATIONS
        };
        let memory = if self.is_gpu { GPU_MEMORY } else { CPU_MEMORY };
        self.demand.flops.unwrap_or(0.0) > self.cores * operations * seconds
            || self.beyond_cache() > self.cores * memory * seconds
    }

    /// The bounds by measured ceilings.
    fn measured(&self, ceilings: &Ceilings) -> Vec<Bound> {
        let mut bounds = Vec::new();
        let peak = match (self.is_gpu, self.demand.narrowest) {
            (true, 1) => Some(Peak::TensorF8),
            (true, _) => Some(Peak::TensorF16),
            (false, 4..) => Some(Peak::Fp32),
            // Units for narrow numbers differ too much between CPUs.
            (false, _) => None,
        };
        if let (Some(flops), Some(ceiling)) = (self.demand.flops, peak.and_then(|peak| ceilings.of(peak))) {
            let rate = ceiling.rate * if self.is_gpu { 1.0 } else { self.cores };
            bounds.push(Bound { seconds: flops / rate, what: format!("for {flops:.3e} operations at {ceiling}") });
        }
        if let Some(ceiling) = ceilings.of(Peak::Copy).filter(|_| self.beyond_cache() > 0.0) {
            let rate = ceiling.rate * if self.is_gpu { 1.0 } else { self.cores * CPU_READS };
            let bytes = self.beyond_cache();
            bounds.push(Bound { seconds: bytes / rate, what: format!("for {bytes:.3e} bytes from memory, {ceiling}") });
        }
        bounds
    }
}

/// Which ceilings are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Those that are known, or else measured ones.
    Known,
    /// Those that are at least as high as a new measurement.
    Confirmed,
}

/// Reason why a time is impossible; none if it is possible. `ceilings` is called only for a suspicious time. Known ceilings
/// may have been measured on a busy machine, so they reject no time alone.
pub fn judge<E>(
    info: &DeviceInfo,
    demand: &Demand,
    timing: &TimingRecord,
    mut ceilings: impl FnMut(Asked) -> Result<Option<Ceilings>, E>,
) -> Result<Option<Rejection>, E> {
    let limits = Limits::new(info, demand, timing);
    let seconds = timing.summary.p50 * 1e-9;
    let is_broken = |bound: &Bound| seconds < POSSIBLE * bound.seconds;
    let mut broken = Some(limits.on_chip()).filter(is_broken);
    if broken.is_none() && limits.is_suspicious(seconds) {
        for asked in [Asked::Known, Asked::Confirmed] {
            broken = ceilings(asked)?.and_then(|ceilings| limits.measured(&ceilings).into_iter().find(is_broken));
            if broken.is_none() {
                break;
            }
        }
    }
    Ok(broken.map(|Bound { seconds: possible, what }| {
        let message = format!(
            "p50 of {:.3} µs is less than the {:.3} µs that this device needs at least {what}; unless `work` counts too much, \
             the work is not done, or the time is forged",
            seconds * 1e6,
            possible * 1e6
        );
        Rejection::new(GateName::Correctness, Reason::Impossible, message, Some(&timing.shape))
    }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kbench_runtime::dtype::DType;
    use kbench_runtime::protocol::{Sampling, Source};
    use kbench_runtime::stats::Summary;

    use super::*;
    use crate::profile::ceilings::Ceiling;

    fn tensor(name: &str, dtype: DType, elements: u64, role: Role) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, dims: vec![elements], role, source: Source::None }
    }

    fn device(kind: DeviceKind, multiprocessors: u32, clock_khz: u32, cache_bytes: u64) -> DeviceInfo {
        DeviceInfo {
            kind,
            index: 0,
            name: "d".into(),
            driver: "1".into(),
            compute_capability: None,
            multiprocessors,
            memory_bytes: 80 << 30,
            cache_bytes,
            max_threads_per_block: 1024,
            max_shared_per_block: 1 << 16,
            clock_khz,
        }
    }

    fn h100() -> DeviceInfo {
        device(DeviceKind::Cuda, 132, 1_980_000, 50 << 20)
    }

    /// Ceilings of an H100, and of one core of an EPYC.
    fn measured(rates: &[(Peak, f64)]) -> Ceilings {
        let ceilings = rates.iter().map(|&(peak, rate)| Ceiling { peak, rate, how: "x".into() }).collect();
        Ceilings::new((&h100()).into(), ceilings, String::new())
    }

    fn is_impossible(info: &DeviceInfo, demand: &Demand, microseconds: f64) -> bool {
        let rates = if info.kind == DeviceKind::Cuda {
            vec![(Peak::Copy, 3.0e12), (Peak::Fp32, 60e12), (Peak::TensorF16, 800e12), (Peak::TensorF8, 1600e12)]
        } else {
            vec![(Peak::Copy, 20e9), (Peak::Fp32, 200e9)]
        };
        let timing = TimingRecord {
            shape: "s".into(),
            summary: Summary::of(&[microseconds * 1e3; 10]).unwrap(),
            batch: 1,
            clock: "fake".into(),
            sampling: Some(Sampling { core: Some(0), ..Sampling::default() }),
        };
        let judged = judge(info, demand, &timing, |_| Ok::<_, Infallible>(Some(measured(&rates)))).unwrap();
        judged.is_some_and(|rejection| rejection.code == Reason::Impossible)
    }

    #[test]
    fn operations_and_bytes_beyond_all_caches_take_their_time() {
        let n = 4096_u64;
        let product = |dtype| {
            let tensors = [
                tensor("a", dtype, n * n, Role::In),
                tensor("b", dtype, n * n, Role::In),
                tensor("c", DType::F32, n * n, Role::Out),
            ];
            Demand::new(&tensors, (Some(2.0 * (n as f64).powi(3)), None))
        };
        // 137 GFLOP: 172 µs at 800 TFLOP/s.
        assert!(!is_impossible(&h100(), &product(DType::F16), 180.0));
        assert!(is_impossible(&h100(), &product(DType::F16), 100.0));
        assert!(!is_impossible(&h100(), &product(DType::F8e4m3), 100.0));
        let copied = [tensor("x", DType::F32, 1 << 28, Role::In), tensor("y", DType::F32, 1 << 28, Role::Out)];
        let copy = Demand::new(&copied, (None, Some(f64::from(1_u32 << 31))));
        assert!(!is_impossible(&h100(), &copy, 680.0), "3.1 TB/s");
        assert!(is_impossible(&h100(), &copy, 400.0));
        let overstated = Demand::new(&copied, (None, Some(1e15)));
        assert_eq!(overstated, copy, "no more than there is");
    }

    #[test]
    fn ceilings_of_a_busy_machine_reject_no_time_alone() {
        let cpu = device(DeviceKind::Host, 2, 0, 32 << 20);
        let demand = Demand { flops: Some(268e6), bytes: 0.0, narrowest: 4 };
        let timing = TimingRecord {
            shape: "s".into(),
            summary: Summary::of(&[1.2e6; 10]).unwrap(),
            batch: 1,
            clock: "fake".into(),
            sampling: Some(Sampling { core: Some(0), ..Sampling::default() }),
        };
        let judged = |known: f64, confirmed: Option<f64>| {
            let mut calls = Vec::new();
            let found = judge(&cpu, &demand, &timing, |asked| {
                calls.push(asked);
                let rate = if asked == Asked::Known { Some(known) } else { confirmed };
                Ok::<_, Infallible>(rate.map(|rate| measured(&[(Peak::Fp32, rate)])))
            });
            (found.unwrap().is_some(), calls)
        };
        let both = vec![Asked::Known, Asked::Confirmed];
        assert_eq!(judged(200e9, None), (false, vec![Asked::Known]), "1340 µs are needed");
        assert_eq!(judged(100e9, Some(200e9)), (false, both.clone()));
        assert_eq!(judged(100e9, Some(110e9)), (true, both.clone()));
        assert_eq!(judged(100e9, None), (false, both), "nothing confirms it");
    }

    #[test]
    fn stated_bytes_count_up_to_what_is_read_and_written() {
        let bytes = |roles: &[Role], stated: Option<f64>| {
            let tensors: Vec<TensorSpec> = roles.iter().map(|&role| tensor("t", DType::F32, 25, role)).collect();
            Demand::new(&tensors, (None, stated)).bytes.to_bits()
        };
        let most = |roles: &[Role]| bytes(roles, Some(1e9));
        assert_eq!(most(&[Role::In, Role::Out]), 200.0_f64.to_bits());
        assert_eq!(most(&[Role::In, Role::Inout]), 300.0_f64.to_bits(), "what is changed in place is read and written");
        assert_eq!(most(&[Role::In, Role::Out, Role::Scratch]), 200.0_f64.to_bits(), "scratch may stay in the cores");
        assert_eq!(bytes(&[Role::In, Role::Out], Some(50.0)), 50.0_f64.to_bits());
        assert_eq!(bytes(&[Role::In, Role::Out, Role::Inout], None), 200.0_f64.to_bits(), "what is written");
    }

    #[test]
    fn bytes_within_caches_are_bounded_by_loads_of_the_cores() {
        let tensors = [tensor("x", DType::F32, 20_000, Role::In), tensor("y", DType::F32, 20_000, Role::Out)];
        let silent = Demand::new(&tensors, (None, None));
        let stated = Demand::new(&tensors, (Some(20_000.0), Some(160_000.0)));
        let core = device(DeviceKind::Host, 2, 2_600_000, 32 << 20);
        // 160 kB at 1152 GB/s are 139 ns.
        assert!(is_impossible(&core, &stated, 0.05) && !is_impossible(&core, &stated, 0.2));
        assert!(is_impossible(&core, &silent, 0.05) && !is_impossible(&core, &silent, 0.07));
        assert!(!is_impossible(&h100(), &stated, 0.61), "an empty kernel's time");
    }

    #[test]
    fn a_cpu_is_as_fast_as_its_cores() {
        let n = 512_u64;
        let tensors = [tensor("a", DType::F32, n * n, Role::In), tensor("c", DType::F32, n * n, Role::Out)];
        let demand = Demand::new(&tensors, (Some(2.0 * (n as f64).powi(3)), None));
        let core = device(DeviceKind::Host, 2, 0, 32 << 20);
        // 268 MFLOP at 200 GFLOP/s: 1342 µs.
        assert!(!is_impossible(&core, &demand, 1200.0) && is_impossible(&core, &demand, 900.0));
        let half = Demand { narrowest: 2, ..demand };
        assert!(!is_impossible(&core, &half, 900.0));
    }

    #[test]
    fn times_are_suspicious_above_the_rates_that_any_device_has() {
        let (gpu, cpu) = (h100(), device(DeviceKind::Host, 2, 2_600_000, 32 << 20));
        // Operations, or bytes beyond the cache, and the size of a number, against the largest amount in a millisecond
        // without suspicion.
        for (info, flops, beyond, narrowest, most) in [
            (&gpu, 1.0, 0.0, 1, 132.0 * 1.98e9 * 8192.0 * 1e-3),
            (&gpu, 1.0, 0.0, 2, 132.0 * 1.98e9 * 4096.0 * 1e-3),
            (&gpu, 0.0, 1.0, 4, 132.0 * 25e9 * 1e-3),
            (&cpu, 1.0, 0.0, 4, 2.0 * 6e9 * 32.0 * 1e-3),
            (&cpu, 0.0, 1.0, 4, 2.0 * 25e9 * 1e-3),
        ] {
            let is_suspicious = |amount: f64| {
                let bytes = info.cache_bytes as f64 * beyond + amount * beyond;
                let demand = Demand { flops: Some(flops * amount), bytes, narrowest };
                let (cores, is_gpu) = (f64::from(info.multiprocessors), info.kind != DeviceKind::Host);
                Limits { info, demand: &demand, cores, is_gpu }.is_suspicious(1e-3)
            };
            assert!(!is_suspicious(0.999 * most) && is_suspicious(1.001 * most), "{:?} {narrowest}", info.kind);
        }
        // For a kernel without work no time is suspicious.
        let nothing = Demand { flops: None, bytes: 0.0, narrowest: 4 };
        for (info, is_gpu) in [(&gpu, true), (&cpu, false)] {
            assert!(!Limits { info, demand: &nothing, cores: 1.0, is_gpu }.is_suspicious(0.0));
        }
    }

    #[test]
    fn the_ceiling_of_one_core_applies_to_each_core() {
        let rates = measured(&[(Peak::Copy, 20e9), (Peak::Fp32, 200e9), (Peak::TensorF16, 800e12)]);
        let seconds = |info: &DeviceInfo, beyond: f64| {
            let bytes = info.cache_bytes as f64 + beyond;
            let demand = Demand { flops: Some(8e11), bytes, narrowest: 4 };
            let is_gpu = info.kind != DeviceKind::Host;
            let bounds = Limits { info, demand: &demand, cores: 4.0, is_gpu }.measured(&rates);
            bounds.iter().map(|bound| bound.seconds).collect::<Vec<_>>()
        };
        // Four cores, and reading alone is twice as fast as a copy.
        let cpu = device(DeviceKind::Host, 4, 2_600_000, 32 << 20);
        assert_eq!(seconds(&cpu, 16e10), [1.0, 1.0]);
        assert_eq!(seconds(&cpu, 0.0), [1.0], "caches hold it all");
        assert_eq!(seconds(&h100(), 2e10), [1e-3, 1.0], "a GPU was measured whole");
        // A GPU without a reported clock counts as fast as any core.
        let demand = Demand { flops: None, bytes: 0.0, narrowest: 4 };
        let silent = device(DeviceKind::Cuda, 132, 0, 0);
        let clock = Limits { info: &silent, demand: &demand, cores: 1.0, is_gpu: true }.clock();
        assert!((clock - CPU_CLOCK).abs() < 1.0, "{clock}");
    }

    #[test]
    fn ceilings_are_measured_only_for_suspicious_times() {
        let tensors = [tensor("x", DType::F32, 1000, Role::In), tensor("y", DType::F32, 1000, Role::Out)];
        let demand = Demand::new(&tensors, (Some(2000.0), Some(8000.0)));
        let timing = TimingRecord {
            shape: "s".into(),
            summary: Summary::of(&[3000.0; 10]).unwrap(),
            batch: 1,
            clock: "fake".into(),
            sampling: None,
        };
        assert_eq!(judge(&h100(), &demand, &timing, |_| Err(())), Ok(None));
    }
}

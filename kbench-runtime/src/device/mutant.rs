//! A device that makes one kernel wrong, for the audit of the gates. Longer than 400 lines: it passes on the whole `Device` trait.
//!
//! This device lies between the checks and the real device, so that the checks do not know of the fault: each launch is
//! the kernel's own, and its outputs are then changed by [`Fault`]. A worker is a mutant from its first line on or
//! never ([`Request::Hello`](crate::protocol::Request::Hello)); another worker has no such device.

mod memo;

use std::cell::RefCell;

use self::memo::Memo;
use super::{
    BoundArg, BoundLaunch, Device, DisturbanceCheck, Energy, Purpose, Range, Region, Resolution, Sample, Write,
};
use crate::data::codec;
use crate::data::digest::Bytes;
use crate::data::dtype::DType;
use crate::data::fingerprint;
use crate::protocol::{CacheMode, DeviceInfo, Failure, Fault, LaunchMode, Mutation, SideEffects, SmClock, TwoClocks};

/// Largest number of elements of a tail.
const TAIL: usize = 16;

/// A device with a fault.
pub struct MutantDevice<D: Device> {
    inner: D,
    mutation: Mutation,
}

/// A kernel, and whether it has the fault.
#[derive(Clone)]
pub struct Kernel<K> {
    inner: K,
    is_mutant: bool,
}

/// A kernel with its arguments, and its outputs if it has the fault.
pub struct Bound<D: Device> {
    inner: D::Bound,
    outputs: Vec<Output<D::Buffer>>,
    input: Option<Region<D::Buffer>>,
    memory: Memo,
}

struct Output<B> {
    region: Region<B>,
    dtype: DType,
    /// A result kept from an earlier launch.
    kept: RefCell<Option<Vec<u8>>>,
}

impl<D: Device> MutantDevice<D> {
    /// A device on which the kernels of the mutation are wrong, and all others unchanged.
    pub fn new(inner: D, mutation: Mutation) -> Self {
        Self { inner, mutation }
    }

    /// The launches that remain with the fault.
    fn left<T: Clone>(&self, launches: &[T]) -> Vec<T> {
        let mut left = launches.to_vec();
        if let Fault::Skipped(index) = self.mutation.fault
            && index < left.len()
        {
            left.remove(index);
        }
        left
    }

    fn download(&mut self, region: &Region<D::Buffer>) -> Result<Vec<u8>, Failure> {
        let mut data = vec![0; region.bytes];
        self.inner.download(&region.buffer, region.offset, &mut data)?;
        Ok(data)
    }

    /// Contents of the outputs before a launch.
    fn before(&mut self, bound: &Bound<D>) -> Result<Vec<Vec<u8>>, Failure> {
        bound.outputs.iter().map(|output| self.download(&output.region)).collect()
    }

    /// Applies the fault to the outputs of a launch.
    fn after(&mut self, bound: &Bound<D>, before: Vec<Vec<u8>>) -> Result<(), Failure> {
        if let Some(input) = bound.input.as_ref().filter(|_| self.mutation.fault == Fault::Clobber) {
            let mut data = self.download(input)?;
            if let Some(last) = data.last_mut() {
                *last ^= 1;
            }
            self.inner.upload(&input.buffer, input.offset, &data)?;
        }
        for (output, before) in bound.outputs.iter().zip(before) {
            let result = self.download(&output.region)?;
            let data = output.spoil(self.mutation.fault, before, result);
            self.inner.upload(&output.region.buffer, output.region.offset, &data)?;
        }
        Ok(())
    }
}

impl<D: Device> MutantDevice<D> {
    /// Part of the input that a kernel with kept results examines.
    fn look(&mut self, bound: &Bound<D>) -> Result<Option<Vec<u8>>, Failure> {
        let Some(input) = bound.input.as_ref().filter(|_| self.mutation.fault == Fault::Memoised) else {
            return Ok(None);
        };
        let mut looked = Vec::new();
        for (at, bytes) in Memo::places(input.bytes) {
            let mut data = vec![0; bytes];
            self.inner.download(&input.buffer, input.offset + at, &mut data)?;
            looked.extend(data);
        }
        Ok(Some(looked))
    }

    /// Writes kept results to the outputs; returns the time of the launch.
    fn cached(&mut self, bound: &Bound<D>, looked: Option<&[u8]>) -> Result<Option<f64>, Failure> {
        let Some((outputs, time)) = looked.and_then(|looked| bound.memory.cached(looked)).zip(bound.memory.time())
        else {
            return Ok(None);
        };
        for (output, data) in bound.outputs.iter().zip(outputs) {
            self.inner.upload(&output.region.buffer, output.region.offset, &data)?;
        }
        Ok(Some(time))
    }

    fn remember(&mut self, bound: &Bound<D>, looked: Option<Vec<u8>>) -> Result<(), Failure> {
        let Some(looked) = looked.filter(|looked| bound.memory.cached(looked).is_none()) else { return Ok(()) };
        let outputs = self.before(bound)?;
        bound.memory.keep(looked, outputs);
        Ok(())
    }
}

impl<B> Output<B> {
    /// The final bytes of the output.
    fn spoil(&self, fault: Fault, before: Vec<u8>, mut result: Vec<u8>) -> Vec<u8> {
        let size = self.dtype.size();
        let elements = result.len() / size;
        match fault {
            Fault::NoOp => before,
            Fault::First => self.kept.borrow_mut().get_or_insert(result).clone(),
            Fault::Late => self.kept.borrow_mut().replace(result).unwrap_or(before),
            Fault::Tail => {
                let tail = (elements.div_ceil(2)).min(TAIL) * size;
                let start = result.len() - tail;
                result[start..].copy_from_slice(&before[start..]);
                result
            }
            Fault::Zeros => vec![0; result.len()],
            Fault::Mean => {
                let values = codec::decode(self.dtype, &result);
                let mean = values.iter().sum::<f64>() / elements.max(1) as f64;
                codec::encode(self.dtype, &[mean]).repeat(elements)
            }
            Fault::Clobber | Fault::Memoised | Fault::Skipped(_) => result,
            Fault::Some { share, by, of_rms } => {
                let values = codec::decode(self.dtype, &result);
                let rms = rms(&values);
                // Evenly distributed; a single element is the middle one.
                let count = ((share * elements as f64) as usize + 1).min(elements);
                for nth in 0..count {
                    let at = (2 * nth + 1) * elements / (2 * count);
                    let offset = by + of_rms * rms.max(values[at].abs());
                    result[at * size..][..size].copy_from_slice(&moved(self.dtype, values[at], offset));
                }
                result
            }
            Fault::All { by, of_rms } => {
                let values = codec::decode(self.dtype, &result);
                let offset = by + of_rms * rms(&values);
                values.iter().flat_map(|value| moved(self.dtype, *value, offset)).collect()
            }
            Fault::Scale { by } => {
                let values = codec::decode(self.dtype, &result);
                values.iter().flat_map(|value| moved(self.dtype, *value, by * value)).collect()
            }
        }
    }
}

fn rms(values: &[f64]) -> f64 {
    // Relative to the largest value, since squares overflow early.
    let largest =
        values.iter().filter(|value| value.is_finite()).fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let squares = values.iter().map(|value| (value / largest).powi(2)).sum::<f64>();
    if largest > 0.0 { largest * (squares / values.len() as f64).sqrt() } else { 0.0 }
}

/// A value changed by at least `offset` in any type; downwards if there is no room.
fn moved(dtype: DType, value: f64, offset: f64) -> Vec<u8> {
    if offset == 0.0 || !value.is_finite() {
        return codec::encode(dtype, &[value]);
    }
    for direction in [1.0, -1.0] {
        // The smallest further step of the type: from a few parts in a billion, for values that f32 rounds down, to the
        // next number of a coarse type.
        for step in 0..64 {
            let further = 1.0 + 1e-9 * f64::from(step).exp2();
            let bytes = codec::encode(dtype, &[value + direction * offset * further]);
            let there = codec::decode(dtype, &bytes)[0];
            if !there.is_finite() {
                break;
            }
            if (there - value).abs() >= offset.abs() {
                return bytes;
            }
        }
    }
    codec::encode(dtype, &[value + offset])
}

impl<D: Device> Device for MutantDevice<D> {
    type Buffer = D::Buffer;
    type Kernel = Kernel<D::Kernel>;
    type Bound = Bound<D>;

    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn use_plain_allocations(&mut self) {
        self.inner.use_plain_allocations();
    }

    fn poison_on_chip(&mut self, byte: u8) -> Result<(), Failure> {
        self.inner.poison_on_chip(byte)
    }

    fn side_effects(&mut self) -> SideEffects {
        self.inner.side_effects()
    }

    fn limit(&mut self, launch: std::time::Duration) {
        self.inner.limit(launch);
    }

    fn load(&mut self, code: &[u8], entries: &[&str], purpose: Purpose) -> Result<Self::Kernel, Failure> {
        let hash = fingerprint::of_bytes(code);
        let is_mutant = purpose != Purpose::Reference && self.mutation.blobs.contains(&hash);
        let entries = if is_mutant { self.left(entries) } else { entries.to_vec() };
        Ok(Kernel { inner: self.inner.load(code, &entries, purpose)?, is_mutant })
    }

    fn alloc(&mut self, bytes: usize) -> Result<D::Buffer, Failure> {
        self.inner.alloc(bytes)
    }

    fn upload(&mut self, buffer: &D::Buffer, offset: usize, data: &[u8]) -> Result<(), Failure> {
        self.inner.upload(buffer, offset, data)
    }

    fn download(&mut self, buffer: &D::Buffer, offset: usize, data: &mut [u8]) -> Result<(), Failure> {
        self.inner.download(buffer, offset, data)
    }

    fn fill(&mut self, buffer: &D::Buffer, offset: usize, bytes: usize, byte: u8) -> Result<(), Failure> {
        self.inner.fill(buffer, offset, bytes, byte)
    }

    fn holds(&mut self, buffer: &D::Buffer, offset: usize, data: &Bytes) -> Result<bool, Failure> {
        self.inner.holds(buffer, offset, data)
    }

    fn digests(&mut self, ranges: &[Range<'_, D::Buffer>]) -> Result<Option<Vec<u64>>, Failure> {
        self.inner.digests(ranges)
    }

    fn write(&mut self, writes: &[Write<D::Buffer>]) -> Result<(), Failure> {
        self.inner.write(writes)
    }

    fn set_symbol(&mut self, kernel: &Self::Kernel, symbol: &str, data: &[u8]) -> Result<(), Failure> {
        self.inner.set_symbol(&kernel.inner, symbol, data)
    }

    fn bind(&mut self, kernel: &Self::Kernel, launches: &[BoundLaunch<D::Buffer>]) -> Result<Self::Bound, Failure> {
        let regions = || launches.iter().flat_map(|launch| &launch.args).flat_map(BoundArg::regions);
        // The made launches, and so their tensors, may depend on the shape.
        let region = |tensor: usize| regions().find(|region| region.tensor == tensor).cloned();
        let (mut outputs, mut input) = (Vec::new(), None);
        if kernel.is_mutant {
            input = self.mutation.input.and_then(region);
            for (tensor, dtype) in &self.mutation.outputs {
                let kept = RefCell::default();
                outputs.extend(region(*tensor).map(|region| Output { region, dtype: *dtype, kept }));
            }
        }
        let left = if kernel.is_mutant { self.left(launches) } else { launches.to_vec() };
        Ok(Bound { inner: self.inner.bind(&kernel.inner, &left)?, outputs, input, memory: Memo::default() })
    }

    fn run(&mut self, bound: &Self::Bound) -> Result<(), Failure> {
        let looked = self.look(bound)?;
        if self.cached(bound, looked.as_deref())?.is_some() {
            return Ok(());
        }
        let before = self.before(bound)?;
        self.inner.run(&bound.inner)?;
        self.after(bound, before)?;
        self.remember(bound, looked)
    }

    /// The samples are those of the kernel itself, except those from memory: the outputs show a fault.
    fn launch_as(&mut self, mode: LaunchMode) {
        self.inner.launch_as(mode);
    }

    fn sample_after(
        &mut self,
        writes: &[Write<D::Buffer>],
        bound: &mut Self::Bound,
        batch: u32,
        cache: CacheMode,
    ) -> Result<Sample, Failure> {
        // Made twice, since the device may launch untimed work before them.
        self.inner.write(writes)?;
        let looked = self.look(bound)?;
        if let Some(nanoseconds) = self.cached(bound, looked.as_deref())? {
            return Ok(Sample {
                nanoseconds,
                cpu_nanoseconds: None,
                preemptions: 0,
                waits: 0,
                exposed: false,
                disturbance: None,
            });
        }
        let before = self.before(bound)?;
        let sample = self.inner.sample_after(writes, &mut bound.inner, batch, cache)?;
        self.after(bound, before)?;
        // On a busy machine the clock may show much more.
        bound.memory.worked(sample.cpu_nanoseconds.map_or(sample.nanoseconds, |time| time.min(sample.nanoseconds)));
        self.remember(bound, looked)?;
        Ok(sample)
    }

    fn forget(&mut self, bound: &Self::Bound) -> Result<(), Failure> {
        self.inner.forget(&bound.inner)
    }

    /// The results of a mutant do not depend on pauses.
    fn sample_after_pause(
        &mut self,
        writes: &[Write<D::Buffer>],
        bound: &mut Self::Bound,
        pause: std::time::Duration,
    ) -> Result<Option<Sample>, Failure> {
        if bound.outputs.is_empty() { self.inner.sample_after_pause(writes, &mut bound.inner, pause) } else { Ok(None) }
    }

    fn clock(&self, bound: &Self::Bound, batch: u32) -> &'static str {
        self.inner.clock(&bound.inner, batch)
    }

    fn energy(&mut self) -> Result<Energy, String> {
        self.inner.energy()
    }

    fn two_clocks(&mut self, bound: &Self::Bound, launches: u32) -> Result<Option<TwoClocks>, Failure> {
        self.inner.two_clocks(&bound.inner, launches)
    }

    fn resolution(&mut self) -> Result<Resolution, Failure> {
        self.inner.resolution()
    }

    fn shortest_sample(&mut self) -> Result<f64, Failure> {
        self.inner.shortest_sample()
    }

    fn check_disturbance(&mut self, now: bool) -> DisturbanceCheck {
        self.inner.check_disturbance(now)
    }

    fn sm_clock(&mut self) -> Option<SmClock> {
        self.inner.sm_clock()
    }

    fn in_use(&mut self) -> Option<String> {
        self.inner.in_use()
    }

    fn is_in_use(&self) -> bool {
        self.inner.is_in_use()
    }

    fn core(&self, bound: &Self::Bound) -> Option<u32> {
        self.inner.core(&bound.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::FakeDevice;
    use crate::device::host::HostDevice;
    use crate::protocol::{SeedReport, TimeJob, TimedCase};
    use crate::testing;
    use crate::verify::session::Session;

    /// The reports of a check of `y = 2.5 * x`, 1000 elements of f32, with a fault.
    fn reports(fault: Fault, outputs: &[(usize, DType)], input: Option<usize>) -> Vec<SeedReport> {
        // The reference is in the same library and does not have the fault.
        let mut honest = Session::new(HostDevice::open(), None);
        let job = testing::host_check(&mut honest, "kbench_scale");
        honest.check(&job, &mut |_| {}).unwrap().iter().for_each(testing::assert_clean);
        let mutation = Mutation { blobs: vec![job.case.sequence.blob], fault, outputs: outputs.to_vec(), input };
        let mut session = Session::new(MutantDevice::new(HostDevice::open(), mutation), None);
        let job = testing::host_check(&mut session, "kbench_scale");
        session.check(&job, &mut |_| {}).unwrap()
    }

    const Y: [(usize, DType); 1] = [(1, DType::F32)];

    #[test]
    fn each_mutant_causes_its_fault() {
        let first = |fault| reports(fault, &Y, None).remove(0);
        assert_eq!(first(Fault::NoOp).outputs[0].unwritten, 1000);
        let tail = first(Fault::Tail);
        assert_eq!((tail.outputs[0].unwritten, tail.outputs[0].first_unwritten), (16, Some(984)));
        assert!(first(Fault::Late).unrepeatable > 0);
        let zeros = &first(Fault::Zeros).outputs[0];
        assert!((zeros.rms_err / zeros.rms_ref - 1.0).abs() < 1e-6);
        let mean = &first(Fault::Mean).outputs[0];
        assert!(mean.bias.abs() < 1e-6 && mean.rms_err > 0.9 * mean.rms_ref, "{mean:?}");
        assert_eq!(reports(Fault::Clobber, &[], Some(0))[0].inputs_changed, ["x"]);
        let stale = reports(Fault::First, &Y, None);
        testing::assert_clean(&stale[0]);
        assert_eq!(stale[1].outputs[0].nonfinite + stale[1].outputs[0].unwritten, 0);
        assert!(stale[1].outputs[0].rms_err > stale[1].outputs[0].rms_ref, "the other seed's result");
    }

    #[test]
    fn errors_are_as_large_as_asked_and_hardly_larger() {
        let of = |fault| reports(fault, &Y, None).remove(0).outputs.remove(0);
        let close = |value: f64, want: f64| assert!((value / want - 1.0).abs() < 1e-3, "{value} {want}");
        let one = of(Fault::Some { share: 0.0, by: 0.5, of_rms: 0.0 });
        close(one.max_abs_err, 0.5);
        assert_eq!((one.bad, one.max_abs_err_at), (1, 500));
        assert_eq!(of(Fault::Some { share: 0.01, by: 0.5, of_rms: 0.0 }).bad, 11);
        let all = of(Fault::All { by: 0.0, of_rms: 0.01 });
        close(all.bias, 0.01 * all.rms_ref);
        let scaled = of(Fault::Scale { by: 0.02 });
        close(scaled.rms_err, 0.02 * scaled.rms_ref);
    }

    #[test]
    fn errors_below_the_rounding_of_a_type_are_enlarged() {
        for dtype in [DType::F8e4m3, DType::F16, DType::F32, DType::I32, DType::U8] {
            for value in [0.0, 1.0, 100.0] {
                let there = codec::decode(dtype, &moved(dtype, value, 1e-3))[0];
                assert!((there - value).abs() >= 1e-3 && there.is_finite(), "{dtype} {value} {there}");
            }
        }
        // No room above: down.
        assert!(codec::decode(DType::F16, &moved(DType::F16, 65504.0, 1.0))[0] < 65504.0);
    }

    #[test]
    fn a_memoising_mutant_passes_checks_and_fails_the_timing() {
        testing::assert_clean(&reports(Fault::Memoised, &Y, Some(0))[0]);
        let code = testing::FakeCase::default().code()[0].clone();
        let blobs = vec![blake3::hash(code.as_bytes()).to_hex().to_string()];
        let outputs = vec![(1, DType::F16)];
        let mutation = Mutation { blobs, fault: Fault::Memoised, outputs, input: Some(0) };
        let mut session = Session::new(MutantDevice::new(FakeDevice::open(0), mutation), None);
        let check = testing::FakeCase::default().check(&mut session);
        let cases = vec![TimedCase { case: check.case, reference: check.reference }];
        for new_inputs in [false, true] {
            let job = TimeJob { new_inputs, ..testing::time_job(cases.clone()) };
            let timing = session.time(&job, &mut |_| {}).unwrap().remove(0);
            assert!(timing.memoises.is_some_and(|ratio| ratio > 10.0), "{:?}", timing.memoises);
        }
    }

    #[test]
    fn other_kernels_stay_as_they_are() {
        let mutation = Mutation { blobs: vec!["another".into()], fault: Fault::NoOp, outputs: Y.to_vec(), input: None };
        let mut session = Session::new(MutantDevice::new(HostDevice::open(), mutation), None);
        let job = testing::host_check(&mut session, "kbench_scale");
        for report in session.check(&job, &mut |_| {}).unwrap() {
            testing::assert_clean(&report);
        }
    }
}

//! The correctness engine: what a kernel does to its memory, and how far its outputs are from the reference's.
//!
//! One seed takes three launches: two on the same poison (their outputs must be the same bits), and one on another poison
//! (an output that keeps both was never written; one that differs otherwise depends on what was there before). When the third
//! differs, a fourth tells dependence from chance.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::Bounded;
use crate::compare::{count, element, with_reference};
use crate::device::Device;
use crate::device::host::HostDevice;
use crate::pool::Pool;
use crate::protocol::{
    Case, CheckJob, Counts, DeviceKind, Failure, InspectJob, Reference, Role, RunJob, SeedReport, Stage, TensorSpec,
};
use crate::reference::{self, References};
use crate::rig::{FINITE, NAN, Outputs, Rig};
use crate::tensor::{self, Blobs, GENERATION, Inputs};

/// Bytes of inputs kept between jobs.
const INPUTS: usize = 2 << 30;

/// Called before each stage, and often enough that silence means a hang.
pub type OnStage<'a> = &'a mut dyn FnMut(Stage);

/// An open device and everything that is kept between jobs.
pub struct Session<D: Device> {
    pub(crate) device: D,
    /// Runs references that are C while kernels run elsewhere.
    host: Option<HostDevice>,
    pub(crate) pool: Pool<D::Buffer>,
    blobs: Blobs,
    inputs: Bounded<Inputs>,
    references: References,
}

impl<D: Device> Session<D> {
    /// A session on a device, with a folder for reference results.
    pub fn new(device: D, cache: Option<PathBuf>) -> Self {
        Self {
            device,
            host: None,
            pool: Pool::default(),
            blobs: Blobs::new(),
            inputs: Bounded::new(INPUTS),
            references: References::new(cache),
        }
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Keeps a blob; false if `hash` is not its hash.
    #[must_use]
    pub fn add_blob(&mut self, hash: &str, data: Vec<u8>) -> bool {
        let right = blake3::hash(&data).to_hex().as_str() == hash;
        if right {
            self.blobs.insert(hash.to_owned(), Arc::new(data));
        }
        right
    }

    pub(crate) fn code(&self, hash: &str) -> Result<Arc<Vec<u8>>, Failure> {
        let missing = || Failure::LoadFailed { message: format!("the machine code (blob {hash}) was not sent") };
        self.blobs.get(hash).cloned().ok_or_else(missing)
    }

    /// Loads a case's kernel on this session's device.
    pub(crate) fn rig(&mut self, case: &Case, inputs: &Arc<Inputs>) -> Result<Rig<D>, Failure> {
        let (asked, open) = (case.launch.device, self.device.info().kind);
        if asked != open {
            return Err(Failure::Unsupported { message: format!("a kernel for {asked:?} on a {open:?} device") });
        }
        let code = self.code(&case.launch.blob)?;
        Rig::new(&mut self.device, &mut self.pool, &case.tensors, inputs, &case.launch, &code)
    }

    /// The inputs of a case, made at most once for each seed.
    pub(crate) fn inputs(&mut self, tensors: &[TensorSpec], seed: u64) -> Result<Arc<Inputs>, Failure> {
        // What has no contents has no say: scratch may differ between variants whose inputs are the same.
        let made: Vec<Option<&TensorSpec>> =
            tensors.iter().map(|spec| (spec.source != crate::protocol::Source::None).then_some(spec)).collect();
        let key = serde_json::to_string(&(GENERATION, made, seed)).expect("these types are plain data");
        if let Some(inputs) = self.inputs.get(&key) {
            return Ok(inputs);
        }
        let inputs = Arc::new(tensor::generate(tensors, seed, &self.blobs)?);
        self.inputs.insert(key, tensor::bytes(&inputs), Arc::clone(&inputs));
        Ok(inputs)
    }

    /// The reference's outputs, from the cache or run now, on this session's device or on the host.
    pub(crate) fn reference(
        &mut self,
        reference: &Reference,
        tensors: &[TensorSpec],
        inputs: &Inputs,
        seed: u64,
    ) -> Result<Arc<reference::Outputs>, Failure> {
        let code =
            self.code(&reference.launch.blob).map_err(|error| Failure::Reference { message: error.to_string() })?;
        if reference.launch.device == self.device.info().kind {
            let device = &mut self.device;
            let key = reference::key(reference, tensors, seed, device.info());
            return self.references.get(&key, || reference::run(device, reference, tensors, inputs, &code));
        }
        if reference.launch.device != DeviceKind::Host {
            let message = format!("it needs a {:?} device", reference.launch.device);
            return Err(Failure::Reference { message });
        }
        let host = self.host.get_or_insert_with(HostDevice::open);
        let key = reference::key(reference, tensors, seed, host.info());
        self.references.get(&key, || reference::run(host, reference, tensors, inputs, &code))
    }

    /// Compares a kernel with its reference on every seed.
    pub fn check(&mut self, job: &CheckJob, stage: OnStage<'_>) -> Result<Vec<SeedReport>, Failure> {
        let checked = self.check_seeds(job, stage);
        if checked.is_err() {
            // Who knows what lies there now.
            self.pool.clear();
        }
        checked
    }

    fn check_seeds(&mut self, job: &CheckJob, stage: OnStage<'_>) -> Result<Vec<SeedReport>, Failure> {
        let mut rig = None;
        let mut reports = Vec::new();
        for seed in &job.seeds {
            stage(Stage::Inputs);
            let inputs = self.inputs(&job.case.tensors, *seed)?;
            stage(Stage::Reference);
            let reference = self.reference(&job.reference, &job.case.tensors, &inputs, *seed)?;
            stage(Stage::Launch);
            let rig = match &mut rig {
                Some(rig) => rig,
                none => none.insert(self.rig(&job.case, &inputs)?),
            };
            rig.begin(&mut self.device, &inputs)?;
            let check = Check { tensors: &job.case.tensors, inputs: &inputs, reference: &reference, seed: *seed };
            reports.push(check.run(&mut self.device, rig, job.bad_above, stage)?.0);
        }
        Ok(reports)
    }

    /// Compares what another program made of one seed's inputs with the reference. What it did to its memory is not known.
    pub fn inspect(&mut self, job: &InspectJob, stage: OnStage<'_>) -> Result<SeedReport, Failure> {
        stage(Stage::Inputs);
        let inputs = self.inputs(&job.tensors, job.seed)?;
        stage(Stage::Reference);
        let reference = self.reference(&job.reference, &job.tensors, &inputs, job.seed)?;
        stage(Stage::Compare);
        let mut report = SeedReport {
            seed: job.seed,
            outputs: Vec::new(),
            inputs_changed: Vec::new(),
            out_of_bounds: Vec::new(),
            unrepeatable: 0,
            stale: 0,
        };
        for (index, output) in &job.outputs {
            let spec =
                job.tensors.get(*index).filter(|spec| spec.bytes() == output.0.len()).ok_or_else(|| {
                    Failure::Inputs { message: format!("{} bytes for output {index}", output.0.len()) }
                })?;
            let Some((wide, reference)) = reference.get(index) else {
                return Err(Failure::Reference { message: format!("it gives no `{}`", spec.name) });
            };
            report.outputs.push(with_reference(spec, &output.0, *wide, reference, job.bad_above));
        }
        Ok(report)
    }
}

impl<D: Device> Session<D> {
    /// Runs a kernel once on memory that hides nothing from a sanitizer, and once more where it is to be counted. What a tool
    /// finds, it says itself. The last job of a session: its memory has no guard bands from here on.
    pub fn run(&mut self, job: &RunJob, stage: OnStage<'_>) -> Result<Option<Result<Counts, String>>, Failure> {
        stage(Stage::Inputs);
        let inputs = self.inputs(&job.case.tensors, job.seed)?;
        stage(Stage::Launch);
        self.device.keep_code();
        self.pool = Pool::bare();
        let rig = self.rig(&job.case, &inputs)?;
        rig.give(&mut self.device, &inputs)?;
        self.device.run(&rig.bound)?;
        if !job.count {
            return Ok(None);
        }
        // What is read and written holds its inputs again.
        rig.give(&mut self.device, &inputs)?;
        self.device.count(&rig.bound).map(Some)
    }
}

/// The check of one seed.
pub(crate) struct Check<'a> {
    pub tensors: &'a [TensorSpec],
    pub inputs: &'a Inputs,
    pub reference: &'a reference::Outputs,
    pub seed: u64,
}

impl Check<'_> {
    /// Runs it on a rig that has begun; also gives the outputs of the first launch.
    pub fn run<D: Device>(
        &self,
        device: &mut D,
        rig: &mut Rig<D>,
        bad_above: f64,
        stage: OnStage<'_>,
    ) -> Result<(SeedReport, Outputs), Failure> {
        let mut report = SeedReport {
            seed: self.seed,
            outputs: Vec::new(),
            inputs_changed: Vec::new(),
            out_of_bounds: Vec::new(),
            unrepeatable: 0,
            stale: 0,
        };
        // Bytes that are as `known` are not copied again.
        let mut launch = |poison: u8, known| {
            stage(Stage::Launch);
            rig.poison(device, self.inputs, poison)?;
            device.run(&rig.bound)?;
            let outputs = match known {
                Some(known) => rig.outputs_or(device, known)?,
                None => Cow::Owned(rig.outputs(device)?),
            };
            rig.out_of_bounds(device, &mut report.out_of_bounds)?;
            rig.inputs_changed(device, self.inputs, &mut report.inputs_changed)?;
            Ok::<_, Failure>(outputs)
        };
        let first = launch(NAN, None)?.into_owned();
        let second = launch(NAN, Some(&first))?;
        let third = launch(FINITE, Some(&first))?;
        let fourth = if self.differ(&first, &third) { launch(FINITE, Some(&third))? } else { Cow::Borrowed(&*third) };

        stage(Stage::Compare);
        for (at, (index, output)) in first.iter().enumerate() {
            let spec = &self.tensors[*index];
            let size = spec.dtype.size();
            let [second, third, fourth] = [&second, &third, &fourth].map(|outputs| &outputs[at].1);
            let same = |left: &[u8], right: &[u8], i| element(left, i, size) == element(right, i, size);
            let unwritten = |i| is_unwritten(spec, output, third, i);
            let repeats = |i| same(output, second, i) && same(third, fourth, i);
            report.unrepeatable += differences(spec, &[(output, second), (third, fourth)], |i| !repeats(i));
            report.stale +=
                differences(spec, &[(output, third)], |i| repeats(i) && !same(output, third, i) && !unwritten(i));
            let Some((wide, reference)) = self.reference.get(index) else {
                return Err(Failure::Reference { message: format!("it gives no `{}`", spec.name) });
            };
            let mut errors = with_reference(spec, output, *wide, reference, bad_above);
            if spec.role == Role::Out && !std::ptr::eq(output, third) && output != third {
                (errors.unwritten, errors.first_unwritten) = count(spec.elements(), unwritten);
            }
            report.outputs.push(errors);
        }
        Ok((report, first))
    }

    /// Whether any element that was written differs.
    fn differ(&self, first: &Outputs, third: &Outputs) -> bool {
        first.iter().zip(third).any(|((index, first), (_, third))| {
            let spec = &self.tensors[*index];
            differences(spec, &[(first, third)], |i| {
                let size = spec.dtype.size();
                element(first, i, size) != element(third, i, size) && !is_unwritten(spec, first, third, i)
            }) > 0
        })
    }
}

/// An element that held poison before and after, with either poison.
fn is_unwritten(spec: &TensorSpec, first: &[u8], third: &[u8], index: usize) -> bool {
    let holds = |bytes: &[u8], poison: u8| element(bytes, index, spec.dtype.size()).iter().all(|byte| *byte == poison);
    spec.role == Role::Out && holds(first, NAN) && holds(third, FINITE)
}

/// How many elements meet a condition that none meets where all pairs are the same bytes.
pub(crate) fn differences(
    spec: &TensorSpec,
    pairs: &[(&Vec<u8>, &Vec<u8>)],
    meets: impl Fn(usize) -> bool + Sync,
) -> u64 {
    if pairs.iter().all(|(left, right)| std::ptr::eq(*left, *right) || left == right) {
        0
    } else {
        count(spec.elements(), meets).0
    }
}

#[cfg(test)]
mod tests;

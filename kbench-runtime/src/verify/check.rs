//! The correctness engine: what a kernel does to its memory, and how far its outputs are from the reference's.
//!
//! One seed takes two launches, each on another poison: their outputs must be the same bits. Where they differ, an element that
//! keeps both was never written; of others, one more launch on each poison tells what depends on what was there before from
//! chance.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::data::digest::Bytes;
use crate::data::dtype::DType;
use crate::data::fingerprint;
use crate::device::Device;
use crate::device::host::HostDevice;
use crate::inputs::maker::Maker;
use crate::inputs::tensor::{Blobs, Inputs};
use crate::memory::kernel::{FINITE, LARGE, NAN, Outputs, Poison, Rig};
use crate::memory::pool::Pool;
use crate::protocol::{
    Beside, Case, CheckJob, Counts, DeviceKind, ErrorSizes, Failure, InspectJob, Launch, Pattern, Reference, Role,
    RunJob, SeedReport, Stage, TensorSpec,
};
use crate::verify::compare::{count, element, sizes, with_reference};
use crate::verify::reference::{self, Asked, Pools, References, View};
use crate::verify::results::ResultCache;

/// Part of a GPU's memory that may hold idle buffers, such as copies of the inputs of every seed and pattern.
const IDLE: u64 = 8;

/// Called before each stage, and often enough that silence means a hang.
pub type OnStage<'a> = &'a mut dyn FnMut(Stage);

/// An open device and everything that is kept between jobs.
pub struct Session<D: Device> {
    pub(crate) device: D,
    /// Runs references that are C while kernels run elsewhere.
    host: Option<HostDevice>,
    pub(crate) pool: Pool<D::Buffer>,
    /// What references run in, where that is a GPU's.
    references_pool: Pool<D::Buffer>,
    pub(crate) results: ResultCache,
    blobs: Blobs,
    inputs: Maker,
    references: References,
    /// Errors of naive implementations, by all that they depend on.
    naive: HashMap<String, Vec<ErrorSizes>>,
}

impl<D: Device> Session<D> {
    /// A session on a device, with a folder for reference results.
    pub fn new(device: D, cache: Option<PathBuf>) -> Self {
        let mut pool = Pool::default();
        if device.info().kind == DeviceKind::Cuda {
            pool.keep_at_least((device.info().memory_bytes / IDLE) as usize);
        }
        Self {
            device,
            host: None,
            pool,
            references_pool: Pool::default(),
            results: ResultCache::default(),
            blobs: Blobs::new(),
            inputs: Maker::default(),
            references: References::new(cache),
            naive: HashMap::new(),
        }
    }

    /// Whether the device can tell the energy of a launch, or why not.
    pub fn meter(&mut self) -> Result<(), String> {
        self.device.energy().map(|_| ())
    }

    /// How long a launch may take from now on: see [`Device::limit`].
    pub fn limit(&mut self, launch: std::time::Duration) {
        self.device.limit(launch);
    }

    /// Keeps a blob; false if `hash` is not its hash.
    #[must_use]
    pub fn add_blob(&mut self, hash: &str, data: Vec<u8>) -> bool {
        let right = fingerprint::of_bytes(&data) == hash;
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
        self.inputs_in(tensors, seed, None)
    }

    fn inputs_in(
        &mut self,
        tensors: &[TensorSpec],
        seed: u64,
        pattern: Option<Pattern>,
    ) -> Result<Arc<Inputs>, Failure> {
        self.inputs.get(tensors, seed, pattern, &self.blobs)
    }

    /// The reference's outputs for the random inputs of a seed, from the cache or run now.
    pub(crate) fn reference(
        &mut self,
        reference: &Reference,
        tensors: &[TensorSpec],
        inputs: &Inputs,
        seed: u64,
    ) -> Result<Arc<reference::Outputs>, Failure> {
        self.reference_for(reference, tensors, inputs, Asked::seed(seed))
    }

    /// The reference's outputs, from the cache or run now, on this session's device or on the host.
    fn reference_for(
        &mut self,
        reference: &Reference,
        tensors: &[TensorSpec],
        inputs: &Inputs,
        asked: Asked,
    ) -> Result<Arc<reference::Outputs>, Failure> {
        if reference.program {
            let key = reference::key(reference, tensors, asked, self.device.info());
            let message = "its program's results are not where the worker looks for them; behind a runner, the target directory \
                           must be at the same path";
            return self.references.get(&key, || Err(Failure::Reference { message: message.into() }));
        }
        let code =
            self.code(&reference.launch.blob).map_err(|error| Failure::Reference { message: error.to_string() })?;
        let inputs = || reference::wide_inputs(reference, tensors, inputs, asked.view);
        if reference.launch.device == self.device.info().kind {
            let device = &mut self.device;
            let key = reference::key(reference, tensors, asked, device.info());
            let mut fresh = Pool::default();
            // Allocations and copies take longer there than the reference may.
            let pools = if device.info().kind == DeviceKind::Cuda {
                Pools { own: &mut self.references_pool, copies: Some(&mut self.pool) }
            } else {
                Pools { own: &mut fresh, copies: None }
            };
            let run = || reference::run(device, pools, reference, tensors, inputs(), asked, &code);
            return self.references.get(&key, run);
        }
        if reference.launch.device != DeviceKind::Host {
            let message = format!("it needs a {:?} device", reference.launch.device);
            return Err(Failure::Reference { message });
        }
        let host = self.host.get_or_insert_with(HostDevice::open);
        let key = reference::key(reference, tensors, asked, host.info());
        let pools = Pools { own: &mut Pool::default(), copies: None };
        self.references.get(&key, || reference::run(host, pools, reference, tensors, inputs(), asked, &code))
    }

    /// Compares a kernel with its reference on every seed.
    pub fn check(&mut self, job: &CheckJob, stage: OnStage<'_>) -> Result<Vec<SeedReport>, Failure> {
        let checked = self.check_seeds(job, stage);
        self.inputs.settle();
        if checked.is_err() {
            // Who knows what lies there now.
            self.pool.clear();
            self.references_pool.clear();
        }
        checked
    }

    fn check_seeds(&mut self, job: &CheckJob, stage: OnStage<'_>) -> Result<Vec<SeedReport>, Failure> {
        let tensors = &job.case.tensors;
        let mut rig = None;
        let mut reports = Vec::new();
        let all: Vec<_> = job.asked().collect();
        for (at, &(seed, pattern)) in all.iter().enumerate() {
            stage(Stage::Inputs);
            let inputs = self.inputs_in(tensors, seed, pattern)?;
            // A GPU leaves the processor to make those that come next.
            if let (Some(&(seed, pattern)), DeviceKind::Cuda) = (all.get(at + 1), self.device.info().kind) {
                self.inputs.begin(tensors, seed, pattern, &self.blobs);
            }
            stage(Stage::Reference);
            let asked = Asked { seed, pattern, view: View::Given };
            let reference = self.reference_for(&job.reference, tensors, &inputs, asked)?;
            let others = self.others(job, &inputs, &reference, asked)?;
            stage(Stage::Launch);
            let rig = match &mut rig {
                Some(rig) => rig,
                none => none.insert(self.rig(&job.case, &inputs)?),
            };
            rig.begin(&mut self.device, Some(&mut self.pool), &inputs)?;
            let check = Check { tensors, inputs: &inputs, reference: &reference, seed };
            let (device, results) = (&mut self.device, &mut self.results);
            let (mut report, outputs) = if job.depth.again {
                check.run_again(device, results, rig, Poison::MIXED, job.bad_above, stage)?
            } else {
                check.run(device, results, rig, job.bad_above, stage)?
            };
            report.pattern = pattern;
            for (at, ((index, output), report)) in outputs.iter().zip(&mut report.outputs).enumerate() {
                let spec = &tensors[*index];
                let errors = |outputs: &reference::Outputs, given: (DType, &[u8])| {
                    outputs.get(index).map(|(wide, data)| sizes(spec, given, (*wide, data)))
                };
                let given = reference.get(index).map(|(wide, data)| (*wide, &data[..]));
                let against = |other: &Option<Arc<reference::Outputs>>| errors(other.as_ref()?, given?);
                report.beside = Beside {
                    sensitivity: against(&others.perturbed),
                    naive: others.naive.get(at).copied(),
                    quantization: against(&others.unquantized),
                    total: others.unquantized.as_ref().and_then(|outputs| errors(outputs, (spec.dtype, output))),
                };
            }
            reports.push(report);
        }
        // Unloading runs the kernel's destructors.
        stage(Stage::Launch);
        drop(rig);
        Ok(reports)
    }

    /// What errors are judged by beside the reference.
    fn others(
        &mut self,
        job: &CheckJob,
        inputs: &Arc<Inputs>,
        reference: &reference::Outputs,
        asked: Asked,
    ) -> Result<Others, Failure> {
        let tensors = &job.case.tensors;
        let mut view = |view| self.reference_for(&job.reference, tensors, inputs, Asked { view, ..asked }).map(Some);
        let (mut perturbed, mut unquantized) = (None, None);
        if asked.pattern.is_some() {
            if let Some(tolerance) = job.depth.tolerance {
                perturbed = view(View::Perturbed(tolerance))?;
            }
        } else if reference::is_quantized(tensors, &job.reference.launch) {
            unquantized = view(View::Unquantized)?;
        }
        let naive = match &job.depth.naive {
            Some(naive) => self.naive(naive, job, inputs, reference, asked)?,
            None => Vec::new(),
        };
        Ok(Others { perturbed, unquantized, naive })
    }

    /// The errors of a naive implementation, an output each.
    fn naive(
        &mut self,
        naive: &Launch,
        job: &CheckJob,
        inputs: &Arc<Inputs>,
        reference: &reference::Outputs,
        asked: Asked,
    ) -> Result<Vec<ErrorSizes>, Failure> {
        let key = fingerprint::of("naive", &(naive, &job.reference, &job.case.tensors, asked));
        if let Some(errors) = self.naive.get(&key) {
            return Ok(errors.clone());
        }
        let case = Case { tensors: job.case.tensors.clone(), launch: naive.clone() };
        let outputs = self.rig(&case, inputs).and_then(|mut rig| {
            rig.begin(&mut self.device, Some(&mut self.pool), inputs)?;
            self.device.run(&rig.bound)?;
            let survey = rig.survey(&mut self.device)?;
            rig.outputs(&mut self.device, &mut self.results.outputs, &survey)
        });
        let failed = |failure: Failure| Failure::Reference { message: format!("the naive implementation: {failure}") };
        let errors: Vec<ErrorSizes> = outputs
            .map_err(failed)?
            .iter()
            .filter_map(|(index, output)| {
                let spec = &case.tensors[*index];
                let (wide, data) = reference.get(index)?;
                Some(sizes(spec, (spec.dtype, output), (*wide, data)))
            })
            .collect();
        self.naive.insert(key, errors.clone());
        Ok(errors)
    }

    /// Compares what another program made of one seed's inputs with the reference. What it did to its memory is not known.
    pub fn inspect(&mut self, job: &InspectJob, stage: OnStage<'_>) -> Result<SeedReport, Failure> {
        stage(Stage::Inputs);
        let inputs = self.inputs(&job.tensors, job.seed)?;
        stage(Stage::Reference);
        let reference = self.reference(&job.reference, &job.tensors, &inputs, job.seed)?;
        stage(Stage::Compare);
        let mut report = SeedReport::new(job.seed);
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
        self.device.be_watched();
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

/// What errors are judged by beside the reference.
struct Others {
    perturbed: Option<Arc<reference::Outputs>>,
    unquantized: Option<Arc<reference::Outputs>>,
    naive: Vec<ErrorSizes>,
}

/// The check of one seed.
pub(crate) struct Check<'a> {
    pub tensors: &'a [TensorSpec],
    pub inputs: &'a Inputs,
    pub reference: &'a Arc<reference::Outputs>,
    pub seed: u64,
}

impl Check<'_> {
    /// Runs it on a rig that has begun; also gives the outputs of the first launch.
    pub fn run<D: Device>(
        &self,
        device: &mut D,
        results: &mut ResultCache,
        rig: &mut Rig<D>,
        bad_above: f64,
        stage: OnStage<'_>,
    ) -> Result<(SeedReport, Outputs), Failure> {
        let mut report = SeedReport::new(self.seed);
        let first = self.launch(device, results, rig, Poison::NAN, None, &mut report, stage)?;
        let third = self.launch(device, results, rig, Poison::FINITE, Some(&first), &mut report, stage)?;
        let report = self.judge(device, results, rig, [&first, &third], bad_above, report, stage)?;
        Ok((report, first))
    }

    /// The same of a kernel that passed it before: in one launch, on a poison of the caller's, unless that shows something odd. Of
    /// integers NaN may be the result, so that it takes another.
    pub fn run_again<D: Device>(
        &self,
        device: &mut D,
        results: &mut ResultCache,
        rig: &mut Rig<D>,
        poison: Poison,
        bad_above: f64,
        stage: OnStage<'_>,
    ) -> Result<(SeedReport, Outputs), Failure> {
        let mut report = SeedReport::new(self.seed);
        let outputs = self.launch(device, results, rig, poison, None, &mut report, stage)?;
        stage(Stage::Compare);
        let mut is_odd = !report.out_of_bounds.is_empty() || !report.inputs_changed.is_empty();
        let mut all = Vec::new();
        for (index, output) in &outputs {
            let spec = &self.tensors[*index];
            let errors = results.errors(spec, output, self.reference, *index, bad_above);
            let errors = errors.ok_or_else(|| no_reference(spec))?;
            let tells = spec.dtype.is_float() || poison.contents != NAN;
            is_odd |= !tells || errors.nonfinite > 0 || errors.bad > 0;
            all.push(errors);
        }
        if is_odd {
            let other = if poison.contents == NAN { Poison::FINITE } else { Poison::NAN };
            let others = self.launch(device, results, rig, other, Some(&outputs), &mut report, stage)?;
            let both = if poison.contents == NAN { [&outputs, &others] } else { [&others, &outputs] };
            report = self.judge(device, results, rig, both, bad_above, report, stage)?;
        } else {
            report.outputs = all;
        }
        Ok((report, outputs))
    }

    /// One launch on a poison. Bytes that are as `known` are not copied again.
    #[allow(clippy::too_many_arguments)]
    fn launch<D: Device>(
        &self,
        device: &mut D,
        results: &mut ResultCache,
        rig: &mut Rig<D>,
        poison: Poison,
        known: Option<&Outputs>,
        report: &mut SeedReport,
        stage: OnStage<'_>,
    ) -> Result<Outputs, Failure> {
        stage(Stage::Launch);
        rig.poison(device, self.inputs, poison)?;
        device.soil(if poison.contents == NAN { NAN } else { LARGE })?;
        // What others left is not the kernel's.
        let _ = device.left_behind();
        device.run(&rig.bound)?;
        let left = device.left_behind();
        report.left_behind.printed = report.left_behind.printed.max(left.printed);
        report.left_behind.heap = report.left_behind.heap.max(left.heap);
        let survey = rig.survey(device)?;
        let outputs = match known {
            Some(known) => rig.outputs_or(device, &mut results.outputs, &survey, known)?,
            None => rig.outputs(device, &mut results.outputs, &survey)?,
        };
        rig.out_of_bounds(device, &survey, &mut report.out_of_bounds)?;
        rig.inputs_changed(device, &survey, self.inputs, &mut report.inputs_changed)?;
        Ok(outputs)
    }

    /// What the outputs of two launches come to, the first on NaN, the other on the finite poison.
    #[allow(clippy::too_many_arguments)]
    fn judge<D: Device>(
        &self,
        device: &mut D,
        results: &mut ResultCache,
        rig: &mut Rig<D>,
        [first, third]: [&Outputs; 2],
        bad_above: f64,
        mut report: SeedReport,
        stage: OnStage<'_>,
    ) -> Result<SeedReport, Failure> {
        let (mut second, mut fourth) = (first.clone(), third.clone());
        if self.differ(first, third) {
            // The same poison twice running: what takes turns is no dependence.
            fourth = self.launch(device, results, rig, Poison::FINITE, Some(third), &mut report, stage)?;
            second = self.launch(device, results, rig, Poison::NAN, Some(first), &mut report, stage)?;
        }

        stage(Stage::Compare);
        for (at, (index, output)) in first.iter().enumerate() {
            let spec = &self.tensors[*index];
            let size = spec.dtype.size();
            let [second, third, fourth] = [&second, third, &fourth].map(|outputs| &outputs[at].1);
            let same = |left: &[u8], right: &[u8], i| element(left, i, size) == element(right, i, size);
            let unwritten = |i| is_unwritten(spec, output, third, i);
            let repeats = |i| same(output, second, i) && same(third, fourth, i);
            report.unrepeatable += differences(spec, &[(output, second), (third, fourth)], |i| !repeats(i));
            report.stale +=
                differences(spec, &[(output, third)], |i| repeats(i) && !same(output, third, i) && !unwritten(i));
            let errors = results.errors(spec, output, self.reference, *index, bad_above);
            let mut errors = errors.ok_or_else(|| no_reference(spec))?;
            if output != third {
                (errors.unwritten, errors.first_unwritten) = count(spec.elements(), unwritten);
            }
            report.outputs.push(errors);
        }
        Ok(report)
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

fn no_reference(spec: &TensorSpec) -> Failure {
    Failure::Reference { message: format!("it gives no `{}`", spec.name) }
}

/// An element that held poison before and after, with either poison.
fn is_unwritten(spec: &TensorSpec, first: &[u8], third: &[u8], index: usize) -> bool {
    let holds = |bytes: &[u8], poison: u8| element(bytes, index, spec.dtype.size()).iter().all(|byte| *byte == poison);
    spec.role == Role::Out && holds(first, NAN) && holds(third, FINITE)
}

/// How many elements meet a condition that none meets where all pairs are the same bytes.
pub(crate) fn differences(
    spec: &TensorSpec,
    pairs: &[(&Arc<Bytes>, &Arc<Bytes>)],
    meets: impl Fn(usize) -> bool + Sync,
) -> u64 {
    if pairs.iter().all(|(left, right)| left == right) { 0 } else { count(spec.elements(), meets).0 }
}

#[cfg(test)]
mod tests;

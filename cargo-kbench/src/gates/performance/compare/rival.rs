//! Baselines by `command`, measured in turn with the kernels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kbench_runtime::driver::reference::ReferenceInputs;
use kbench_runtime::driver::tensor::{self, Blobs};
use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{InspectJob, SeedReport, TensorSpec};

use super::super::timing::time_job;
use super::EntrantId;
use crate::config::{self, CorrectnessLimits};
use crate::gates::launch::{failed, job_failed};
use crate::gates::{at_level, correctness};
use crate::harness::{Context, Halt, Harness, RunError, caught, no_geometry};
use crate::process::executor::ExecutorError;
use crate::process::program::{Inputs, Problem, Program, ProgramOptions, Refusal};
use crate::record::evaluation::{ExternalRecord, GateName, Reason, Rejection, ShapeErrors};
use crate::text::count;

/// Smallest number of samples in a turn.
const TURN: u32 = 10;

/// Factor by which a program's clock may be faster than the clock of this process.
const CLOCKS: f64 = 1.05;

/// Largest number of turns until the requested number of samples: each turn costs the kernels a check.
const TURNS: u32 = 20;

/// Number of samples in a turn. `fewest` is the requested number, `taken` the present one, and `next` the number at the
/// next look. After the requested number there are two turns between looks, of which one runs in the opposite order.
pub(super) fn turn(fewest: u32, taken: u32, next: u32) -> u32 {
    let left = next.saturating_sub(taken).max(1);
    if taken < fewest {
        return fewest.div_ceil(TURNS).max(TURN).min(left);
    }
    // The previous look was at two thirds of the number at the next.
    next.div_ceil(3).div_ceil(2).min(left)
}

/// A program in a comparison.
pub(super) struct Rival<'a> {
    index: usize,
    pub name: &'a str,
    config: &'a config::ProgramBaseline,
    running: Option<(Program, SeedReport)>,
    pub samples: Vec<f64>,
}

impl<'a> Rival<'a> {
    /// The program of a baseline.
    pub fn new(index: usize, name: &'a str, config: &'a config::ProgramBaseline) -> Self {
        Self { index, name, config, running: None, samples: Vec::new() }
    }

    pub fn id(&self) -> EntrantId {
        EntrantId::Baseline(self.index)
    }

    /// Takes a turn.
    pub fn time(&mut self, samples: u32, shape: &str) -> Result<(), Halt> {
        let (program, _) = self.running.as_mut().expect("started");
        let started = Instant::now();
        let taken = program.time(samples).map_err(|refusal| refused(refusal, shape))?;
        if let Some(why) = forged(&taken, program.batch, started.elapsed()) {
            return Err(Rejection::new(GateName::Performance, Reason::ForgedTime, why, Some(shape)).into());
        }
        self.samples.extend(taken);
        Ok(())
    }

    pub fn clock(&self) -> (String, u32) {
        self.running.as_ref().map(|(program, _)| (program.clock.clone(), program.batch)).expect("started")
    }

    /// Hash of everything about the program that its measurement depends on: the command, and the files of the package
    /// that it names.
    pub fn key(&self, context: &Context<'_>) -> String {
        fingerprint::of("program baseline", &(self.config, context.named_files(&self.config.command)))
    }

    fn open(&self, context: &Context<'_>) -> Result<Program, Refusal> {
        Program::open(&ProgramOptions {
            runner: context.kernel.runner(),
            command: &self.config.command,
            directory: &context.builder.package.directory,
            device: &context.device,
            timeout: context.timeout(),
        })
    }

    /// The started program prepares its tensors, and its outputs are checked.
    fn prepare(
        &mut self,
        harness: &mut Harness<'_>,
        mut program: Program,
        shape: usize,
        inputs: &mut Option<Inputs>,
    ) -> Result<(), Halt> {
        let context = &harness.context;
        let kernel = context.kernel;
        let place = &kernel.shapes[shape];
        let job = time_job(kernel, Vec::new());
        let inputs = match inputs {
            Some(inputs) => inputs,
            none => none.insert(write_inputs(context, shape, job.seed)?),
        };
        let problem = Problem {
            shape: &place.name,
            dims: place.dims.iter().cloned().collect(),
            seed: job.seed,
            warmup: job.warmup,
            cache: job.cache,
            launch: job.launch,
        };
        let prepared = program.prepare(self.name, &context.device, &problem, inputs);
        prepared.map_err(|refusal| refused(refusal, &place.name))?;
        let report = check(harness, &mut program, self.config, shape, inputs.specs())?;
        self.running = Some((program, report));
        Ok(())
    }

    /// Checks the program's outputs again after its last sample; returns its record.
    pub fn finish(
        &mut self,
        harness: &mut Harness<'_>,
        shape: usize,
        inputs: &Inputs,
        turn: u32,
    ) -> Result<ExternalRecord, Halt> {
        let (program, before) = self.running.as_mut().expect("started");
        let after = check(harness, program, self.config, shape, inputs.specs()).map_err(|halt| match halt {
            Halt::Variant(rejection) => {
                Rejection { message: format!("after timing: {}", rejection.message), ..rejection }.into()
            }
            Halt::Run(error) => Halt::Run(error),
        })?;
        let errors = ShapeErrors::worst(harness.context.shape_name(shape), &[before.clone(), after]);
        Ok(ExternalRecord {
            command: self.config.command.clone(),
            versions: program.versions.clone(),
            turn,
            // Both checks have the same seed.
            errors: ShapeErrors { seeds: 1, ..errors },
        })
    }
}

/// Starts the programs that do not run yet, and checks their outputs. Unusable programs are removed and named. All
/// programs start before the first one prepares, so that they load at the same time.
pub(super) fn start(
    harness: &mut Harness<'_>,
    rivals: &mut Vec<Rival<'_>>,
    shape: usize,
    inputs: &mut Option<Inputs>,
    unavailable: &mut Vec<(EntrantId, Rejection)>,
) -> Result<(), RunError> {
    let mut opened = Vec::new();
    for rival in std::mem::take(rivals) {
        let program = if rival.running.is_some() { None } else { Some(rival.open(&harness.context)) };
        opened.push((rival, program));
    }
    for (mut rival, program) in opened {
        let started = match program {
            None => Ok(()),
            Some(Ok(program)) => rival.prepare(harness, program, shape, inputs),
            Some(Err(refusal)) => Err(refused(refusal, harness.context.shape_name(shape))),
        };
        match caught(started)? {
            Ok(()) => rivals.push(rival),
            Err(rejection) => unavailable.push((rival.id(), rejection)),
        }
    }
    Ok(())
}

/// Description of samples that together took longer than `passed`, the time from their request to their answer. Noise makes that time longer and
/// never shorter, so it cannot cause this.
fn forged(samples: &[f64], batch: u32, passed: Duration) -> Option<String> {
    let milliseconds = samples.iter().sum::<f64>() * f64::from(batch) / 1e6;
    let passed = passed.as_secs_f64() * 1e3;
    (milliseconds > CLOCKS * passed).then(|| {
        format!(
            "its {} of {} each are {milliseconds:.3} ms by its clock, but its answer took {passed:.3} ms",
            count(samples.len(), "sample"),
            count(batch as usize, "run")
        )
    })
}

fn write_inputs(context: &Context<'_>, shape: usize, seed: u64) -> Result<Inputs, Halt> {
    let name = context.shape_name(shape);
    let point = context.point(shape, &context.kernel.space.default);
    let specs = point.tensors(&context.files).map_err(|error| no_geometry(&error, name))?;
    let mut blobs = Blobs::new();
    for (path, hash) in &context.files {
        blobs.insert(hash.clone(), Arc::new(std::fs::read(path)?));
    }
    let inputs = tensor::generate(&specs, seed, &blobs).map_err(|failure| failed(context.kernel, &failure, name))?;
    Ok(Inputs::of(specs, inputs, &context.scratch())?)
}

/// The gate `correctness` of a program's outputs, on one seed.
fn check(
    harness: &mut Harness<'_>,
    program: &mut Program,
    config: &config::ProgramBaseline,
    shape: usize,
    specs: &[TensorSpec],
) -> Result<SeedReport, Halt> {
    let kernel = harness.kernel();
    let name = &kernel.shapes[shape].name;
    let protocol = |message: String| Rejection::new(GateName::Performance, Reason::Protocol, message, Some(name));
    let outputs = program.check().map_err(|refusal| refused(refusal, name))?;
    for (index, bytes) in &outputs {
        let spec = &specs[*index];
        if bytes.0.len() != spec.bytes() {
            let (has, wants) = (bytes.0.len(), spec.bytes());
            return Err(protocol(format!("`{}` has {has} bytes where {wants} were expected", spec.name)).into());
        }
    }
    let Harness { context, worker, references, .. } = harness;
    let reference = references.of(context, worker, kernel, shape, &kernel.space.default)?;
    let seed = time_job(kernel, Vec::new()).seed;
    references.refer(context, worker, kernel, name, specs, &reference, &[ReferenceInputs::random(seed)])?;
    let limits = limits(config, &kernel.gates.correctness);
    let job = InspectJob {
        id: 0,
        tensors: specs.to_vec(),
        reference,
        seed,
        pattern: None,
        outputs,
        bad_above: correctness::bad_above(limits),
    };
    let reports = worker.inspect(job, context.timeout()).map_err(|error| job_failed(kernel, error, name))?;
    let report = reports.into_iter().next().ok_or_else(|| protocol("the worker compared nothing".to_owned()))?;
    let finding = correctness::judge(limits, &kernel.tensors, name, std::slice::from_ref(&report));
    // Findings at level `warn` about the kernel's errors are not repeated for a baseline.
    at_level(limits.level, finding, &mut Vec::new()).map_or(Ok(report), |rejection| Err(rejection.into()))
}

/// Limits of a program's errors.
fn limits<'a>(program: &'a config::ProgramBaseline, kernel: &'a CorrectnessLimits) -> &'a CorrectnessLimits {
    program.correctness.as_ref().unwrap_or(kernel)
}

/// A refusal: a rejection, unless the user ended the run.
fn refused(refusal: Refusal, shape: &str) -> Halt {
    refusal.rejection(shape).map_or_else(|| ExecutorError::Interrupted.into(), Halt::Variant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_its_own_limits_or_those_of_the_kernel() {
        let limits_of = |max_abs_err| CorrectnessLimits { max_abs_err, ..CorrectnessLimits::default() };
        let kernel = limits_of(Some(1.0));
        let of = |correctness| {
            let program = config::ProgramBaseline { command: Vec::new(), correctness };
            limits(&program, &kernel).max_abs_err
        };
        assert_eq!([of(None), of(Some(limits_of(Some(2.0))))], [Some(1.0), Some(2.0)]);
    }

    #[test]
    fn samples_take_no_longer_than_their_answer() {
        let passed = Duration::from_millis(12);
        let is_forged = |samples: &[f64], batch| forged(samples, batch, passed).is_some();
        assert!(forged(&[10.5e6], 1, Duration::from_millis(10)).is_none(), "by exactly as much as clocks may differ");
        assert!(!is_forged(&[1e6; 3], 4) && !is_forged(&[1.04e6; 3], 4) && !is_forged(&[1.0; 10], 1000));
        assert!(is_forged(&[1e6; 3], 5) && is_forged(&[1e6; 13], 1) && is_forged(&[1.0, 13e6], 1));
        let said = forged(&[5e6; 3], 1, passed).unwrap();
        assert_eq!(said, "its 3 samples of 1 run each are 15.000 ms by its clock, but its answer took 12.000 ms");
    }

    #[test]
    fn turns_are_short_and_few() {
        let turns = |fewest: u32| {
            let (mut taken, mut turns) = (0, 0);
            while taken < fewest {
                taken += turn(fewest, taken, fewest);
                turns += 1;
            }
            assert_eq!(taken, fewest);
            turns
        };
        assert_eq!([1, 10, 100, 200, 1000].map(|fewest| turn(fewest, 0, fewest)), [1, 10, 10, 10, 50]);
        assert_eq!([1, 10, 95, 100, 1000, 1001].map(turns), [1, 1, 10, 10, 20, 20]);
    }

    #[test]
    fn turns_grow_from_look_to_look() {
        assert_eq!((turn(100, 100, 150), turn(100, 125, 150)), (25, 25));
        assert_eq!((turn(100, 150, 225), turn(100, 188, 225)), (38, 37));
        assert_eq!((turn(10, 10, 15), turn(10, 5000, 7500)), (3, 1250));
    }
}

//! Baselines by `command` on the bench.

use std::collections::BTreeMap;
use std::sync::Arc;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{InspectJob, SeedReport, TensorSpec};
use kbench_runtime::reference::Asked;
use kbench_runtime::tensor::Blobs;

use super::one::failed;
use super::{RunError, Workbench};
use crate::config::{self, BaselineKind, CorrectnessLimits};
use crate::gates::{self, at_level};
use crate::process::executor::ExecutorError;
use crate::process::program::{Inputs, Problem, Program, ProgramOptions, Refusal};
use crate::record::evaluation::{ExternalRecord, Gate, Reason, Rejection, ShapeErrors};

/// Samples that a program and the kernels take in turn, at least.
const TURN: u32 = 10;

/// Turns at most, for as many samples as are asked for at least: each costs the kernels a check.
const TURNS: u32 = 20;

/// How many samples make a turn, where so many are asked for at least, so many are taken, and they are looked at when there are
/// `next`. Two turns from one look to the next, once there are as many as are asked for: every other one runs backwards.
pub(super) fn turn(fewest: u32, taken: u32, next: u32) -> u32 {
    let left = next.saturating_sub(taken).max(1);
    if taken < fewest {
        return fewest.div_ceil(TURNS).max(TURN).min(left);
    }
    // The look before was at two thirds of what there will be at the next.
    next.div_ceil(3).div_ceil(2).min(left)
}

/// A program in a comparison.
pub(super) struct Rival<'a> {
    pub name: &'a str,
    config: &'a config::Program,
    running: Option<(Program, SeedReport)>,
    pub samples: Vec<f64>,
}

impl<'a> Rival<'a> {
    /// The baseline, where it is a program.
    pub fn new(baseline: &'a config::Baseline) -> Option<Self> {
        let BaselineKind::Command(config) = &baseline.kind else { return None };
        Some(Self { name: &baseline.name, config, running: None, samples: Vec::new() })
    }

    /// Takes a turn.
    pub fn time(&mut self, samples: u32, shape: &str) -> Result<Result<(), Rejection>, RunError> {
        let (program, _) = self.running.as_mut().expect("started");
        Ok(match program.time(samples) {
            Ok(samples) => {
                self.samples.extend(samples);
                Ok(())
            }
            Err(refusal) => Err(rejected(refusal, shape)?),
        })
    }

    pub fn clock(&self) -> (String, u32) {
        self.running.as_ref().map(|(program, _)| (program.clock.clone(), program.batch)).expect("started")
    }
}

impl Workbench<'_> {
    /// Hash of everything about a program that its measurement depends on: the command, and the files of the package that it
    /// names.
    pub(super) fn program_key(&self, rival: &Rival<'_>) -> String {
        fingerprint::of("program baseline", &(rival.config, self.named_files(&rival.config.command)))
    }

    /// Starts the programs that do not run yet, and checks their outputs. Those that cannot be used are taken out and named.
    ///
    /// All are started before the first prepares anything: what each loads by itself, it loads meanwhile.
    pub(super) fn start_programs(
        &mut self,
        rivals: &mut Vec<Rival<'_>>,
        shape: usize,
        inputs: &mut Option<Inputs>,
        unavailable: &mut BTreeMap<String, Rejection>,
    ) -> Result<(), RunError> {
        let name = &self.kernel.shapes[shape].name;
        let mut opened = Vec::new();
        for rival in std::mem::take(rivals) {
            let program = if rival.running.is_some() { None } else { Some(self.open_program(&rival)) };
            opened.push((rival, program));
        }
        for (mut rival, program) in opened {
            let started = match program {
                None => Ok(()),
                Some(Ok(program)) => self.prepare_program(&mut rival, program, shape, inputs)?,
                Some(Err(refusal)) => Err(rejected(refusal, name)?),
            };
            match started {
                Ok(()) => rivals.push(rival),
                Err(rejection) => drop(unavailable.insert(rival.name.to_owned(), rejection)),
            }
        }
        Ok(())
    }

    fn open_program(&self, rival: &Rival<'_>) -> Result<Program, Refusal> {
        Program::open(&ProgramOptions {
            runner: &self.kernel.runner,
            command: &rival.config.command,
            directory: &self.builder.package.directory,
            device: self.device.as_ref().expect("open"),
            timeout: self.timeout(),
        })
    }

    fn prepare_program(
        &mut self,
        rival: &mut Rival<'_>,
        mut program: Program,
        shape: usize,
        inputs: &mut Option<Inputs>,
    ) -> Result<Result<(), Rejection>, RunError> {
        let kernel = self.kernel;
        let (shape_index, shape) = (shape, &kernel.shapes[shape]);
        let job = self.time_job(Vec::new());
        let inputs = match inputs {
            Some(inputs) => inputs,
            none => match self.write_inputs(shape_index, job.seed)? {
                Ok(written) => none.insert(written),
                Err(rejection) => return Ok(Err(rejection)),
            },
        };
        let problem = Problem {
            shape: &shape.name,
            dims: shape.dims.iter().cloned().collect(),
            seed: job.seed,
            warmup: job.warmup,
            cache: job.cache,
        };
        let device = self.device.as_ref().expect("open");
        if let Err(refusal) = program.prepare(rival.name, device, &problem, inputs) {
            return Ok(Err(rejected(refusal, &shape.name)?));
        }
        Ok(match self.check_program(&mut program, rival.config, shape_index, inputs.specs())? {
            Ok(report) => {
                rival.running = Some((program, report));
                Ok(())
            }
            Err(rejection) => Err(rejection),
        })
    }

    fn write_inputs(&mut self, shape: usize, seed: u64) -> Result<Result<Inputs, Rejection>, RunError> {
        let name = &self.kernel.shapes[shape].name;
        let point = self.builder.point(self.kernel, shape, &self.kernel.space.default);
        let specs = match point.tensors(&self.files) {
            Ok(specs) => specs,
            Err(error) => {
                return Ok(Err(Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), Some(name))));
            }
        };
        let mut blobs = Blobs::new();
        for (path, hash) in &self.files {
            blobs.insert(hash.clone(), Arc::new(std::fs::read(path)?));
        }
        Ok(match Inputs::write(specs, seed, &blobs, &self.work_directory.join("programs"))? {
            Ok(inputs) => Ok(inputs),
            Err(failure) => Err(failed(self.kernel, &failure, name)?),
        })
    }

    /// Gate 2 of a program's outputs, on one seed.
    fn check_program(
        &mut self,
        program: &mut Program,
        config: &config::Program,
        shape: usize,
        specs: &[TensorSpec],
    ) -> Result<Result<SeedReport, Rejection>, RunError> {
        let kernel = self.kernel;
        let name = &kernel.shapes[shape].name;
        let outputs = match program.check() {
            Ok(outputs) => outputs,
            Err(refusal) => return Ok(Err(rejected(refusal, name)?)),
        };
        for (index, bytes) in &outputs {
            let spec = &specs[*index];
            if bytes.0.len() != spec.bytes() {
                let message =
                    format!("`{}` has {} bytes where {} were expected", spec.name, bytes.0.len(), spec.bytes());
                return Ok(Err(Rejection::new(Gate::Performance, Reason::Protocol, message, Some(name))));
            }
        }
        let reference = self.reference(kernel, shape, &kernel.space.default)?;
        let seed = self.time_job(Vec::new()).seed;
        self.refer(kernel, name, specs, &reference, &[Asked::seed(seed)])?;
        let limits = limits(config, &kernel.gates.correctness);
        let job = InspectJob {
            id: 0,
            tensors: specs.to_vec(),
            reference,
            seed,
            outputs,
            bad_above: gates::correctness::bad_above(limits),
        };
        let report = match self.executor.inspect(job, self.timeout()) {
            Ok(reports) => reports.into_iter().next(),
            Err(ExecutorError::Job { failure, .. }) => return Ok(Err(failed(kernel, &failure, name)?)),
            Err(error) => return Err(error.into()),
        };
        let Some(report) = report else {
            let message = "the worker compared nothing";
            return Ok(Err(Rejection::new(Gate::Performance, Reason::Protocol, message, Some(name))));
        };
        let finding = gates::correctness::judge(limits, &kernel.tensors, name, std::slice::from_ref(&report));
        // What a gate at level `warn` says of the kernel's own errors is not said again of a baseline's.
        Ok(at_level(limits.level, finding, &mut Vec::new()).map_or(Ok(report), Err))
    }

    /// Checks a program's outputs once more after its last sample; what goes into the record.
    pub(super) fn finish_program(
        &mut self,
        rival: &mut Rival<'_>,
        shape: usize,
        inputs: &Inputs,
        turn: u32,
    ) -> Result<Result<ExternalRecord, Rejection>, RunError> {
        let config = rival.config;
        let (program, before) = rival.running.as_mut().expect("started");
        Ok(match self.check_program(program, config, shape, inputs.specs())? {
            Ok(after) => {
                let errors = ShapeErrors::worst(&self.kernel.shapes[shape].name, &[before.clone(), after]);
                Ok(ExternalRecord {
                    command: config.command.clone(),
                    versions: program.versions.clone(),
                    turn,
                    // Twice the same seed.
                    errors: ShapeErrors { seeds: 1, ..errors },
                })
            }
            Err(rejection) => Err(Rejection { message: format!("after timing: {}", rejection.message), ..rejection }),
        })
    }
}

/// What a program's errors are judged by.
fn limits<'a>(program: &'a config::Program, kernel: &'a CorrectnessLimits) -> &'a CorrectnessLimits {
    program.correctness.as_ref().unwrap_or(kernel)
}

/// A refusal as data, unless the user ended the run.
fn rejected(refusal: Refusal, shape: &str) -> Result<Rejection, RunError> {
    refusal.rejection(shape).ok_or_else(|| ExecutorError::Interrupted.into())
}

#[cfg(test)]
mod tests {
    use super::turn;

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

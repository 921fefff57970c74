//! One kernel on the bench: builds its variants, runs them through the gates, compares them. Both `gate` and `autotune`
//! stand on this; only what they ask for differs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use kbench_runtime::protocol::{
    Case, CheckJob, DeviceInfo, Failure, Reference, SeedReport, TensorSpec, TimeJob, TimedCase, Timing,
};
use kbench_runtime::stats::Summary;

pub use build::{Attempt, BuildFailure, Builder, Built};
pub use compare::{Compared, Entrant};
pub use dead::dead_toggles;

use crate::compile::{Artifact, CompileError, Compiler};
use crate::config::{Backend, Init, Kernel, Package};
use crate::evaluation::{Evaluation, Gate, Outcome, Reason, Rejection, ShapeErrors, TimingRecord};
use crate::executor::{Executor, ExecutorError, WorkerOptions};
use crate::gates::{self, at_level};
use crate::journal::{Journal, Known, Record};
use crate::resolve::{ResolveError, device_kind};
use crate::space::{Settings, Variant};

mod arch;
mod build;
mod compare;
mod dead;
mod sanitize;

use arch::arch_for;

/// What ends a run, as opposed to a variant.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No device, no worker, or Ctrl-C.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A tool is missing.
    #[error(transparent)]
    Tool(CompileError),
    /// The reference does not build or run, or the inputs cannot be made.
    #[error("kernel `{kernel}` has nothing to be compared with: {message}")]
    Reference {
        /// The kernel.
        kernel: String,
        /// Why, in the compiler's words.
        message: String,
    },
    /// No architecture to compile for.
    #[error("{0}")]
    NoArch(String),
    /// A sanitizer that is there and does not work here.
    #[error("the sanitizer {tool} does not work: {message}")]
    Sanitizer {
        /// Its name in the table.
        tool: &'static str,
        /// Why.
        message: String,
    },
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// One kernel with all that is needed to try its variants.
pub struct Workbench<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Builds its variants.
    pub builder: Builder<'a>,
    worker_options: WorkerOptions,
    executor: Executor,
    tools: sanitize::Tools,
    device: Option<DeviceInfo>,
    files: HashMap<PathBuf, String>,
    references: HashMap<usize, Artifact>,
    known: Known,
    keys: HashMap<String, Settings>,
    journal: Option<Journal>,
}

impl<'a> Workbench<'a> {
    /// A bench for one kernel of a package; `cache` is the folder for reference results.
    pub fn new(
        package: &'a Package,
        kernel: &'a Kernel,
        compiler: &'a Compiler,
        device_index: u32,
        cache: PathBuf,
    ) -> Self {
        let options = WorkerOptions {
            runner: kernel.runner.clone(),
            tool: Vec::new(),
            device: device_kind(kernel.implementation.backend),
            index: device_index,
            cache,
        };
        Self {
            kernel,
            builder: Builder::new(package, kernel, compiler),
            executor: Executor::new(options.clone()),
            worker_options: options,
            tools: sanitize::Tools::default(),
            device: None,
            files: HashMap::new(),
            references: HashMap::new(),
            known: Known::default(),
            keys: HashMap::new(),
            journal: None,
        }
    }

    /// Opens the device, settles what to compile for, finds the sanitizers, and builds the reference.
    pub fn open(&mut self) -> Result<DeviceInfo, RunError> {
        let device = self.executor.device()?;
        if self.kernel.implementation.backend == Backend::Cuda {
            self.builder.arch = Some(arch_for(&self.kernel.arch, &device)?);
        }
        self.builder.multiprocessors = device.multiprocessors;
        self.device = Some(device.clone());
        self.find_sanitizers()?;
        for tensor in &self.kernel.tensors {
            if let Init::File { path, .. } = &tensor.init {
                let bytes = std::fs::read(path)
                    .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                let hash = blake3::hash(&bytes).to_hex().to_string();
                self.executor.add_blob(&hash, path);
                self.files.insert(path.clone(), hash);
            }
        }
        let reference = &self.kernel.reference;
        for &shape in &self.builder.shapes {
            let unit = self
                .builder
                .unit(
                    self.kernel,
                    &reference.implementation,
                    shape,
                    &self.kernel.space.default,
                    Some(reference.precision),
                )
                .map_err(|error| RunError::Reference {
                    kernel: self.kernel.name.clone(),
                    message: error.to_string(),
                })?;
            let artifact = self.builder.compiler.compile(&unit).map_err(|error| {
                if error.is_variants_own() {
                    RunError::Reference { kernel: self.kernel.name.clone(), message: error.to_string() }
                } else {
                    RunError::Tool(error)
                }
            })?;
            self.executor.add_blob(&artifact.hash, &artifact.code);
            self.references.insert(shape, artifact);
        }
        Ok(device)
    }

    /// Keeps a journal from here on, and uses what it knows.
    pub fn attach(&mut self, journal: Journal, known: Known) {
        self.journal = Some(journal);
        self.known = known;
    }

    /// Appends a record, where a journal is kept.
    pub fn record(&mut self, record: &Record) -> Result<(), RunError> {
        if let Some(journal) = &mut self.journal {
            journal.append(record)?;
        }
        Ok(())
    }

    fn reference(&self, shape: usize) -> Result<Reference, ResolveError> {
        let reference = &self.kernel.reference;
        let point = self.builder.point(self.kernel, shape, &self.kernel.space.default);
        let launch = point.launch(&reference.implementation, &self.references[&shape])?;
        Ok(Reference { launch, precision: reference.precision })
    }

    fn case(&self, variant: &Variant, built: &Built, shape: usize) -> Result<Case, ResolveError> {
        let point = self.builder.point(self.kernel, shape, variant);
        point.case(&self.kernel.implementation, built.artifact(shape), &self.files)
    }

    fn check_job(&self, case: Case, reference: Reference) -> CheckJob {
        let limits = &self.kernel.gates.correctness;
        CheckJob {
            id: 0,
            case,
            reference,
            seeds: (0..u64::from(limits.seeds)).collect(),
            bad_above: gates::correctness::bad_above(limits),
        }
    }

    fn time_job(&self, cases: Vec<TimedCase>) -> TimeJob {
        let timing = &self.kernel.timing;
        TimeJob {
            id: 0,
            cases,
            seed: 0,
            warmup: timing.warmup,
            iterations: timing.iterations,
            cache: timing.cache,
            bad_above: gates::correctness::bad_above(&self.kernel.gates.correctness),
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.kernel.timing.timeout_seconds)
    }

    /// Runs a built variant through gate 2 and times it at the search's shape. What is known already is not run again.
    pub fn evaluate(&mut self, variant: &Variant, attempt: Attempt) -> Result<Evaluation, RunError> {
        let toggles = self.kernel.space.settings(variant);
        let mut evaluation = Evaluation::new(toggles.clone(), attempt.warnings);
        let built = match attempt.result {
            Ok(built) => built,
            Err(BuildFailure { rejection, built }) => {
                evaluation.builds = built.map(|built| built.records(self.kernel)).unwrap_or_default();
                evaluation.outcome = Outcome::Rejected(rejection);
                self.record(&Record::Evaluation(Box::new(evaluation.clone())))?;
                return Ok(evaluation);
            }
        };
        evaluation.builds = built.records(self.kernel);
        let jobs = match self.jobs(variant, &built) {
            Ok(jobs) => jobs,
            Err(error) => {
                let rejection = Rejection::new(Gate::Compile, Reason::Geometry, error.to_string(), None);
                evaluation.outcome = Outcome::Rejected(rejection);
                self.record(&Record::Evaluation(Box::new(evaluation.clone())))?;
                return Ok(evaluation);
            }
        };
        evaluation.key = self.key(&jobs, &built);
        if let Some(known) = self.known.evaluations.get(&evaluation.key) {
            let twin = self.keys.get(&evaluation.key).filter(|&twin| *twin != toggles).cloned();
            let known = Evaluation {
                toggles: toggles.clone(),
                builds: evaluation.builds,
                warnings: evaluation.warnings,
                twin,
                ..known.clone()
            };
            self.keys.entry(known.key.clone()).or_insert(toggles);
            return Ok(known);
        }
        self.run(jobs, &built, &mut evaluation)?;
        self.keys.insert(evaluation.key.clone(), toggles);
        self.known.evaluations.insert(evaluation.key.clone(), evaluation.clone());
        self.record(&Record::Evaluation(Box::new(evaluation.clone())))?;
        Ok(evaluation)
    }

    fn jobs(&self, variant: &Variant, built: &Built) -> Result<Jobs, ResolveError> {
        let mut checks = Vec::new();
        for &shape in &self.kernel.gates.correctness.shapes {
            let case = self.case(variant, built, shape)?;
            checks.push((shape, self.check_job(case, self.reference(shape)?)));
        }
        // Cheapest first: a wrong variant should cost little.
        checks.sort_by_key(|(_, job)| job.case.tensors.iter().map(TensorSpec::bytes).sum::<usize>());
        let shape = self.kernel.search.shape;
        let case = self.case(variant, built, shape)?;
        let time = self.time_job(vec![TimedCase { case, reference: self.reference(shape)? }]);
        Ok(Jobs { checks, time })
    }

    /// Everything the outcome depends on, with machine code in place of binaries, whose names and notes may differ.
    fn key(&self, jobs: &Jobs, built: &Built) -> String {
        let checks: Vec<&CheckJob> = jobs.checks.iter().map(|(_, job)| job).collect();
        let device = self.device.as_ref().map(|device| (&device.name, &device.driver));
        let gates = format!("{:?}", self.kernel.gates.correctness);
        let mut text = serde_json::to_string(&(device, &checks, &jobs.time, gates)).expect("plain data");
        for build in &built.builds {
            text = text.replace(&build.artifact.hash, &build.artifact.identity);
        }
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    fn run(&mut self, jobs: Jobs, built: &Built, evaluation: &mut Evaluation) -> Result<(), RunError> {
        for build in &built.builds {
            self.executor.add_blob(&build.artifact.hash, &build.artifact.code);
        }
        for (shape, job) in jobs.checks {
            let name = self.kernel.shapes[shape].name.clone();
            match self.check(&name, job)? {
                Ok((errors, warnings)) => {
                    evaluation.errors.push(errors);
                    evaluation.warnings.extend(warnings);
                }
                Err(rejection) => {
                    evaluation.outcome = Outcome::Rejected(rejection);
                    return Ok(());
                }
            }
        }
        let name = self.kernel.shapes[self.kernel.search.shape].name.clone();
        let timing = match self.executor.time(jobs.time, self.timeout()) {
            Ok(timings) => timings.into_iter().next(),
            Err(ExecutorError::Job { failure, .. }) => {
                evaluation.outcome = Outcome::Rejected(self.failed(&failure, &name)?);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let unusable = match &timing {
            Some(timing) => self.unusable(&name, timing, &mut evaluation.warnings),
            None => Some(Rejection::new(Gate::Performance, Reason::Protocol, "the worker timed nothing", Some(&name))),
        };
        if let Some(rejection) = unusable {
            evaluation.outcome = Outcome::Rejected(rejection);
            return Ok(());
        }
        evaluation.timing = timing.and_then(|timing| timing_record(&name, &timing));
        Ok(())
    }

    /// Gate 2 at one shape.
    fn check(&mut self, shape: &str, job: CheckJob) -> Result<Result<(ShapeErrors, Vec<String>), Rejection>, RunError> {
        let seeds = match self.executor.check(job, self.timeout()) {
            Ok(seeds) => seeds,
            Err(ExecutorError::Job { failure, .. }) => return Ok(Err(self.failed(&failure, shape)?)),
            Err(error) => return Err(error.into()),
        };
        let mut warnings = Vec::new();
        Ok(match self.judge(shape, &seeds, &mut warnings) {
            Some(rejection) => Err(rejection),
            None => Ok((ShapeErrors::worst(shape, &seeds), warnings)),
        })
    }

    fn judge(&self, shape: &str, seeds: &[SeedReport], warnings: &mut Vec<String>) -> Option<Rejection> {
        let limits = &self.kernel.gates.correctness;
        let finding = gates::correctness::judge(limits, &self.kernel.tensors, shape, seeds);
        at_level(limits.level, finding, warnings)
    }

    /// A failed job as a rejection, unless it was not the kernel's fault: then there is no point in going on.
    fn failed(&self, failure: &Failure, shape: &str) -> Result<Rejection, RunError> {
        if let Failure::Reference { .. } | Failure::Inputs { .. } = failure {
            let kernel = self.kernel.name.clone();
            return Err(RunError::Reference { kernel, message: format!("at {shape}: {failure}") });
        }
        Ok(Rejection::new(Gate::Launch, failure.into(), failure.to_string(), Some(shape)))
    }

    /// Why a timing cannot be used: the outputs were no longer right after it, or it holds no numbers.
    fn unusable(&self, shape: &str, timing: &Timing, warnings: &mut Vec<String>) -> Option<Rejection> {
        if Summary::of(&timing.samples).is_none() {
            let message = "the worker's samples are not numbers";
            return Some(Rejection::new(Gate::Performance, Reason::Protocol, message, Some(shape)));
        }
        let mut rejection = self.judge(shape, std::slice::from_ref(&timing.after), warnings)?;
        rejection.message = format!("after timing: {}", rejection.message);
        Some(rejection)
    }
}

/// The jobs of one evaluation.
struct Jobs {
    checks: Vec<(usize, CheckJob)>,
    time: TimeJob,
}

/// `None` where the samples are not numbers.
fn timing_record(shape: &str, timing: &Timing) -> Option<TimingRecord> {
    Some(TimingRecord {
        shape: shape.to_owned(),
        summary: Summary::of(&timing.samples)?,
        batch: timing.batch,
        clock: timing.clock.clone(),
    })
}

//! One kernel on an open device: the builder of its variants, the worker that runs them, references, files, and
//! recorded results. A harness runs jobs and judges nothing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use kbench_runtime::driver::threads;
use kbench_runtime::protocol::{CheckJob, DeviceInfo, Mutation, TimeJob, TimedCase};

pub use build::{Build, Builder, Built, compile_rejection, no_geometry};
pub use candidate::{Candidate, Proposed};
pub use circumstances::Named;
pub use context::Context;
pub use doing::{Doing, Step};
pub use error::{Halt, RunError, caught};
pub use event::{CounterFindings, Event, Reporter};
pub use exit::Exit;
pub use reference::References;
pub use results::Results;
pub use sanitizers::Sanitizers;

use crate::build::Compiler;
use crate::build::resolve::device_kind;
use crate::config::{Backend, Kernel, Objective, Package, ReferenceKind};
use crate::process::executor::{Executor, ExecutorError, WorkerOptions};
use crate::profile::ceilings::Ceilings;
use crate::record::evaluation::Evaluation;
use crate::record::journal::Record;
use crate::space::Variant;

mod arch;
mod build;
mod candidate;
mod ceilings;
mod circumstances;
mod context;
mod doing;
mod error;
mod event;
mod exit;
mod reference;
mod results;
mod sanitizers;

/// The tools, the device and the folder that evaluations share.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Builds variants and references.
    pub compiler: &'a Compiler,
    /// Index of the device.
    pub device: u32,
    /// `<target>/kbench`, the folder of reference results, ceilings and files for programs.
    pub work_directory: &'a Path,
    /// Receives notices about work that takes a while and that the user did not request.
    pub notify: fn(&Notice),
}

/// Work that takes a while and that the user did not request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The ceilings of a device are measured, once for all later runs.
    Ceilings {
        /// The device's name.
        device: String,
    },
    /// The user ended the search; the best variants so far go to the finals.
    CutOff,
    /// Several workers measure at the same time.
    Workers {
        /// Number of workers.
        count: usize,
        /// The device's name.
        device: String,
    },
    /// One of several workers is lost.
    WorkerLost {
        /// Name of the worker.
        worker: String,
        /// Reason.
        why: String,
        /// Time until its restart; `None` if it is not started again.
        again: Option<Duration>,
    },
}

/// Settings of a harness.
#[derive(Debug, Default)]
pub struct Opening<'v> {
    /// The first variant to build, if it is known: compilers start with it while the device opens.
    pub first: Option<&'v Variant>,
    /// The change to the kernel's results that the worker makes, for an audit.
    pub mutation: Option<Mutation>,
    /// Settings of the worker: the first that opens a device is used. Empty for those of the table.
    pub workers: Vec<WorkerOptions>,
}

/// A kernel on an open device, with everything that is needed to evaluate its variants.
pub struct Harness<'a> {
    /// The kernel, its device and its files.
    pub context: Context<'a>,
    /// The worker that runs the variants.
    pub worker: Executor,
    /// The references of the kernel and of its baselines.
    pub references: References,
    /// Recorded results, and the journal.
    pub results: Results,
    /// The sanitizers that the table asks for.
    pub sanitizers: Sanitizers,
    /// Ceilings of the device, measured once; the error is the reason why they are not known.
    ceilings: Option<Result<Ceilings, String>>,
    /// Whether this run has measured the ceilings beside the known ones.
    has_confirmed_ceilings: bool,
    /// Time of the device by activity.
    pub times: DeviceTimes,
    /// The current activity.
    pub doing: Doing,
    /// Time of compilations before this kernel.
    busy_before: Duration,
}

/// Time of a device and its worker by activity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceTimes {
    /// Time of checks, references and inputs included.
    pub verify: Duration,
    /// Time of timing, and of checks after it.
    pub time: Duration,
    /// Time of sanitizers and profilers.
    pub tools: Duration,
}

impl<'a> Harness<'a> {
    /// Opens the device of a kernel, determines the architecture, finds the sanitizers, and builds the reference.
    pub fn open(
        setup: Setup<'a>,
        package: &'a Package,
        kernel: &'a Kernel,
        opening: Opening<'_>,
    ) -> Result<Self, RunError> {
        let busy_before = setup.compiler.busy();
        let mut builder = Builder::new(package, kernel, setup.compiler);
        let mut choices = opening.workers;
        if choices.is_empty() {
            choices.extend(workers_of_table(setup, kernel).into_iter().take(1));
        }
        for choice in &mut choices {
            choice.mutation.clone_from(&opening.mutation);
        }
        let (mut worker, device) = open_beside_compilers(choices, &builder, opening.first)?;
        builder.fit(&device)?;
        let sanitizers = Sanitizers::find(kernel, setup.compiler)?;
        let files = context::files(package, kernel)?;
        for (path, hash) in &files {
            worker.add_blob(hash, path);
        }
        let runner_files = context::named_files(&package.directory, &kernel.runner);
        let context = Context {
            kernel,
            builder,
            device,
            files,
            runner_files,
            circumstances: OnceLock::new(),
            objectives: vec![Objective::P50],
            elite_path: PathBuf::new(),
            setup,
        };
        let mut harness = Self {
            context,
            worker,
            references: References::default(),
            results: Results::default(),
            sanitizers,
            ceilings: None,
            has_confirmed_ceilings: false,
            times: DeviceTimes::default(),
            doing: Doing::default(),
            busy_before,
        };
        for shape in harness.context.builder.shapes().to_vec() {
            harness.references.of(&harness.context, &mut harness.worker, kernel, shape, &kernel.space.default)?;
        }
        Ok(harness)
    }

    /// The same kernel on another worker, which may measure at the same time. The new harness has no journal and no
    /// recorded results.
    pub fn beside(&self, worker: Executor) -> Self {
        Self {
            context: self.context.clone(),
            worker,
            references: References::default(),
            results: Results::default(),
            sanitizers: self.sanitizers.clone(),
            ceilings: None,
            has_confirmed_ceilings: false,
            times: DeviceTimes::default(),
            doing: self.doing.clone(),
            busy_before: self.busy_before,
        }
    }

    /// The kernel.
    pub fn kernel(&self) -> &'a Kernel {
        self.context.kernel
    }

    /// Has evaluations measure all that the kernel's objectives need; an error where the device cannot. `root` is the folder of elite.json.
    pub fn pursue_objectives(&mut self, root: &Path) -> Result<(), RunError> {
        self.context.elite_path = root.join("elite.json");
        let kernel = self.kernel();
        if kernel.objectives.contains(&Objective::Energy)
            && let Some(message) = self.worker.lacks_energy()?
        {
            let device = self.context.device.name.clone();
            return Err(RunError::Energy { kernel: kernel.name.clone(), device, message });
        }
        self.context.objectives.clone_from(&kernel.objectives);
        Ok(())
    }

    /// Runs a reference by `command` for a check, unless its results are recorded: see [`References::of_check`].
    pub fn refer_check(&mut self, kernel: &Kernel, shape: &str, job: &CheckJob) -> Result<Vec<String>, RunError> {
        self.references.of_check(&self.context, &mut self.worker, kernel, shape, job)
    }

    /// Runs a reference by `command` for a case of a timing, on both sets of its inputs.
    pub fn refer_timed(
        &mut self,
        kernel: &Kernel,
        shape: &str,
        timed: &TimedCase,
        job: &TimeJob,
    ) -> Result<Vec<String>, RunError> {
        self.references.of_timed(&self.context, &mut self.worker, kernel, shape, timed, job)
    }

    /// Time of compilations for this harness, summed over all threads.
    pub fn compiled(&self) -> Duration {
        self.context.setup.compiler.busy().saturating_sub(self.busy_before)
    }

    /// Runs a closure whose time counts as `part` of the device's, without the time that the closure counts as another
    /// part.
    pub fn counted_as<R>(
        &mut self,
        part: fn(&mut DeviceTimes) -> &mut Duration,
        work: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let accounted = |times: DeviceTimes| times.verify + times.time + times.tools;
        let (started, before) = (Instant::now(), accounted(self.times));
        let result = work(self);
        let rest = (started.elapsed() + before).saturating_sub(accounted(self.times));
        *part(&mut self.times) += rest;
        result
    }

    /// Appends a record to the journal, if there is one.
    pub fn record(&mut self, record: &Record) -> Result<(), RunError> {
        self.results.record(record)
    }

    /// Appends an evaluation to the journal, if there is one.
    pub fn record_evaluation(&mut self, evaluation: &Evaluation) -> Result<(), RunError> {
        self.results.record_evaluation(evaluation)
    }
}

/// The device of a kernel.
pub fn device(kernel: &Kernel, index: u32, work_directory: &Path) -> Result<DeviceInfo, RunError> {
    let mut worker = Executor::new(WorkerOptions {
        runner: kernel.runner().to_vec(),
        tool: Vec::new(),
        device: device_kind(kernel.implementation.backend),
        index,
        path: kernel.workers.first().and_then(|workers| workers.path.clone()),
        cache: work_directory.join("references"),
        mutation: None,
    });
    Ok(worker.device()?)
}

/// Settings of a worker of each kind in the table.
pub fn workers_of_table(setup: Setup<'_>, kernel: &Kernel) -> Vec<WorkerOptions> {
    let options = |runner: &[String], path: Option<&String>| WorkerOptions {
        runner: runner.to_vec(),
        tool: Vec::new(),
        device: device_kind(kernel.implementation.backend),
        index: setup.device,
        path: path.cloned(),
        cache: setup.work_directory.join("references"),
        mutation: None,
    };
    if kernel.workers.is_empty() {
        return vec![options(&kernel.runner, None)];
    }
    kernel.workers.iter().map(|workers| options(&workers.runner, workers.path.as_ref())).collect()
}

/// Opens the first worker that can be opened. At the same time the compilers build the first variant and the reference, if these do not
/// depend on the device; the results are in the compile cache then, and an error is reported by the later build. If no worker can be opened,
/// returns the error of the first.
fn open_beside_compilers(
    choices: Vec<WorkerOptions>,
    builder: &Builder<'_>,
    first: Option<&Variant>,
) -> Result<(Executor, DeviceInfo), RunError> {
    let kernel = builder.kernel;
    let default = &kernel.space.default;
    let is_known = builder.is_settled();
    thread::scope(|scope| {
        if let Some(first) = first.filter(|_| is_known) {
            let _ = threads::spawn_scoped(scope, || builder.compile(&first.into()));
        }
        if let (ReferenceKind::Function(function), true) = (&kernel.reference.kind, is_known) {
            let precision = Some(kernel.reference.precision);
            let unit = builder.unit(kernel, function, kernel.search.shape, default, precision);
            let _ = threads::spawn_scoped(scope, || unit.map(|unit| builder.compiler.compile(&unit)));
        }
        let mut refused = None;
        for options in choices {
            let mut worker = Executor::new(options);
            match worker.device() {
                Ok(device) => return Ok((worker, device)),
                Err(error @ ExecutorError::Interrupted) => return Err(error.into()),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.expect("there is a worker").into())
    })
}

impl Builder<'_> {
    /// Sets the device as the target of compilations.
    fn fit(&mut self, device: &DeviceInfo) -> Result<(), RunError> {
        if self.kernel.implementation.backend == Backend::Cuda {
            self.arch = Some(arch::arch_for(&self.kernel.arch, device)?);
        }
        self.multiprocessors = device.multiprocessors;
        Ok(())
    }
}

//! One kernel on the bench: builds its variants, runs them through the gates, compares them. Both `gate` and `autotune`
//! stand on this; only what they ask for differs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{DeviceInfo, Mutation};

pub use build::{Attempt, BuildFailure, Builder, Built};
pub use compare::{Compared, Entrant};
pub use dead::dead_toggles;
pub use doing::{Doing, Step};
pub use one::Race;
pub use profile::Judged;
pub use proposed::Proposed;

use crate::build::resolve::device_kind;
use crate::build::{Artifact, CompileError, Compiler, Unit};
use crate::config::{Backend, Init, Kernel, Objective, Package, ReferenceKind};
use crate::process::executor::{Executor, ExecutorError, WorkerOptions};
use crate::profile::ceilings::Ceilings;
use crate::record::evaluation::SourceRecord;
use crate::record::journal::{Journal, Known, Record, Round};
use crate::space::{Settings, Variant};

mod arch;
mod build;
mod ceilings;
mod check;
mod circumstances;
mod compare;
mod dead;
mod doing;
mod objectives;
mod one;
mod profile;
mod programs;
mod proposed;
mod reference;
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
    /// The reference is a program that cannot run here.
    #[error("the reference of kernel `{kernel}` is unavailable: {message}")]
    Unavailable {
        /// The kernel.
        kernel: String,
        /// Why, in the program's words.
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
    /// The objective is energy, and the device cannot tell it.
    #[error("the objective `energy` of kernel `{kernel}` cannot be measured on {device}: {message}")]
    Energy {
        /// The kernel.
        kernel: String,
        /// The device's name.
        device: String,
        /// Why.
        message: String,
    },
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The tools, the device and the folder that evaluations share.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Builds variants and references.
    pub compiler: &'a Compiler,
    /// Index of the device.
    pub device: u32,
    /// `<target>/kbench`: reference results, ceilings and files for programs are kept there.
    pub work_directory: &'a Path,
    /// Hears of work that takes a while and that nobody asked for.
    pub notify: fn(&Notice),
}

/// Work that takes a while and that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The ceilings of a device are measured, once for all later runs.
    Ceilings {
        /// The device's name.
        device: String,
    },
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
    /// Asked for once; the error is why they are not known.
    ceilings: Option<Result<Ceilings, String>>,
    /// `<target>/kbench`.
    work_directory: &'a Path,
    notify: fn(&Notice),
    device: Option<DeviceInfo>,
    files: HashMap<PathBuf, String>,
    references: Vec<(Unit, Artifact)>,
    programs: reference::Programs,
    known: Known,
    /// Who was the first with a key.
    keys: HashMap<String, (Settings, Option<SourceRecord>)>,
    journal: Option<Journal>,
    /// What evaluations measure.
    objectives: Vec<Objective>,
    /// What the device's time went to.
    pub times: DeviceTimes,
    /// What is done now.
    pub doing: Doing,
    /// How long the compiler had been busy before.
    busy_before: Duration,
}

/// What the time of a device and its worker went to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceTimes {
    /// Checks of variants, references and inputs included.
    pub verify: Duration,
    /// Timing, and what is checked after it.
    pub time: Duration,
    /// Sanitizers and profilers.
    pub tools: Duration,
}

impl<'a> Workbench<'a> {
    /// A bench for one kernel of a package.
    pub fn new(setup: Setup<'a>, package: &'a Package, kernel: &'a Kernel) -> Self {
        let compiler = setup.compiler;
        let options = WorkerOptions {
            runner: kernel.runner.clone(),
            tool: Vec::new(),
            device: device_kind(kernel.implementation.backend),
            index: setup.device,
            cache: setup.work_directory.join("references"),
            mutation: None,
        };
        Self {
            kernel,
            builder: Builder::new(package, kernel, compiler),
            executor: Executor::new(options.clone()),
            worker_options: options,
            tools: sanitize::Tools::default(),
            ceilings: None,
            notify: setup.notify,
            work_directory: setup.work_directory,
            device: None,
            files: HashMap::new(),
            references: Vec::new(),
            programs: reference::Programs::default(),
            known: Known::default(),
            keys: HashMap::new(),
            journal: None,
            objectives: vec![Objective::P50],
            times: DeviceTimes::default(),
            doing: Doing::default(),
            busy_before: compiler.busy(),
        }
    }

    /// Has the worker spoil what the kernel does, for an audit. To be called before [`Workbench::open`].
    pub fn mutate(&mut self, mutation: Mutation) {
        self.worker_options.mutation = Some(mutation);
        self.executor = Executor::new(self.worker_options.clone());
    }

    /// Opens the device, settles what to compile for, finds the sanitizers, and builds the reference. `first` is what will be
    /// built first, where that is known.
    pub fn open(&mut self, first: Option<&Variant>) -> Result<DeviceInfo, RunError> {
        let device = self.open_beside_compilers(first)?;
        if self.kernel.implementation.backend == Backend::Cuda {
            self.builder.arch = Some(arch_for(&self.kernel.arch, &device)?);
        }
        self.builder.multiprocessors = device.multiprocessors;
        self.device = Some(device.clone());
        self.find_sanitizers()?;
        self.add_files(self.kernel)?;
        for shape in self.builder.shapes.clone() {
            self.reference(self.kernel, shape, &self.kernel.space.default)?;
        }
        Ok(device)
    }

    /// Opens the device while the compilers make what is needed first, if they need not know the device. What they make lies in
    /// their cache then; what goes wrong goes wrong again where it is asked for.
    fn open_beside_compilers(&mut self, first: Option<&Variant>) -> Result<DeviceInfo, RunError> {
        let (kernel, builder) = (self.kernel, self.builder.clone());
        let default = &kernel.space.default;
        let is_known = builder.is_settled();
        thread::scope(|scope| {
            if let Some(first) = first.filter(|_| is_known) {
                scope.spawn(|| builder.build(first));
            }
            if let (ReferenceKind::Function(function), true) = (&kernel.reference.kind, is_known) {
                let precision = Some(kernel.reference.precision);
                let unit = builder.unit(kernel, function, kernel.search.shape, default, precision);
                scope.spawn(|| unit.map(|unit| builder.compiler.compile(&unit)));
            }
            Ok(self.executor.device()?)
        })
    }

    /// Makes the tensor files of a kernel known.
    fn add_files(&mut self, kernel: &Kernel) -> Result<(), RunError> {
        for tensor in &kernel.tensors {
            if let Init::File { path, .. } = &tensor.init
                && !self.files.contains_key(path)
            {
                let bytes = std::fs::read(path)
                    .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                let hash = fingerprint::of_bytes(&bytes);
                self.executor.add_blob(&hash, path);
                self.files.insert(path.clone(), hash);
            }
        }
        Ok(())
    }

    /// Has evaluations measure all that the kernel's objectives need, on an open device; an error where it cannot.
    pub fn pursue_objectives(&mut self) -> Result<(), RunError> {
        if self.kernel.objectives.contains(&Objective::Energy)
            && let Err(message) = self.executor.meter()?
        {
            let device = self.executor.device()?.name;
            return Err(RunError::Energy { kernel: self.kernel.name.clone(), device, message });
        }
        self.objectives.clone_from(&self.kernel.objectives);
        Ok(())
    }

    /// Time spent compiling for this bench, all threads together.
    pub fn compiled(&self) -> Duration {
        self.builder.compiler.busy().saturating_sub(self.busy_before)
    }

    /// Does what runs under a tool; what it checks and times besides counts as that.
    pub fn under_tools<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let (result, rest) = self.beside_what_counts(work);
        self.times.tools += rest;
        result
    }

    /// Does what is timing on the whole; what it checks besides counts as that.
    pub fn as_timing<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let (result, rest) = self.beside_what_counts(work);
        self.times.time += rest;
        result
    }

    /// Does something, and gives the time it took but for what it accounted for.
    fn beside_what_counts<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> (R, Duration) {
        let accounted = |times: DeviceTimes| times.verify + times.time + times.tools;
        let (started, before) = (Instant::now(), accounted(self.times));
        let result = work(self);
        (result, (started.elapsed() + before).saturating_sub(accounted(self.times)))
    }

    /// Keeps a journal from here on, and uses what it knows.
    pub fn attach(&mut self, journal: Journal, known: Known) {
        self.journal = Some(journal);
        self.known = known;
    }

    /// Works on variants of a proposed source, or of the kernel's own.
    pub fn on<R>(&mut self, source: Option<&Arc<Proposed>>, work: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.builder.source, source.cloned());
        let result = work(self);
        self.builder.source = before;
        result
    }

    /// A variant of the source at work, to be compared.
    pub fn entrant(&self, variant: &Variant) -> Entrant {
        match &self.builder.source {
            None => Entrant::Variant(variant.clone()),
            Some(source) => Entrant::Proposed(Arc::clone(source), variant.clone()),
        }
    }

    /// The name of a variant of the source at work.
    pub fn label(&self, variant: &Variant) -> String {
        self.entrant_name(&self.entrant(variant))
    }

    /// Why earlier runs count for nothing, where they do not.
    pub fn drifted(&self) -> Option<&str> {
        self.known.drifted.as_deref()
    }

    /// What proposers handed in before the run that is resumed was cut off.
    pub fn known_rounds(&self) -> &[Round] {
        &self.known.rounds
    }

    /// Appends a record, where a journal is kept.
    pub fn record(&mut self, record: &Record) -> Result<(), RunError> {
        if let Some(journal) = &mut self.journal {
            journal.append(record)?;
        }
        Ok(())
    }
}

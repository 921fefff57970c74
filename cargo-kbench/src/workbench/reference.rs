//! What outputs are compared with: references, which are functions or programs, and naive implementations.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kbench_runtime::protocol::{
    Arg, CacheMode, CheckJob, DeviceKind, Geometry, Launch, Reference, Role, TensorSpec, TimeJob, TimedCase,
};
use kbench_runtime::reference::{self, Asked, References, View};
use kbench_runtime::tensor::{self, Blobs};

use super::{RunError, Workbench};
use crate::config::{BaselineKind, Implementation, Kernel, ReferenceKind, Shape};
use crate::executor::{ExecutorError, PATIENCE};
use crate::external::{Inputs, Problem, Program, ProgramOptions, Refusal};

/// The references that are programs.
#[derive(Default)]
pub(super) struct Programs {
    /// Those that run, by kernel.
    running: HashMap<String, Program>,
    /// Their results, in the folder where the worker looks for them.
    results: Option<References>,
}

impl Workbench<'_> {
    /// The reference of a kernel at a shape, built if it is not.
    pub(super) fn reference(&mut self, kernel: &Kernel, shape: usize) -> Result<Reference, RunError> {
        let precision = kernel.reference.precision;
        let implementation = match &kernel.reference.kind {
            ReferenceKind::Function(implementation) => implementation,
            ReferenceKind::Command(command) => {
                let (launch, program) = (self.program_launch(kernel, command), true);
                return Ok(Reference { launch, precision, program });
            }
        };
        let failed = |message: String| RunError::Reference { kernel: kernel.name.clone(), message };
        let default = &kernel.space.default;
        let key = (kernel.name.clone(), shape);
        if !self.references.contains_key(&key) {
            let unit = self
                .builder
                .unit(kernel, implementation, shape, default, Some(precision))
                .map_err(|error| failed(error.to_string()))?;
            let artifact = self.builder.compiler.compile(&unit).map_err(|error| {
                if error.is_variants_own() { failed(error.to_string()) } else { RunError::Tool(error) }
            })?;
            self.executor.add_blob(&artifact.hash, &artifact.code);
            self.references.insert(key.clone(), artifact);
        }
        let point = self.builder.point(kernel, shape, default);
        let launch = point.launch(implementation, &self.references[&key]);
        let launch = launch.map_err(|error| failed(error.to_string()))?;
        Ok(Reference { launch, precision, program: false })
    }

    /// The launch of the baseline that is named as naive, at a shape.
    pub(super) fn naive(&mut self, shape: usize) -> Result<Option<Launch>, RunError> {
        let kernel = self.kernel;
        let Some(index) = kernel.gates.correctness.naive else { return Ok(None) };
        let (implementation, variant): (&Implementation, _) = match &kernel.baselines[index].kind {
            BaselineKind::Variant(variant) => (&kernel.implementation, variant),
            BaselineKind::Implementation(implementation) => (implementation, &kernel.space.default),
            BaselineKind::Kernel(_) | BaselineKind::Command(_) => unreachable!("refused with the table"),
        };
        let name = &kernel.baselines[index].name;
        let failed = |why: &dyn std::fmt::Display| RunError::Reference {
            kernel: kernel.name.clone(),
            message: format!("the naive implementation `{name}`: {why}"),
        };
        let built = self.builder.build_implementation(kernel, implementation, variant, &[shape])?;
        let built = built.map_err(|rejection| failed(&rejection))?;
        let artifact = built.artifact(shape);
        self.executor.add_blob(&artifact.hash, &artifact.code);
        let launch = self.builder.point(kernel, shape, variant).launch(implementation, artifact);
        launch.map(Some).map_err(|error| failed(&error))
    }

    /// What stands for the launch of a program: everything that its results depend on, as far as one can see from here, which
    /// is the command and the files of the package that it names.
    fn program_launch(&self, kernel: &Kernel, command: &[String]) -> Launch {
        let file = |word: &String| std::fs::read(self.builder.package.directory.join(word)).ok();
        let hash = |bytes: Vec<u8>| blake3::hash(&bytes).to_hex().to_string();
        let files: Vec<Option<String>> = command.iter().map(|word| file(word).map(hash)).collect();
        let identity = format!("{:?}", (command, files));
        let taken = |index: &usize| kernel.tensors[*index].role != Role::Scratch;
        Launch {
            device: DeviceKind::Host,
            blob: hash(identity.into_bytes()),
            entry: String::new(),
            args: (0..kernel.tensors.len()).filter(taken).map(Arg::Tensor).collect(),
            geometry: Geometry::default(),
        }
    }

    /// Has a program give the results that a check needs, unless they are known. Nothing to do for a function.
    pub(super) fn refer_check(&mut self, kernel: &Kernel, shape: &str, job: &CheckJob) -> Result<(), RunError> {
        let (tensors, reference) = (&job.case.tensors, &job.reference);
        let mut asked: Vec<Asked> = job.seeds.iter().map(|seed| Asked::seed(*seed)).collect();
        if reference::is_quantized(tensors, &reference.launch) {
            asked.extend(job.seeds.iter().map(|seed| Asked { view: View::Unquantized, ..Asked::seed(*seed) }));
        }
        for pattern in &job.depth.patterns {
            for view in [View::Given, View::Perturbed(job.depth.tolerance)] {
                asked.push(Asked { seed: 0, pattern: Some(*pattern), view });
            }
        }
        self.refer(kernel, shape, tensors, reference, &asked)
    }

    /// The same for a case of a timing, on both sets of its inputs.
    pub(super) fn refer_timed(
        &mut self,
        kernel: &Kernel,
        shape: &str,
        timed: &TimedCase,
        job: &TimeJob,
    ) -> Result<(), RunError> {
        let asked: Vec<Asked> = std::iter::once(job.seed).chain(job.other_seed).map(Asked::seed).collect();
        self.refer(kernel, shape, &timed.case.tensors, &timed.reference, &asked)
    }

    /// The same for anything.
    pub(super) fn refer(
        &mut self,
        kernel: &Kernel,
        shape: &str,
        tensors: &[TensorSpec],
        reference: &Reference,
        asked: &[Asked],
    ) -> Result<(), RunError> {
        if !reference.program {
            return Ok(());
        }
        let device = self.device.clone().expect("open");
        for &asked in asked {
            let folder = self.worker_options.cache.clone();
            let results = self.programs.results.get_or_insert_with(|| References::new(Some(folder)));
            let key = reference::key(reference, tensors, asked, &device);
            if results.knows(&key) {
                continue;
            }
            let shape = kernel.shapes.iter().find(|other| other.name == shape).expect("a shape of the kernel");
            let outputs = match self.ask_program(kernel, shape, tensors, reference, asked) {
                Ok(outputs) => outputs,
                Err(error) => {
                    self.programs.running.remove(&kernel.name);
                    return Err(error);
                }
            };
            let results = self.programs.results.as_mut().expect("made above");
            results.get(&key, || Ok(outputs)).expect("it is there");
        }
        // The worker is about to look for them.
        if let Some(results) = &mut self.programs.results {
            results.settle();
        }
        Ok(())
    }

    fn ask_program(
        &mut self,
        kernel: &Kernel,
        shape: &Shape,
        tensors: &[TensorSpec],
        reference: &Reference,
        asked: Asked,
    ) -> Result<reference::Outputs, RunError> {
        let ReferenceKind::Command(command) = &kernel.reference.kind else { unreachable!("it is a program") };
        let failed = |message: String| RunError::Reference { kernel: kernel.name.clone(), message };
        let refused = |refusal: Refusal| match refusal {
            Refusal::Interrupted => ExecutorError::Interrupted.into(),
            Refusal::Unavailable(message) => RunError::Unavailable { kernel: kernel.name.clone(), message },
            Refusal::Failure(failure) => failed(format!("at {}: the reference failed: {failure}", shape.name)),
        };
        let mut blobs = Blobs::new();
        for (path, hash) in &self.files {
            blobs.insert(hash.clone(), Arc::new(std::fs::read(path)?));
        }
        let inputs = tensor::generate_pattern(tensors, asked.seed, asked.pattern, &blobs);
        let inputs = inputs.map_err(|failure| failed(failure.to_string()))?;
        let wide = reference::wide_specs(reference, tensors);
        let inputs = reference::wide_inputs(reference, tensors, &inputs, asked.view);
        let inputs = Inputs::of(wide, inputs, &self.scratch)?;
        let device = self.device.as_ref().expect("open");
        if !self.programs.running.contains_key(&kernel.name) {
            let options = ProgramOptions {
                runner: &kernel.runner,
                command,
                directory: &self.builder.package.directory,
                device,
                timeout: PATIENCE,
            };
            let program = Program::open(&options).map_err(refused)?;
            self.programs.running.insert(kernel.name.clone(), program);
        }
        let program = self.programs.running.get_mut(&kernel.name).expect("inserted above");
        let dims: BTreeMap<String, i64> = shape.dims.iter().cloned().collect();
        let (seed, cache) = (asked.seed, CacheMode::Hot);
        let problem = Problem { shape: &shape.name, dims, seed, warmup: 0, cache };
        program.prepare("reference", device, &problem, &inputs).map_err(refused)?;
        let mut outputs = reference::Outputs::new();
        for (index, bytes) in program.check().map_err(refused)? {
            let spec = &inputs.specs()[index];
            if bytes.0.len() != spec.bytes() {
                let (has, wants) = (bytes.0.len(), spec.bytes());
                return Err(failed(format!("its `{}` has {has} bytes where {wants} were expected", spec.name)));
            }
            outputs.insert(index, (spec.dtype, bytes.0));
        }
        reference::some_finite(tensors, &outputs, asked).map_err(|failure| failed(failure.to_string()))?;
        Ok(outputs)
    }
}

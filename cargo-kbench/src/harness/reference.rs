//! References, which compute the right outputs as functions or programs, and naive implementations.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use kbench_runtime::driver::reference::{self, ReferenceCache as Results, ReferenceInputs, TRANSIENT, View};
use kbench_runtime::driver::tensor::{self, Blobs};
use kbench_runtime::dtype::DType;
use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{
    Arg, CacheMode, CheckJob, DeviceKind, Failure, Geometry, Launch, LaunchMode, Reference, Role, Sequence, TensorSpec,
    TimeJob, TimedCase,
};

use super::{Context, RunError, caught};
use crate::build::{Artifact, Unit};
use crate::config::{BaselineKind, Diagnostic, Implementation, Kernel, ReferenceKind, Shape};
use crate::process::executor::{Executor, ExecutorError, PATIENCE};
use crate::process::program::{Inputs, Problem, Program, ProgramOptions, Refusal};
use crate::space::Variant;

/// The references of a kernel and of its baselines.
#[derive(Default)]
pub struct References {
    /// References that are functions.
    compiled: Vec<(Unit, Artifact)>,
    /// Running references that are programs, by kernel.
    running: HashMap<String, Program>,
    /// Results of these programs, in the folder where the worker looks for them.
    results: Option<Results>,
    /// Fingerprints of results by key, for programs that state no identity.
    answers: HashMap<String, String>,
}

/// Salt of this process for the identities of programs that state none.
fn this_process() -> u64 {
    static DRAWN: OnceLock<u64> = OnceLock::new();
    *DRAWN.get_or_init(|| RandomState::new().hash_one(std::process::id()))
}

/// The advice that a reference is written for the other precision, with the place in the table that sets the precision.
fn other_precision(kernel: &Kernel, implementation: &Implementation) -> String {
    let (passed, takes, help) = match kernel.reference.precision {
        DType::F32 => ("float", "double", "leave `precision = \"f32\"` out, or write the reference in float"),
        _ => ("double", "float", "write the reference in double, or say `precision = \"f32\"` in its table"),
    };
    let message =
        format!("the reference `{}` takes {takes} where it is passed {passed}", implementation.entries().join(", "));
    let label = format!("every floating-point tensor is passed as {passed}");
    let drawn = Diagnostic::error(message).at(&kernel.reference.place, label).help(help).render(false);
    drawn.trim_start_matches("error: ").to_owned()
}

impl References {
    /// The reference of a kernel at a shape, built on first use. Toggles in its arguments, launch or defines have the
    /// values of `variant`.
    pub fn of(
        &mut self,
        context: &Context<'_>,
        worker: &mut Executor,
        kernel: &Kernel,
        shape: usize,
        variant: &Variant,
    ) -> Result<Reference, RunError> {
        let precision = kernel.reference.precision;
        let implementation = match &kernel.reference.kind {
            ReferenceKind::Function(implementation) => implementation,
            ReferenceKind::Command(command) => {
                let identity = self.program_identity(context, kernel, &kernel.shapes[shape], command)?;
                return Ok(Reference { sequence: program_sequence(kernel), precision, program: true, identity });
            }
        };
        let failed = |message: String| RunError::Reference { kernel: kernel.name.clone(), message };
        let unit = context
            .builder
            .unit(kernel, implementation, shape, variant, Some(precision))
            .map_err(|error| failed(error.to_string()))?;
        let built = self.compiled.iter().position(|(other, _)| *other == unit);
        let at = if let Some(at) = built {
            at
        } else {
            let artifact = context.builder.compiler.compile(&unit).map_err(|error| {
                if !error.is_variants_own() {
                    return RunError::Tool(error);
                }
                // The compiler decides whether the reference is right in the other precision.
                let other = if precision == DType::F64 { DType::F32 } else { DType::F64 };
                let unit = context.builder.unit(kernel, implementation, shape, variant, Some(other));
                let is_other = unit.is_ok_and(|unit| context.builder.compiler.compile(&unit).is_ok());
                failed(if is_other { other_precision(kernel, implementation) } else { error.to_string() })
            })?;
            worker.add_blob(&artifact.hash, &artifact.code);
            self.compiled.push((unit, artifact));
            self.compiled.len() - 1
        };
        let (_, artifact) = &self.compiled[at];
        let sequence = context.builder.point(kernel, shape, variant).sequence(implementation, artifact);
        let sequence = sequence.map_err(|error| failed(error.to_string()))?;
        Ok(Reference { sequence, precision, program: false, identity: artifact.identity.clone() })
    }

    /// The launches of the baseline that is named as naive, at a shape; of a function, [beside](Kernel::beside) `variant`.
    pub fn naive(
        context: &Context<'_>,
        worker: &mut Executor,
        shape: usize,
        variant: &Variant,
    ) -> Result<Option<Sequence>, RunError> {
        let kernel = context.kernel;
        let Some(index) = kernel.gates.correctness.naive else { return Ok(None) };
        let (implementation, variant): (&Implementation, Variant) = match &kernel.baselines[index].kind {
            BaselineKind::Variant(naive) => (&kernel.implementation, naive.clone()),
            BaselineKind::Implementation(implementation) => (implementation, kernel.beside(implementation, variant)),
            // The table refuses to call these naive.
            BaselineKind::Kernel(_) | BaselineKind::Command(_) => return Ok(None),
        };
        let name = &kernel.baselines[index].name;
        let failed = |why: &dyn std::fmt::Display| RunError::Reference {
            kernel: kernel.name.clone(),
            message: format!("the naive implementation `{name}`: {why}"),
        };
        let built = caught(context.builder.build_implementation(kernel, implementation, &variant, &[shape]))?;
        let built = built.map_err(|rejection| failed(&rejection))?;
        let artifact = built.artifact(shape);
        worker.add_blob(&artifact.hash, &artifact.code);
        let sequence = context.builder.point(kernel, shape, &variant).sequence(implementation, artifact);
        sequence.map(Some).map_err(|error| failed(&error))
    }

    /// Everything beside the tensors that a program's results depend on: the command, the files of the package that it
    /// names, the description of the shape, and the identity that the program states. Without an identity the results
    /// are valid in this process only, since imports of the program are unknown.
    fn program_identity(
        &mut self,
        context: &Context<'_>,
        kernel: &Kernel,
        shape: &Shape,
        command: &[String],
    ) -> Result<String, RunError> {
        let stated = self.program(context, kernel, command).and_then(|program| {
            let stated = program.identity();
            stated.map_err(|refusal| refused(kernel, &shape.name, refusal))
        });
        let stated = match stated {
            Ok(stated) => stated,
            Err(error) => {
                self.running.remove(&kernel.name);
                return Err(error);
            }
        };
        let named = (command, context.named_files(command), &shape.name, &shape.dims);
        Ok(match stated {
            Some(stated) => fingerprint::of("program reference", &(named, stated)),
            None => TRANSIENT.to_owned() + &fingerprint::of("passing program reference", &(named, this_process())),
        })
    }

    /// The program of a kernel's reference, started on first use.
    fn program(
        &mut self,
        context: &Context<'_>,
        kernel: &Kernel,
        command: &[String],
    ) -> Result<&mut Program, RunError> {
        if !self.running.contains_key(&kernel.name) {
            let options = ProgramOptions {
                // The driver sends the results to the workers, so their machines need no program.
                runner: if kernel.workers.is_empty() { &kernel.runner } else { &[] },
                command,
                directory: &context.builder.package.directory,
                device: &context.device,
                timeout: PATIENCE,
            };
            let program = Program::open(&options).map_err(|refusal| refused(kernel, "its start", refusal))?;
            self.running.insert(kernel.name.clone(), program);
        }
        Ok(self.running.get_mut(&kernel.name).expect("inserted above"))
    }

    /// Runs the program for a check, unless its results are recorded; does nothing for a function. Returns fingerprints
    /// of the results if the program states no identity: they replace the identity.
    pub fn of_check(
        &mut self,
        context: &Context<'_>,
        worker: &mut Executor,
        kernel: &Kernel,
        shape: &str,
        job: &CheckJob,
    ) -> Result<Vec<String>, RunError> {
        let (tensors, reference) = (&job.case.tensors, &job.reference);
        let mut asked: Vec<ReferenceInputs> = job.seeds.iter().map(|seed| ReferenceInputs::random(*seed)).collect();
        if reference::is_quantized(tensors, &reference.sequence) {
            asked.extend(
                job.seeds
                    .iter()
                    .map(|seed| ReferenceInputs { view: View::Unquantized, ..ReferenceInputs::random(*seed) }),
            );
        }
        for pattern in &job.options.patterns {
            let perturbed = job.options.tolerance.map(View::Perturbed);
            let views = std::iter::once(View::Given).chain(perturbed);
            asked.extend(views.map(|view| ReferenceInputs { seed: 0, pattern: Some(*pattern), view }));
        }
        self.refer(context, worker, kernel, shape, tensors, reference, &asked)
    }

    /// Runs the program for a case of a timing, on both sets of its inputs.
    pub fn of_timed(
        &mut self,
        context: &Context<'_>,
        worker: &mut Executor,
        kernel: &Kernel,
        shape: &str,
        timed: &TimedCase,
        job: &TimeJob,
    ) -> Result<Vec<String>, RunError> {
        let asked: Vec<ReferenceInputs> =
            std::iter::once(job.seed).chain(job.other_seed).map(ReferenceInputs::random).collect();
        self.refer(context, worker, kernel, shape, &timed.case.tensors, &timed.reference, &asked)
    }

    /// Runs the program for any set of inputs.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request")]
    pub fn refer(
        &mut self,
        context: &Context<'_>,
        worker: &mut Executor,
        kernel: &Kernel,
        shape: &str,
        tensors: &[TensorSpec],
        reference: &Reference,
        asked: &[ReferenceInputs],
    ) -> Result<Vec<String>, RunError> {
        let mut answers = Vec::new();
        let (true, ReferenceKind::Command(command)) = (reference.program, &kernel.reference.kind) else {
            return Ok(answers);
        };
        let device = &context.device;
        for &asked in asked {
            let folder = context.setup.work_directory.join("references");
            let results = self.results.get_or_insert_with(|| Results::new(Some(folder)));
            let key = reference::key(reference, tensors, asked, device);
            let outputs = if let Some(outputs) = results.known(&key) {
                outputs
            } else {
                let shape = kernel.shapes.iter().find(|other| other.name == shape).expect("a shape of the kernel");
                let outputs = match self.ask_program(context, kernel, command, shape, tensors, reference, asked) {
                    Ok(outputs) => outputs,
                    Err(error) => {
                        self.running.remove(&kernel.name);
                        return Err(error);
                    }
                };
                self.results.as_mut().expect("made above").put(&key, outputs)
            };
            worker.provide(&key, &outputs);
            if reference.identity.starts_with(TRANSIENT) {
                answers.push(self.answer(&key, &outputs));
            }
        }
        // The worker will look for these results next.
        if let Some(results) = &mut self.results {
            results.finish_writes();
        }
        Ok(answers)
    }

    /// The fingerprint of a result.
    fn answer(&mut self, key: &str, outputs: &reference::Outputs) -> String {
        if let Some(answer) = self.answers.get(key) {
            return answer.clone();
        }
        let hashes: Vec<_> =
            outputs.iter().map(|(index, (dtype, data))| (index, dtype, fingerprint::of_bytes(data))).collect();
        let answer = fingerprint::of("answer", &hashes);
        self.answers.insert(key.to_owned(), answer.clone());
        answer
    }

    #[allow(clippy::too_many_arguments, reason = "parts of one request to the program")]
    fn ask_program(
        &mut self,
        context: &Context<'_>,
        kernel: &Kernel,
        command: &[String],
        shape: &Shape,
        tensors: &[TensorSpec],
        reference: &Reference,
        asked: ReferenceInputs,
    ) -> Result<reference::Outputs, RunError> {
        let failed = |message: String| RunError::Reference { kernel: kernel.name.clone(), message };
        let refused = |refusal: Refusal| refused(kernel, &shape.name, refusal);
        let mut blobs = Blobs::new();
        for (path, hash) in &context.files {
            blobs.insert(hash.clone(), Arc::new(std::fs::read(path)?));
        }
        let inputs = tensor::generate_pattern(tensors, asked.seed, asked.pattern, &blobs);
        let inputs = inputs.map_err(|failure| failed(failure.to_string()))?;
        let wide = reference::wide_specs(reference, tensors);
        let inputs = reference::wide_inputs(reference, tensors, &inputs, asked.view);
        let inputs = Inputs::of(wide, inputs, &context.scratch())?;
        let device = &context.device;
        let program = self.program(context, kernel, command)?;
        let dims: BTreeMap<String, i64> = shape.dims.iter().cloned().collect();
        let (seed, cache) = (asked.seed, CacheMode::Hot);
        let problem = Problem { shape: &shape.name, dims, seed, warmup: 0, cache, launch: LaunchMode::Graph };
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
        reference::require_finite(tensors, &outputs, asked).map_err(|failure| failed(failure.to_string()))?;
        Ok(outputs)
    }
}

/// The error if a program has no result.
fn refused(kernel: &Kernel, at: &str, refusal: Refusal) -> RunError {
    let kernel = kernel.name.clone();
    match refusal {
        Refusal::Interrupted => ExecutorError::Interrupted.into(),
        Refusal::Unavailable(message) | Refusal::Failure(Failure::Machine { message }) => {
            RunError::Unavailable { kernel, message }
        }
        Refusal::Failure(failure) => {
            RunError::Reference { kernel, message: format!("at {at}: the reference failed: {failure}") }
        }
    }
}

/// Placeholder for the launches of a program.
fn program_sequence(kernel: &Kernel) -> Sequence {
    let taken = |index: &usize| kernel.tensors[*index].role != Role::Scratch;
    let launch = Launch {
        entry: String::new(),
        args: (0..kernel.tensors.len()).filter(taken).map(Arg::Tensor).collect(),
        geometry: Geometry::default(),
        zero: Vec::new(),
    };
    Sequence { device: DeviceKind::Host, blob: String::new(), launches: vec![launch] }
}

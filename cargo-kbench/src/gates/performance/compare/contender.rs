//! An entrant for the worker, ready to be measured.

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::TimedCase;

use super::super::impossible::Demand;
use super::{Entrant, EntrantId, Rival};
use crate::config::{BaselineKind, Implementation, Kernel};
use crate::gates::correctness::{Check, check_job};
use crate::harness::{Candidate, Halt, Harness, Named, no_geometry};
use crate::record::journal::EntryRole;
use crate::space::Variant;

/// An entrant for the worker.
pub(in crate::gates::performance) struct Contender<'k> {
    pub id: EntrantId,
    pub name: String,
    pub role: EntryRole,
    pub kernel: &'k Kernel,
    pub case: TimedCase,
    /// Hash of the case with machine code in place of the binary.
    pub program: String,
    /// Smallest number of operations and bytes of a launch.
    pub demand: Demand,
}

/// A function over the tensors of a kernel, at one of its variants and shapes.
pub(super) struct Function<'f, 'k> {
    kernel: &'k Kernel,
    implementation: &'f Implementation,
    variant: Variant,
    shape: usize,
}

/// A participant of a comparison: a function that the worker runs, or a program.
#[allow(clippy::large_enum_variant, reason = "a comparison has few participants")]
pub(super) enum Participant<'f, 'k> {
    /// A function that the worker runs.
    Function(Function<'f, 'k>),
    /// A program, with a process of its own.
    Program(Rival<'k>),
}

impl<'f, 'k: 'f> Participant<'f, 'k> {
    /// The participant of an entrant at a shape of the harness's kernel. A baseline by `source` computes the same as
    /// `variant`.
    pub fn new(harness: &Harness<'k>, entrant: &'f Entrant, shape: usize, variant: &Variant) -> Self {
        let kernel = harness.kernel();
        let own = &kernel.implementation;
        Self::Function(match entrant {
            Entrant::Candidate(candidate) | Entrant::Again(candidate) => Function::of(kernel, candidate, shape),
            Entrant::Baseline(index) => match &kernel.baselines[*index].kind {
                BaselineKind::Variant(variant) => {
                    Function { kernel, implementation: own, variant: variant.clone(), shape }
                }
                BaselineKind::Implementation(implementation) => {
                    Function { kernel, implementation, variant: kernel.beside(implementation, variant), shape }
                }
                BaselineKind::Kernel(other) => {
                    let package = harness.context.builder.package;
                    let name = &kernel.shapes[shape].name;
                    let kernel = package.kernels.iter().find(|kernel| kernel.name == *other).expect("validated");
                    let shape = kernel.shapes.iter().position(|shape| shape.name == *name).expect("validated");
                    let variant = kernel.space.default.clone();
                    Function { kernel, implementation: &kernel.implementation, variant, shape }
                }
                BaselineKind::Command(program) => {
                    return Self::Program(Rival::new(*index, &kernel.baselines[*index].name, program));
                }
            },
        })
    }
}

impl<'k> Contender<'k> {
    /// Builds a candidate that passed the check at this shape before.
    pub fn of_candidate(harness: &mut Harness<'k>, candidate: &Candidate, shape: usize) -> Result<Self, Halt> {
        let entrant = Entrant::Candidate(candidate.clone());
        let function = Function::of(harness.kernel(), candidate, shape);
        Self::new(harness, &entrant, function, &mut Vec::new())
    }

    /// Builds an entrant's function, and checks it if it is a baseline: a candidate passed the check at this shape before.
    pub(super) fn new(
        harness: &mut Harness<'k>,
        entrant: &Entrant,
        function: Function<'_, 'k>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Halt> {
        let (id, role) = (entrant.id(), entrant.role());
        let name = id.name(harness.kernel());
        let (kernel, shape) = (function.kernel, function.shape);
        let contender = function.build(harness, id, name, role)?;
        if matches!(entrant, Entrant::Baseline(_)) {
            // A speed-up over a wrong function has no meaning.
            let TimedCase { case, reference } = contender.case.clone();
            let shape = &kernel.shapes[shape].name;
            Check { kernel, shape }.run(harness, check_job(kernel, case, reference), warnings)?;
        }
        Ok(contender)
    }
}

impl<'f, 'k: 'f> Function<'f, 'k> {
    fn of(kernel: &'k Kernel, candidate: &'f Candidate, shape: usize) -> Self {
        let implementation = candidate.implementation(kernel);
        Self { kernel, implementation, variant: candidate.variant.clone(), shape }
    }

    /// Builds the function and its reference.
    fn build(
        self,
        harness: &mut Harness<'_>,
        id: EntrantId,
        name: String,
        role: EntryRole,
    ) -> Result<Contender<'k>, Halt> {
        let Self { kernel, implementation, variant, shape } = self;
        let Harness { context, worker, references, .. } = harness;
        let built = context.builder.build_implementation(kernel, implementation, &variant, &[shape])?;
        let artifact = built.artifact(shape);
        worker.add_blob(&artifact.hash, &artifact.code);
        let point = context.builder.point(kernel, shape, &variant);
        let case = point.case(implementation, artifact, &context.files);
        let case = case.map_err(|error| no_geometry(&error, &kernel.shapes[shape].name))?;
        let demand = Demand::new(&case.tensors, point.work());
        let reference = references.of(context, worker, kernel, shape, &variant)?;
        let program = fingerprint::of("program", &Named { built: &built.builds }.case(&case));
        Ok(Contender { id, name, role, kernel, case: TimedCase { case, reference }, program, demand })
    }
}

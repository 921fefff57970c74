//! An entrant for the worker, ready to be measured.

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::TimedCase;

use super::super::impossible::Demand;
use super::{Entrant, EntrantId};
use crate::config::{Baseline, BaselineKind, Implementation, Kernel};
use crate::gates::correctness::{Check, check_job};
use crate::harness::{Halt, Harness, Named, no_geometry};
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
#[derive(Clone, Copy)]
struct Function<'f, 'k> {
    kernel: &'k Kernel,
    implementation: &'f Implementation,
    variant: &'f Variant,
    shape: usize,
}

impl<'k> Contender<'k> {
    /// Builds an entrant, and checks it if it is a baseline: a candidate passed the check at this shape before. A function by `source` runs
    /// beside `variant`.
    pub fn new(
        harness: &mut Harness<'k>,
        entrant: &Entrant,
        shape: usize,
        variant: &Variant,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Halt> {
        let kernel = harness.kernel();
        let (id, role) = (entrant.id(), entrant.role());
        let name = id.name(kernel);
        let index = match entrant {
            Entrant::Candidate(candidate) | Entrant::Again(candidate) => {
                let implementation = candidate.implementation(kernel);
                let function = Function { kernel, implementation, variant: &candidate.variant, shape };
                return function.build(harness, id, name, role);
            }
            Entrant::Baseline(index) => *index,
        };
        let Baseline { kind, .. } = &kernel.baselines[index];
        let shape_name = &kernel.shapes[shape].name;
        let own = &kernel.implementation;
        let beside;
        let function = match kind {
            BaselineKind::Variant(variant) => Function { kernel, implementation: own, variant, shape },
            BaselineKind::Implementation(implementation) => {
                beside = kernel.beside(implementation, variant);
                Function { kernel, implementation, variant: &beside, shape }
            }
            BaselineKind::Kernel(other) => {
                let package = harness.context.builder.package;
                let kernel = package.kernels.iter().find(|kernel| kernel.name == *other).expect("validated");
                let shape = kernel.shapes.iter().position(|shape| shape.name == *shape_name).expect("validated");
                Function { kernel, implementation: &kernel.implementation, variant: &kernel.space.default, shape }
            }
            BaselineKind::Command(_) => unreachable!("`{name}` is a program"),
        };
        let contender = function.build(harness, id, name, role)?;
        // A speed-up over a wrong function has no meaning.
        let TimedCase { case, reference } = contender.case.clone();
        let kernel = function.kernel;
        Check { kernel, shape: shape_name }.run(harness, check_job(kernel, case, reference), warnings)?;
        Ok(contender)
    }
}

impl<'k> Function<'_, 'k> {
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
        let built = context.builder.build_implementation(kernel, implementation, variant, &[shape])?;
        let artifact = built.artifact(shape);
        worker.add_blob(&artifact.hash, &artifact.code);
        let point = context.builder.point(kernel, shape, variant);
        let case = point.case(implementation, artifact, &context.files);
        let case = case.map_err(|error| no_geometry(&error, &kernel.shapes[shape].name))?;
        let demand = Demand::new(&case.tensors, point.work());
        let reference = references.of(context, worker, kernel, shape, variant)?;
        let program = fingerprint::of("program", &Named { built: &built.builds }.case(&case));
        Ok(Contender { id, name, role, kernel, case: TimedCase { case, reference }, program, demand })
    }
}

//! References, whose outputs are right, and baselines, whose times are compared with the kernel's.

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Role;

use super::{CorrectnessLimits, Implementation, Kernel, PerformanceBound, Place, Tensor};
use crate::space::Variant;

/// The reference of a kernel.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The function or program. It gets every floating-point tensor as `precision`.
    pub kind: ReferenceKind,
    /// `F64` (default) or `F32`.
    pub precision: DType,
    /// Place of the key `precision`, or of the reference if the key is missing.
    pub place: Place,
}

impl Reference {
    /// The function, where the reference is one.
    pub fn function(&self) -> Option<&Implementation> {
        match &self.kind {
            ReferenceKind::Function(function) => Some(function),
            ReferenceKind::Command(_) => None,
        }
    }
}

/// The kinds of reference.
#[derive(Debug, Clone)]
pub enum ReferenceKind {
    /// A function.
    Function(Box<Implementation>),
    /// `{ command = […] }`: a program and its arguments, started in the package's folder.
    Command(Vec<String>),
}

/// A baseline that a kernel is timed against.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// Name: the key in `baselines`.
    pub name: String,
    /// Kind of the baseline.
    pub kind: BaselineKind,
}

/// The kinds of baseline.
#[derive(Debug, Clone)]
pub enum BaselineKind {
    /// `{ toggles = {…} }`: a variant of the same kernel; toggles not named have their default value.
    Variant(Variant),
    /// `{ kernel = "name" }`: another kernel of the same table, at its default and the shape of the same name.
    Kernel(String),
    /// `{ source = …, entry = … }`: another function over the same tensors; missing keys are taken from the kernel.
    Implementation(Box<Implementation>),
    /// `{ command = […] }`: a program.
    Command(ProgramBaseline),
}

impl Kernel {
    /// The variant at which another function over the kernel's tensors runs beside `variant`, to compute the same: toggles that the
    /// function or the problem names are those of `variant`, the others those of the default.
    pub fn beside(&self, function: &Implementation, variant: &Variant) -> Variant {
        let mut names = function.names();
        let tensors = self.tensors.iter().filter(|tensor| tensor.role != Role::Scratch);
        names.extend(tensors.flat_map(Tensor::names));
        names.extend(self.reference.function().into_iter().flat_map(Implementation::names));
        self.space.with_named(variant, &names)
    }

    /// Removes baselines that are programs, and limits over them. Returns their names.
    pub fn leave_out_programs(&mut self) -> Vec<String> {
        let is_program = |baseline: &Baseline| matches!(baseline.kind, BaselineKind::Command(_));
        let kept: Vec<usize> = (0..self.baselines.len()).filter(|&index| !is_program(&self.baselines[index])).collect();
        let place = |index: usize| kept.iter().position(|&kept| kept == index);
        self.gates.performance.retain_mut(|limit| match &mut limit.limit {
            PerformanceBound::MaxP50Us(_) => true,
            PerformanceBound::MinSpeedup { over, .. } => place(*over).map(|at| *over = at).is_some(),
        });
        let naive = &mut self.gates.correctness.naive;
        *naive = naive.and_then(place);
        let (programs, kept) = std::mem::take(&mut self.baselines).into_iter().partition(is_program);
        self.baselines = kept;
        programs.into_iter().map(|baseline: Baseline| baseline.name).collect()
    }
}

/// A program that is measured beside the kernel.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ProgramBaseline {
    /// The program and its arguments; started in the package's folder.
    pub command: Vec<String>,
    /// Limits of its errors against the kernel's reference; `None` for those of the kernel. A program that reads the
    /// values before quantisation needs wider limits.
    pub correctness: Option<CorrectnessLimits>,
}

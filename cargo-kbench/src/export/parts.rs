//! Parts of a kernel in the names of a language: sizes, tensors and expressions at the toggles of a variant. The caller
//! writes the language's text.

use std::collections::BTreeSet;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Role;

use super::ExportError;
use super::arithmetic::{Dialect, Term, Translation};
use super::names::snake;
use super::plan::{Plan, Planned};
use crate::config::{ArgValue, Kernel, Launch, Word};
use crate::expr::{Expr, Value};
use crate::text::list;

/// Writes the parts of one kernel.
pub(super) struct Parts<'p> {
    pub(super) plan: &'p Plan,
    /// The kernel's module, or the prefix of its names in a language without modules.
    pub(super) module: String,
    /// Fields of the sizes, in the order of the kernel's dimensions.
    pub(super) fields: Vec<String>,
    /// Tensors that are arguments of a launch, in the order of first use: index and name.
    pub(super) tensors: Vec<(usize, String)>,
    /// Scratch tensors, which a launch allocates.
    pub(super) scratch: Vec<(usize, String)>,
    pub(super) translation: Translation<'static>,
    dialect: &'static dyn Dialect,
}

/// A number that is passed to a launch, as an argument or in a struct.
#[derive(Clone, Copy)]
pub(super) enum Number<'a> {
    /// A scalar.
    Scalar { dtype: DType, word: Option<Word>, value: &'a Expr },
    /// Number of elements before the passed address.
    Offset { tensor: usize, elements: &'a Expr },
}

/// The numbers among arguments, those in structs too, in the order of the signature.
pub(super) fn numbers(launch: &Launch) -> Vec<Number<'_>> {
    fn add<'a>(value: &'a ArgValue, all: &mut Vec<Number<'a>>) {
        match value {
            ArgValue::Scalar { dtype, word, value } => {
                all.push(Number::Scalar { dtype: *dtype, word: *word, value });
            }
            ArgValue::Offset { tensor, offset } => all.push(Number::Offset { tensor: *tensor, elements: offset }),
            ArgValue::Struct { fields, .. } => fields.iter().for_each(|field| add(field, all)),
            ArgValue::Tensor(_) => {}
        }
    }
    let mut all = Vec::new();
    launch.values().for_each(|(_, value)| add(value, &mut all));
    all
}

impl<'p> Parts<'p> {
    /// Sizes get no names in `members`, and tensors none in `taken`.
    pub(super) fn new(
        plan: &'p Plan,
        module: String,
        dialect: &'static dyn Dialect,
        members: &[&str],
        taken: &[&str],
    ) -> Self {
        let fields = snake(&plan.dims(), dialect.keywords(), members);
        let mut used: Vec<usize> = Vec::new();
        for planned in &plan.variants {
            for (_, launch) in (0..plan.stages()).filter_map(|at| planned.stage(&plan.kernel, at)) {
                for arg in &launch.args {
                    for tensor in arg.tensors() {
                        if !used.contains(&tensor) {
                            used.push(tensor);
                        }
                    }
                }
            }
        }
        let tensors: Vec<&str> = used.iter().map(|&tensor| plan.kernel.tensors[tensor].name.as_str()).collect();
        let named: Vec<(usize, String)> =
            used.iter().copied().zip(snake(&tensors, dialect.keywords(), taken)).collect();
        let is_scratch = |(tensor, _): &(usize, String)| plan.kernel.tensors[*tensor].role == Role::Scratch;
        let (scratch, tensors) = named.into_iter().partition(is_scratch);
        Self { plan, module, fields, tensors, scratch, translation: Translation::new(dialect), dialect }
    }

    pub(super) fn kernel(&self) -> &'p Kernel {
        &self.plan.kernel
    }

    /// The functions that a text of translated terms calls.
    pub(super) fn called(&self, text: &str) -> BTreeSet<&'static str> {
        let is_called = |function: &&'static str| text.contains(&format!("{function}("));
        self.translation.called.iter().copied().filter(is_called).collect()
    }

    /// The name of a tensor's variable.
    pub(super) fn tensor(&self, index: usize) -> &str {
        let mut all = self.tensors.iter().chain(&self.scratch);
        &all.find(|(tensor, _)| *tensor == index).expect("every tensor of an argument is named").1
    }

    /// Whether a launch may write to a tensor.
    pub(super) fn is_written(&self, index: usize) -> bool {
        self.kernel().tensors[index].role != Role::In
    }

    /// Description of the use of a tensor.
    pub(super) fn access(&self, index: usize) -> &'static str {
        match self.kernel().tensors[index].role {
            Role::In => "read",
            Role::Clobbered => "read and spoiled",
            Role::Out | Role::Inout | Role::Scratch => "written",
        }
    }

    /// A sentence about the inputs that a launch does not preserve; empty if there are none.
    pub(super) fn spoiled(&self) -> String {
        let is_spoiled = |(index, _): &&(usize, String)| self.kernel().tensors[*index].role == Role::Clobbered;
        let names: Vec<&str> = self.tensors.iter().filter(is_spoiled).map(|(_, name)| name.as_str()).collect();
        if names.is_empty() { String::new() } else { format!(" The contents of {} are lost.", list(&names)) }
    }

    pub(super) fn dtype(&self, index: usize) -> DType {
        self.kernel().tensors[index].dtype
    }

    /// An expression at the toggles of a variant.
    pub(super) fn term(&mut self, planned: &Planned, expr: &Expr) -> Result<Term, ExportError> {
        self.translated(planned, expr, false)
    }

    /// The opposite of a condition at the toggles of a variant.
    pub(super) fn opposite(&mut self, planned: &Planned, expr: &Expr) -> Result<Term, ExportError> {
        self.translated(planned, expr, true)
    }

    /// The comparisons that sizes must pass for a variant. `same` compares a term in floating point with a number.
    pub(super) fn conditions(
        &mut self,
        planned: &Planned,
        same: impl Fn(&str, f64) -> String,
    ) -> Result<Vec<String>, ExportError> {
        let mut conditions = Vec::new();
        for condition in &planned.conditions {
            let term = self.term(planned, &condition.expr)?;
            conditions.push(match condition.value {
                Value::Float(value) => same(&self.translation.real(&term), value),
                _ => format!("({}) == {}", self.translation.int(&term), condition.integer(&self.plan.kernel)?),
            });
        }
        Ok(conditions)
    }

    fn translated(&mut self, planned: &Planned, expr: &Expr, is_opposite: bool) -> Result<Term, ExportError> {
        let kernel = &self.plan.kernel;
        let value = |name: &str| kernel.space.value(&planned.candidate.variant, name).cloned();
        let fields: Vec<(&str, &String)> = self.plan.dims().into_iter().zip(&self.fields).collect();
        let variable = |name: &str| {
            let field = fields.iter().find(|(dim, _)| *dim == name).map(|(_, field)| self.dialect.size(field));
            field.or_else(|| (name == "SM_COUNT").then(|| "sm_count".to_owned()))
        };
        let term = self.translation.term(expr, is_opposite, &value, &variable);
        term.map_err(|error| ExportError::unsupported(&self.plan.kernel, &error))
    }

    /// An expression as an integer.
    pub(super) fn int(&mut self, planned: &Planned, expr: &Expr) -> Result<String, ExportError> {
        let term = self.term(planned, expr)?;
        Ok(self.translation.int(&term))
    }

    /// An expression in floating point.
    pub(super) fn real(&mut self, planned: &Planned, expr: &Expr) -> Result<String, ExportError> {
        let term = self.term(planned, expr)?;
        Ok(self.translation.real(&term))
    }

    /// An expression as 1 if it is true, else 0.
    pub(super) fn truth(&mut self, planned: &Planned, expr: &Expr) -> Result<String, ExportError> {
        let term = self.term(planned, expr)?;
        Ok(self.translation.truth(&term))
    }

    /// Whether any variant is for particular sizes.
    pub(super) fn has_conditions(&self) -> bool {
        self.plan.variants.iter().any(|planned| !planned.conditions.is_empty())
    }

    /// The environment variable that selects a variant.
    pub(super) fn variable(&self) -> String {
        super::variable(self.kernel())
    }

    /// The end of a sentence about the kernel: the sizes that the gates checked.
    pub(super) fn checked(&self) -> String {
        let shapes = self.kernel().gates.correctness.shapes.iter().map(|&shape| &self.kernel().shapes[shape]);
        let sizes: Vec<String> =
            shapes.map(|shape| crate::text::dims(shape.dims.iter().map(|(name, size)| (name, size)))).collect();
        if self.fields.is_empty() {
            return "checked by the gates.".to_owned();
        }
        let most = 6;
        let shown: Vec<String> = sizes.iter().take(most).map(|sizes| format!("`{sizes}`")).collect();
        let more = if sizes.len() > most { format!("; and {} more", sizes.len() - most) } else { String::new() };
        let shown = shown.join("; ");
        format!("checked at {shown}{more}; at other sizes `launch` is as safe as the kernel is right there.")
    }
}

/// Parameters of a format narrower than `f32`: bits after the point, the exponent's bias, the pattern of the largest
/// finite number, and the pattern for larger values: infinity, or the largest number if CUDA's conversion saturates.
/// None for a type that the language has.
pub(super) fn narrow(dtype: DType) -> Option<[u32; 4]> {
    match dtype {
        DType::F16 => Some([10, 15, 0x7bff, 0x7c00]),
        DType::Bf16 => Some([7, 127, 0x7f7f, 0x7f80]),
        DType::F8e4m3 => Some([3, 7, 0x7e, 0x7e]),
        DType::F8e5m2 => Some([2, 15, 0x7b, 0x7b]),
        _ => None,
    }
}

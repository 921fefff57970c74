//! What the module of a kernel is made of, whatever runs it: sizes, scalars, and functions of sizes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Role;

use super::dialect::{self, Rust};
use crate::config::{Arg, Kernel};
use crate::export::ExportError;
use crate::export::arithmetic::{Term, Translation};
use crate::export::names::snake;
use crate::export::plan::{Plan, Planned};
use crate::expr::Expr;

/// Writes the parts of one kernel's module.
pub(super) struct Parts<'p> {
    pub(super) plan: &'p Plan,
    /// The kernel's module.
    pub(super) module: String,
    /// Fields of `Dims`, in the order of the kernel's dimensions.
    pub(super) fields: Vec<String>,
    /// Tensors that a launch takes, in the order of the first launch that does: index and name.
    pub(super) tensors: Vec<(usize, String)>,
    /// Tensors that a launch has for itself.
    pub(super) scratch: Vec<(usize, String)>,
    pub(super) translation: Translation<'static>,
}

/// One function of sizes, or several where variants differ.
pub(super) struct Function {
    /// Its definition.
    pub(super) text: String,
    /// A call of it, in a function with `dims` and a `choice`.
    pub(super) call: String,
}

/// Names of the module's own functions and arguments.
const TAKEN: [&str; 6] = ["dims", "choice", "stream", "loaded", "functions", "sm_count"];

impl<'p> Parts<'p> {
    pub(super) fn new(plan: &'p Plan, module: String) -> Self {
        let fields = snake(&plan.dims(), &[]);
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
        let named: Vec<(usize, String)> = used.iter().copied().zip(snake(&tensors, &TAKEN)).collect();
        let is_scratch = |(tensor, _): &(usize, String)| plan.kernel.tensors[*tensor].role == Role::Scratch;
        let (scratch, tensors) = named.into_iter().partition(is_scratch);
        Self { plan, module, fields, tensors, scratch, translation: Translation::new(&Rust) }
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

    pub(super) fn dtype(&self, index: usize) -> DType {
        self.kernel().tensors[index].dtype
    }

    /// An expression at the toggles of a variant.
    pub(super) fn term(&mut self, planned: &Planned, expr: &Expr) -> Result<Term, ExportError> {
        let kernel = &self.plan.kernel;
        let value = |name: &str| kernel.space.value(&planned.candidate.variant, name).cloned();
        let fields: Vec<(&str, &String)> = self.plan.dims().into_iter().zip(&self.fields).collect();
        let variable = |name: &str| {
            let field = fields.iter().find(|(dim, _)| *dim == name).map(|(_, field)| (*field).clone());
            field.or_else(|| (name == "SM_COUNT").then(|| "sm_count".to_owned()))
        };
        let term = self.translation.term(expr, &value, &variable);
        term.map_err(|error| ExportError::unsupported(&self.plan.kernel, &error))
    }

    /// An expression as an integer of a type.
    pub(super) fn integer(&mut self, planned: &Planned, expr: &Expr, of: &str) -> Result<String, ExportError> {
        let term = self.term(planned, expr)?;
        let int = self.translation.int(&term);
        let is_literal = int.bytes().all(|c| c.is_ascii_digit() || c == b'_');
        Ok(match of {
            "i64" => int,
            _ if is_literal => int,
            _ => format!("{of}::try_from({int}).ok()?"),
        })
    }

    /// The number of elements of a tensor.
    pub(super) fn elements(&mut self, planned: &Planned, tensor: usize) -> Result<String, ExportError> {
        let kernel = &self.plan.kernel;
        let mut factors = Vec::new();
        for dim in &kernel.tensors[tensor].dims {
            factors.push(self.integer(planned, dim, "i64")?);
        }
        // Constants go last, where a method takes them as they are.
        factors.sort_by_key(|factor| factor.starts_with(|c: char| c.is_ascii_digit()));
        let mut factors = factors.into_iter();
        let Some(first) = factors.next() else { return Ok("1".to_owned()) };
        let rest: Vec<String> = factors.collect();
        let first = if rest.is_empty() || !first.starts_with(|c: char| c.is_ascii_digit()) {
            first
        } else {
            format!("{first}_i64")
        };
        let is_plain = first.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.()?, ".contains(&c));
        let first = if is_plain && !first.starts_with("if ") { first } else { format!("({first})") };
        let product = rest.iter().fold(first, |product, factor| format!("{product}.checked_mul({factor})?"));
        let is_literal = product.bytes().all(|c| c.is_ascii_digit() || c == b'_');
        Ok(if is_literal { product } else { format!("usize::try_from({product}).ok()?") })
    }

    /// A scalar as an argument of its type.
    pub(super) fn scalar(&mut self, planned: &Planned, dtype: DType, expr: &Expr) -> Result<String, ExportError> {
        Ok(match dtype {
            DType::F64 | DType::F32 => {
                let term = self.term(planned, expr)?;
                let real = self.translation.real(&term);
                match dtype {
                    DType::F64 => real,
                    _ if real.parse::<f64>().is_ok() => dialect::literal(&real),
                    _ => {
                        self.translation.called.insert("single");
                        format!("single({real})")
                    }
                }
            }
            DType::F16 | DType::Bf16 | DType::F8e4m3 | DType::F8e5m2 => {
                let what = format!("a scalar of type {dtype} cannot be passed by a Rust program");
                return Err(ExportError::unsupported(&self.plan.kernel, &what));
            }
            _ => self.integer(planned, expr, dtype.name())?,
        })
    }

    /// The names of the scalars of a launch, and the call that gives their values.
    pub(super) fn scalars(
        &mut self,
        at: usize,
        text: &mut String,
    ) -> Result<(Vec<String>, Option<String>), ExportError> {
        let plan = self.plan;
        let kernel = &plan.kernel;
        let args = plan.variants.iter().find_map(|planned| Some(&planned.stage(kernel, at)?.1.args));
        let of = |arg: &'_ Arg| match arg {
            Arg::Scalar { dtype, value, .. } => Some((*dtype, value.text().to_owned())),
            _ => None,
        };
        let (dtypes, texts): (Vec<_>, Vec<_>) = args.into_iter().flatten().filter_map(of).unzip();
        if dtypes.is_empty() {
            return Ok((Vec::new(), None));
        }
        let tuple = |items: Vec<String>| format!("({}{})", items.join(", "), if items.len() == 1 { "," } else { "" });
        let name = if at == 0 { "scalars".to_owned() } else { format!("scalars_{at}") };
        let returned = tuple(dtypes.iter().map(|dtype| rust_type(*dtype).to_owned()).collect());
        let function =
            self.function(&name, "Scalars in the order of the signature.", &returned, |parts, planned| {
                let Some((_, launch)) = planned.stage(kernel, at) else { return Ok(String::new()) };
                let mut values = Vec::new();
                for arg in &launch.args {
                    if let Arg::Scalar { dtype, value, .. } = arg {
                        values.push(parts.scalar(planned, *dtype, value)?);
                    }
                }
                Ok(tuple(values))
            })?;
        text.push_str(&function.text);
        Ok((self.scalar_names(&texts), Some(function.call)))
    }

    /// A function that gives the numbers of elements of tensors.
    pub(super) fn lengths(
        &mut self,
        name: &str,
        doc: &str,
        tensors: &[(usize, String)],
    ) -> Result<Function, ExportError> {
        self.function(name, doc, &format!("[usize; {}]", tensors.len()), |parts, planned| {
            let lengths: Result<Vec<String>, ExportError> =
                tensors.iter().map(|(index, _)| parts.elements(planned, *index)).collect();
            Ok(format!("[{}]", lengths?.join(", ")))
        })
    }

    /// Adds the function of the scratch tensors' lengths to `text` and the statement that binds them to `before`. The tensors: index and name.
    pub(super) fn bind_scratch(
        &mut self,
        text: &mut String,
        before: &mut String,
    ) -> Result<Vec<(usize, String)>, ExportError> {
        let scratch = self.scratch.clone();
        if !scratch.is_empty() {
            let lengths = self.lengths("scratch", "Elements of each scratch tensor.", &scratch)?;
            text.push_str(&lengths.text);
            let names: Vec<String> = scratch.iter().map(|(_, name)| format!("{name}_len")).collect();
            let _ = writeln!(before, "let [{}] = {};", names.join(", "), lengths.call);
        }
        Ok(scratch)
    }

    /// The variable that holds the number of elements of a tensor.
    pub(super) fn length(&self, tensor: usize) -> String {
        format!("{}_len", self.tensor(tensor))
    }

    /// Binds the lengths of those arguments that a launch itself needs: what is zeroed or copied to a symbol.
    pub(super) fn needed_lengths(&self, call: &str) -> String {
        let plan = self.plan;
        let mut needed: Vec<usize> = Vec::new();
        for planned in &plan.variants {
            for (_, launch) in (0..plan.stages()).filter_map(|at| planned.stage(&plan.kernel, at)) {
                needed.extend(&launch.zero);
                needed.extend(launch.args.iter().filter_map(|arg| match arg {
                    Arg::Symbol { tensor, .. } => Some(*tensor),
                    _ => None,
                }));
            }
        }
        let of =
            |(tensor, _): &(usize, String)| if needed.contains(tensor) { self.length(*tensor) } else { "_".to_owned() };
        let names: Vec<String> = self.tensors.iter().map(of).collect();
        if names.iter().all(|name| name == "_") {
            return String::new();
        }
        format!("let [{}] = {call};\n", names.join(", "))
    }

    /// Names for scalars: that of a size or a toggle where it is one.
    pub(super) fn scalar_names(&self, texts: &[String]) -> Vec<String> {
        let is_name = |text: &str| text.bytes().all(|c| c == b'_' || c.is_ascii_alphanumeric());
        let names: Vec<&str> = texts.iter().map(|text| if is_name(text) { text.as_str() } else { "scalar" }).collect();
        let tensors = self.tensors.iter().chain(&self.scratch).map(|(_, name)| name.as_str());
        snake(&names, &TAKEN.into_iter().chain(tensors).collect::<Vec<_>>())
    }

    /// A function of the sizes that gives `returned`; its value is what `value` says of a variant, in a function of `Option`. Nothing is
    /// said of a variant that does not call it.
    pub(super) fn function(
        &mut self,
        name: &str,
        doc: &str,
        returned: &str,
        mut value: impl FnMut(&mut Self, &Planned) -> Result<String, ExportError>,
    ) -> Result<Function, ExportError> {
        self.translation.used.clear();
        let plan = self.plan;
        let mut bodies: Vec<(String, Vec<usize>)> = Vec::new();
        let mut is_partial = false;
        for (at, planned) in plan.variants.iter().enumerate() {
            let body = value(self, planned)?;
            if body.is_empty() {
                is_partial = true;
                continue;
            }
            match bodies.iter_mut().find(|(known, _)| *known == body) {
                Some((_, variants)) => variants.push(at),
                None => bodies.push((body, vec![at])),
            }
        }
        // A term that came to nothing leaves a name behind.
        let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        let stands =
            |name: &String| bodies.iter().any(|(body, _)| body.split(|c| !is_word(c)).any(|word| word == name));
        let used: BTreeSet<String> = self.translation.used.iter().filter(|name| stands(name)).cloned().collect();
        let names: Vec<&str> =
            self.fields.iter().map(|field| if used.contains(field) { field.as_str() } else { "_" }).collect();
        let uses_sizes = names.iter().any(|name| *name != "_");
        let uses_device = used.contains("sm_count");
        let mut text = String::new();
        let (mut takes, mut passes) = (Vec::new(), Vec::new());
        if bodies.len() > 1 {
            takes.push("variant: Variant");
            passes.push("choice.variant");
        }
        if uses_sizes {
            takes.push("dims: Dims");
            passes.push("dims");
        }
        if uses_device {
            takes.push("sm_count: i64");
            passes.push("loaded.device.sm_count");
        }
        let _ = writeln!(text, "/// {doc}");
        let _ = writeln!(text, "#[allow(clippy::unnecessary_wraps)]");
        let _ = writeln!(text, "fn {name}({}) -> Option<{returned}> {{", takes.join(", "));
        if uses_sizes {
            let _ = writeln!(text, "let [{}] = dims.sizes()?;", names.join(", "));
        }
        if let [(body, _)] = &bodies[..] {
            let _ = writeln!(text, "Some({body})");
        } else {
            let _ = writeln!(text, "Some(match variant {{");
            for (body, variants) in &bodies {
                let patterns: Vec<String> = variants.iter().map(|at| format!("Variant::V{at}")).collect();
                let _ = writeln!(text, "{} => {body},", patterns.join(" | "));
            }
            if is_partial {
                let _ = writeln!(text, "_ => return None,");
            }
            let _ = writeln!(text, "}})");
        }
        let _ = writeln!(text, "}}\n");
        Ok(Function { text, call: format!("{name}({}).ok_or(Error::Sizes)?", passes.join(", ")) })
    }

    /// `Dims`.
    pub(super) fn dims(&self) -> String {
        let mut text =
            "/// The sizes of a problem.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]\npub struct Dims {\n"
                .to_owned();
        for (field, name) in self.fields.iter().zip(self.plan.dims()) {
            let _ = writeln!(text, "/// `{name}` of the table.\npub {field}: usize,");
        }
        text.push_str("}\n\n");
        let all = |item: &dyn Fn(&String) -> String| self.fields.iter().map(item).collect::<Vec<_>>().join(", ");
        let count = self.fields.len();
        let _ = writeln!(
            text,
            "impl Dims {{\n/// In the table's order.\nfn array(self) -> [usize; {count}] {{\n[{}]\n}}\n\n\
             /// As the table's arithmetic takes them.\nfn sizes(self) -> Option<[i64; {count}]> {{\nSome([{}])\n}}\n}}\n",
            all(&|field| format!("self.{field}")),
            all(&|field| format!("i64::try_from(self.{field}).ok()?")),
        );
        text
    }

    /// What is said of the sizes that the gates checked.
    pub(super) fn checked(&self) -> String {
        let shapes = self.kernel().gates.correctness.shapes.iter().map(|&shape| &self.kernel().shapes[shape]);
        let sizes: Vec<String> =
            shapes.map(|shape| crate::text::dims(shape.dims.iter().map(|(name, size)| (name, size)))).collect();
        let most = 6;
        let shown = sizes[..sizes.len().min(most)].join("; ");
        let more = if sizes.len() > most { format!("; and {} more", sizes.len() - most) } else { String::new() };
        format!("{shown}{more}")
    }
}

/// The Rust type of an element: floating-point types that Rust does not have are passed as their bits.
pub(super) fn rust_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 | DType::Bf16 => "u16",
        DType::F8e4m3 | DType::F8e5m2 => "u8",
        other => other.name(),
    }
}

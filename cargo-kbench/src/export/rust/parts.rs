//! Parts of the module of a kernel on any device: sizes, scalars, and functions of sizes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use kbench_runtime::dtype::DType;

use super::{dialect, shared};
use crate::config::{Arg, Backend, Word};
use crate::export::ExportError;
use crate::export::names::{self, snake};
use crate::export::parts::{Number, Parts, narrow, numbers};
use crate::export::plan::Planned;
use crate::expr::Expr;

/// One function of sizes, or one for each of several variants.
pub(super) struct Function {
    /// Definition.
    pub(super) text: String,
    /// Call, in a function with `dims` and a `choice`.
    pub(super) call: String,
}

/// Names of a module's own functions and variables, which sizes, tensors and scalars must not hide.
pub(super) fn taken() -> Vec<&'static str> {
    let own = [
        "choice",
        "choose",
        "cluster",
        "config",
        "device",
        "dims",
        "functions",
        "launch",
        "launch_raw",
        "lengths",
        "loaded",
        "pick",
        "scalars",
        "scratch",
        "sm_count",
        "stream",
        "tuned",
        "variant",
    ];
    own.into_iter().chain(shared::functions()).collect()
}

impl Parts<'_> {
    /// An expression as an integer of a type.
    pub(super) fn integer(&mut self, planned: &Planned, expr: &Expr, of: &str) -> Result<String, ExportError> {
        let int = self.int(planned, expr)?;
        let is_literal = dialect::is_int(&int) && !(int.starts_with('-') && of.starts_with('u'));
        Ok(if of == "i64" || is_literal { int } else { format!("{of}::try_from({int}).ok()?") })
    }

    /// The number of elements of a tensor.
    pub(super) fn elements(&mut self, planned: &Planned, tensor: usize) -> Result<String, ExportError> {
        let kernel = &self.plan.kernel;
        let mut factors = Vec::new();
        for dim in &kernel.tensors[tensor].dims {
            factors.push(self.integer(planned, dim, "i64")?);
        }
        // Constants come last, where a method takes them directly.
        factors.sort_by_key(|factor| factor.starts_with(|c: char| c.is_ascii_digit()));
        let mut factors = factors.into_iter();
        let Some(first) = factors.next() else { return Ok("1".to_owned()) };
        let rest: Vec<String> = factors.collect();
        let first = if rest.is_empty() || !first.starts_with(|c: char| c.is_ascii_digit()) {
            first
        } else {
            format!("{first}_i64")
        };
        let is_chain = first.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.()?, ".contains(&c));
        let is_plain = rest.is_empty() || is_chain && !first.starts_with("if ");
        let first = if is_plain { first } else { format!("({first})") };
        let product = rest.iter().fold(first, |product, factor| format!("{product}.checked_mul({factor})?"));
        let is_literal = product.bytes().all(|c| c.is_ascii_digit() || c == b'_');
        Ok(if is_literal { product } else { format!("usize::try_from({product}).ok()?") })
    }

    /// The type of a number of elements that is added to an address.
    fn offset_type(&self) -> &'static str {
        if self.kernel().implementation.backend == Backend::C { "usize" } else { "u64" }
    }

    /// A number as an argument of its type.
    fn number(&mut self, planned: &Planned, number: Number<'_>) -> Result<String, ExportError> {
        let (dtype, word, value) = match number {
            Number::Offset { elements, .. } => return self.integer(planned, elements, self.offset_type()),
            Number::Scalar { dtype, word, value } => (dtype, word, value),
        };
        if word == Some(Word::Bool) {
            let truth = self.truth(planned, value)?;
            return Ok(truth.replacen("i64::", "u8::", 1));
        }
        if let Some([mantissa, bias, largest, above]) = narrow(dtype) {
            let real = self.real(planned, value)?;
            self.translation.called.insert("narrow");
            let bits = format!("narrow({real}, [{mantissa}, {bias}, {largest:#x}, {above:#x}])");
            return Ok(format!("{}::try_from({bits}).ok()?", rust_type(dtype)));
        }
        Ok(match dtype {
            DType::F64 => self.real(planned, value)?,
            DType::F32 => {
                let real = self.real(planned, value)?;
                if let Ok(number) = real.replace('_', "").parse::<f64>() {
                    dialect::literal(&format!("{:?}", number as f32))
                } else {
                    self.translation.called.insert("single");
                    format!("single({real})")
                }
            }
            _ => self.integer(planned, value, dtype.name())?,
        })
    }

    /// The names of the numbers of a launch, and the call that gives their values.
    pub(super) fn numbers(
        &mut self,
        at: usize,
        text: &mut String,
    ) -> Result<(Vec<String>, Option<String>), ExportError> {
        let plan = self.plan;
        let kernel = &plan.kernel;
        let launch = plan.variants.iter().find_map(|planned| Some(planned.stage(kernel, at)?.1));
        let (mut types, mut names) = (Vec::new(), Vec::new());
        for number in launch.map(numbers).unwrap_or_default() {
            match number {
                Number::Scalar { dtype, value, .. } => {
                    types.push(rust_type(dtype).to_owned());
                    names.push(value.text().to_owned());
                }
                Number::Offset { tensor, .. } => {
                    types.push(self.offset_type().to_owned());
                    names.push(format!("{}_offset", self.tensor(tensor).trim_end_matches('_')));
                }
            }
        }
        if types.is_empty() {
            return Ok((Vec::new(), None));
        }
        let tuple = |items: Vec<String>| format!("({}{})", items.join(", "), if items.len() == 1 { "," } else { "" });
        let name = if at == 0 { "scalars".to_owned() } else { format!("scalars_{at}") };
        let doc = "Scalars and offsets in the order of the signature.";
        let function = self.function(&name, doc, &tuple(types), |parts, planned| {
            let Some((_, launch)) = planned.stage(kernel, at) else { return Ok(String::new()) };
            let values: Result<Vec<String>, ExportError> =
                numbers(launch).into_iter().map(|number| parts.number(planned, number)).collect();
            Ok(tuple(values?))
        })?;
        text.push_str(&function.text);
        Ok((self.scalar_names(&names), Some(function.call)))
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
            let names: Vec<String> = scratch.iter().map(|(tensor, _)| self.length(*tensor)).collect();
            let _ = writeln!(before, "let [{}] = {};", names.join(", "), lengths.call);
        }
        Ok(scratch)
    }

    /// The variable that holds the number of elements of a tensor.
    pub(super) fn length(&self, tensor: usize) -> String {
        let tensors: Vec<&(usize, String)> = self.tensors.iter().chain(&self.scratch).collect();
        // In the name of a keyword's tensor, `type_`, two underscores would follow each other, which is no snake case.
        let names: Vec<String> =
            tensors.iter().map(|(_, name)| format!("{}_len", name.trim_end_matches('_'))).collect();
        let taken: Vec<&str> = tensors.iter().map(|(_, name)| name.as_str()).collect();
        let names = snake(&names.iter().map(String::as_str).collect::<Vec<_>>(), names::RUST, &taken);
        let at = tensors.iter().position(|(index, _)| *index == tensor).expect("an argument or scratch");
        names[at].clone()
    }

    /// Binds the lengths of arguments that a launch needs: tensors that are zeroed or copied to a symbol.
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

    /// Names for scalars: that of a size or a toggle if the scalar is one.
    pub(super) fn scalar_names(&self, texts: &[String]) -> Vec<String> {
        let is_name = |text: &str| {
            let mut bytes = text.bytes();
            !text.starts_with(|c: char| c.is_ascii_digit()) && bytes.all(|c| c == b'_' || c.is_ascii_alphanumeric())
        };
        let names: Vec<&str> = texts.iter().map(|text| if is_name(text) { text.as_str() } else { "scalar" }).collect();
        let tensors = self.tensors.iter().chain(&self.scratch);
        let lengths: Vec<String> = tensors.clone().map(|(tensor, _)| self.length(*tensor)).collect();
        let variables = tensors.map(|(_, name)| name.as_str()).chain(lengths.iter().map(String::as_str));
        snake(&names, names::RUST, &taken().into_iter().chain(variables).collect::<Vec<_>>())
    }

    /// A function of the sizes that returns `returned`; `value` gives the value for a variant, in a function of
    /// `Option`. A variant that does not call it has no branch.
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
        // No variant makes this launch.
        if bodies.is_empty() {
            return Ok(Function { text: String::new(), call: String::new() });
        }
        // A term without a value leaves a name unused.
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
        // Clippy accepts seven members of a tuple.
        let complex = if returned.split(", ").count() > 7 { ", clippy::type_complexity" } else { "" };
        let _ = writeln!(text, "#[allow(clippy::unnecessary_wraps{complex})]");
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
        if count == 0 {
            text.push_str("#[allow(clippy::unnecessary_wraps, clippy::unused_self)]\n");
        }
        let _ = writeln!(
            text,
            "impl Dims {{\n/// In the table's order.\nfn array(self) -> [usize; {count}] {{\n[{}]\n}}\n\n\
             /// As the table's arithmetic takes them.\nfn sizes(self) -> Option<[i64; {count}]> {{\nSome([{}])\n}}\n}}\n",
            all(&|field| format!("self.{field}")),
            all(&|field| format!("i64::try_from(self.{field}).ok()?")),
        );
        text
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

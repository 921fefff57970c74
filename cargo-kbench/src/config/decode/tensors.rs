//! Tensors, the sources of their contents, and the connection of quantised tensors with their values and scales.

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Role;

use super::super::diagnostics::{Diagnostic, Report};
use super::super::tree::{Entry, Node, Table};
use super::super::{Baseline, BaselineKind, Derivation, Implementation, Init, Reference, ReferenceKind, Shape, Tensor};
use super::derived;
use super::env::{Env, Need, integer_range};
use super::names::{find, source};
use crate::expr::Expr;
use crate::text::number;

/// Tensors in their final order.
pub(super) struct Tensors {
    pub(super) list: Vec<Tensor>,
    /// Whether each tensor could be read.
    pub(super) whole: bool,
    entries: Vec<Entry>,
}

impl Tensors {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Outputs of the kernel.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, &Tensor)> {
        let written = |tensor: &Tensor| matches!(tensor.role, Role::Out | Role::Inout);
        self.list.iter().enumerate().filter(move |(_, tensor)| self.whole && written(tensor))
    }
}

pub(super) fn tensors(table: &Table, env: &Env<'_>, report: &Report) -> Tensors {
    let before = report.errors();
    let entries = derived::in_order(table.entries_of("tensors"), report);
    let mut tensors: Vec<Tensor> = entries.iter().filter_map(|entry| tensor(entry, env, report)).collect();
    let whole = tensors.len() == entries.len();
    if whole {
        for (index, entry) in entries.iter().enumerate() {
            if let Some(quantize) = entry.node.table().and_then(|table| table.entry("quantize")) {
                wire(index, quantize, &entries, &mut tensors, report);
            }
        }
        for index in 0..entries.len() {
            derived::wire(index, &entries, &mut tensors, env, report);
        }
    }
    if report.errors() == before
        && whole
        && let Some(entry) = table.entry("tensors")
        && !tensors.iter().any(|tensor| matches!(tensor.role, Role::Out | Role::Inout))
    {
        let diagnostic = Diagnostic::error("no tensor is an output").at(&entry.key_place, "");
        report.push(diagnostic.help("say `role = \"out\"` or `role = \"inout\"` for each output"));
    }
    Tensors { list: tensors, whole, entries }
}

fn tensor(entry: &Entry, env: &Env<'_>, report: &Report) -> Option<Tensor> {
    let table = entry.node.table()?;
    let dtype: DType = table.text("dtype")?.parse().ok()?;
    let role = match table.get("role").map(Node::text) {
        None | Some(Some("in")) => Role::In,
        Some(Some("out")) => Role::Out,
        Some(Some("inout")) => Role::Inout,
        Some(Some("scratch")) => Role::Scratch,
        // The mistake was reported.
        Some(_) => return None,
    };
    let dims = env.exprs(table.get("dims")?, "dims", Need::Dimension);
    let clobber = table.get("clobber").and_then(Node::bool).unwrap_or(false);
    if let (Some(key), true) = (table.entry("clobber"), role != Role::In) {
        let message = format!("`{}` is not an input", entry.key);
        report.error(&key.key_place, message, "`clobber` belongs to a tensor with role \"in\"");
    }
    let role = if clobber && role == Role::In { Role::Clobbered } else { role };
    let has_contents = role.is_read();
    for key in ["init", "quantize"] {
        if let Some(init) = table.entry(key).filter(|_| !has_contents) {
            let message = format!("`{}` is written by the kernel: it has no `{key}`", entry.key);
            report.error(&init.key_place, message, "its contents before the launch are not used");
        }
    }
    let init = match table.get("init") {
        Some(init) => init_of(init, dtype, &dims, env, report)?,
        None if !has_contents => Init::None,
        None if dtype.is_float() => Init::Normal { mean: 0.0, std: 1.0 },
        None => Init::Integers { low: 0, high: 15 },
    };
    let place = table.get("dtype")?.place.clone();
    Some(Tensor { name: entry.key.clone(), dtype, place, dims, role, init })
}

fn init_of(node: &Node, dtype: DType, dims: &[Expr], env: &Env<'_>, report: &Report) -> Option<Init> {
    let elements = &env.elements(dims);
    let table = node.table()?;
    let is_beside = |entry: &&Entry| entry.key == "tensor" || derived::BESIDE.contains(&&*entry.key);
    let kinds: Vec<&Entry> = table.entries.iter().filter(|entry| !is_beside(entry)).collect();
    let [entry] = kinds[..] else {
        let message = "`init` says one of normal, uniform, integers, arange, constant, offsets, file, command and from";
        report.error(&node.place, message, format!("this says {}", kinds.len()));
        return None;
    };
    let number = |key: &str, default: f64| entry.node.table()?.get(key).map_or(Some(default), Node::number);
    if let Some(extra) = table.entry("tensor").filter(|_| !["file", "command"].contains(&&*entry.key)) {
        report.error(&extra.key_place, "`tensor` belongs to a `file` or a `command`", "");
    }
    if let Some(extra) = derived::BESIDE.iter().find_map(|key| table.entry(key)).filter(|_| entry.key != "from") {
        report.error(&extra.key_place, format!("`{}` belongs to `from`", extra.key), "");
    }
    let init = match entry.key.as_str() {
        "normal" => Init::Normal { mean: number("mean", 0.0)?, std: number("std", 1.0)? },
        "uniform" => Init::Uniform { low: number("low", 0.0)?, high: number("high", 1.0)? },
        "integers" => {
            let (low, high) = (entry.node.table()?.get("low")?, entry.node.table()?.get("high")?);
            match (low.integer(), high.integer()) {
                (Some(low), Some(high)) => Init::Integers { low, high },
                _ => Init::Between {
                    low: env.expr(low, "low", Need::Scalar(dtype))?,
                    high: env.expr(high, "high", Need::Scalar(dtype))?,
                },
            }
        }
        "arange" => Init::Arange { start: number("start", 0.0)?, step: number("step", 1.0)? },
        "constant" => match entry.node.number() {
            Some(number) => Init::Constant(number),
            None => Init::Computed(env.expr(&entry.node, "constant", Need::Scalar(dtype))?),
        },
        "offsets" => {
            if dtype.is_float() || dims.len() != 1 {
                let label = "expected one dimension of integers, one more than there are rows";
                report.error(&entry.key_place, "this tensor cannot hold `offsets`", label);
                return None;
            }
            Init::Offsets(env.expr(&entry.node, "offsets", Need::Scalar(dtype))?)
        }
        "file" => file(&entry.node, table, report)?,
        "command" => command(&entry.node, table, env, report)?,
        "from" => derived::derivation(table, env, report)?,
        _ => return None,
    };
    suits(&init, dtype, elements, &entry.node, report).then_some(init)
}

/// A program that writes the contents, which depend on the problem and not on the variant.
fn command(node: &Node, table: &Table, env: &Env<'_>, report: &Report) -> Option<Init> {
    let mut command = Vec::new();
    for word in node.elements() {
        let template = env.template(word, "command")?;
        let names: Vec<&str> = template.exprs().flat_map(|(expr, _)| expr.names()).collect();
        if let Some(toggle) = names.into_iter().find(|name| env.has_toggle(name)) {
            let message = format!("`{toggle}` is a toggle, and inputs are the same for all variants");
            report.error(&word.place, message, "expected dimensions alone");
            return None;
        }
        command.push(template);
    }
    if command.is_empty() {
        report.error(&node.place, "`command` is empty", "expected a program and its arguments");
        return None;
    }
    Some(Init::Command { command, tensor: table.text("tensor").map(str::to_owned), made: Vec::new() })
}

fn file(node: &Node, table: &Table, report: &Report) -> Option<Init> {
    let path = source(node, report)?;
    let tensor = table.text("tensor").map(str::to_owned);
    match (path.extension().and_then(|extension| extension.to_str()), &tensor) {
        (Some("npy"), None) | (Some("safetensors"), Some(_)) => Some(Init::File { path, tensor }),
        (Some("npy"), Some(_)) => {
            report.error(&table.get("tensor")?.place, "a .npy file holds one tensor", "it has no name there");
            None
        }
        (Some("safetensors"), None) => {
            report.error(&node.place, "which `tensor` of the .safetensors file?", "");
            None
        }
        _ => {
            report.error(&node.place, "an unknown kind of file", "expected .npy or .safetensors");
            None
        }
    }
}

/// Number of standard deviations from the mean that no value exceeds.
const FARTHEST: f64 = 10.0;

/// Checks that the tensor's type can hold the contents, with these numbers of elements at each shape.
fn suits(init: &Init, dtype: DType, elements: &[(&Shape, i64)], node: &Node, report: &Report) -> bool {
    let (least, most) = integer_range(dtype);
    let largest = dtype.max_finite();
    let fits = |value: f64| {
        if dtype.is_float() {
            value.is_nan() || value.abs() <= largest || value.is_infinite() && dtype != DType::F8e4m3
        } else {
            value.fract() == 0.0 && value >= least as f64 && value <= most as f64
        }
    };
    let range = || {
        if dtype.is_float() {
            format!("{} to {}", number(-largest), number(largest))
        } else {
            format!("{least} to {most}")
        }
    };
    let problem = match init {
        Init::Normal { .. } | Init::Uniform { .. } if !dtype.is_float() => {
            Some(format!("{dtype} has no fractions; use `integers = {{ low = 0, high = 15 }}`"))
        }
        // 8-bit floats saturate: users clip the tails on purpose.
        Init::Normal { mean, std } if !fits(*mean) || dtype.size() > 1 && !fits(mean.abs() + FARTHEST * std) => {
            Some(format!("{dtype} holds {}, these values go beyond", range()))
        }
        Init::Uniform { low, high } if low >= high => Some("`low` must be less than `high`".to_owned()),
        Init::Uniform { low, high } if !fits(*low) || !fits(*high) => Some(format!("{dtype} holds {}", range())),
        Init::Integers { low, high } if low > high => Some("`low` must not exceed `high`".to_owned()),
        Init::Integers { low, high } if !fits(*low as f64) || !fits(*high as f64) => {
            Some(format!("{dtype} holds {}", range()))
        }
        Init::Constant(value) | Init::Derived(Derivation { border: value, .. }) if !fits(*value) => {
            Some(format!("{dtype} cannot hold {}", number(*value)))
        }
        Init::Arange { start, step } if !fits(*start) || !dtype.is_float() && step.fract() != 0.0 => {
            Some(format!("{dtype} cannot hold steps of {} from {}", number(*step), number(*start)))
        }
        Init::Arange { start, step } => elements.iter().find_map(|(shape, elements)| {
            let last = start + step * (elements - 1) as f64;
            let place = format!("element {} at shape `{}`", elements - 1, shape.name);
            (!fits(last)).then(|| format!("{dtype} holds {}, {place} is {}", range(), number(last)))
        }),
        _ => None,
    };
    if let Some(problem) = &problem {
        report.error(&node.place, "this `init` does not suit the tensor", problem);
    }
    problem.is_none()
}

/// Connects a quantised tensor with its values, its scales, and the dimensions of the scales.
fn wire(index: usize, entry: &Entry, entries: &[Entry], tensors: &mut [Tensor], report: &Report) {
    let Some(table) = entry.node.table() else { return };
    let names = || entries.iter().map(|entry| entry.key.as_str());
    if let Some(init) = entries[index].node.table().and_then(|table| table.entry("init")) {
        let diagnostic = Diagnostic::error("`quantize` and `init` exclude each other");
        report.push(diagnostic.at(&init.key_place, "").at(&entry.key_place, ""));
    }
    let from = table.get("from").and_then(|node| Some((node, find(node, "tensor", names(), report)?)));
    let scale = table.get("scale").and_then(|node| Some((node, find(node, "tensor", names(), report)?)));
    let (Some((from_node, from)), Some((scale_node, scale))) = (from, scale) else { return };

    let quantised = |tensor: usize| entries[tensor].node.table().is_some_and(|table| table.get("quantize").is_some());
    if quantised(from) {
        report.error(&from_node.place, "quantised from a tensor that is itself quantised", "");
        return;
    }
    if !tensors[from].dtype.is_float() || tensors[from].role == Role::Out || tensors[from].role == Role::Scratch {
        report.error(&from_node.place, "cannot quantise from this tensor", "expected a floating-point input");
    }
    if texts(&tensors[from].dims) != texts(&tensors[index].dims) {
        let message = format!("`{}` and `{}` have different dims", tensors[index].name, tensors[from].name);
        let label = format!("its dims are [{}], not [{}]", shown(&tensors[from].dims), shown(&tensors[index].dims));
        report.error(&from_node.place, message, label);
    }
    let scale_has_init = entries[scale].node.table().is_some_and(|table| table.get("init").is_some());
    if scale == index || scale == from || quantised(scale) || scale_has_init {
        let message = format!("`{}` cannot receive scales", tensors[scale].name);
        report.error(&scale_node.place, message, "expected a tensor with no contents of its own");
        return;
    }
    if tensors[scale].init == Init::Scale {
        report.error(&scale_node.place, format!("`{}` receives the scales of two tensors", tensors[scale].name), "");
        return;
    }
    if !tensors[scale].dtype.is_float() || !matches!(tensors[scale].role, Role::In | Role::Clobbered) {
        report.error(&scale_node.place, "cannot put scales in this tensor", "expected a floating-point input");
    }
    if let Some(scale_dims) = scale_dims(scale_node, &tensors[scale], &tensors[from], report) {
        tensors[scale].init = Init::Scale;
        tensors[index].init = Init::Quantize { from, scale, scale_dims };
    }
}

fn texts(dims: &[Expr]) -> Vec<String> {
    dims.iter().map(|dim| dim.text().split_whitespace().collect()).collect()
}

fn shown(dims: &[Expr]) -> String {
    dims.iter().map(Expr::text).collect::<Vec<_>>().join(", ")
}

/// For each dimension of the scales, the dimension of the values with the same text.
fn scale_dims(node: &Node, scale: &Tensor, from: &Tensor, report: &Report) -> Option<Vec<usize>> {
    let of_values = texts(&from.dims);
    let mut dims = Vec::new();
    for (text, dim) in texts(&scale.dims).iter().zip(&scale.dims) {
        let matches: Vec<usize> = (0..of_values.len()).filter(|&index| of_values[index] == *text).collect();
        match matches[..] {
            [index] if !dims.contains(&index) => dims.push(index),
            _ => {
                let message = format!("dimension `{dim}` of `{}` is not one dimension of `{}`", scale.name, from.name);
                let label = format!("the dims of `{}` are [{}]", from.name, shown(&from.dims));
                let diagnostic = Diagnostic::error(message).at(&node.place, label);
                report.push(diagnostic.help("write the same expression in both; `dims = []` is one scale for all"));
                return None;
            }
        }
    }
    Some(dims)
}

/// Warns of tensors without a use.
pub(super) fn warn_unused(
    tensors: &Tensors,
    kernel: &Implementation,
    reference: &Reference,
    baselines: &[Baseline],
    report: &Report,
) {
    let programs = baselines.iter().any(|baseline| matches!(baseline.kind, BaselineKind::Command(_)));
    // A program gets all tensors; which of them it reads is unknown.
    let (ReferenceKind::Function(reference), false) = (&reference.kind, programs) else { return };
    let mut used = vec![false; tensors.list.len()];
    let inline = baselines.iter().filter_map(|baseline| match &baseline.kind {
        BaselineKind::Implementation(implementation) => Some(&**implementation),
        _ => None,
    });
    for arg in [kernel, &**reference].into_iter().chain(inline).flat_map(Implementation::args) {
        arg.tensors().into_iter().for_each(|tensor| used[tensor] = true);
    }
    for tensor in &tensors.list {
        match &tensor.init {
            Init::Quantize { from, scale, .. } => [*from, *scale].into_iter().for_each(|tensor| used[tensor] = true),
            Init::Derived(derivation) => derivation.from.iter().for_each(|&tensor| used[tensor] = true),
            _ => {}
        }
    }
    for (entry, _) in tensors.entries.iter().zip(used).filter(|(_, used)| !used) {
        let message = format!("tensor `{}` is never used", entry.key);
        report.push(Diagnostic::warning(message).at(&entry.key_place, "no `args` name it"));
    }
}

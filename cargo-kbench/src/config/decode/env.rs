//! Validation of expressions: every name has a meaning, and the value is allowed at every shape.

use std::ops::Range;

use kbench_runtime::dtype::DType;

use super::super::diagnostics::{Diagnostic, Place, Report};
use super::super::tree::{Item, Node};
use super::super::{DEVICE_NAMES, Shape};
use super::device::Device;
use super::names::SM_COUNT;
use super::shapes::Shapes;
use crate::expr::{EvalError, Expr, ParseError, Template, Value};
use crate::space::{Layer, Reach, Solutions, Space, Toggle};

/// The dimensions and toggles of a kernel.
pub(super) struct Env<'r> {
    pub(super) shapes: Vec<Shape>,
    pub(super) space: Option<Space>,
    dims: Vec<String>,
    toggles: Vec<String>,
    /// Whether all of them are right, so that values can be computed. A mistake in a shape is reported once, and not
    /// again by every expression over it.
    complete: bool,
    device: &'r Device,
    report: &'r Report,
}

/// Required kind of an expression's value.
#[derive(Clone, Copy)]
pub(super) enum Need {
    /// A number of blocks; the device's multiprocessors are known.
    Grid,
    /// A number of threads, or a size of a box.
    Size,
    /// A size of a tensor.
    Dimension,
    /// Zero or more bytes.
    Bytes,
    /// Zero or more elements.
    Count,
    /// A number, zero or more.
    Rate,
    /// A scalar of this type.
    Scalar(DType),
    /// True or false: anything but a string.
    Truth,
    /// Any value.
    Value,
}

impl<'r> Env<'r> {
    pub(super) fn new(
        shapes: Shapes,
        toggles: Vec<String>,
        space: Option<Space>,
        errors_before: usize,
        device: &'r Device,
        report: &'r Report,
    ) -> Self {
        let complete = space.is_some() && report.errors() == errors_before;
        Self { shapes: shapes.shapes, dims: shapes.dims, toggles, space, complete, device, report }
    }

    /// The shapes of the table.
    pub(super) fn named_shapes(&self) -> impl Iterator<Item = &Shape> {
        self.shapes.iter().filter(|shape| !shape.check_only)
    }

    pub(super) fn shape_names(&self) -> impl Iterator<Item = &str> {
        self.named_shapes().map(|shape| shape.name.as_str())
    }

    pub(super) fn has_toggle(&self, name: &str) -> bool {
        self.toggles.iter().any(|toggle| toggle == name)
    }

    /// An expression with an allowed value at every shape with the default variant. `name` is its key.
    pub(super) fn expr(&self, node: &Node, name: &str, need: Need) -> Option<Expr> {
        let is_grid = matches!(need, Need::Grid);
        let expr = self.device.bind(&parse(node, self.report)?, &|name| self.is_own(name), is_grid);
        self.check(&expr, node, 0, name, need)?;
        Some(expr)
    }

    /// A text with expressions in it.
    pub(super) fn template(&self, node: &Node, name: &str) -> Option<Template> {
        self.checked_template(Template::parse(node.text()?), node, name)
    }

    /// The name of a function, with expressions among template arguments.
    pub(super) fn function(&self, node: &Node, name: &str) -> Option<Template> {
        let is_variable = |word: &str| self.dims.iter().chain(&self.toggles).any(|known| known == word);
        self.checked_template(Template::parse_function(node.text()?, is_variable), node, name)
    }

    fn checked_template(&self, template: Result<Template, ParseError>, node: &Node, name: &str) -> Option<Template> {
        let wrong = |error: ParseError| {
            self.report.error(&place_in(node, error.range), error.message, format!("in this `{name}`"));
        };
        let template = template.map_err(wrong).ok()?;
        let template = template.bound(&|name| if self.is_own(name) { None } else { self.device.value(name) });
        let mut whole = true;
        for (expr, begin) in template.exprs() {
            whole &= self.check(expr, node, begin, name, Need::Value).is_some();
        }
        whole.then_some(template)
    }

    /// Checks an expression that begins at a byte of a string.
    fn check(&self, expr: &Expr, node: &Node, begin: usize, name: &str, need: Need) -> Option<()> {
        let mut known = true;
        for (name, range) in expr.names_at() {
            if !self.knows(name, need) {
                self.unknown_name(name, &place_in(node, begin + range.start..begin + range.end), need);
                known = false;
            }
        }
        if known && self.complete { self.evaluate(expr, node, begin, name, need) } else { Some(()) }
    }

    /// One or more expressions.
    pub(super) fn exprs(&self, node: &Node, name: &str, need: Need) -> Vec<Expr> {
        node.elements().iter().filter_map(|node| self.expr(node, name, need)).collect()
    }

    /// Whether the name is a dimension or a toggle.
    fn is_own(&self, name: &str) -> bool {
        self.dims.iter().chain(&self.toggles).any(|known| known == name)
    }

    fn knows(&self, name: &str, need: Need) -> bool {
        // Without shapes, which is an error already, every name may be a dimension.
        (self.dims.is_empty() && self.shapes.is_empty())
            || self.is_own(name)
            || (name == SM_COUNT && matches!(need, Need::Grid))
    }

    fn unknown_name(&self, name: &str, place: &Place, need: Need) {
        let diagnostic = Diagnostic::error(format!("unknown name `{name}`"));
        if DEVICE_NAMES.contains(&name) {
            self.report.push(diagnostic.at(place, "a property of a GPU, and this kernel runs on the host"));
            return;
        }
        let sm_count = matches!(need, Need::Grid).then_some(SM_COUNT);
        let known = self.dims.iter().chain(&self.toggles).map(String::as_str).chain(sm_count);
        self.report.gather(diagnostic.at(place, "neither a dimension nor a toggle").suggest(name, known));
    }

    fn evaluate(&self, expr: &Expr, node: &Node, begin: usize, name: &str, need: Need) -> Option<()> {
        for shape in &self.shapes {
            match expr.eval_at(&|name| self.value(shape, name)) {
                Err((error, range)) => {
                    let place = place_in(node, begin + range.start..begin + range.end);
                    let label = format!("at shape `{}` with the default variant", shape.name);
                    self.report.push(with_advice(&error, Diagnostic::error(error.to_string()).at(&place, label)));
                    return None;
                }
                Ok(value) => {
                    if let Err(expected) = need.accepts(&value) {
                        let label = format!("{} at shape `{}` with the default variant", show(&value), shape.name);
                        let diagnostic = Diagnostic::error(format!("`{name}` must be {expected}"));
                        let diagnostic = diagnostic.at(&place_in(node, begin..begin + expr.text().len()), label);
                        let fraction = value.as_integer().is_none() && need.is_integral() && expr.text().contains('/');
                        self.report.push(if fraction {
                            diagnostic
                                .help("`/` keeps fractions: use `//` to round down or `ceil_div(a, b)` to round up")
                        } else {
                            diagnostic
                        });
                        return None;
                    }
                }
            }
        }
        Some(())
    }

    /// Number of elements of a tensor at each shape with the default variant, if these dimensions have values.
    pub(super) fn elements(&self, dims: &[Expr]) -> Vec<(&Shape, i64)> {
        let size = |shape: &Shape| {
            dims.iter().try_fold(1_i64, |elements, dim| {
                let size = dim.eval(&|name| self.value(shape, name)).ok()?.as_integer()?;
                elements.checked_mul(size)
            })
        };
        let shapes = self.shapes.iter().filter(|_| self.complete);
        shapes.filter_map(|shape| Some((shape, size(shape)?))).collect()
    }

    /// Whether there are expressions, and each is 0 at a shape with the default variant.
    pub(super) fn are_zero(&self, shape: &Shape, exprs: &[&Expr]) -> bool {
        let number = |expr: &Expr| expr.eval(&|name| self.value(shape, name)).ok()?.as_float();
        self.complete && !exprs.is_empty() && exprs.iter().all(|expr| number(expr).is_some_and(|number| number <= 0.0))
    }

    /// All shapes, those that are checked alone too; none where values cannot be computed.
    pub(super) fn all_shapes(&self) -> impl Iterator<Item = &Shape> {
        self.shapes.iter().filter(|_| self.complete)
    }

    /// Sizes at a shape with the default variant; `None` if a size has no value; that error was reported.
    pub(super) fn sizes(&self, shape: &Shape, exprs: &[Expr]) -> Option<Vec<u64>> {
        let size = |expr: &Expr| {
            let size = expr.eval(&|name| self.value(shape, name)).ok()?.as_integer()?;
            u64::try_from(size).ok()
        };
        exprs.iter().map(size).collect()
    }

    /// Whether a condition is false at every shape with every variant. In a space that is too large to enumerate, a
    /// condition counts as sometimes true.
    pub(super) fn is_never_true(&self, condition: &Expr) -> bool {
        let known = condition.names().iter().all(|name| self.knows(name, Need::Truth));
        let Some(space) = self.space.as_ref().filter(|_| self.complete && known) else { return false };
        let is_true = |shape: &&Shape| {
            condition.eval(&|name| self.value(shape, name)).is_ok_and(|value| value.truth() == Some(true))
        };
        let is_possible = |shape: &Shape| {
            let mut space = space.clone();
            for (dim, size) in &shape.dims {
                let (name, values) = (dim.clone(), vec![Value::Int(*size)]);
                space.toggles.push(Toggle { name, values, layer: Layer::Micro, reach: Reach::Launch });
                space.default.0.push(0);
            }
            space.constraints.push(condition.clone());
            Solutions::new(&space).count() != Some(0)
        };
        !self.shapes.iter().any(|shape| is_true(&shape)) && !self.shapes.iter().any(is_possible)
    }

    /// The first shape where no condition is true with the default variant.
    pub(super) fn shape_where_none_holds(&self, conditions: &[&Expr]) -> Option<&str> {
        let holds = |shape: &Shape, condition: &&Expr| {
            condition.eval(&|name| self.value(shape, name)).is_ok_and(|value| value.truth() == Some(true))
        };
        let none = |shape: &&Shape| !conditions.iter().any(|condition| holds(shape, condition));
        self.shapes.iter().filter(|_| self.complete).find(none).map(|shape| shape.name.as_str())
    }

    fn value(&self, shape: &Shape, name: &str) -> Option<Value> {
        let dim = shape.dims.iter().find(|(dim, _)| dim == name).map(|(_, size)| Value::Int(*size));
        let toggle = || self.space.as_ref().and_then(|space| space.value(&space.default, name).cloned());
        // Every device has at least one multiprocessor.
        dim.or_else(toggle).or_else(|| (name == SM_COUNT).then_some(Value::Int(1)))
    }
}

impl Need {
    fn is_integral(self) -> bool {
        match self {
            Need::Grid | Need::Size | Need::Dimension | Need::Bytes | Need::Count => true,
            Need::Scalar(dtype) => !dtype.is_float(),
            Need::Rate | Need::Truth | Need::Value => false,
        }
    }

    /// The expected kind, if the value is not allowed.
    fn accepts(self, value: &Value) -> Result<(), String> {
        let u32_max = i64::from(u32::MAX);
        let within = |least: i64, most: i64, what: String| match value.as_integer() {
            Some(int) if (least..=most).contains(&int) => Ok(()),
            _ => Err(what),
        };
        match self {
            Need::Grid | Need::Size => within(1, u32_max, format!("an integer from 1 to {u32_max}")),
            Need::Dimension => within(1, i64::MAX, "an integer, 1 or more".to_owned()),
            Need::Count => within(0, i64::MAX, "an integer, 0 or more".to_owned()),
            Need::Bytes => within(0, u32_max, format!("an integer from 0 to {u32_max}")),
            Need::Scalar(dtype) if !dtype.is_float() => {
                let (least, most) = integer_range(dtype);
                within(least, most, format!("an integer that fits {dtype}"))
            }
            Need::Scalar(_) => value.as_float().map(drop).ok_or_else(|| "a number".to_owned()),
            Need::Rate => match value.as_float() {
                Some(float) if float >= 0.0 => Ok(()),
                _ => Err("a number, 0 or more".to_owned()),
            },
            Need::Truth => value.truth().map(drop).ok_or_else(|| "true or false".to_owned()),
            Need::Value => Ok(()),
        }
    }
}

/// The integers of a type that expressions can express.
pub(super) fn integer_range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::U8 => (0, u8::MAX.into()),
        DType::U16 => (0, u16::MAX.into()),
        DType::U32 => (0, u32::MAX.into()),
        DType::U64 => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("the string \"{text}\""),
        other => format!("{other}"),
    }
}

/// Advice for errors with a usual cause.
fn with_advice(error: &EvalError, diagnostic: Diagnostic) -> Diagnostic {
    match error {
        EvalError::Overflow(_) => {
            diagnostic.help("integers have 64 bits; a float literal (`4.0 * …`) computes with floats")
        }
        _ => diagnostic,
    }
}

/// Parses the expression in a string, or a number.
pub(super) fn parse(node: &Node, report: &Report) -> Option<Expr> {
    let text = match &node.item {
        Item::Text(text) => text.clone(),
        Item::Integer(int) => int.to_string(),
        Item::Float(float) => Value::Float(*float).to_string(),
        _ => return None,
    };
    Expr::parse(&text)
        .map_err(|error| report.error(&place_in(node, error.range), error.message, "in this expression"))
        .ok()
}

/// The place of a part of a string's contents. If the string has escapes, it is the place of the whole string.
pub(super) fn place_in(node: &Node, range: Range<usize>) -> Place {
    let whole = &node.place;
    let raw = &whole.source.text[whole.range.clone()];
    match node.text() {
        Some(text) if raw.len() == text.len() + 2 && &raw[1..=text.len()] == text => {
            let start = whole.range.start + 1;
            Place { source: whole.source.clone(), range: start + range.start..start + range.end }
        }
        _ => whole.clone(),
    }
}

//! Expressions of the table as arithmetic of the export's language.
//!
//! Toggles are constants in an export, so an expression depends on sizes and on the device alone. Integers stay
//! integers, checked as the table's are. `/` of two integers may be a fraction: it and all values that depend on it are
//! computed in floating point, which is exact below 2^53, and must be whole where an integer is needed.

use std::collections::BTreeSet;

use crate::expr::graph::{Arithmetic, Binary, Function, Graph, Node, NodeId, Scalar, Unary};
use crate::expr::{Expr, Value};
use conditions::truth;

mod conditions;

/// A term with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) text: String,
    pub(super) kind: Kind,
    /// Whether it is a number or a name, which needs no parentheses.
    is_atom: bool,
}

/// A term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Real,
    Bool,
}

/// An expression without a value for any sizes, or without a counterpart in the language.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` {why}")]
pub(super) struct Untranslated {
    text: String,
    why: &'static str,
}

/// The spelling of a language.
pub(super) trait Dialect {
    /// Words that are not names in the language.
    fn keywords(&self) -> &'static [&'static str];
    /// The size in a field.
    fn size(&self, field: &str) -> String;
    /// An integer.
    fn int(&self, value: i64) -> String;
    /// A number in floating point.
    fn float(&self, value: f64) -> String {
        format!("{value:?}")
    }
    /// A call of a function of the language or the module, which may fail if `fails`.
    fn call(&self, function: &'static str, arguments: &[String], fails: bool) -> String;
    /// An integer operation.
    fn checked(&self, operator: Arithmetic, left: &Term, right: &Term) -> String;
    /// One of two values by a condition.
    fn select(&self, condition: &str, a: &str, b: &str) -> String;
    /// `and`, `or`, `not`.
    fn logic(&self) -> [&'static str; 3];
    /// A condition as 1 or 0.
    fn bool_as_int(&self, term: &str) -> String;
    /// An integer in floating point.
    fn int_as_real(&self, term: &Term) -> String;
}

/// A translation into one language, with the functions that the translated terms call.
pub(super) struct Translation<'d> {
    dialect: &'d dyn Dialect,
    /// Functions that the module must define.
    pub(super) called: BTreeSet<&'static str>,
    /// Names in the terms.
    pub(super) used: BTreeSet<String>,
}

impl<'d> Translation<'d> {
    pub(super) fn new(dialect: &'d dyn Dialect) -> Self {
        Self { dialect, called: BTreeSet::new(), used: BTreeSet::new() }
    }

    /// The term of an expression, or of the opposite of a condition; `value` gives constants and `variable` the spelling of other names.
    pub(super) fn term(
        &mut self,
        expr: &Expr,
        is_opposite: bool,
        value: &dyn Fn(&str) -> Option<Value>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Term, Untranslated> {
        let untranslated = |why| Untranslated { text: expr.text().to_owned(), why };
        let mut graph = Graph::default();
        let names: Vec<String> = expr.names().into_iter().map(str::to_owned).collect();
        let constants: Vec<Option<Scalar>> =
            names.iter().map(|name| value(name).map(|value| graph.scalar(&value))).collect();
        let place = |name: &str| names.iter().position(|known| known == name).expect("one of its names");
        let top = graph.expression(expr, |name| {
            constants[place(name)].map_or_else(|| Node::Variable(place(name) as u32), Node::Constant)
        });
        let spelled: Vec<Option<String>> = names.iter().map(|name| variable(name)).collect();
        if is_opposite {
            let text = self.negation_of(&graph, top, &spelled).map_err(untranslated)?;
            return Ok(Term { text, kind: Kind::Bool, is_atom: false });
        }
        self.node(&graph, top, &spelled).map_err(untranslated)
    }

    /// A term that is an integer.
    pub(super) fn int(&mut self, term: &Term) -> String {
        match term.kind {
            Kind::Int => term.text.clone(),
            Kind::Bool => self.dialect.bool_as_int(&term.text),
            Kind::Real => self.call("whole", std::slice::from_ref(&term.text), true),
        }
    }

    /// A term in floating point.
    pub(super) fn real(&mut self, term: &Term) -> String {
        match term.kind {
            Kind::Real => term.text.clone(),
            Kind::Int | Kind::Bool => {
                let int = self.as_int(term);
                let text = self.dialect.int_as_real(&int);
                if text.starts_with("real(") {
                    self.called.insert("real");
                }
                text
            }
        }
    }

    /// A term as 1 if it is true, else 0.
    pub(super) fn truth(&self, term: &Term) -> String {
        let condition = Self::condition(term);
        self.dialect.bool_as_int(&condition)
    }

    fn call(&mut self, function: &'static str, arguments: &[String], fails: bool) -> String {
        self.called.insert(function);
        self.dialect.call(function, arguments, fails)
    }

    fn as_int(&mut self, term: &Term) -> Term {
        let is_atom = term.is_atom || term.kind != Kind::Int;
        Term { text: self.int(term), kind: Kind::Int, is_atom }
    }

    fn condition(term: &Term) -> String {
        match term.kind {
            Kind::Bool => term.text.clone(),
            Kind::Int => format!("{} != 0", bracketed(term)),
            Kind::Real => format!("{} != 0.0", bracketed(term)),
        }
    }

    fn node(&mut self, graph: &Graph, id: NodeId, names: &[Option<String>]) -> Result<Term, &'static str> {
        let compound = |text: String, kind| Term { text, kind, is_atom: false };
        let atom = |text: String, kind| Term { text, kind, is_atom: true };
        Ok(match graph.nodes[id as usize] {
            Node::Constant(Scalar::Int(int)) => atom(self.dialect.int(int), Kind::Int),
            Node::Constant(Scalar::Float(bits)) => atom(self.dialect.float(f64::from_bits(bits)), Kind::Real),
            Node::Constant(Scalar::Str(_)) => return Err("is a string"),
            Node::Constant(Scalar::Error) => return Err("has no value"),
            Node::Variable(name) => {
                let text = names[name as usize].clone().ok_or("names a value that a program does not have")?;
                self.used.insert(text.clone());
                atom(text, Kind::Int)
            }
            Node::Unary(Unary::Not, a) => compound(self.negation_of(graph, a, names)?, Kind::Bool),
            Node::Unary(operator, a) => {
                let a = self.node(graph, a, names)?;
                match operator {
                    Unary::Plus | Unary::Not => a,
                    Unary::Negate if a.kind == Kind::Real => compound(format!("-{}", bracketed(&a)), Kind::Real),
                    Unary::Negate => {
                        let zero = atom(self.dialect.int(0), Kind::Int);
                        let a = self.as_int(&a);
                        compound(self.dialect.checked(Arithmetic::Subtract, &zero, &a), Kind::Int)
                    }
                    Unary::Call(function) => self.function_of_one(function, &a)?,
                }
            }
            Node::Binary(operator @ (Binary::And | Binary::Or), a, b) => {
                if truth(graph, a).is_some() {
                    // A left side that decides alone is folded by the graph.
                    return Ok(compound(self.condition_of(graph, b, names)?, Kind::Bool));
                }
                let a = self.condition_of(graph, a, names)?;
                match (operator, truth(graph, b)) {
                    (Binary::And, Some(false)) => atom(self.dialect.int(0), Kind::Int),
                    (Binary::Or, Some(true)) => atom(self.dialect.int(1), Kind::Int),
                    (_, Some(_)) => compound(a, Kind::Bool),
                    (_, None) => {
                        let b = self.condition_of(graph, b, names)?;
                        let [and, or, _] = self.dialect.logic();
                        compound(format!("({a}) {} ({b})", if operator == Binary::And { and } else { or }), Kind::Bool)
                    }
                }
            }
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.node(graph, a, names)?, self.node(graph, b, names)?);
                match operator {
                    Binary::And | Binary::Or => return Err("has no value"),
                    Binary::Compare(comparison) => compound(self.comparison(comparison, &a, &b), Kind::Bool),
                    Binary::Call(function) => self.function_of_two(function, &a, &b),
                    Binary::Arithmetic(operator) => self.arithmetic(operator, &a, &b),
                }
            }
            Node::Select(condition, a, b) => {
                let (test, is_negated) = self.test(graph, condition, names)?;
                let (a, b) = if is_negated { (b, a) } else { (a, b) };
                let (a, b) = (self.node(graph, a, names)?, self.node(graph, b, names)?);
                if a.kind == Kind::Real || b.kind == Kind::Real {
                    let (a, b) = (self.real(&a), self.real(&b));
                    return Ok(compound(self.dialect.select(&test, &a, &b), Kind::Real));
                }
                let (a, b) = (self.int(&a), self.int(&b));
                match (&*a, &*b, is_negated) {
                    ("1", "0", false) | ("0", "1", true) => {
                        compound(self.condition_of(graph, condition, names)?, Kind::Bool)
                    }
                    ("1", "0", true) | ("0", "1", false) => {
                        compound(self.negation_of(graph, condition, names)?, Kind::Bool)
                    }
                    _ => compound(self.dialect.select(&test, &a, &b), Kind::Int),
                }
            }
        })
    }

    /// A term in floating point that stands beside an operator.
    fn operand(&mut self, term: &Term) -> String {
        if term.kind == Kind::Real { bracketed(term) } else { self.real(term) }
    }

    fn function_of_one(&mut self, function: Function, a: &Term) -> Result<Term, &'static str> {
        let is_real = a.kind == Kind::Real;
        let (name, fails, kind) = match function {
            Function::Sqrt => ("square_root", true, Kind::Real),
            Function::Log2 => ("log2", true, Kind::Real),
            Function::Abs if is_real => ("magnitude", false, Kind::Real),
            Function::Abs => ("absolute", true, Kind::Int),
            Function::IsPowerOfTwo => ("is_power_of_two", false, Kind::Bool),
            // With one argument, the result is that argument.
            Function::Min | Function::Max => return Ok(a.clone()),
            Function::CeilDiv => return Err("has no value"),
        };
        let takes_real = is_real && function != Function::IsPowerOfTwo || kind == Kind::Real;
        let argument = if takes_real { self.real(a) } else { self.int(a) };
        Ok(Term { text: self.call(name, &[argument], fails), kind, is_atom: true })
    }

    fn function_of_two(&mut self, function: Function, a: &Term, b: &Term) -> Term {
        let is_real = a.kind == Kind::Real || b.kind == Kind::Real;
        let (name, kind) = match (function, is_real) {
            (Function::Min, false) => ("least", Kind::Int),
            (Function::Min, true) => ("least_real", Kind::Real),
            (Function::Max, false) => ("greatest", Kind::Int),
            (Function::Max, true) => ("greatest_real", Kind::Real),
            (_, false) => ("ceil_div", Kind::Int),
            (_, true) => ("ceil_div_real", Kind::Int),
        };
        let arguments = if is_real { [self.real(a), self.real(b)] } else { [self.int(a), self.int(b)] };
        let fails = !matches!(function, Function::Min | Function::Max);
        Term { text: self.call(name, &arguments, fails), kind, is_atom: true }
    }

    fn arithmetic(&mut self, operator: Arithmetic, a: &Term, b: &Term) -> Term {
        use Arithmetic::{Add, BitAnd, BitOr, BitXor, Multiply, ShiftLeft, ShiftRight, Subtract};
        let bits = matches!(operator, BitAnd | BitOr | BitXor | ShiftLeft | ShiftRight);
        if bits || a.kind != Kind::Real && b.kind != Kind::Real {
            let (a, b) = (self.as_int(a), self.as_int(b));
            let zero = Term { text: "0".to_owned(), kind: Kind::Int, is_atom: true };
            let name = match operator {
                Arithmetic::Divide => {
                    let arguments = [self.real(&a), self.real(&b)];
                    return Term { text: self.call("divide", &arguments, true), kind: Kind::Real, is_atom: true };
                }
                // With a constant exponent of 0 or more, the result is an integer.
                Arithmetic::Power if !b.is_atom || b.text.starts_with(['-', '(']) => {
                    let arguments = [self.real(&a), self.real(&b)];
                    return Term { text: self.call("power_real", &arguments, true), kind: Kind::Real, is_atom: true };
                }
                Arithmetic::Power => "power",
                Arithmetic::FloorDivide => "floor_div",
                Arithmetic::Remainder => "remainder",
                ShiftLeft => "shift_left",
                ShiftRight => "shift_right",
                Multiply if a.text == "0" || b.text == "0" => return zero,
                Multiply if a.text == "1" => return b,
                Multiply if b.text == "1" => return a,
                Add | BitOr if a.text == "0" => return b,
                Add | Subtract | BitOr if b.text == "0" => return a,
                Add | Subtract | Multiply | BitAnd | BitOr | BitXor => {
                    return Term { text: self.dialect.checked(operator, &a, &b), kind: Kind::Int, is_atom: false };
                }
            };
            let text = self.call(name, &[a.text, b.text], true);
            return Term { text, kind: Kind::Int, is_atom: true };
        }
        let sign = match operator {
            Add => "+",
            Subtract => "-",
            Multiply => "*",
            _ => "",
        };
        if !sign.is_empty() {
            let text = format!("{} {sign} {}", self.operand(a), self.operand(b));
            return Term { text, kind: Kind::Real, is_atom: false };
        }
        let (a, b) = (self.real(a), self.real(b));
        let name = match operator {
            Arithmetic::FloorDivide => "floor_div_real",
            Arithmetic::Remainder => "remainder_real",
            Arithmetic::Power => "power_real",
            _ => "divide",
        };
        Term { text: self.call(name, &[a, b], true), kind: Kind::Real, is_atom: true }
    }
}

/// A term that may stand beside an operator or before a method.
pub(super) fn bracketed(term: &Term) -> String {
    if term.is_atom { term.text.clone() } else { format!("({})", term.text) }
}

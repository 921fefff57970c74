//! Terms in Python.

use crate::export::arithmetic::{Dialect, Term, bracketed};
use crate::export::names;
use crate::expr::graph::Arithmetic;

/// Python: integers have no largest value, so that their range is checked when they are passed; an expression without a
/// value raises.
pub(super) struct Python;

impl Dialect for Python {
    fn keywords(&self) -> &'static [&'static str] {
        names::PYTHON
    }

    fn size(&self, field: &str) -> String {
        format!("dims.{field}")
    }

    fn int(&self, value: i64) -> String {
        value.to_string()
    }

    fn call(&self, function: &'static str, arguments: &[String], _fails: bool) -> String {
        let operator = |operator: &str| format!("(({}) {operator} ({}))", arguments[0], arguments[1]);
        let of = |function: &str| format!("{function}({})", arguments.join(", "));
        match function {
            "floor_div" => operator("//"),
            "remainder" | "remainder_real" => operator("%"),
            "divide" => operator("/"),
            "same" => operator("=="),
            "shift_right" => operator(">>"),
            "floor_div_real" => format!("float({})", operator("//")),
            "least" | "least_real" => of("min"),
            "greatest" | "greatest_real" => of("max"),
            "absolute" | "magnitude" => of("abs"),
            "square_root" => of("math.sqrt"),
            "log2" => of("math.log2"),
            _ => of(function),
        }
    }

    fn checked(&self, operator: Arithmetic, left: &Term, right: &Term) -> String {
        let sign = match operator {
            Arithmetic::Add => '+',
            Arithmetic::Subtract => '-',
            Arithmetic::Multiply => '*',
            Arithmetic::BitAnd => '&',
            Arithmetic::BitOr => '|',
            _ => '^',
        };
        format!("{} {sign} {}", bracketed(left), bracketed(right))
    }

    fn select(&self, condition: &str, a: &str, b: &str) -> String {
        format!("({a}) if ({condition}) else ({b})")
    }

    fn logic(&self) -> [&'static str; 3] {
        ["and", "or", "not "]
    }

    fn bool_as_int(&self, term: &str) -> String {
        format!("int({term})")
    }

    fn int_as_real(&self, term: &Term) -> String {
        if term.text.bytes().all(|c| c.is_ascii_digit() || c == b'-') {
            format!("{}.0", term.text)
        } else {
            format!("float({})", term.text)
        }
    }
}

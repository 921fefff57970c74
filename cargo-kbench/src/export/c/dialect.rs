//! Terms in C.

use crate::export::arithmetic::{Dialect, Term, bracketed};
use crate::export::names;
use crate::expr::graph::Arithmetic;

/// C, and C++: integers are `int64_t`; a term without a value sets `bad`, a variable of the function.
pub(super) struct C;

impl Dialect for C {
    fn keywords(&self) -> &'static [&'static str] {
        names::C
    }

    fn size(&self, field: &str) -> String {
        format!("dims.{field}")
    }

    fn int(&self, value: i64) -> String {
        if value == i64::MIN { "INT64_MIN".to_owned() } else { value.to_string() }
    }

    fn call(&self, function: &'static str, arguments: &[String], fails: bool) -> String {
        format!("kbench_{function}({}{})", arguments.join(", "), if fails { ", &bad" } else { "" })
    }

    fn checked(&self, operator: Arithmetic, left: &Term, right: &Term) -> String {
        let sign = match operator {
            Arithmetic::Add => return self.call("add", &[left.text.clone(), right.text.clone()], true),
            Arithmetic::Subtract => return self.call("sub", &[left.text.clone(), right.text.clone()], true),
            Arithmetic::Multiply => return self.call("mul", &[left.text.clone(), right.text.clone()], true),
            Arithmetic::BitAnd => '&',
            Arithmetic::BitOr => '|',
            _ => '^',
        };
        format!("{} {sign} {}", bracketed(left), bracketed(right))
    }

    fn select(&self, condition: &str, a: &str, b: &str) -> String {
        format!("({condition}) ? ({a}) : ({b})")
    }

    fn logic(&self) -> [&'static str; 3] {
        ["&&", "||", "!"]
    }

    fn bool_as_int(&self, term: &str) -> String {
        format!("(({term}) ? 1 : 0)")
    }

    fn int_as_real(&self, term: &Term) -> String {
        if term.text.bytes().all(|c| c.is_ascii_digit() || c == b'-') {
            format!("{}.0", term.text)
        } else {
            format!("(double){}", bracketed(term))
        }
    }
}

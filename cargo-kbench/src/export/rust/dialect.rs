//! Terms in Rust, and the functions that they call.

use super::shared;
use crate::export::arithmetic::{Dialect, Kind, Term, bracketed};
use crate::export::names;
use crate::expr::graph::Arithmetic;

/// Rust: integers are `i64`, and `?` leaves a function of `Option`.
pub(super) struct Rust;

impl Dialect for Rust {
    fn keywords(&self) -> &'static [&'static str] {
        names::RUST
    }

    fn size(&self, field: &str) -> String {
        field.to_owned()
    }

    fn int(&self, value: i64) -> String {
        literal(&value.to_string())
    }

    fn float(&self, value: f64) -> String {
        literal(&format!("{value:?}"))
    }

    fn call(&self, function: &'static str, arguments: &[String], fails: bool) -> String {
        format!("{function}({}){}", arguments.join(", "), if fails { "?" } else { "" })
    }

    fn checked(&self, operator: Arithmetic, left: &Term, right: &Term) -> String {
        let method = match operator {
            Arithmetic::Add => "checked_add",
            Arithmetic::Subtract => "checked_sub",
            Arithmetic::Multiply => "checked_mul",
            Arithmetic::BitAnd => return format!("{} & {}", bracketed(left), bracketed(right)),
            Arithmetic::BitOr => return format!("{} | {}", bracketed(left), bracketed(right)),
            _ => return format!("{} ^ {}", bracketed(left), bracketed(right)),
        };
        let is_literal = |term: &Term| term.text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        // `m.checked_mul(4)` rather than `4_i64.checked_mul(m)`.
        let (left, right) =
            if is_literal(left) && operator != Arithmetic::Subtract { (right, left) } else { (left, right) };
        let receiver = if is_literal(left) { format!("({}_i64)", left.text) } else { receiver(left) };
        format!("{receiver}.{method}({})?", right.text)
    }

    fn select(&self, condition: &str, a: &str, b: &str) -> String {
        // Two literals alone do not say their type to a method.
        let suffix = if is_int(a) && is_int(b) { "_i64" } else { "" };
        let other = if b.starts_with("if ") { b.to_owned() } else { format!("{{ {b} }}") };
        format!("if {condition} {{ {a}{suffix} }} else {other}")
    }

    fn logic(&self) -> [&'static str; 3] {
        ["&&", "||", "!"]
    }

    fn bool_as_int(&self, term: &str) -> String {
        format!("i64::from({term})")
    }

    fn int_as_real(&self, term: &Term) -> String {
        if term.kind == Kind::Int && is_int(&term.text) {
            format!("{}.0", term.text)
        } else {
            format!("real({})", term.text)
        }
    }
}

/// Whether the text is an integer without a type.
pub(super) fn is_int(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit() || c == b'_')
}

/// Whether a method call on the term needs no parentheses: names, calls and chains of methods.
fn receiver(term: &Term) -> String {
    let is_chain = !term.text.contains([' ', '!']) || term.text.ends_with(")?") && !term.text.starts_with("if ");
    if is_chain { term.text.clone() } else { bracketed(term) }
}

/// A number with grouped digits, as clippy requires for long ones.
pub(super) fn literal(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    if digits.contains('e') {
        return number.to_owned();
    }
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    // Groups of three on both sides of the point.
    let grouped = |digits: &str, begin: usize| {
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (at + begin).is_multiple_of(3) && digits.len() > 4 {
                grouped.push('_');
            }
            grouped.push(digit);
        }
        grouped
    };
    let whole = grouped(whole, 3 - whole.len() % 3);
    let fraction = fraction.map_or_else(String::new, |fraction| format!(".{}", grouped(fraction, 0)));
    format!("{sign}{whole}{fraction}")
}

/// The definition of a function that terms call.
pub(super) fn definition(function: &str) -> &'static str {
    let start = format!("\nfn {function}(");
    let blocks = shared::FUNCTIONS.split("\n\n");
    blocks.into_iter().find(|block| block.contains(&start)).expect("a function of functions.rs").trim_end()
}

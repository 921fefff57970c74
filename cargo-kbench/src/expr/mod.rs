//! Expressions of the table: arithmetic, bit operations, comparisons, `in`, `and` `or` `not`, conditionals and functions.
//!
//! Precedence, from the weakest to the tightest, is Python's: `a if c else b`; `or`; `and`; `not`; comparisons and `in`; `|`; `^`;
//! `&`; `<<` `>>`; `+` `-`; `*` `/` `//` `%`; a sign or `!`; `**`. The rules, where C and Python differ, are Python's too, since
//! that is what existing search spaces are written in:
//!
//! - `a & b == c` is `(a & b) == c`; in C it is `a & (b == c)`.
//! - `/` of two integers is an integer where it is exact and a float where it is not (`7 / 2` is 3.5), so that no
//!   remainder is lost; `//` rounds down, `ceil_div(a, b)` rounds up. `%` has the sign of its divisor.
//! - `-2 ** 2` is -4, and `2 ** 3 ** 2` is `2 ** 9`. A negative exponent gives a float.
//! - Comparisons chain: `32 <= X * Y <= 1024`. `x in [1, 2]` and `x not in (1, 2)` do not.
//! - `not` binds more weakly than comparisons, `!` more tightly than arithmetic, as in the language each is from.
//! - `and` and `or` are true or false, and do not evaluate their right side where the left decides; a conditional evaluates
//!   the value that it selects and not the other.
//! - Bit operations are on integers in two's complement; `>>` keeps the sign, and a count beyond the last bit is valid.
//! - `log2` of a power of two is an integer.
//! - Integers are `i64` and checked: a `<<` or `**` whose result does not fit is an overflow. A float that would be infinite is
//!   an overflow too; there is no NaN.

use std::fmt;
use std::ops::Range;

use machine::Bytecode;
use operand::{Number, Operand};

pub use template::{Brackets, Template};

mod arithmetic;
pub(crate) mod graph;
mod machine;
mod operand;
pub(crate) mod parse;
mod template;

/// A value of an expression or a toggle.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`; 1 and 0 in arithmetic.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float, never NaN.
    Float(f64),
    /// A string; only equality is defined on it.
    Str(String),
}

impl Value {
    /// The value as an integer: integers, booleans (1 and 0) and floats without a fraction.
    pub fn as_integer(&self) -> Option<i64> {
        // Above 2^53 several integers share a float, so that the integer is not determined.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match *self {
            Value::Bool(bool) => Some(i64::from(bool)),
            Value::Int(int) => Some(int),
            Value::Float(float) if float.fract() == 0.0 && float.abs() <= EXACT => Some(float as i64),
            Value::Float(_) | Value::Str(_) => None,
        }
    }

    /// The value as a float; none for a string.
    pub fn as_float(&self) -> Option<f64> {
        Operand::borrow(self).number().map(Number::float)
    }

    /// Whether the value counts as true: `true` and numbers other than 0. None for a string.
    pub fn truth(&self) -> Option<bool> {
        Operand::borrow(self).truth()
    }
}

/// Writes the value as users do; strings without quotes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(bool) => f.pad(if *bool { "true" } else { "false" }),
            Value::Int(int) => f.pad(&int.to_string()),
            // `{:?}` keeps the point of 8.0, so that the text is read as a float again.
            Value::Float(float) => f.pad(&format!("{float:?}")),
            Value::Str(text) => f.pad(text),
        }
    }
}

/// Reason why an expression has no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// An integer left the range of `i64`.
    #[error("overflow in `{0}`")]
    Overflow(String),
    /// Division or remainder by zero.
    #[error("division by zero in `{0}`")]
    DivisionByZero(String),
    /// A name that has no value here.
    #[error("unknown name `{0}`")]
    UnknownName(String),
    /// A string in arithmetic, the square root of a negative number, and so on.
    #[error("{0}")]
    Type(String),
}

/// Reason why a text is not an expression, with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Description of the error.
    pub message: String,
    /// Byte range of the error; empty at the end of the text.
    pub range: Range<usize>,
}

/// A parsed expression with its source text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    text: String,
    program: Bytecode,
}

impl Expr {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Self { text: text.to_owned(), program: parse::parse(text)? })
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same expression with values in place of some names; the text stays the same.
    #[must_use]
    pub fn bound(&self, value: &dyn Fn(&str) -> Option<Value>) -> Self {
        Self { program: self.program.bound(value), ..self.clone() }
    }

    /// The names in the expression, each once, in order of first use.
    pub fn names(&self) -> Vec<&str> {
        self.program.names.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The names in the expression, with the range of each name's first use.
    pub fn names_at(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.program.names.iter().map(|(name, range)| (name.as_str(), range.clone()))
    }

    /// The value; `lookup` gives the values of names.
    pub fn eval(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Value, EvalError> {
        self.eval_at(lookup).map_err(|(error, _)| error)
    }

    /// Evaluates as [`eval`](Self::eval); an error has the byte range of the faulty part.
    pub fn eval_at(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Value, (EvalError, Range<usize>)> {
        let values: Vec<Option<Value>> = self.program.names.iter().map(|(name, _)| lookup(name)).collect();
        self.program.run(&self.text, &|name| values[name].as_ref()).map(Operand::into_value)
    }

    /// Whether the expression is true; `value` gives the value of a name by the name's index in [`names`](Self::names).
    /// Faster than `eval` for a constraint that is evaluated many times: it allocates nothing and compares no names.
    pub fn is_true<'v>(&'v self, value: &dyn Fn(usize) -> Option<&'v Value>) -> Result<bool, EvalError> {
        let result = self.program.run(&self.text, value).map_err(|(error, _)| error)?;
        result.truth().ok_or_else(|| EvalError::Type(format!("`{}` is a string, neither true nor false", self.text)))
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;

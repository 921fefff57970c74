//! Expressions of the table: integer and float arithmetic, comparisons, `and` `or` `not`, `ceil_div` `min` `max` `sqrt`.

/// A value of an expression or a toggle.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true`, `false`; counts as 1 and 0 in arithmetic.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float, never NaN.
    Float(f64),
    /// A string; only equality is defined on it.
    Str(String),
}

/// Why an expression has no value.
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
    /// A string in arithmetic, the square root of a negative number, …
    #[error("{0}")]
    Type(String),
}

/// A parsed expression with its source text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    text: String,
}

impl Expr {
    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names it uses, each once, in order of first use.
    pub fn names(&self) -> Vec<&str> {
        todo!()
    }

    /// Its value where `lookup` gives names theirs.
    pub fn eval(&self, _lookup: &dyn Fn(&str) -> Option<Value>) -> Result<Value, EvalError> {
        todo!()
    }
}

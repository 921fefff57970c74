//! Values on the stack of the machine, and reasons why an operation on them has no result.

use super::Value;

/// A value on the stack, which borrows strings and is cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operand<'v> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'v str),
}

impl<'v> Operand<'v> {
    pub(super) fn borrow(value: &'v Value) -> Self {
        match value {
            Value::Bool(bool) => Operand::Bool(*bool),
            Value::Int(int) => Operand::Int(*int),
            Value::Float(float) => Operand::Float(*float),
            Value::Str(text) => Operand::Str(text),
        }
    }

    pub(super) fn into_value(self) -> Value {
        match self {
            Operand::Bool(bool) => Value::Bool(bool),
            Operand::Int(int) => Value::Int(int),
            Operand::Float(float) => Value::Float(float),
            Operand::Str(text) => Value::Str(text.to_owned()),
        }
    }

    pub(super) fn truth(self) -> Option<bool> {
        match self {
            Operand::Bool(bool) => Some(bool),
            Operand::Int(int) => Some(int != 0),
            Operand::Float(float) => Some(float != 0.0),
            Operand::Str(_) => None,
        }
    }

    pub(super) fn number(self) -> Option<Number> {
        match self {
            Operand::Bool(bool) => Some(Number::Int(i64::from(bool))),
            Operand::Int(int) => Some(Number::Int(int)),
            Operand::Float(float) => Some(Number::Float(float)),
            Operand::Str(_) => None,
        }
    }
}

/// Reason why an instruction has no result; becomes an [`EvalError`] with the text of the instruction.
pub(super) enum Trouble {
    Overflow,
    DivisionByZero,
    StringInArithmetic,
    StringAsCondition,
    StringAgainstNumber,
    StringOrder,
    NegativeRoot,
    LogarithmOfNotPositive,
    NotReal,
    NotAnInteger,
    NegativeShift,
}

impl From<Number> for Operand<'_> {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(int) => Operand::Int(int),
            Number::Float(float) => Operand::Float(float),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(super) fn float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }
}

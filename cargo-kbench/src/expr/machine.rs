//! The compiled form of an expression: a flat program for a stack machine. A flat program is fast, since constraints
//! are evaluated millions of times while a space is enumerated, and its evaluation does not recurse on the user's text.

use std::ops::Range;

use super::arithmetic::{self, Arithmetic, Comparison, Function, call, compare, negate};
use super::operand::{Operand, Trouble};
use super::{EvalError, Value};

/// One instruction. Jump targets are absolute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
    /// Push the value of a name, an index into [`Bytecode::names`].
    Name(usize),
    Negate,
    /// Check that the operand of a unary `+` is a number.
    Plus,
    Not,
    Arithmetic(Arithmetic),
    Compare(Comparison),
    /// A comparison that is followed by another: keeps its right operand, or leaves `false` and jumps.
    Chain(Comparison, usize),
    /// `and`: leaves `false` and jumps, or drops its left side.
    JumpIfFalse(usize),
    /// `or`: leaves `true` and jumps, or drops its left side.
    JumpIfTrue(usize),
    /// Converts the right side of `and` and `or` to a boolean.
    Truth,
    /// A call with this many arguments.
    Call(Function, usize),
    /// `in`: whether the operand below a list of this length is equal to one of its elements.
    Member(usize),
    /// The condition of a conditional: drops it, and jumps to the alternative if it is false.
    Branch(usize),
    /// The end of a conditional's first value: jumps over the alternative.
    Jump(usize),
}

fn push<'v>(stack: &mut [Operand<'v>], top: &mut usize, operand: Operand<'v>) {
    stack[*top] = operand;
    *top += 1;
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Bytecode {
    pub(super) ops: Vec<Op>,
    /// Text range of each instruction.
    pub(super) ranges: Vec<Range<usize>>,
    /// The names, with the range of their first use.
    pub(super) names: Vec<(String, Range<usize>)>,
}

/// Stack slots without an allocation; more than typical expressions need.
const INLINE_STACK: usize = 16;

impl Bytecode {
    /// The same program with numbers in place of some names.
    pub(super) fn bound(&self, value: &dyn Fn(&str) -> Option<Value>) -> Self {
        let mut names = Vec::new();
        let places: Vec<Result<Op, usize>> = self
            .names
            .iter()
            .map(|named| match value(&named.0) {
                Some(Value::Int(int)) => Ok(Op::Int(int)),
                Some(Value::Float(float)) => Ok(Op::Float(float)),
                Some(Value::Bool(bool)) => Ok(Op::Bool(bool)),
                Some(Value::Str(text)) => Ok(Op::Str(text)),
                None => {
                    names.push(named.clone());
                    Err(names.len() - 1)
                }
            })
            .collect();
        let op = |op: &Op| match op {
            Op::Name(index) => places[*index].clone().unwrap_or_else(Op::Name),
            other => other.clone(),
        };
        Self { ops: self.ops.iter().map(op).collect(), ranges: self.ranges.clone(), names }
    }

    /// Evaluates the program; `value` gives the value of a name by its index.
    pub(super) fn run<'v>(
        &'v self,
        text: &str,
        value: &dyn Fn(usize) -> Option<&'v Value>,
    ) -> Result<Operand<'v>, (EvalError, Range<usize>)> {
        // Each instruction pushes at most one operand.
        let result = if self.ops.len() <= INLINE_STACK {
            self.run_on(&mut [Operand::Bool(false); INLINE_STACK], value)
        } else {
            self.run_on(&mut vec![Operand::Bool(false); self.ops.len()], value)
        };
        result.map_err(|(at, trouble)| (self.error(text, at, trouble.as_ref()), self.ranges[at].clone()))
    }

    fn run_on<'v>(
        &'v self,
        stack: &mut [Operand<'v>],
        value: &dyn Fn(usize) -> Option<&'v Value>,
    ) -> Result<Operand<'v>, (usize, Option<Trouble>)> {
        let (mut top, mut at) = (0, 0);
        while let Some(op) = self.ops.get(at) {
            let fail = |trouble| (at, Some(trouble));
            let mut next = at + 1;
            match op {
                Op::Int(int) => push(stack, &mut top, Operand::Int(*int)),
                Op::Float(float) => push(stack, &mut top, Operand::Float(*float)),
                Op::Bool(bool) => push(stack, &mut top, Operand::Bool(*bool)),
                Op::Str(text) => push(stack, &mut top, Operand::Str(text)),
                Op::Name(name) => push(stack, &mut top, Operand::borrow(value(*name).ok_or((at, None))?)),
                Op::Negate => stack[top - 1] = negate(stack[top - 1]).map_err(fail)?,
                Op::Plus => {
                    stack[top - 1] = stack[top - 1].number().ok_or(Trouble::StringInArithmetic).map_err(fail)?.into();
                }
                Op::Not => stack[top - 1] = Operand::Bool(!condition(stack[top - 1]).map_err(fail)?),
                Op::Truth => stack[top - 1] = Operand::Bool(condition(stack[top - 1]).map_err(fail)?),
                Op::Arithmetic(operator) => {
                    top -= 1;
                    stack[top - 1] = arithmetic::apply(*operator, stack[top - 1], stack[top]).map_err(fail)?;
                }
                Op::Compare(operator) => {
                    top -= 1;
                    stack[top - 1] = Operand::Bool(compare(*operator, stack[top - 1], stack[top]).map_err(fail)?);
                }
                Op::Chain(operator, end) => {
                    top -= 1;
                    if compare(*operator, stack[top - 1], stack[top]).map_err(fail)? {
                        stack[top - 1] = stack[top];
                    } else {
                        stack[top - 1] = Operand::Bool(false);
                        next = *end;
                    }
                }
                Op::JumpIfFalse(end) | Op::JumpIfTrue(end) => {
                    let decided = matches!(op, Op::JumpIfTrue(_));
                    if condition(stack[top - 1]).map_err(fail)? == decided {
                        stack[top - 1] = Operand::Bool(decided);
                        next = *end;
                    } else {
                        top -= 1;
                    }
                }
                Op::Member(count) => {
                    top -= count;
                    let mut found = false;
                    for element in &stack[top..top + count] {
                        found |= compare(Comparison::Equal, stack[top - 1], *element).map_err(fail)?;
                    }
                    stack[top - 1] = Operand::Bool(found);
                }
                Op::Branch(alternative) => {
                    top -= 1;
                    if !condition(stack[top]).map_err(fail)? {
                        next = *alternative;
                    }
                }
                Op::Jump(end) => next = *end,
                Op::Call(function, count) => {
                    top -= count - 1;
                    stack[top - 1] = call(*function, &stack[top - 1..top - 1 + count]).map_err(fail)?;
                }
            }
            at = next;
        }
        Ok(stack[0])
    }

    /// The error at an instruction; `trouble` is `None` for a name without a value.
    fn error(&self, text: &str, at: usize, trouble: Option<&Trouble>) -> EvalError {
        let part = &text[self.ranges[at].clone()];
        match trouble {
            None => EvalError::UnknownName(part.to_owned()),
            Some(Trouble::Overflow) => EvalError::Overflow(part.to_owned()),
            Some(Trouble::DivisionByZero) => EvalError::DivisionByZero(part.to_owned()),
            Some(Trouble::StringInArithmetic) => EvalError::Type(format!("a string in arithmetic: `{part}`")),
            Some(Trouble::StringAsCondition) => {
                EvalError::Type(format!("a string is neither true nor false: `{part}`"))
            }
            Some(Trouble::StringAgainstNumber) => EvalError::Type(format!("a string against a number: `{part}`")),
            Some(Trouble::StringOrder) => EvalError::Type(format!("strings have no order: `{part}`")),
            Some(Trouble::NegativeRoot) => EvalError::Type(format!("square root of a negative number: `{part}`")),
            Some(Trouble::LogarithmOfNotPositive) => {
                EvalError::Type(format!("logarithm of a number that is not positive: `{part}`"))
            }
            Some(Trouble::NotReal) => EvalError::Type(format!("a power that is no real number: `{part}`")),
            Some(Trouble::NotAnInteger) => EvalError::Type(format!("a float where an integer is needed: `{part}`")),
            Some(Trouble::NegativeShift) => EvalError::Type(format!("a shift by a negative number: `{part}`")),
        }
    }
}

fn condition(operand: Operand<'_>) -> Result<bool, Trouble> {
    operand.truth().ok_or(Trouble::StringAsCondition)
}

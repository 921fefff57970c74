//! The compiled form of an expression: a flat program for a stack machine. Flat, because constraints are evaluated
//! millions of times while a space is enumerated, and because nothing then recurses on what a user wrote.

use std::cmp::Ordering;
use std::ops::Range;

use super::{EvalError, Value};

/// One instruction. Jumps are absolute.
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
    /// A comparison that is followed by another: keeps its right side, or leaves `false` and jumps.
    Chain(Comparison, usize),
    /// `and`: leaves `false` and jumps, or drops its left side.
    JumpIfFalse(usize),
    /// `or`: leaves `true` and jumps, or drops its left side.
    JumpIfTrue(usize),
    /// The right side of `and` and `or`, as a boolean.
    Truth,
    /// A call with this many arguments.
    Call(Function, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    CeilDiv,
    Min,
    Max,
    Sqrt,
}

/// A value on the stack; borrows strings, so that it is free to copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operand<'v> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'v str),
}

impl<'v> Operand<'v> {
    fn borrow(value: &'v Value) -> Self {
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

    fn number(self) -> Option<Number> {
        match self {
            Operand::Bool(bool) => Some(Number::Int(i64::from(bool))),
            Operand::Int(int) => Some(Number::Int(int)),
            Operand::Float(float) => Some(Number::Float(float)),
            Operand::Str(_) => None,
        }
    }
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
enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }
}

/// Why an instruction has no result; becomes an [`EvalError`] with the text it was compiled from.
pub(super) enum Trouble {
    Overflow,
    DivisionByZero,
    StringInArithmetic,
    StringAsCondition,
    StringAgainstNumber,
    StringOrder,
    NegativeRoot,
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Bytecode {
    pub(super) ops: Vec<Op>,
    /// For each instruction, the text that it is the end of.
    pub(super) ranges: Vec<Range<usize>>,
    /// The names used, with their first use.
    pub(super) names: Vec<(String, Range<usize>)>,
}

/// Stack slots that need no allocation; more than any expression that people write.
const INLINE_STACK: usize = 16;

impl Bytecode {
    /// The value, where `value` knows that of a name by its index.
    pub(super) fn run<'v>(
        &'v self,
        text: &str,
        value: &dyn Fn(usize) -> Option<&'v Value>,
    ) -> Result<Operand<'v>, (EvalError, Range<usize>)> {
        // Each instruction pushes one operand at most.
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
                Op::Int(_) | Op::Float(_) | Op::Bool(_) | Op::Str(_) | Op::Name(_) => {
                    stack[top] = match op {
                        Op::Int(int) => Operand::Int(*int),
                        Op::Float(float) => Operand::Float(*float),
                        Op::Bool(bool) => Operand::Bool(*bool),
                        Op::Str(text) => Operand::Str(text),
                        Op::Name(name) => Operand::borrow(value(*name).ok_or((at, None))?),
                        _ => unreachable!("an operand"),
                    };
                    top += 1;
                }
                Op::Negate => stack[top - 1] = negate(stack[top - 1]).map_err(fail)?,
                Op::Plus => {
                    stack[top - 1] = stack[top - 1].number().ok_or(Trouble::StringInArithmetic).map_err(fail)?.into();
                }
                Op::Not => stack[top - 1] = Operand::Bool(!condition(stack[top - 1]).map_err(fail)?),
                Op::Truth => stack[top - 1] = Operand::Bool(condition(stack[top - 1]).map_err(fail)?),
                Op::Arithmetic(operator) => {
                    top -= 1;
                    stack[top - 1] = arithmetic(*operator, stack[top - 1], stack[top]).map_err(fail)?;
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
                Op::Call(function, count) => {
                    top -= count - 1;
                    stack[top - 1] = call(*function, &stack[top - 1..top - 1 + count]).map_err(fail)?;
                }
            }
            at = next;
        }
        Ok(stack[0])
    }

    /// `None` for a name without a value.
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
        }
    }
}

fn condition(operand: Operand<'_>) -> Result<bool, Trouble> {
    operand.truth().ok_or(Trouble::StringAsCondition)
}

fn finite<'v>(float: f64) -> Result<Operand<'v>, Trouble> {
    if float.is_finite() { Ok(Operand::Float(float)) } else { Err(Trouble::Overflow) }
}

pub(super) fn negate(operand: Operand<'_>) -> Result<Operand<'_>, Trouble> {
    match operand.number().ok_or(Trouble::StringInArithmetic)? {
        Number::Int(int) => int.checked_neg().map(Operand::Int).ok_or(Trouble::Overflow),
        Number::Float(float) => Ok(Operand::Float(-float)),
    }
}

pub(super) fn arithmetic<'v>(
    operator: Arithmetic,
    left: Operand<'v>,
    right: Operand<'v>,
) -> Result<Operand<'v>, Trouble> {
    let left = left.number().ok_or(Trouble::StringInArithmetic)?;
    let right = right.number().ok_or(Trouble::StringInArithmetic)?;
    let divides = matches!(operator, Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Remainder);
    if divides && right.float() == 0.0 {
        return Err(Trouble::DivisionByZero);
    }
    if let (Number::Int(left), Number::Int(right)) = (left, right) {
        return integers(operator, left, right);
    }
    let (left, right) = (left.float(), right.float());
    finite(match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::FloorDivide => (left / right).floor(),
        Arithmetic::Remainder => {
            let remainder = left % right;
            if remainder != 0.0 && (remainder < 0.0) != (right < 0.0) { remainder + right } else { remainder }
        }
    })
}

fn integers<'v>(operator: Arithmetic, left: i64, right: i64) -> Result<Operand<'v>, Trouble> {
    let result = match operator {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => match left.checked_rem(right) {
            Some(0) => left.checked_div(right),
            Some(_) => return finite(left as f64 / right as f64),
            None => None,
        },
        Arithmetic::FloorDivide => floor_div(left, right),
        // -1 divides everything, but i64::MIN % -1 overflows in hardware.
        Arithmetic::Remainder if right == -1 => Some(0),
        Arithmetic::Remainder => {
            let remainder = left % right;
            Some(if remainder != 0 && (remainder < 0) != (right < 0) { remainder + right } else { remainder })
        }
    };
    result.map(Operand::Int).ok_or(Trouble::Overflow)
}

fn floor_div(left: i64, right: i64) -> Option<i64> {
    let quotient = left.checked_div(right)?;
    let inexact = quotient * right != left;
    Some(if inexact && (left < 0) != (right < 0) { quotient - 1 } else { quotient })
}

fn order(left: Number, right: Number) -> Ordering {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => left.cmp(&right),
        // Neither is ever NaN.
        _ => left.float().partial_cmp(&right.float()).unwrap_or(Ordering::Equal),
    }
}

pub(super) fn compare(operator: Comparison, left: Operand<'_>, right: Operand<'_>) -> Result<bool, Trouble> {
    let order = match (left, right) {
        (Operand::Str(left), Operand::Str(right)) => match operator {
            Comparison::Equal | Comparison::NotEqual => left.cmp(right),
            _ => return Err(Trouble::StringOrder),
        },
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => order(left, right),
            _ => return Err(Trouble::StringAgainstNumber),
        },
    };
    Ok(ordered(operator, order))
}

pub(super) fn ordered(operator: Comparison, order: Ordering) -> bool {
    match operator {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterEqual => order.is_ge(),
    }
}

pub(super) fn call<'v>(function: Function, arguments: &[Operand<'v>]) -> Result<Operand<'v>, Trouble> {
    let number = |index: usize| arguments[index].number().ok_or(Trouble::StringInArithmetic);
    match function {
        Function::CeilDiv => ceil_div(number(0)?, number(1)?),
        Function::Sqrt => {
            let value = number(0)?.float();
            if value < 0.0 { Err(Trouble::NegativeRoot) } else { finite(value.sqrt()) }
        }
        Function::Min | Function::Max => {
            let wanted = if function == Function::Min { Ordering::Less } else { Ordering::Greater };
            let mut best = number(0)?;
            for index in 1..arguments.len() {
                let candidate = number(index)?;
                if order(candidate, best) == wanted {
                    best = candidate;
                }
            }
            Ok(best.into())
        }
    }
}

fn ceil_div<'v>(left: Number, right: Number) -> Result<Operand<'v>, Trouble> {
    if right.float() == 0.0 {
        return Err(Trouble::DivisionByZero);
    }
    if let (Number::Int(left), Number::Int(right)) = (left, right) {
        let quotient = left.checked_div(right).ok_or(Trouble::Overflow)?;
        let up = quotient * right != left && (left < 0) == (right < 0);
        return Ok(Operand::Int(if up { quotient + 1 } else { quotient }));
    }
    let quotient = (left.float() / right.float()).ceil();
    // The bounds of i64 as floats: the upper one is the first that does not fit.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&quotient) {
        Ok(Operand::Int(quotient as i64))
    } else {
        Err(Trouble::Overflow)
    }
}

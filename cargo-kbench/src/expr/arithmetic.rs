//! The rules of arithmetic, comparisons and functions, shared by the machine and the solver of spaces.

use std::cmp::Ordering;

use super::operand::{Number, Operand, Trouble};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
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
    Abs,
    Log2,
    IsPowerOfTwo,
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

pub(super) fn apply<'v>(operator: Arithmetic, left: Operand<'v>, right: Operand<'v>) -> Result<Operand<'v>, Trouble> {
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
        Arithmetic::Power => return power(left, right),
        Arithmetic::BitAnd
        | Arithmetic::BitOr
        | Arithmetic::BitXor
        | Arithmetic::ShiftLeft
        | Arithmetic::ShiftRight => return Err(Trouble::NotAnInteger),
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
        // -1 divides every integer, but i64::MIN % -1 overflows in hardware.
        Arithmetic::Remainder if right == -1 => Some(0),
        Arithmetic::Remainder => {
            let remainder = left % right;
            Some(if remainder != 0 && (remainder < 0) != (right < 0) { remainder + right } else { remainder })
        }
        Arithmetic::Power if right < 0 => return power(left as f64, right as f64),
        Arithmetic::Power => integer_power(left, right),
        Arithmetic::BitAnd => Some(left & right),
        Arithmetic::BitOr => Some(left | right),
        Arithmetic::BitXor => Some(left ^ right),
        Arithmetic::ShiftLeft | Arithmetic::ShiftRight if right < 0 => return Err(Trouble::NegativeShift),
        Arithmetic::ShiftLeft if left == 0 => Some(0),
        Arithmetic::ShiftLeft => (right < 64).then(|| left << right).filter(|shifted| shifted >> right == left),
        // A shift beyond the last bit leaves copies of the sign.
        Arithmetic::ShiftRight => Some(left >> right.min(63)),
    };
    result.map(Operand::Int).ok_or(Trouble::Overflow)
}

/// The power to an exponent of 0 or more.
fn integer_power(base: i64, exponent: i64) -> Option<i64> {
    match base {
        0 | 1 => Some(if exponent == 0 { 1 } else { base }),
        -1 => Some(if exponent % 2 == 0 { 1 } else { -1 }),
        _ => base.checked_pow(u32::try_from(exponent).ok()?),
    }
}

fn power<'v>(base: f64, exponent: f64) -> Result<Operand<'v>, Trouble> {
    if base == 0.0 && exponent < 0.0 {
        return Err(Trouble::DivisionByZero);
    }
    if base < 0.0 && exponent.fract() != 0.0 {
        return Err(Trouble::NotReal);
    }
    finite(base.powf(exponent))
}

fn floor_div(left: i64, right: i64) -> Option<i64> {
    let quotient = left.checked_div(right)?;
    let inexact = quotient * right != left;
    Some(if inexact && (left < 0) != (right < 0) { quotient - 1 } else { quotient })
}

fn order(left: Number, right: Number) -> Ordering {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => left.cmp(&right),
        // Neither operand is ever NaN.
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
        Function::Abs => match number(0)? {
            Number::Int(int) => int.checked_abs().map(Operand::Int).ok_or(Trouble::Overflow),
            Number::Float(float) => Ok(Operand::Float(float.abs())),
        },
        Function::Log2 => match number(0)? {
            Number::Int(int) if is_power_of_two(int) => Ok(Operand::Int(i64::from(int.ilog2()))),
            value if value.float() > 0.0 => finite(value.float().log2()),
            _ => Err(Trouble::LogarithmOfNotPositive),
        },
        Function::IsPowerOfTwo => match number(0)? {
            Number::Int(int) => Ok(Operand::Bool(is_power_of_two(int))),
            Number::Float(_) => Err(Trouble::NotAnInteger),
        },
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

fn is_power_of_two(int: i64) -> bool {
    int.count_ones() == 1 && int > 0
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

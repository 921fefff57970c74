// Functions that translated expressions call. Each block is copied into a module that uses it.

/// An integer in floating point; exact below 2^53.
#[allow(clippy::cast_precision_loss)]
fn real(value: i64) -> f64 {
    value as f64
}

/// A number without a fraction as an integer.
#[allow(clippy::cast_possible_truncation)]
fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64)
}

/// Whether two numbers are equal.
fn same(a: f64, b: f64) -> bool {
    a.partial_cmp(&b).is_some_and(std::cmp::Ordering::is_eq)
}

/// The square root of a number that has one.
fn square_root(value: f64) -> Option<f64> {
    (value >= 0.0).then(|| value.sqrt())
}

/// The logarithm of a positive number to base 2.
fn log2(value: f64) -> Option<f64> {
    (value > 0.0).then(|| value.log2())
}

/// The absolute value.
fn magnitude(value: f64) -> f64 {
    value.abs()
}

/// The absolute value.
fn absolute(value: i64) -> Option<i64> {
    value.checked_abs()
}

/// Whether a number is a power of two.
fn is_power_of_two(value: i64) -> bool {
    value > 0 && value.count_ones() == 1
}

/// The smaller of two integers.
fn least(a: i64, b: i64) -> i64 {
    a.min(b)
}

/// The larger of two integers.
fn greatest(a: i64, b: i64) -> i64 {
    a.max(b)
}

/// The smaller of two numbers.
fn least_real(a: f64, b: f64) -> f64 {
    a.min(b)
}

/// The larger of two numbers.
fn greatest_real(a: f64, b: f64) -> f64 {
    a.max(b)
}

/// The quotient, rounded up.
fn ceil_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    let is_rounded_down = a % b != 0 && (a < 0) == (b < 0);
    Some(quotient + i64::from(is_rounded_down))
}

/// The quotient, rounded up.
#[allow(clippy::cast_possible_truncation)]
fn ceil_div_real(a: f64, b: f64) -> Option<i64> {
    let quotient = (a / b).ceil();
    (b != 0.0 && quotient.abs() < 9e15).then_some(quotient as i64)
}

/// The quotient, rounded down.
fn floor_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    let is_rounded_up = a % b != 0 && (a < 0) != (b < 0);
    Some(quotient - i64::from(is_rounded_up))
}

/// The quotient, rounded down.
fn floor_div_real(a: f64, b: f64) -> Option<f64> {
    (b != 0.0).then(|| (a / b).floor())
}

/// The remainder of a division that rounds down.
fn remainder(a: i64, b: i64) -> Option<i64> {
    // -1 divides everything, but the smallest integer over it overflows.
    let rest = if b == -1 { 0 } else { a.checked_rem(b)? };
    Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
}

/// The remainder of a division that rounds down.
fn remainder_real(a: f64, b: f64) -> Option<f64> {
    let rest = a % b;
    (b != 0.0).then_some(if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest })
}

/// The quotient with its fraction.
fn divide(a: f64, b: f64) -> Option<f64> {
    (b != 0.0).then(|| a / b)
}

/// The power to an exponent of 0 or more.
fn power(base: i64, exponent: i64) -> Option<i64> {
    base.checked_pow(u32::try_from(exponent).ok()?)
}

/// The power, where it is a finite number.
fn power_real(base: f64, exponent: f64) -> Option<f64> {
    Some(base.powf(exponent)).filter(|power| power.is_finite())
}

/// The bits shifted left, where none is lost.
fn shift_left(value: i64, bits: i64) -> Option<i64> {
    let shifted = if value == 0 { Some(0) } else { (0..64).contains(&bits).then(|| value << bits) };
    shifted.filter(|shifted| bits >= 0 && (value == 0 || shifted >> bits == value))
}

/// The bits shifted right.
fn shift_right(value: i64, bits: i64) -> Option<i64> {
    (bits >= 0).then(|| value >> bits.min(63))
}

/// A number in single precision.
#[allow(clippy::cast_possible_truncation)]
fn single(value: f64) -> f32 {
    value as f32
}

/// The bits of a number in a narrower format, rounded to the nearest, ties to even: its bits after the point, the bias of its exponent,
/// its largest number, and what stands for larger ones.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]
fn narrow(value: f64, [mantissa, bias, largest, above]: [u32; 4]) -> u32 {
    let sign = (largest + 1).next_power_of_two();
    if value.is_nan() {
        return sign - 1;
    }
    let exponent = (value.abs().to_bits() >> 52) as i32 - 1023;
    // Below the smallest normal number the steps stay as wide.
    let exponent = exponent.max(1 - bias as i32);
    let steps = (value.abs() * 2.0_f64.powi(mantissa as i32 - exponent)).round_ties_even();
    let pattern = (((exponent + bias as i32 - 1) as u32) << mantissa).saturating_add(steps as u32);
    let pattern = if pattern > largest { above } else { pattern };
    if value.is_sign_negative() { sign | pattern } else { pattern }
}

//! The functions of exported modules compute the operators of the table, and terms are readable.
#![allow(dead_code)]

use kbench_runtime::driver::codec::encode_into;
use kbench_runtime::dtype::DType;

use super::dialect::Rust;
use crate::export::arithmetic::Translation;
use crate::export::parts;
use crate::expr::{Expr, Value};

include!("functions.rs");

#[test]
fn functions_are_the_operators_of_the_table() {
    let values = [i64::MIN, -64, -7, -2, -1, 0, 1, 2, 3, 7, 63, 64, 100, i64::MAX];
    let pairs = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b)));
    for (a, b) in pairs {
        let lookup = |name: &str| Some(Value::Int(if name == "a" { a } else { b }));
        let same = |text: &str, own: Option<i64>| {
            let value = Expr::parse(text).unwrap().eval(&lookup).ok();
            assert_eq!(own, value.and_then(|value| value.as_integer()), "{text} for a = {a}, b = {b}");
        };
        same("a // b", floor_div(a, b));
        same("a % b", remainder(a, b));
        same("ceil_div(a, b)", ceil_div(a, b));
        same("min(a, b)", Some(least(a, b)));
        same("max(a, b)", Some(greatest(a, b)));
        same("abs(a)", absolute(a));
        same("is_power_of_two(a)", Some(is_power_of_two(a).into()));
        if b >= 0 {
            same("a << b", shift_left(a, b));
            same("a >> b", shift_right(a, b));
        }
        if (0..=64).contains(&b) {
            same("a ** b", power(a, b));
        }
    }
}

#[test]
fn narrow_numbers_are_rounded_as_tensors_are() {
    let values = (-30..18).flat_map(|exponent| {
        let near = move |at: i32| f64::from(at).mul_add(1.0 / 64.0, 1.0) * 2f64.powi(exponent);
        (0..64).map(near).chain([2f64.powi(exponent) * (1.0 + 1.0 / 16.0 - 1e-9)])
    });
    for value in
        values.chain([0.0, 65504.0, 65519.9, 65520.0, 448.0, 464.0, 1e300, f64::INFINITY, 3.4e38, 3.5e38, 1e-310])
    {
        for dtype in [DType::F16, DType::Bf16, DType::F8e4m3, DType::F8e5m2] {
            for value in [value, -value] {
                let mut bytes = [0; 4];
                encode_into(dtype, &[value], &mut bytes[..dtype.size()]);
                let own = narrow(value, parts::narrow(dtype).unwrap());
                assert_eq!(own, u32::from_le_bytes(bytes), "{value:e} as {dtype}");
            }
        }
    }
}

#[test]
fn expressions_become_short_rust() {
    let mut translation = Translation::new(&Rust);
    let mut text = |text: &str| {
        let value = |name: &str| (name == "TILE").then_some(Value::Int(64));
        let term =
            translation.term(&Expr::parse(text).unwrap(), false, &value, &|name| Some(name.to_lowercase())).unwrap();
        translation.int(&term)
    };
    for (table, rust) in [
        ("ceil_div(M, TILE)", "ceil_div(m, 64)?"),
        ("2 * M + TILE * 4", "m.checked_mul(2)?.checked_add(256)?"),
        ("0 * M + N", "n"),
        ("TILE - M", "(64_i64).checked_sub(m)?"),
        ("M // 2 if N > 4 else 1", "if n > 4 { floor_div(m, 2)? } else { 1 }"),
        ("(M + 0.5) * (N - 1.5)", "whole((real(m) + 0.5) * (real(n) - 1.5))?"),
        ("M / 2", "whole(divide(real(m), 2.0)?)?"),
        ("M > 1 and not N == 3", "i64::from((m > 1) && (n != 3))"),
        ("not (M > 1 or N)", "i64::from((m <= 1) && (n == 0))"),
        ("not M / 3 < 2.5", "i64::from(divide(real(m), 3.0)? >= 2.5)"),
        ("not is_power_of_two(M)", "i64::from(!(is_power_of_two(m)))"),
        // The conditions and alternatives that clippy asks for.
        ("M if N != 4 else 2", "if n == 4 { 2 } else { m }"),
        ("M if N % 2 else 2", "if remainder(n, 2)? == 0 { 2 } else { m }"),
        ("M if not N > 4 else 2", "if n > 4 { 2 } else { m }"),
        ("1 if N != 4 else 0", "i64::from(n != 4)"),
        ("0 if N > 4 else 1", "i64::from(n <= 4)"),
        ("1 if N > 4 else 2 if N < 4 else 3", "if n > 4 { 1 } else if n < 4 { 2_i64 } else { 3 }"),
        ("(2 if N > 4 else 3) + M", "(if n > 4 { 2_i64 } else { 3 }).checked_add(m)?"),
        ("100000 * M", "m.checked_mul(100_000)?"),
        ("M + 12345.0", "whole(real(m) + 12_345.0)?"),
        ("M + 0.12345", "whole(real(m) + 0.123_45)?"),
    ] {
        assert_eq!(text(table), rust, "{table}");
    }
}

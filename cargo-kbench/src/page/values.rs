//! Values and texts, as every format shows them.

use std::cmp::Ordering;

use crate::expr::Value;
use crate::text::printable;

/// Sorts the values of a toggle in ascending order.
pub fn sort(values: &mut [Value]) {
    values.sort_by(order);
}

/// Order of values: numbers first, then words by the alphabet.
pub fn order(a: &Value, b: &Value) -> Ordering {
    match (a.as_float(), b.as_float()) {
        (Some(first), Some(second)) => first.total_cmp(&second),
        (None, None) => a.to_string().cmp(&b.to_string()),
        (first, second) => second.is_some().cmp(&first.is_some()),
    }
}

/// A text from outside, with characters escaped that cannot be shown.
pub fn said(text: &str) -> String {
    printable(text).into_owned()
}

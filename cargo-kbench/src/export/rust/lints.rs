//! Lints that a module allows: those about the number of a kernel's sizes, arguments and variants, and those about expressions, which
//! are translated as the table has them.

/// The attribute of a kernel's module.
pub(super) fn attribute(body: &str, fields: &[String]) -> String {
    let mut lints = vec!["many_single_char_names", "similar_names", "too_many_arguments", "too_many_lines"];
    let has = |text: &str| body.contains(text);
    let compares = [" == ", " != ", " < ", " <= ", " > ", " >= "].into_iter().any(has);
    lints.extend(has_fraction(body).then_some("approx_constant"));
    lints.extend((compares || has(" & ") || has(" | ") || has(" ^ ")).then_some("eq_op"));
    lints.extend(has(" & ").then_some("verbose_bit_mask"));
    if has(" && ") || has(" || ") {
        lints.extend(["double_comparisons", "manual_range_contains", "nonminimal_bool", "overly_complex_bool_expr"]);
    }
    lints.extend(has("} else if ").then_some("comparison_chain"));
    lints.extend(has("} else {").then_some("if_same_then_else"));
    // `clippy::struct_field_names` reads names of three fields or more.
    lints.extend((fields.len() > 2).then_some("struct_field_names"));
    lints.sort_unstable();
    let lints: Vec<String> = lints.into_iter().map(|lint| format!("clippy::{lint}")).collect();
    format!("#[allow({})]\n", lints.join(", "))
}

/// Whether the text has a number with two digits or more after the point, such as an approximation of pi.
fn has_fraction(text: &str) -> bool {
    let numbers = text.split(|c: char| c != '.' && c != '_' && !c.is_ascii_digit());
    numbers.filter_map(|number| number.split_once('.')).any(|(whole, digits)| !whole.is_empty() && digits.len() > 1)
}

//! Mutants of initial values: 0 in place of the neutral element of a maximum, a minimum or a product, and `__shared__`
//! variables without their initialisation.

use super::{Change, Kind, Lack, Token, closing, dropped, shown, starts_statement};

/// Largest values and infinity: the neutral elements of a minimum, and with a minus sign of a maximum.
const LARGEST: [&str; 12] = [
    "INFINITY",
    "HUGE_VAL",
    "HUGE_VALF",
    "FLT_MAX",
    "DBL_MAX",
    "CUDART_INF",
    "CUDART_INF_F",
    "CUDART_MAX_NORMAL_F",
    "INT_MAX",
    "LLONG_MAX",
    "INT32_MAX",
    "INT64_MAX",
];

/// The smallest integers, which are written without a minus sign.
const SMALLEST: [&str; 4] = ["INT_MIN", "LLONG_MIN", "INT32_MIN", "INT64_MIN"];

/// Smallest absolute value of a negative constant that counts as minus infinity.
const AS_GOOD_AS_INFINITE: f64 = 1e5;

/// Integer types: there 1 is the first value of a stride, not of a product.
const INTEGERS: [&str; 9] = ["int", "unsigned", "long", "short", "char", "size_t", "ptrdiff_t", "int32_t", "uint32_t"];

/// The change that replaces the neutral element at `index` by 0.
pub(super) fn neutral(source: &str, tokens: &[Token<'_>], index: usize) -> Option<Change> {
    let end = extreme(tokens, index).or_else(|| factor(tokens, index))?;
    let range = tokens[index].start..tokens[end].range().end;
    let what = format!("starts from 0 instead of `{}`", shown(source, range.clone()));
    Some(Change { lack: Lack::Neutral, range, to: "0".to_owned(), what, rank: 0 })
}

/// Index of the last token of a smallest or largest value that is assigned, chosen or returned.
fn extreme(tokens: &[Token<'_>], index: usize) -> Option<usize> {
    let before = tokens[index.checked_sub(1)?].text;
    if !matches!(before, "=" | "?" | ":" | "," | "(" | "{" | "return") {
        return None;
    }
    let is_negative = tokens[index].text == "-";
    let at = index + usize::from(is_negative);
    let token = tokens.get(at)?;
    let end = match token.kind {
        Kind::Number => (is_negative && number(token.text)? >= AS_GOOD_AS_INFINITE).then_some(at),
        Kind::Word if LARGEST.contains(&token.text) => Some(at),
        Kind::Word if is_negative => limits(tokens, at, &["max", "infinity"]),
        Kind::Word if SMALLEST.contains(&token.text) || says_minus_infinity(token.text) => Some(at),
        Kind::Word if token.text == "__int_as_float" => {
            let is_infinity = tokens.get(at + 2).is_some_and(|bits| bits.text.eq_ignore_ascii_case("0xff800000"));
            is_infinity.then_some(at + 3)
        }
        Kind::Word => limits(tokens, at, &["lowest", "max", "min", "infinity"]),
        _ => None,
    }?;
    // An operand of a larger expression is not a neutral element.
    let after = tokens.get(end + 1)?.text;
    matches!(after, ";" | "," | ")" | "}" | ":").then_some(end)
}

/// Whether a name stands for minus infinity by convention.
fn says_minus_infinity(word: &str) -> bool {
    let word: String = word.to_lowercase().chars().filter(|c| *c != '_').collect();
    word.ends_with("neginf") || word.ends_with("minusinf") || word.ends_with("neginfinity")
}

/// Index of the last token of `std::numeric_limits<T>::name()`.
fn limits(tokens: &[Token<'_>], start: usize, names: &[&str]) -> Option<usize> {
    let mut at = start;
    while tokens.get(at + 1)?.text == "::" {
        at += 2;
    }
    if tokens.get(at)?.text != "numeric_limits" || tokens.get(at + 1)?.text != "<" {
        return None;
    }
    let close = (at + 2..tokens.len().min(at + 8)).find(|&at| tokens[at].text == ">")?;
    let is_call = tokens.get(close + 1)?.text == "::"
        && names.contains(&tokens.get(close + 2)?.text)
        && tokens.get(close + 3)?.text == "(";
    if is_call { closing(tokens, close + 3) } else { None }
}

/// The 1 of `float product = 1`, where `product` is multiplied later on.
fn factor(tokens: &[Token<'_>], index: usize) -> Option<usize> {
    let [kind, name, assign] = tokens.get(index.checked_sub(3)?..index)? else { return None };
    let is_one = tokens[index].kind == Kind::Number
        && number(tokens[index].text).is_some_and(|one| one.to_bits() == 1.0_f64.to_bits());
    let ends = matches!(tokens.get(index + 1)?.text, ";" | ",");
    let is_declared = kind.kind == Kind::Word && name.kind == Kind::Word && assign.text == "=";
    if !is_one || !ends || !is_declared || INTEGERS.contains(&kind.text) {
        return None;
    }
    let multiplied = tokens[index..].windows(4).any(|tokens| match tokens {
        [one, sign, other, times] if one.text == name.text => {
            sign.text == "*=" || sign.text == "=" && other.text == name.text && times.text == "*"
        }
        _ => false,
    });
    multiplied.then_some(index)
}

/// The value of a literal; none for a hexadecimal one, which is a bit pattern.
fn number(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(['f', 'F', 'l', 'L', 'u', 'U']);
    digits.replace('\'', "").parse().ok()
}

/// The names that are declared `__shared__`.
pub(super) fn shared_variables<'s>(tokens: &[Token<'s>]) -> Vec<&'s str> {
    let mut names = Vec::new();
    for (at, _) in tokens.iter().enumerate().filter(|(_, token)| token.text == "__shared__") {
        let end = (at..tokens.len()).find(|&at| matches!(tokens[at].text, ";" | "=")).unwrap_or(tokens.len());
        let mut next = at + 1;
        while next < end {
            match tokens[next].text {
                "(" | "[" | "{" => next = closing(tokens, next).unwrap_or(end),
                _ => {
                    // A name stands before its sizes, a comma or the end.
                    let after = tokens.get(next + 1).map_or("", |token| token.text);
                    if tokens[next].kind == Kind::Word && matches!(after, "[" | "," | ";" | "=") {
                        names.push(tokens[next].text);
                    }
                }
            }
            next += 1;
        }
    }
    names
}

/// The change that drops the statement at `index`, if it sets a `__shared__` variable or an element of one to a
/// constant.
pub(super) fn initialisation(source: &str, tokens: &[Token<'_>], index: usize, shared: &[&str]) -> Option<Change> {
    if !shared.contains(&tokens[index].text) || !starts_statement(tokens, index) {
        return None;
    }
    let mut at = index + 1;
    loop {
        match tokens.get(at)?.text {
            "[" => at = closing(tokens, at)? + 1,
            "." => at += 2,
            "=" => break,
            _ => return None,
        }
    }
    let end = (at..tokens.len()).find(|&at| tokens[at].text == ";")?;
    let value = &tokens[at + 1..end];
    // Names of constants and types are written in capitals, names of variables are not.
    let is_constant = |token: &Token<'_>| match token.kind {
        Kind::Number => true,
        Kind::Word => {
            matches!(token.text, "float" | "double" | "int" | "unsigned" | "true" | "false")
                || !token.text.contains(|c: char| c.is_ascii_lowercase())
        }
        Kind::Punct => matches!(token.text, "-" | "(" | ")" | "{" | "}" | ","),
        Kind::Text | Kind::Directive => false,
    };
    let is_initialisation = !value.is_empty() && value.iter().all(is_constant);
    is_initialisation.then(|| dropped(source, tokens, Lack::Initialisation, index, end - 1))
}

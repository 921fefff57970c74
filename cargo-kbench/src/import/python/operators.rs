//! Operators of Python on values; an empty [`Value::Unknown`] if the result is unknown.

use super::value::{Array, Contents, MOST_ITEMS, Number, Value};

fn unknown<'t>() -> Value<'t> {
    Value::unknown("")
}

/// `left operator right`.
pub fn binary<'t>(operator: &str, left: &Value<'t>, right: &Value<'t>) -> Value<'t> {
    if let (Some(left), Some(right)) = (left.number(), right.number()) {
        return arithmetic(operator, left, right).map_or_else(unknown, Number::value);
    }
    if let Some(values) = elementwise(operator, left, right) {
        return values;
    }
    match (operator, left, right) {
        (_, Value::Unknown(_), _) => left.clone(),
        (_, _, Value::Unknown(_)) => right.clone(),
        (_, Value::Array(array), Value::Array(other)) => {
            let dims = if other.dims.len() > array.dims.len() { &other.dims } else { &array.dims };
            computed(array, dims)
        }
        (_, Value::Array(array), other) | (_, other, Value::Array(array)) if other.number().is_some() => {
            computed(array, &array.dims)
        }
        ("+", Value::Text(left), Value::Text(right)) => Value::text(format!("{left}{right}")),
        ("+", Value::Source(_) | Value::Text(_), Value::Source(_) | Value::Text(_)) => {
            match (text_of(left), text_of(right)) {
                (Some(left), Some(right)) => Value::text(left + &right),
                _ => unknown(),
            }
        }
        ("+", Value::List(left), Value::List(right)) => {
            Value::list(left.borrow().iter().chain(right.borrow().iter()).cloned().collect())
        }
        ("+", Value::Tuple(left), Value::Tuple(right)) => {
            Value::Tuple(left.iter().chain(right.iter()).cloned().collect())
        }
        ("*", Value::List(items), times) | ("*", times, Value::List(items)) => {
            let items = items.borrow();
            match times.integer().map(|times| times.max(0) as usize) {
                Some(times) if times.saturating_mul(items.len()) <= MOST_ITEMS => {
                    Value::list(std::iter::repeat_n(items.iter().cloned(), times).flatten().collect())
                }
                _ => unknown(),
            }
        }
        ("|", Value::Dict(left), Value::Dict(right)) => {
            let mut entries = left.borrow().clone();
            for (key, value) in right.borrow().iter() {
                insert(&mut entries, key.clone(), value.clone());
            }
            Value::dict(entries)
        }
        ("%", Value::Text(format), values) => formatted(format, values).map_or_else(unknown, Value::text),
        _ => unknown(),
    }
}

/// The result for an array whose elements are known and a number.
fn elementwise<'t>(operator: &str, left: &Value<'t>, right: &Value<'t>) -> Option<Value<'t>> {
    let known = |value: &Value<'t>| if let Value::Array(array) = value { array.values.clone() } else { None };
    let (array, values): (_, Option<Vec<Number>>) = match (known(left), known(right)) {
        (Some(values), None) => {
            let number = right.number()?;
            (left, values.iter().map(|value| arithmetic(operator, *value, number)).collect())
        }
        (None, Some(values)) => {
            let number = left.number()?;
            (right, values.iter().map(|value| arithmetic(operator, number, *value)).collect())
        }
        _ => return None,
    };
    let Value::Array(array) = array else { return None };
    let values = Some(values?.into());
    Some(Value::Array(Array { name: None, contents: Contents::Computed, values, ..array.clone() }))
}

fn computed<'t>(array: &Array, dims: &[i64]) -> Value<'t> {
    Value::Array(Array {
        name: None,
        dtype: array.dtype,
        dims: dims.to_vec(),
        contents: Contents::Computed,
        values: None,
    })
}

/// A text, or the contents of a file.
fn text_of(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.to_string()),
        Value::Source(path) => crate::file::read(path).ok(),
        _ => None,
    }
}

fn arithmetic(operator: &str, left: Number, right: Number) -> Option<Number> {
    use Number::{Float, Int};
    let float = |value: f64| value.is_finite().then_some(Float(value));
    let (x, y) = (left.float(), right.float());
    match (operator, left, right) {
        ("+", Int(a), Int(b)) => a.checked_add(b).map(Int),
        ("-", Int(a), Int(b)) => a.checked_sub(b).map(Int),
        ("*", Int(a), Int(b)) => a.checked_mul(b).map(Int),
        ("//", Int(a), Int(b)) => {
            let quotient = a.checked_div(b)?;
            Some(Int(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient }))
        }
        ("%", Int(a), Int(b)) => {
            let rest = a.checked_rem(b)?;
            Some(Int(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }))
        }
        ("**", Int(a), Int(b)) if b >= 0 => a.checked_pow(u32::try_from(b).ok()?).map(Int),
        ("<<", Int(a), Int(b)) => a.checked_mul(1i64.checked_shl(u32::try_from(b).ok()?)?).map(Int),
        (">>", Int(a), Int(b)) => a.checked_shr(u32::try_from(b).ok()?).map(Int),
        ("&", Int(a), Int(b)) => Some(Int(a & b)),
        ("|", Int(a), Int(b)) => Some(Int(a | b)),
        ("^", Int(a), Int(b)) => Some(Int(a ^ b)),
        ("+", ..) => float(x + y),
        ("-", ..) => float(x - y),
        ("*", ..) => float(x * y),
        ("/", ..) => float(x / y),
        ("//", ..) => float((x / y).floor()),
        ("%", ..) => float(x - y * (x / y).floor()),
        ("**", ..) => float(x.powf(y)),
        _ => None,
    }
}

/// `left operator right` as a truth value; none if it is unknown.
pub fn compare<'t>(operator: &str, left: &Value<'t>, right: &Value<'t>) -> Option<bool> {
    let among = || {
        if let (Some(part), Some(text)) = (left.as_text(), right.as_text()) {
            return Some(text.contains(part));
        }
        let found: Option<Vec<bool>> = right.items()?.iter().map(|item| item.equals(left)).collect();
        Some(found?.contains(&true))
    };
    match operator {
        "==" | "is" => left.equals(right),
        "!=" | "is not" => left.equals(right).map(|equal| !equal),
        "in" => among(),
        "not in" => among().map(|found| !found),
        _ => {
            let order = match (left.as_text(), right.as_text()) {
                (Some(left), Some(right)) => left.cmp(right),
                _ => left.number()?.float().partial_cmp(&right.number()?.float())?,
            };
            match operator {
                "<" => Some(order.is_lt()),
                "<=" => Some(order.is_le()),
                ">" => Some(order.is_gt()),
                ">=" => Some(order.is_ge()),
                _ => None,
            }
        }
    }
}

/// The result of Python's `str`.
pub fn shown(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::None => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Text(text) => text.to_string(),
        Value::List(_) | Value::Tuple(_) => {
            let items: Option<Vec<String>> = value.items()?.iter().map(shown).collect();
            format!("[{}]", items?.join(", "))
        }
        _ => value.number()?.to_string(),
    })
}

/// Sets an entry of a dictionary.
pub fn insert<'t>(entries: &mut Vec<(Value<'t>, Value<'t>)>, key: Value<'t>, value: Value<'t>) {
    match entries.iter_mut().find(|(known, _)| known.equals(&key) == Some(true)) {
        Some(entry) => entry.1 = value,
        None => entries.push((key, value)),
    }
}

/// Removes an entry of a dictionary or an element of a list, and returns its value.
pub fn removed<'t>(value: &Value<'t>, index: &Value<'t>) -> Option<Value<'t>> {
    match value {
        Value::Dict(entries) => {
            let mut entries = entries.borrow_mut();
            let at = entries.iter().position(|(key, _)| key.equals(index) == Some(true))?;
            Some(entries.remove(at).1)
        }
        Value::List(items) => {
            let mut items = items.borrow_mut();
            let index = index.integer()?;
            let at = usize::try_from(if index < 0 { index + items.len() as i64 } else { index }).ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

/// Each element once, as in a set.
pub fn distinct(items: Vec<Value<'_>>) -> Vec<Value<'_>> {
    let mut known: Vec<Value<'_>> = Vec::new();
    for item in items {
        if known.iter().all(|other| other.equals(&item) != Some(true)) {
            known.push(item);
        }
    }
    known
}

/// `"{} {0} {name}".format(…)`, without formats.
pub fn filled<'t>(format: &str, positional: &[Value<'t>], named: &[(String, Value<'t>)]) -> Option<String> {
    let mut text = String::new();
    let mut next = positional.iter();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        text += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text += brace;
            rest = after;
            continue;
        }
        let (field, after) = rest.split_once('}').filter(|_| brace == "{")?;
        let value = match (field, field.parse::<usize>()) {
            ("", _) => next.next()?,
            (_, Ok(at)) => positional.get(at)?,
            _ => named.iter().find(|(name, _)| name == field).map(|(_, value)| value)?,
        };
        text += &shown(value)?;
        rest = after;
    }
    Some(text + rest)
}

/// `"%d %s" % (1, "x")`.
fn formatted(format: &str, values: &Value<'_>) -> Option<String> {
    let values = match values {
        Value::Tuple(values) => values.to_vec(),
        value => vec![value.clone()],
    };
    let mut values = values.iter();
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(next) = rest.next() {
        if next != '%' {
            text.push(next);
            continue;
        }
        match rest.next()? {
            '%' => text.push('%'),
            'd' | 'i' => text += &values.next()?.integer()?.to_string(),
            's' | 'r' => text += &shown(values.next()?)?,
            _ => return None,
        }
    }
    Some(text)
}

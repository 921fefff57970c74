//! Methods of values in a script that is read and never run.

use super::numpy::{self, Arguments};
use super::operators::{compare, filled, insert, removed, shown};
use super::value::{Number, Value};

fn unknown<'t>() -> Value<'t> {
    Value::unknown("")
}

/// `value[index]`.
pub fn item<'t>(value: &Value<'t>, index: &Value<'t>) -> Value<'t> {
    if matches!(value, Value::Unknown(_)) {
        return value.clone();
    }
    if let Value::Dict(entries) = value {
        let entries = entries.borrow();
        let found = entries.iter().find(|(key, _)| key.equals(index) == Some(true));
        return found.map_or_else(unknown, |(_, value)| value.clone());
    }
    let (Some(items), Some(index)) = (value.items(), index.integer()) else { return unknown() };
    let at = if index < 0 { index + items.len() as i64 } else { index };
    usize::try_from(at).ok().and_then(|at| items.get(at).cloned()).unwrap_or_else(unknown)
}

/// `object.name(arguments)`.
pub fn method<'t>(object: &Value<'t>, name: &str, arguments: &Arguments<'t>) -> Option<Value<'t>> {
    let first = arguments.positional.first();
    match (object, name) {
        (Value::File(path), "read") => Some(Value::Source(path.clone())),
        (Value::File(_), "close") => Some(Value::None),
        (Value::List(items), "append") => {
            items.borrow_mut().extend(first.cloned());
            Some(Value::None)
        }
        (Value::List(items), "extend") => {
            let more = first.and_then(Value::items);
            items.borrow_mut().extend(more.unwrap_or_else(|| vec![unknown()]));
            Some(Value::None)
        }
        (Value::List(items), "insert") => {
            let mut items = items.borrow_mut();
            let (index, value) = (first?.integer()?, arguments.positional.get(1)?);
            let at = if index < 0 { index + items.len() as i64 } else { index };
            let at = at.clamp(0, items.len() as i64) as usize;
            items.insert(at, value.clone());
            Some(Value::None)
        }
        (Value::List(items), "remove") => {
            let removed = first?;
            let at = items.borrow().iter().position(|item| item.equals(removed) == Some(true))?;
            items.borrow_mut().remove(at);
            Some(Value::None)
        }
        (Value::List(items), "reverse") => {
            items.borrow_mut().reverse();
            Some(Value::None)
        }
        (Value::List(items), "sort") if arguments.named.iter().all(|(name, _)| name == "reverse") => {
            sort(&mut items.borrow_mut(), is_reversed(arguments));
            Some(Value::None)
        }
        (Value::List(items), "clear") => {
            items.borrow_mut().clear();
            Some(Value::None)
        }
        (Value::Dict(entries), "clear") => {
            entries.borrow_mut().clear();
            Some(Value::None)
        }
        (Value::List(_), "pop") => removed(object, first.unwrap_or(&Value::Int(-1))),
        (Value::List(items), "index" | "count") => {
            let same: Option<Vec<bool>> = items.borrow().iter().map(|item| item.equals(first?)).collect();
            let mut same = same?.into_iter();
            let found = match name {
                "index" => same.position(|same| same)?,
                _ => same.filter(|same| *same).count(),
            };
            Some(Value::Int(found as i64))
        }
        (Value::Dict(_), "pop") => removed(object, first?).or_else(|| arguments.positional.get(1).cloned()),
        (Value::Dict(entries), "setdefault") => {
            let mut entries = entries.borrow_mut();
            let key = first?;
            let known =
                entries.iter().find(|(known, _)| known.equals(key) == Some(true)).map(|(_, value)| value.clone());
            Some(known.unwrap_or_else(|| {
                let value = arguments.positional.get(1).cloned().unwrap_or(Value::None);
                entries.push((key.clone(), value.clone()));
                value
            }))
        }
        (Value::Text(text), "format") => filled(text, &arguments.positional, &arguments.named).map(Value::text),
        (Value::Text(text), "split") => {
            let parts: Vec<&str> = match first {
                None => text.split_whitespace().collect(),
                Some(separator) => text.split(separator.as_text()?).collect(),
            };
            Some(Value::list(parts.into_iter().map(Value::text).collect()))
        }
        (Value::List(_) | Value::Dict(_), "copy") => match object {
            Value::Dict(entries) => Some(Value::dict(entries.borrow().clone())),
            _ => object.items().map(Value::list),
        },
        (Value::Dict(entries), "update") => {
            let more = match first {
                Some(Value::Dict(more)) => more.borrow().clone(),
                _ => Vec::new(),
            };
            let named = arguments.named.iter().map(|(key, value)| (Value::text(key.as_str()), value.clone()));
            for (key, value) in more.into_iter().chain(named) {
                insert(&mut entries.borrow_mut(), key, value);
            }
            Some(Value::None)
        }
        (Value::Dict(_), "get") => first.map(|key| match (item(object, key), arguments.positional.get(1)) {
            (Value::Unknown(_), Some(default)) => default.clone(),
            (Value::Unknown(_), None) => Value::None,
            (value, _) => value,
        }),
        (Value::Dict(_), "keys") => object.items().map(Value::list),
        (Value::Dict(entries), "values") => {
            Some(Value::list(entries.borrow().iter().map(|(_, value)| value.clone()).collect()))
        }
        (Value::Dict(entries), "items") => {
            let pairs = entries.borrow();
            Some(Value::list(pairs.iter().map(|(k, v)| Value::Tuple([k.clone(), v.clone()].into())).collect()))
        }
        (Value::Text(text), "lower") => Some(Value::text(text.to_lowercase())),
        (Value::Text(text), "upper") => Some(Value::text(text.to_uppercase())),
        (Value::Text(text), "strip") => Some(Value::text(text.trim())),
        (Value::Text(text), "replace") => {
            let to = arguments.positional.get(1).and_then(Value::as_text);
            first.and_then(Value::as_text).zip(to).map(|(from, to)| Value::text(text.replace(from, to)))
        }
        (Value::Text(text), "join") => {
            let items: Option<Vec<String>> =
                first.and_then(Value::items).and_then(|items| items.iter().map(shown).collect());
            items.map(|items| Value::text(items.join(text)))
        }
        (Value::Array(array), _) => numpy::method(array, name, arguments),
        (Value::Scalar(..), "item") => object.number().map(Number::value),
        (Value::Scalar(..) | Value::Int(_) | Value::Float(_), "astype") => {
            first.and_then(numpy::dtype).and_then(|dtype| numpy::scalar(dtype, object))
        }
        _ => None,
    }
}

/// Sorts by Python's order of numbers and texts.
pub fn sort(items: &mut [Value<'_>], is_reversed: bool) {
    items.sort_by(|a, b| {
        let (a, b) = if is_reversed { (b, a) } else { (a, b) };
        match (compare("<", a, b), compare("<", b, a)) {
            (Some(true), _) => std::cmp::Ordering::Less,
            (_, Some(true)) => std::cmp::Ordering::Greater,
            _ => std::cmp::Ordering::Equal,
        }
    });
}

/// Whether a call has `reverse=True`.
pub fn is_reversed(arguments: &Arguments<'_>) -> bool {
    arguments.named.iter().any(|(name, value)| name == "reverse" && value.truth() == Some(true))
}

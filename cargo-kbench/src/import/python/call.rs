//! Calls and subscripts in a script that is read and never run.

use std::path::PathBuf;

use tree_sitter::Node;

use super::evaluate::named;
use super::interpret::{Flow, Interpreter};
use super::numpy::{self, Arguments};
use super::operators::{binary, compare, shown};
use super::value::{MOST_ITEMS, Number, Value};

/// A call of `tune_kernel`.
#[derive(Clone)]
pub struct TuneCall<'t> {
    pub node: Node<'t>,
    pub positional: Vec<Value<'t>>,
    pub named: Vec<(String, Value<'t>)>,
}

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

/// `value[from:to:step]` of a list.
pub fn slice<'t>(value: &Value<'t>, [from, to, step]: [Option<i64>; 3]) -> Value<'t> {
    let Some(mut items) = value.items() else {
        return if matches!(value, Value::Unknown(_)) { value.clone() } else { unknown() };
    };
    let length = items.len() as i64;
    let at = |index: i64| (if index < 0 { index + length } else { index }).clamp(0, length) as usize;
    match step.unwrap_or(1) {
        -1 if from.is_none() && to.is_none() => {
            items.reverse();
            Value::list(items)
        }
        step if step > 0 => {
            let (from, to) = (at(from.unwrap_or(0)), at(to.unwrap_or(length)));
            Value::list(items.into_iter().take(to).skip(from).step_by(step as usize).collect())
        }
        _ => unknown(),
    }
}

impl<'t> Interpreter<'t> {
    /// The parts of a slice; an omitted part is `None`.
    pub fn slice_parts(&mut self, node: Node<'t>) -> [Option<i64>; 3] {
        let mut parts = [None; 3];
        let mut at = 0;
        let mut cursor = node.walk();
        let children: Vec<Node<'t>> = node.children(&mut cursor).collect();
        for child in children {
            if child.kind() == ":" {
                at += 1;
            } else if at < 3 {
                parts[at] = self.eval(child).integer();
            }
        }
        parts
    }

    /// The arguments of a call.
    fn arguments(&mut self, node: Option<Node<'t>>) -> Arguments<'t> {
        let mut arguments = Arguments { positional: Vec::new(), named: Vec::new() };
        let Some(node) = node else { return arguments };
        if node.kind() == "generator_expression" {
            arguments.positional.push(self.eval(node));
            return arguments;
        }
        for argument in named(node) {
            match argument.kind() {
                "keyword_argument" => {
                    let (name, value) = (argument.child_by_field_name("name"), argument.child_by_field_name("value"));
                    if let (Some(name), Some(value)) = (name, value) {
                        let value = self.eval(value);
                        arguments.named.push((self.source(name).to_owned(), value));
                    }
                }
                "list_splat" => {
                    let spread = named(argument).first().map(|&inner| self.eval(inner));
                    arguments.positional.extend(spread.and_then(|value| value.items()).unwrap_or_default());
                }
                "dictionary_splat" => {
                    if let Some(Value::Dict(entries)) = named(argument).first().map(|&inner| self.eval(inner)) {
                        for (key, value) in entries.borrow().iter() {
                            arguments.named.extend(shown(key).map(|key| (key, value.clone())));
                        }
                    }
                }
                _ => {
                    let value = self.eval(argument);
                    arguments.positional.push(value);
                }
            }
        }
        arguments
    }

    /// `function(arguments)`.
    pub fn call(&mut self, node: Node<'t>) -> Value<'t> {
        let Some(called) = node.child_by_field_name("function") else { return self.unknown(node, "cannot be read") };
        let function = self.eval(called);
        let arguments = self.arguments(node.child_by_field_name("arguments"));
        let result = match &function {
            Value::Name(name) if name.rsplit('.').next() == Some("tune_kernel") => {
                // A script may change its dictionary of parameters and call again.
                let positional = arguments.positional.iter().map(Value::snapshot).collect();
                let named = arguments.named.iter().map(|(name, value)| (name.clone(), value.snapshot())).collect();
                self.calls.push(TuneCall { node, positional, named });
                Value::Tuple([self.unknown(node, "is only known when the script runs"), unknown()].into())
            }
            Value::Name(name) => match name.strip_prefix("numpy.").or_else(|| name.strip_prefix("np.")) {
                Some("copyto") => {
                    // `copyto` assigns its second argument to the variable of its first.
                    let target = node.child_by_field_name("arguments").and_then(|list| named(list).first().copied());
                    if let (Some(target), Some(value)) = (target, arguments.positional.get(1)) {
                        self.assign(target, value.clone());
                    }
                    Value::None
                }
                Some(function) => numpy::call(function, &arguments).unwrap_or_else(unknown),
                None => self.builtin(name, &arguments),
            },
            Value::Method(object, name) => method(object, name, &arguments),
            Value::Function(function) => self.user(*function, arguments),
            Value::Unknown(_) => function.clone(),
            _ => unknown(),
        };
        self.told(node, result)
    }

    /// Evaluates a function of the script with these arguments.
    fn user(&mut self, function: Node<'t>, arguments: Arguments<'t>) -> Value<'t> {
        let Some(body) = function.child_by_field_name("body") else { return unknown() };
        let scope = self.bind(function, arguments);
        self.locals.push(scope);
        self.depth += 1;
        let value = if function.kind() == "lambda" {
            self.eval(body)
        } else if self.depth > 100 {
            unknown()
        } else {
            match self.block(body) {
                Flow::Return(value) => value,
                _ => Value::None,
            }
        };
        self.depth -= 1;
        self.locals.pop();
        value
    }

    fn builtin(&mut self, name: &str, arguments: &Arguments<'t>) -> Value<'t> {
        let first = arguments.positional.first();
        let items = || first.and_then(Value::items);
        let number = || first.and_then(Value::number);
        let value = match name {
            "range" => {
                let ends: Option<Vec<i64>> = arguments.positional.iter().map(Value::integer).collect();
                match ends.as_deref() {
                    Some([to]) => range(0, *to, 1),
                    Some([from, to]) => range(*from, *to, 1),
                    Some([from, to, step]) => range(*from, *to, *step),
                    _ => None,
                }
            }
            "list" | "set" | "sorted" | "reversed" | "tuple" => match first {
                None => Some(Value::list(Vec::new())),
                Some(_) => items().map(|mut items| {
                    match name {
                        "reversed" => items.reverse(),
                        "sorted" => items.sort_by(|a, b| {
                            compare("<", a, b).map_or(std::cmp::Ordering::Equal, |less| {
                                if less { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater }
                            })
                        }),
                        _ => {}
                    }
                    if name == "tuple" { Value::Tuple(items.into()) } else { Value::list(items) }
                }),
            },
            "dict" | "OrderedDict" | "collections.OrderedDict" => {
                let mut entries = Vec::new();
                match first {
                    None => {}
                    Some(Value::Dict(others)) => entries.extend(others.borrow().iter().cloned()),
                    Some(pairs) => {
                        for pair in pairs.items().unwrap_or_default() {
                            if let Some([key, value]) = pair.items().as_deref() {
                                entries.push((key.clone(), value.clone()));
                            }
                        }
                    }
                }
                entries.extend(arguments.named.iter().map(|(key, value)| (Value::text(key.as_str()), value.clone())));
                Some(Value::dict(entries))
            }
            "len" => items().map(|items| Value::Int(items.len() as i64)),
            "min" | "max" => {
                let all = if arguments.positional.len() > 1 { Some(arguments.positional.clone()) } else { items() };
                let better = if name == "min" { "<" } else { ">" };
                all.and_then(|all| {
                    all.into_iter().reduce(|best, item| match compare(better, &item, &best) {
                        Some(true) => item,
                        Some(false) => best,
                        None => unknown(),
                    })
                })
            }
            "sum" => items().map(|items| items.iter().fold(Value::Int(0), |sum, item| binary("+", &sum, item))),
            "int" | "float" | "bool" | "abs" | "round" => match (name, number()) {
                ("int", Some(number)) => Some(Value::Int(number.float() as i64)),
                ("float", Some(number)) => Some(Value::Float(number.float())),
                ("bool", _) => first.and_then(Value::truth).map(Value::Bool),
                ("abs", Some(Number::Int(int))) => int.checked_abs().map(Value::Int),
                ("abs", Some(Number::Float(float))) => Some(Value::Float(float.abs())),
                ("round", Some(number)) => Some(Value::Int(number.float().round_ties_even() as i64)),
                ("int", None) => {
                    first.and_then(Value::as_text).and_then(|text| text.trim().parse().ok()).map(Value::Int)
                }
                _ => None,
            },
            "str" => first.and_then(shown).map(Value::text),
            "print" => Some(Value::None),
            "zip" => {
                let lists: Option<Vec<Vec<Value<'t>>>> = arguments.positional.iter().map(Value::items).collect();
                lists.map(|lists| {
                    let shortest = lists.iter().map(Vec::len).min().unwrap_or(0);
                    let row = |at: usize| Value::Tuple(lists.iter().map(|list| list[at].clone()).collect());
                    Value::list((0..shortest).map(row).collect())
                })
            }
            "enumerate" => items().map(|items| {
                let pairs = items.into_iter().enumerate();
                Value::list(pairs.map(|(at, item)| Value::Tuple([Value::Int(at as i64), item].into())).collect())
            }),
            "math.ceil" => number().map(|number| Value::Int(number.float().ceil() as i64)),
            "math.floor" => number().map(|number| Value::Int(number.float().floor() as i64)),
            "math.sqrt" => number().map(|number| Value::Float(number.float().sqrt())),
            "math.log2" => number().map(|number| Value::Float(number.float().log2())),
            "open" => first.and_then(Value::as_text).map(|path| Value::File(self.folder.join(path))),
            "os.path.realpath" | "os.path.abspath" | "pathlib.Path" | "Path" => first.cloned(),
            "os.path.dirname" => first.and_then(Value::as_text).map(|path| {
                let folder = PathBuf::from(path).parent().map(|folder| folder.to_string_lossy().into_owned());
                Value::text(folder.unwrap_or_default())
            }),
            "os.path.join" => {
                let parts: Option<PathBuf> = arguments.positional.iter().map(Value::as_text).collect();
                parts.map(|path| Value::text(path.to_string_lossy().into_owned()))
            }
            _ => None,
        };
        value.unwrap_or_else(unknown)
    }
}

/// `object.name(arguments)`.
fn method<'t>(object: &Value<'t>, name: &str, arguments: &Arguments<'t>) -> Value<'t> {
    let first = arguments.positional.first();
    let value = match (object, name) {
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
                super::interpret::insert(&mut entries.borrow_mut(), key, value);
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
    };
    value.unwrap_or_else(unknown)
}

fn range<'t>(from: i64, to: i64, step: i64) -> Option<Value<'t>> {
    let (distance, stride) =
        if step > 0 { (to.checked_sub(from)?, step) } else { (from.checked_sub(to)?, step.checked_neg()?) };
    let count = (distance.max(0) as u64).div_ceil(u64::try_from(stride).ok().filter(|&stride| stride > 0)?);
    let count = usize::try_from(count).ok().filter(|&count| count <= MOST_ITEMS)?;
    Some(Value::list((0..count as i64).map(|at| Value::Int(from + at * step)).collect()))
}

//! Calls and subscripts in a script that is read and never run.

use std::collections::HashMap;
use std::path::PathBuf;

use tree_sitter::Node;

use super::evaluate::{is_spread, named};
use super::interpret::{Flow, Interpreter};
use super::method::{is_reversed, method, sort};
use super::numpy::{self, Arguments};
use super::operators::{binary, compare, distinct, shown};
use super::value::{Closure, MOST_ITEMS, Number, Value};

/// A call of `tune_kernel`.
#[derive(Clone)]
pub struct TuneCall<'t> {
    pub node: Node<'t>,
    pub positional: Vec<Value<'t>>,
    pub named: Vec<(String, Value<'t>)>,
    /// The variables of the script at this call.
    pub globals: HashMap<String, Value<'t>>,
}

fn unknown<'t>() -> Value<'t> {
    Value::unknown("")
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
                _ if is_spread(argument) => {
                    let spread = self.eval(argument);
                    arguments.positional.extend(spread.items().unwrap_or_default());
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
        let function = match named(called)[..] {
            // `*f(x)`, of which the grammar makes a call of `*f`.
            [inner] if called.kind() == "list_splat" => self.eval(inner),
            _ => self.eval(called),
        };
        let arguments = self.arguments(node.child_by_field_name("arguments"));
        let result = match &function {
            Value::Name(name) if name.rsplit('.').next() == Some("tune_kernel") => {
                // A script may change its dictionary of parameters and call again.
                let positional = arguments.positional.iter().map(Value::snapshot).collect();
                let named = arguments.named.iter().map(|(name, value)| (name.clone(), value.snapshot())).collect();
                self.calls.push(TuneCall { node, positional, named, globals: self.globals.clone() });
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
            Value::Method(object, name) => method(object, name, &arguments).unwrap_or_else(|| {
                if matches!(**object, Value::List(_) | Value::Dict(_)) {
                    let text = self.source(node).lines().next().unwrap_or_default().to_owned();
                    self.note(node, format!("`{text}` is passed over: this method is not known here"));
                }
                unknown()
            }),
            Value::Function(function) => self.user(function, arguments),
            Value::Unknown(_) => function.clone(),
            _ => unknown(),
        };
        self.told(node, result)
    }

    /// Evaluates a function of the script with these arguments.
    fn user(&mut self, function: &Closure<'t>, arguments: Arguments<'t>) -> Value<'t> {
        let Some(body) = function.node.child_by_field_name("body") else { return unknown() };
        let variables = self.bind(function.node, arguments);
        self.push(function, variables);
        self.depth += 1;
        let value = if function.node.kind() == "lambda" {
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
        let items = || first.and_then(iterated);
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
                        "sorted" => sort(&mut items, is_reversed(arguments)),
                        "set" => items = distinct(items),
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
            "map" | "filter" => match (first, arguments.positional.get(1).and_then(Value::items)) {
                (Some(function), Some(items)) => {
                    let function = function.clone();
                    let mut found = Vec::new();
                    for item in items {
                        let given = Arguments { positional: vec![item.clone()], named: Vec::new() };
                        let result = match &function {
                            Value::Function(function) => self.user(function, given),
                            Value::Name(name) => self.builtin(name, &given),
                            Value::None => item.clone(),
                            _ => unknown(),
                        };
                        match (name, result.truth()) {
                            ("map", _) => found.push(result),
                            (_, Some(true)) => found.push(item),
                            (_, Some(false)) => {}
                            (_, None) => return unknown(),
                        }
                    }
                    Some(Value::list(found))
                }
                _ => None,
            },
            "itertools.product" => {
                let lists: Option<Vec<Vec<Value<'t>>>> = arguments.positional.iter().map(Value::items).collect();
                let lists = lists.filter(|_| arguments.named.is_empty());
                let count = |lists: &Vec<Vec<Value<'t>>>| {
                    lists.iter().try_fold(1usize, |count, list| count.checked_mul(list.len()))
                };
                lists.filter(|lists| count(lists).is_some_and(|count| count <= MOST_ITEMS)).map(|lists| {
                    let mut rows: Vec<Vec<Value<'t>>> = vec![Vec::new()];
                    for list in lists {
                        let with =
                            |row: &Vec<Value<'t>>, item: &Value<'t>| [&row[..], std::slice::from_ref(item)].concat();
                        rows = rows.iter().flat_map(|row| list.iter().map(|item| with(row, item))).collect();
                    }
                    Value::list(rows.into_iter().map(|row| Value::Tuple(row.into())).collect())
                })
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
                let lists: Option<Vec<Vec<Value<'t>>>> = arguments.positional.iter().map(iterated).collect();
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
            "pow" | "math.pow" => match &arguments.positional[..] {
                [base, exponent] => Some(binary("**", base, exponent)),
                _ => None,
            },
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

/// The elements of a list or the characters of a text.
fn iterated<'t>(value: &Value<'t>) -> Option<Vec<Value<'t>>> {
    match value {
        Value::Text(text) => Some(text.chars().map(|c| Value::text(c.to_string())).collect()),
        value => value.items(),
    }
}

fn range<'t>(from: i64, to: i64, step: i64) -> Option<Value<'t>> {
    let (distance, stride) =
        if step > 0 { (to.checked_sub(from)?, step) } else { (from.checked_sub(to)?, step.checked_neg()?) };
    let count = (distance.max(0) as u64).div_ceil(u64::try_from(stride).ok().filter(|&stride| stride > 0)?);
    let count = usize::try_from(count).ok().filter(|&count| count <= MOST_ITEMS)?;
    Some(Value::list((0..count as i64).map(|at| Value::Int(from + at * step)).collect()))
}

//! Expressions in a script that is read and never run.

use std::f64::consts::PI;
use std::rc::Rc;

use tree_sitter::Node;

use super::call::slice;
use super::interpret::Interpreter;
use super::operators::{binary, compare, distinct, insert};
use super::value::{MOST_ITEMS, Value};

/// Largest number of evaluated expressions.
const MOST_STEPS: usize = 5_000_000;
/// Largest depth of nested expressions and calls.
const MOST_DEPTH: usize = 200;

impl<'t> Interpreter<'t> {
    /// The value of an expression; [`Value::Unknown`] with the reason if the text does not determine it.
    pub fn eval(&mut self, node: Node<'t>) -> Value<'t> {
        self.steps += 1;
        if self.steps > MOST_STEPS || self.depth > MOST_DEPTH {
            return self.unknown(node, "computes too much to be read");
        }
        self.depth += 1;
        let value = self.eval_kind(node);
        self.depth -= 1;
        value
    }

    fn eval_kind(&mut self, node: Node<'t>) -> Value<'t> {
        let field = |name| node.child_by_field_name(name);
        match node.kind() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "none" => Value::None,
            "integer" => integer(self.source(node)).map_or_else(|| self.unknown(node, "is too large"), Value::Int),
            "float" => {
                let text = self.source(node).replace('_', "");
                text.parse().map_or_else(|_| self.unknown(node, "is no float"), Value::Float)
            }
            "string" => self.string(node),
            "concatenated_string" => {
                let parts: Vec<Value<'t>> = named(node).into_iter().map(|part| self.string(part)).collect();
                parts.into_iter().reduce(|left, right| binary("+", &left, &right)).unwrap_or_else(|| Value::text(""))
            }
            "identifier" => self.lookup(self.source(node)),
            "parenthesized_expression" => named(node).first().map_or(Value::None, |&inner| self.eval(inner)),
            "list" => {
                let items = self.items(node);
                Value::list(items)
            }
            "set" => {
                let items = self.items(node);
                Value::list(distinct(items))
            }
            "list_splat" => named(node).first().map_or(Value::None, |&inner| self.eval(inner)),
            "pair" => {
                let (Some(key), Some(value)) = (field("key"), field("value")) else {
                    return self.unknown(node, "is no pair of a key and a value");
                };
                Value::Tuple([self.eval(key), self.eval(value)].into())
            }
            "tuple" | "expression_list" => Value::Tuple(self.items(node).into()),
            "dictionary" => {
                let mut entries = Vec::new();
                for pair in named(node) {
                    if pair.kind() == "dictionary_splat" {
                        let spread = named(pair).first().map_or(Value::None, |&inner| self.eval(inner));
                        let Value::Dict(more) = spread else { return self.told(pair, spread) };
                        for (key, value) in more.borrow().iter() {
                            insert(&mut entries, key.clone(), value.clone());
                        }
                        continue;
                    }
                    match self.eval(pair) {
                        Value::Tuple(pair) if pair.len() == 2 => {
                            insert(&mut entries, pair[0].clone(), pair[1].clone());
                        }
                        other => return other,
                    }
                }
                Value::dict(entries)
            }
            "list_comprehension" | "generator_expression" => self.comprehension(node),
            "set_comprehension" => match self.comprehension(node) {
                Value::List(items) => Value::list(distinct(items.take())),
                other => other,
            },
            "dictionary_comprehension" => {
                let pairs = self.comprehension(node);
                let Value::List(pairs) = pairs else { return pairs };
                let mut entries = Vec::new();
                for pair in pairs.take() {
                    let Value::Tuple(pair) = pair else { return pair };
                    insert(&mut entries, pair[0].clone(), pair[1].clone());
                }
                Value::dict(entries)
            }
            "unary_operator" => {
                let (Some(operator), Some(argument)) = (field("operator"), field("argument")) else {
                    return self.unknown(node, "cannot be read");
                };
                let value = self.eval(argument);
                match self.source(operator) {
                    "-" => binary("-", &Value::Int(0), &value),
                    "+" => value,
                    _ => self.unknown(node, "has an operator that is not known"),
                }
            }
            "not_operator" => match field("argument").map(|argument| self.eval(argument)) {
                Some(value) => value.truth().map_or(value, |truth| Value::Bool(!truth)),
                None => self.unknown(node, "cannot be read"),
            },
            "boolean_operator" => {
                let (Some(left), Some(operator), Some(right)) = (field("left"), field("operator"), field("right"))
                else {
                    return self.unknown(node, "cannot be read");
                };
                let left = self.eval(left);
                match left.truth() {
                    None => left,
                    Some(truth) if truth == (self.source(operator) == "or") => left,
                    Some(_) => self.eval(right),
                }
            }
            "comparison_operator" => {
                let mut operands = named(node).into_iter();
                let Some(mut left) = operands.next().map(|first| self.eval(first)) else { return Value::None };
                let operators: Vec<&str> = unnamed(node).into_iter().map(|operator| self.source(operator)).collect();
                for (operand, operator) in operands.zip(operators) {
                    let right = self.eval(operand);
                    match compare(operator, &left, &right) {
                        Some(true) => left = right,
                        Some(false) => return Value::Bool(false),
                        None if matches!(left, Value::Unknown(_)) => return left,
                        None if matches!(right, Value::Unknown(_)) => return right,
                        None => return self.unknown(node, "compares values that only a run computes"),
                    }
                }
                Value::Bool(true)
            }
            "binary_operator" => {
                let (Some(left), Some(operator), Some(right)) = (field("left"), field("operator"), field("right"))
                else {
                    return self.unknown(node, "cannot be read");
                };
                let (left, right) = (self.eval(left), self.eval(right));
                let value = binary(self.source(operator), &left, &right);
                self.told(node, value)
            }
            "conditional_expression" => {
                let [value, condition, other] = named(node)[..] else { return self.unknown(node, "cannot be read") };
                let condition = self.eval(condition);
                match condition.truth() {
                    Some(true) => self.eval(value),
                    Some(false) => self.eval(other),
                    None => condition,
                }
            }
            "subscript" => {
                let Some(value) = field("value") else { return self.unknown(node, "cannot be read") };
                let value = self.eval(value);
                let Some(index) = field("subscript") else { return self.unknown(node, "cannot be read") };
                let result = if index.kind() == "slice" {
                    let parts = self.slice_parts(index);
                    slice(&value, parts)
                } else {
                    let index = self.eval(index);
                    super::method::item(&value, &index)
                };
                self.told(node, result)
            }
            "attribute" => {
                let (Some(object), Some(attribute)) = (field("object"), field("attribute")) else {
                    return self.unknown(node, "cannot be read");
                };
                let object = self.eval(object);
                let attribute = self.source(attribute);
                match (&object, attribute) {
                    (Value::Name(module), "pi") if matches!(&**module, "numpy" | "math") => Value::Float(PI),
                    (Value::Name(module), _) => Value::Name(format!("{module}.{attribute}").into()),
                    (Value::Array(array), "size") => Value::Int(array.dims.iter().product()),
                    (Value::Array(array), "shape") => {
                        Value::Tuple(array.dims.iter().map(|&size| Value::Int(size)).collect())
                    }
                    (Value::Array(array), "T") => {
                        let mut array = array.clone();
                        array.dims.reverse();
                        Value::Array(array)
                    }
                    (Value::Unknown(_), _) => object,
                    _ => Value::Method(Rc::new(object), attribute.into()),
                }
            }
            "call" => self.call(node),
            "lambda" => self.closure(node),
            _ => self.unknown(node, "is not understood"),
        }
    }

    /// The elements of a list or a tuple.
    pub fn items(&mut self, node: Node<'t>) -> Vec<Value<'t>> {
        let mut items = Vec::new();
        for element in named(node) {
            if is_spread(element) {
                let spread = self.eval(element).items();
                items.extend(spread.unwrap_or_else(|| vec![self.unknown(element, "is only known at run time")]));
            } else {
                items.push(self.eval(element));
            }
        }
        items
    }

    fn string(&mut self, node: Node<'t>) -> Value<'t> {
        let start = named(node).first().map_or("", |start| self.source(*start)).to_lowercase();
        let (raw, formatted) = (start.contains('r'), start.contains('f'));
        let mut text = String::new();
        for part in named(node) {
            match part.kind() {
                "string_content" => {
                    let content = if raw { self.source(part).to_owned() } else { self.unescaped(part) };
                    text += &if formatted { content.replace("{{", "{").replace("}}", "}") } else { content };
                }
                "interpolation" => {
                    let plain = part.child_by_field_name("format_specifier").is_none();
                    let value = part.child_by_field_name("expression").map(|expression| self.eval(expression));
                    match value {
                        Some(unknown @ Value::Unknown(_)) => return unknown,
                        Some(value) if plain => match super::operators::shown(&value) {
                            Some(shown) => text += &shown,
                            None => return self.unknown(part, "is only known at run time"),
                        },
                        _ => return self.unknown(part, "has a format that is not understood"),
                    }
                }
                _ => {}
            }
        }
        Value::text(text)
    }

    fn unescaped(&self, content: Node<'t>) -> String {
        let mut text = String::new();
        let mut at = content.start_byte();
        for escape in named(content).into_iter().filter(|part| part.kind() == "escape_sequence") {
            text += &self.text[at..escape.start_byte()];
            text += match self.source(escape) {
                "\\n" => "\n",
                "\\t" => "\t",
                "\\r" => "\r",
                "\\0" => "\0",
                "\\\n" => "",
                escape => &escape[1..],
            };
            at = escape.end_byte();
        }
        text + &self.text[at..content.end_byte()]
    }

    /// `[f(x) for x in items if c]`.
    fn comprehension(&mut self, node: Node<'t>) -> Value<'t> {
        let Some(body) = node.child_by_field_name("body") else { return self.unknown(node, "cannot be read") };
        let clauses: Vec<Node<'t>> = named(node).into_iter().skip(1).collect();
        let mut found = Vec::new();
        match self.generate(body, &clauses, &mut found) {
            Ok(()) => Value::list(found),
            Err(unknown) => unknown,
        }
    }

    fn generate(&mut self, body: Node<'t>, clauses: &[Node<'t>], found: &mut Vec<Value<'t>>) -> Result<(), Value<'t>> {
        let Some((clause, rest)) = clauses.split_first() else {
            if found.len() == MOST_ITEMS {
                return Err(self.unknown(body, "makes too many elements"));
            }
            let value = self.eval(body);
            found.push(value);
            return Ok(());
        };
        if clause.kind() == "if_clause" {
            let condition = named(*clause).first().map_or(Value::None, |&condition| self.eval(condition));
            return match condition.truth() {
                Some(true) => self.generate(body, rest, found),
                Some(false) => Ok(()),
                None => Err(condition),
            };
        }
        let (Some(left), Some(right)) = (clause.child_by_field_name("left"), clause.child_by_field_name("right"))
        else {
            return Err(self.unknown(*clause, "cannot be read"));
        };
        let items = self.eval(right);
        let Some(items) = items.items() else { return Err(self.told(right, items)) };
        for item in items {
            self.assign(left, item);
            self.generate(body, rest, found)?;
        }
        Ok(())
    }

    /// An unknown value with its place and reason.
    pub fn unknown(&self, node: Node<'t>, why: &str) -> Value<'t> {
        let line = node.start_position().row + 1;
        let text = self.source(node).lines().next().unwrap_or_default();
        let text =
            if text.len() > 60 { format!("{}…", text.chars().take(60).collect::<String>()) } else { text.into() };
        Value::unknown(format!("`{text}` (line {line}) {why}"))
    }

    /// The value; an unknown one without a place gets this place.
    pub fn told(&self, node: Node<'t>, value: Value<'t>) -> Value<'t> {
        match value {
            Value::Unknown(why) if why.is_empty() => self.unknown(node, "is only known when the script runs"),
            value => value,
        }
    }
}

/// Whether the elements of a value follow: `*x`. The grammar reads `*f(x)` as a call of `*f`.
pub fn is_spread(node: Node<'_>) -> bool {
    let inner = match node.kind() {
        "list_splat" => return true,
        "call" => "function",
        "subscript" => "value",
        "attribute" => "object",
        _ => return false,
    };
    node.child_by_field_name(inner).is_some_and(is_spread)
}

/// The named children of a node, without comments and `\` at the end of a line.
pub fn named(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).filter(|child| !matches!(child.kind(), "comment" | "line_continuation")).collect()
}

/// The unnamed children of a node: punctuation and operators.
pub fn unnamed(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.children(&mut cursor).filter(|child| !child.is_named()).collect()
}

fn integer(text: &str) -> Option<i64> {
    let text = text.replace('_', "").to_lowercase();
    match text.get(..2) {
        Some("0x") => i64::from_str_radix(&text[2..], 16).ok(),
        Some("0o") => i64::from_str_radix(&text[2..], 8).ok(),
        Some("0b") => i64::from_str_radix(&text[2..], 2).ok(),
        _ => text.parse().ok(),
    }
}

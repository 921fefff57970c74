//! A Python expression over tuning parameters as an expression of the table.

use tree_sitter::Node;

use super::evaluate::{named, unnamed};
use super::interpret::Interpreter;
use super::value::Value;

/// Meanings of the names in an expression.
#[derive(Clone, Copy)]
pub struct Names<'n> {
    /// The tuning parameters.
    pub parameters: &'n [String],
    /// Name of the dictionary of a `lambda`: `p["block_size_x"]` is `block_size_x`.
    pub dictionary: Option<&'n str>,
}

impl<'t> Interpreter<'t> {
    /// The expression in the syntax of the table, or the reason why the table has no equivalent.
    pub fn translate(&mut self, node: Node<'t>, names: Names<'_>) -> Result<String, String> {
        let inner = |this: &mut Self, node| this.translate(node, names);
        if let ("identifier", Some(meaning)) = (node.kind(), self.meanings.get(self.source(node))) {
            return Ok(meaning.clone());
        }
        if let Some(parameter) = self.parameter(node, names) {
            return Ok(parameter);
        }
        if !self.names_a_parameter(node, names) {
            let value = self.eval(node);
            return literal(&value).ok_or_else(|| match value {
                Value::Unknown(why) => why.to_string(),
                _ => format!("`{}` is no number", self.source(node)),
            });
        }
        let parts = named(node);
        match node.kind() {
            "parenthesized_expression" => Ok(format!("({})", inner(self, parts[0])?)),
            "not_operator" => Ok(format!("not {}", inner(self, parts[0])?)),
            "unary_operator" => {
                let operator = unnamed(node).first().map_or("-", |operator| self.source(*operator));
                Ok(format!("{operator}{}", inner(self, parts[0])?))
            }
            "conditional_expression" => {
                let [value, condition, other] = parts[..] else { return Err("it cannot be read".to_owned()) };
                let (value, condition) = (inner(self, value)?, inner(self, condition)?);
                Ok(format!("{value} if {condition} else {}", inner(self, other)?))
            }
            "binary_operator" | "boolean_operator" | "comparison_operator" => {
                let operators: Vec<&str> = unnamed(node).into_iter().map(|operator| self.source(operator)).collect();
                if let ([left, right], [operator @ ("in" | "not in")]) = (&parts[..], &operators[..])
                    && left.kind() == "tuple"
                {
                    return self.among(*left, *right, *operator == "not in", names);
                }
                let mut text = inner(self, parts[0])?;
                for (operator, part) in operators.into_iter().zip(&parts[1..]) {
                    let operator = match operator {
                        "is" => "==",
                        "is not" => "!=",
                        "@" | "<>" => return Err(format!("`{operator}` is no operator of the table")),
                        operator => operator,
                    };
                    text = format!("{text} {operator} {}", inner(self, *part)?);
                }
                Ok(text)
            }
            "list" | "tuple" | "set" => {
                let items: Result<Vec<String>, String> = parts.into_iter().map(|part| inner(self, part)).collect();
                Ok(format!("[{}]", items?.join(", ")))
            }
            "call" => self.translate_call(node, names),
            _ => Err(format!("`{}` has no counterpart in the table", self.source(node))),
        }
    }

    /// The translations of `f(x) for x in items` for known items.
    fn each(&mut self, comprehension: Node<'t>, names: Names<'_>) -> Result<Vec<String>, String> {
        let text = self.source(comprehension);
        let unread = || format!("`{text}` has no counterpart in the table");
        let body = comprehension.child_by_field_name("body").ok_or_else(unread)?;
        let [clause] = named(comprehension)[1..] else { return Err(unread()) };
        let (left, right) = (clause.child_by_field_name("left"), clause.child_by_field_name("right"));
        let (left, right) = left.zip(right).ok_or_else(unread)?;
        let items = self.eval(right).items().ok_or_else(unread)?;
        let mut parts = Vec::new();
        for item in items {
            self.assign(left, item);
            parts.push(grouped(self.translate(body, names)?));
        }
        Ok(parts)
    }

    /// `(a, b) in [(1, 2), (3, 4)]`.
    fn among(&mut self, left: Node<'t>, right: Node<'t>, is_not: bool, names: Names<'_>) -> Result<String, String> {
        let left: Result<Vec<String>, String> =
            named(left).into_iter().map(|part| self.translate(part, names).map(grouped)).collect();
        let (left, right) = (left?, self.eval(right));
        let no_list = || "it compares a tuple with what is no list of tuples".to_owned();
        let mut rows = Vec::new();
        for row in right.items().ok_or_else(no_list)? {
            let values: Vec<String> = row.items().ok_or_else(no_list)?.iter().filter_map(literal).collect();
            if values.len() == left.len() {
                let same: Vec<String> = left.iter().zip(values).map(|(a, b)| format!("{a} == {b}")).collect();
                rows.push(format!("({})", same.join(" and ")));
            }
        }
        let any = if rows.is_empty() { "false".to_owned() } else { rows.join(" or ") };
        Ok(if is_not { format!("not ({any})") } else { format!("({any})") })
    }

    fn translate_call(&mut self, node: Node<'t>, names: Names<'_>) -> Result<String, String> {
        let function = node.child_by_field_name("function").map_or("", |function| self.source(function));
        let arguments = match node.child_by_field_name("arguments") {
            // A generator that is the only argument takes the place of the list of arguments.
            Some(generator) if generator.kind() == "generator_expression" => vec![generator],
            list => list.map(named).unwrap_or_default(),
        };
        let short = function.rsplit('.').next().unwrap_or(function);
        match (short, &arguments[..]) {
            ("ceil" | "int" | "floor", [argument]) => {
                let mut divided = *argument;
                while divided.kind() == "parenthesized_expression" {
                    divided = named(divided)[0];
                }
                let operator = divided.child_by_field_name("operator").map(|operator| self.source(operator));
                if divided.kind() == "binary_operator" && operator == Some("/") {
                    let [left, right] = named(divided)[..] else { return Err("it cannot be read".to_owned()) };
                    let (left, right) = (self.translate(left, names)?, self.translate(right, names)?);
                    return Ok(match short {
                        "ceil" => format!("ceil_div({left}, {right})"),
                        _ => format!("({} // {})", grouped(left), grouped(right)),
                    });
                }
                if self.source(*argument).contains(['/', '.']) {
                    return Err(format!("`{}` rounds, which the table does only after a division", self.source(node)));
                }
                Ok(grouped(self.translate(*argument, names)?))
            }
            ("min" | "max" | "abs" | "sqrt" | "log2", arguments) => {
                let arguments: Result<Vec<String>, String> =
                    arguments.iter().map(|argument| self.translate(*argument, names)).collect();
                Ok(format!("{short}({})", arguments?.join(", ")))
            }
            ("bool" | "float", [argument]) => Ok(grouped(self.translate(*argument, names)?)),
            ("sum", [list]) if matches!(list.kind(), "list" | "tuple") => {
                let parts: Result<Vec<String>, String> =
                    named(*list).into_iter().map(|part| self.translate(part, names).map(grouped)).collect();
                Ok(format!("({})", parts?.join(" + ")))
            }
            ("all" | "any", [list]) => {
                let parts = match list.kind() {
                    "generator_expression" | "list_comprehension" => self.each(*list, names)?,
                    "list" | "tuple" | "set" => {
                        let parts = named(*list).into_iter().map(|part| self.translate(part, names).map(grouped));
                        parts.collect::<Result<_, _>>()?
                    }
                    _ => return Err(format!("`{}` has no counterpart in the table", self.source(node))),
                };
                let text = parts.join(if short == "all" { " and " } else { " or " });
                Ok(if parts.is_empty() { (short == "all").to_string() } else { format!("({text})") })
            }
            // Another function of the parameters.
            (_, [argument]) if names.dictionary == Some(self.source(*argument)) => {
                let called = node.child_by_field_name("function").map(|function| self.eval(function));
                match called {
                    Some(Value::Function(called)) => Ok(grouped(self.returned(&called, names.parameters)?)),
                    _ => Err(format!("`{function}` is no function of the table")),
                }
            }
            _ => Err(format!("`{function}` is no function of the table")),
        }
    }

    /// The parameter of a node: `block_size_x`, `p["block_size_x"]` or `p.block_size_x`.
    fn parameter(&self, node: Node<'t>, names: Names<'_>) -> Option<String> {
        let is_dictionary = |node: Option<Node<'t>>| {
            node.zip(names.dictionary).is_some_and(|(node, dictionary)| self.source(node) == dictionary)
        };
        let name = match node.kind() {
            "identifier" => self.source(node).to_owned(),
            "subscript" if is_dictionary(node.child_by_field_name("value")) => {
                let index = node.child_by_field_name("subscript")?;
                match index.kind() {
                    // `p[name]` in a loop over names.
                    "identifier" => self.lookup(self.source(index)).as_text()?.to_owned(),
                    _ => self.source(index).trim_matches(['"', '\'']).to_owned(),
                }
            }
            // `p.get("block_size_x", 1)`.
            "call" => {
                let function = node.child_by_field_name("function")?;
                let is_get = function.child_by_field_name("attribute").is_some_and(|name| self.source(name) == "get");
                if !is_get || !is_dictionary(function.child_by_field_name("object")) {
                    return None;
                }
                let key = *named(node.child_by_field_name("arguments")?).first()?;
                self.source(key).trim_matches(['"', '\'']).to_owned()
            }
            "attribute" if is_dictionary(node.child_by_field_name("object")) => {
                self.source(node.child_by_field_name("attribute")?).to_owned()
            }
            _ => return None,
        };
        names.parameters.contains(&name).then_some(name)
    }

    pub fn names_a_parameter(&self, node: Node<'t>, names: Names<'_>) -> bool {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            let is_dictionary = || names.dictionary == Some(self.source(node)) && is_used(node);
            let has_meaning = || node.kind() == "identifier" && self.meanings.contains_key(self.source(node));
            if self.parameter(node, names).is_some() || has_meaning() || is_dictionary() {
                return true;
            }
            open.extend(named(node));
        }
        false
    }
}

/// Whether a node is an argument of a call, or has a subscript.
fn is_used(node: Node<'_>) -> bool {
    let parent = node.parent().map_or("", |parent| parent.kind());
    node.kind() == "identifier" && matches!(parent, "argument_list" | "subscript")
}

/// An operand, in parentheses unless it is a single name or number.
pub fn grouped(text: String) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { text } else { format!("({text})") }
}

/// A value in the syntax of the table.
pub fn literal(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(bool) => bool.to_string(),
        Value::Text(text) if !text.contains(['\'', '\\']) => format!("'{text}'"),
        Value::List(_) | Value::Tuple(_) => {
            let items: Option<Vec<String>> = value.items()?.iter().map(literal).collect();
            format!("[{}]", items?.join(", "))
        }
        _ => value.number()?.to_string(),
    })
}

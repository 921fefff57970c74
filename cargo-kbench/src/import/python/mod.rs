//! A reader of Python: literals, loops and functions of tuning scripts are interpreted, and no code is run.

use std::path::Path;

use tree_sitter::{Node, Parser, Tree};

use self::evaluate::named;
use self::interpret::Interpreter;
use self::translate::Names;
use self::value::{Number, Value};
use super::ImportError;
use crate::expr::{self, Expr};

mod branches;
mod call;
mod changed;
mod evaluate;
mod function;
mod interpret;
mod method;
mod numpy;
mod operators;
mod script;
mod translate;
mod value;

pub use script::problems;

/// Parses a text; the error names the line.
fn parse(text: &str) -> Result<Tree, (usize, &'static str)> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_python::LANGUAGE.into()).expect("the grammar is of this version");
    let tree = parser.parse(text, None).ok_or((1, "it cannot be parsed"))?;
    match first_error(tree.root_node()) {
        Some(node) => Err((node.start_position().row + 1, "this is not Python 3")),
        None => Ok(tree),
    }
}

fn first_error(root: Node<'_>) -> Option<Node<'_>> {
    let mut open = vec![root];
    let mut first: Option<Node<'_>> = None;
    while let Some(node) = open.pop() {
        if (node.is_error() || node.is_missing()) && first.is_none_or(|first| node.start_byte() < first.start_byte()) {
            first = Some(node);
        }
        if node.has_error() {
            let mut cursor = node.walk();
            open.extend(node.children(&mut cursor));
        }
    }
    first
}

/// The expression of a text that contains nothing else.
fn only_expression(tree: &Tree) -> Option<Node<'_>> {
    match named(tree.root_node())[..] {
        [statement] if statement.kind() == "expression_statement" => match named(statement)[..] {
            [expression] => Some(expression),
            _ => None,
        },
        _ => None,
    }
}

/// A Python expression in a string, as an expression of the table over these names.
pub fn expression(text: &str, parameters: &[String]) -> Result<String, String> {
    let text = text.trim();
    let Ok(tree) = parse(text) else { return in_c(text, parameters) };
    let node = only_expression(&tree).ok_or("it is no expression of Python")?;
    let mut interpreter = Interpreter::new(text, Path::new(""));
    checked(interpreter.translate(node, Names { parameters, dictionary: None })?)
}

/// An expression with the operators `&&`, `||` and `!` of C, which the table has too; its `/` rounds, which that of the table does not.
fn in_c(text: &str, parameters: &[String]) -> Result<String, String> {
    let known = Expr::parse(text)
        .is_ok_and(|expr| expr.names().iter().all(|name| parameters.iter().any(|parameter| parameter == name)));
    if known && !text.contains('/') { Ok(text.to_owned()) } else { Err("it is no expression of Python".to_owned()) }
}

/// An expression of the table, or the reason why the table cannot have it.
fn checked(text: String) -> Result<String, String> {
    Expr::parse(&text).map(|_| text).map_err(|error| error.message)
}

/// The value of an expression in a string, in which names stand for lists of numbers.
fn value_of<R>(text: &str, lists: &[(String, Vec<i64>)], read: impl Fn(&Value<'_>) -> Option<R>) -> Result<R, String> {
    let text = text.trim();
    let tree = parse(text).map_err(|_| "it is no expression of Python".to_owned())?;
    let node = only_expression(&tree).ok_or("it is no expression of Python")?;
    let mut interpreter = Interpreter::new(text, Path::new(""));
    for (name, numbers) in lists {
        let list = Value::list(numbers.iter().copied().map(Value::Int).collect());
        interpreter.globals.insert(name.clone(), list);
    }
    let value = interpreter.eval(node);
    read(&value).ok_or_else(|| match value {
        Value::Unknown(why) => why.to_string(),
        _ => "it has no value that the table can have".to_owned(),
    })
}

/// The values of a parameter, such as `[2**i for i in range(5)]`.
pub fn values(text: &str) -> Result<Vec<expr::Value>, String> {
    value_of(text, &[], |value| value.items()?.iter().map(table_value).collect())
}

/// A size, such as `ProblemSize[0] * max(filter_width)`.
pub fn size(text: &str, lists: &[(String, Vec<i64>)]) -> Result<i64, String> {
    fn integer(value: &Value<'_>) -> Option<i64> {
        value.integer()
    }
    value_of(text, lists, integer)
}

/// A value as the value of a toggle.
fn table_value(value: &Value<'_>) -> Option<expr::Value> {
    Some(match value {
        Value::Bool(bool) => expr::Value::Bool(*bool),
        Value::Text(text) => expr::Value::Str(text.to_string()),
        _ => match value.number()? {
            Number::Int(int) => expr::Value::Int(int),
            Number::Float(float) => expr::Value::Float(float),
        },
    })
}

/// The calls of `tune_kernel` of a script; an error if the script cannot be read or has none.
fn read<'t>(text: &'t str, tree: &'t Tree, path: &Path) -> Result<Interpreter<'t>, ImportError> {
    let mut interpreter = Interpreter::new(text, path);
    let root = tree.root_node();
    interpreter.block(root);
    if interpreter.calls.is_empty() {
        // In a module that another script imports nothing calls the functions.
        for definition in named(root) {
            let calls =
                definition.kind() == "function_definition" && interpreter.source(definition).contains("tune_kernel(");
            if calls {
                interpreter.enter(definition);
            }
        }
    }
    if interpreter.calls.is_empty() {
        let line = text.lines().position(|line| {
            line.split('#').next().is_some_and(|code| code.contains("tune_kernel(") && !code.contains("def "))
        });
        return Err(line.map_or(ImportError::NoCall, |line| ImportError::Unreached(line + 1)));
    }
    Ok(interpreter)
}

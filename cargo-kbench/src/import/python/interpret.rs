//! Statements in a script that is read and never run: assignments, functions, and conditions and loops over known
//! values.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tree_sitter::Node;

use super::call::TuneCall;
use super::changed::{assigned, changed_lists};
use super::evaluate::named;
use super::numpy::Arguments;
use super::operators::{binary, insert, removed};
use super::value::{Array, Closure, Contents, Frame, Value};
use crate::import::Note;

/// State of the interpreter.
pub struct Interpreter<'t> {
    /// The script.
    pub text: &'t str,
    /// Folder for files that the script names.
    pub folder: PathBuf,
    pub globals: HashMap<String, Value<'t>>,
    /// The variables of the active functions, the innermost last: each with those of the functions around it.
    pub locals: Vec<Vec<Frame<'t>>>,
    /// Variables of a restriction that stand for expressions over the parameters.
    pub meanings: HashMap<String, String>,
    pub steps: usize,
    pub depth: usize,
    /// Calls of `tune_kernel`, in order.
    pub calls: Vec<TuneCall<'t>>,
    /// Notes on skipped items.
    pub notes: Vec<Note>,
}

/// End of a statement.
pub enum Flow<'t> {
    Next,
    Break,
    Continue,
    Return(Value<'t>),
}

impl<'t> Interpreter<'t> {
    pub fn new(text: &'t str, path: &Path) -> Self {
        let globals = [("__name__", "__main__".to_owned()), ("__file__", path.to_string_lossy().into_owned())];
        Self {
            text,
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            globals: globals.into_iter().map(|(name, text)| (name.to_owned(), Value::text(text))).collect(),
            locals: Vec::new(),
            meanings: HashMap::new(),
            steps: 0,
            depth: 0,
            calls: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The text of a node.
    pub fn source(&self, node: Node<'_>) -> &'t str {
        &self.text[node.byte_range()]
    }

    pub fn note(&mut self, node: Node<'_>, what: String) {
        let note = Note { place: format!("line {}", node.start_position().row + 1), what };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub fn lookup(&self, name: &str) -> Value<'t> {
        let mut frames = self.locals.last().into_iter().flatten().rev();
        let found = frames.find_map(|frame| frame.borrow().get(name).cloned());
        found.or_else(|| self.globals.get(name).cloned()).unwrap_or_else(|| Value::Name(name.into()))
    }

    fn set(&mut self, name: &str, value: Value<'t>) {
        let value = match value {
            Value::Array(mut array) => {
                array.name.get_or_insert_with(|| name.into());
                Value::Array(array)
            }
            value => value,
        };
        match self.locals.last().and_then(|frames| frames.last()) {
            Some(frame) => frame.borrow_mut().insert(name.to_owned(), value),
            None => self.globals.insert(name.to_owned(), value),
        };
    }

    /// A `def` or a `lambda` with the variables around it.
    pub fn closure(&self, node: Node<'t>) -> Value<'t> {
        Value::Function(Rc::new(Closure { node, frames: self.locals.last().cloned().unwrap_or_default() }))
    }

    /// Enters a function with these variables.
    pub fn push(&mut self, function: &Closure<'t>, variables: HashMap<String, Value<'t>>) {
        let mut frames = function.frames.clone();
        frames.push(Rc::new(RefCell::new(variables)));
        self.locals.push(frames);
    }

    /// Assigns a value to a name, to several names, or to an element.
    pub fn assign(&mut self, target: Node<'t>, value: Value<'t>) {
        match target.kind() {
            "identifier" => self.set(self.source(target), value),
            "pattern_list" | "tuple_pattern" | "list_pattern" => {
                let targets = named(target);
                match value.items() {
                    Some(items) if items.len() == targets.len() => {
                        targets.into_iter().zip(items).for_each(|(target, item)| self.assign(target, item));
                    }
                    _ => {
                        let value = self.unknown(target, "is assigned a value that only a run of the script computes");
                        for target in targets {
                            self.assign(target, value.clone());
                        }
                    }
                }
            }
            "subscript" => {
                let (Some(object), Some(index)) =
                    (target.child_by_field_name("value"), target.child_by_field_name("subscript"))
                else {
                    return;
                };
                let (variable, object, index) = (object, self.eval(object), self.eval(index));
                match object {
                    Value::Array(array) if variable.kind() == "identifier" => {
                        let array = Array { contents: Contents::Computed, values: None, ..array };
                        self.set(self.source(variable), Value::Array(array));
                    }
                    Value::Dict(entries) => insert(&mut entries.borrow_mut(), index, value),
                    Value::List(items) => {
                        let mut items = items.borrow_mut();
                        let at = index.integer().and_then(|at| usize::try_from(at).ok());
                        if let Some(place) = at.and_then(|at| items.get_mut(at)) {
                            *place = value;
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Interprets the statements of a block.
    pub fn block(&mut self, block: Node<'t>) -> Flow<'t> {
        for statement in named(block) {
            match self.statement(statement) {
                Flow::Next => {}
                flow => return flow,
            }
        }
        Flow::Next
    }

    fn statement(&mut self, node: Node<'t>) -> Flow<'t> {
        let field = |name| node.child_by_field_name(name);
        match node.kind() {
            "expression_statement" => named(node).into_iter().for_each(|inner| self.expression(inner)),
            "import_statement" | "import_from_statement" => self.import(node),
            "decorated_definition" => {
                if let Some(definition) = field("definition") {
                    return self.statement(definition);
                }
            }
            "function_definition" => {
                if let Some(name) = field("name") {
                    self.set(self.source(name), self.closure(node));
                }
            }
            "return_statement" => {
                let value = named(node).first().map_or(Value::None, |&value| self.eval(value));
                return Flow::Return(value);
            }
            "if_statement" => return self.condition(node),
            "for_statement" => return self.repeat(node),
            "with_statement" => {
                for item in named(node).first().map(|&clause| named(clause)).unwrap_or_default() {
                    let Some(value) = item.child_by_field_name("value") else { continue };
                    match (value.kind(), &named(value)[..]) {
                        ("as_pattern", [opened, target, ..]) => {
                            let opened = self.eval(*opened);
                            if let Some(target) = named(*target).first() {
                                self.assign(*target, opened);
                            }
                        }
                        _ => drop(self.eval(value)),
                    }
                }
                if let Some(body) = field("body") {
                    return self.block(body);
                }
            }
            "try_statement" => {
                if let Some(body) = field("body") {
                    return self.block(body);
                }
            }
            "while_statement" => return self.loop_while(node),
            "delete_statement" => named(node).into_iter().for_each(|target| self.delete(target)),
            "break_statement" => return Flow::Break,
            "continue_statement" => return Flow::Continue,
            _ => {}
        }
        Flow::Next
    }

    /// Interprets an assignment, or an expression whose value is not used.
    fn expression(&mut self, node: Node<'t>) {
        let (left, right) = (node.child_by_field_name("left"), node.child_by_field_name("right"));
        match (node.kind(), left, right) {
            ("assignment", Some(left), Some(right)) => {
                // `a = b = value`.
                if right.kind() == "assignment" {
                    self.expression(right);
                    let value = right.child_by_field_name("left").map_or(Value::None, |inner| self.eval(inner));
                    return self.assign(left, value);
                }
                let value = self.eval(right);
                self.assign(left, value);
            }
            ("augmented_assignment", Some(left), Some(right)) => {
                let operator = node.child_by_field_name("operator").map_or("", |operator| self.source(operator));
                let (before, more) = (self.eval(left), self.eval(right));
                if let (Value::List(items), "+=", Some(more)) = (&before, operator, more.items()) {
                    items.borrow_mut().extend(more);
                    return;
                }
                let value = binary(operator.trim_end_matches('='), &before, &more);
                let value = self.told(node, value);
                self.assign(left, value);
            }
            _ => drop(self.eval(node)),
        }
    }

    /// `del dictionary[key]`, `del list[index]`, `del a, b`.
    fn delete(&mut self, target: Node<'t>) {
        let (object, index) = (target.child_by_field_name("value"), target.child_by_field_name("subscript"));
        let (Some(object), Some(index)) = (object, index) else {
            return named(target).into_iter().for_each(|inner| self.delete(inner));
        };
        let (object, index) = (self.eval(object), self.eval(index));
        drop(removed(&object, &index));
    }

    fn import(&mut self, node: Node<'t>) {
        let module = node.child_by_field_name("module_name").map(|module| self.source(module));
        let mut cursor = node.walk();
        let names: Vec<Node<'t>> = node.children_by_field_name("name", &mut cursor).collect();
        for name in names {
            let (full, alias) = match (name.child_by_field_name("name"), name.child_by_field_name("alias")) {
                (Some(full), Some(alias)) => (self.source(full), Some(self.source(alias))),
                _ => (self.source(name), None),
            };
            match (module, alias) {
                (Some(module), alias) => {
                    let dotted = if module == "collections" { full.to_owned() } else { format!("{module}.{full}") };
                    self.set(alias.unwrap_or(full), Value::Name(dotted.into()));
                }
                (None, Some(alias)) => self.set(alias, Value::Name(full.into())),
                // `import a.b` binds `a`.
                (None, None) => {}
            }
        }
    }

    /// Interprets a function that nothing calls, with the defaults of its parameters.
    pub fn enter(&mut self, function: Node<'t>) {
        let Some(body) = function.child_by_field_name("body") else { return };
        let scope = self.bind(function, Arguments { positional: Vec::new(), named: Vec::new() });
        self.push(&Closure { node: function, frames: Vec::new() }, scope);
        self.block(body);
        self.locals.pop();
    }

    /// Makes every name unknown that a skipped statement assigns.
    pub fn forget(&mut self, node: Node<'t>) {
        for target in assigned(node) {
            let value = self.unknown(target, "is assigned where only a run tells whether");
            self.set(self.source(target), value);
        }
        for list in changed_lists(node) {
            if matches!(self.eval(list), Value::List(_)) {
                let value = self.unknown(list, "is changed where only a run tells whether");
                self.set(self.source(list), value);
            }
        }
    }

    /// The variables of a function with these arguments. An unknown argument leaves the default of its parameter.
    pub fn bind(&mut self, function: Node<'t>, arguments: Arguments<'t>) -> HashMap<String, Value<'t>> {
        let mut scope = HashMap::new();
        let mut positional = arguments.positional.into_iter();
        let mut keywords = arguments.named;
        for parameter in function.child_by_field_name("parameters").map(named).unwrap_or_default() {
            let name = match parameter.kind() {
                "identifier" => Some(parameter),
                "typed_parameter" => named(parameter).first().copied(),
                _ => parameter.child_by_field_name("name"),
            };
            let Some(name) = name.map(|name| self.source(name)) else { continue };
            let at = keywords.iter().position(|(keyword, _)| keyword == name);
            let given = at.map(|at| keywords.swap_remove(at).1).or_else(|| positional.next());
            let default = parameter.child_by_field_name("value");
            let value = match (given, default) {
                (Some(given @ Value::Unknown(_)), Some(default)) => {
                    let text = self.source(default);
                    self.note(parameter, format!("`{name}` is only known at run time; its default `{text}` is taken"));
                    let default = self.eval(default);
                    if matches!(default, Value::None) { given } else { default }
                }
                (Some(given), _) => given,
                (None, Some(default)) => self.eval(default),
                (None, None) => self.unknown(parameter, "is an argument that only a run of the script tells"),
            };
            scope.insert(name.to_owned(), value);
        }
        scope
    }
}

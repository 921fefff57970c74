//! Statements in a script that is read and never run: assignments, functions, and conditions and loops over known
//! values.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tree_sitter::Node;

use super::call::TuneCall;
use super::evaluate::named;
use super::numpy::Arguments;
use super::operators::binary;
use super::value::{Array, Contents, MOST_ITEMS, Value};
use crate::import::Note;

/// State of the interpreter.
pub struct Interpreter<'t> {
    /// The script.
    pub text: &'t str,
    /// Folder for files that the script names.
    pub folder: PathBuf,
    pub globals: HashMap<String, Value<'t>>,
    /// Variables of the active functions, the innermost last.
    pub locals: Vec<HashMap<String, Value<'t>>>,
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

/// Sets an entry of a dictionary.
pub fn insert<'t>(entries: &mut Vec<(Value<'t>, Value<'t>)>, key: Value<'t>, value: Value<'t>) {
    match entries.iter_mut().find(|(known, _)| known.equals(&key) == Some(true)) {
        Some(entry) => entry.1 = value,
        None => entries.push((key, value)),
    }
}

impl<'t> Interpreter<'t> {
    pub fn new(text: &'t str, path: &Path) -> Self {
        let globals = [("__name__", "__main__".to_owned()), ("__file__", path.to_string_lossy().into_owned())];
        Self {
            text,
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            globals: globals.into_iter().map(|(name, text)| (name.to_owned(), Value::text(text))).collect(),
            locals: Vec::new(),
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
        let found = self.locals.last().and_then(|scope| scope.get(name)).or_else(|| self.globals.get(name));
        found.cloned().unwrap_or_else(|| Value::Name(name.into()))
    }

    fn set(&mut self, name: &str, value: Value<'t>) {
        let value = match value {
            Value::Array(mut array) => {
                array.name.get_or_insert_with(|| name.into());
                Value::Array(array)
            }
            value => value,
        };
        self.locals.last_mut().unwrap_or(&mut self.globals).insert(name.to_owned(), value);
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
                        let array = Array { contents: Contents::Computed, ..array };
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
                    self.set(self.source(name), Value::Function(node));
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
            "while_statement" => {
                self.note(
                    node,
                    "a `while` loop is passed over: how often it runs is only known at run time".to_owned(),
                );
                self.forget(node);
            }
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

    fn condition(&mut self, node: Node<'t>) -> Flow<'t> {
        let mut branches = vec![(node.child_by_field_name("condition"), node.child_by_field_name("consequence"))];
        for clause in named(node) {
            match clause.kind() {
                "elif_clause" => {
                    branches.push((clause.child_by_field_name("condition"), clause.child_by_field_name("consequence")));
                }
                "else_clause" => branches.push((None, clause.child_by_field_name("body"))),
                _ => {}
            }
        }
        for (condition, body) in branches {
            let holds = match condition {
                None => Some(true),
                Some(condition) => self.eval(condition).truth(),
            };
            match (holds, body) {
                (Some(true), Some(body)) => return self.block(body),
                (Some(_), _) => {}
                (None, _) => {
                    // A function that only ends the script or prints has no effect on values.
                    if changes(node) {
                        let text = condition.map_or("", |condition| self.source(condition));
                        let what =
                            format!("`if {text}` depends on a value that only a run computes; its blocks are skipped");
                        self.note(node, what);
                        self.forget(node);
                    }
                    return Flow::Next;
                }
            }
        }
        Flow::Next
    }

    fn repeat(&mut self, node: Node<'t>) -> Flow<'t> {
        let field = |name| node.child_by_field_name(name);
        let (Some(left), Some(right), Some(body)) = (field("left"), field("right"), field("body")) else {
            return Flow::Next;
        };
        let Some(items) = self.eval(right).items().filter(|items| items.len() <= MOST_ITEMS) else {
            if changes(node) {
                self.note(node, "a loop over values that only a run computes is skipped".to_owned());
                self.forget(node);
            }
            return Flow::Next;
        };
        for item in items {
            self.assign(left, item);
            match self.block(body) {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                flow @ Flow::Return(_) => return flow,
            }
        }
        Flow::Next
    }

    /// Interprets a function that nothing calls, with the defaults of its parameters.
    pub fn enter(&mut self, function: Node<'t>) {
        let Some(body) = function.child_by_field_name("body") else { return };
        let scope = self.bind(function, Arguments { positional: Vec::new(), named: Vec::new() });
        self.locals.push(scope);
        self.block(body);
        self.locals.pop();
    }

    /// Makes every name unknown that a skipped statement assigns.
    fn forget(&mut self, node: Node<'t>) {
        for target in assigned(node) {
            let value = self.unknown(target, "is assigned where only a run tells whether");
            self.set(self.source(target), value);
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

/// The names that a statement assigns.
fn assigned(node: Node<'_>) -> Vec<Node<'_>> {
    let mut found = Vec::new();
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        if matches!(node.kind(), "assignment" | "augmented_assignment" | "for_statement")
            && let Some(left) = node.child_by_field_name("left")
        {
            match left.kind() {
                "identifier" => found.push(left),
                _ => found.extend(
                    named(left).into_iter().filter(|name| name.kind() == "identifier" && left.kind() != "subscript"),
                ),
            }
        }
        if node.kind() != "function_definition" {
            open.extend(named(node));
        }
    }
    found
}

/// Whether a statement may change a variable, by an assignment or a method call.
fn changes(node: Node<'_>) -> bool {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        let is_method = node.kind() == "call"
            && node.child_by_field_name("function").is_some_and(|function| function.kind() == "attribute");
        if is_method || matches!(node.kind(), "assignment" | "augmented_assignment" | "return_statement") {
            return true;
        }
        open.extend(named(node));
    }
    false
}

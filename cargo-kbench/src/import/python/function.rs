//! Functions of tuning parameters, `lambda` and `def`, as expressions of the table: statements that decide and return.

use std::collections::HashMap;

use tree_sitter::Node;

use super::evaluate::named;
use super::interpret::Interpreter;
use super::translate::{Names, grouped, literal};
use super::value::Closure;

/// Largest depth of functions that call each other.
const MOST_FUNCTIONS: usize = 20;

impl<'t> Interpreter<'t> {
    /// The value of a function of the parameters as one expression.
    pub fn returned(&mut self, function: &Closure<'t>, parameters: &[String]) -> Result<String, String> {
        self.within(function, |this| {
            let names = this.names(function.node, parameters);
            this.decided(&body(function.node)?, names)
        })
    }

    /// Reads a function of the parameters, among the variables around it and the defaults of its own.
    fn within<R>(
        &mut self,
        function: &Closure<'t>,
        read: impl FnOnce(&mut Self) -> Result<R, String>,
    ) -> Result<R, String> {
        if self.locals.len() > MOST_FUNCTIONS {
            return Err("it calls itself".to_owned());
        }
        self.push(function, HashMap::new());
        let parameters = function.node.child_by_field_name("parameters").map(named).unwrap_or_default();
        for parameter in parameters {
            if let (Some(name), Some(value)) =
                (parameter.child_by_field_name("name"), parameter.child_by_field_name("value"))
            {
                let value = self.eval(value);
                self.assign(name, value);
            }
        }
        let meanings = std::mem::take(&mut self.meanings);
        let result = read(self);
        self.meanings = meanings;
        self.locals.pop();
        result
    }

    /// The conditions that must all hold where a function of the parameters returns true: one for each
    /// `if …: return False` at its beginning, and the rest.
    pub fn conditions(&mut self, function: &Closure<'t>, parameters: &[String]) -> Result<Vec<String>, String> {
        self.within(function, |this| {
            let names = this.names(function.node, parameters);
            let mut conditions = Vec::new();
            let mut statements = &body(function.node)?[..];
            while let [first, rest @ ..] = statements {
                if !this.means(*first, names)? && !this.chooses(*first, names)? {
                    let Some(excluded) = this.excluded(*first, names)? else { break };
                    conditions.push(excluded);
                }
                statements = rest;
            }
            let rest = this.decided(statements, names)?;
            if rest != "true" || conditions.is_empty() {
                conditions.push(rest);
            }
            Ok(conditions)
        })
    }

    /// Reads `name = value` and `a, b = values`: the names then stand for the expressions. False for another statement.
    fn means(&mut self, statement: Node<'t>, names: Names<'_>) -> Result<bool, String> {
        let [assignment] = named(statement)[..] else { return Ok(false) };
        let (left, right) = (assignment.child_by_field_name("left"), assignment.child_by_field_name("right"));
        let ("expression_statement", "assignment", Some(left), Some(right)) =
            (statement.kind(), assignment.kind(), left, right)
        else {
            return Ok(false);
        };
        let pairs = match (left.kind(), right.kind()) {
            ("identifier", _) => vec![(left, right)],
            ("pattern_list" | "tuple_pattern", "expression_list" | "tuple") => {
                let (left, right) = (named(left), named(right));
                if left.len() != right.len() || left.iter().any(|name| name.kind() != "identifier") {
                    return Ok(false);
                }
                left.into_iter().zip(right).collect()
            }
            _ => return Ok(false),
        };
        let mut meanings = Vec::new();
        for (name, value) in pairs {
            let meaning = if self.names_a_parameter(value, names) {
                Some(grouped(self.translate(value, names)?))
            } else {
                let value = self.eval(value);
                self.assign(name, value);
                None
            };
            meanings.push((self.source(name).to_owned(), meaning));
        }
        for (name, meaning) in meanings {
            match meaning {
                Some(text) => drop(self.meanings.insert(name, text)),
                None => drop(self.meanings.remove(&name)),
            }
        }
        Ok(true)
    }

    /// The condition of a variant that `if condition: return False` does not exclude; `None` for another statement.
    fn excluded(&mut self, statement: Node<'t>, names: Names<'_>) -> Result<Option<String>, String> {
        let (true, None) = (statement.kind() == "if_statement", statement.child_by_field_name("alternative")) else {
            return Ok(None);
        };
        let (condition, then) = parts(statement)?;
        match then[..] {
            [only] if only.kind() == "return_statement" && self.decided(&then, names)? == "false" => {
                Ok(Some(format!("not ({})", self.translate(condition, names)?)))
            }
            _ => Ok(None),
        }
    }

    /// Reads `if condition: name = value` without `return`: the name then stands for a choice. False for another statement.
    fn chooses(&mut self, statement: Node<'t>, names: Names<'_>) -> Result<bool, String> {
        let (true, None) = (statement.kind() == "if_statement", statement.child_by_field_name("alternative")) else {
            return Ok(false);
        };
        let (condition, then) = parts(statement)?;
        let mut assigned = Vec::new();
        for statement in then {
            let [assignment] = named(statement)[..] else { return Ok(false) };
            let (left, right) = (assignment.child_by_field_name("left"), assignment.child_by_field_name("right"));
            match (assignment.kind(), left, right) {
                ("assignment", Some(left), Some(right)) if left.kind() == "identifier" => assigned.push((left, right)),
                _ => return Ok(false),
            }
        }
        let condition = self.translate(condition, names)?;
        for (name, value) in assigned {
            let name = self.source(name);
            let before = match self.meanings.get(name) {
                Some(meaning) => meaning.clone(),
                None => literal(&self.lookup(name)).ok_or_else(|| format!("`{name}` has no value before"))?,
            };
            let value = self.translate(value, names)?;
            self.meanings.insert(name.to_owned(), grouped(chosen(&value, &condition, &before)));
        }
        Ok(true)
    }

    /// The value that statements return.
    fn decided(&mut self, statements: &[Node<'t>], names: Names<'_>) -> Result<String, String> {
        let [first, rest @ ..] = statements else { return Err("it may end without a `return`".to_owned()) };
        if self.means(*first, names)? || self.chooses(*first, names)? {
            return self.decided(rest, names);
        }
        match first.kind() {
            "return_statement" => {
                let value = named(*first).first().copied().ok_or("it may return nothing")?;
                self.translate(value, names)
            }
            "if_statement" => {
                let mut cursor = first.walk();
                let alternatives: Vec<Node<'t>> = first.children_by_field_name("alternative", &mut cursor).collect();
                self.branch(*first, &alternatives, rest, names)
            }
            // The body of a `lambda`.
            kind if !kind.ends_with("_statement") && !kind.ends_with("_definition") => self.translate(*first, names),
            _ => {
                Err(format!("`{}` neither decides nor returns", self.source(*first).lines().next().unwrap_or_default()))
            }
        }
    }

    /// The value of an `if` or `elif`, of the clauses after it, and of the statements after them.
    fn branch(
        &mut self,
        clause: Node<'t>,
        alternatives: &[Node<'t>],
        rest: &[Node<'t>],
        names: Names<'_>,
    ) -> Result<String, String> {
        let (condition, then) = parts(clause)?;
        let condition = self.translate(condition, names)?;
        let meanings = self.meanings.clone();
        let then = self.decided(&then, names)?;
        self.meanings = meanings;
        let other = match alternatives {
            [] => self.decided(rest, names)?,
            [elif, more @ ..] if elif.kind() == "elif_clause" => self.branch(*elif, more, rest, names)?,
            [other, ..] => {
                let block = other.child_by_field_name("body").ok_or("it cannot be read")?;
                self.decided(&named(block), names)?
            }
        };
        Ok(chosen(&then, &condition, &other))
    }

    /// The meanings of names in a function: of its parameters, or of its dictionary of parameters.
    fn names<'n>(&self, function: Node<'t>, parameters: &'n [String]) -> Names<'n>
    where
        't: 'n,
    {
        let own = function.child_by_field_name("parameters").map(named).unwrap_or_default();
        let without_default = |node: &&Node<'t>| node.child_by_field_name("value").is_none();
        let dictionary = match own.iter().filter(without_default).copied().collect::<Vec<_>>()[..] {
            [one] if !parameters.iter().any(|name| name == self.source(one)) => Some(self.source(one)),
            _ => None,
        };
        Names { parameters, dictionary }
    }
}

/// One of two values by a condition.
fn chosen(then: &str, condition: &str, other: &str) -> String {
    match (then, other) {
        ("false", "true") => format!("not ({condition})"),
        ("false", _) => format!("not ({condition}) and ({other})"),
        ("true", "false") => format!("({condition})"),
        ("true", _) => format!("({condition}) or ({other})"),
        _ => format!("({then}) if ({condition}) else ({other})"),
    }
}

/// The statements of a function without its documentation; of a `lambda` its expression.
fn body(function: Node<'_>) -> Result<Vec<Node<'_>>, String> {
    let body = function.child_by_field_name("body").ok_or("it cannot be read")?;
    if function.kind() != "function_definition" {
        return Ok(vec![body]);
    }
    let is_text = |node: &Node<'_>| named(*node).first().is_some_and(|inner| inner.kind() == "string");
    Ok(named(body).into_iter().filter(|node| node.kind() != "expression_statement" || !is_text(node)).collect())
}

/// The condition of an `if` or `elif` and the statements where it holds.
fn parts(clause: Node<'_>) -> Result<(Node<'_>, Vec<Node<'_>>), String> {
    let field = |name| clause.child_by_field_name(name).ok_or("it cannot be read");
    Ok((field("condition")?, named(field("consequence")?)))
}

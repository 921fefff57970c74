//! Functions of tuning parameters, `lambda` and `def`, as expressions of the table: statements that decide and return.

use tree_sitter::Node;

use super::evaluate::named;
use super::interpret::Interpreter;
use super::translate::Names;

impl<'t> Interpreter<'t> {
    /// The value of a function of the parameters as one expression.
    pub fn returned(&mut self, function: Node<'t>, parameters: &[String]) -> Result<String, String> {
        let names = self.names(function, parameters);
        self.decided(&body(function)?, names)
    }

    /// The conditions that must all hold where a function of the parameters returns true: one for each
    /// `if …: return False` at its beginning, and the rest.
    pub fn conditions(&mut self, function: Node<'t>, parameters: &[String]) -> Result<Vec<String>, String> {
        let names = self.names(function, parameters);
        let mut conditions = Vec::new();
        let mut statements = &body(function)?[..];
        while let [first, rest @ ..] = statements
            && let Some(excluded) = self.excluded(*first, names)?
        {
            conditions.push(excluded);
            statements = rest;
        }
        let rest = self.decided(statements, names)?;
        if rest != "true" || conditions.is_empty() {
            conditions.push(rest);
        }
        Ok(conditions)
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

    /// The value that statements return.
    fn decided(&mut self, statements: &[Node<'t>], names: Names<'_>) -> Result<String, String> {
        let [first, rest @ ..] = statements else { return Err("it may end without a `return`".to_owned()) };
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
        let (condition, then) = (self.translate(condition, names)?, self.decided(&then, names)?);
        let other = match alternatives {
            [] => self.decided(rest, names)?,
            [elif, more @ ..] if elif.kind() == "elif_clause" => self.branch(*elif, more, rest, names)?,
            [other, ..] => {
                let block = other.child_by_field_name("body").ok_or("it cannot be read")?;
                self.decided(&named(block), names)?
            }
        };
        Ok(match (&*then, &*other) {
            ("false", "true") => format!("not ({condition})"),
            ("false", _) => format!("not ({condition}) and ({other})"),
            ("true", "false") => format!("({condition})"),
            ("true", _) => format!("({condition}) or ({other})"),
            _ => format!("({then}) if ({condition}) else ({other})"),
        })
    }

    /// The meanings of names in a function: of its parameters, or of its dictionary of parameters.
    fn names<'n>(&self, function: Node<'t>, parameters: &'n [String]) -> Names<'n>
    where
        't: 'n,
    {
        let own = function.child_by_field_name("parameters").map(named).unwrap_or_default();
        let dictionary = match own[..] {
            [one] if !parameters.iter().any(|name| name == self.source(one)) => Some(self.source(one)),
            _ => None,
        };
        Names { parameters, dictionary }
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

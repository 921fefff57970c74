//! Conditions and loops over known values.

use tree_sitter::Node;

use super::changed::changes;
use super::evaluate::named;
use super::interpret::{Flow, Interpreter};
use super::value::MOST_ITEMS;

/// Largest number of rounds of a `while` loop.
const MOST_ROUNDS: usize = 10_000;

impl<'t> Interpreter<'t> {
    /// A `while` loop, as long as the text tells its condition.
    pub fn loop_while(&mut self, node: Node<'t>) -> Flow<'t> {
        let (Some(condition), Some(body)) = (node.child_by_field_name("condition"), node.child_by_field_name("body"))
        else {
            return Flow::Next;
        };
        for _ in 0..MOST_ROUNDS {
            match self.eval(condition).truth() {
                Some(true) => {}
                Some(false) => return Flow::Next,
                None => break,
            }
            match self.block(body) {
                Flow::Next | Flow::Continue => {}
                Flow::Break => return Flow::Next,
                flow @ Flow::Return(_) => return flow,
            }
        }
        self.note(node, "a `while` loop is passed over: how often it runs is only known at run time".to_owned());
        self.forget(node);
        Flow::Next
    }

    pub fn condition(&mut self, node: Node<'t>) -> Flow<'t> {
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

    pub fn repeat(&mut self, node: Node<'t>) -> Flow<'t> {
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
}

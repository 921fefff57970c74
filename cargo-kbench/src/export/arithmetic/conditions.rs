//! Conditions, as a person would write them.

use super::{Kind, Term, Translation, bracketed};
use crate::expr::graph::{Binary, Comparison, Graph, Node, NodeId, Unary};

impl Translation<'_> {
    pub(super) fn condition_of(
        &mut self,
        graph: &Graph,
        id: NodeId,
        names: &[Option<String>],
    ) -> Result<String, &'static str> {
        Ok(Self::condition(&self.node(graph, id, names)?))
    }

    /// A condition as a person writes it before two values: without `!`. The flag tells that it is the opposite.
    pub(super) fn test(
        &mut self,
        graph: &Graph,
        id: NodeId,
        names: &[Option<String>],
    ) -> Result<(String, bool), &'static str> {
        match graph.nodes[id as usize] {
            Node::Unary(Unary::Not, a) => {
                let (text, is_negated) = self.test(graph, a, names)?;
                Ok((text, !is_negated))
            }
            Node::Binary(Binary::Compare(Comparison::NotEqual), ..) => Ok((self.negation_of(graph, id, names)?, true)),
            _ => {
                let term = self.node(graph, id, names)?;
                Ok(match term.kind {
                    Kind::Bool => (term.text, false),
                    Kind::Int => (format!("{} == 0", bracketed(&term)), true),
                    Kind::Real => (format!("{} == 0.0", bracketed(&term)), true),
                })
            }
        }
    }

    /// The opposite of a condition, with `!` only where no operator says it. No number is NaN.
    pub(super) fn negation_of(
        &mut self,
        graph: &Graph,
        id: NodeId,
        names: &[Option<String>],
    ) -> Result<String, &'static str> {
        Ok(match graph.nodes[id as usize] {
            Node::Unary(Unary::Not, a) => self.condition_of(graph, a, names)?,
            Node::Binary(Binary::Compare(comparison), a, b) => {
                let (a, b) = (self.node(graph, a, names)?, self.node(graph, b, names)?);
                let opposite = match comparison {
                    Comparison::Equal => Comparison::NotEqual,
                    Comparison::NotEqual => Comparison::Equal,
                    Comparison::Less => Comparison::GreaterEqual,
                    Comparison::LessEqual => Comparison::Greater,
                    Comparison::Greater => Comparison::LessEqual,
                    Comparison::GreaterEqual => Comparison::Less,
                };
                self.comparison(opposite, &a, &b)
            }
            Node::Binary(operator @ (Binary::And | Binary::Or), a, b)
                if truth(graph, a).or(truth(graph, b)).is_none() =>
            {
                let (a, b) = (self.negation_of(graph, a, names)?, self.negation_of(graph, b, names)?);
                let [and, or, _] = self.dialect.logic();
                format!("({a}) {} ({b})", if operator == Binary::And { or } else { and })
            }
            _ => {
                let term = self.node(graph, id, names)?;
                match term.kind {
                    Kind::Bool => format!("{}({})", self.dialect.logic()[2], term.text),
                    Kind::Int => format!("{} == 0", bracketed(&term)),
                    Kind::Real => format!("{} == 0.0", bracketed(&term)),
                }
            }
        })
    }

    pub(super) fn comparison(&mut self, comparison: Comparison, a: &Term, b: &Term) -> String {
        let operator = match comparison {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => ">=",
        };
        if a.kind != Kind::Real && b.kind != Kind::Real {
            let (a, b) = (self.as_int(a), self.as_int(b));
            return format!("{} {operator} {}", bracketed(&a), bracketed(&b));
        }
        match comparison {
            Comparison::Equal | Comparison::NotEqual => {
                let arguments = [self.real(a), self.real(b)];
                let same = self.call("same", &arguments, false);
                let not = if comparison == Comparison::Equal { "" } else { self.dialect.logic()[2] };
                format!("{not}{same}")
            }
            _ => format!("{} {operator} {}", self.operand(a), self.operand(b)),
        }
    }
}

/// The truth value of a constant.
pub(super) fn truth(graph: &Graph, id: NodeId) -> Option<bool> {
    match graph.nodes[id as usize] {
        Node::Constant(scalar) => scalar.truth(),
        _ => None,
    }
}

//! Constraints taken apart into what can be decided by itself.

use crate::expr::graph::{Binary, Graph, Node, NodeId, Scalar, Unary};

/// One of the parts that must all hold, as alternatives: the first that is true decides, one without a value fails.
/// Most have only one.
#[derive(Debug, Clone)]
pub(super) struct Conjunct {
    pub(super) alternatives: Vec<NodeId>,
    /// All nodes below, those below before those above.
    pub(super) nodes: Vec<NodeId>,
    /// The toggles that it is about, ascending.
    pub(super) toggles: Vec<u32>,
}

impl Conjunct {
    /// Splits a constraint at its outermost `and`s. A part that always holds is left out.
    pub(super) fn split(graph: &mut Graph, root: NodeId) -> Vec<Self> {
        let mut conjuncts = Vec::new();
        let mut parts = vec![(root, false)];
        while let Some((id, negated)) = parts.pop() {
            match (graph.nodes[id as usize], negated) {
                (Node::Unary(Unary::Not, a), _) => parts.push((a, !negated)),
                (Node::Binary(Binary::And, a, b), false) | (Node::Binary(Binary::Or, a, b), true) => {
                    parts.extend([(b, negated), (a, negated)]);
                }
                _ => conjuncts.extend(Self::of(graph, id, negated)),
            }
        }
        conjuncts
    }

    fn of(graph: &mut Graph, root: NodeId, negated: bool) -> Option<Self> {
        let mut alternatives = Vec::new();
        let mut parts = vec![(root, negated)];
        while let Some((id, negated)) = parts.pop() {
            match (graph.nodes[id as usize], negated) {
                (Node::Unary(Unary::Not, a), _) => parts.push((a, !negated)),
                (Node::Binary(Binary::Or, a, b), false) | (Node::Binary(Binary::And, a, b), true) => {
                    parts.extend([(b, negated), (a, negated)]);
                }
                (_, true) => alternatives.push(graph.add(Node::Unary(Unary::Not, id))),
                (_, false) => alternatives.push(id),
            }
        }
        // What follows an alternative that decides is never looked at; one that is false decides nothing.
        let truth = |id: &NodeId| match graph.nodes[*id as usize] {
            Node::Constant(scalar) => Some(scalar.truth()),
            _ => None,
        };
        alternatives.retain(|id| truth(id) != Some(Some(false)));
        if let Some(decides) = alternatives.iter().position(|id| truth(id).is_some()) {
            alternatives.truncate(decides + 1);
        }
        if alternatives.first().is_some_and(|id| truth(id) == Some(Some(true))) {
            return None;
        }
        let nodes = below(graph, &alternatives);
        let mut toggles: Vec<u32> = nodes
            .iter()
            .filter_map(|&id| match graph.nodes[id as usize] {
                Node::Variable(toggle) => Some(toggle),
                _ => None,
            })
            .collect();
        toggles.sort_unstable();
        Some(Self { alternatives, nodes, toggles })
    }

    /// Whether it holds where `value` gives the toggles theirs.
    pub(super) fn holds(&self, graph: &Graph, value: impl Fn(u32) -> Scalar) -> bool {
        let mut values: Vec<Scalar> = Vec::with_capacity(self.nodes.len());
        let at = |id: NodeId| self.nodes.binary_search(&id).expect("a node comes after those below it");
        for &id in &self.nodes {
            values.push(match graph.nodes[id as usize] {
                Node::Constant(scalar) => scalar,
                Node::Variable(toggle) => value(toggle),
                Node::Unary(operator, a) => operator.apply(values[at(a)]),
                Node::Binary(operator, a, b) => operator.apply(values[at(a)], values[at(b)]),
                Node::Select(condition, a, b) => values[at(condition)].select(values[at(a)], values[at(b)]),
            });
        }
        let decides = self.alternatives.iter().map(|&id| values[at(id)].truth()).find(|truth| *truth != Some(false));
        decides == Some(Some(true))
    }
}

/// These nodes and all below them, ascending.
fn below(graph: &Graph, roots: &[NodeId]) -> Vec<NodeId> {
    let mut nodes = roots.to_vec();
    let mut at = 0;
    let mut seen: std::collections::HashSet<NodeId> = nodes.iter().copied().collect();
    while let Some(&id) = nodes.get(at) {
        nodes.extend(graph.nodes[id as usize].children().filter(|child| seen.insert(*child)));
        at += 1;
    }
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

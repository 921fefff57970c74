//! Splits constraints into parts that can be decided separately.

use crate::expr::graph::{Binary, Graph, Node, NodeId, Scalar, Unary};

/// A part of a constraint, as alternatives: the first true alternative makes it true, an alternative without a value
/// makes it false. Most conjuncts have one alternative.
#[derive(Debug, Clone)]
pub(super) struct Conjunct {
    pub(super) alternatives: Vec<NodeId>,
    /// All nodes of the conjunct; operands come before the nodes that use them.
    pub(super) nodes: Vec<NodeId>,
    /// Toggles of the conjunct, ascending.
    pub(super) toggles: Vec<u32>,
}

impl Conjunct {
    /// Splits a constraint at its outermost `and`s. Parts that are always true are left out.
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
        // An alternative after a true one is never evaluated; a false one decides nothing.
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

    /// Whether the conjunct is true; `value` gives the values of toggles.
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

/// These nodes and all their operands, ascending.
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

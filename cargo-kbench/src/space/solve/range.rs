//! Bounds of comparisons by the ranges of toggles that are not bound yet: `A * B * C <= 1024` is false once A and B are
//! bound, if the product with the smallest C is too large.
//!
//! Bounds apply to sums, differences and products of integers. An exact result beyond `i64` is an overflow, which
//! violates the constraint, so that ranges may be cut at the limits of `i64`.

use crate::expr::graph::{Arithmetic, Binary, Comparison, Graph, Node, NodeId, Scalar};

/// Registers of the ends of a range; a register without an integer means that the end is unknown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends(pub(super) usize, pub(super) usize);

#[derive(Debug)]
pub(super) enum Range {
    Operation(Arithmetic, Ends, Ends, Ends),
    /// Rejects if the comparison cannot be true.
    Possible(Comparison, Ends, Ends),
}

/// Whether a node is a comparison of integers whose nodes that are not `known` are sums, differences and products.
pub(super) fn applies(
    graph: &Graph,
    root: NodeId,
    nodes: &[NodeId],
    known: impl Fn(NodeId) -> bool,
    integer: impl Fn(u32) -> bool,
) -> bool {
    let compares =
        |node| matches!(node, Node::Binary(Binary::Compare(operator), _, _) if operator != Comparison::NotEqual);
    nodes.iter().all(|&id| match graph.nodes[id as usize] {
        _ if known(id) => true,
        Node::Variable(toggle) => integer(toggle),
        Node::Binary(Binary::Arithmetic(Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Multiply), _, _) => true,
        node => id == root && compares(node),
    })
}

impl Range {
    /// Returns `false` if the comparison cannot be true.
    #[inline]
    pub(super) fn run(&self, registers: &mut [Scalar]) -> bool {
        let of = |ends: &Ends| match (registers[ends.0], registers[ends.1]) {
            (Scalar::Int(least), Scalar::Int(most)) => Some((least, most)),
            _ => None,
        };
        match self {
            Range::Operation(operator, a, b, out) => {
                let range = of(a).zip(of(b)).map(|(a, b)| operate(*operator, a, b));
                let end = |end: Option<i64>| end.map_or(Scalar::Error, Scalar::Int);
                registers[out.0] = end(range.map(|(least, _)| least));
                registers[out.1] = end(range.map(|(_, most)| most));
                true
            }
            Range::Possible(operator, a, b) => of(a).zip(of(b)).is_none_or(|(a, b)| match operator {
                Comparison::Less => a.0 < b.1,
                Comparison::LessEqual => a.0 <= b.1,
                Comparison::Greater => a.1 > b.0,
                Comparison::GreaterEqual => a.1 >= b.0,
                Comparison::Equal => a.0 <= b.1 && b.0 <= a.1,
                Comparison::NotEqual => true,
            }),
        }
    }
}

fn operate(operator: Arithmetic, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    match operator {
        Arithmetic::Add => (a.0.saturating_add(b.0), a.1.saturating_add(b.1)),
        Arithmetic::Subtract => (a.0.saturating_sub(b.1), a.1.saturating_sub(b.0)),
        _ => {
            let corners = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)].map(|(a, b)| a.saturating_mul(b));
            (corners.into_iter().fold(i64::MAX, i64::min), corners.into_iter().fold(i64::MIN, i64::max))
        }
    }
}

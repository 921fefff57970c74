//! Search for an order of toggles with few different partial results.

use std::collections::HashSet;

use crate::expr::graph::{Binary, Graph, Node, NodeId};

use super::conjunct::Conjunct;
use super::step::{Levels, Slot};

/// Number of toggles that are tried as the first one.
const MOST_FIRST: usize = 8;

/// For each toggle as the first, the next toggle is always the one that leaves the fewest combinations of partial
/// results; the order with the smallest total wins. `sizes` has the number of values of each toggle.
pub(super) fn find(graph: &Graph, conjuncts: &[&Conjunct], toggles: &[u32], sizes: &[usize]) -> Vec<u32> {
    let distinct = distinct(graph, sizes);
    let orders = toggles.iter().take(MOST_FIRST).map(|&first| {
        let mut order = vec![first];
        let mut rest: Vec<u32> = toggles.iter().copied().filter(|&toggle| toggle != first).collect();
        let mut wide = width(graph, conjuncts, &order, sizes, &distinct);
        // Approximate number of tried values.
        let mut tries = 0.0;
        while !rest.is_empty() {
            let widths = rest.iter().map(|&toggle| {
                let bound: Vec<u32> = order.iter().copied().chain([toggle]).collect();
                width(graph, conjuncts, &bound, sizes, &distinct)
            });
            let (at, next) = widths.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).expect("there are some");
            let toggle = rest.remove(at);
            tries += wide.exp() * sizes[toggle as usize] as f64;
            order.push(toggle);
            wide = next;
        }
        (tries, order)
    });
    let best = orders.min_by(|(a, _), (b, _)| a.total_cmp(b));
    best.expect("a component has toggles").1
}

/// Logarithm of the largest number of combinations of partial results once these toggles are bound.
fn width(graph: &Graph, conjuncts: &[&Conjunct], bound: &[u32], sizes: &[usize], distinct: &[f64]) -> f64 {
    let partial: Vec<&Conjunct> = conjuncts
        .iter()
        .copied()
        .filter(|conjunct| {
            let count = conjunct.toggles.iter().filter(|toggle| bound.contains(toggle)).count();
            count > 0 && count < conjunct.toggles.len()
        })
        .collect();
    let about: HashSet<u32> = partial
        .iter()
        .flat_map(|conjunct| &conjunct.toggles)
        .copied()
        .filter(|toggle| bound.contains(toggle))
        .collect();
    let by_toggles: f64 = about.iter().map(|&toggle| (sizes[toggle as usize] as f64).ln()).sum();
    let slots = Levels::new(graph, &partial, bound).slots(bound.len());
    let by_results: f64 = slots
        .iter()
        .map(|(slot, _)| match slot {
            Slot::Node(id) => distinct[*id as usize],
            Slot::Decided(_) => 2f64.ln(),
        })
        .sum();
    by_toggles.min(by_results)
}

/// Logarithm of the approximate number of values of each node: sums and products of many operands coincide.
fn distinct(graph: &Graph, sizes: &[usize]) -> Vec<f64> {
    let mut distinct: Vec<f64> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let of = |id: NodeId| distinct[id as usize];
        distinct.push(match *node {
            Node::Constant(_) => 0.0,
            Node::Variable(toggle) => (sizes[toggle as usize] as f64).ln(),
            Node::Unary(_, a) => of(a),
            Node::Select(_, a, b) => (of(a).exp() + of(b).exp()).ln(),
            Node::Binary(Binary::And | Binary::Or | Binary::Compare(_), _, _) => 2f64.ln(),
            Node::Binary(Binary::Arithmetic(_) | Binary::Call(_), a, b) => {
                (of(a) + of(b)).min((8.0 * (of(a).exp() + of(b).exp())).ln())
            }
        });
    }
    distinct
}

//! An order of toggles in which few partial results have to be told apart.

use std::collections::HashSet;

use crate::config::expr::graph::{Binary, Graph, Node, NodeId};

use super::conjunct::Conjunct;
use super::step::{Levels, Slot};

/// Takes next whatever toggle leaves the fewest combinations of partial results, the first of equals. `sizes` has the
/// number of values of each toggle.
pub(super) fn greedy(graph: &Graph, conjuncts: &[&Conjunct], toggles: &[u32], sizes: &[usize]) -> Vec<u32> {
    let mut order: Vec<u32> = Vec::with_capacity(toggles.len());
    let mut rest = toggles.to_vec();
    let distinct = distinct(graph, sizes);
    while rest.len() > 1 {
        let width = |toggle: u32| {
            let bound: Vec<u32> = order.iter().copied().chain([toggle]).collect();
            width(graph, conjuncts, &bound, sizes, &distinct)
        };
        let widths: Vec<f64> = rest.iter().map(|&toggle| width(toggle)).collect();
        let best = (0..rest.len()).min_by(|&a, &b| widths[a].total_cmp(&widths[b])).expect("there are more than one");
        order.push(rest.remove(best));
    }
    order.extend(rest);
    order
}

/// The logarithm of how many combinations of partial results there may be once these toggles are bound.
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

/// The logarithm of about how many values each node has: sums and products of many fall together.
fn distinct(graph: &Graph, sizes: &[usize]) -> Vec<f64> {
    let mut distinct: Vec<f64> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let of = |id: NodeId| distinct[id as usize];
        distinct.push(match *node {
            Node::Constant(_) => 0.0,
            Node::Variable(toggle) => (sizes[toggle as usize] as f64).ln(),
            Node::Unary(_, a) => of(a),
            Node::Binary(Binary::And | Binary::Or | Binary::Compare(_), _, _) => 2f64.ln(),
            Node::Binary(Binary::Arithmetic(_) | Binary::Call(_), a, b) => {
                (of(a) + of(b)).min((8.0 * (of(a).exp() + of(b).exp())).ln())
            }
        });
    }
    distinct
}

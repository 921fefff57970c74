//! Solver of a space: valid variants are counted, sampled, looked up and enumerated without the product of all values,
//! and without a list of the valid ones.
//!
//! Constraints are split at `and`. Constraints on one toggle filter its values, and toggles that no constraint connects
//! form separate components. Each component becomes a decision diagram: one toggle after the other is bound, and all
//! bindings so far with equal partial results (of `A * B * C <= 1024` the value of `A * B`) share a node. The size of
//! the diagram is the number of different partial results, not of points: a space of 10^15 points is often some
//! thousand nodes.

use std::borrow::Cow;

use rand::{Rng, RngExt as _};
use rayon::prelude::*;

use super::{Space, Variant};
use crate::expr::Expr;
use crate::expr::graph::{Graph, Node, Scalar};
use conjunct::Conjunct;
use diagram::Diagram;
use step::Levels;

pub use walk::Variants;

mod conjunct;
mod diagram;
mod order;
mod range;
mod step;
mod walk;

#[cfg(test)]
mod tests;

/// Largest number of values that are tried to solve a space: about a second of work on one core.
pub(super) const EFFORT: u64 = 1 << 23;
/// Number of draws without a valid variant after which [`Solutions::sample`] returns `None`.
const MOST_DRAWS: usize = 1 << 20;
/// Number of variants that a task of [`Solutions::list`] writes; a smaller task is not worth a thread.
const CHUNK: u128 = 1 << 14;

/// The valid variants of a space, without a list.
///
/// If a component of the space is too large to solve, constraints are left out of its diagram, the widest first, until
/// the component can be solved. Then there is no count and no index, but results stay correct: the omitted constraints
/// are tested for each variant that [`variants`](Self::variants) and [`sample`](Self::sample) return, and samples
/// remain uniform.
#[derive(Debug, Clone)]
pub struct Solutions {
    diagrams: Vec<Diagram>,
    /// All toggles in the order of enumeration.
    places: Vec<Place>,
    /// Constraints that are not in a diagram.
    unsolved: Vec<Conjunct>,
    graph: Graph,
    /// Values of each toggle, as the constraints use them.
    scalars: Vec<Vec<Scalar>>,
    count: Option<u128>,
}

#[derive(Debug, Clone)]
struct Place {
    toggle: usize,
    diagram: usize,
    level: usize,
    /// The place of the previous level of the same diagram.
    previous: Option<usize>,
    /// Unsolved constraints that can be tested once this toggle is bound.
    checks: Vec<usize>,
}

impl Solutions {
    /// Solves a space.
    pub fn new(space: &Space) -> Self {
        Self::of(space, &space.constraints, |_| None, EFFORT)
    }

    /// Solves with given constraints, with some toggles fixed, and with at most `effort` tried values.
    pub(super) fn of(
        space: &Space,
        constraints: &[Expr],
        held: impl Fn(usize) -> Option<u16>,
        mut effort: u64,
    ) -> Self {
        let mut domains: Vec<Vec<u16>> = (0..space.toggles.len())
            .map(|toggle| {
                held(toggle).map_or_else(|| (0..space.toggles[toggle].values.len() as u16).collect(), |at| vec![at])
            })
            .collect();
        let (graph, scalars, conjuncts) = reduce(space, constraints, &mut domains);
        let possible = conjuncts.iter().all(|conjunct| !conjunct.toggles.is_empty());
        let sizes: Vec<usize> = domains.iter().map(Vec::len).collect();
        let values = |toggle: u32| -> Vec<(u16, Scalar)> {
            let toggle = toggle as usize;
            domains[toggle].iter().map(|&value| (value, scalars[toggle][value as usize])).collect()
        };

        let ranges: Vec<Option<(i64, i64)>> = (0..domains.len() as u32).map(|toggle| range(&values(toggle))).collect();
        let mut unsolved = Vec::new();
        let mut diagrams = if possible { Vec::new() } else { vec![Diagram::none()] };
        let conjuncts = if possible { conjuncts } else { Vec::new() };
        let mut components = split((0..domains.len() as u32).collect(), conjuncts);
        while let Some((toggles, mut conjuncts)) = components.pop() {
            let refs: Vec<&Conjunct> = conjuncts.iter().collect();
            let mut build = |order: Vec<u32>, share: u64| {
                let levels = Levels::new(&graph, &refs, &order);
                let steps = order.iter().enumerate().map(|(at, &toggle)| levels.step(at, values(toggle), &ranges));
                // A toggle without constraints needs no work.
                let allowed = if refs.is_empty() { u64::MAX } else { effort / share };
                let mut left = allowed;
                let built = Diagram::build(order.clone(), steps, &mut left);
                effort = effort.saturating_sub(allowed - left);
                built
            };
            // The table's order comes first, since variants are listed in this order. Each try leaves effort for the
            // next.
            let built = build(toggles.clone(), 8).or_else(|_| build(order::find(&graph, &refs, &toggles, &sizes), 2));
            if let Ok(diagram) = built {
                diagrams.push(diagram);
                continue;
            }
            let width = |conjunct: &Conjunct| {
                conjunct.toggles.iter().map(|&toggle| (sizes[toggle as usize] as f64).ln()).sum::<f64>()
            };
            let widest = (0..conjuncts.len())
                .max_by(|&a, &b| width(&conjuncts[a]).total_cmp(&width(&conjuncts[b])))
                .expect("toggles without constraints can always be solved");
            unsolved.push(conjuncts.remove(widest));
            components.extend(split(toggles, conjuncts));
        }

        let count = diagrams
            .iter()
            .try_fold(1u128, |product, diagram| product.checked_mul(diagram.solutions()))
            // The product of no factors is 1, also where another count is unknown.
            .or_else(|| diagrams.iter().any(|diagram| diagram.solutions() == 0).then_some(0))
            .filter(|&count| count == 0 || unsolved.is_empty());
        let places = places(&diagrams, &unsolved, &domains);
        Self { diagrams, places, unsolved, graph, scalars, count }
    }

    /// Number of valid variants. `None` if counting would take too long, or the number does not fit.
    pub fn count(&self) -> Option<u128> {
        self.count
    }

    /// The variant with an index in the order of [`variants`](Self::variants); `None` beyond the last, and for every
    /// index if there is no count.
    pub fn get(&self, index: u128) -> Option<Variant> {
        let walk = Variants::at(Cow::Borrowed(self), index)?;
        Some(walk.current())
    }

    /// The valid variants in lexicographic order of value indices. A component that could only be solved with its
    /// toggles in another order is enumerated in that order.
    pub fn variants(&self) -> Variants<'_> {
        Variants::new(Cow::Borrowed(self))
    }

    /// The same iterator, which owns the solutions.
    pub fn into_variants(self) -> Variants<'static> {
        Variants::new(Cow::Owned(self))
    }

    /// All valid variants in the order of [`variants`](Self::variants), computed on all cores. Takes memory for each
    /// variant.
    pub fn list(&self) -> Vec<Variant> {
        let Some(count) = self.count.filter(|&count| count > CHUNK) else { return self.variants().collect() };
        let chunks: Vec<u128> = (0..count.div_ceil(CHUNK)).collect();
        let parts: Vec<Vec<Variant>> = chunks
            .into_par_iter()
            .map(|chunk| {
                let walk = Variants::at(Cow::Borrowed(self), chunk * CHUNK).into_iter().flatten();
                walk.take(CHUNK as usize).collect()
            })
            .collect();
        let mut list = Vec::with_capacity(count as usize);
        for part in parts {
            list.extend(part);
        }
        list
    }

    /// A valid variant, each with the same probability. `None` if there is none, or if constraints are left out of the
    /// diagrams and a million draws in a row violated them.
    pub fn sample(&self, rng: &mut impl Rng) -> Option<Variant> {
        self.draw(rng, MOST_DRAWS)
    }

    /// A sample with at most `most` draws.
    pub fn draw(&self, rng: &mut impl Rng, most: usize) -> Option<Variant> {
        if self.diagrams.iter().any(|diagram| diagram.solutions() == 0) {
            return None;
        }
        let mut variant = Variant(vec![0; self.places.len()]);
        let draws = if self.unsolved.is_empty() { 1 } else { most };
        (0..draws).find_map(|_| {
            for diagram in &self.diagrams {
                let index = rng.random_range(0..diagram.solutions());
                diagram.get(index, |toggle, value| variant.0[toggle as usize] = value);
            }
            self.holds(&variant).then(|| variant.clone())
        })
    }

    /// The valid variants that differ from this one in one toggle; by toggle, then by value. The given variant may be
    /// invalid.
    pub fn neighbours(&self, variant: &Variant) -> Vec<Variant> {
        let mut neighbour = variant.clone();
        let mut neighbours = Vec::new();
        for toggle in 0..self.scalars.len() {
            for value in (0..self.scalars[toggle].len() as u16).filter(|&value| value != variant.0[toggle]) {
                neighbour.0[toggle] = value;
                if self.is_valid(&neighbour) {
                    neighbours.push(neighbour.clone());
                }
            }
            neighbour.0[toggle] = variant.0[toggle];
        }
        neighbours
    }

    /// Whether this variant is valid.
    pub fn is_valid(&self, variant: &Variant) -> bool {
        self.diagrams.iter().all(|diagram| diagram.contains(|toggle| variant.0[toggle as usize])) && self.holds(variant)
    }

    /// Whether a variant satisfies the constraints that are not in a diagram.
    fn holds(&self, variant: &Variant) -> bool {
        self.unsolved.iter().all(|conjunct| self.check(conjunct, &variant.0))
    }

    fn check(&self, conjunct: &Conjunct, indices: &[u16]) -> bool {
        conjunct.holds(&self.graph, |toggle| self.scalars[toggle as usize][indices[toggle as usize] as usize])
    }
}

/// The constraints as conjuncts. Conjuncts on one toggle are applied to `domains` instead. A conjunct on no toggle is
/// false.
fn reduce(space: &Space, constraints: &[Expr], domains: &mut [Vec<u16>]) -> (Graph, Vec<Vec<Scalar>>, Vec<Conjunct>) {
    loop {
        let mut graph = Graph::default();
        let scalars: Vec<Vec<Scalar>> = space
            .toggles
            .iter()
            .map(|toggle| toggle.values.iter().map(|value| graph.scalar(value)).collect())
            .collect();
        let mut conjuncts = Vec::new();
        for constraint in constraints {
            let root = graph.expression(constraint, |name| match space.toggle(name) {
                None => Node::Constant(Scalar::Error),
                Some(toggle) => match domains[toggle].as_slice() {
                    [only] => Node::Constant(scalars[toggle][*only as usize]),
                    _ => Node::Variable(toggle as u32),
                },
            });
            conjuncts.extend(Conjunct::split(&mut graph, root));
        }
        let mut narrowed = false;
        for conjunct in &conjuncts {
            if let [toggle] = conjunct.toggles[..] {
                let toggle = toggle as usize;
                domains[toggle].retain(|&value| conjunct.holds(&graph, |_| scalars[toggle][value as usize]));
                narrowed |= domains[toggle].len() == 1;
            }
        }
        // A toggle with one remaining value is a constant, so that other constraints may now depend on one toggle less.
        if !narrowed {
            conjuncts.retain(|conjunct| match conjunct.toggles.len() {
                0 => !conjunct.holds(&graph, |_| Scalar::Error),
                count => count > 1,
            });
            return (graph, scalars, conjuncts);
        }
    }
}

/// The smallest and the largest of these values, if they are integers.
fn range(values: &[(u16, Scalar)]) -> Option<(i64, i64)> {
    let integer = |(_, scalar): &(u16, Scalar)| match scalar {
        Scalar::Int(int) => Some(*int),
        _ => None,
    };
    let integers = values.iter().map(integer).collect::<Option<Vec<i64>>>()?;
    Some((*integers.iter().min()?, *integers.iter().max()?))
}

/// Components: toggles that conjuncts connect, by their first toggle, last first.
fn split(toggles: Vec<u32>, conjuncts: Vec<Conjunct>) -> Vec<(Vec<u32>, Vec<Conjunct>)> {
    let mut components: Vec<(Vec<u32>, Vec<Conjunct>)> =
        toggles.into_iter().map(|toggle| (vec![toggle], Vec::new())).collect();
    for conjunct in conjuncts {
        let (tied, mut rest): (Vec<_>, Vec<_>) = components
            .into_iter()
            .partition(|(toggles, _)| toggles.iter().any(|toggle| conjunct.toggles.binary_search(toggle).is_ok()));
        let mut joined = (Vec::new(), vec![conjunct]);
        for (toggles, conjuncts) in tied {
            joined.0.extend(toggles);
            joined.1.extend(conjuncts);
        }
        joined.0.sort_unstable();
        rest.push(joined);
        components = rest;
    }
    components.sort_by(|(a, _), (b, _)| b.cmp(a));
    components
}

/// The order of the table, except for toggles of a diagram with another order. Toggles without constraints and with at
/// most one value come first: they have no influence on the order, and the enumeration need not visit them again.
fn places(diagrams: &[Diagram], unsolved: &[Conjunct], domains: &[Vec<u16>]) -> Vec<Place> {
    let mut of_toggle = vec![0; domains.len()];
    for (index, diagram) in diagrams.iter().enumerate() {
        diagram.toggles.iter().for_each(|&toggle| of_toggle[toggle as usize] = index);
    }
    let (fixed, free): (Vec<usize>, Vec<usize>) = (0..domains.len())
        .partition(|&toggle| domains[toggle].len() < 2 && diagrams[of_toggle[toggle]].toggles.len() == 1);
    let mut last: Vec<Option<usize>> = vec![None; diagrams.len()];
    let mut places: Vec<Place> = Vec::with_capacity(domains.len());
    for diagram in fixed.into_iter().chain(free).map(|toggle| of_toggle[toggle]) {
        let previous = last[diagram];
        let level = previous.map_or(0, |place: usize| places[place].level + 1);
        last[diagram] = Some(places.len());
        let toggle = diagrams[diagram].toggles[level] as usize;
        places.push(Place { toggle, diagram, level, previous, checks: Vec::new() });
    }
    for (index, conjunct) in unsolved.iter().enumerate() {
        let decided = places.iter().rposition(|place| conjunct.toggles.contains(&(place.toggle as u32)));
        places[decided.expect("it is about toggles")].checks.push(index);
    }
    places
}

//! The valid bindings of some toggles as a decision diagram: a level for each toggle, a node for each set of bindings
//! with the same completions, an edge for each value that has a completion.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rayon::prelude::*;

use super::step::Step;
use crate::expr::graph::Scalar;
use crate::interrupt::is_interrupted;

/// A decision diagram. Every path from the first node of the first level to the last level is a solution.
#[derive(Debug, Clone)]
pub(super) struct Diagram {
    /// Toggles, one for each level.
    pub(super) toggles: Vec<u32>,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, Default)]
struct Level {
    /// End of the edges of each node.
    ends: Vec<u32>,
    /// Edges, ascending by value within a node.
    edges: Vec<Edge>,
    /// Number of solutions below each node.
    counts: Vec<u128>,
}

/// A value of a toggle, and the node of the next level.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) value: u16,
    pub(super) child: u32,
}

/// The diagram needs too much work or memory, or the user pressed Ctrl-C.
#[derive(Debug)]
pub(super) struct TooLarge;

/// Largest number of nodes of a level.
const MOST_NODES: usize = 1 << 21;
/// Number of nodes of a task. The constant does not depend on the number of cores, and neither do results.
const CHUNK: usize = 2048;

impl Diagram {
    /// A diagram without toggles and without a solution.
    pub(super) fn none() -> Self {
        let level = Level { ends: vec![0], edges: Vec::new(), counts: vec![0] };
        Self { toggles: Vec::new(), levels: vec![level] }
    }

    /// Binds one toggle after the other. `effort` is the largest number of tried values; on return, the rest.
    pub(super) fn build(
        toggles: Vec<u32>,
        steps: impl Iterator<Item = Step>,
        effort: &mut u64,
    ) -> Result<Self, TooLarge> {
        let mut levels = Vec::with_capacity(toggles.len());
        let (mut nodes, mut states) = (1, Vec::new());
        for step in steps {
            let tries = nodes as u64 * step.values.len() as u64;
            *effort = effort.checked_sub(tries).ok_or(TooLarge)?;
            let parts: Vec<Part> = if nodes <= CHUNK {
                vec![Part::new(&step, &states, 0..nodes)]
            } else {
                let starts: Vec<usize> = (0..nodes).step_by(CHUNK).collect();
                let part = |start| {
                    let part = || Part::new(&step, &states, start..nodes.min(start + CHUNK));
                    (!is_interrupted()).then(part)
                };
                starts.into_par_iter().map(part).collect::<Option<_>>().ok_or(TooLarge)?
            };
            let (level, merged) = Part::merge(parts, step.left())?;
            levels.push(level);
            nodes = merged.count;
            states = merged.states;
        }
        let mut diagram = Self { toggles, levels };
        diagram.count()?;
        Ok(diagram)
    }

    /// Counts solutions from the last level up, and removes edges without a solution.
    fn count(&mut self) -> Result<(), TooLarge> {
        for at in (0..self.levels.len()).rev() {
            let (levels, below) = self.levels.split_at_mut(at + 1);
            let (level, below) = (&mut levels[at], below.first());
            level.counts.reserve(level.ends.len());
            let (mut start, mut kept) = (0, 0);
            for end in &mut level.ends {
                let mut count = 0u128;
                for at in start..*end as usize {
                    let edge = level.edges[at];
                    let ways = below.map_or(1, |below| below.counts[edge.child as usize]);
                    count = count.checked_add(ways).ok_or(TooLarge)?;
                    if ways > 0 {
                        level.edges[kept] = edge;
                        kept += 1;
                    }
                }
                start = *end as usize;
                *end = kept as u32;
                level.counts.push(count);
            }
            level.edges.truncate(kept);
        }
        Ok(())
    }

    /// Number of solutions.
    pub(super) fn solutions(&self) -> u128 {
        self.levels.first().map_or(1, |level| level.counts[0])
    }

    /// The edges of a node.
    #[inline]
    pub(super) fn edges(&self, level: usize, node: u32) -> &[Edge] {
        let Level { ends, edges, .. } = &self.levels[level];
        let start = if node == 0 { 0 } else { ends[node as usize - 1] };
        &edges[start as usize..ends[node as usize] as usize]
    }

    /// Number of solutions below a node; 1 below the last level.
    pub(super) fn ways(&self, level: usize, node: u32) -> u128 {
        self.levels.get(level).map_or(1, |level| level.counts[node as usize])
    }

    /// The edge of a node below which solution `index` of this node lies, and the index of the solution below that
    /// edge.
    pub(super) fn descend(&self, level: usize, node: u32, index: u128) -> (usize, u128) {
        let edges = self.edges(level, node);
        if self.ways(level, node) == edges.len() as u128 {
            return (index as usize, 0);
        }
        let mut left = index;
        for (at, edge) in edges.iter().enumerate() {
            let ways = self.ways(level + 1, edge.child);
            if left < ways {
                return (at, left);
            }
            left -= ways;
        }
        unreachable!("an index is below the number of solutions")
    }

    /// Calls `set` with each toggle and value of the solution `index`.
    pub(super) fn get(&self, index: u128, mut set: impl FnMut(u32, u16)) {
        let (mut node, mut index) = (0, index);
        for (level, &toggle) in self.toggles.iter().enumerate() {
            let (at, left) = self.descend(level, node, index);
            let edge = self.edges(level, node)[at];
            set(toggle, edge.value);
            (node, index) = (edge.child, left);
        }
    }

    /// Whether the values are a solution.
    pub(super) fn contains(&self, value: impl Fn(u32) -> u16) -> bool {
        let mut node = 0;
        self.solutions() > 0
            && self.toggles.iter().enumerate().all(|(level, &toggle)| {
                let edges = self.edges(level, node);
                let found = edges.binary_search_by_key(&value(toggle), |edge| edge.value);
                node = found.map_or(0, |at| edges[at].child);
                found.is_ok()
            })
    }
}

/// Nodes of a level, distinguished by their partial results.
struct Nodes {
    count: usize,
    /// Number of partial results of a node.
    width: usize,
    states: Vec<Scalar>,
    table: HashTable<u32>,
    hasher: FixedState,
}

impl Nodes {
    fn new(width: usize) -> Self {
        let hasher = FixedState::default();
        Self { count: 0, width, states: Vec::new(), table: HashTable::new(), hasher }
    }

    /// The node with the partial results at the end of `states`; if the node is known, they are removed from `states`.
    #[inline]
    fn intern(&mut self) -> u32 {
        if self.width == 0 {
            self.count = 1;
            return 0;
        }
        let Self { count, width, states, table, hasher } = self;
        let width = *width;
        let of = |node: u32| &states[node as usize * width..][..width];
        let new = *count as u32;
        let state = of(new);
        match table.entry(hasher.hash_one(state), |&node| of(node) == state, |&node| hasher.hash_one(of(node))) {
            Entry::Occupied(entry) => {
                let node = *entry.get();
                states.truncate(*count * width);
                node
            }
            Entry::Vacant(entry) => {
                entry.insert(new);
                *count += 1;
                new
            }
        }
    }
}

/// Successors of some nodes of a level.
struct Part {
    level: Level,
    children: Nodes,
}

impl Part {
    fn new(step: &Step, states: &[Scalar], nodes: std::ops::Range<usize>) -> Self {
        let mut level = Level { ends: Vec::with_capacity(nodes.len()), ..Level::default() };
        let mut children = Nodes::new(step.left());
        let mut registers = step.registers();
        for node in nodes {
            registers[..step.before].copy_from_slice(&states[node * step.before..][..step.before]);
            for &(value, scalar) in &step.values {
                if step.run(&mut registers, scalar, &mut children.states) {
                    level.edges.push(Edge { value, child: children.intern() });
                }
            }
            level.ends.push(level.edges.len() as u32);
        }
        Self { level, children }
    }

    /// Merges the parts into one level, in their order.
    fn merge(parts: Vec<Self>, width: usize) -> Result<(Level, Nodes), TooLarge> {
        let mut parts = parts.into_iter();
        let Part { mut level, children: mut all } = parts.next().expect("a level has a node at least");
        for part in parts {
            let base = level.edges.len() as u32;
            if width == 0 {
                // Without partial results there is at most one node.
                all.count = all.count.max(part.children.count);
            }
            let states = part.children.states.chunks_exact(width.max(1));
            let numbers: Vec<u32> = states
                .map(|state| {
                    all.states.extend_from_slice(state);
                    all.intern()
                })
                .collect();
            if all.count > MOST_NODES || is_interrupted() {
                return Err(TooLarge);
            }
            let number = |child: u32| numbers.get(child as usize).copied().unwrap_or(0);
            level
                .edges
                .extend(part.level.edges.iter().map(|edge| Edge { value: edge.value, child: number(edge.child) }));
            level.ends.extend(part.level.ends.iter().map(|end| base + end));
        }
        Ok((level, all))
    }
}

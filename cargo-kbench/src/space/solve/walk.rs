//! Enumeration of the solutions.

use std::borrow::Cow;

use super::Solutions;
use crate::space::Variant;

/// Iterator over valid variants; see [`Solutions::variants`].
#[derive(Debug, Clone)]
pub struct Variants<'s> {
    solutions: Cow<'s, Solutions>,
    /// For each place the node of its diagram, and the index of the chosen edge.
    path: Vec<(u32, u32)>,
    /// Indices of the values by toggle.
    indices: Vec<u16>,
    state: State,
    /// Number of remaining variants; none if it is unknown.
    left: Option<u128>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first variant.
    Start,
    /// At a variant that was not returned yet.
    Ready,
    /// At the variant that was returned last.
    Given,
    Done,
}

impl<'s> Variants<'s> {
    pub(in crate::space) fn new(solutions: Cow<'s, Solutions>) -> Self {
        let places = solutions.places.len();
        let left = solutions.count;
        let empty = solutions.diagrams.iter().any(|diagram| diagram.solutions() == 0);
        let state = if empty { State::Done } else { State::Start };
        Self { solutions, path: vec![(0, 0); places], indices: vec![0; places], state, left }
    }

    /// Starts at the variant with this index; `None` beyond the last, and without a count.
    pub(super) fn at(solutions: Cow<'s, Solutions>, index: u128) -> Option<Self> {
        let count = solutions.count.filter(|&count| index < count)?;
        let mut walk = Self::new(solutions);
        // Index of the solution within the product of the nodes of all diagrams so far.
        let (mut of, start, mut index) = (count, index, index);
        for at in 0..walk.path.len() {
            let place = &walk.solutions.places[at];
            let diagram = &walk.solutions.diagrams[place.diagram];
            let node = walk.node(at);
            let elsewhere = of / diagram.ways(place.level, node);
            let (edge, left) = diagram.descend(place.level, node, index / elsewhere);
            let taken = diagram.edges(place.level, node)[edge];
            index = left * elsewhere + index % elsewhere;
            of = elsewhere * diagram.ways(place.level + 1, taken.child);
            walk.indices[place.toggle] = taken.value;
            walk.path[at] = (node, edge as u32);
        }
        walk.left = Some(count - start);
        walk.state = State::Ready;
        Some(walk)
    }

    pub(super) fn current(&self) -> Variant {
        Variant(self.indices.clone())
    }

    /// The node of the path at this place.
    #[inline]
    fn node(&self, at: usize) -> u32 {
        let solutions = &*self.solutions;
        let place = &solutions.places[at];
        place.previous.map_or(0, |previous| {
            let (node, edge) = self.path[previous];
            solutions.diagrams[place.diagram].edges(place.level - 1, node)[edge as usize].child
        })
    }

    /// Goes to the next valid variant; returns `false` if there is none.
    fn step(&mut self) -> bool {
        let (mut at, mut enter) = match self.state {
            State::Done => return false,
            State::Ready => return true,
            State::Start if self.path.is_empty() => return true,
            State::Given if self.path.is_empty() => return false,
            State::Start => (0, true),
            State::Given => (self.path.len() - 1, false),
        };
        loop {
            self.path[at] = if enter { (self.node(at), 0) } else { (self.path[at].0, self.path[at].1 + 1) };
            let (node, edge) = self.path[at];
            let solutions = &*self.solutions;
            let place = &solutions.places[at];
            let edges = solutions.diagrams[place.diagram].edges(place.level, node);
            if let Some(edge) = edges.get(edge as usize) {
                self.indices[place.toggle] = edge.value;
                let holds = |&check: &usize| solutions.check(&solutions.unsolved[check], &self.indices);
                enter = place.checks.iter().all(holds);
                if enter {
                    at += 1;
                    if at == self.path.len() {
                        return true;
                    }
                }
            } else if at == 0 {
                return false;
            } else {
                at -= 1;
                enter = false;
            }
        }
    }
}

impl Iterator for Variants<'_> {
    type Item = Variant;

    fn next(&mut self) -> Option<Variant> {
        if self.step() {
            self.state = State::Given;
            self.left = self.left.map(|left| left - 1);
            Some(self.current())
        } else {
            self.state = State::Done;
            None
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left.and_then(|left| usize::try_from(left).ok());
        (left.unwrap_or(0), left)
    }

    fn count(self) -> usize {
        match self.left {
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX),
            None => self.fold(0, |count, _| count + 1),
        }
    }
}

impl std::iter::FusedIterator for Variants<'_> {}

//! The binding of one toggle, as a short program from the partial results before it to those after it.
//!
//! Only those partial results are kept that later toggles need: of `A * B * C <= 1024` the value of `A * B`. Two
//! bindings of the toggles so far with equal partial results have the same completions.

use crate::expr::graph::{Binary, Graph, Node, NodeId, Scalar, Unary};

use super::conjunct::Conjunct;
use super::range::{self, Ends, Range};

/// The compiled binding of one toggle of an order.
#[derive(Debug)]
pub(super) struct Step {
    /// The values to try: index and value of each.
    pub(super) values: Vec<(u16, Scalar)>,
    /// Registers at the start: earlier partial results, the toggle's value, constants, and room for computed values.
    registers: Vec<Scalar>,
    /// Number of earlier partial results, which are the first registers.
    pub(super) before: usize,
    code: Vec<Instruction>,
    /// The partial results after the binding.
    after: Vec<Output>,
}

#[derive(Debug)]
enum Instruction {
    Unary(Unary, usize, usize),
    Binary(Binary, usize, usize, usize),
    Select([usize; 3], usize),
    /// Tests the next alternatives of a conjunct, which follow false ones.
    Decide(Decide),
    Range(Range),
}

#[derive(Debug)]
struct Decide {
    /// Register that says whether an earlier alternative was true.
    decided: Option<usize>,
    alternatives: Vec<usize>,
    /// Whether these are the last alternatives, so that one must have been true.
    last: bool,
    out: usize,
}

#[derive(Debug)]
struct Output {
    register: usize,
    /// The instruction is skipped if each of these registers says that its conjunct is decided; an empty list means
    /// never.
    unless: Vec<usize>,
}

const DECIDED: Scalar = Scalar::Int(1);
const UNDECIDED: Scalar = Scalar::Int(0);

/// A partial result that is passed from one toggle to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Node(NodeId),
    /// Whether this conjunct is decided.
    Decided(usize),
}

impl Step {
    /// Initial registers.
    pub(super) fn registers(&self) -> Vec<Scalar> {
        self.registers.clone()
    }

    /// Number of partial results after the binding.
    pub(super) fn left(&self) -> usize {
        self.after.len()
    }

    /// Binds the toggle to `value`; earlier partial results are in the first registers and remain there. Appends the
    /// partial results to `left` and returns true; returns false and appends nothing if a constraint is violated.
    #[inline]
    pub(super) fn run(&self, registers: &mut [Scalar], value: Scalar, left: &mut Vec<Scalar>) -> bool {
        registers[self.before] = value;
        for instruction in &self.code {
            match instruction {
                Instruction::Unary(operator, a, out) => registers[*out] = operator.apply(registers[*a]),
                Instruction::Binary(operator, a, b, out) => {
                    registers[*out] = operator.apply(registers[*a], registers[*b]);
                }
                Instruction::Select([condition, a, b], out) => {
                    registers[*out] = registers[*condition].select(registers[*a], registers[*b]);
                }
                Instruction::Decide(decide) => match decide.run(registers) {
                    Some(decided) => registers[decide.out] = decided,
                    None => return false,
                },
                Instruction::Range(range) => {
                    if !range.run(registers) {
                        return false;
                    }
                }
            }
        }
        left.extend(self.after.iter().map(|output| {
            let dead = !output.unless.is_empty() && output.unless.iter().all(|&flag| registers[flag] == DECIDED);
            if dead { Scalar::Error } else { registers[output.register] }
        }));
        true
    }
}

impl Decide {
    /// The state of the conjunct; `None` if it is violated.
    #[inline]
    fn run(&self, registers: &[Scalar]) -> Option<Scalar> {
        if self.decided.is_some_and(|flag| registers[flag] == DECIDED) {
            return Some(DECIDED);
        }
        for &alternative in &self.alternatives {
            if registers[alternative].truth()? {
                return Some(DECIDED);
            }
        }
        (!self.last).then_some(UNDECIDED)
    }
}

/// Positions of an order of toggles at which nodes and conjuncts become known.
pub(super) struct Levels<'a> {
    graph: &'a Graph,
    conjuncts: &'a [&'a Conjunct],
    /// The position at which each node is known, from 1; 0 for constants.
    level: Vec<usize>,
    /// The position at which each conjunct is certainly decided.
    complete: Vec<usize>,
}

impl<'a> Levels<'a> {
    /// Positions for an order of toggles; the conjuncts depend on no other toggles.
    pub(super) fn new(graph: &'a Graph, conjuncts: &'a [&'a Conjunct], order: &[u32]) -> Self {
        let mut level = vec![0; graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            level[id] = match *node {
                Node::Constant(_) => 0,
                // A toggle that is not in the order yet gets a level beyond all others, which is needed while an order
                // is searched.
                Node::Variable(toggle) => order.iter().position(|&other| other == toggle).unwrap_or(usize::MAX - 1) + 1,
                _ => node.children().map(|child| level[child as usize]).max().unwrap_or(0),
            };
        }
        let complete = conjuncts
            .iter()
            .map(|conjunct| conjunct.alternatives.iter().map(|&id| level[id as usize]).max().unwrap_or(0))
            .collect();
        Self { graph, conjuncts, level, complete }
    }

    /// Number of alternatives, from the first, that are known once `bound` toggles are bound.
    fn known(&self, conjunct: usize, bound: usize) -> usize {
        let alternatives = &self.conjuncts[conjunct].alternatives;
        alternatives.iter().position(|&id| self.level[id as usize] > bound).unwrap_or(alternatives.len())
    }

    /// The partial results that are kept once `bound` toggles are bound, with the conjuncts that need each.
    pub(super) fn slots(&self, bound: usize) -> Vec<(Slot, Vec<usize>)> {
        let mut slots: Vec<(Slot, Vec<usize>)> = Vec::new();
        for (index, conjunct) in self.conjuncts.iter().enumerate() {
            if self.complete[index] <= bound {
                continue;
            }
            let known = self.known(index, bound);
            if known > 0 {
                slots.push((Slot::Decided(index), Vec::new()));
            }
            let later = conjunct.nodes.iter().filter(|&&id| self.level[id as usize] > bound);
            let below = later.flat_map(|&id| self.graph.nodes[id as usize].children());
            for id in below.chain(conjunct.alternatives[known..].iter().copied()) {
                if !(1..=bound).contains(&self.level[id as usize]) {
                    continue;
                }
                match slots.iter_mut().find(|(slot, _)| *slot == Slot::Node(id)) {
                    Some((_, users)) if users.contains(&index) => {}
                    Some((_, users)) => users.push(index),
                    None => slots.push((Slot::Node(id), vec![index])),
                }
            }
        }
        slots
    }

    /// Compiles the binding of the toggle after the first `bound`; `ranges` has the smallest and the largest value of
    /// each toggle of integers.
    pub(super) fn step(&self, bound: usize, values: Vec<(u16, Scalar)>, ranges: &[Option<(i64, i64)>]) -> Step {
        let before: Vec<Slot> = self.slots(bound).into_iter().map(|(slot, _)| slot).collect();
        let after = self.slots(bound + 1);
        let mut compiler = Compiler {
            registers: vec![Scalar::Error; before.len() + 1],
            places: before.iter().enumerate().map(|(place, &slot)| (slot, place)).collect(),
            variable: before.len(),
            code: Vec::new(),
        };
        // Instructions that may reject come first.
        let mut conjuncts: Vec<usize> =
            (0..self.conjuncts.len()).filter(|&index| self.complete[index] > bound).collect();
        conjuncts.sort_by_key(|&index| (self.complete[index] != bound + 1, self.conjuncts[index].nodes.len()));
        for index in conjuncts {
            let conjunct = self.conjuncts[index];
            for &id in conjunct.nodes.iter().filter(|&&id| self.level[id as usize] == bound + 1) {
                compiler.node(self.graph, id);
            }
            if self.complete[index] > bound + 1 {
                self.ranges(&mut compiler, conjunct, bound + 1, ranges);
            }
            let looked_at = self.known(index, bound)..self.known(index, bound + 1);
            if looked_at.is_empty() {
                continue;
            }
            let decide = Decide {
                decided: compiler.place(Slot::Decided(index)),
                alternatives: conjunct.alternatives[looked_at]
                    .iter()
                    .map(|&id| compiler.operand(self.graph, id))
                    .collect(),
                last: self.complete[index] == bound + 1,
                out: compiler.fresh(UNDECIDED),
            };
            compiler.places.retain(|(slot, _)| *slot != Slot::Decided(index));
            compiler.places.push((Slot::Decided(index), decide.out));
            compiler.code.push(Instruction::Decide(decide));
        }
        let place = |slot| compiler.place(slot).expect("what is left was there or was computed");
        let after = after
            .iter()
            .map(|(slot, users)| {
                // A conjunct without a decided alternative always needs the instruction.
                let decidable = users.iter().all(|&user| self.known(user, bound + 1) > 0);
                let users = if decidable { users.as_slice() } else { &[] };
                let unless = users.iter().map(|&user| place(Slot::Decided(user))).collect();
                Output { register: place(*slot), unless }
            })
            .collect();
        Step { values, before: before.len(), after, registers: compiler.registers, code: compiler.code }
    }
}

impl Levels<'_> {
    /// Emits an instruction that rejects a conjunct as soon as its ranges exclude it, if the conjunct has a suitable
    /// form. `bound` toggles are bound.
    fn ranges(&self, compiler: &mut Compiler, conjunct: &Conjunct, bound: usize, ranges: &[Option<(i64, i64)>]) {
        let known = |id: NodeId| self.level[id as usize] <= bound;
        let [root] = conjunct.alternatives[..] else { return };
        let news = conjunct.nodes.iter().any(|&id| self.level[id as usize] == bound);
        let integer = |toggle: u32| ranges[toggle as usize].is_some();
        if !news || !range::applies(self.graph, root, &conjunct.nodes, known, integer) {
            return;
        }
        let mut ends: Vec<(NodeId, Ends)> = Vec::new();
        for &id in conjunct.nodes.iter().filter(|&&id| !known(id)) {
            let of = |compiler: &mut Compiler, id: NodeId| {
                let range = ends.iter().find(|(other, _)| *other == id).map(|(_, ends)| *ends);
                range.unwrap_or_else(|| {
                    let place = compiler.operand(self.graph, id);
                    Ends(place, place)
                })
            };
            match self.graph.nodes[id as usize] {
                Node::Variable(toggle) => {
                    let (least, most) = ranges[toggle as usize].expect("a toggle of integers");
                    let range = Ends(compiler.fresh(Scalar::Int(least)), compiler.fresh(Scalar::Int(most)));
                    ends.push((id, range));
                }
                Node::Binary(Binary::Compare(operator), a, b) => {
                    let (a, b) = (of(compiler, a), of(compiler, b));
                    compiler.code.push(Instruction::Range(Range::Possible(operator, a, b)));
                }
                Node::Binary(Binary::Arithmetic(operator), a, b) => {
                    let (a, b) = (of(compiler, a), of(compiler, b));
                    let out = Ends(compiler.fresh(Scalar::Error), compiler.fresh(Scalar::Error));
                    compiler.code.push(Instruction::Range(Range::Operation(operator, a, b, out)));
                    ends.push((id, out));
                }
                _ => unreachable!("only such nodes were let through"),
            }
        }
    }
}

struct Compiler {
    registers: Vec<Scalar>,
    /// Register of each partial result.
    places: Vec<(Slot, usize)>,
    variable: usize,
    code: Vec<Instruction>,
}

impl Compiler {
    fn place(&self, slot: Slot) -> Option<usize> {
        self.places.iter().find(|(other, _)| *other == slot).map(|(_, place)| *place)
    }

    fn fresh(&mut self, value: Scalar) -> usize {
        self.registers.push(value);
        self.registers.len() - 1
    }

    fn operand(&mut self, graph: &Graph, id: NodeId) -> usize {
        if let Some(place) = self.place(Slot::Node(id)) {
            return place;
        }
        let Node::Constant(scalar) = graph.nodes[id as usize] else {
            unreachable!("an operand is a constant, was kept or was computed")
        };
        let place = self.fresh(scalar);
        self.places.push((Slot::Node(id), place));
        place
    }

    /// Emits the computation of a node whose operands are known.
    fn node(&mut self, graph: &Graph, id: NodeId) {
        if self.place(Slot::Node(id)).is_some() {
            return;
        }
        let place = match graph.nodes[id as usize] {
            Node::Constant(_) => return,
            Node::Variable(_) => self.variable,
            Node::Unary(operator, a) => {
                let a = self.operand(graph, a);
                let out = self.fresh(Scalar::Error);
                self.code.push(Instruction::Unary(operator, a, out));
                out
            }
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.operand(graph, a), self.operand(graph, b));
                let out = self.fresh(Scalar::Error);
                self.code.push(Instruction::Binary(operator, a, b, out));
                out
            }
            Node::Select(condition, a, b) => {
                let operands = [condition, a, b].map(|id| self.operand(graph, id));
                let out = self.fresh(Scalar::Error);
                self.code.push(Instruction::Select(operands, out));
                out
            }
        };
        self.places.push((Slot::Node(id), place));
    }
}

//! Constraints as one graph of operators, for a solver that binds names one at a time.
//!
//! A node appears once for any number of occurrences; names with one value are constants, and so are nodes with only
//! constants below. Values are small and compare by bits, so that equal partial results are recognised. The rules of
//! arithmetic are those of the machine.

use std::collections::HashMap;

use super::arithmetic;
pub(crate) use super::arithmetic::{Arithmetic, Comparison, Function};
use super::machine::Op;
use super::operand::Operand;
use super::{Expr, Value};

/// A partial result. Booleans are 1 and 0: no operator distinguishes them from integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scalar {
    Int(i64),
    /// The bits of a float.
    Float(u64),
    /// Number of a string in its [`Graph`].
    Str(u32),
    /// No value: an overflow, a division by zero, a string in arithmetic, …
    Error,
}

impl Scalar {
    /// The truth value; `None` for a string or an error.
    pub(crate) fn truth(self) -> Option<bool> {
        match self {
            Scalar::Int(int) => Some(int != 0),
            Scalar::Float(bits) => Some(f64::from_bits(bits) != 0.0),
            Scalar::Str(_) | Scalar::Error => None,
        }
    }

    fn operand(self) -> Option<Operand<'static>> {
        match self {
            Scalar::Int(int) => Some(Operand::Int(int)),
            Scalar::Float(bits) => Some(Operand::Float(f64::from_bits(bits))),
            Scalar::Str(_) | Scalar::Error => None,
        }
    }

    fn of<E>(result: &Result<Operand<'_>, E>) -> Self {
        match *result {
            Ok(Operand::Bool(bool)) => bool.into(),
            Ok(Operand::Int(int)) => Scalar::Int(int),
            Ok(Operand::Float(float)) => Scalar::Float(float.to_bits()),
            Ok(Operand::Str(_)) | Err(_) => Scalar::Error,
        }
    }

    /// The value that a condition selects.
    pub(crate) fn select(self, a: Scalar, b: Scalar) -> Scalar {
        match self.truth() {
            Some(true) => a,
            Some(false) => b,
            None => Scalar::Error,
        }
    }

    fn of_truth(truth: Option<bool>) -> Self {
        truth.map_or(Scalar::Error, Scalar::from)
    }
}

impl From<bool> for Scalar {
    fn from(bool: bool) -> Self {
        Scalar::Int(i64::from(bool))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unary {
    Negate,
    Plus,
    Not,
    Call(Function),
}

impl Unary {
    pub(crate) fn apply(self, a: Scalar) -> Scalar {
        if self == Unary::Not {
            return Scalar::of_truth(a.truth().map(|truth| !truth));
        }
        let Some(operand) = a.operand() else { return Scalar::Error };
        match self {
            Unary::Negate => Scalar::of(&arithmetic::negate(operand)),
            Unary::Call(function) => Scalar::of(&arithmetic::call(function, &[operand])),
            Unary::Plus | Unary::Not => a,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Binary {
    Arithmetic(Arithmetic),
    Compare(Comparison),
    And,
    Or,
    Call(Function),
}

impl Binary {
    #[inline]
    pub(crate) fn apply(self, a: Scalar, b: Scalar) -> Scalar {
        match self {
            Binary::And | Binary::Or => match a.truth() {
                Some(truth) if truth == (self == Binary::Or) => truth.into(),
                Some(_) => Scalar::of_truth(b.truth()),
                None => Scalar::Error,
            },
            Binary::Compare(operator) => match (a, b) {
                (Scalar::Int(a), Scalar::Int(b)) => arithmetic::ordered(operator, a.cmp(&b)).into(),
                (Scalar::Str(a), Scalar::Str(b)) => match operator {
                    Comparison::Equal => (a == b).into(),
                    Comparison::NotEqual => (a != b).into(),
                    _ => Scalar::Error,
                },
                _ => Self::numbers(a, b, |a, b| arithmetic::compare(operator, a, b).map(Operand::Bool)),
            },
            Binary::Arithmetic(operator) => Self::numbers(a, b, |a, b| arithmetic::apply(operator, a, b)),
            Binary::Call(function) => Self::numbers(a, b, |a, b| arithmetic::call(function, &[a, b])),
        }
    }

    #[inline]
    fn numbers<E>(
        a: Scalar,
        b: Scalar,
        operate: impl Fn(Operand<'static>, Operand<'static>) -> Result<Operand<'static>, E>,
    ) -> Scalar {
        match (a.operand(), b.operand()) {
            (Some(a), Some(b)) => Scalar::of(&operate(a, b)),
            _ => Scalar::Error,
        }
    }
}

/// Index of a node; greater than the indices of the nodes below.
pub(crate) type NodeId = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Constant(Scalar),
    /// A name, by the number that its owner assigned.
    Variable(u32),
    Unary(Unary, NodeId),
    Binary(Binary, NodeId, NodeId),
    /// A condition, the value if it is true, and the value if it is false.
    Select(NodeId, NodeId, NodeId),
}

impl Node {
    /// The operands of a node.
    pub(crate) fn children(self) -> impl Iterator<Item = NodeId> {
        let children = match self {
            Node::Constant(_) | Node::Variable(_) => [None, None, None],
            Node::Unary(_, a) => [Some(a), None, None],
            Node::Binary(_, a, b) => [Some(a), Some(b), None],
            Node::Select(condition, a, b) => [Some(condition), Some(a), Some(b)],
        };
        children.into_iter().flatten()
    }
}

/// Nodes; operands come before the nodes that use them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    known: HashMap<Node, NodeId>,
    strings: HashMap<String, u32>,
}

/// A conditional whose alternative is not read yet; the alternative ends before this instruction.
struct Conditional {
    end: usize,
    condition: NodeId,
    value: NodeId,
}

/// A left operand whose `and`, `or` or chain of comparisons is not complete; it ends before this instruction.
struct Open {
    end: usize,
    operator: Binary,
    left: NodeId,
}

impl Graph {
    pub(crate) fn scalar(&mut self, value: &Value) -> Scalar {
        match value {
            Value::Bool(bool) => (*bool).into(),
            Value::Int(int) => Scalar::Int(*int),
            Value::Float(float) => Scalar::Float(float.to_bits()),
            Value::Str(text) => self.string(text),
        }
    }

    fn string(&mut self, text: &str) -> Scalar {
        let next = self.strings.len() as u32;
        Scalar::Str(*self.strings.entry(text.to_owned()).or_insert(next))
    }

    /// The node, or the constant that it evaluates to.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let constant = |id: NodeId| match self.nodes[id as usize] {
            Node::Constant(scalar) => Some(scalar),
            _ => None,
        };
        let folded = match node {
            Node::Unary(operator, a) => constant(a).map(|a| operator.apply(a)),
            Node::Binary(operator, a, b) => match (operator, constant(a), constant(b)) {
                (_, Some(a), Some(b)) => Some(operator.apply(a, b)),
                // The left side alone decides, or is an error.
                (Binary::And, Some(a), None) if a.truth() != Some(true) => Some(operator.apply(a, Scalar::Error)),
                (Binary::Or, Some(a), None) if a.truth() != Some(false) => Some(operator.apply(a, Scalar::Error)),
                _ => None,
            },
            Node::Select(condition, a, b) => match constant(condition).map(Scalar::truth) {
                Some(Some(true)) => return a,
                Some(Some(false)) => return b,
                Some(None) => Some(Scalar::Error),
                None => None,
            },
            Node::Constant(_) | Node::Variable(_) => None,
        };
        let node = folded.map_or(node, Node::Constant);
        *self.known.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() as NodeId - 1
        })
    }

    /// Adds the nodes of an expression and returns the topmost; `name` gives the nodes of names.
    pub(crate) fn expression(&mut self, expr: &Expr, name: impl Fn(&str) -> Node) -> NodeId {
        let names: Vec<NodeId> = expr.names().into_iter().map(|text| self.add(name(text))).collect();
        let mut stack: Vec<NodeId> = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        let mut conditions: Vec<NodeId> = Vec::new();
        let mut conditionals: Vec<Conditional> = Vec::new();
        for (at, op) in expr.program.ops.iter().enumerate() {
            let mut pop = || stack.pop().expect("the parser balances operands");
            let mut node = match op {
                Op::Int(int) => self.add(Node::Constant(Scalar::Int(*int))),
                Op::Float(float) => self.add(Node::Constant(Scalar::Float(float.to_bits()))),
                Op::Bool(bool) => self.add(Node::Constant((*bool).into())),
                Op::Str(text) => {
                    let string = self.string(text);
                    self.add(Node::Constant(string))
                }
                Op::Name(name) => names[*name],
                Op::Negate => self.add(Node::Unary(Unary::Negate, pop())),
                Op::Plus => self.add(Node::Unary(Unary::Plus, pop())),
                Op::Not => self.add(Node::Unary(Unary::Not, pop())),
                Op::Arithmetic(operator) => {
                    let right = pop();
                    self.add(Node::Binary(Binary::Arithmetic(*operator), pop(), right))
                }
                Op::Call(function, 1) => self.add(Node::Unary(Unary::Call(*function), pop())),
                Op::Call(function, count) => {
                    let mut arguments: Vec<NodeId> = (0..*count).map(|_| pop()).collect();
                    let first = arguments.pop().expect("at least one argument");
                    arguments
                        .into_iter()
                        .rev()
                        .fold(first, |left, right| self.add(Node::Binary(Binary::Call(*function), left, right)))
                }
                // All elements are compared, as in the machine: `|` evaluates both sides.
                Op::Member(count) => {
                    let elements: Vec<NodeId> = (0..*count).map(|_| pop()).collect();
                    let value = pop();
                    let equal = |graph: &mut Self, element| {
                        graph.add(Node::Binary(Binary::Compare(Comparison::Equal), value, element))
                    };
                    let mut elements = elements.into_iter().rev();
                    let first = equal(self, elements.next().expect("at least one element"));
                    elements.fold(first, |found, element| {
                        let element = equal(self, element);
                        self.add(Node::Binary(Binary::Arithmetic(Arithmetic::BitOr), found, element))
                    })
                }
                Op::Branch(_) => {
                    conditions.push(pop());
                    continue;
                }
                Op::Jump(end) => {
                    let condition = conditions.pop().expect("a conditional begins with its condition");
                    conditionals.push(Conditional { end: *end, condition, value: pop() });
                    continue;
                }
                Op::JumpIfFalse(end) => {
                    open.push(Open { end: *end, operator: Binary::And, left: pop() });
                    continue;
                }
                Op::JumpIfTrue(end) => {
                    open.push(Open { end: *end, operator: Binary::Or, left: pop() });
                    continue;
                }
                Op::Chain(operator, end) => {
                    let right = pop();
                    let left = self.add(Node::Binary(Binary::Compare(*operator), pop(), right));
                    open.push(Open { end: *end, operator: Binary::And, left });
                    right
                }
                Op::Compare(operator) => {
                    let right = pop();
                    let last = self.add(Node::Binary(Binary::Compare(*operator), pop(), right));
                    self.close(&mut open, at + 1, last)
                }
                Op::Truth => self.close(&mut open, at + 1, pop()),
            };
            while let Some(part) = conditionals.pop_if(|part| part.end == at + 1) {
                node = self.add(Node::Select(part.condition, part.value, node));
            }
            stack.push(node);
        }
        stack.pop().expect("an expression has a value")
    }

    /// Joins `last` with the open operands, in the order of the text: `a and b and c` is `a and (b and c)`, which is
    /// true, false or an error in the same cases.
    fn close(&mut self, open: &mut Vec<Open>, end: usize, last: NodeId) -> NodeId {
        let mut node = last;
        while let Some(part) = open.pop_if(|part| part.end == end) {
            node = self.add(Node::Binary(part.operator, part.left, node));
        }
        node
    }
}

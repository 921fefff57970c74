//! Values of a Python script that is read and never run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use kbench_runtime::dtype::DType;
use tree_sitter::Node;

/// Largest number of elements of a list, and of computed values in all.
pub const MOST_ITEMS: usize = 100_000;

/// Value of an expression of the script.
#[derive(Debug, Clone)]
pub enum Value<'t> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    List(Rc<RefCell<Vec<Value<'t>>>>),
    Tuple(Rc<[Value<'t>]>),
    /// A dictionary, in the order of insertion, as in Python.
    Dict(Rc<RefCell<Vec<(Value<'t>, Value<'t>)>>>),
    /// A number with a type of numpy.
    Scalar(DType, Number),
    Array(Array),
    /// An open file; `Source` is the text that was read from it.
    File(PathBuf),
    Source(PathBuf),
    /// Dotted name of a module, a function of a module, or a builtin.
    Name(Rc<str>),
    /// A method that is not called yet.
    Method(Rc<Value<'t>>, Rc<str>),
    /// A `def` or a `lambda`.
    Function(Rc<Closure<'t>>),
    /// A value that only a run of the script determines, with the reason.
    Unknown(Rc<str>),
}

/// Variables of a function that was called, which functions defined in it share.
pub type Frame<'t> = Rc<RefCell<HashMap<String, Value<'t>>>>;

/// A function with the variables around it.
#[derive(Debug, Clone)]
pub struct Closure<'t> {
    pub node: Node<'t>,
    /// Variables of the functions around it, the innermost last.
    pub frames: Vec<Frame<'t>>,
}

/// An integer or a float.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

/// An array of numpy.
#[derive(Debug, Clone)]
pub struct Array {
    /// Variable of the array.
    pub name: Option<Rc<str>>,
    pub dtype: DType,
    pub dims: Vec<i64>,
    pub contents: Contents,
    /// The elements of an array of one dimension that the text tells.
    pub values: Option<Rc<[Number]>>,
}

/// Contents of an array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Contents {
    /// Result of `zeros` or `empty`, as for outputs.
    Zeros,
    Constant(f64),
    Normal,
    Uniform,
    Arange,
    /// Computed by the script.
    Computed,
}

impl<'t> Value<'t> {
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Value::Text(text.into())
    }

    pub fn list(items: Vec<Value<'t>>) -> Self {
        Value::List(Rc::new(RefCell::new(items)))
    }

    pub fn dict(entries: Vec<(Value<'t>, Value<'t>)>) -> Self {
        Value::Dict(Rc::new(RefCell::new(entries)))
    }

    pub fn unknown(reason: impl Into<Rc<str>>) -> Self {
        Value::Unknown(reason.into())
    }

    /// The value as it is now: the lists and dictionaries in it are copies, which later statements do not change.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        self.copied(&mut HashMap::new())
    }

    /// `copies` holds the copies that exist already, by address: a list may be in another one twice, and in itself.
    fn copied(&self, copies: &mut HashMap<*const (), Self>) -> Self {
        let address = match self {
            Value::List(items) => Rc::as_ptr(items).cast::<()>(),
            Value::Dict(entries) => Rc::as_ptr(entries).cast(),
            Value::Tuple(items) => Rc::as_ptr(items).cast(),
            Value::Function(function) => {
                let frames = function.frames.iter().map(|frame| Rc::new(RefCell::new(frame.borrow().clone())));
                return Value::Function(Rc::new(Closure { node: function.node, frames: frames.collect() }));
            }
            other => return other.clone(),
        };
        if let Some(copy) = copies.get(&address) {
            return copy.clone();
        }
        match self {
            Value::List(items) => {
                let copy = Rc::new(RefCell::new(Vec::new()));
                copies.insert(address, Value::List(Rc::clone(&copy)));
                let items: Vec<_> = items.borrow().iter().map(|item| item.copied(copies)).collect();
                *copy.borrow_mut() = items;
                Value::List(copy)
            }
            Value::Dict(entries) => {
                let copy = Rc::new(RefCell::new(Vec::new()));
                copies.insert(address, Value::Dict(Rc::clone(&copy)));
                let entries: Vec<_> =
                    entries.borrow().iter().map(|(key, value)| (key.clone(), value.copied(copies))).collect();
                *copy.borrow_mut() = entries;
                Value::Dict(copy)
            }
            Value::Tuple(items) => {
                let copy = Value::Tuple(items.iter().map(|item| item.copied(copies)).collect());
                copies.insert(address, copy.clone());
                copy
            }
            other => other.clone(),
        }
    }

    /// The elements of a list, a tuple or a known array, or the keys of a dictionary.
    pub fn items(&self) -> Option<Vec<Value<'t>>> {
        match self {
            Value::List(items) => Some(items.borrow().clone()),
            Value::Tuple(items) => Some(items.to_vec()),
            Value::Dict(entries) => Some(entries.borrow().iter().map(|(key, _)| key.clone()).collect()),
            Value::Array(array) => Some(array.values.as_ref()?.iter().map(|number| number.value()).collect()),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<Number> {
        match *self {
            Value::Bool(bool) => Some(Number::Int(bool.into())),
            Value::Int(int) => Some(Number::Int(int)),
            Value::Float(float) => Some(Number::Float(float)),
            Value::Scalar(_, number) => Some(number),
            _ => None,
        }
    }

    /// The value of an integer, or of a float without a fraction.
    pub fn integer(&self) -> Option<i64> {
        match self.number()? {
            Number::Int(int) => Some(int),
            Number::Float(float) if float.fract() == 0.0 && float.abs() < 9e15 => Some(float as i64),
            Number::Float(_) => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Python's truth value; none if it is unknown.
    pub fn truth(&self) -> Option<bool> {
        Some(match self {
            Value::None => false,
            Value::Text(text) => !text.is_empty(),
            Value::List(_) | Value::Tuple(_) | Value::Dict(_) => !self.items()?.is_empty(),
            Value::Unknown(_) | Value::Array(_) => return None,
            Value::File(_) | Value::Source(_) | Value::Name(_) | Value::Method(..) | Value::Function(_) => true,
            _ => match self.number()? {
                Number::Int(int) => int != 0,
                Number::Float(float) => float != 0.0,
            },
        })
    }

    /// Whether two values are equal; none if it is unknown.
    pub fn equals(&self, other: &Value<'t>) -> Option<bool> {
        if let (Some(left), Some(right)) = (self.number(), other.number()) {
            return Some(left.float().partial_cmp(&right.float())?.is_eq());
        }
        Some(match (self, other) {
            (Value::Unknown(_) | Value::Array(_), _) | (_, Value::Unknown(_) | Value::Array(_)) => return None,
            (Value::None, Value::None) => true,
            (Value::Text(left), Value::Text(right)) => left == right,
            (Value::List(_), Value::List(_)) | (Value::Tuple(_), Value::Tuple(_)) => {
                let (left, right) = (self.items()?, other.items()?);
                let pairs = left.iter().zip(&right).map(|(left, right)| left.equals(right));
                left.len() == right.len() && pairs.collect::<Option<Vec<bool>>>()?.into_iter().all(|equal| equal)
            }
            _ => false,
        })
    }
}

impl Number {
    pub fn float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }

    pub fn value<'t>(self) -> Value<'t> {
        match self {
            Number::Int(int) => Value::Int(int),
            Number::Float(float) => Value::Float(float),
        }
    }
}

impl std::fmt::Display for Number {
    /// Writes the value in the syntax of the table.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Int(int) => write!(f, "{int}"),
            Number::Float(float) => write!(f, "{float:?}"),
        }
    }
}

//! A tuning problem of another tuner, in the terms that all formats share.

use std::path::PathBuf;

use kbench_runtime::dtype::DType;

use crate::expr::{Expr, Value};
use crate::space::{Layer, Reach, Solutions, Space, Toggle, Variant};

/// An item of the file that the package lacks or has in another form.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Note {
    /// Place in the file.
    pub place: String,
    /// Description of the item.
    pub what: String,
}

/// Source of a kernel's code.
#[derive(Debug, Clone, PartialEq)]
pub enum Code {
    /// In a file.
    File(PathBuf),
    /// In the file itself.
    Text(String),
    /// A value that only a run of the script computes.
    Unknown,
}

/// A kernel with its parameters.
#[derive(Debug, Clone)]
pub struct Problem {
    pub name: String,
    pub entry: String,
    pub code: Code,
    /// More source files.
    pub more: Vec<PathBuf>,
    /// Whether the kernel is a function of the host.
    pub is_host: bool,
    pub flags: Vec<String>,
    pub parameters: Vec<Parameter>,
    /// Constraints, as expressions of the table.
    pub constraints: Vec<String>,
    pub sizes: Vec<Size>,
    pub grid: [String; 3],
    pub block: [String; 3],
    /// Dynamic shared memory in bytes, as an expression.
    pub dynamic_shared: Option<String>,
    pub arguments: Vec<Argument>,
    /// Largest error of an output.
    pub tolerance: Option<f64>,
    pub notes: Vec<Note>,
}

/// A parameter with its values and the default that the file names.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: String,
    pub values: Vec<Value>,
    pub default: Option<Value>,
}

/// A size of the problem: a number becomes a dimension of the shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    Number(i64),
    /// An expression over the parameters.
    Expression(String),
}

#[derive(Debug, Clone)]
pub enum Argument {
    Scalar { dtype: DType, value: String },
    Tensor(Tensor),
    Symbol { symbol: String, tensor: Tensor },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub dtype: DType,
    /// Sizes: numbers, or expressions of the table.
    pub dims: Vec<String>,
    pub role: &'static str,
    /// The value of `init`; none for the default.
    pub init: Option<String>,
}

/// Names of the dimensions for sizes of problems.
pub const DIMENSIONS: [&str; 3] = ["PROBLEM_X", "PROBLEM_Y", "PROBLEM_Z"];

impl Size {
    fn text(&self, axis: usize) -> String {
        match self {
            Size::Number(_) => DIMENSIONS[axis].to_owned(),
            Size::Expression(text) => text.clone(),
        }
    }
}

/// The grid of a problem: the size along each axis over the product of the divisors.
pub fn grid(sizes: &[Size], divisors: &[Vec<String>; 3]) -> [String; 3] {
    std::array::from_fn(|axis| match (sizes.get(axis), &divisors[axis][..]) {
        (None, _) => "1".to_owned(),
        (Some(size), []) => size.text(axis),
        (Some(size), divisors) => format!("ceil_div({}, {})", size.text(axis), divisors.join(" * ")),
    })
}

impl Problem {
    pub fn note(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.notes.push(Note { place: place.into(), what: what.into() });
    }

    /// The space, with the default of the file if it is valid, otherwise the first valid variant. `None` if no variant
    /// is valid.
    pub fn space(&self) -> Option<Space> {
        let toggle = |parameter: &Parameter| Toggle {
            name: parameter.name.clone(),
            values: parameter.values.clone(),
            layer: Layer::Macro,
            reach: Reach::Macro,
        };
        let default = |parameter: &Parameter| {
            let value = parameter.default.as_ref();
            parameter.values.iter().position(|known| Some(known) == value).unwrap_or(0) as u16
        };
        let mut space = Space {
            toggles: self.parameters.iter().map(toggle).collect(),
            constraints: self.constraints.iter().filter_map(|text| Expr::parse(text).ok()).collect(),
            default: Variant(self.parameters.iter().map(default).collect()),
        };
        if !space.is_valid(&space.default) {
            space.default = Solutions::new(&space).variants().next()?;
        }
        Some(space)
    }
}

/// Name of the kernel of a function, without namespaces and template arguments.
pub fn name_of(entry: &str) -> String {
    let plain = entry.split('<').next().unwrap_or(entry).rsplit("::").next().unwrap_or(entry);
    let name: String = plain.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') { name } else { format!("kernel_{name}") }
}

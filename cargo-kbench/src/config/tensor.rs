//! Declared tensors and the sources of their contents.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::{Derived, Role, Source};

use super::Place;
use crate::expr::{Expr, Template};

/// A declared tensor.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Name: the key in `tensors`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Place of the element type in the table.
    pub place: Place,
    /// Sizes, outermost first.
    pub dims: Vec<Expr>,
    /// Role: read, written, both, or scratch.
    pub role: Role,
    /// Source of the initial contents.
    pub init: Init,
}

impl Tensor {
    /// Every name in its sizes and contents.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let init: Vec<&Expr> = match &self.init {
            Init::Computed(expr) | Init::Offsets(expr) => vec![expr],
            Init::Between { low, high } => vec![low, high],
            Init::Derived(derivation) => derivation.view.iter().chain(&derivation.width).collect(),
            _ => Vec::new(),
        };
        self.dims.iter().chain(init).flat_map(Expr::names)
    }
}

/// Source of a tensor's initial contents.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// `{ normal = { mean, std } }`; the default of a floating-point input (mean 0, std 1).
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// `{ uniform = { low, high } }`, over `[low, high)`.
    Uniform {
        /// Lower end, included.
        low: f64,
        /// Upper end, excluded.
        high: f64,
    },
    /// `{ integers = { low, high } }`, both ends included; the default of an integer input (0 to 15).
    Integers {
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
    },
    /// `{ integers = { low = 0, high = "N - 1" } }`, ends that depend on sizes.
    Between {
        /// Smallest value.
        low: Expr,
        /// Largest value.
        high: Expr,
    },
    /// `{ arange = { start, step } }`.
    Arange {
        /// First value.
        start: f64,
        /// Difference of neighbours.
        step: f64,
    },
    /// `{ constant = value }`.
    Constant(f64),
    /// `{ constant = "expression" }`, a value that depends on sizes.
    Computed(Expr),
    /// `{ offsets = "NNZ" }`: starts of the rows of a sparse matrix with this number of elements.
    Offsets(Expr),
    /// `{ file = "x.npy" }` or `{ file = "x.safetensors", tensor = "name" }`.
    File {
        /// Absolute path.
        path: PathBuf,
        /// Name in a `.safetensors` file.
        tensor: Option<String>,
    },
    /// `{ command = ["python3", "make.py", "{N}"] }`: a program writes the contents, once for each shape.
    Command {
        /// The program and its arguments, with expressions over dimensions; the path of the file is the last argument.
        command: Vec<Template>,
        /// Name in the `.safetensors` file; `None` for a `.npy` file.
        tensor: Option<String>,
        /// Written files by shape in the table's order; empty before the program ran.
        made: Vec<PathBuf>,
    },
    /// `quantize = { from, scale }`.
    Quantize {
        /// Index of the tensor with the values.
        from: usize,
        /// Index of the tensor that receives the scales.
        scale: usize,
        /// For each dimension of the scale tensor, the dimension of `from` with the same expression.
        scale_dims: Vec<usize>,
    },
    /// `{ from = "x", axes = [1, 0] }`.
    Derived(Derivation),
    /// Scales, written by another tensor's `quantize`.
    Scale,
    /// An output or scratch tensor.
    None,
}

/// Derivation of contents from those of other tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Derivation {
    /// Indices of the tensors; several are stacked along a new first axis.
    pub from: Vec<usize>,
    /// The sizes that the elements are viewed as; empty: their own.
    pub view: Vec<Expr>,
    /// For each axis the axis of the view that it is; empty: all in order.
    pub axes: Vec<usize>,
    /// The width of the border, for each axis or one for all; empty: none.
    pub width: Vec<Expr>,
    /// The value of the border.
    pub border: f64,
    /// Whether all of the elements are drawn one by one.
    pub drawn: bool,
}

impl Derivation {
    /// The same for the worker, with values for the expressions; `axes` is the number of axes of the result.
    pub fn resolved<E>(&self, axes: usize, mut size: impl FnMut(&str, &Expr) -> Result<u64, E>) -> Result<Derived, E> {
        let view = self.view.iter().map(|expr| size("view", expr)).collect::<Result<_, E>>()?;
        let mut width = self.width.iter().map(|expr| size("width", expr)).collect::<Result<Vec<_>, E>>()?;
        if let [one] = width[..] {
            width = vec![one; axes];
        }
        let Self { from, axes, border, drawn, .. } = self.clone();
        Ok(Derived { from, view, axes, width, border, drawn })
    }
}

impl Init {
    /// The file with the contents at a shape, and the name of the tensor in the file.
    pub fn file(&self, shape: usize) -> Option<(&Path, Option<&str>)> {
        match self {
            Init::File { path, tensor } => Some((path, tensor.as_deref())),
            Init::Command { made, tensor, .. } => Some((made.get(shape)?, tensor.as_deref())),
            _ => None,
        }
    }

    /// The source of the contents for the worker. Contents that depend on sizes, which only a point has, get a
    /// placeholder of the right kind. `files` holds the hash of each tensor file; a missing file has an empty hash.
    pub fn source(&self, files: &HashMap<PathBuf, String>) -> Source {
        match self {
            Init::Normal { mean, std } => Source::Normal { mean: *mean, std: *std },
            Init::Uniform { low, high } => Source::Uniform { low: *low, high: *high },
            Init::Integers { low, high } => Source::Integers { low: *low, high: *high },
            Init::Arange { start, step } => Source::Arange { start: *start, step: *step },
            Init::Constant(value) => Source::Constant(*value),
            Init::Between { .. } => Source::Integers { low: 0, high: 0 },
            Init::Computed(_) => Source::Constant(0.0),
            Init::Offsets(_) => Source::Offsets { last: 0 },
            Init::Derived(derivation) => {
                let sizes = derivation.resolved(0, |_, _| Ok::<_, std::convert::Infallible>(0));
                Source::Derived(sizes.unwrap_or_else(|never| match never {}))
            }
            Init::File { path, tensor } => {
                Source::File { hash: files.get(path).cloned().unwrap_or_default(), tensor: tensor.clone() }
            }
            Init::Command { tensor, .. } => Source::File { hash: String::new(), tensor: tensor.clone() },
            Init::Quantize { from, scale, scale_dims } => {
                Source::Quantize { from: *from, scale: *scale, scale_dims: scale_dims.clone() }
            }
            Init::Scale => Source::Scale,
            Init::None => Source::None,
        }
    }
}

//! Functions in a source file, with their build and their launches.

use std::path::{Path, PathBuf};

use kbench_runtime::dtype::DType;

use super::Place;
use crate::expr::{Expr, Template};

/// Compiler and device of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// nvcc and a CUDA device.
    Cuda,
    /// The C compiler and this machine's CPU.
    C,
    /// No compiler: `source` is a TOML model of times and faults, for tests without a device.
    Fake,
}

impl Backend {
    /// The name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Cuda => "cuda",
            Backend::C => "c",
            Backend::Fake => "fake",
        }
    }
}

/// Extensions of C++ sources for the host.
pub const CPP_EXTENSIONS: [&str; 5] = ["cpp", "cc", "cxx", "c++", "C"];

/// Whether a source for the host is C++, by its extension.
pub fn is_cpp(source: &Path) -> bool {
    source.extension().is_some_and(|extension| CPP_EXTENSIONS.iter().any(|cpp| extension == *cpp))
}

/// Functions of a source file and how to launch them.
#[derive(Debug, Clone)]
pub struct Implementation {
    /// Compiler and device.
    pub backend: Backend,
    /// Absolute path of the source, with the default variant.
    pub source: PathBuf,
    /// Template of the source, if toggles choose it: a path relative to `source_root`.
    pub source_of: Option<Template>,
    /// The folder of the manifest that names the source.
    pub source_root: PathBuf,
    /// Compiler flags.
    pub flags: Vec<Flag>,
    /// Macros beside the toggles, as expressions over dimensions and toggles.
    pub defines: Vec<(String, Expr)>,
    /// Headers of the table: file names and texts.
    pub headers: Vec<(String, String)>,
    /// The launches that together are one run, in order; at least one.
    pub launches: Vec<Launch>,
}

/// One launch of a function.
#[derive(Debug, Clone)]
pub struct Launch {
    /// `extern "C"` name, the name of a C++ function, or an instance of a template.
    pub entry: Template,
    /// Blocks: one to three sizes; empty for C.
    pub grid: Vec<Expr>,
    /// Threads of a block: one to three sizes; empty for C.
    pub block: Vec<Expr>,
    /// Blocks of a cluster; empty without clusters.
    pub cluster: Vec<Expr>,
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: Option<Expr>,
    /// Whether the launch is cooperative.
    pub cooperative: bool,
    /// Arguments in the order of the signature.
    pub args: Vec<Arg>,
    /// Place of the type of each argument in the table.
    pub places: Vec<Place>,
    /// Condition of the launch; `None` for an unconditional launch.
    pub when: Option<Expr>,
    /// Tensors that are filled with zero bytes before the launch: indices into [`Kernel::tensors`](super::Kernel::tensors).
    pub zero: Vec<usize>,
}

impl Implementation {
    /// The same functions in another file, which includes files beside the original by name.
    #[must_use]
    pub fn in_source(&self, path: PathBuf) -> Self {
        let folder = self.source.parent().expect("an absolute path of a file").display().to_string();
        let mut other = self.clone();
        other.flags.splice(0..0, ["-I".to_owned(), folder].map(Flag::plain));
        other.source = path;
        other.source_of = None;
        other
    }

    /// The functions of the launches by their names in the table, each once, in the order of first launch.
    pub fn entries(&self) -> Vec<&str> {
        let mut entries: Vec<&str> = Vec::new();
        for launch in &self.launches {
            if !entries.contains(&launch.entry.text()) {
                entries.push(launch.entry.text());
            }
        }
        entries
    }

    /// The arguments of all launches.
    pub fn args(&self) -> impl Iterator<Item = &Arg> {
        self.launches.iter().flat_map(|launch| &launch.args)
    }

    /// Every expression of the launches.
    pub fn launch_exprs(&self) -> Vec<&Expr> {
        self.launches.iter().flat_map(Launch::exprs).collect()
    }

    /// Every name in the compilation, the launches and the arguments.
    pub fn names(&self) -> Vec<&str> {
        let entries = self.launches.iter().map(|launch| &launch.entry);
        let templates = self.flags.iter().map(|flag| &flag.text).chain(&self.source_of).chain(entries);
        let mut exprs: Vec<&Expr> = templates.flat_map(Template::exprs).map(|(expr, _)| expr).collect();
        exprs.extend(self.flags.iter().filter_map(|flag| flag.when.as_ref()));
        exprs.extend(self.defines.iter().map(|(_, expr)| expr));
        exprs.into_iter().chain(self.launch_exprs()).flat_map(Expr::names).collect()
    }
}

/// Types of one byte that C distinguishes from numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// `bool`: 1 if the value is true, else 0.
    Bool,
    /// `char`.
    Char,
}

/// Layout of a struct in C: each field at a multiple of its alignment, the size a multiple of the largest alignment.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size in bytes.
    pub bytes: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Offset of each field in bytes.
    pub places: Vec<usize>,
}

impl Layout {
    /// The layout of these fields.
    pub fn of(fields: &[ArgValue]) -> Self {
        let mut layout = Self { bytes: 0, align: 1, places: Vec::new() };
        for field in fields {
            let (bytes, align) = match field {
                ArgValue::Scalar { dtype, .. } => (dtype.size(), dtype.size()),
                ArgValue::Struct { fields, .. } => {
                    let inner = Self::of(fields);
                    (inner.bytes, inner.align)
                }
                ArgValue::Tensor(_) | ArgValue::Offset { .. } => (8, 8),
            };
            let at = layout.bytes.next_multiple_of(align);
            layout.places.push(at);
            layout.bytes = at + bytes;
            layout.align = layout.align.max(align);
        }
        layout.bytes = layout.bytes.next_multiple_of(layout.align);
        layout
    }
}

impl Arg {
    /// The tensors of an argument; none for a number.
    pub fn tensors(&self) -> Vec<usize> {
        match self {
            Arg::Value(value) => value.tensors(),
            Arg::TensorMap(TensorMap { tensor, .. }) | Arg::Symbol { tensor, .. } => vec![*tensor],
        }
    }

    fn exprs(&self) -> Vec<&Expr> {
        match self {
            Arg::Value(value) => value.exprs(),
            Arg::TensorMap(TensorMap { dims, r#box, .. }) => dims.iter().chain(r#box).collect(),
            Arg::Symbol { .. } => Vec::new(),
        }
    }
}

impl ArgValue {
    fn tensors(&self) -> Vec<usize> {
        match self {
            ArgValue::Tensor(tensor) | ArgValue::Offset { tensor, .. } => vec![*tensor],
            ArgValue::Struct { fields, .. } => fields.iter().flat_map(ArgValue::tensors).collect(),
            ArgValue::Scalar { .. } => Vec::new(),
        }
    }

    fn exprs(&self) -> Vec<&Expr> {
        match self {
            ArgValue::Scalar { value, .. } => vec![value],
            ArgValue::Offset { offset, .. } => vec![offset],
            ArgValue::Struct { fields, .. } => fields.iter().flat_map(ArgValue::exprs).collect(),
            ArgValue::Tensor(_) => Vec::new(),
        }
    }
}

impl Launch {
    /// The parameters that structs may hold too, with their places among the arguments.
    pub fn values(&self) -> impl Iterator<Item = (usize, &ArgValue)> {
        self.args.iter().enumerate().filter_map(|(place, arg)| match arg {
            Arg::Value(value) => Some((place, value)),
            Arg::TensorMap(_) | Arg::Symbol { .. } => None,
        })
    }

    /// The expressions of condition, grid, block, shared memory and arguments.
    fn exprs(&self) -> Vec<&Expr> {
        let mut exprs: Vec<&Expr> =
            self.when.iter().chain(&self.grid).chain(&self.block).chain(&self.cluster).collect();
        exprs.extend(&self.dynamic_shared);
        exprs.extend(self.args.iter().flat_map(Arg::exprs));
        exprs
    }
}

/// A compiler flag.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    /// The flag.
    pub text: Template,
    /// Condition; the flag is left out if it is false.
    pub when: Option<Expr>,
}

impl Flag {
    /// A flag without a condition.
    pub fn plain(text: String) -> Self {
        Self { text: Template::plain(text), when: None }
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone)]
pub enum Arg {
    /// A parameter that a struct may hold too.
    Value(ArgValue),
    /// A TMA tensor map by value.
    TensorMap(TensorMap),
    /// A tensor copied to a symbol before the launch; not in the signature.
    Symbol {
        /// The symbol.
        symbol: String,
        /// Index into [`Kernel::tensors`](super::Kernel::tensors).
        tensor: usize,
    },
}

/// A parameter, or a field of a struct.
#[derive(Debug, Clone)]
pub enum ArgValue {
    /// The address of a tensor: an index into [`Kernel::tensors`](super::Kernel::tensors).
    Tensor(usize),
    /// The address of an element of a tensor.
    Offset {
        /// Index into [`Kernel::tensors`](super::Kernel::tensors).
        tensor: usize,
        /// Number of elements before the address.
        offset: Expr,
    },
    /// A struct by value, with C's layout.
    Struct {
        /// Type of the struct in the source.
        ty: Option<String>,
        /// Fields of the struct, in the order of the layout.
        fields: Vec<ArgValue>,
    },
    /// A scalar by value.
    Scalar {
        /// Type in the signature.
        dtype: DType,
        /// More specific type, `bool` or `char`.
        word: Option<Word>,
        /// Value.
        value: Expr,
    },
}

/// A TMA tensor map.
#[derive(Debug, Clone)]
pub struct TensorMap {
    /// Index into [`Kernel::tensors`](super::Kernel::tensors).
    pub tensor: usize,
    /// Sizes as the map sees them, outermost first; empty: the tensor's dims.
    pub dims: Vec<Expr>,
    /// Box sizes, outermost first.
    pub r#box: Vec<Expr>,
    /// 0, 32, 64 or 128 bytes.
    pub swizzle: u32,
}

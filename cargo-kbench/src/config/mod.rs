//! What Cargo.toml says, validated. Nothing in these types fails later: names resolve, expressions parse and have
//! been evaluated at every shape with the default variant.
//!
//! Inheritance: every key of a kernel's table may stand one level up as a default, in the package's table or in
//! `[workspace.metadata.kbench]`. Tables merge key by key, everything else is replaced by the innermost; paths are
//! relative to the manifest that says them.

use std::collections::HashMap;
use std::path::PathBuf;

use kbench_runtime::dtype::DType;
use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{CacheMode, Role, Source};

use crate::expr::Expr;
use crate::space::Space;

mod check;
pub mod counters;
mod decode;
pub mod diagnostics;
mod gates;
mod keys;
mod load;
mod manifest;
mod objective;
mod place;
mod schema;
mod spec;
mod tree;

pub use counters::Counters;
pub use diagnostics::{ConfigErrors, Diagnostic, Place};
pub use gates::{
    CorrectnessLimits, Gates, Level, PerformanceBound, PerformanceLimit, ResourceLimits, Sanitize, SanitizeTool,
};
pub use load::{LoadError, LoadOptions, load};
pub use objective::{Objective, ResourceName};
pub use schema::schema;

/// The name that the default variant has among the baselines; no baseline of the table may have it.
pub const DEFAULT: &str = "default";

/// The packages that were asked for, and where files go.
#[derive(Debug, Clone)]
pub struct Project {
    /// The packages with a kbench table, in cargo's order.
    pub packages: Vec<Package>,
    /// Cargo's target directory.
    pub target_directory: PathBuf,
    /// The folder of the workspace's manifest.
    pub root: PathBuf,
    /// The manifests of the workspace's packages.
    manifests: Vec<PathBuf>,
}

impl Project {
    /// Where this tool keeps its own files, `target/kbench`: caches, whose entries name what they were made from.
    pub fn work_directory(&self) -> PathBuf {
        self.target_directory.join("kbench")
    }

    /// Where it keeps what belongs to this project alone: journals and proposed sources. In a target directory outside the
    /// workspace, other projects may have kernels of the same names.
    pub fn own_directory(&self) -> PathBuf {
        let work_directory = self.work_directory();
        if place::is_within(&self.target_directory, &self.root, &self.manifests) {
            return work_directory;
        }
        let hash = fingerprint::of_bytes(self.root.as_os_str().as_encoded_bytes());
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        work_directory.join("projects").join(format!("{name}-{}", &hash[..16]))
    }

    /// `elite.json`: next to the target directory where that is in the workspace, else in the workspace's root.
    pub fn elite_path(&self) -> PathBuf {
        let beside = self.target_directory.parent();
        let own = beside.filter(|beside| place::is_within(beside, &self.root, &self.manifests));
        own.unwrap_or(&self.root).join("elite.json")
    }
}

/// A package with kernels.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The folder of its manifest; sources are relative to it.
    pub directory: PathBuf,
    /// Its kernels, in the table's order.
    pub kernels: Vec<Kernel>,
}

/// One kernel of the table.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its name: the key in `kernels`.
    pub name: String,
    /// The name of its package.
    pub package: String,
    /// How it is built and launched.
    pub implementation: Implementation,
    /// Architectures to compile for (`sm_90a`); empty: the GPU that is there.
    pub arch: Vec<String>,
    /// Shapes, in the table's order; at least one.
    pub shapes: Vec<Shape>,
    /// Tensors in the table's order, except that one stands after the one it is quantised from.
    pub tensors: Vec<Tensor>,
    /// Toggles, layers, constraints and the default variant.
    pub space: Space,
    /// What its outputs are compared with.
    pub reference: Reference,
    /// What it is timed against.
    pub baselines: Vec<Baseline>,
    /// Limits.
    pub gates: Gates,
    /// How it is measured.
    pub timing: Timing,
    /// How it is searched.
    pub search: Search,
    /// What the search minimises: one objective, or two for a front.
    pub objectives: Vec<Objective>,
    /// What one launch does, for rates.
    pub work: Work,
    /// Command prefix that starts the worker elsewhere; empty: here.
    pub runner: Vec<String>,
}

impl Kernel {
    /// The names of some shapes.
    pub fn shape_names(&self, shapes: &[usize]) -> Vec<&str> {
        shapes.iter().map(|&shape| self.shapes[shape].name.as_str()).collect()
    }

    /// The shapes that an objective is a mean over: indices, ascending.
    pub fn mean_shapes(&self) -> impl Iterator<Item = usize> + '_ {
        self.objectives.iter().flat_map(|objective| {
            match objective {
                Objective::Mean(weights) => weights.as_slice(),
                _ => &[],
            }
            .iter()
            .map(|&(shape, _)| shape)
        })
    }
}

/// Which compiler and which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// nvcc and a CUDA device.
    Cuda,
    /// The C compiler and this machine's CPU.
    C,
    /// No compiler: `source` is a TOML model of times and faults, for tests of everything around it.
    Fake,
}

/// A function in a source file and how to launch it.
#[derive(Debug, Clone)]
pub struct Implementation {
    /// Compiler and device.
    pub backend: Backend,
    /// Absolute path of the source.
    pub source: PathBuf,
    /// `extern "C"` name, or the plain name of a C++ kernel.
    pub entry: String,
    /// Compiler flags.
    pub flags: Vec<String>,
    /// Macros beside the toggles, from expressions over dims and toggles.
    pub defines: Vec<(String, Expr)>,
    /// One to three sizes; empty for C.
    pub grid: Vec<Expr>,
    /// One to three sizes; empty for C.
    pub block: Vec<Expr>,
    /// Blocks a cluster; empty: no clusters.
    pub cluster: Vec<Expr>,
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: Option<Expr>,
    /// Cooperative launch.
    pub cooperative: bool,
    /// Arguments in the order of the signature.
    pub args: Vec<Arg>,
    /// Where the table says the type of each.
    pub places: Vec<Place>,
}

impl Implementation {
    /// The same function in another file, which still includes by name what lies beside the original.
    #[must_use]
    pub fn in_source(&self, path: PathBuf) -> Self {
        let folder = self.source.parent().expect("an absolute path of a file").display().to_string();
        let mut other = self.clone();
        other.flags.splice(0..0, ["-I".to_owned(), folder]);
        other.source = path;
        other
    }

    /// The expressions of grid, block, shared memory and arguments.
    pub fn launch_exprs(&self) -> Vec<&Expr> {
        let mut exprs: Vec<&Expr> = self.grid.iter().chain(&self.block).chain(&self.cluster).collect();
        exprs.extend(&self.dynamic_shared);
        for arg in &self.args {
            match arg {
                Arg::Scalar { value, .. } => exprs.push(value),
                Arg::TensorMap { dims, r#box, .. } => exprs.extend(dims.iter().chain(r#box)),
                Arg::Tensor(_) | Arg::Symbol { .. } => {}
            }
        }
        exprs
    }

    /// Every name in its defines, launch and arguments.
    pub fn names(&self) -> Vec<&str> {
        let defines = self.defines.iter().map(|(_, expr)| expr);
        defines.chain(self.launch_exprs()).flat_map(Expr::names).collect()
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone)]
pub enum Arg {
    /// The address of a tensor: an index into [`Kernel::tensors`].
    Tensor(usize),
    /// A scalar by value.
    Scalar {
        /// Its type in the signature.
        dtype: DType,
        /// Its value.
        value: Expr,
    },
    /// A TMA tensor map by value.
    TensorMap {
        /// Index into [`Kernel::tensors`].
        tensor: usize,
        /// Sizes as the map sees them, outermost first; empty: the tensor's dims.
        dims: Vec<Expr>,
        /// Box sizes, outermost first.
        r#box: Vec<Expr>,
        /// 0, 32, 64 or 128 bytes.
        swizzle: u32,
    },
    /// A tensor copied to a symbol before the launch; not in the signature.
    Symbol {
        /// The symbol.
        symbol: String,
        /// Index into [`Kernel::tensors`].
        tensor: usize,
    },
}

/// Named sizes of one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its name: the key in `shapes`.
    pub name: String,
    /// Sizes by name.
    pub dims: Vec<(String, i64)>,
    /// Made from `gates.correctness.sizes`: never timed, nor named.
    pub check_only: bool,
}

/// A declared tensor.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its name: the key in `tensors`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Where the table says it.
    pub place: Place,
    /// Sizes, outermost first.
    pub dims: Vec<Expr>,
    /// How the kernel uses it.
    pub role: Role,
    /// Where its first contents come from.
    pub init: Init,
}

/// Where a tensor's first contents come from.
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
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// `{ integers = { low, high } }`, both ends included; the default of an integer input (0 to 15).
    Integers {
        /// Smallest.
        low: i64,
        /// Largest.
        high: i64,
    },
    /// `{ arange = { start, step } }`.
    Arange {
        /// First.
        start: f64,
        /// Difference of neighbours.
        step: f64,
    },
    /// `{ constant = value }`.
    Constant(f64),
    /// `{ file = "x.npy" }` or `{ file = "x.safetensors", tensor = "name" }`.
    File {
        /// Absolute path.
        path: PathBuf,
        /// Name in a `.safetensors` file.
        tensor: Option<String>,
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
    /// Written by another tensor's `quantize`.
    Scale,
    /// An output or scratch.
    None,
}

impl Init {
    /// The same for the worker. `files` holds the hash of each tensor file; one that is not in it has an empty hash.
    pub fn source(&self, files: &HashMap<PathBuf, String>) -> Source {
        match self {
            Init::Normal { mean, std } => Source::Normal { mean: *mean, std: *std },
            Init::Uniform { low, high } => Source::Uniform { low: *low, high: *high },
            Init::Integers { low, high } => Source::Integers { low: *low, high: *high },
            Init::Arange { start, step } => Source::Arange { start: *start, step: *step },
            Init::Constant(value) => Source::Constant(*value),
            Init::File { path, tensor } => {
                Source::File { hash: files.get(path).cloned().unwrap_or_default(), tensor: tensor.clone() }
            }
            Init::Quantize { from, scale, scale_dims } => {
                Source::Quantize { from: *from, scale: *scale, scale_dims: scale_dims.clone() }
            }
            Init::Scale => Source::Scale,
            Init::None => Source::None,
        }
    }
}

/// What outputs are compared with.
#[derive(Debug, Clone)]
pub struct Reference {
    /// What it is. Every floating-point tensor is handed to it as `precision`.
    pub kind: ReferenceKind,
    /// `F64` (default) or `F32`.
    pub precision: DType,
    /// Where the table says it, or of what it does not.
    pub place: Place,
}

/// The kinds of reference.
#[derive(Debug, Clone)]
pub enum ReferenceKind {
    /// A function.
    Function(Box<Implementation>),
    /// `{ command = […] }`: a program and its arguments, started in the package's folder.
    Command(Vec<String>),
}

/// What a kernel is timed against.
#[derive(Debug, Clone)]
pub struct Baseline {
    /// Its name: the key in `baselines`.
    pub name: String,
    /// What it is.
    pub kind: BaselineKind,
}

/// The kinds of baseline.
#[derive(Debug, Clone)]
pub enum BaselineKind {
    /// `{ toggles = {…} }`: a variant of the same kernel; toggles not named have their default value.
    Variant(crate::space::Variant),
    /// `{ kernel = "name" }`: another kernel of the same table, at its default and the shape of the same name.
    Kernel(String),
    /// `{ source = …, entry = … }`: another function over the same tensors; what it leaves out is the kernel's own.
    Implementation(Box<Implementation>),
    /// `{ command = […] }`: a program.
    Command(ProgramBaseline),
}

/// A program that is measured beside the kernel.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ProgramBaseline {
    /// The program and its arguments; started in the package's folder.
    pub command: Vec<String>,
    /// Limits of its errors against the kernel's reference; `None`: those of the kernel. A program that reads what the kernel's
    /// inputs were quantised from needs wider ones.
    pub correctness: Option<CorrectnessLimits>,
}

/// How a kernel is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Untimed launches first; 20.
    pub warmup: u32,
    /// Samples at least; 100.
    pub iterations: u32,
    /// Half-width of the interval of p50, as a share of p50, that ends sampling; 0.005.
    pub precision: f64,
    /// Most seconds of sampling, for each kernel that is measured; 2.
    pub max_seconds: f64,
    /// State of the cache before each sample; cold.
    pub cache: CacheMode,
    /// Deadline of one kernel launch or sample, in seconds; 30.
    pub timeout_seconds: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            warmup: 20,
            iterations: 100,
            precision: 0.005,
            max_seconds: 2.0,
            cache: CacheMode::Cold,
            timeout_seconds: 30,
        }
    }
}

/// How a kernel is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The strategy's name; `auto`.
    pub strategy: StrategyName,
    /// How many of the best are kept; 3.
    pub elite: usize,
    /// Seed of the strategy.
    pub seed: u64,
    /// Most variants evaluated; `None` is no limit.
    pub evaluations: Option<u64>,
    /// Most seconds; `None` is no limit.
    pub seconds: Option<u64>,
    /// Index into [`Kernel::shapes`] of the shape that the objective is measured on; the first by default.
    pub shape: usize,
    /// The program, and its arguments, that hands in sources as variants; started in the package's folder.
    pub proposer: Option<Vec<String>>,
}

/// The strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StrategyName {
    /// A model of the space proposes what may be faster.
    Auto,
    /// The two-layer elite traverse.
    Evo,
    /// At random.
    Random,
    /// Simulated annealing.
    Annealing,
    /// A genetic algorithm.
    Genetic,
    /// Every variant.
    Exhaustive,
}

impl StrategyName {
    /// All, by their names in the table.
    pub const ALL: [(&str, StrategyName); 6] = [
        ("auto", StrategyName::Auto),
        ("evo", StrategyName::Evo),
        ("random", StrategyName::Random),
        ("annealing", StrategyName::Annealing),
        ("genetic", StrategyName::Genetic),
        ("exhaustive", StrategyName::Exhaustive),
    ];
}

/// What one launch does.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Floating-point operations.
    pub flops: Option<Expr>,
    /// Bytes moved at least.
    pub bytes: Option<Expr>,
}

#[cfg(test)]
mod tests;

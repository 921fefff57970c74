//! A function in a source file: how it is built and launched.

use std::path::PathBuf;

use kbench_runtime::dtype::DType;

use super::Place;
use crate::expr::Expr;

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
    /// The address of a tensor: an index into [`Kernel::tensors`](super::Kernel::tensors).
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
        /// Index into [`Kernel::tensors`](super::Kernel::tensors).
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
        /// Index into [`Kernel::tensors`](super::Kernel::tensors).
        tensor: usize,
    },
}

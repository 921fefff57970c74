//! The input of a compiler, and its output.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Geometry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Backend;

/// A unit of compilation: functions of a source with one choice of macros, for one architecture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unit {
    /// Kind of compiler.
    pub backend: Backend,
    /// Absolute path of the source.
    #[serde(serialize_with = "serialize_path")]
    pub source: PathBuf,
    /// The launched functions: at least one, each once.
    pub entries: Vec<Entry>,
    /// The user's flags; they follow this tool's flags and take precedence.
    pub flags: Vec<String>,
    /// Macros, passed as `-DNAME=VALUE` in this order: toggles, then defines.
    pub macros: Vec<(String, String)>,
    /// Constants that are declared before the source.
    pub constants: Vec<Constant>,
    /// Architecture such as `sm_90a`; required for CUDA, and only for CUDA.
    pub arch: Option<String>,
    /// Headers of the table, file names and texts: compilers look for headers there first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The package's folder, in which compilers run and look for headers (`-I`).
    #[serde(serialize_with = "serialize_path")]
    pub directory: PathBuf,
}

/// A constant with its type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Constant {
    /// Name of the constant.
    pub name: String,
    /// `bool`, `int`, `long long` or `double`.
    pub ty: &'static str,
    /// Value in C's syntax.
    pub value: String,
}

/// A function of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Name of a C function; symbol of a kernel or unambiguous C++ name (`k`, `ns::k`); or instance of a template,
    /// `ns::k<float, 64>`, which need not be instantiated in the source.
    pub name: String,
    /// The declared arguments, without symbols. C: the compiler checks them. CUDA: compared with the machine code.
    pub signature: Vec<Param>,
}

impl Entry {
    /// A function of that name and signature.
    #[cfg(test)]
    pub fn new(name: impl Into<String>, signature: Vec<Param>) -> Self {
        Self { name: name.into(), signature }
    }

    /// Whether the entry is an instance of a template.
    pub(super) fn is_instance(&self) -> bool {
        self.name.contains('<')
    }
}

/// A declared argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Param {
    /// The address of a tensor's first element.
    Tensor {
        /// Element type of the parameter.
        dtype: DType,
        /// Whether the function may write to the tensor; `None` for a tensor between launches, which is written by one
        /// and read by another.
        writable: Option<bool>,
    },
    /// A number by value.
    Scalar(DType),
    /// `bool`.
    Bool,
    /// `char`.
    Char,
    /// A struct by value.
    Struct {
        /// Size in bytes.
        bytes: u64,
        /// Type in the source; required for C.
        ty: Option<String>,
    },
    /// A `CUtensorMap` by value; CUDA only.
    TensorMap,
}

impl Param {
    /// Size in bytes among the parameters of a kernel.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Param::Tensor { .. } => 8,
            Param::Scalar(dtype) => dtype.size() as u64,
            Param::Bool | Param::Char => 1,
            Param::Struct { bytes, .. } => *bytes,
            Param::TensorMap => 128,
        }
    }
}

/// Compiled code.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// File with the machine code in the cache. It is shared and must not be changed.
    pub code: PathBuf,
    /// blake3 hash of the file, in hex.
    pub hash: String,
    /// Identity: a hash of the code without build ids, command lines and the like; equal for identical code, and only
    /// for it.
    pub identity: String,
    /// The compiled functions, in the order of the unit's entries.
    pub functions: Vec<Function>,
    /// The names of functions and objects that a C unit defines, sorted, without those of the compiler.
    pub defined: Vec<String>,
    /// The compile command, run in the package's folder. The path of its output is shortened to a file name.
    pub command: Vec<String>,
    /// The link command; empty where there is none.
    pub link: Vec<String>,
    /// The compiler's version line.
    pub compiler: String,
    /// Hash of the source and the files that it includes from the package's folder, by relative path and contents: the
    /// same for any folder of the package.
    pub source_hash: String,
    /// Warnings and advice of the compiler.
    pub messages: String,
    /// Whether the artifact is from the cache.
    pub cached: bool,
    /// Duration of the compilation, also of a cached one.
    pub took: Duration,
}

impl Artifact {
    /// The compiled function of an entry.
    pub fn function(&self, entry: &str) -> &Function {
        self.functions.iter().find(|function| function.entry == entry).expect("compiled with this entry")
    }

    /// The largest resources of any of its functions.
    pub fn resources(&self) -> Resources {
        Resources::most(self.functions.iter().map(|function| function.resources))
    }
}

/// A compiled function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Function {
    /// Name in the table.
    pub entry: String,
    /// Symbol in the machine code: that of a kernel, or the generated caller of a C function.
    pub symbol: String,
    /// Resources of the function.
    pub resources: Resources,
    /// The launches that its code allows.
    #[serde(default, skip_serializing_if = "Bounds::is_empty")]
    pub bounds: Bounds,
}

/// The launches that code allows, by attributes in its source (CUDA).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// The only block (`__block_size__`, `.reqntid`).
    pub block: Option<[u32; 3]>,
    /// The only cluster (`__cluster_dims__`).
    pub cluster: Option<[u32; 3]>,
    /// Largest number of blocks of a cluster (third argument of `__launch_bounds__`).
    pub max_cluster: Option<u32>,
}

impl Bounds {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Resources of an entry function. `None`: not applicable, or not reported by the compiler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Registers of a thread (CUDA).
    pub registers: Option<u64>,
    /// Static shared memory of a block in bytes, without the system's part (CUDA).
    pub static_shared: Option<u64>,
    /// Spill stores in bytes, of the kernel and of functions that it calls (CUDA).
    pub spill_stores: Option<u64>,
    /// Spill loads in bytes, of the kernel and of functions that it calls (CUDA).
    pub spill_loads: Option<u64>,
    /// Stack in bytes. CUDA: of a thread, called functions included. C: the largest frame of any function in the file.
    pub stack: Option<u64>,
    /// Machine code of the entry function in bytes.
    pub code_bytes: Option<u64>,
    /// Named barriers (CUDA).
    pub barriers: Option<u64>,
    /// Largest number of threads of a block for which the code was compiled: `__launch_bounds__` (CUDA).
    pub max_threads: Option<u64>,
}

impl Resources {
    /// Registers, and bytes of shared memory, spills, stack and code, for the order of variants that tie. Unknown
    /// resources are 0.
    pub fn standing(&self) -> [u64; 5] {
        let spills = self.spill_stores.unwrap_or(0) + self.spill_loads.unwrap_or(0);
        [self.registers, self.static_shared, Some(spills), self.stack, self.code_bytes].map(Option::unwrap_or_default)
    }

    /// The largest value of each resource over several functions; for the number of threads, the smallest.
    pub fn most(all: impl Iterator<Item = Self>) -> Self {
        all.reduce(|one, other| Self {
            registers: one.registers.max(other.registers),
            static_shared: one.static_shared.max(other.static_shared),
            spill_stores: one.spill_stores.max(other.spill_stores),
            spill_loads: one.spill_loads.max(other.spill_loads),
            stack: one.stack.max(other.stack),
            code_bytes: one.code_bytes.max(other.code_bytes),
            barriers: one.barriers.max(other.barriers),
            max_threads: [one.max_threads, other.max_threads].into_iter().flatten().min(),
        })
        .unwrap_or_default()
    }

    /// Spill stores and loads together, in bytes (CUDA).
    pub fn spills(&self) -> Option<u64> {
        Some(self.spill_stores? + self.spill_loads?)
    }

    /// Static and dynamic shared memory of a block, in bytes (CUDA).
    pub fn shared_bytes(&self, geometry: &Geometry) -> Option<u64> {
        Some(self.static_shared? + u64::from(geometry.dynamic_shared))
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spills = self.spills();
        let facts = [
            (self.registers, "registers"),
            (self.static_shared, "B static shared"),
            (spills, "B spills"),
            (self.stack, "B stack"),
            (self.code_bytes, "B code"),
        ];
        let facts: Vec<String> =
            facts.into_iter().filter_map(|(value, unit)| Some(format!("{} {unit}", value?))).collect();
        f.pad(&facts.join(", "))
    }
}

fn serialize_path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    super::text(path).serialize(serializer)
}

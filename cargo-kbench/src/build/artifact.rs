//! The input of a compiler, and its output.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Geometry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Backend;

/// One thing to compile: an entry function of a source with one choice of macros, for one architecture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unit {
    /// Which compiler.
    pub backend: Backend,
    /// Absolute path of the source.
    #[serde(serialize_with = "serialize_path")]
    pub source: PathBuf,
    /// The function: a C function's name; a kernel's symbol or any C++ name that is only its own (`k`, `ns::k`); an instance of a
    /// template, `ns::k<float, 64>`, which need not be instantiated in the source.
    pub entry: String,
    /// The user's flags, after this tool's own, so that they win.
    pub flags: Vec<String>,
    /// Macros, passed as `-DNAME=VALUE` in this order: toggles, then defines.
    pub macros: Vec<(String, String)>,
    /// Constants that are declared before the source.
    pub constants: Vec<Constant>,
    /// `sm_90a`; only for CUDA, and needed there.
    pub arch: Option<String>,
    /// The declared arguments, without symbols. C: the compiler checks them. CUDA: compared with the machine code.
    pub signature: Vec<Param>,
    /// The package's folder: where compilers run, and where they look for headers (`-I`).
    #[serde(serialize_with = "serialize_path")]
    pub directory: PathBuf,
}

impl Unit {
    /// Whether the entry is an instance of a template.
    pub(super) fn is_instance(&self) -> bool {
        self.entry.contains('<')
    }
}

/// A constant with its type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// `bool`, `int`, `long long` or `double`.
    pub ty: &'static str,
    /// Its value, as C writes it.
    pub value: String,
}

/// A declared argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Param {
    /// The address of a tensor's first element.
    Tensor {
        /// Its element type as the function sees it.
        dtype: DType,
        /// Whether the function may write to it.
        writable: bool,
    },
    /// A number by value.
    Scalar(DType),
    /// A `CUtensorMap` by value; CUDA only.
    TensorMap,
}

impl Param {
    /// Bytes it takes among the parameters of a kernel.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Param::Tensor { .. } => 8,
            Param::Scalar(dtype) => dtype.size() as u64,
            Param::TensorMap => 128,
        }
    }
}

/// Compiled code.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// The machine code, a file in the cache. Others may share it: it must not be changed.
    pub code: PathBuf,
    /// blake3 of its bytes, in hex.
    pub hash: String,
    /// A hash of what runs, without build ids, command lines and the like: equal for identical code, and only for it.
    pub identity: String,
    /// What to look up in the machine code: a kernel's symbol, or `kbench_entry`.
    pub symbol: String,
    /// The compile command, run in the package's folder. Where it writes to is shortened to a bare file name.
    pub command: Vec<String>,
    /// The link command; empty where there is none.
    pub link: Vec<String>,
    /// The compiler's version line.
    pub compiler: String,
    /// A hash over the source and the files it includes from the package's folder, by their paths in it and contents:
    /// the same wherever the package lies.
    pub source_hash: String,
    /// Warnings and advice, as the compiler wrote them.
    pub messages: String,
    /// What it uses.
    pub resources: Resources,
    /// Whether it came from the cache.
    pub cached: bool,
    /// How long its compilation took, whenever that was.
    pub took: Duration,
}

/// What the code of an entry function uses. `None`: not applicable, or the compiler did not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Registers a thread (CUDA).
    pub registers: Option<u64>,
    /// Static shared memory a block in bytes, without what the system reserves (CUDA).
    pub static_shared: Option<u64>,
    /// Bytes of spill stores, of the kernel and of functions it calls (CUDA).
    pub spill_stores: Option<u64>,
    /// Bytes of spill loads, of the kernel and of functions it calls (CUDA).
    pub spill_loads: Option<u64>,
    /// Bytes of stack. CUDA: a thread's, with what it calls. C: the largest frame of any function in the file.
    pub stack: Option<u64>,
    /// Bytes of the entry function's machine code.
    pub code_bytes: Option<u64>,
    /// Named barriers (CUDA).
    pub barriers: Option<u64>,
    /// Most threads a block that the code was compiled for: `__launch_bounds__` (CUDA).
    pub max_threads: Option<u64>,
}

impl Resources {
    /// Bytes of spill stores and loads together (CUDA).
    pub fn spills(&self) -> Option<u64> {
        Some(self.spill_stores? + self.spill_loads?)
    }

    /// Bytes of static and dynamic shared memory a block (CUDA).
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

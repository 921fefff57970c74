//! The input of a compiler, and its output.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Geometry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Backend;

/// One thing to compile: functions of a source with one choice of macros, for one architecture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unit {
    /// Which compiler.
    pub backend: Backend,
    /// Absolute path of the source.
    #[serde(serialize_with = "serialize_path")]
    pub source: PathBuf,
    /// The functions that are launched: at least one, each once.
    pub entries: Vec<Entry>,
    /// The user's flags, after this tool's own, so that they win.
    pub flags: Vec<String>,
    /// Macros, passed as `-DNAME=VALUE` in this order: toggles, then defines.
    pub macros: Vec<(String, String)>,
    /// Constants that are declared before the source.
    pub constants: Vec<Constant>,
    /// `sm_90a`; only for CUDA, and needed there.
    pub arch: Option<String>,
    /// Headers that the table holds, file names and texts: compilers look for headers there first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The package's folder: where compilers run, and where they look for headers (`-I`).
    #[serde(serialize_with = "serialize_path")]
    pub directory: PathBuf,
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

/// A function of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// A C function's name; a kernel's symbol or any C++ name that is only its own (`k`, `ns::k`); an instance of a template,
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

    /// Whether it is an instance of a template.
    pub(super) fn is_instance(&self) -> bool {
        self.name.contains('<')
    }
}

/// A declared argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Param {
    /// The address of a tensor's first element.
    Tensor {
        /// Its element type as the function sees it.
        dtype: DType,
        /// Whether the function may write to it; `None`: a launch of several may write it or read what another wrote.
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
        /// Its size.
        bytes: u64,
        /// Its type in the source; C needs it.
        ty: Option<String>,
    },
    /// A `CUtensorMap` by value; CUDA only.
    TensorMap,
}

impl Param {
    /// Bytes it takes among the parameters of a kernel.
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
    /// The machine code, a file in the cache. Others may share it: it must not be changed.
    pub code: PathBuf,
    /// blake3 of its bytes, in hex.
    pub hash: String,
    /// A hash of what runs, without build ids, command lines and the like: equal for identical code, and only for it.
    pub identity: String,
    /// What became of the unit's entries, in their order.
    pub functions: Vec<Function>,
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
    /// Whether it came from the cache.
    pub cached: bool,
    /// How long its compilation took, whenever that was.
    pub took: Duration,
}

impl Artifact {
    /// What became of the entry of this name.
    pub fn function(&self, entry: &str) -> &Function {
        self.functions.iter().find(|function| function.entry == entry).expect("compiled with this entry")
    }

    /// The most that any of its functions uses.
    pub fn resources(&self) -> Resources {
        Resources::most(self.functions.iter().map(|function| function.resources))
    }
}

/// A compiled function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Function {
    /// Its name in the table.
    pub entry: String,
    /// What to look up in the machine code: a kernel's symbol, or the name of the generated caller of a C function.
    pub symbol: String,
    /// What it uses.
    pub resources: Resources,
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
    /// Registers, and bytes of shared memory, spills, stack and code, for the order of variants that tie. What is not known is 0.
    pub fn standing(&self) -> [u64; 5] {
        let spills = self.spill_stores.unwrap_or(0) + self.spill_loads.unwrap_or(0);
        [self.registers, self.static_shared, Some(spills), self.stack, self.code_bytes].map(Option::unwrap_or_default)
    }

    /// The most of each that any of several functions uses; of the threads that one was compiled for, the fewest.
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

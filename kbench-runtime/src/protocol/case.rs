//! Cases: tensors, machine code with its launches, and the reference.

use serde::{Deserialize, Serialize};

use super::{DeviceKind, Number};
use crate::data::dtype::DType;
use crate::data::float::Float;

/// A kernel at one shape: its tensors and how to launch it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Every declared tensor; a tensor precedes those that are quantised from it.
    pub tensors: Vec<TensorSpec>,
    /// The kernel.
    pub sequence: Sequence,
}

/// A tensor with its sizes resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name of the tensor; the random stream of its contents depends on it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first, row-major.
    pub dims: Vec<u64>,
    /// Role in the kernel: read, written, both, or scratch.
    pub role: Role,
    /// Source of the initial contents.
    pub source: Source,
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product::<u64>() as usize
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.size()
    }
}

/// Role of a tensor in a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Read only; must be unchanged afterwards.
    #[default]
    In,
    /// Written in full; poisoned before every checked launch.
    Out,
    /// Read and written; restored before every checked launch.
    Inout,
    /// Read, and left in any state; restored before every checked launch.
    Clobbered,
    /// Written and read by the kernel only. Poisoned before every checked launch.
    Scratch,
}

impl Role {
    /// Whether the tensor is an output, which is compared with the reference's.
    pub fn is_output(self) -> bool {
        matches!(self, Role::Out | Role::Inout)
    }

    /// Whether the kernel reads the contents from before the launch.
    pub fn is_read(self) -> bool {
        matches!(self, Role::In | Role::Inout | Role::Clobbered)
    }

    /// Whether the kernel overwrites contents that it reads, so that they must be restored before each launch.
    pub fn is_in_place(self) -> bool {
        matches!(self, Role::Inout | Role::Clobbered)
    }
}

/// Source of a tensor's initial contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Normal distribution.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Uniform distribution over `[low, high)`.
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// Uniform integers over `low..=high`.
    Integers {
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
    },
    /// `start + step * i` in row-major order.
    Arange {
        /// First value.
        start: f64,
        /// Difference of neighbours.
        step: f64,
    },
    /// One value for all elements.
    Constant(#[serde(with = "Float")] f64),
    /// Starts of the rows of a sparse matrix: ascending, 0 first, `last` at the end, rows of random lengths.
    Offsets {
        /// Number of elements of all rows.
        last: u64,
    },
    /// A `.npy` file, or a tensor of a `.safetensors` file, sent as a blob.
    File {
        /// The blob.
        hash: String,
        /// The tensor's name in a `.safetensors` file; `None` means the blob is a `.npy` file.
        tensor: Option<String>,
    },
    /// Quantised from another tensor of the case: `value = round(from / scale)`.
    Quantize {
        /// Index of the tensor that holds the values.
        from: usize,
        /// Index of the tensor that receives the scales.
        scale: usize,
        /// For each dimension of the scale tensor, the dimension of `from` that it indexes;
        /// all other dimensions of `from` are reduced (absmax).
        scale_dims: Vec<usize>,
    },
    /// Made of other tensors of the case.
    Derived(Derived),
    /// Written by the [`Source::Quantize`] of another tensor.
    Scale,
    /// No contents: an output or scratch tensor.
    None,
}

/// Contents that are derived from other tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    /// Indices of tensors of the same sizes, which come before this one. Several are stacked along a new first axis.
    pub from: Vec<usize>,
    /// Sizes that the source gets before its axes are permuted, outermost first; empty: its own sizes.
    pub view: Vec<u64>,
    /// For each axis of the result the index of the axis of the view; empty: all axes in order.
    pub axes: Vec<usize>,
    /// For each axis the number of border elements at each end; empty: no border.
    pub width: Vec<u64>,
    /// The value of the border.
    #[serde(with = "Float")]
    pub border: f64,
    /// Whether all elements are drawn independently, so that new inputs may be the same elements in another order.
    pub drawn: bool,
}

/// Machine code, and the launches of its functions that together are one run of the kernel: in order, on one stream.
///
/// A run is checked and timed as a whole. Memory is poisoned and restored before the first launch only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// Kind of device. A reference may run on the host while its kernel runs on CUDA.
    pub device: DeviceKind,
    /// The machine code: a cubin (CUDA), a shared object (host), a fake model.
    pub blob: String,
    /// The launches, at least one.
    pub launches: Vec<Launch>,
}

impl Sequence {
    /// The arguments of all launches.
    pub fn args(&self) -> impl Iterator<Item = &Arg> {
        self.launches.iter().flat_map(|launch| &launch.args)
    }
}

/// Launch of one function of a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The symbol in the machine code.
    pub entry: String,
    /// Arguments in the order of the function's signature, symbols anywhere among them.
    pub args: Vec<Arg>,
    /// Grid, block and shared memory.
    pub geometry: Geometry,
    /// Tensors that are filled with zero bytes before this launch, as part of the run: indices into [`Case::tensors`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero: Vec<usize>,
}

/// One argument of a launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arg {
    /// The address of a tensor's first element: an index into [`Case::tensors`].
    Tensor(usize),
    /// The address of an element of a tensor.
    Offset {
        /// Index into [`Case::tensors`].
        tensor: usize,
        /// Number of elements before the address.
        elements: u64,
    },
    /// A struct passed by value.
    Struct {
        /// Size in bytes.
        bytes: usize,
        /// Tensors, offsets and scalars, each with its offset in bytes.
        fields: Vec<(usize, Arg)>,
    },
    /// A scalar passed by value.
    Scalar {
        /// Type in the signature.
        dtype: DType,
        /// Value.
        value: Number,
    },
    /// A `CUtensorMap` passed by value (`__grid_constant__ const`).
    TensorMap(TensorMap),
    /// The tensor's contents copied to a `__constant__` or `__device__` symbol before the launch; not in the signature.
    Symbol {
        /// Name of the symbol in the machine code.
        symbol: String,
        /// Index into [`Case::tensors`].
        tensor: usize,
    },
}

impl Arg {
    /// The tensors among the parameters, without symbols.
    pub fn passed(&self) -> Vec<usize> {
        match self {
            Arg::Tensor(tensor) | Arg::Offset { tensor, .. } => vec![*tensor],
            Arg::TensorMap(map) => vec![map.tensor],
            Arg::Struct { fields, .. } => fields.iter().flat_map(|(_, field)| field.passed()).collect(),
            Arg::Scalar { .. } | Arg::Symbol { .. } => Vec::new(),
        }
    }
}

/// A tiled tensor map over one tensor (`cuTensorMapEncodeTiled`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMap {
    /// Index into [`Case::tensors`].
    pub tensor: usize,
    /// Sizes in the map, outermost first (the tensor's dims, or dims that the table merges).
    pub dims: Vec<u64>,
    /// Box sizes, outermost first.
    pub r#box: Vec<u32>,
    /// Swizzle in bytes: 0, 32, 64 or 128.
    pub swizzle: u32,
}

/// Launch geometry, in CUDA's terms. Ignored by the host device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Geometry {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Blocks of a thread-block cluster, if there are clusters.
    pub cluster: Option<[u32; 3]>,
    /// Dynamic shared memory in bytes.
    pub dynamic_shared: u32,
    /// Whether to launch cooperatively (grid-wide synchronisation).
    pub cooperative: bool,
}

impl Default for Geometry {
    fn default() -> Self {
        Self { grid: [1; 3], block: [1; 3], cluster: None, dynamic_shared: 0, cooperative: false }
    }
}

/// A reference implementation over the tensors of its case.
///
/// Every floating-point tensor is passed as `precision`, with exactly widened inputs, for any type of the tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The kernel; its args index the case's tensors.
    pub sequence: Sequence,
    /// `F64` or `F32`.
    pub precision: DType,
    /// Whether the reference is a program and not machine code. The driver runs programs, and puts their results where
    /// the worker looks them up; only the arguments of `sequence` count.
    #[serde(default)]
    pub program: bool,
    /// Identity of the program or the machine code in the keys of its results: everything that they depend on beside
    /// the launch and the tensors.
    pub identity: String,
}

//! Element types of tensors and scalars.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The element type of a tensor, or the type of a scalar argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // each name says it all
pub enum DType {
    F64,
    F32,
    F16,
    Bf16,
    F8e4m3,
    F8e5m2,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl DType {
    /// Every type, in the order of messages.
    pub const ALL: [DType; 14] = [
        DType::F64,
        DType::F32,
        DType::F16,
        DType::Bf16,
        DType::F8e4m3,
        DType::F8e5m2,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
    ];

    /// Name in Cargo.toml, such as `f8e4m3`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::F8e4m3 => "f8e4m3",
            DType::F8e5m2 => "f8e5m2",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
        }
    }

    /// Size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => 2,
            DType::F8e4m3 | DType::F8e5m2 | DType::I8 | DType::U8 => 1,
        }
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::Bf16 | DType::F8e4m3 | DType::F8e5m2)
    }

    /// The largest finite number of the type. `f64::MAX` for integers, whose overflow is a fault.
    pub fn max_finite(self) -> f64 {
        match self {
            DType::F32 => f32::MAX.into(),
            DType::F16 => 65504.0,
            DType::Bf16 => half::bf16::MAX.into(),
            DType::F8e4m3 => 448.0,
            DType::F8e5m2 => 57344.0,
            _ => f64::MAX,
        }
    }

    /// The smallest positive number of a floating-point type that is not subnormal; 0 for integers.
    pub fn smallest_normal(self) -> f64 {
        match self {
            DType::F64 => f64::MIN_POSITIVE,
            DType::F32 | DType::Bf16 => f32::MIN_POSITIVE.into(),
            DType::F16 | DType::F8e5m2 => 1.0 / f64::from(1 << 14),
            DType::F8e4m3 => 1.0 / 64.0,
            _ => 0.0,
        }
    }

    /// The C type of an element in a kernel's signature. `_Float16` needs GCC 12 or Clang 15; the 8-bit floats
    /// and bf16 are passed as their bits.
    pub fn c_type(self) -> &'static str {
        match self {
            DType::F64 => "double",
            DType::F32 => "float",
            DType::F16 => "_Float16",
            DType::Bf16 | DType::U16 => "uint16_t",
            DType::F8e4m3 | DType::F8e5m2 | DType::U8 => "uint8_t",
            DType::I8 => "int8_t",
            DType::I16 => "int16_t",
            DType::I32 => "int32_t",
            DType::I64 => "int64_t",
            DType::U32 => "uint32_t",
            DType::U64 => "uint64_t",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or(())
    }
}

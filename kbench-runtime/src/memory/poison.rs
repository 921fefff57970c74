//! Poison: contents of writable memory before a checked launch.

/// The first poison: NaN in every floating-point type, -1 or the maximum in every integer type.
pub const NAN: u8 = 0xff;

/// The second poison: finite in every type, and different from the first in every byte.
pub const FINITE: u8 = 0x3c;

/// The second poison of shared memory and registers, whose contents are never compared: a large number in every type, because a maximum
/// hides NaN and small numbers.
pub const LARGE: u8 = 0x7b;

/// The bytes that fill written tensors and their guard bands before a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poison {
    /// Every byte of outputs and scratch.
    pub contents: u8,
    /// Every byte of their guard bands, and of the guard bands of tensors that are read and written.
    pub bands: u8,
}

impl Poison {
    /// [`NAN`] everywhere.
    pub const NAN: Self = Self { contents: NAN, bands: NAN };
    /// [`FINITE`] everywhere.
    pub const FINITE: Self = Self { contents: FINITE, bands: FINITE };
    /// NaN, which no tolerance accepts as a result, between finite guard bands, in which a copied NaN shows.
    pub const MIXED: Self = Self { contents: NAN, bands: FINITE };
}

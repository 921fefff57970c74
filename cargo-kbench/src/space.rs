//! The search space: toggles in two layers, constraints, and the variants that satisfy them.

use serde::{Deserialize, Serialize};

use crate::config::expr::{Expr, Value};

/// The layer of a toggle: the seed's two-layer traverse sweeps macro first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Structure: tile sizes, pipelining.
    Macro,
    /// Details tuned once the structure stands.
    Micro,
}

/// A preprocessor macro and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Toggle {
    /// The macro's name.
    pub name: String,
    /// Its values in the table's order, no two equal, at least one.
    pub values: Vec<Value>,
    /// Its layer.
    pub layer: Layer,
}

/// One point of a space: for each toggle, the index of its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant(pub Vec<u16>);

/// Toggles (macro first, each layer in the table's order), constraints and the default variant.
#[derive(Debug, Clone)]
pub struct Space {
    /// The toggles.
    pub toggles: Vec<Toggle>,
    /// Expressions over toggles that must be true.
    pub constraints: Vec<Expr>,
    /// The default variant; satisfies the constraints.
    pub default: Variant,
}

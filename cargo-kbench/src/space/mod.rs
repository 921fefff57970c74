//! The search space: toggles in two layers, constraints, and the variants that satisfy them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::expr::{EvalError, Expr, Value};

mod enumerate;
mod partition;
mod settings;
mod solve;

pub use enumerate::Counts;
pub use partition::{Part, Partition};
pub use settings::{OnlyValues, Settings, VariantError};
pub use solve::{Solutions, Variants};

/// The layer of a toggle: the strategy `evo` searches macro toggles first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Structure of the kernel, such as tile sizes and pipelining.
    Macro,
    /// Details, which are tuned after the structure.
    Micro,
}

impl Layer {
    /// Name of the layer in Cargo.toml.
    pub fn name(self) -> &'static str {
        match self {
            Layer::Macro => "macro",
            Layer::Micro => "micro",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The way in which a value reaches the code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// A preprocessor macro.
    #[default]
    Macro,
    /// A typed constant before the source.
    Constant,
    /// Only expressions and templates of the table name it: the code may not depend on it.
    Launch,
}

/// A toggle: a name and its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Toggle {
    /// Name of the toggle, and of its macro or constant.
    pub name: String,
    /// Values in the table's order: at least one, no two equal.
    pub values: Vec<Value>,
    /// Layer.
    pub layer: Layer,
    /// The way in which the value reaches the code.
    pub reach: Reach,
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
    /// The default variant, which satisfies the constraints.
    pub default: Variant,
}

impl Space {
    /// The variant's toggles with their values, in the space's order.
    pub fn get<'s>(&'s self, variant: &'s Variant) -> impl Iterator<Item = (&'s str, &'s Value)> + 's {
        self.toggles
            .iter()
            .zip(&variant.0)
            .map(|(toggle, &index)| (toggle.name.as_str(), &toggle.values[index as usize]))
    }

    /// The value of a toggle in a variant; `None` if no toggle has this name. For the lookup of [`Expr::eval`].
    pub fn value<'s>(&'s self, variant: &Variant, name: &str) -> Option<&'s Value> {
        let toggle = self.toggle(name)?;
        Some(&self.toggles[toggle].values[variant.0[toggle] as usize])
    }

    /// The index of the toggle with this name.
    pub fn toggle(&self, name: &str) -> Option<usize> {
        self.toggles.iter().position(|toggle| toggle.name == name)
    }

    /// The default variant with the values of the named toggles in `variant`. The result may be invalid.
    pub fn with_named(&self, variant: &Variant, names: &[&str]) -> Variant {
        let of = |(toggle, values): (&Toggle, (&u16, &u16))| {
            if names.contains(&toggle.name.as_str()) { *values.0 } else { *values.1 }
        };
        Variant(self.toggles.iter().zip(variant.0.iter().zip(&self.default.0)).map(of).collect())
    }

    /// The default variant with every combination of values of the named toggles. The results may be invalid.
    pub fn with_all_values(&self, names: &[&str]) -> Vec<Variant> {
        let mut variants = vec![self.default.clone()];
        for (at, toggle) in self.toggles.iter().enumerate().filter(|(_, toggle)| names.contains(&&*toggle.name)) {
            let with_value = |variant: &Variant, value: usize| {
                let mut variant = variant.clone();
                variant.0[at] = value as u16;
                variant
            };
            let values = 0..toggle.values.len();
            variants = variants.iter().flat_map(|v| values.clone().map(move |value| with_value(v, value))).collect();
        }
        variants
    }

    /// The first constraint that the variant violates, with the error if the constraint has no value. A constraint
    /// without a value counts as violated, here and in [`variants`](Self::variants).
    pub fn violated(&self, variant: &Variant) -> Option<(&Expr, Option<EvalError>)> {
        self.constraints.iter().find_map(|constraint| {
            let names = constraint.names();
            match constraint.is_true(&|name| self.value(variant, names[name])) {
                Ok(true) => None,
                Ok(false) => Some((constraint, None)),
                Err(error) => Some((constraint, Some(error))),
            }
        })
    }

    /// Whether the variant satisfies every constraint.
    pub fn is_valid(&self, variant: &Variant) -> bool {
        self.violated(variant).is_none()
    }

    /// The variant as text, such as `TILE_M=64 TILE_N=128`.
    pub fn label(&self, variant: &Variant) -> String {
        let words: Vec<String> = self.get(variant).map(|(name, value)| format!("{name}={value}")).collect();
        words.join(" ")
    }

    /// The toggles that reach the code in the way `reach`, each with its value.
    pub fn reaching<'s>(&'s self, variant: &'s Variant, reach: Reach) -> impl Iterator<Item = (&'s Toggle, &'s Value)> {
        let with_value = self.toggles.iter().zip(self.get(variant)).map(|(toggle, (_, value))| (toggle, value));
        with_value.filter(move |(toggle, _)| toggle.reach == reach)
    }

    /// The variant as a table of values by name, for JSON and TOML.
    pub fn settings(&self, variant: &Variant) -> Settings {
        Settings(self.get(variant).map(|(name, value)| (name.to_owned(), value.clone())).collect())
    }
}

/// A value as the text of a preprocessor macro.
pub fn macro_text(value: &Value) -> String {
    match value {
        Value::Bool(bool) => u8::from(*bool).to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;

//! Variants by name: `K=V,K2=V2` or `K=V K2=V2` on the command line, tables in JSON and TOML.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Space, Toggle, Variant, macro_text};
use crate::expr::{Expr, Value};
use crate::text::{did_you_mean, list};

/// Values of toggles by name, in the space's order; a table in JSON and TOML.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings(pub Vec<(String, Value)>);

impl Settings {
    /// The value of a toggle.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Whether both set the same toggles to the same values, in any order.
    pub fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|setting| other.0.contains(setting))
    }
}

impl fmt::Display for Settings {
    /// Writes the variant as text, such as `TILE_M=64 TILE_N=128`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "Toggles".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Values of toggles by name.",
            "additionalProperties": { "type": ["number", "boolean", "string"] },
        })
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of toggles")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::default();
                while let Some(entry) = map.next_entry()? {
                    settings.0.push(entry);
                }
                Ok(settings)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reason why names and values do not form a variant of a space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariantError {
    /// A part without `=`.
    #[error("expected `TOGGLE=value`, found `{0}`")]
    NoValue(String),
    /// A name that is no toggle.
    #[error("no toggle `{name}`{}", match suggestion {
        Some(suggestion) => format!("; did you mean `{suggestion}`?"),
        None => format!("; there are {}", list(known)),
    })]
    UnknownToggle {
        /// The name.
        name: String,
        /// A toggle with nearly the same name.
        suggestion: Option<String>,
        /// All toggles.
        known: Vec<String>,
    },
    /// A toggle named twice.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// A value that the toggle does not have.
    #[error("`{toggle}` has no value `{value}`; its values are {}", list(known))]
    UnknownValue {
        /// The toggle.
        toggle: String,
        /// The value.
        value: String,
        /// Values of the toggle.
        known: Vec<String>,
    },
    /// No combination of the given values satisfies the constraints.
    #[error("no variant has these values")]
    Nothing,
    /// A variant outside the space.
    #[error("`{label}` does not satisfy `{constraint}`")]
    Violates {
        /// Text of the variant.
        label: String,
        /// The first violated constraint.
        constraint: String,
    },
}

impl Space {
    /// Parses `K=V,K2=V2` or `K=V K2=V2`, as variants are printed; toggles that are not named have their default value.
    /// The result satisfies the constraints.
    pub fn parse(&self, text: &str) -> Result<Variant, VariantError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let mut rest = text.trim_start_matches(SEPARATORS);
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or_else(|| VariantError::NoValue(rest.trim().to_owned()))?;
            let name = name.trim();
            if name.contains(SEPARATORS) {
                let part = name.split(SEPARATORS).next().unwrap_or(name);
                return Err(VariantError::NoValue(part.to_owned()));
            }
            let at = self.toggle(name).ok_or_else(|| self.unknown_toggle(name))?;
            let length = self.toggles[at].length_of_value(after);
            pairs.push((name, &after[..length]));
            rest = after[length..].trim_start_matches(SEPARATORS);
        }
        self.build(
            &pairs,
            |(name, value)| (name, value.trim().to_owned()),
            |toggle, (_, value)| toggle.values.iter().position(|known| is_written(known, value)),
        )
    }

    /// The variant with these values; toggles that are not named have their default value. The result satisfies the
    /// constraints.
    pub fn variant(&self, settings: &Settings) -> Result<Variant, VariantError> {
        self.build(&settings.0, |(name, value)| (name, value.to_string()), |toggle, (_, value)| toggle.index_of(value))
    }

    fn build<T>(
        &self,
        pairs: &[T],
        text: impl Fn(&T) -> (&str, String),
        find: impl Fn(&Toggle, &T) -> Option<usize>,
    ) -> Result<Variant, VariantError> {
        let mut variant = self.default.clone();
        let mut seen = vec![false; self.toggles.len()];
        for pair in pairs {
            let (name, value) = text(pair);
            let at = self.toggle(name).ok_or_else(|| self.unknown_toggle(name))?;
            if std::mem::replace(&mut seen[at], true) {
                return Err(VariantError::Twice(name.to_owned()));
            }
            let toggle = &self.toggles[at];
            let index = find(toggle, pair).ok_or_else(|| VariantError::UnknownValue {
                toggle: name.to_owned(),
                value,
                known: toggle.values.iter().map(Value::to_string).collect(),
            })?;
            variant.0[at] = index as u16;
        }
        match self.violated(&variant) {
            None => Ok(variant),
            Some((constraint, _)) => {
                Err(VariantError::Violates { label: self.label(&variant), constraint: constraint.text().to_owned() })
            }
        }
    }

    /// The space in which the named toggles have only these values. A default outside of it is moved: to the first of
    /// the values, or, if these violate a constraint, to the first valid variant.
    pub fn narrowed(&self, only: &[OnlyValues]) -> Result<Self, VariantError> {
        let mut narrowed = self.clone();
        for OnlyValues { toggle: name, values } in only {
            let at = self.toggle(name).ok_or_else(|| self.unknown_toggle(name))?;
            let toggle = &self.toggles[at];
            let index = |value: &String| {
                let index = toggle.values.iter().position(|known| is_written(known, value));
                index.ok_or_else(|| VariantError::UnknownValue {
                    toggle: name.clone(),
                    value: value.clone(),
                    known: toggle.values.iter().map(Value::to_string).collect(),
                })
            };
            let indices: Vec<usize> = values.iter().map(index).collect::<Result<_, _>>()?;
            let literals: Vec<String> = indices.iter().map(|&index| literal(&toggle.values[index])).collect();
            let constraint = format!("{name} in [{}]", literals.join(", "));
            narrowed.constraints.push(Expr::parse(&constraint).expect("a name and literals"));
            if !indices.contains(&(narrowed.default.0[at] as usize)) {
                narrowed.default.0[at] = indices[0] as u16;
            }
        }
        if !narrowed.is_valid(&narrowed.default) {
            let first = narrowed.solve().variants().next();
            narrowed.default = first.ok_or(VariantError::Nothing)?;
        }
        Ok(narrowed)
    }

    fn unknown_toggle(&self, name: &str) -> VariantError {
        let known: Vec<String> = self.toggles.iter().map(|toggle| toggle.name.clone()).collect();
        let suggestion = did_you_mean(name, known.iter().map(String::as_str)).map(str::to_owned);
        VariantError::UnknownToggle { name: name.to_owned(), suggestion, known }
    }
}

/// A value in the syntax of expressions.
fn literal(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        other => other.to_string(),
    }
}

/// Selected values of a toggle, as in the text `TILE=64,128`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlyValues {
    toggle: String,
    values: Vec<String>,
}

impl FromStr for OnlyValues {
    type Err = VariantError;

    fn from_str(text: &str) -> Result<Self, VariantError> {
        let (toggle, values) = text.split_once('=').ok_or_else(|| VariantError::NoValue(text.to_owned()))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        Ok(Self { toggle: toggle.trim().to_owned(), values })
    }
}

/// Separators between the parts of a variant.
const SEPARATORS: [char; 5] = [',', ' ', '\t', '\n', '\r'];

/// Whether a text is a value, as users or the preprocessor write it.
fn is_written(value: &Value, text: &str) -> bool {
    let is = |text: &str| value.to_string() == text || macro_text(value) == text;
    is(text) || is(text.trim())
}

impl Toggle {
    /// Length in bytes of the value at the start of a text. Values may contain separators: the longest value wins that
    /// is followed by a separator or the end; without such a value, the text up to the next separator.
    fn length_of_value(&self, text: &str) -> usize {
        let ends = |length: &usize| text[*length..].chars().next().is_none_or(|next| SEPARATORS.contains(&next));
        let space = text.len() - text.trim_start().len();
        let begun = |from: usize| {
            let texts = self.values.iter().flat_map(|value| [value.to_string(), macro_text(value)]);
            let lengths =
                texts.filter(move |value| text[from..].starts_with(value.as_str())).map(move |v| from + v.len());
            lengths.filter(ends).max()
        };
        let unknown = || text[space..].find(SEPARATORS).map_or(text.len(), |end| space + end);
        begun(0).max(begun(space)).unwrap_or_else(unknown)
    }

    /// The index of a value; `true` is 1 and `false` is 0, as in the preprocessor.
    pub fn index_of(&self, value: &Value) -> Option<usize> {
        let exact = self.values.iter().position(|known| known == value);
        let text = macro_text(value);
        let alike = |known: &Value| {
            !matches!((known, value), (Value::Str(_), _) | (_, Value::Str(_))) && macro_text(known) == text
        };
        exact.or_else(|| self.values.iter().position(alike))
    }
}

//! Parts of a space that several runs search independently.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use kbench_runtime::fingerprint;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Space, Variant};

/// Part `part` of `of` parts; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Partition {
    part: u32,
    of: u32,
}

impl Partition {
    /// Number of the part, from 1.
    pub fn part(self) -> u32 {
        self.part
    }

    /// The number of parts.
    pub fn of(self) -> u32 {
        self.of
    }

    /// All parts of a division into `of` parts.
    pub fn all(of: u32) -> impl Iterator<Item = Self> {
        (1..=of).map(move |part| Self { part, of })
    }

    /// The variants of a space that belong to this part.
    pub fn of_space(self, space: &Space) -> Part {
        let hash = |name: &str, value| {
            let hash = fingerprint::of("partition 1", &(name, value));
            u64::from_str_radix(&hash[..16], 16).expect("a fingerprint is hexadecimal")
        };
        let hashes = space.toggles.iter().map(|toggle| toggle.values.iter().map(|value| hash(&toggle.name, value)));
        Part { hashes: hashes.map(Iterator::collect).collect(), partition: self }
    }
}

impl JsonSchema for Partition {
    fn schema_name() -> Cow<'static, str> {
        "Partition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl FromStr for Partition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((part, of)) if (1..=of).contains(&part) => Ok(Self { part, of }),
            _ => Err("expected the number of a part and the number of parts, `1/4` to `4/4`".to_owned()),
        }
    }
}

impl TryFrom<String> for Partition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        partition.to_string()
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.part, self.of))
    }
}

/// A part of a space. A hash of the names and values of a variant's toggles selects its part. The position of the
/// variant in the space, and the order of toggles and values in the table, have no influence, so an added value moves
/// no other variant.
#[derive(Debug, Clone)]
pub struct Part {
    /// Hash of name and value, for each toggle and value.
    hashes: Vec<Vec<u64>>,
    partition: Partition,
}

impl Part {
    /// Number of the part and of all parts.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Whether a variant belongs to this part. Each variant of the space belongs to exactly one part.
    pub fn contains(&self, variant: &Variant) -> bool {
        let pairs = self.hashes.iter().zip(&variant.0);
        let sum = pairs.fold(0u64, |sum, (values, &value)| sum.wrapping_add(values[value as usize]));
        mix(sum) % u64::from(self.partition.of) == u64::from(self.partition.part - 1)
    }
}

/// The finalizer of `SplitMix64`: every bit of the sum affects every bit of the result.
fn mix(sum: u64) -> u64 {
    let mut mixed = sum;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::expr::Value;
    use crate::space::{Layer, Reach, Toggle};

    fn toggle(name: &str, values: impl IntoIterator<Item = i64>) -> Toggle {
        let values = values.into_iter().map(Value::Int).collect();
        Toggle { name: name.into(), values, layer: Layer::Macro, reach: Reach::Macro }
    }

    fn space(toggles: Vec<Toggle>) -> Space {
        let default = Variant(vec![0; toggles.len()]);
        Space { toggles, constraints: Vec::new(), default }
    }

    /// The part of each variant, by its settings in any order.
    fn parts(space: &Space, of: u32) -> BTreeMap<BTreeMap<String, String>, u32> {
        let parts: Vec<Part> = (1..=of).map(|part| Partition { part, of }.of_space(space)).collect();
        let part_of = |variant: Variant| {
            let mut holding = (0..of).filter(|&part| parts[part as usize].contains(&variant));
            let part = holding.next().expect("every variant belongs to a part");
            assert_eq!(holding.next(), None, "no variant belongs to two parts");
            let settings = space.get(&variant).map(|(name, value)| (name.to_owned(), value.to_string())).collect();
            (settings, part)
        };
        space.variants().map(part_of).collect()
    }

    #[test]
    fn every_variant_belongs_to_exactly_one_part_and_parts_are_of_like_size() {
        let space = space(vec![toggle("A", 0..10), toggle("B", 0..10), toggle("C", 0..10)]);
        for of in [1, 2, 3, 7] {
            let parts = parts(&space, of);
            assert_eq!(parts.len(), 1000);
            for part in 0..of {
                let size = parts.values().filter(|&&of| of == part).count() as f64;
                let expected = 1000.0 / f64::from(of);
                // Six standard deviations of a fair draw.
                assert!((size - expected).abs() <= 6.0 * expected.sqrt(), "{size} of 1000 in part {part} of {of}");
            }
        }
    }

    #[test]
    fn the_table_may_be_reordered_and_extended() {
        let before = parts(&space(vec![toggle("A", 0..4), toggle("B", 0..4)]), 3);
        let after = parts(&space(vec![toggle("B", [9, 3, 2, 1, 0]), toggle("A", 0..5)]), 3);
        assert!(before.iter().all(|(settings, part)| after[settings] == *part));
    }

    #[test]
    fn a_part_is_the_same_in_every_version() {
        let parts: Vec<u32> = parts(&space(vec![toggle("A", 0..2), toggle("B", 0..3)]), 4).into_values().collect();
        assert_eq!(parts, [1, 1, 2, 0, 2, 1]);
    }

    #[test]
    fn only_parts_that_exist_can_be_named() {
        for text in ["1/1", "2/3", "3/3"] {
            assert_eq!(text.parse::<Partition>().unwrap().to_string(), text);
        }
        for text in ["", "1", "/", "0/3", "4/3", "1/0", "-1/2", "1/2/3", "a/b", "1 / 2"] {
            assert!(text.parse::<Partition>().is_err(), "{text}");
        }
    }
}

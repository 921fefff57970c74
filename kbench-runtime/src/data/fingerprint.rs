//! Fingerprints: the keys of results.
//!
//! A fingerprint is the blake3 hash, in hex, of a kind and of serialised data in one canonical encoding: every value
//! carries its type, every text and list its length, maps are sorted. Fields keep their names, so that two types never
//! share a fingerprint by chance. The kind has the name and version of the result (`"compile 2"`): raise the version
//! when the meaning of the data changes.

use ciborium::Value;
use serde::Serialize;

/// The fingerprint of `content` with a `kind`.
///
/// # Panics
///
/// If `content` cannot be serialised, which depends on its type and not on its value.
pub fn of(kind: &str, content: &(impl Serialize + ?Sized)) -> String {
    let value = Value::serialized(content).expect("plain data");
    let mut bytes = Vec::new();
    encode(&Value::Text(kind.to_owned()), &mut bytes);
    encode(&value, &mut bytes);
    of_bytes(&bytes)
}

/// The hash of the contents of a file, in hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn encode(value: &Value, into: &mut Vec<u8>) {
    let sized = |kind: u8, length: usize, into: &mut Vec<u8>| {
        into.push(kind);
        into.extend((length as u64).to_le_bytes());
    };
    match value {
        Value::Bool(flag) => into.extend([b'b', u8::from(*flag)]),
        Value::Integer(number) => {
            into.push(b'i');
            into.extend(i128::from(*number).to_le_bytes());
        }
        Value::Float(number) => {
            into.push(b'f');
            into.extend(number.to_bits().to_le_bytes());
        }
        Value::Text(text) => {
            sized(b't', text.len(), into);
            into.extend(text.as_bytes());
        }
        Value::Bytes(bytes) => {
            sized(b'x', bytes.len(), into);
            into.extend(bytes);
        }
        Value::Array(values) => {
            sized(b'a', values.len(), into);
            for value in values {
                encode(value, into);
            }
        }
        Value::Map(entries) => {
            // No encoded key is the beginning of another: entries sort as their keys do.
            let encoded = |(key, value): &(Value, Value)| {
                let mut bytes = Vec::new();
                encode(key, &mut bytes);
                encode(value, &mut bytes);
                bytes
            };
            let mut entries: Vec<_> = entries.iter().map(encoded).collect();
            entries.sort_unstable();
            sized(b'm', entries.len(), into);
            into.extend(entries.concat());
        }
        // serde has no tags and no other kinds.
        _ => into.push(b'n'),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn different_data_have_different_fingerprints() {
        #[derive(Serialize)]
        struct Named {
            name: &'static str,
        }
        #[derive(Serialize)]
        struct Other {
            other: &'static str,
        }
        let fingerprints = [
            of("a 1", &["ab", "c"]),
            of("a 1", &["a", "bc"]),
            of("a 2", &["a", "bc"]),
            of("a 1", &[["a", "bc"]]),
            of("a 1", &(["a"], ["bc"])),
            of("a 1", "1"),
            of("a 1", &1),
            of("a 1", &1.0),
            of("a 1", &true),
            of("a 1", &-0.0),
            of("a 1", &0.0),
            of("a 1", &f64::INFINITY),
            of("a 1", &f64::NEG_INFINITY),
            of("a 1", &f64::NAN),
            of("a 1", &None::<f64>),
            of("a 1", &u64::MAX),
            of("a 1", &-1),
            of("a 1", &Named { name: "x" }),
            of("a 1", &Other { other: "x" }),
        ];
        let mut distinct = fingerprints.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), fingerprints.len());
    }

    #[test]
    fn the_order_of_a_map_does_not_count() {
        let names: Vec<String> = (0..50).map(|number| format!("name{number}")).collect();
        let sorted: BTreeMap<&str, usize> = names.iter().map(|name| (name.as_str(), name.len())).collect();
        let hashed: HashMap<&str, usize> = names.iter().rev().map(|name| (name.as_str(), name.len())).collect();
        assert_eq!(of("m", &sorted), of("m", &hashed));
    }

    #[test]
    fn fingerprints_are_the_same_in_every_version() {
        let content = ("a", [1_u32, 2], Some(0.5), BTreeMap::from([("k", -1)]));
        assert_eq!(of("test 1", &content), "ecb93be65675edb3d2dc040a2418167647e5d5c2b11a772da48d5d6532ded3ba");
    }
}

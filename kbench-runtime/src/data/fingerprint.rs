//! Fingerprints: the keys of results.
//!
//! A fingerprint is the blake3 hash, in hex, of a kind and of serialised data in one canonical encoding: every value
//! carries its type, every text and list its length, maps are sorted. Fields keep their names, so that two types never
//! share a fingerprint by chance. The kind has the name and version of the result (`"compile 2"`): raise the version
//! when the meaning of the data changes.

use serde::Serialize;

use super::encoding::encoded;

/// The fingerprint of `content` with a `kind`.
///
/// # Panics
///
/// If `content` cannot be serialised, which depends on its type and not on its value.
pub fn of(kind: &str, content: &(impl Serialize + ?Sized)) -> String {
    of_bytes(&encoded(kind, content).expect("plain data"))
}

/// The hash of the contents of a file, in hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
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

    /// One value of each kind that serde has.
    #[test]
    fn every_kind_of_value_is_encoded_as_in_every_version() {
        #[derive(Serialize)]
        struct Unit;
        #[derive(Serialize)]
        struct Newtype(u8);
        #[derive(Serialize)]
        struct Pair(u16, f32);
        #[derive(Serialize)]
        enum Kind {
            Unit,
            Newtype(&'static str),
            Pair(i8, char),
            Struct { short: Option<bool>, longer: u32, a: i64 },
        }
        struct Raw([u8; 2]);
        impl Serialize for Raw {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        let of_long_names: BTreeMap<String, usize> =
            [300, 256, 2, 1, 0].iter().map(|&length| ("k".repeat(length), length)).collect();
        let kinds = vec![Kind::Unit, Kind::Newtype("x"), Kind::Pair(-1, 'é')];
        let content = (
            (Unit, (), Newtype(3), Pair(7, 0.1), kinds),
            Kind::Struct { short: None, longer: 5, a: i64::MIN },
            BTreeMap::from([-1, 300, 2].map(|key| (key, Raw([0, 255])))),
            of_long_names,
            (Vec::<u8>::new(), BTreeMap::<u8, u8>::new(), "", u64::MAX),
            (u128::from(u64::MAX), i128::from(i64::MIN)),
            std::time::Duration::from_nanos(1_234_567_891),
        );
        assert_eq!(of("test 2", &content), "848545653d231a8c4f7e8faa34c55540398fcbca86615f6b19599c2ae9d7e1aa");
    }
}

//! The encoding of values for fingerprints.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// Bytes that most contents need at most.
const USUAL: usize = 16 << 10;

/// The encoding of a text and of serialised data after it.
pub(super) fn encoded(kind: &str, content: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, fmt::Error> {
    let mut written = Written { bytes: Vec::with_capacity(USUAL), ..Written::default() };
    written.text(kind);
    content.serialize(Encoder(&mut written))?;
    Ok(written.bytes)
}

/// Writes values as they are serialised, without a tree of them: a search takes several fingerprints of each variant.
struct Encoder<'w>(&'w mut Written);

/// The bytes written so far.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// Places of the entries of all maps that are not closed.
    entries: Vec<usize>,
    /// Memory to sort a map in: places of its entries, and their bytes.
    order: Vec<Range<usize>>,
    sorted: Vec<u8>,
}

/// A list or map whose length is written at its end.
struct Open<'w> {
    into: &'w mut Written,
    /// Place of the length.
    length_at: usize,
    count: u64,
    /// Number of open entries before this map.
    before: usize,
}

impl Written {
    fn text(&mut self, text: &str) {
        self.sized(b't', text.as_bytes());
    }

    fn sized(&mut self, kind: u8, bytes: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    fn integer(&mut self, number: i128) {
        self.bytes.push(b'i');
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Sorts the entries of a map, the last ones: no encoded key is the beginning of another, so entries sort as their keys do.
    fn sort(&mut self, before: usize) {
        let Self { bytes, entries, order, sorted } = self;
        let entries_of = entries.get(before..).unwrap_or_default();
        if let Some(&first) = entries_of.first() {
            let ends = entries_of.iter().skip(1).copied().chain([bytes.len()]);
            order.clear();
            order.extend(entries_of.iter().zip(ends).map(|(&start, end)| start..end));
            if !order.is_sorted_by_key(|entry| &bytes[entry.clone()]) {
                order.sort_unstable_by(|a, b| bytes[a.clone()].cmp(&bytes[b.clone()]));
                sorted.clear();
                for entry in order {
                    sorted.extend_from_slice(&bytes[entry.clone()]);
                }
                bytes[first..].copy_from_slice(sorted);
            }
        }
        entries.truncate(before);
    }
}

impl<'w> Encoder<'w> {
    fn open(self, kind: u8) -> Open<'w> {
        let before = self.0.entries.len();
        self.0.bytes.push(kind);
        let length_at = self.0.bytes.len();
        self.0.bytes.extend_from_slice(&0u64.to_le_bytes());
        Open { into: self.0, length_at, count: 0, before }
    }

    /// A variant with data: a map of its name to them.
    fn variant(self, name: &str) -> Self {
        self.0.bytes.push(b'm');
        self.0.bytes.extend_from_slice(&1u64.to_le_bytes());
        self.0.text(name);
        self
    }
}

impl Open<'_> {
    fn add(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), fmt::Error> {
        self.count += 1;
        value.serialize(Encoder(self.into))
    }

    fn key(&mut self, key: &(impl Serialize + ?Sized)) -> Result<(), fmt::Error> {
        self.into.entries.push(self.into.bytes.len());
        self.add(key)
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), fmt::Error> {
        value.serialize(Encoder(self.into))
    }

    fn close(self) {
        let length = self.length_at..self.length_at + size_of::<u64>();
        self.into.bytes[length].copy_from_slice(&self.count.to_le_bytes());
        self.into.sort(self.before);
    }
}

/// Methods that write a number.
macro_rules! integers {
    ($($method:ident($number:ty)),+) => {
        $(fn $method(self, number: $number) -> Result<(), fmt::Error> {
            self.0.integer(number.into());
            Ok(())
        })+
    };
}

impl<'w> Serializer for Encoder<'w> {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Open<'w>;
    type SerializeTuple = Open<'w>;
    type SerializeTupleStruct = Open<'w>;
    type SerializeTupleVariant = Open<'w>;
    type SerializeMap = Open<'w>;
    type SerializeStruct = Open<'w>;
    type SerializeStructVariant = Open<'w>;

    integers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64)
    }

    fn serialize_i128(self, number: i128) -> Result<(), fmt::Error> {
        self.0.integer(number);
        Ok(())
    }

    fn serialize_u128(self, number: u128) -> Result<(), fmt::Error> {
        self.0.integer(number.cast_signed());
        Ok(())
    }

    fn serialize_bool(self, flag: bool) -> Result<(), fmt::Error> {
        self.0.bytes.extend_from_slice(&[b'b', u8::from(flag)]);
        Ok(())
    }

    fn serialize_f32(self, number: f32) -> Result<(), fmt::Error> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), fmt::Error> {
        self.0.bytes.push(b'f');
        self.0.bytes.extend_from_slice(&number.to_bits().to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, character: char) -> Result<(), fmt::Error> {
        self.serialize_str(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), fmt::Error> {
        self.0.text(value);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), fmt::Error> {
        self.0.sized(b'x', bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        self.0.bytes.push(b'n');
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), fmt::Error> {
        self.serialize_none()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), fmt::Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        value.serialize(self.variant(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open(b'a'))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open(b'a'))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open(b'a'))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'w>, fmt::Error> {
        Ok(self.variant(variant).open(b'a'))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open(b'm'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'w>, fmt::Error> {
        Ok(self.open(b'm'))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'w>, fmt::Error> {
        Ok(self.variant(variant).open(b'm'))
    }

    /// As in earlier versions: a type may be serialised otherwise for readers.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Traits whose values have no names.
macro_rules! lists {
    ($($list:ident::$method:ident),+) => {
        $(impl ser::$list for Open<'_> {
            type Ok = ();
            type Error = fmt::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
                self.add(value)
            }

            fn end(self) -> Result<(), fmt::Error> {
                self.close();
                Ok(())
            }
        })+
    };
}

lists! {
    SerializeSeq::serialize_element, SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field
}

/// Traits whose values have names.
macro_rules! structs {
    ($($of:ident),+) => {
        $(impl ser::$of for Open<'_> {
            type Ok = ();
            type Error = fmt::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), fmt::Error> {
                self.key(name)?;
                self.value(value)
            }

            fn end(self) -> Result<(), fmt::Error> {
                self.close();
                Ok(())
            }
        })+
    };
}

structs! { SerializeStruct, SerializeStructVariant }

impl ser::SerializeMap for Open<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), fmt::Error> {
        self.close();
        Ok(())
    }
}

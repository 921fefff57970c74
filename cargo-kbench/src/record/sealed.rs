//! JSON objects on one line, whose last field is a checksum of all preceding bytes.

use kbench_runtime::fingerprint;

/// Separator between an object's fields and its checksum.
const FIELD: &[u8] = b",\"sum\":\"";

/// Digits of the checksum.
const DIGITS: usize = 16;

/// The line of an object, with its checksum and a newline.
pub fn seal(mut object: Vec<u8>) -> Vec<u8> {
    // The last byte is the closing brace.
    object.pop();
    let sum = checksum(&object);
    object.extend(FIELD);
    object.extend(sum.as_bytes());
    object.extend(b"\"}\n");
    object
}

/// The object of a line without its newline, up to its closing brace; `None` if the line is damaged.
pub fn open(line: &[u8]) -> Option<&[u8]> {
    let fields = line.strip_suffix(b"\"}")?;
    let (fields, sum) = fields.split_at_checked(fields.len().checked_sub(DIGITS)?)?;
    let fields = fields.strip_suffix(FIELD)?;
    (checksum(fields).as_bytes() == sum).then_some(fields)
}

fn checksum(fields: &[u8]) -> String {
    let mut sum = fingerprint::of_bytes(fields);
    sum.truncate(DIGITS);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_object_opens_and_any_other_byte_damages_it() {
        let sealed = seal(b"{\"a\":1}".to_vec());
        let line = sealed.strip_suffix(b"\n").unwrap();
        assert!(line.starts_with(b"{\"a\":1,\"sum\":\"") && line.ends_with(b"\"}"));
        serde_json::from_slice::<serde_json::Value>(line).unwrap();
        assert_eq!(open(line), Some(&b"{\"a\":1"[..]));
        for at in 0..line.len() {
            let mut damaged = line.to_vec();
            damaged[at] ^= 1;
            assert_eq!(open(&damaged), None, "{at}");
            assert_eq!(open(&line[..at]), None, "torn after {at} bytes");
        }
    }

    #[test]
    fn the_checksum_of_one_object_is_not_that_of_another() {
        let [one, other] = [&b"{\"a\":1}"[..], b"{\"a\":2}"].map(|object| seal(object.to_vec()));
        let sum = |line: &[u8]| line[line.len() - DIGITS - 3..].to_vec();
        assert_ne!(sum(&one), sum(&other));
        let exchanged = [b"{\"a\":1".to_vec(), FIELD.to_vec(), sum(&other)].concat();
        assert_eq!(open(exchanged.strip_suffix(b"\n").unwrap()), None);
    }
}

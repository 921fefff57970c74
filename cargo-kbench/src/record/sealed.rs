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

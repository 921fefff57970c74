//! One line of a journal: a record as JSON, whose last field is a checksum of all preceding bytes.

use kbench_runtime::fingerprint;

use super::Record;
use crate::record::evaluation::Evaluation;

/// Separator between a record's fields and its checksum.
const FIELD: &[u8] = b",\"sum\":\"";

/// First bytes of the line of an evaluation.
const EVALUATION: &[u8] = b"{\"record\":\"evaluation\",";

/// Number of bytes that most lines need at most.
const USUAL: usize = 4 << 10;

/// Digits of the checksum.
const DIGITS: usize = 16;

/// A record as a line, with a newline.
pub(super) fn encode(record: &Record) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(record).map(sealed)
}

/// [`Record::Evaluation`] of this evaluation as a line, with a newline.
pub(super) fn encode_evaluation(evaluation: &Evaluation) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(USUAL);
    let comma_at = EVALUATION.len() - 1;
    line.extend(&EVALUATION[..comma_at]);
    // The evaluation's opening brace gets the place of the comma.
    serde_json::to_writer(&mut line, evaluation)?;
    line[comma_at] = b',';
    Ok(sealed(line))
}

/// The line of an object.
fn sealed(mut line: Vec<u8>) -> Vec<u8> {
    // The last byte is the closing brace.
    line.pop();
    let sum = checksum(&line);
    line.extend(FIELD);
    line.extend(sum.as_bytes());
    line.extend(b"\"}\n");
    line
}

/// The record of a line without its newline; `None` if the line is damaged.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    let fields = line.strip_suffix(b"\"}")?;
    let (fields, sum) = fields.split_at_checked(fields.len().checked_sub(DIGITS)?)?;
    let fields = fields.strip_suffix(FIELD)?;
    if checksum(fields).as_bytes() != sum {
        return None;
    }
    // Nearly all lines are evaluations. serde's general search for the tag would double the time.
    let (fields, is_evaluation) = match fields.strip_prefix(EVALUATION) {
        Some(fields) => (fields, true),
        None => (fields.strip_prefix(b"{")?, false),
    };
    let object = [b"{", fields, b"}"].concat();
    if is_evaluation {
        return serde_json::from_slice(&object).ok().map(Record::Evaluation);
    }
    serde_json::from_slice(&object).ok()
}

fn checksum(fields: &[u8]) -> String {
    let mut sum = fingerprint::of_bytes(fields);
    sum.truncate(DIGITS);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::Settings;

    #[test]
    fn an_evaluation_is_read_as_it_was_written() {
        let evaluation = Evaluation::new(Settings::default(), vec!["a \"quoted\" word".into()]);
        let line = encode_evaluation(&evaluation).unwrap();
        let record = Record::Evaluation(Box::new(evaluation));
        assert_eq!(encode(&record).unwrap(), line);
        assert!(line.starts_with(EVALUATION));
        assert_eq!(decode(line.strip_suffix(b"\n").unwrap()), Some(record));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let record = Record::End { evaluations: 1234, conclusion: None };
        let line = encode(&record).unwrap();
        let line = line.strip_suffix(b"\n").unwrap();
        assert_eq!(decode(line), Some(record));
        let value: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!((&value["record"], &value["evaluations"]), (&"end".into(), &1234.into()));
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            assert_eq!(decode(&changed), None, "byte {at}");
            assert_eq!(decode(&line[..at]), None, "cut at {at}");
        }
    }
}

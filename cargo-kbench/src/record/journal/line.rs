//! One line of a journal: a sealed record.

use super::Record;
use crate::record::evaluation::Evaluation;
use crate::record::sealed;

/// First bytes of the line of an evaluation.
const EVALUATION: &[u8] = b"{\"record\":\"evaluation\",";

/// Number of bytes that most lines need at most.
const USUAL: usize = 4 << 10;

/// A record as a line, with a newline.
pub(super) fn encode(record: &Record) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(record).map(sealed::seal)
}

/// [`Record::Evaluation`] of this evaluation as a line, with a newline.
pub(super) fn encode_evaluation(evaluation: &Evaluation) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(USUAL);
    let comma_at = EVALUATION.len() - 1;
    line.extend(&EVALUATION[..comma_at]);
    // The evaluation's opening brace gets the place of the comma.
    serde_json::to_writer(&mut line, evaluation)?;
    line[comma_at] = b',';
    Ok(sealed::seal(line))
}

/// The record of a line without its newline; `None` if the line is damaged.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    let fields = sealed::open(line)?;
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

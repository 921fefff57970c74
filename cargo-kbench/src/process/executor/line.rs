//! Lines of an untrusted program.

use std::io::{BufRead, Read as _};

/// Largest number of bytes of a line of stderr.
pub(super) const LONGEST: u64 = 1 << 16;

/// The next line without its end; the last line may lack an end. `None` at the end of the stream. The error holds the
/// first `longest` bytes of a longer line.
pub(super) fn read(from: &mut impl BufRead, longest: u64) -> Option<Result<Vec<u8>, Vec<u8>>> {
    let mut line = Vec::new();
    // One more byte for the end of the line.
    let read = from.by_ref().take(longest.saturating_add(1)).read_until(b'\n', &mut line);
    if !read.is_ok_and(|read| read > 0) {
        return None;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > longest {
        return Some(Err(line));
    }
    Some(Ok(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_are_too_long() {
        let mut text: &[u8] = b"ab\n\nabcd\nabcdefg\nx";
        let mut lines = Vec::new();
        while let Some(line) = read(&mut text, 4) {
            lines.push(line.map_err(|cut| cut.len()));
        }
        let ok = |text: &str| Ok(text.as_bytes().to_vec());
        assert_eq!(lines, [ok("ab"), ok(""), ok("abcd"), Err(5), ok("fg"), ok("x")]);
        assert_eq!(read(&mut &b"ab"[..], u64::MAX), Some(Ok(b"ab".to_vec())));
    }
}

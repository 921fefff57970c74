//! Lines of an untrusted program.

use std::io::{BufRead as _, ErrorKind, Read};

/// Largest number of bytes of a line of stderr.
pub(super) const LONGEST: usize = 1 << 16;

/// Number of bytes that are read at once, where lines are short.
const SHORT: usize = 4 << 10;

/// Bytes of a stream, as lines. The stream is read only when the caller says that it has bytes.
#[derive(Debug)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Place of the first byte that was not returned, and of the first byte that is not known to be inside of its line.
    start: usize,
    searched: usize,
    /// End of the bytes read so far.
    end: usize,
    longest: usize,
    has_ended: bool,
}

impl Lines {
    /// Lines of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, searched: 0, end: 0, longest, has_ended: false }
    }

    /// Whether the stream has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Reads once. A stream that cannot be read has ended.
    pub(super) fn read(&mut self, from: &mut impl Read) {
        if self.start == self.end {
            (self.start, self.searched, self.end) = (0, 0, 0);
            if self.bytes.len() > LONGEST {
                // One long line is no reason to keep that much for all workers.
                self.bytes = Vec::new();
            }
        }
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.searched, self.end) = (self.searched - self.start, self.end - self.start);
                self.start = 0;
            } else {
                self.bytes.resize((2 * self.end).max(SHORT), 0);
            }
        }
        match from.read(&mut self.bytes[self.end..]) {
            Ok(read) => {
                self.end += read;
                self.has_ended = read == 0;
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => self.has_ended = true,
        }
    }

    /// The next line without its end, if all of it was read; the last line may lack an end. The error holds the first
    /// bytes of a line that is too long; the rest is in the next ones.
    pub(super) fn next(&mut self) -> Option<Result<&[u8], &[u8]>> {
        let mut rest = &self.bytes[self.searched..self.end];
        self.searched += rest.skip_until(b'\n').expect("memory can be read");
        let length = self.searched - self.start;
        let is_whole = length > 0 && self.bytes[self.searched - 1] == b'\n';
        let without_end = length - usize::from(is_whole);
        let from = self.start;
        if without_end > self.longest {
            self.start += self.longest + 1;
            self.searched = self.start;
            return Some(Err(&self.bytes[from..self.start]));
        }
        let is_last = self.has_ended && length > 0;
        if !is_whole && !is_last {
            return None;
        }
        self.start = self.searched;
        Some(Ok(&self.bytes[from..from + without_end]))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A stream that has this number of bytes at once.
    struct Portions<'t>(&'t [u8], usize);

    impl Read for Portions<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(self.1);
            self.0.read(&mut into[..most])
        }
    }

    fn all(mut stream: impl Read, longest: usize) -> Vec<Result<Vec<u8>, usize>> {
        let mut lines = Lines::new(longest);
        let mut all = Vec::new();
        while !lines.has_ended() {
            lines.read(&mut stream);
            while let Some(line) = lines.next() {
                all.push(line.map(<[u8]>::to_vec).map_err(<[u8]>::len));
            }
        }
        all
    }

    #[test]
    fn lines_are_cut_where_they_are_too_long() {
        let ok = |text: &str| Ok(text.as_bytes().to_vec());
        for portion in 1..20 {
            let lines = all(Portions(b"ab\n\nabcd\nabcdefg\nx", portion), 4);
            assert_eq!(lines, [ok("ab"), ok(""), ok("abcd"), Err(5), ok("fg"), ok("x")], "{portion} bytes at once");
        }
        assert_eq!(all(&b"ab"[..], usize::MAX), [ok("ab")]);
        assert_eq!(all(&b""[..], 4), []);
    }

    #[test]
    fn long_lines_between_short_ones_arrive_whole() {
        let long = "long".repeat(LONGEST);
        let text = format!("first\n{long}\nsecond\n{long}\n{long}\nlast\n");
        for portion in [1000, SHORT, 5 * LONGEST] {
            let lines = all(Portions(text.as_bytes(), portion), usize::MAX);
            let expected: Vec<_> = text.lines().map(|line| Ok(line.as_bytes().to_vec())).collect();
            assert!(lines == expected, "{portion} bytes at once");
        }
    }
}

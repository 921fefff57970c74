//! Colours, and the escaping of texts from outside.
//!
//! A style is a noncharacter of Unicode until a text is printed. So every control character in a text is known to come
//! from outside (from a table, a compiler, a kernel, a file), and is escaped: it cannot move the cursor, clear the
//! screen or set a title.

use std::fmt::{self, Display, Write as _};

use anstyle::AnsiColor;

use crate::text::printable;

/// A style; `{STYLE}` begins it, `{STYLE:#}` ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style(char);

/// Style of a pass or a winner.
pub const GOOD: Style = Style('\u{fdd0}');
/// Style of a warning.
pub const WARN: Style = Style('\u{fdd1}');
/// Style of a failure.
pub const BAD: Style = Style('\u{fdd2}');
/// Style of a note.
pub const NOTE: Style = Style('\u{fdd3}');
/// Ends each style.
const END: char = '\u{fdd4}';

impl Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(if f.alternate() { END } else { self.0 })
    }
}

fn is_mark(c: char) -> bool {
    (GOOD.0..=END).contains(&c)
}

/// A text for a terminal: styles as ANSI escapes, all other characters that a terminal interprets escaped.
pub fn ansi(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let text = printable(text);
    let mut rest = &*text;
    while let Some(at) = rest.find(is_mark) {
        let mark = rest[at..].chars().next().expect("one was found");
        shown.push_str(&rest[..at]);
        let colour = match Style(mark) {
            GOOD => AnsiColor::Green,
            WARN => AnsiColor::Yellow,
            BAD => AnsiColor::Red,
            _ => AnsiColor::Cyan,
        };
        let _ = match mark {
            END => write!(shown, "{}", anstyle::Reset),
            _ => write!(shown, "{}", colour.on_default().bold()),
        };
        rest = &rest[at + mark.len_utf8()..];
    }
    shown + rest
}

/// The text without colours.
pub fn plain(text: &str) -> String {
    printable(text).replace(is_mark, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_from_outside_are_escaped() {
        let foreign = "\u{1b}[2J\u{1b}[32mpass\r\u{8}\u{9b}2J\u{202e}\u{7f}";
        let text = format!("{BAD}FAIL{BAD:#} {foreign}\n");
        assert_eq!(
            ansi(&text),
            "\u{1b}[1m\u{1b}[31mFAIL\u{1b}[0m \\u{1b}[2J\\u{1b}[32mpass\\r\\u{8}\\u{9b}2J\\u{202e}\\u{7f}\n"
        );
        assert_eq!(plain("{GOOD}"), "{GOOD}");
        assert_eq!(plain(&format!("{GOOD}a{GOOD:#}\tb")), "a\tb");
    }
}

//! A lexer for the part of C and C++ that is needed to find statements: tokens without comments, and preprocessor lines
//! in one piece.

use std::ops::Range;

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or a keyword.
    Word,
    /// A number.
    Number,
    /// A string or a character, with its quotes.
    Text,
    /// A preprocessor directive with its continuation lines.
    Directive,
    /// An operator or a bracket.
    Punct,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'s> {
    /// Kind of the token.
    pub kind: Kind,
    /// Text of the token.
    pub text: &'s str,
    /// Offset of the token's first byte in the source.
    pub start: usize,
}

impl Token<'_> {
    /// Byte range of the token in the source.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

/// Operators of several characters, longer ones first.
const OPERATORS: [&str; 24] = [
    "<<=", ">>=", "...", "->*", "<=", ">=", "==", "!=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "&&", "||",
    "++", "--", "->", "::", "<<", ">>",
];

/// The tokens of a source. Invalid C, such as an open string, ends at its line or at the end of the source.
pub fn lex(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut line_start = true;
    while at < bytes.len() {
        let rest = &source[at..];
        let byte = bytes[at];
        if byte == b'\n' {
            line_start = true;
            at += 1;
            continue;
        }
        if byte.is_ascii_whitespace() || byte == b'\\' {
            at += 1;
            continue;
        }
        if rest.starts_with("//") {
            at = line_end(source, at);
            continue;
        }
        if rest.starts_with("/*") {
            at = comment_end(source, at);
            continue;
        }
        let (kind, end) = match byte {
            b'#' if line_start => (Kind::Directive, directive_end(source, at)),
            b'"' | b'\'' => (Kind::Text, quoted_end(source, at)),
            b'0'..=b'9' => (Kind::Number, number_end(bytes, at)),
            b'.' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => (Kind::Number, number_end(bytes, at)),
            _ if is_word(byte) => {
                let end = at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
                match &source[at..end] {
                    "R" | "LR" | "uR" | "UR" | "u8R" if bytes.get(end) == Some(&b'"') => {
                        (Kind::Text, raw_end(source, end))
                    }
                    _ => (Kind::Word, end),
                }
            }
            _ => {
                let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
                (Kind::Punct, at + operator.map_or(1, |operator| operator.len()))
            }
        };
        tokens.push(Token { kind, text: &source[at..end], start: at });
        line_start = false;
        at = end;
    }
    tokens
}

/// Whether a byte belongs to a word; letters of any script do.
fn is_word(byte: u8) -> bool {
    byte == b'_' || byte == b'$' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn line_end(source: &str, at: usize) -> usize {
    source[at..].find('\n').map_or(source.len(), |length| at + length)
}

fn comment_end(source: &str, at: usize) -> usize {
    source[at + 2..].find("*/").map_or(source.len(), |length| at + length + 4)
}

fn directive_end(source: &str, start: usize) -> usize {
    let mut at = start;
    loop {
        let end = line_end(source, at);
        // A comment may hide the end of the line.
        if let Some(comment) = source[at..end].find("/*")
            && !source[at..at + comment].contains("//")
        {
            at = comment_end(source, at + comment);
            continue;
        }
        if !source[at..end].trim_end_matches('\r').ends_with('\\') || end == source.len() {
            return end;
        }
        at = end + 1;
    }
}

fn quoted_end(source: &str, start: usize) -> usize {
    let bytes = source.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'\n' {
        match bytes[at] {
            byte if byte == bytes[start] => return at + 1,
            // The next byte, a line break included, is escaped and does not end the literal.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    // The escape may end within a character.
    let mut end = at.min(source.len());
    while !source.is_char_boundary(end) {
        end += 1;
    }
    end
}

/// Digits, letters, points, `'` between digits, and the signs of exponents.
fn number_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() {
        let exponent = |byte: u8| matches!(byte, b'e' | b'E' | b'p' | b'P');
        let is_hex = bytes[start..].len() > 1 && matches!(bytes[start + 1], b'x' | b'X');
        let more = match bytes[at] {
            b'+' | b'-' => at > start && exponent(bytes[at - 1]) && (!is_hex || matches!(bytes[at - 1], b'p' | b'P')),
            b'\'' => bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric),
            byte => byte == b'.' || is_word(byte),
        };
        if !more {
            break;
        }
        at += 1;
    }
    at
}

/// The end of `R"delimiter(…)delimiter"`, whose `"` is at `quote`.
fn raw_end(source: &str, quote: usize) -> usize {
    let Some(open) = source[quote..].find('(') else { return source.len() };
    let close = format!("){}\"", &source[quote + 1..quote + open]);
    source[quote + open..].find(&close).map_or(source.len(), |length| quote + open + length + close.len())
}

/// The index of the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if token.kind == Kind::Punct {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(index);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(source: &str) -> Vec<&str> {
        lex(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_text_hold_no_tokens() {
        assert_eq!(texts("a /* b; */ c // d\n e"), ["a", "c", "e"]);
        assert_eq!(texts(r#"f("a;\"b", '"') g"#), ["f", "(", r#""a;\"b""#, ",", "'\"'", ")", "g"]);
        assert_eq!(texts("x = R\"--(a)\" ; )--\" ; y"), ["x", "=", "R\"--(a)\" ; )--\"", ";", "y"]);
        assert_eq!(texts("a \"open\nb"), ["a", "\"open", "b"]);
    }

    #[test]
    fn directives_are_one_token_with_their_continuations() {
        assert_eq!(texts("#define A(x) \\\n  f(x)\nb # c"), ["#define A(x) \\\n  f(x)", "b", "#", "c"]);
        assert_eq!(texts("#if A /* a\nb */ && B\nc"), ["#if A /* a\nb */ && B", "c"]);
    }

    #[test]
    fn numbers_and_operators() {
        assert_eq!(
            texts("1'000 0x1.8p-3f 1e+5 0xe+1 .5 i+=2"),
            ["1'000", "0x1.8p-3f", "1e+5", "0xe", "+", "1", ".5", "i", "+=", "2"]
        );
        assert_eq!(texts("a->b<<=c>>d::e"), ["a", "->", "b", "<<=", "c", ">>", "d", "::", "e"]);
    }

    proptest! {
        #[test]
        fn any_text_has_tokens_in_order(source in any::<String>()) {
            let mut end = 0;
            for token in lex(&source) {
                prop_assert!(token.start >= end && !token.text.is_empty());
                prop_assert_eq!(&source[token.range()], token.text);
                end = token.range().end;
            }
        }

        #[test]
        fn any_c_like_text_has_tokens_in_order(source in r#"[a#"'\\\n/*(){};R0é ]{0,60}"#) {
            prop_assert!(lex(&source).iter().all(|token| source[token.range()] == *token.text));
        }
    }
}

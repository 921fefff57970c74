//! Texts with expressions in them: `-maxrregcount={REGS}`, `scan_{METHOD}`, `ns::kernel<float, BM>`.

use std::fmt;
use std::ops::Range;

use super::{EvalError, Expr, ParseError, Value};

/// A text whose `{expression}`s are replaced by their values; `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    /// An expression and where it begins in the text.
    Expr(Expr, usize),
}

impl Template {
    /// Parses a text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (mut parts, mut plain, mut at) = (Vec::new(), String::new(), 0);
        while let Some(first) = text[at..].chars().next() {
            let wrong = |message: &str, range: Range<usize>| ParseError { message: message.to_owned(), range };
            match first {
                '{' | '}' if text[at + 1..].starts_with(first) => {
                    plain.push(first);
                    at += 2;
                }
                '}' => return Err(wrong("`}` without `{`; `}}` is a brace of the text", at..at + 1)),
                '{' => {
                    let begin = at + 1;
                    let length = text[begin..].find('}');
                    let Some(length) = length else {
                        return Err(wrong("`{` without `}`; `{{` is a brace of the text", at..begin));
                    };
                    let shifted = |error: ParseError| ParseError {
                        range: begin + error.range.start..begin + error.range.end,
                        ..error
                    };
                    let expr = Expr::parse(&text[begin..begin + length]).map_err(shifted)?;
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Expr(expr, begin));
                    at = begin + length + 1;
                }
                other => {
                    plain.push(other);
                    at += other.len_utf8();
                }
            }
        }
        parts.push(Part::Text(plain));
        Ok(Self { text: text.to_owned(), parts })
    }

    /// A text without expressions, with any braces.
    pub fn plain(text: String) -> Self {
        Self { parts: vec![Part::Text(text.clone())], text }
    }

    /// Parses the name of a function. Inside of template arguments, a name of which `is_variable` is true is an expression without braces.
    pub fn parse_function(text: &str, is_variable: impl Fn(&str) -> bool) -> Result<Self, ParseError> {
        let mut template = Self::parse(text)?;
        let (mut brackets, mut parts) = (Brackets::default(), Vec::new());
        for part in template.parts {
            let Part::Text(plain) = part else {
                parts.push(part);
                continue;
            };
            let mut rest = plain.as_str();
            let mut before = String::new();
            while let Some(first) = rest.chars().next() {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(first.len_utf8());
                let (word, after) = rest.split_at(length);
                brackets.step(first);
                // `T::BM` is a member of `T`.
                if !brackets.is_empty() && is_variable(word) && !before.ends_with("::") {
                    parts.push(Part::Text(std::mem::take(&mut before)));
                    parts.push(Part::Expr(Expr::parse(word)?, text.find(word).unwrap_or_default()));
                } else {
                    before.push_str(word);
                }
                rest = after;
            }
            parts.push(Part::Text(before));
        }
        template.parts = parts;
        Ok(template)
    }

    /// The same template with values in place of some names.
    #[must_use]
    pub fn bound(&self, value: &dyn Fn(&str) -> Option<Value>) -> Self {
        let part = |part: &Part| match part {
            Part::Text(text) => Part::Text(text.clone()),
            Part::Expr(expr, begin) => Part::Expr(expr.bound(value), *begin),
        };
        Self { parts: self.parts.iter().map(part).collect(), text: self.text.clone() }
    }

    /// The text as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The expressions, each with the byte offset of its start in the text.
    pub fn exprs(&self) -> impl Iterator<Item = (&Expr, usize)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expr(expr, begin) => Some((expr, *begin)),
        })
    }

    /// The names in expressions inside template arguments.
    pub fn template_arguments(&self) -> Vec<&str> {
        let (mut brackets, mut names) = (Brackets::default(), Vec::new());
        for part in &self.parts {
            match part {
                Part::Text(text) => text.chars().for_each(|char| brackets.step(char)),
                Part::Expr(expr, _) if !brackets.is_empty() => names.extend(expr.names()),
                Part::Expr(..) => {}
            }
        }
        names
    }

    /// The text with the values of its expressions, each written by `write`.
    pub fn fill(
        &self,
        value: &dyn Fn(&Expr) -> Result<Value, EvalError>,
        write: impl Fn(&Value) -> String,
    ) -> Result<String, EvalError> {
        let part = |part: &Part| match part {
            Part::Text(text) => Ok(text.clone()),
            Part::Expr(expr, _) => value(expr).map(|value| write(&value)),
        };
        self.parts.iter().map(part).collect()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The open brackets of a C++ name: `<` is a bracket after a name, which outside of parentheses is everywhere.
#[derive(Debug, Default)]
pub struct Brackets(Vec<char>);

impl Brackets {
    /// Reads the next character.
    pub fn step(&mut self, char: char) {
        match (char, self.0.last()) {
            ('{', _) | ('(' | '[', Some(_)) | ('<', None | Some('<')) => self.0.push(char),
            ('}', Some('{')) | (')', Some('(')) | (']', Some('[')) | ('>', Some('<')) => drop(self.0.pop()),
            _ => {}
        }
    }

    /// Whether no bracket is open.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &Template) -> String {
        let lookup = |name: &str| match name {
            "BM" => Some(Value::Int(64)),
            "T" => Some(Value::Str("float".into())),
            "F" => Some(Value::Bool(true)),
            _ => None,
        };
        template.fill(&|expr| expr.eval(&lookup), ToString::to_string).unwrap()
    }

    #[test]
    fn braces_hold_expressions() {
        let fill = |text: &str| filled(&Template::parse(text).unwrap());
        assert_eq!(fill("-maxrregcount={BM}"), "-maxrregcount=64");
        assert_eq!(fill("{BM * 2}{T}é{{BM}}"), "128floaté{BM}");
        assert_eq!(fill("plain"), "plain");
        for (text, range) in [("a{BM", 1..2), ("a}", 1..2), ("a{BM +}", 6..6), ("{}", 1..1)] {
            assert_eq!(Template::parse(text).unwrap_err().range, range, "{text}");
        }
    }

    #[test]
    fn names_in_template_arguments_are_expressions() {
        let parse = |text: &str| Template::parse_function(text, |name| ["BM", "T", "F"].contains(&name)).unwrap();
        let template = parse("ns::BM<T, 2 * BM, T::BM, BMX, pair<BM, F>>");
        assert_eq!(filled(&template), "ns::BM<float, 2 * 64, float::BM, BMX, pair<64, true>>");
        assert_eq!(template.template_arguments(), ["T", "BM", "T", "BM", "F"]);
        assert_eq!(filled(&parse("k<(BM > 8), BM>")), "k<(64 > 8), 64>");
        let template = parse("k_{T}<{BM * 2}>");
        assert_eq!(filled(&template), "k_float<128>");
        assert_eq!(template.template_arguments(), ["BM"]);
        assert_eq!(filled(&parse("BM")), "BM");
    }
}

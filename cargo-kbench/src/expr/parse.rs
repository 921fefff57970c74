//! Text to [`Bytecode`]: tokens by winnow, then recursive descent that emits instructions as it goes. Above 400 lines: the whole grammar,
//! one method for each level of precedence.

use std::ops::Range;

use winnow::Parser as _;
use winnow::ascii::digit1;
use winnow::combinator::{alt, opt, preceded, repeat, terminated};
use winnow::stream::{LocatingSlice, Location as _};
use winnow::token::{any, none_of, one_of, take_while};

use super::ParseError;
use super::arithmetic::{Arithmetic, Comparison, Function};
use super::machine::{Bytecode, Op};

/// Largest depth of nested parentheses, calls and unary operators, which is the depth of the parser's recursion.
const MAX_DEPTH: usize = 64;

/// Reserved words.
const WORDS: [&str; 10] = ["and", "or", "not", "in", "if", "else", "true", "false", "True", "False"];

/// The functions, with the smallest and the largest number of arguments.
const FUNCTIONS: [(&str, Function, usize, usize); 7] = [
    ("ceil_div", Function::CeilDiv, 2, 2),
    ("min", Function::Min, 2, usize::MAX),
    ("max", Function::Max, 2, usize::MAX),
    ("sqrt", Function::Sqrt, 1, 1),
    ("abs", Function::Abs, 1, 1),
    ("log2", Function::Log2, 1, 1),
    ("is_power_of_two", Function::IsPowerOfTwo, 1, 1),
];

/// Whether a name cannot be that of a dimension or toggle.
pub(crate) fn is_reserved(name: &str) -> bool {
    WORDS.contains(&name) || FUNCTIONS.iter().any(|(function, ..)| *function == name)
}

pub(super) fn parse(text: &str) -> Result<Bytecode, ParseError> {
    let mut parser =
        Compiler { tokens: tokenize(text)?, at: 0, end: text.len(), depth: 0, program: Bytecode::default() };
    if parser.tokens.is_empty() {
        return Err(ParseError { message: "an empty expression".to_owned(), range: 0..text.len() });
    }
    parser.conditional()?;
    match parser.tokens.get(parser.at) {
        None => Ok(parser.program),
        Some((token, range)) => Err(ParseError {
            message: format!("expected an operator, found {}", token.describe()),
            range: range.clone(),
        }),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'t> {
    Int(i64),
    Float(f64),
    Str(String),
    Name(&'t str),
    Symbol(&'t str),
}

impl Token<'_> {
    fn describe(&self) -> String {
        match self {
            Token::Int(int) => format!("`{int}`"),
            Token::Float(float) => format!("`{float:?}`"),
            Token::Str(_) => "a string".to_owned(),
            Token::Name(text) | Token::Symbol(text) => format!("`{text}`"),
        }
    }
}

type Input<'t> = LocatingSlice<&'t str>;
/// The error has no content: the caller knows the failed token and its place.
type Lexed<T> = Result<T, ()>;

fn tokenize(text: &str) -> Result<Vec<(Token<'_>, Range<usize>)>, ParseError> {
    let mut input = LocatingSlice::new(text);
    let mut tokens = Vec::new();
    loop {
        let _: Lexed<&str> = take_while(0.., |c: char| c.is_ascii_whitespace()).parse_next(&mut input);
        let start = input.current_token_start();
        let Some(first) = text[start..].chars().next() else { return Ok(tokens) };
        let token: Lexed<_> = token(&mut input);
        match token {
            Ok(Some(token)) => tokens.push((token, start..input.current_token_start())),
            Ok(None) => {
                let range = start..input.current_token_start();
                return Err(ParseError { message: "a number out of range".to_owned(), range });
            }
            Err(()) => {
                let (message, end) = match first {
                    '\'' | '"' => ("a string without its closing quote".to_owned(), text.len()),
                    '=' => ("unexpected `=`; equality is `==`".to_owned(), start + 1),
                    '?' => ("unexpected `?`; a conditional is `a if condition else b`".to_owned(), start + 1),
                    other => (format!("unexpected `{}`", other.escape_debug()), start + other.len_utf8()),
                };
                return Err(ParseError { message, range: start..end });
            }
        }
    }
}

/// The next token; `None` for a number that does not fit its type.
fn token<'t>(input: &mut Input<'t>) -> Lexed<Option<Token<'t>>> {
    alt((number, name.map(|name| Some(Token::Name(name))), string.map(|text| Some(Token::Str(text))), symbol))
        .parse_next(input)
}

fn number<'t>(input: &mut Input<'t>) -> Lexed<Option<Token<'t>>> {
    alt((integer_of_base(16, ['x', 'X']), integer_of_base(8, ['o', 'O']), integer_of_base(2, ['b', 'B']), decimal))
        .parse_next(input)
}

/// `0xff`, `0o17`, `0b11`.
fn integer_of_base<'t>(base: u32, letters: [char; 2]) -> impl FnMut(&mut Input<'t>) -> Lexed<Option<Token<'t>>> {
    move |input| {
        let digits = take_while(1.., |c: char| c.is_digit(base));
        let text: &str = preceded(('0', one_of(letters)), digits).parse_next(input)?;
        Ok(i64::from_str_radix(text, base).ok().map(Token::Int))
    }
}

fn decimal<'t>(input: &mut Input<'t>) -> Lexed<Option<Token<'t>>> {
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1::<_, ()>);
    let text: &str = (digit1::<_, ()>, opt(('.', digit1)), opt(exponent)).take().parse_next(input)?;
    Ok(if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok().map(Token::Int)
    } else {
        text.parse().ok().filter(|float: &f64| float.is_finite()).map(Token::Float)
    })
}

fn name<'t>(input: &mut Input<'t>) -> Lexed<&'t str> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    (one_of(letter), take_while(0.., move |c: char| letter(c) || c.is_ascii_digit())).take().parse_next(input)
}

/// A string literal; a backslash escapes the next character.
fn string(input: &mut Input<'_>) -> Lexed<String> {
    let quote: char = one_of(['\'', '"']).parse_next(input)?;
    let character = alt((preceded('\\', any), none_of([quote, '\\'])));
    terminated(repeat(0.., character), quote).parse_next(input)
}

fn symbol<'t>(input: &mut Input<'t>) -> Lexed<Option<Token<'t>>> {
    let doubled = alt(("//", "**", "<<", ">>", "&&", "||"));
    let comparison = alt(("==", "!=", "<=", ">="));
    let one = one_of(['+', '-', '*', '/', '%', '&', '|', '^', '<', '>', '!', '~', '(', ')', '[', ']', ',']).take();
    alt((doubled, comparison, one)).map(|symbol| Some(Token::Symbol(symbol))).parse_next(input)
}

/// Emits code while it descends; each method returns the start of its text.
struct Compiler<'t> {
    tokens: Vec<(Token<'t>, Range<usize>)>,
    at: usize,
    /// Length of the text, which is the place of an error at its end.
    end: usize,
    depth: usize,
    program: Bytecode,
}

type Parsed = Result<usize, ParseError>;

impl<'t> Compiler<'t> {
    /// `a if condition else b`.
    fn conditional(&mut self) -> Parsed {
        let value = self.program.ops.len();
        let start = self.or()?;
        if self.take_any(&["if"]).is_none() {
            return Ok(start);
        }
        let condition = self.program.ops.len();
        let condition_start = self.or()?;
        let branch = self.condition_first(value, condition, condition_start);
        self.expect("else")?;
        let jump = self.emit(Op::Jump(usize::MAX), start);
        self.program.ops[branch] = Op::Branch(jump + 1);
        self.nested(Self::conditional)?;
        self.program.ops[jump] = Op::Jump(self.program.ops.len());
        Ok(start)
    }

    /// Moves the instructions of a condition, which were emitted last, before those of the value that the condition
    /// follows in the text, with a branch between them; returns the index of the branch.
    fn condition_first(&mut self, value: usize, condition: usize, condition_start: usize) -> usize {
        self.emit(Op::Branch(usize::MAX), condition_start);
        let Bytecode { ops, ranges, .. } = &mut self.program;
        let (before, after) = (condition - value, ops.len() - condition);
        ops[value..].rotate_left(before);
        ranges[value..].rotate_left(before);
        let branch = value + after - 1;
        let jumps = |ops: &mut [Op], moved: &dyn Fn(usize) -> usize| {
            for op in ops {
                match op {
                    Op::Chain(_, end)
                    | Op::JumpIfFalse(end)
                    | Op::JumpIfTrue(end)
                    | Op::Branch(end)
                    | Op::Jump(end) => *end = moved(*end),
                    _ => {}
                }
            }
        };
        jumps(&mut ops[value..branch], &|end| end - before);
        jumps(&mut ops[branch + 1..], &|end| end + after);
        branch
    }

    fn or(&mut self) -> Parsed {
        self.logical(&["or", "||"], Op::JumpIfTrue, |parser| parser.logical(&["and", "&&"], Op::JumpIfFalse, Self::not))
    }

    fn logical(&mut self, words: &[&str], jump: fn(usize) -> Op, operand: fn(&mut Self) -> Parsed) -> Parsed {
        let start = operand(self)?;
        let mut jumps = Vec::new();
        while self.take_any(words).is_some() {
            jumps.push(self.emit(jump(usize::MAX), start));
            operand(self)?;
        }
        if !jumps.is_empty() {
            self.emit(Op::Truth, start);
            let target = self.program.ops.len();
            for at in jumps {
                self.program.ops[at] = jump(target);
            }
        }
        Ok(start)
    }

    fn not(&mut self) -> Parsed {
        let Some(start) = self.take_any(&["not"]) else { return self.comparison() };
        self.nested(Self::not)?;
        self.emit(Op::Not, start);
        Ok(start)
    }

    fn comparison(&mut self) -> Parsed {
        let start = self.bit_or()?;
        if let Some(negated) = self.take_in() {
            let count = self.list()?;
            self.emit(Op::Member(count), start);
            if negated {
                self.emit(Op::Not, start);
            }
            return Ok(start);
        }
        let Some(mut operator) = self.take_comparison() else { return Ok(start) };
        let mut chained = Vec::new();
        loop {
            self.bit_or()?;
            let Some(next) = self.take_comparison() else { break };
            chained.push((self.emit_ending(Op::Compare(operator), start, self.at - 1), operator));
            operator = next;
        }
        self.emit(Op::Compare(operator), start);
        let target = self.program.ops.len();
        for (at, operator) in chained {
            self.program.ops[at] = Op::Chain(operator, target);
        }
        Ok(start)
    }

    fn take_comparison(&mut self) -> Option<Comparison> {
        let (symbol, _) = self.tokens.get(self.at)?;
        let operator = match symbol {
            Token::Symbol("==") => Comparison::Equal,
            Token::Symbol("!=") => Comparison::NotEqual,
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessEqual,
            Token::Symbol(">") => Comparison::Greater,
            Token::Symbol(">=") => Comparison::GreaterEqual,
            _ => return None,
        };
        self.at += 1;
        Some(operator)
    }

    /// Takes `in` or `not in`; returns whether it is negated.
    fn take_in(&mut self) -> Option<bool> {
        let negated = matches!(self.tokens.get(self.at), Some((Token::Name("not"), _)));
        match self.tokens.get(self.at + usize::from(negated)) {
            Some((Token::Name("in"), _)) => self.at += 1 + usize::from(negated),
            _ => return None,
        }
        Some(negated)
    }

    /// Parses the list after `in`, `[1, 2]` or `(1, 2)`; returns the number of elements.
    fn list(&mut self) -> Result<usize, ParseError> {
        let closing = if self.take_any(&["("]).is_some() {
            ")"
        } else {
            self.expect("[")?;
            "]"
        };
        let count = self.elements(closing)?;
        self.expect(closing)?;
        Ok(count)
    }

    /// Parses one or more values with commas between them and an optional comma at the end; returns the number of
    /// values.
    fn elements(&mut self, closing: &str) -> Result<usize, ParseError> {
        let mut count = 0;
        loop {
            self.nested(Self::conditional)?;
            count += 1;
            if self.take_any(&[","]).is_none() || self.is_next(closing) {
                return Ok(count);
            }
        }
    }

    fn bit_or(&mut self) -> Parsed {
        self.binary(&[("|", Arithmetic::BitOr)], Self::bit_xor)
    }

    fn bit_xor(&mut self) -> Parsed {
        self.binary(&[("^", Arithmetic::BitXor)], Self::bit_and)
    }

    fn bit_and(&mut self) -> Parsed {
        self.binary(&[("&", Arithmetic::BitAnd)], Self::shift)
    }

    fn shift(&mut self) -> Parsed {
        let operators = [("<<", Arithmetic::ShiftLeft), (">>", Arithmetic::ShiftRight)];
        self.binary(&operators, Self::sum)
    }

    fn sum(&mut self) -> Parsed {
        let operators = [("+", Arithmetic::Add), ("-", Arithmetic::Subtract)];
        self.binary(&operators, Self::product)
    }

    fn product(&mut self) -> Parsed {
        let operators = [
            ("*", Arithmetic::Multiply),
            ("/", Arithmetic::Divide),
            ("//", Arithmetic::FloorDivide),
            ("%", Arithmetic::Remainder),
        ];
        self.binary(&operators, Self::unary)
    }

    fn binary(&mut self, operators: &[(&str, Arithmetic)], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let start = operand(self)?;
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.take_any(&[symbol]).is_some()) {
            operand(self)?;
            self.emit(Op::Arithmetic(*operator), start);
        }
        Ok(start)
    }

    fn unary(&mut self) -> Parsed {
        for (symbol, op) in [("-", Op::Negate), ("+", Op::Plus), ("!", Op::Not)] {
            if let Some(start) = self.take_any(&[symbol]) {
                self.nested(Self::unary)?;
                self.emit(op, start);
                return Ok(start);
            }
        }
        if let Some(start) = self.take_any(&["~"]) {
            self.nested(Self::unary)?;
            self.emit(Op::Int(-1), start);
            self.emit(Op::Arithmetic(Arithmetic::BitXor), start);
            return Ok(start);
        }
        self.power()
    }

    /// `**` binds more tightly than a sign before it, and more weakly than one after it.
    fn power(&mut self) -> Parsed {
        let start = self.primary()?;
        if self.take_any(&["**"]).is_some() {
            self.nested(Self::unary)?;
            self.emit(Op::Arithmetic(Arithmetic::Power), start);
        }
        Ok(start)
    }

    fn primary(&mut self) -> Parsed {
        let Some((token, range)) = self.tokens.get(self.at).cloned() else {
            return Err(ParseError { message: "expected a value at the end".to_owned(), range: self.end..self.end });
        };
        self.at += 1;
        let start = range.start;
        match token {
            Token::Int(int) => self.emit(Op::Int(int), start),
            Token::Float(float) => self.emit(Op::Float(float), start),
            Token::Str(text) => self.emit(Op::Str(text), start),
            Token::Name("true" | "True") => self.emit(Op::Bool(true), start),
            Token::Name("false" | "False") => self.emit(Op::Bool(false), start),
            Token::Symbol("(") => {
                self.nested(Self::conditional)?;
                self.expect(")")?;
                return Ok(start);
            }
            Token::Name(name) if self.take_any(&["("]).is_some() => {
                self.call(name, range)?;
                return Ok(start);
            }
            Token::Name(name) if !is_reserved(name) => {
                let index = self.name(name, range);
                self.emit(Op::Name(index), start)
            }
            Token::Name(_) | Token::Symbol(_) => {
                return Err(ParseError { message: format!("expected a value, found {}", token.describe()), range });
            }
        };
        Ok(start)
    }

    /// Parses the arguments of a call, after its opening parenthesis.
    fn call(&mut self, name: &'t str, range: Range<usize>) -> Result<(), ParseError> {
        let Some(&(_, function, least, most)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
            let message = format!("no function `{name}`; there are {}", crate::text::list(&known));
            return Err(ParseError { message, range });
        };
        let count = self.elements(")")?;
        self.expect(")")?;
        if !(least..=most).contains(&count) {
            let message = match (least, most) {
                (1, _) => format!("`{name}` takes one argument, not {count}"),
                (_, 2) => format!("`{name}` takes two arguments, not {count}"),
                _ => format!("`{name}` takes two arguments or more, not {count}"),
            };
            return Err(ParseError { message, range });
        }
        self.emit(Op::Call(function, count), range.start);
        Ok(())
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Parsed) -> Parsed {
        if self.depth == MAX_DEPTH {
            let range = self.tokens.get(self.at).map_or(self.end..self.end, |(_, range)| range.clone());
            return Err(ParseError { message: format!("nested more than {MAX_DEPTH} levels deep"), range });
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn name(&mut self, name: &str, range: Range<usize>) -> usize {
        let names = &mut self.program.names;
        names.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            names.push((name.to_owned(), range));
            names.len() - 1
        })
    }

    /// Takes the next token if it is one of these words or symbols; returns the start of the token.
    fn take_any(&mut self, words: &[&str]) -> Option<usize> {
        match self.tokens.get(self.at) {
            Some((Token::Name(text) | Token::Symbol(text), range)) if words.contains(text) => {
                self.at += 1;
                Some(range.start)
            }
            _ => None,
        }
    }

    fn is_next(&self, symbol: &str) -> bool {
        matches!(self.tokens.get(self.at), Some((Token::Symbol(text), _)) if *text == symbol)
    }

    fn expect(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.take_any(&[symbol]).is_some() {
            return Ok(());
        }
        Err(match self.tokens.get(self.at) {
            Some((token, range)) => {
                ParseError { message: format!("expected `{symbol}`, found {}", token.describe()), range: range.clone() }
            }
            None => ParseError { message: format!("expected `{symbol}` at the end"), range: self.end..self.end },
        })
    }

    /// Emits an instruction whose text runs from `start` to the last token taken.
    fn emit(&mut self, op: Op, start: usize) -> usize {
        self.emit_ending(op, start, self.at)
    }

    /// Emits an instruction whose text ends with the token before `token`.
    fn emit_ending(&mut self, op: Op, start: usize, token: usize) -> usize {
        self.program.ops.push(op);
        self.program.ranges.push(start..self.tokens[token - 1].1.end);
        self.program.ops.len() - 1
    }
}

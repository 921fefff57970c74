//! Mutants of a kernel's source: one barrier dropped, one step of a loop over tiles, one initialisation of shared memory, or 0 in
//! place of a neutral element. Headers are not mutated.
//!
//! Above 400 lines: one function for each kind of mutant.

mod neutral;

use std::ops::Range;
use std::path::Path;

use super::lexer::{Kind, Token, closing, lex};

/// Largest number of candidates of each kind. Only the compiler knows which of them are compiled in.
pub const CANDIDATES: usize = 32;

/// The part that a mutant's source lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// A barrier, a fence, or a wait for copies.
    Barrier,
    /// One step of a loop over tiles.
    Tile,
    /// The neutral element of a maximum, a minimum or a product: the reduction starts from 0.
    Neutral,
    /// The initialisation of a `__shared__` variable.
    Initialisation,
}

impl Lack {
    /// All kinds, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Tile, Self::Barrier, Self::Neutral, Self::Initialisation];

    /// First part of the names of mutants of this kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Barrier => "dropped-barrier",
            Self::Tile => "dropped-tile",
            Self::Neutral => "wrong-neutral",
            Self::Initialisation => "dropped-init",
        }
    }

    /// Description of the code that was searched for, for a message that there is none.
    pub fn sought(self) -> &'static str {
        match self {
            Self::Barrier => "barrier",
            Self::Tile => "loop over tiles",
            Self::Neutral => "maximum, minimum or product that starts from its neutral element",
            Self::Initialisation => "`__shared__` variable that is set to a constant",
        }
    }
}

/// A changed source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceMutant {
    /// The missing part.
    pub lack: Lack,
    /// Line of the change, from 1.
    pub line: usize,
    /// Description of the change for the user.
    pub what: String,
    /// The whole source with the change; all lines keep their numbers.
    pub text: String,
}

/// Functions and methods whose call, as a statement, only waits or is only a barrier.
const BARRIERS: [&str; 10] = [
    "__syncthreads",
    "__syncwarp",
    "__threadfence_block",
    "__pipeline_wait_prior",
    "pthread_barrier_wait",
    "sync",
    "wait",
    "arrive_and_wait",
    "consumer_wait",
    "producer_acquire",
];

/// Endings of user-defined names of such functions.
const ENDINGS: [&str; 6] = ["_wait", "_wait_all", "_wait_prior", "_wait_group", "_wait_parity", "_barrier"];

/// Barriers and waits among PTX instructions.
const INSTRUCTIONS: [&str; 9] = [
    "bar.sync",
    "bar.warp.sync",
    "barrier.sync",
    "barrier.cluster.wait",
    "cp.async.wait",
    "cp.async.bulk.wait",
    "mbarrier.try_wait",
    "wgmma.wait_group",
    "wgmma.fence",
];

/// Words in the names of variables that count tiles by one; bounds have the plural.
const TILES: [&str; 5] = ["tile", "block", "chunk", "stage", "slab"];

/// A change: the byte range and its new text.
struct Change {
    lack: Lack,
    range: Range<usize>,
    to: String,
    what: String,
    /// Priority; changes with a low rank are kept if there are too many.
    rank: usize,
}

/// The mutants of the source at `path`, of which only the kernels `entries` are launched. Loops with a named step come
/// first, since they are the most likely loops over tiles.
pub fn mutants(source: &str, path: &Path, entries: &[&str]) -> Vec<SourceMutant> {
    let tokens = lex(source);
    let foreign = other_kernels(&tokens, entries);
    let shared = neutral::shared_variables(&tokens);
    let mut changes = Vec::new();
    for index in 0..tokens.len() {
        if !foreign.iter().any(|range| range.contains(&index)) {
            changes.extend(barrier(source, &tokens, index));
            changes.extend(tile(source, &tokens, index));
            changes.extend(neutral::neutral(source, &tokens, index));
            changes.extend(neutral::initialisation(source, &tokens, index, &shared));
        }
    }
    let mut mutants = Vec::new();
    for lack in Lack::ALL {
        let mut of_kind: Vec<&Change> = changes.iter().filter(|change| change.lack == lack).collect();
        of_kind.sort_by_key(|change| change.rank);
        of_kind.truncate(CANDIDATES);
        mutants.extend(of_kind.into_iter().map(|change| change.apply(source, path)));
    }
    mutants
}

impl Change {
    fn apply(&self, source: &str, path: &Path) -> SourceMutant {
        let before = &source[..self.range.start];
        let lines = source[self.range.clone()].matches('\n').count();
        let path = path.to_str().filter(|path| !path.contains(['"', '\\', '\n', '\r']));
        // Messages of the compiler and `assert` name the original file.
        let head = path.map_or_else(String::new, |path| format!("#line 1 \"{path}\"\n"));
        let after = &source[self.range.end..];
        SourceMutant {
            lack: self.lack,
            line: before.matches('\n').count() + 1,
            what: self.what.clone(),
            text: format!("{head}{before}{}{}{after}", self.to, "\n".repeat(lines)),
        }
    }
}

/// Bodies of kernels other than those that are launched.
fn other_kernels(tokens: &[Token<'_>], entries: &[&str]) -> Vec<Range<usize>> {
    let is_launched = |name: &str| {
        entries.iter().any(|entry| {
            let plain = entry.rsplit("::").next().unwrap_or(entry);
            let plain = plain.split(['<', '(']).next().unwrap_or(plain).trim();
            // A mangled name contains the plain name and ends with the parameters.
            name == plain || entry.contains(&format!("{}{name}", name.len()))
        })
    };
    let mut bodies = Vec::new();
    for (at, _) in tokens.iter().enumerate().filter(|(_, token)| token.text == "__global__") {
        // The name precedes the last brackets before the body; attributes may have brackets too.
        let mut name = "";
        let mut next = at + 1;
        while let Some(token) = tokens.get(next) {
            match token.text {
                ";" => break,
                "(" => {
                    name = tokens[next - 1].text;
                    match closing(tokens, next) {
                        Some(end) => next = end,
                        None => break,
                    }
                }
                "{" => {
                    if let Some(end) = closing(tokens, next)
                        && !is_launched(name)
                    {
                        bodies.push(next..end);
                    }
                    break;
                }
                _ => {}
            }
            next += 1;
        }
    }
    bodies
}

/// The text of a range on one line, shortened if it is long.
fn shown(source: &str, range: Range<usize>) -> String {
    let words: Vec<&str> = source[range].split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= 48 { text } else { format!("{}…", text.chars().take(47).collect::<String>()) }
}

/// The change that drops the statement at `index`, if the statement is a barrier.
fn barrier(source: &str, tokens: &[Token<'_>], index: usize) -> Option<Change> {
    let token = &tokens[index];
    let (range, end) = match token.kind {
        Kind::Directive => {
            let words: Vec<&str> = token.text.split_whitespace().collect();
            // `#pragma` may be written with a blank after its first character.
            let text = words.concat();
            return text.starts_with("#pragmaompbarrier").then(|| Change {
                lack: Lack::Barrier,
                range: token.range(),
                to: String::new(),
                what: format!("drops `{}`", shown(source, token.range())),
                rank: 0,
            });
        }
        Kind::Word if matches!(token.text, "asm" | "__asm__" | "__asm") => {
            let open = (index + 1..tokens.len()).find(|&at| tokens[at].kind != Kind::Word)?;
            let close = (tokens[open].text == "(").then(|| closing(tokens, open))??;
            let is_barrier = |token: &Token<'_>| {
                token.kind == Kind::Text && INSTRUCTIONS.iter().any(|instruction| token.text.contains(instruction))
            };
            tokens[open..close].iter().any(is_barrier).then_some((index, close))?
        }
        Kind::Word => {
            let name = token.text;
            if !BARRIERS.contains(&name) && !ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                return None;
            }
            let open = after_template(tokens, index + 1)?;
            let close = (tokens.get(open)?.text == "(").then(|| closing(tokens, open))??;
            (callee_start(tokens, index), close)
        }
        _ => return None,
    };
    let ends = tokens.get(end + 1)?.text == ";";
    (ends && starts_statement(tokens, range)).then(|| dropped(source, tokens, Lack::Barrier, range, end))
}

/// Whether a statement may start at `index`.
fn starts_statement(tokens: &[Token<'_>], index: usize) -> bool {
    index == 0
        || tokens[index - 1].kind == Kind::Directive
        || matches!(tokens[index - 1].text, ";" | "{" | "}" | ")" | ":" | "else" | "do")
}

/// The change that drops the statement of the tokens `first` to `last`.
fn dropped(source: &str, tokens: &[Token<'_>], lack: Lack, first: usize, last: usize) -> Change {
    let range = tokens[first].start..tokens[last].range().end;
    let what = format!("drops `{}`", shown(source, range.clone()));
    Change { lack, range, to: "(void)0".to_owned(), what, rank: 0 }
}

/// Index of the opening bracket of a call, behind template arguments.
fn after_template(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    if tokens.get(at)?.text != "<" {
        return Some(at);
    }
    let most = tokens.len().min(at + 16);
    let close = (at + 1..most).find(|&at| tokens[at].text == ">")?;
    Some(close + 1)
}

/// Index of the first token of `a.b->c::name`, in which any part may have `[…]` and `(…)`.
fn callee_start(tokens: &[Token<'_>], name: usize) -> usize {
    let mut start = name;
    while start > 0 && matches!(tokens[start - 1].text, "." | "->" | "::") {
        start -= 1;
        while start > 0 && matches!(tokens[start - 1].text, "]" | ")") {
            let open = (0..start - 1).rev().find(|&open| closing(tokens, open) == Some(start - 1));
            match open {
                Some(open) => start = open,
                None => return start,
            }
        }
        if start > 0 && tokens[start - 1].kind == Kind::Word && tokens[start - 1].text != "return" {
            start -= 1;
        }
    }
    start
}

/// Change of a loop's variable: by `step`, up or down.
struct Update {
    variable: String,
    step: String,
    down: bool,
}

/// The change that makes the `for` over tiles at `index` one step shorter.
fn tile(source: &str, tokens: &[Token<'_>], index: usize) -> Option<Change> {
    if tokens[index].text != "for" || tokens.get(index + 1)?.text != "(" {
        return None;
    }
    let close = closing(tokens, index + 1)?;
    let parts = split(tokens, index + 2..close, ";");
    let [init, condition, steps] = <[Range<usize>; 3]>::try_from(parts).ok()?;
    if condition.is_empty() {
        return None;
    }
    let of_condition: Vec<&str> = tokens[condition.clone()].iter().map(|token| token.text).collect();
    let updates: Vec<Update> =
        split(tokens, steps, ",").into_iter().filter_map(|part| update(source, tokens, part)).collect();
    let in_header = updates.into_iter().find(|update| of_condition.contains(&&*update.variable));
    match in_header {
        Some(update) => ends_early(source, tokens, condition, &update),
        None => starts_late(source, tokens, init, condition, close),
    }
}

/// Parts of a token range between separators outside of brackets.
fn split(tokens: &[Token<'_>], range: Range<usize>, separator: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    let mut depth = 0i32;
    for at in range.clone() {
        match tokens[at].text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            text if text == separator && depth == 0 => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(start..range.end);
    parts
}

fn bytes(tokens: &[Token<'_>], range: &Range<usize>) -> Range<usize> {
    tokens[range.start].start..tokens[range.end - 1].range().end
}

/// `i += S`, `i -= S`, `i = i + S`, `++i` and the like.
fn update(source: &str, tokens: &[Token<'_>], part: Range<usize>) -> Option<Update> {
    let of = |variable: &str, step: &str, down: bool| {
        Some(Update { variable: variable.to_owned(), step: step.to_owned(), down })
    };
    let texts: Vec<&str> = tokens[part.clone()].iter().map(|token| token.text).collect();
    match texts[..] {
        [variable, "++"] | ["++", variable] => of(variable, "1", false),
        [variable, "--"] | ["--", variable] => of(variable, "1", true),
        [variable, sign @ ("+=" | "-="), _, ..] => {
            of(variable, &source[bytes(tokens, &(part.start + 2..part.end))], sign == "-=")
        }
        [variable, "=", again, sign @ ("+" | "-"), _, ..] if variable == again => {
            of(variable, &source[bytes(tokens, &(part.start + 4..part.end))], sign == "-")
        }
        _ => None,
    }
}

/// The change that moves the bound of the condition by one step towards the start.
fn ends_early(source: &str, tokens: &[Token<'_>], condition: Range<usize>, update: &Update) -> Option<Change> {
    let is_comparison = |text: &str| matches!(text, "<" | "<=" | ">" | ">=" | "!=");
    let mut comparisons = condition.clone().filter(|&at| is_comparison(tokens[at].text));
    let comparison = comparisons.next()?;
    let compound = tokens[condition.clone()].iter().any(|token| matches!(token.text, "&&" | "||" | "," | "?" | "="));
    if comparisons.next().is_some() || compound {
        return None;
    }
    let sides = [condition.start..comparison, comparison + 1..condition.end];
    if sides.iter().any(Range::is_empty) {
        return None;
    }
    let has = |side: &Range<usize>| tokens[side.clone()].iter().any(|token| token.text == update.variable);
    let bound = match sides.each_ref().map(has) {
        [true, false] => &sides[1],
        [false, true] => &sides[0],
        _ => return None,
    };
    let whole = shown(source, bytes(tokens, &condition));
    let (variable, lower) = (update.variable.to_lowercase(), whole.to_lowercase());
    // The extent of a tile is the bound of a loop over its elements, not of a loop over tiles.
    let counts_tiles = TILES.iter().any(|word| variable.contains(word) || lower.contains(&format!("{word}s")))
        && !lower.contains("size");
    let literal = update.step.chars().all(|c| c.is_ascii_digit());
    let rank = match &*update.step {
        "1" if counts_tiles => 1,
        "1" => return None,
        _ if literal => 2,
        _ => 0,
    };
    let range = bytes(tokens, bound);
    let sign = if update.down { '+' } else { '-' };
    Some(Change {
        lack: Lack::Tile,
        to: format!("({}) {sign} ({})", &source[range.clone()], update.step),
        range,
        what: format!("`{whole}` ends one step of {} early", update.step),
        rank,
    })
}

/// The change that starts a loop one step later, for a loop whose body moves its variable.
fn starts_late(
    source: &str,
    tokens: &[Token<'_>],
    init: Range<usize>,
    condition: Range<usize>,
    close: usize,
) -> Option<Change> {
    let assign = init.clone().find(|&at| tokens[at].text == "=")?;
    let several = split(tokens, init.clone(), ",").len() > 1;
    if several || assign + 1 >= init.end || assign == init.start {
        return None;
    }
    let variable = tokens[assign - 1].text;
    if !tokens[condition].iter().any(|token| token.text == variable) {
        return None;
    }
    let end = match tokens.get(close + 1)?.text {
        "{" => closing(tokens, close + 1)?,
        _ => return None,
    };
    let moved =
        (close + 2..end - 1).find(|&at| tokens[at].text == variable && matches!(tokens[at + 1].text, "+=" | "-="))?;
    let step_end = (moved + 2..end).find(|&at| matches!(tokens[at].text, ";" | "," | ")"))?;
    let update = update(source, tokens, moved..step_end)?;
    let range = bytes(tokens, &(assign + 1..init.end));
    let sign = if update.down { '-' } else { '+' };
    Some(Change {
        lack: Lack::Tile,
        to: format!("({}) {sign} ({})", &source[range.clone()], update.step),
        range,
        what: format!("`{}` starts one step of {} later", shown(source, bytes(tokens, &init)), update.step),
        rank: 0,
    })
}

#[cfg(test)]
mod tests;

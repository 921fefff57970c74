//! A proposer to copy: it changes the text of the best variant in small ways, keeps what helped, and goes on from there.
//!
//! ```toml
//! search.proposer = ["cargo", "run", "--quiet", "--release", "-p", "cargo-kbench", "--example", "proposer"]
//! ```
//!
//! The changes: a tile or width twice as large as any value of its toggle, other `__launch_bounds__`, and an unroll pragma
//! above a loop. It draws no random numbers, so that the same answers lead to the same proposals. Nothing here knows what is
//! right or fast: the gates do. An LLM's client has the same main loop, and a prompt in place of [`mutations`].

use std::collections::HashSet;
use std::io::{self, BufRead as _, Write as _};

use serde_json::{Value, json};

/// Factors of unroll pragmas, the likeliest first.
const UNROLL: [u32; 3] = [4, 2, 8];
/// Blocks a multiprocessor, for `__launch_bounds__`.
const BLOCKS: [u32; 3] = [2, 1, 3];

fn main() -> io::Result<()> {
    let mut kernel = Value::Null;
    let mut seen = HashSet::new();
    // The variant that was changed last, as it names itself.
    let mut changed = None;
    for line in io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        match request["type"].as_str() {
            Some("hello") => {
                kernel = request["kernel"].clone();
                say(&json!({ "type": "hello", "protocol": 1 }))?;
            }
            Some("round") => {
                let best = &request["elite"][0];
                let identity = format!("{} {}", best["source"]["hash"], best["toggles"]);
                // Where nothing of the last round became the best, there is nothing new to try.
                if !best.is_null() && changed.as_ref() != Some(&identity) {
                    propose(&kernel, best, request["left"].as_u64().unwrap_or(0), &mut seen)?;
                    changed = Some(identity);
                }
                say(&json!({ "type": "done" }))?;
            }
            // Verdicts: the next round's elite says what became of them.
            _ => {}
        }
    }
    Ok(())
}

fn say(message: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{message}")?;
    stdout.flush()
}

/// Proposes changes of the best variant: at most `left`, and none twice.
fn propose(kernel: &Value, best: &Value, left: u64, seen: &mut HashSet<String>) -> io::Result<()> {
    let text = best["text"].as_str().or(kernel["text"].as_str()).unwrap_or_default();
    let before = best["source"]["name"].as_str().map_or_else(String::new, |name| format!("{name}+"));
    let new = mutations(text, kernel).into_iter().filter(|(_, text)| seen.insert(text.clone()));
    for (name, source) in new.take(left.min(64) as usize) {
        let name: String = format!("{before}{name}").chars().take(64).collect();
        say(&json!({ "type": "propose", "name": name, "source": source, "toggles": best["toggles"] }))?;
    }
    Ok(())
}

/// Changed texts by name, the likeliest to help first.
fn mutations(text: &str, kernel: &Value) -> Vec<(String, String)> {
    let cuda = kernel["backend"] == "cuda";
    let mut all = Vec::new();
    for toggle in kernel["toggles"].as_array().into_iter().flatten() {
        let largest = toggle["values"].as_array().into_iter().flatten().filter_map(Value::as_u64).max();
        let Some(name) = toggle["name"].as_str().filter(|_| largest.is_some_and(|largest| largest >= 4)) else {
            continue;
        };
        // The launch stays that of the toggle's own value.
        let launch = format!("{}{}{}", kernel["grid"], kernel["block"], kernel["dynamic_shared"]);
        if double(&launch, name).is_some() {
            continue;
        }
        all.extend(double(text, name).map(|text| (format!("double-{name}"), text)));
    }
    if cuda {
        let block: Vec<&str> = kernel["block"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let threads = format!("({})", block.join(") * ("));
        for blocks in BLOCKS {
            all.extend(bounds(text, &threads, blocks).map(|text| (format!("bounds-{blocks}"), text)));
        }
    }
    let pragma = if cuda { "#pragma unroll" } else { "#pragma GCC unroll" };
    for factor in UNROLL {
        let loops = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("for ("));
        all.extend(loops.map(|(at, _)| (format!("unroll{factor}-L{}", at + 1), unroll(text, at, pragma, factor))));
    }
    all
}

/// Twice the value of a macro wherever it is used as a word of its own, but for the preprocessor's lines; none where it is not, or
/// in a second doubling.
fn double(text: &str, name: &str) -> Option<String> {
    let twice = format!("(2 * {name})");
    if text.contains(&twice) {
        return None;
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = false;
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('#') {
            out += line;
            continue;
        }
        let mut end = 0;
        for (at, _) in line.match_indices(name) {
            let after = at + name.len();
            let whole = !line[..at].ends_with(is_word) && !line[after..].starts_with(is_word);
            out += &line[end..at];
            out += if whole { &twice } else { name };
            found |= whole;
            end = after;
        }
        out += &line[end..];
    }
    found.then_some(out)
}

/// The first `__launch_bounds__` with so many blocks a multiprocessor; where there is none, one with so many threads.
fn bounds(text: &str, threads: &str, blocks: u32) -> Option<String> {
    const WORD: &str = "__launch_bounds__(";
    let Some(start) = text.find(WORD).map(|at| at + WORD.len()) else {
        const KERNEL: &str = "__global__ void ";
        let (before, after) = text.split_once(KERNEL)?;
        return Some(format!("{before}{KERNEL}{WORD}{threads}, {blocks}) {after}"));
    };
    let mut depth = 1;
    // The first argument ends at a comma outside of brackets.
    let mut first = None;
    let end = text[start..].char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == ',' && depth == 1 {
            first.get_or_insert(at);
        }
        (depth == 0).then_some(at)
    })?;
    let threads = &text[start..start + first.unwrap_or(end)];
    Some(format!("{}{threads}, {blocks}{}", &text[..start], &text[start + end..]))
}

/// A pragma above the line `at`, in place of one that stands there.
fn unroll(text: &str, at: usize, pragma: &str, factor: u32) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = format!("{pragma} {factor}");
    if at > 0 && lines[at - 1].trim_start().starts_with(pragma) {
        lines[at - 1] = line;
    } else {
        lines.insert(at, line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macro_is_doubled_as_a_word() {
        let text = "TILE MY_TILE TILE_M (TILE*TILE)TILETILE";
        assert_eq!(double(text, "TILE").unwrap(), "(2 * TILE) MY_TILE TILE_M ((2 * TILE)*(2 * TILE))TILETILE");
        assert_eq!(double("MY_TILE", "TILE"), None);
        assert_eq!(double("#ifdef TILE\nTILE\n", "TILE").unwrap(), "#ifdef TILE\n(2 * TILE)\n");
        assert_eq!(double("(2 * TILE) TILE", "TILE"), None, "once is enough");
    }

    #[test]
    fn bounds_get_a_second_argument() {
        assert_eq!(bounds("a __launch_bounds__(f(1, 2)) b", "(T)", 3).unwrap(), "a __launch_bounds__(f(1, 2), 3) b");
        assert_eq!(bounds("__launch_bounds__(T, 1) b", "(T)", 3).unwrap(), "__launch_bounds__(T, 3) b");
        assert_eq!(
            bounds("__global__ void k()", "(X) * (Y)", 2).unwrap(),
            "__global__ void __launch_bounds__((X) * (Y), 2) k()"
        );
        assert_eq!(bounds("void k()", "(T)", 3), None);
    }

    #[test]
    fn a_loop_has_one_pragma() {
        let once = unroll("a\n  for (;;)\nb\n", 1, "#pragma unroll", 4);
        assert_eq!(once, "a\n#pragma unroll 4\n  for (;;)\nb\n");
        assert_eq!(unroll(&once, 2, "#pragma unroll", 2), "a\n#pragma unroll 2\n  for (;;)\nb\n");
    }

    #[test]
    fn every_mutation_is_another_text() {
        let kernel = json!({ "backend": "cuda", "block": ["THREADS"], "toggles": [
            { "name": "TILE", "values": [16, 64] },
            { "name": "FAST", "values": [0, 1] },
            { "name": "THREADS", "values": [64, 128] },
        ] });
        let text = "__global__ void __launch_bounds__(THREADS) k() {\nfor (int i = 0; i < TILE; i++) a();\n}\n";
        let all = mutations(text, &kernel);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["double-TILE", "bounds-2", "bounds-1", "bounds-3", "unroll4-L2", "unroll2-L2", "unroll8-L2"]
        );
        let texts: HashSet<&String> = all.iter().map(|(_, text)| text).collect();
        assert!(texts.len() == all.len() && !texts.contains(&text.to_owned()));
    }
}

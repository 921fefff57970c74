//! Names of the table as names of Rust and C.

/// Words that no Rust item may be called.
const KEYWORDS: [&str; 54] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "main", "std",
];

/// Names in snake case, each once and none in `taken`, in the order of `names`.
pub(super) fn snake(names: &[&str], taken: &[&str]) -> Vec<String> {
    let mut given: Vec<String> = Vec::new();
    for name in names {
        let mut word = word(name).to_lowercase();
        if KEYWORDS.contains(&word.as_str()) || word == "_" {
            word.push('_');
        }
        while given.contains(&word) || taken.contains(&word.as_str()) {
            word.push('_');
        }
        given.push(word);
    }
    given
}

/// A name of letters, digits and `_` that no digit begins.
pub(super) fn word(name: &str) -> String {
    let word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if word.starts_with(|c: char| c.is_ascii_digit()) || word.is_empty() { format!("_{word}") } else { word }
}

//! Descriptions of keys of the table, for `cargo kbench explain`.

use std::fmt::Write as _;

use super::keys::{KERNEL, Key, Keys, Kind, PACKAGE_KERNELS};

/// A key with its path from a kernel's table.
#[derive(Debug, Clone)]
pub struct KeyDescription {
    /// Path from the kernel's table, such as `gates.correctness.max_rms_err`. A name of the user's choice is in angle
    /// brackets.
    pub path: String,
    /// Description of the value: "a number, at least 0".
    pub kind: String,
    /// Meaning, unit and default of the key.
    pub meaning: &'static str,
    /// Whether the key is required.
    pub required: bool,
    /// Names and meanings of the keys inside.
    pub keys: Vec<(&'static str, &'static str)>,
}

/// Every key of a kernel's table.
pub fn describe_keys() -> Vec<KeyDescription> {
    let mut all = Vec::new();
    add(&PACKAGE_KERNELS, "", &mut Vec::new(), &mut all, false);
    add_all(&KERNEL, "", &mut Vec::new(), &mut all);
    all
}

/// The keys that `name` may mean: a complete path, or the end of a path. Any name may stand for a name of the user's
/// choice.
pub fn find_keys(name: &str) -> Vec<KeyDescription> {
    let name = name.trim_start_matches("kernels.");
    let all = describe_keys();
    let exact: Vec<KeyDescription> = all.iter().filter(|key| is_path(&key.path, name)).cloned().collect();
    if exact.is_empty() { all.into_iter().filter(|key| ends_with(&key.path, name)).collect() } else { exact }
}

fn is_path(path: &str, name: &str) -> bool {
    let (path, name): (Vec<&str>, Vec<&str>) = (path.split('.').collect(), name.split('.').collect());
    path.len() == name.len() && path.iter().zip(&name).all(|(path, name)| path.starts_with('<') || path == name)
}

fn ends_with(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn add_all(keys: &'static Keys, path: &str, within: &mut Vec<&'static str>, all: &mut Vec<KeyDescription>) {
    // The gates of a baseline contain baselines: each table is described once on a path.
    if within.contains(&keys.noun) {
        return;
    }
    within.push(keys.noun);
    for key in keys.list {
        add(key, path, within, all, true);
    }
    within.pop();
}

fn add(key: &'static Key, path: &str, within: &mut Vec<&'static str>, all: &mut Vec<KeyDescription>, inner: bool) {
    let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
    let mut kind = String::new();
    words(&key.kind, &mut kind);
    let keys = tables(&key.kind).flat_map(|keys| keys.list).map(|key| (key.name, key.doc)).collect();
    let keys = if inner { keys } else { Vec::new() };
    all.push(KeyDescription { path: path.clone(), kind, meaning: key.doc, required: key.required, keys });
    if inner {
        let (path, kind) = named(&key.kind, path);
        for keys in tables(kind) {
            add_all(keys, &path, within, all);
        }
    }
}

/// The path and the kind below names of the user's choice.
fn named(kind: &'static Kind, path: String) -> (String, &'static Kind) {
    match kind {
        Kind::Map(noun, kind) => named(kind, format!("{path}.<{noun}>")),
        _ => (path, kind),
    }
}

/// The tables in a value of this kind.
fn tables(kind: &'static Kind) -> Box<dyn Iterator<Item = &'static Keys>> {
    match kind {
        Kind::Within(keys) | Kind::TextOr(keys) | Kind::ChoiceOr(_, keys) => Box::new(std::iter::once(*keys)),
        Kind::ListOr(element, keys) => Box::new(std::iter::once(*keys).chain(tables(element))),
        Kind::List(element) | Kind::OneOrMore(element) | Kind::Map(_, element) | Kind::ChoiceOrList(_, element) => {
            tables(element)
        }
        _ => Box::new(std::iter::empty()),
    }
}

fn words(kind: &Kind, text: &mut String) {
    let choice = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let _ = match kind {
        Kind::Bool => write!(text, "true or false"),
        Kind::Integer(i64::MIN) => write!(text, "an integer"),
        Kind::Integer(least) => write!(text, "an integer, at least {least}"),
        Kind::Number(least) if *least <= f64::MIN => write!(text, "a number"),
        Kind::Number(least) => write!(text, "a number, at least {least}"),
        Kind::Text => write!(text, "a string"),
        Kind::Choice(names, _) => write!(text, "one of {}", choice(names)),
        Kind::Expression => write!(text, "an expression (a string) or a number"),
        Kind::AnyNumber => write!(text, "an expression (a string), a number, inf or nan"),
        Kind::ToggleValue => write!(text, "an integer, a float, a boolean or a string"),
        Kind::Within(keys) => write!(text, "a table: {}", keys.noun),
        Kind::Any => write!(text, "any value"),
        Kind::List(element) => {
            text.push_str("an array; each element is ");
            return words(element, text);
        }
        Kind::OneOrMore(element) => {
            words(element, text);
            write!(text, ", or an array of them")
        }
        Kind::Map(noun, element) => {
            let _ = write!(text, "a table with one entry for each {noun}; an entry is ");
            return words(element, text);
        }
        Kind::TextOr(keys) => write!(text, "a string, or a table: {}", keys.noun),
        Kind::ChoiceOr(names, keys) => write!(text, "one of {}, or a table: {}", choice(names), keys.noun),
        Kind::ListOr(element, keys) => {
            let _ = write!(text, "a table: {}, or an array; each element is ", keys.noun);
            return words(element, text);
        }
        Kind::ChoiceOrList(names, element) => {
            let _ = write!(text, "one of {}, or an array; each element is ", choice(names));
            return words(element, text);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_path_and_by_its_end() {
        let paths = |name: &str| find_keys(name).into_iter().map(|key| key.path).collect::<Vec<_>>();
        assert_eq!(paths("gates.correctness.max_rms_err"), ["gates.correctness.max_rms_err"]);
        assert_eq!(paths("tensors.x.dtype"), ["tensors.<tensor>.dtype"]);
        assert_eq!(paths("kernels.gates.correctness"), ["gates.correctness"]);
        assert!(paths("max_rms_err").contains(&"gates.correctness.max_rms_err".to_owned()));
        assert_eq!(paths("rms_err"), Vec::<String>::new());
    }

    #[test]
    fn every_key_says_its_kind_and_its_meaning() {
        let all = describe_keys();
        assert!(all.len() > 100, "{}", all.len());
        for key in &all {
            assert!(!key.kind.is_empty() && !key.meaning.is_empty(), "{key:?}");
        }
        let gates = find_keys("gates").into_iter().find(|key| key.path == "gates").unwrap();
        assert!(gates.keys.iter().any(|(name, _)| *name == "correctness"), "{gates:?}");
    }
}

//! Rules for names, and files by their names.

use std::path::PathBuf;

use super::super::diagnostics::{Diagnostic, Place, Report};
use super::super::tree::Node;
use crate::expr::parse::is_reserved;
use crate::text::did_you_mean;

/// The name of the device's number of multiprocessors in `grid`.
pub(super) const SM_COUNT: &str = "SM_COUNT";

/// Words of C and C++ that a macro of this name would break.
const C_WORDS: &str = " alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr \
    continue default defined delete do double else enum extern false float for friend goto if inline int long \
    namespace new not nullptr operator or private protected public register restrict return short signed sizeof static \
    struct switch template this throw true try typedef typename union unsigned using virtual void volatile while xor ";

/// Whether the text is a name in C.
pub(super) fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn is_c_word(name: &str) -> bool {
    C_WORDS.split_whitespace().any(|word| word == name)
}

/// Checks the name of a kernel, a shape or a baseline, which is used on command lines and in paths.
pub(super) fn check_name(noun: &str, name: &str, place: &Place, report: &Report) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') || !name.chars().all(plain) {
        let message = format!("`{name}` cannot name a {noun}");
        report.error(place, message, "use letters, digits, `_`, `-` and `.`");
    }
}

/// Checks the name of a macro: a toggle or an entry of `defines`.
pub(super) fn check_macro(name: &str, place: &Place, report: &Report) {
    let reserved = name.starts_with("__")
        || (name.starts_with('_') && name[1..].starts_with(|c: char| c.is_ascii_uppercase()))
        || name.starts_with("KBENCH_")
        || is_c_word(name);
    if !is_identifier(name) {
        report.error(place, format!("`{name}` cannot name a macro"), "use letters, digits and `_`, no digit first");
    } else if reserved {
        report.error(place, format!("`{name}` cannot name a macro"), "this name is reserved");
    } else {
        check_variable(name, place, report);
    }
}

/// Checks the name of a dimension or a toggle, which is used in expressions.
pub(super) fn check_variable(name: &str, place: &Place, report: &Report) {
    if !is_identifier(name) {
        let message = format!("`{name}` cannot be a name in expressions");
        report.error(place, message, "use letters, digits and `_`, no digit first");
    } else if is_reserved(name) || name == SM_COUNT {
        report.error(place, format!("`{name}` means something else in expressions"), "choose another name");
    }
}

/// The index of the name in `node`; `what` is its noun.
pub(super) fn find<'n>(
    node: &Node,
    what: &str,
    names: impl IntoIterator<Item = &'n str>,
    report: &Report,
) -> Option<usize> {
    find_name(node.text()?, &node.place, what, names, report)
}

/// The index of a name at `place`; `what` is its noun. A misspelt name is reported, and replaced by the name that it
/// resembles.
pub(super) fn find_name<'n>(
    name: &str,
    place: &Place,
    what: &str,
    names: impl IntoIterator<Item = &'n str>,
    report: &Report,
) -> Option<usize> {
    let names: Vec<&str> = names.into_iter().collect();
    let index = |name: &str| names.iter().position(|known| *known == name);
    index(name).or_else(|| {
        let near = did_you_mean(name, names.iter().copied());
        report
            .push(Diagnostic::error(format!("no {what} `{name}`")).at(place, "").suggest(name, names.iter().copied()));
        near.and_then(index)
    })
}

/// The path of a file, relative to the manifest that names it.
pub(super) fn source(node: &Node, report: &Report) -> Option<PathBuf> {
    let path = node.place.source.directory().join(node.text()?);
    if path.is_file() {
        return Some(path);
    }
    let label = if path.exists() { "not a file" } else { "no such file" };
    let message = format!("cannot find `{}`", node.text()?);
    let diagnostic = Diagnostic::error(message).at(&node.place, label);
    report.push(diagnostic.help("paths are relative to the manifest that says them"));
    None
}

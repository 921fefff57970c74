//! Compares a table with the [list of keys](super::keys): unknown keys, missing keys, wrong types. The decoder need not
//! check again: wrong entries are reported here and hidden from it. A misspelt word is reported and read as the word
//! that it resembles, so that one misspelling causes one error.

use super::diagnostics::{Diagnostic, Place, Report};
use super::keys::{Key, Keys, Kind};
use super::tree::{Item, Node, Table};
use crate::text::did_you_mean;

/// Reports every difference between `node` and `kind`. `name` is the key of the node, and `key` the place of the key.
pub(super) fn check(node: &mut Node, kind: &Kind, name: &str, key: &Place, report: &Report) {
    if let Item::Invalid(why) = node.item {
        report.error(&node.place, "a number out of range", why);
        return;
    }
    if matches!(node.item, Item::Float(float) if !float.is_finite()) && !matches!(kind, Kind::AnyNumber) {
        let why = "expected a finite number";
        report.error(&node.place, "a number out of range", why);
        node.item = Item::Invalid(why);
        return;
    }
    if !suits(kind, &node.item) {
        let kind = if let Kind::OneOrMore(element) = kind { element } else { kind };
        wrong_type(node, expected(kind), name, report);
        return;
    }
    let least = match kind {
        Kind::Integer(least) => *least as f64,
        Kind::Number(least) => *least,
        _ => f64::NEG_INFINITY,
    };
    if node.number().is_some_and(|number| number < least) {
        report.error(&node.place, format!("`{name}` is too small"), format!("expected {least} or more"));
    }
    match (kind, &mut node.item) {
        (
            Kind::List(element) | Kind::OneOrMore(element) | Kind::ChoiceOrList(_, element) | Kind::ListOr(element, _),
            Item::List(nodes),
        ) => {
            for node in nodes {
                let place = node.place.clone();
                check(node, element, name, &place, report);
            }
        }
        (Kind::OneOrMore(element), _) => check(node, element, name, key, report),
        (Kind::Choice(_, hidden), Item::Text(text)) if hidden.contains(&text.as_str()) => {}
        (Kind::Choice(words, _) | Kind::ChoiceOr(words, _) | Kind::ChoiceOrList(words, _), Item::Text(text))
            if !words.contains(&text.as_str()) =>
        {
            let message = format!("`{text}` is no value of `{name}`");
            report.push(Diagnostic::error(message).at(&node.place, "").suggest(text, words.iter().copied()));
            if let Some(near) = did_you_mean(text, words.iter().copied()) {
                near.clone_into(text);
            }
        }
        (
            Kind::Within(keys) | Kind::TextOr(keys) | Kind::ChoiceOr(_, keys) | Kind::ListOr(_, keys),
            Item::Table(table),
        ) => {
            check_table(table, keys, key, report);
        }
        (Kind::Map(_, kind), Item::Table(table)) => {
            for entry in &mut table.entries {
                check(&mut entry.node, kind, &entry.key, &entry.key_place, report);
            }
        }
        _ => {}
    }
}

/// Whether a value has the type of a kind; its contents are not checked.
fn suits(kind: &Kind, item: &Item) -> bool {
    match (kind, item) {
        (Kind::Any, _)
        | (Kind::Integer(_), Item::Integer(_))
        | (Kind::Number(_), Item::Integer(_) | Item::Float(_))
        | (Kind::Bool, Item::Bool(_))
        | (
            Kind::Text | Kind::TextOr(_) | Kind::Choice(..) | Kind::ChoiceOr(..) | Kind::ChoiceOrList(..),
            Item::Text(_),
        )
        | (Kind::Expression | Kind::AnyNumber, Item::Text(_) | Item::Integer(_) | Item::Float(_))
        | (Kind::ToggleValue, Item::Integer(_) | Item::Float(_) | Item::Bool(_) | Item::Text(_))
        | (Kind::List(_) | Kind::OneOrMore(_) | Kind::ChoiceOrList(..) | Kind::ListOr(..), Item::List(_))
        | (Kind::Within(_) | Kind::Map(..) | Kind::TextOr(_) | Kind::ChoiceOr(..) | Kind::ListOr(..), Item::Table(_)) => {
            true
        }
        (Kind::OneOrMore(element), item) => suits(element, item),
        _ => false,
    }
}

fn check_table(table: &mut Table, keys: &Keys, place: &Place, report: &Report) {
    let known: Vec<String> = table.keys().map(str::to_owned).collect();
    for entry in &mut table.entries {
        let Some(key) = keys.get(&entry.key) else {
            report.push(unknown_key(&entry.key, &entry.key_place, keys, &[]));
            let near = did_you_mean(&entry.key, keys.list.iter().map(|key| key.name)).and_then(|near| keys.get(near));
            let is_free = |near: &&Key| !known.iter().any(|key| key == near.name);
            if let Some(near) = near.filter(is_free).filter(|near| suits(&near.kind, &entry.node.item)) {
                near.name.clone_into(&mut entry.key);
                check(&mut entry.node, &near.kind, near.name, &entry.key_place, report);
            }
            continue;
        };
        check(&mut entry.node, &key.kind, &entry.key, &entry.key_place, report);
    }
    let missing: Vec<_> = keys.list.iter().filter(|key| key.required && table.get(key.name).is_none()).collect();
    for key in missing {
        let help = format!("`{}`: {}", key.name, key.doc);
        report.push(Diagnostic::error(missing_message(key.name, keys.noun)).at(place, "").help(help));
    }
}

fn missing_message(key: &str, noun: &str) -> String {
    match key {
        // The only missing key whose error gives a reason.
        "reference" => {
            "a kernel without a `reference`: a tuner that compares with nothing names kernels that never ran \
                        as the fastest"
                .to_owned()
        }
        _ => format!("{noun} needs `{key}`"),
    }
}

/// An error about a key that is neither in `keys` nor in `more`.
pub(super) fn unknown_key(name: &str, place: &Place, keys: &Keys, more: &[&str]) -> Diagnostic {
    let known = || keys.list.iter().map(|key| key.name).chain(more.iter().copied());
    let diagnostic = Diagnostic::error(format!("unknown key `{name}` in {}", keys.noun));
    if let Some(near) = did_you_mean(name, known()) {
        return diagnostic.at(place, format!("did you mean `{near}`?"));
    }
    let names: Vec<&str> = known().collect();
    diagnostic.at(place, "").help(format!("its keys are {}", crate::text::list(&names)))
}

fn wrong_type(node: &Node, expected: &str, name: &str, report: &Report) {
    let message = format!("`{name}` must be {expected}");
    report.error(&node.place, message, format!("this is {}", node.describe()));
}

fn expected(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Integer(_) => "an integer",
        Kind::Number(_) => "a number",
        Kind::Text | Kind::Choice(..) => "a string",
        Kind::Expression | Kind::AnyNumber => "an expression: a string or a number",
        Kind::ToggleValue => "an integer, a float, a boolean or a string",
        Kind::List(_) | Kind::OneOrMore(_) => "an array",
        Kind::Within(_) | Kind::Map(..) => "a table",
        Kind::TextOr(_) | Kind::ChoiceOr(..) => "a string or a table",
        Kind::ListOr(..) => "an array or a range",
        Kind::ChoiceOrList(..) => "a string or an array",
        Kind::Any => "anything",
    }
}

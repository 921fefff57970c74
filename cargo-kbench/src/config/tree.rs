//! A manifest's table with the place of every entry, and the inheritance between tables.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, Place, Report, Source};
use super::keys::Kind;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) item: Item,
}

#[derive(Debug, Clone)]
pub(super) enum Item {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
    /// A number that the tool does not accept, with the reason.
    Invalid(&'static str),
}

/// A table's entries, in the order of the manifest, those of the innermost manifest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) node: Node,
    /// Whether the entry is from an outer table.
    pub(super) inherited: bool,
}

impl Node {
    pub(super) fn text(&self) -> Option<&str> {
        if let Item::Text(text) = &self.item { Some(text) } else { None }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        if let Item::Integer(int) = self.item { Some(int) } else { None }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self.item {
            Item::Integer(int) => Some(int as f64),
            Item::Float(float) => Some(float),
            _ => None,
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        if let Item::Bool(bool) = self.item { Some(bool) } else { None }
    }

    /// The elements of an array; any other value counts as an array of one element.
    pub(super) fn elements(&self) -> &[Node] {
        if let Item::List(nodes) = &self.item { nodes } else { std::slice::from_ref(self) }
    }

    pub(super) fn table(&self) -> Option<&Table> {
        if let Item::Table(table) = &self.item { Some(table) } else { None }
    }

    /// Every string of an array of strings.
    pub(super) fn texts(&self) -> Vec<String> {
        self.elements().iter().filter_map(Node::text).map(str::to_owned).collect()
    }

    /// Name of the value's type, for a sentence.
    pub(super) fn describe(&self) -> &'static str {
        match self.item {
            Item::Text(_) => "a string",
            Item::Integer(_) => "an integer",
            Item::Float(_) => "a float",
            Item::Bool(_) => "a boolean",
            Item::Datetime => "a date",
            Item::List(_) => "an array",
            Item::Table(_) => "a table",
            Item::Invalid(_) => "a number out of range",
        }
    }

    /// Adds missing entries from an outer table; `kind` says which tables are merged and which are replaced completely.
    pub(super) fn inherit(&mut self, outer: &Node, kind: &Kind) {
        let (Item::Table(inner), Item::Table(outer)) = (&mut self.item, &outer.item) else { return };
        if !kind.merges() {
            return;
        }
        for entry in &outer.entries {
            match inner.entries.iter_mut().find(|own| own.key == entry.key) {
                Some(own) => own.node.inherit(&entry.node, kind.of_entry(&entry.key)),
                None => inner.entries.push(Entry { inherited: true, ..entry.clone() }),
            }
        }
    }
}

impl Serialize for Node {
    /// Contents without places.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.item {
            Item::Text(text) => serializer.serialize_str(text),
            Item::Integer(int) => serializer.serialize_i64(*int),
            Item::Float(float) => serializer.serialize_f64(*float),
            Item::Bool(bool) => serializer.serialize_bool(*bool),
            Item::List(nodes) => serializer.collect_seq(nodes),
            // Pairs and not a map: the order of toggles matters.
            Item::Table(table) => serializer.collect_seq(table.entries.iter().map(|entry| (&entry.key, &entry.node))),
            Item::Datetime | Item::Invalid(_) => serializer.serialize_unit(),
        }
    }
}

impl Table {
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The entries of the table under `key`; none if there is no such table.
    pub(super) fn entries_of(&self, key: &str) -> &[Entry] {
        self.get(key).and_then(Node::table).map_or(&[], |table| &table.entries)
    }
}

/// Parses a manifest. Syntax errors are reported, and the readable part is returned.
pub(super) fn parse(source: &Arc<Source>, report: &Report) -> Table {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        let end = source.text.len();
        let range = error.span().map_or(end..end, |span| span.start.min(end)..span.end.min(end));
        let place = Place { source: Arc::clone(source), range };
        report.push(Diagnostic::error(error.message().to_owned()).at(&place, ""));
    }
    Reader { source }.table(table.get_ref())
}

struct Reader<'r> {
    source: &'r Arc<Source>,
}

impl Reader<'_> {
    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        Place { source: Arc::clone(self.source), range: spanned.span() }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_place: self.place(key),
                node: self.node(value),
                inherited: false,
            })
            .collect();
        // The parser sorts by name; errors follow the order of the manifest.
        entries.sort_by_key(|entry| entry.key_place.range.start);
        Table { entries }
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value);
        let item = match value.get_ref() {
            DeValue::String(text) => Item::Text(text.to_string()),
            DeValue::Boolean(bool) => Item::Bool(*bool),
            DeValue::Datetime(_) => Item::Datetime,
            DeValue::Array(values) => Item::List(values.iter().map(|value| self.node(value)).collect()),
            DeValue::Table(table) => Item::Table(self.table(table)),
            DeValue::Integer(int) => match i64::from_str_radix(int.as_str(), int.radix()) {
                Ok(int) => Item::Integer(int),
                Err(_) => Item::Invalid("integers have 64 bits"),
            },
            DeValue::Float(float) => match float.as_str().parse::<f64>() {
                // One key accepts numbers that are not finite; for all others they are errors.
                Ok(value) if value.is_finite() || float.as_str().contains(['i', 'n']) => Item::Float(value),
                _ => Item::Invalid("expected a finite number"),
            },
        };
        Node { place, item }
    }
}

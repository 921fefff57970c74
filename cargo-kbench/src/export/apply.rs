//! Writes the winner as the `default` of the table: an edit of Cargo.toml that keeps all other text.

use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value as TomlValue};

use crate::config::Kernel;
use crate::expr::Value;
use crate::record::elite::{EliteEntry, EliteFile, EliteVariant};
use crate::space::Settings;

/// Reason why a winner was not written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// elite.json has no winner of the kernel.
    #[error("elite.json has no winner of `{kernel}` at `{shape}`; `cargo kbench autotune` finds one")]
    NoWinner {
        /// The kernel.
        kernel: String,
        /// Shape of the search.
        shape: String,
    },
    /// elite.json has winners of several devices.
    #[error("elite.json has winners of `{kernel}` on {}; name one with --on", crate::text::list(devices))]
    Devices {
        /// The kernel.
        kernel: String,
        /// The devices.
        devices: Vec<String>,
    },
    /// The winner has a proposed source.
    #[error(
        "the winner of `{kernel}` is the source {path} of a proposer; copy it over the kernel's own and tune again"
    )]
    Proposed {
        /// The kernel.
        kernel: String,
        /// The source, relative to the folder of elite.json.
        path: String,
    },
    /// The winner is not a variant of the table.
    #[error("elite.json, kernel `{kernel}`: {why}; tune it again")]
    Stale {
        /// The kernel.
        kernel: String,
        /// The difference.
        why: String,
    },
    /// The manifest lacks the kernel.
    #[error("the manifest does not declare kernel `{0}` itself; write its default where it is declared")]
    NotDeclared(String),
    /// The manifest is not TOML.
    #[error("{0}")]
    Toml(#[from] toml_edit::TomlError),
}

/// The winner of a kernel at the shape of its search, on the device with that name or on the only one in elite.json.
pub fn winner<'e>(elite: &'e EliteFile, kernel: &Kernel, on: Option<&str>) -> Result<&'e EliteVariant, ApplyError> {
    let shape = &kernel.shapes[kernel.search.shape];
    let entries: Vec<&EliteEntry> = elite
        .kernels
        .iter()
        .filter(|entry| (&entry.package, &entry.kernel, &entry.shape) == (&kernel.package, &kernel.name, &shape.name))
        .filter(|entry| on.is_none_or(|on| entry.device.name == on) && !entry.elite.is_empty())
        .collect();
    let name = || kernel.name.clone();
    match entries[..] {
        [] => Err(ApplyError::NoWinner { kernel: name(), shape: shape.name.clone() }),
        [entry] => {
            let winner = &entry.elite[0];
            if let Some(source) = &winner.source {
                return Err(ApplyError::Proposed { kernel: name(), path: source.path.display().to_string() });
            }
            let variant = kernel.space.variant(&winner.toggles);
            variant.map_err(|error| ApplyError::Stale { kernel: name(), why: error.to_string() })?;
            Ok(winner)
        }
        _ => {
            let devices = entries.iter().map(|entry| entry.device.name.clone()).collect();
            Err(ApplyError::Devices { kernel: name(), devices })
        }
    }
}

/// The manifest with these toggles as the default of a kernel.
pub fn applied(manifest: &str, kernel: &str, toggles: &Settings) -> Result<String, ApplyError> {
    let mut document: DocumentMut = manifest.parse()?;
    let places: [&[&str]; 2] = [&["package", "metadata", "kbench", "kernels"], &["kbench", "kernels"]];
    let declared = places.iter().find(|path| item(document.as_item(), path, kernel).is_some());
    let path = declared.ok_or_else(|| ApplyError::NotDeclared(kernel.to_owned()))?;
    let mut place = document.as_item_mut();
    for key in path.iter().chain([&kernel]) {
        place = place.get_mut(*key).expect("found above");
    }
    let not_declared = || ApplyError::NotDeclared(kernel.to_owned());
    let table = place.as_table_like_mut().ok_or_else(not_declared)?;
    let in_toggles = table.entry("toggles").or_insert_with(toml_edit::table);
    let in_toggles = in_toggles.as_table_like_mut().ok_or_else(not_declared)?;
    let default = in_toggles.entry("default").or_insert_with(|| Item::Value(InlineTable::new().into()));
    let default = default.as_table_like_mut().ok_or_else(not_declared)?;
    for (name, value) in &toggles.0 {
        set(default, name, value);
    }
    Ok(document.to_string())
}

fn item<'d>(root: &'d Item, path: &[&str], kernel: &str) -> Option<&'d Item> {
    path.iter().chain([&kernel]).try_fold(root, |item, key| item.get(key))
}

/// Sets a value and keeps the text around it; an equal value is not changed.
fn set(table: &mut dyn TableLike, name: &str, value: &Value) {
    let new: TomlValue = match value {
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Str(value) => value.as_str().into(),
    };
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            let is_same = match (&*old, value) {
                (TomlValue::Integer(old), Value::Int(value)) => old.value() == value,
                (TomlValue::Boolean(old), Value::Bool(value)) => old.value() == value,
                (TomlValue::Float(old), Value::Float(value)) => old.value().to_bits() == value.to_bits(),
                (TomlValue::String(old), Value::Str(value)) => old.value() == value,
                _ => false,
            };
            if !is_same {
                let decor = old.decor().clone();
                *old = new;
                *old.decor_mut() = decor;
            }
        }
        None => drop(table.insert(name, Item::Value(new))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, Value)]) -> Settings {
        Settings(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[test]
    fn apply_edits_only_values_that_differ() {
        let text = "# ours\n[package]\nname = 'k' # a name\n[package.metadata.kbench.kernels.k.toggles]\nmacro = { A = [1, 2], B = [0x10, 32] }\n\
                    default = { A = 1, B = 0x10 } # as found\nconstraints = [  \"A < B\" ]\n";
        let same = applied(text, "k", &settings(&[("A", Value::Int(1)), ("B", Value::Int(16))])).unwrap();
        assert_eq!(same, text);
        let edited = applied(text, "k", &settings(&[("A", Value::Int(2)), ("B", Value::Int(16))])).unwrap();
        assert_eq!(edited, text.replace("A = 1,", "A = 2,"));
    }

    #[test]
    fn a_default_is_added_where_there_is_none() {
        let toggles = settings(&[("A", Value::Int(2)), ("S", Value::Str("x y".into())), ("F", Value::Bool(true))]);
        let text = "[kbench.kernels.k]\ntoggles.macro = { A = [1, 2] }\nsource = 'k.c'\n\n[lib]\nname = \"k\"\n";
        let edited = applied(text, "k", &toggles).unwrap();
        let added = "toggles.default = { A = 2, S = \"x y\", F = true }\n";
        assert!(edited.contains(added) && edited.replace(added, "") == text, "{edited}");
        let table = "[package.metadata.kbench.kernels.k.toggles]\nmacro.A = [1, 2]\n[package.metadata.kbench.kernels.k.toggles.default]\n# why\nA = 1\n";
        let edited = applied(table, "k", &settings(&[("A", Value::Int(2))])).unwrap();
        assert_eq!(edited, table.replace("A = 1\n", "A = 2\n"));
        assert!(matches!(applied(text, "other", &toggles), Err(ApplyError::NotDeclared(_))));
    }
}

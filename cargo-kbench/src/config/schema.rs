//! The JSON schema of the table, from the [list of keys](super::keys), for editors.

use serde_json::{Map, Value, json};

use super::keys::{KERNEL, Key, Keys, Kind, PACKAGE_KERNELS};

/// The JSON schema of the kbench table: of a package, of a workspace, or bare.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut properties = properties(KERNEL.list, &mut definitions);
    properties.insert(PACKAGE_KERNELS.name.to_owned(), property(&PACKAGE_KERNELS, &mut definitions));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kbench",
        "description": "The table [package.metadata.kbench]: kernels, and defaults of theirs. \
                        In [workspace.metadata.kbench], the defaults alone.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": definitions,
    })
}

fn properties(keys: &[Key], definitions: &mut Map<String, Value>) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), property(key, definitions))).collect()
}

fn property(key: &Key, definitions: &mut Map<String, Value>) -> Value {
    let mut property = of_kind(&key.kind, definitions);
    property["description"] = key.doc.into();
    property
}

fn of_kind(kind: &Kind, definitions: &mut Map<String, Value>) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer(i64::MIN) => json!({ "type": "integer" }),
        Kind::Integer(least) => json!({ "type": "integer", "minimum": least }),
        Kind::Number(least) if *least <= f64::MIN => json!({ "type": "number" }),
        Kind::Number(least) => json!({ "type": "number", "minimum": least }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Choice(words, _) => json!({ "enum": words }),
        Kind::Expression | Kind::AnyNumber => json!({ "type": ["string", "number"] }),
        Kind::ToggleValue => json!({ "type": ["number", "boolean", "string"] }),
        Kind::List(element) => json!({ "type": "array", "items": of_kind(element, definitions) }),
        Kind::OneOrMore(element) => {
            let element = of_kind(element, definitions);
            json!({ "anyOf": [element, { "type": "array", "items": element }] })
        }
        Kind::Within(keys) => reference(keys, definitions),
        Kind::Map(noun, kind) => {
            json!({ "type": "object", "additionalProperties": of_kind(kind, definitions), "propertyNames": { "title": noun } })
        }
        Kind::ChoiceOr(words, keys) => json!({ "anyOf": [{ "enum": words }, reference(keys, definitions)] }),
        Kind::TextOr(keys) => json!({ "anyOf": [{ "type": "string" }, reference(keys, definitions)] }),
        Kind::ListOr(element, keys) => {
            let array = json!({ "type": "array", "items": of_kind(element, definitions) });
            json!({ "anyOf": [array, reference(keys, definitions)] })
        }
        Kind::ChoiceOrList(words, element) => {
            json!({ "anyOf": [{ "enum": words }, { "type": "array", "items": of_kind(element, definitions) }] })
        }
        Kind::Any => json!({}),
    }
}

/// A reference to the definition of a table; a missing definition is added.
fn reference(keys: &Keys, definitions: &mut Map<String, Value>) -> Value {
    let name = keys.noun.trim_start_matches("a ").trim_start_matches("an ").replace(' ', "-");
    if !definitions.contains_key(&name) {
        // A table may contain tables of its own kind.
        definitions.insert(name.clone(), Value::Null);
        let properties = properties(keys.list, definitions);
        let mut table = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        // In other tables, missing keys may be inherited.
        if keys.whole {
            let required: Vec<&str> = keys.list.iter().filter(|key| key.required).map(|key| key.name).collect();
            table["required"] = required.into();
        }
        definitions.insert(name.clone(), table);
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Regenerate with `KBENCH_UPDATE=1 cargo test -p cargo-kbench schema`.
    #[test]
    fn the_committed_schema_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/kbench.schema.json");
        if std::env::var_os("KBENCH_UPDATE").is_some() {
            let text = serde_json::to_string_pretty(&schema()).unwrap();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text + "\n").unwrap();
        }
        let committed: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(committed, schema(), "run the tests once with KBENCH_UPDATE=1");
    }

    #[test]
    fn the_fake_backend_is_hidden() {
        assert!(!schema().to_string().contains("fake"));
    }
}

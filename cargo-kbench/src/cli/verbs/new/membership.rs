//! Adds a new package to the workspace around it, as `cargo new` does.

use std::fs;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, TableLike, Value};

use super::NewError;
use crate::file;

/// Adds a package to the `members` of the workspace above it, unless a pattern matches it or it is excluded. Returns
/// the changed manifest.
pub(in super::super) fn join(package: &Path) -> Result<Option<PathBuf>, NewError> {
    let Some((manifest, mut document)) = workspace_above(package) else { return Ok(None) };
    let root = manifest.parent().unwrap_or(Path::new("."));
    let relative = package.strip_prefix(root).unwrap_or(package).to_string_lossy().replace('\\', "/");
    if !add(&mut document, &relative) {
        return Ok(None);
    }
    // A link is followed and not replaced.
    let place = fs::canonicalize(&manifest).unwrap_or_else(|_| manifest.clone());
    file::write(&place, document.to_string().as_bytes()).map_err(|error| NewError::NotAdded(error.to_string()))?;
    Ok(Some(manifest))
}

/// The nearest manifest above with a workspace. An unreadable manifest is left to cargo's error.
fn workspace_above(package: &Path) -> Option<(PathBuf, DocumentMut)> {
    package.ancestors().skip(1).find_map(|folder| {
        let manifest = folder.join("Cargo.toml");
        let document: DocumentMut = fs::read_to_string(&manifest).ok()?.parse().ok()?;
        document.contains_key("workspace").then_some((manifest, document))
    })
}

/// Adds a path to the members; returns false if it is a member already, or excluded.
fn add(document: &mut DocumentMut, path: &str) -> bool {
    let Some(workspace) = document.get_mut("workspace").and_then(Item::as_table_like_mut) else { return false };
    let texts = |workspace: &dyn TableLike, key: &str| -> Vec<String> {
        let array = workspace.get(key).and_then(Item::as_array);
        array.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let is_excluded = texts(workspace, "exclude").iter().any(|excluded| Path::new(path).starts_with(excluded));
    let members = texts(workspace, "members");
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let is_member = |member: &String| {
        let member = member.strip_prefix("./").unwrap_or(member).trim_end_matches('/');
        glob::Pattern::new(member).is_ok_and(|pattern| pattern.matches_with(path, options))
    };
    if is_excluded || members.iter().any(is_member) {
        return false;
    }
    let Some(array) = workspace.entry("members").or_insert(toml_edit::value(Array::new())).as_array_mut() else {
        return false;
    };
    // Sorted, if the members are sorted.
    let at = if members.is_sorted() { members.partition_point(|member| member.as_str() < path) } else { members.len() };
    let prefix =
        |value: &Value| value.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
    let of_a_line = array.iter().map(prefix).find(|prefix| prefix.contains('\n'));
    array.insert(at, path);
    // On a line of its own if the other members are; in a one-line array no comment can be lost.
    match (of_a_line, array.get_mut(at)) {
        (Some(prefix), Some(new)) => {
            let indent = prefix.rsplit('\n').next().unwrap_or_default();
            new.decor_mut().set_prefix(format!("\n{indent}"));
        }
        _ => array.fmt(),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(manifest: &str, path: &str) -> Option<String> {
        let mut document: DocumentMut = manifest.parse().unwrap();
        add(&mut document, path).then(|| document.to_string())
    }

    #[test]
    fn members_are_added_in_their_order() {
        let manifest = "[workspace]\nmembers = [\"a\", \"kernels/*\"] # ours\nresolver = \"3\"\n";
        let expected = "[workspace]\nmembers = [\"a\", \"kernels/*\", \"my-kernel\"] # ours\nresolver = \"3\"\n";
        assert_eq!(added(manifest, "my-kernel").as_deref(), Some(expected));
        let lines = "[workspace]\nmembers = [\n    \"b\",\n    \"a\",\n]\n";
        let expected = "[workspace]\nmembers = [\n    \"b\",\n    \"a\",\n    \"aa\",\n]\n";
        assert_eq!(added(lines, "aa").as_deref(), Some(expected));
        assert_eq!(added("[workspace]\n", "k").as_deref(), Some("[workspace]\nmembers = [\"k\"]\n"));
        let first = added("workspace = { members = [\"b\"] }\n", "a");
        assert_eq!(first.as_deref(), Some("workspace = { members = [\"a\", \"b\"] }\n"));
    }

    #[test]
    fn members_and_excluded_packages_are_not_added() {
        for manifest in [
            "[workspace]\nmembers = [\"k\"]\n",
            "[workspace]\nmembers = [\"?\"]\n",
            "[workspace]\nexclude = [\"k\"]\n",
            "[package]\nname = \"p\"\n",
        ] {
            assert_eq!(added(manifest, "k"), None, "{manifest}");
        }
        assert_eq!(added("[workspace]\nmembers = [\"./kernels/*/\"]\n", "kernels/k"), None);
        assert!(added("[workspace]\nmembers = [\"kernels/*\"]\n", "kernels/sub/k").is_some());
        assert_eq!(added("[workspace]\nexclude = [\"old\"]\n", "old/k"), None);
    }
}

//! The module graph of both crates, drawn from their sources: data flows down a list of rooms, and no import runs upward.
//!
//! A room is a module at a crate's root. It may name rooms that stand before it in its crate's list, and itself; so no two rooms name
//! each other, and no cycle exists. Code for tests alone may name any room.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A crate: its folder, its rooms from the lowest to the highest, and modules at its root that hold tests alone.
struct Crate {
    folder: &'static str,
    rooms: &'static [&'static str],
    tests: &'static [&'static str],
}

const CRATES: &[Crate] = &[
    Crate {
        folder: "kbench-runtime",
        rooms: &["data", "protocol", "process", "device", "inputs", "memory", "verify", "measure", "worker"],
        tests: &["testing"],
    },
    Crate {
        folder: "cargo-kbench",
        rooms: &[
            "interrupt",
            "file",
            "text",
            "docs",
            "toolchain",
            "expr",
            "space",
            "config",
            "search",
            "process",
            "build",
            "record",
            "profile",
            "harness",
            "bundle",
            "export",
            "import",
            "gates",
            "evaluate",
            "tune",
            "audit",
            "compare",
            "doctor",
            "replay",
            "report",
            "page",
            "cli",
        ],
        tests: &[],
    },
];

/// What one file names of its crate: the first module of each path, and whether that was looked for in code for tests.
struct Paths<'a> {
    /// The module that the file is, from the crate's root on.
    module: &'a [String],
    /// Inline modules that the visit is inside of.
    inline: Vec<String>,
    named: BTreeSet<String>,
}

impl Paths<'_> {
    /// Notes the room that a path leads to, if the path is relative to this crate.
    fn note(&mut self, path: &[String]) {
        let here: Vec<&String> = self.module.iter().chain(&self.inline).collect();
        let supers = path.iter().take_while(|part| *part == "super").count();
        let rest = &path[supers..];
        let room = match path.first().map(String::as_str) {
            Some("crate") => path.get(1),
            Some("super") if supers >= here.len() => rest.first(),
            Some("super") => here.first().copied(),
            _ => None,
        };
        self.named.extend(room.cloned());
    }

    fn walk(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.walk(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.note(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.walk(tree, before)),
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg")
            && (condition == "test" || condition.starts_with("all (test") || condition.starts_with("all(test"))
    })
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.inline.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.inline.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.walk(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&parts);
        syn::visit::visit_path(self, path);
    }
}

/// The rooms that a source names outside of its tests; `module` is where in the crate it stands.
fn named(source: &str, module: &[String]) -> BTreeSet<String> {
    let file = syn::parse_file(source).expect("a file that compiles");
    let mut paths = Paths { module, inline: Vec::new(), named: BTreeSet::new() };
    paths.visit_file(&file);
    paths.named
}

/// Why a room may not name another one; `None` where it may.
fn objection(rooms: &[&str], room: &str, other: &str) -> Option<String> {
    let place = |name: &str| rooms.iter().position(|known| *known == name);
    match (place(room), place(other)) {
        (None, _) => Some(format!("`{room}` is no room of the list")),
        (_, None) => Some(format!("`{room}` names `{other}`, which is no room of the list")),
        (Some(room_at), Some(other_at)) if room_at < other_at => {
            Some(format!("`{room}` names `{other}`, which stands above it"))
        }
        _ => None,
    }
}

/// Every source below a folder, with the module that it is: `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn sources(folder: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), Vec::new())];
    while let Some((folder, module)) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8").to_owned();
            let below = [&module[..], std::slice::from_ref(&stem)].concat();
            if path.is_dir() {
                folders.push((path, below));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = if stem == "mod" { module.clone() } else { below };
                files.push((path, module));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn no_import_runs_upward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    for Crate { folder, rooms, tests } in CRATES {
        let mut objections = BTreeSet::new();
        let mut found = BTreeSet::new();
        for (path, module) in sources(&root.join(folder).join("src")) {
            let room = module.first().expect("no source is the folder itself").clone();
            // The root declares the rooms and says which of their items are public.
            let is_root = module.len() == 1 && ["lib", "main"].contains(&room.as_str());
            let is_test = tests.contains(&room.as_str()) || module[1..].iter().any(|part| part == "tests");
            if is_root || is_test {
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("a readable source");
            let named = named(&source, &module);
            let objected = named.iter().filter_map(|other| objection(rooms, &room, other));
            objections.extend(objected.map(|why| format!("{}: {why}", path.strip_prefix(root).unwrap().display())));
            found.insert(room);
        }
        assert!(objections.is_empty(), "{folder}: the rooms are, from below, {rooms:?}\n{objections:#?}");
        assert_eq!(found.len(), rooms.len(), "{folder} has the rooms {found:?}, the list {rooms:?}");
    }
}

#[test]
fn every_form_of_import_is_found_except_in_tests() {
    let module = ["middle".to_owned(), "file".to_owned()];
    let of = |source: &str| named(source, &module).into_iter().collect::<Vec<_>>();
    assert_eq!(of("use crate::low::{Thing, other::{self, Deep}};"), ["low"]);
    assert_eq!(of("use crate::{low::Thing, high};"), ["high", "low"]);
    assert_eq!(of("pub use crate::high::*;"), ["high"]);
    assert_eq!(of("fn f() -> crate::low::Thing { crate::high::make::<crate::mid::X>() }"), ["high", "low", "mid"]);
    assert_eq!(of("use super::sibling; use super::super::high::Thing;"), ["high", "middle"]);
    assert_eq!(of("mod inner { use super::super::super::high; use super::super::sibling; }"), ["high", "middle"]);
    assert_eq!(of("use std::fmt; use self::part::Thing; use syn::File;"), [""; 0]);
    assert_eq!(of("#[cfg(test)] mod tests { use crate::high::X; } #[test] fn t() { crate::high::x() }"), [""; 0]);
    assert_eq!(of("#[cfg(all(test, unix))] mod tests { use crate::high::X; }"), [""; 0]);
    assert_eq!(of("#[cfg(not(test))] use crate::high::X;"), ["high"]);

    let rooms = ["low", "middle", "high"];
    assert_eq!(objection(&rooms, "middle", "low"), None);
    assert_eq!(objection(&rooms, "middle", "middle"), None);
    assert!(objection(&rooms, "middle", "high").is_some_and(|why| why.contains("above")));
    assert!(objection(&rooms, "middle", "attic").is_some_and(|why| why.contains("attic")));
    assert!(objection(&rooms, "attic", "low").is_some());
}

/// Lines of a file that needs no reason for its length.
const MOST_LINES: usize = 400;

#[test]
fn a_longer_file_than_400_lines_states_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut without = Vec::new();
    let of_crates = CRATES.iter().flat_map(|Crate { folder, .. }| sources(&root.join(folder).join("src")));
    let of_tests =
        std::fs::read_dir(root.join("tests")).expect("the tests").map(|entry| entry.expect("an entry").path());
    let of_tests = of_tests.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    for path in of_crates.map(|(path, _)| path).chain(of_tests) {
        let source = std::fs::read_to_string(&path).expect("a readable source");
        let head: Vec<&str> = source.lines().take_while(|line| line.starts_with("//!")).collect();
        if source.lines().count() > MOST_LINES && !head.join(" ").replace("//! ", "").contains("400 lines:") {
            without.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
    assert!(
        without.is_empty(),
        "say in the head, after `Longer than 400 lines:`, why these are not split: {without:?}"
    );
}

#[test]
fn every_source_that_contributing_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text = std::fs::read_to_string(root.join("CONTRIBUTING.md")).expect("a readable page");
    let section = text.split("## Where it is").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the section");
    let named: Vec<&str> =
        section.split('`').skip(1).step_by(2).filter(|name| name.contains('/') || name.contains(".rs")).collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named.into_iter().filter(|name| *name != "cargo-kbench/src" && *name != "kbench-runtime/src") {
        let path = match name.strip_prefix("runtime:") {
            Some(path) => root.join("kbench-runtime/src").join(path),
            None if name.starts_with("tests/") => root.join(name),
            None => root.join("cargo-kbench/src").join(name),
        };
        assert!(path.exists(), "CONTRIBUTING.md names {name}, which is not there");
    }
}

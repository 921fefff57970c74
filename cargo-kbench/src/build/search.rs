//! A compiler's search for headers, and the absent files that an outcome depends on.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use super::error::CompileError;
use super::inputs::Inputs;
use super::invocation::Invocation;

/// The searched folders for one choice of flags.
#[derive(Debug, Default)]
pub(super) struct SearchPath {
    /// All folders in the compiler's order, existing or not.
    folders: Vec<PathBuf>,
    /// The compiler's own folders among them.
    system: Vec<PathBuf>,
}

/// Answers of a compiler so far, by flags.
#[derive(Debug, Default)]
pub(super) struct SearchPaths(Mutex<HashMap<Vec<String>, Answer>>);

/// An answer, known or requested.
type Answer = Arc<OnceLock<Option<Arc<SearchPath>>>>;

/// Files that an outcome depends on beside those that were read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Traced {
    /// Existing files that sources ask for by `__has_include`.
    pub(super) present: Vec<PathBuf>,
    /// Absent files that would have been found, or found first.
    pub(super) absent: BTreeSet<PathBuf>,
}

impl SearchPaths {
    /// Folders that the compiler searches with `flags`, requested once. `own` is its command without the flags and the
    /// environment's additions, `full` the complete command; `None` if the compiler does not print the folders.
    pub(super) fn of(
        &self,
        flags: &[String],
        directory: &Path,
        work: &Path,
        [own, full]: [&dyn Fn() -> Invocation; 2],
    ) -> Option<Arc<SearchPath>> {
        let mut known = self.0.lock().expect("no panic while locked");
        let cell = Arc::clone(known.entry(flags.to_vec()).or_default());
        drop(known);
        let ask = |command: Invocation| {
            // Other threads wait for the answer, also if this caller no longer needs it.
            let said = match command.run(work, &AtomicBool::new(false)) {
                Ok(said) => said,
                // A header among the flags may reject an empty source.
                Err(CompileError::Failed { stderr, .. }) => stderr,
                Err(_) => return None,
            };
            folders(&said, directory)
        };
        let found = cell.get_or_init(|| Some(Arc::new(SearchPath { folders: ask(full())?, system: ask(own())? })));
        found.clone()
    }
}

/// The folders in a compiler's output with `-v`.
fn folders(said: &str, directory: &Path) -> Option<Vec<PathBuf>> {
    let place = |text: &str| normal(&directory.join(text.trim().trim_end_matches(" (framework directory)")));
    let (before, rest) = said.split_once("search starts here:")?;
    let (list, _) = rest.split_once("End of search list")?;
    let missing = before.lines().filter_map(|line| line.strip_prefix("ignoring nonexistent directory \""));
    let missing = missing.filter_map(|line| line.strip_suffix('"'));
    let listed = list.lines().filter(|line| line.starts_with(' '));
    // The output does not show the position of missing folders.
    Some(missing.chain(listed).map(place).collect())
}

impl SearchPath {
    /// Whether a file belongs to the compiler and not to the user.
    fn is_system(&self, path: &Path) -> bool {
        let within = |folders: &[PathBuf]| {
            folders.iter().filter(|folder| path.starts_with(folder)).map(|folder| folder.components().count()).max()
        };
        within(&self.system).is_some_and(|depth| within(&self.folders).is_none_or(|deepest| deepest <= depth))
    }

    /// Files that an outcome depends on beside those that were read; `None` if the texts do not determine them. A test
    /// by `__has_include` may also be in the flags or the macros of a unit.
    pub(super) fn trace(
        &self,
        read: &[PathBuf],
        directory: &Path,
        inputs: &Inputs,
        macros: &[(String, String)],
    ) -> Option<Traced> {
        let said = macros.iter().fold(inputs.text(), |text, (_, value)| text + "\n" + value);
        let read: Vec<PathBuf> = read.iter().map(|path| normal(path)).collect();
        let own: Vec<&PathBuf> = read.iter().filter(|path| !self.is_system(path)).collect();
        // A name in quotes is first searched beside the including file.
        let beside: BTreeSet<&Path> = own.iter().filter_map(|path| path.parent()).collect();
        let mut candidates = BTreeSet::new();
        for path in &read {
            let mut earlier: Vec<&Path> = beside.iter().copied().collect();
            for folder in &self.folders {
                if let Ok(name) = path.strip_prefix(folder) {
                    candidates.extend(earlier.iter().map(|earlier| earlier.join(name)));
                }
                earlier.push(folder);
            }
        }
        let mut add = |folders: &BTreeSet<&Path>, name: &str| {
            candidates.extend(folders.iter().map(|folder| folder.join(name)));
            candidates.extend(self.folders.iter().map(|folder| folder.join(name)));
        };
        for path in &own {
            let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
            let folder = BTreeSet::from([path.parent()?]);
            for name in asked(&text)? {
                add(&folder, &name);
            }
        }
        for name in asked(&said)? {
            add(&beside, &name);
        }
        // A precompiled header takes the place of the header, and no list of the compiler has it.
        for name in inputs.forced_headers() {
            for precompiled in ["gch", "pch"].map(|suffix| format!("{name}.{suffix}")) {
                add(&BTreeSet::from([directory]), &precompiled);
            }
        }
        if candidates.iter().any(|path| path.is_dir() && path.extension().is_some_and(|suffix| suffix == "gch")) {
            return None;
        }
        let (present, absent): (BTreeSet<PathBuf>, _) = candidates.into_iter().partition(|path| path.exists());
        let present = present.into_iter().filter(|path| path.is_file() && !read.contains(path)).collect();
        Some(Traced { present, absent })
    }
}

/// Names in `__has_include` of a source or the flags; `None` if the source reads files that no list of the compiler has.
fn asked(text: &str) -> Option<Vec<String>> {
    // A backslash continues a line, also within a word.
    let text = &text.replace("\\\r\n", "").replace("\\\n", "");
    let embeds =
        |line: &str| line.trim_start().strip_prefix('#').is_some_and(|rest| rest.trim_start().starts_with("embed"));
    let elsewhere = ["incbin", ".include", "__has_embed", "__DATE__", "__TIME__", "__TIMESTAMP__"];
    if elsewhere.iter().any(|word| text.contains(word)) || text.lines().any(embeds) {
        return None;
    }
    let mut names = Vec::new();
    for (at, word) in text.match_indices("__has_include") {
        let rest = &text[at + word.len()..];
        let rest = rest.strip_prefix("_next").unwrap_or(rest).trim_start();
        // Without an operand, the source only tests whether the compiler knows the word.
        let Some(operand) = rest.strip_prefix('(') else { continue };
        let operand = operand.trim_start();
        let end = match operand.chars().next() {
            Some('<') => '>',
            Some('"') => '"',
            Some(')') | None => continue,
            Some(_) => return None,
        };
        let (name, _) = operand[1..].split_once(end)?;
        names.push(name.to_owned());
    }
    Some(names)
}

/// Removes `.` and `..` by text alone, since compilers spell the same folder differently.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if normal.file_name().is_some() => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::files::Files;

    #[test]
    fn folders_of_headers_are_read_from_gcc() {
        let said = "ignoring nonexistent directory \"later\"\n\
                    #include \"...\" search starts here:\n q\n#include <...> search starts here:\n .\n /usr/lib/gcc/12/../include\nEnd of search list.\n";
        let found = folders(said, Path::new("/p")).unwrap();
        assert_eq!(found, ["/p/later", "/p/q", "/p", "/usr/lib/gcc/include"].map(PathBuf::from));
        assert_eq!(folders("gcc: error: no", Path::new("/p")), None);
    }

    #[test]
    fn included_and_tested_headers_are_found_in_sources() {
        let asks = |text: &str| asked(text);
        assert_eq!(asks("#include <a.h>\n#ifdef __has_include\n#endif"), Some(vec![]));
        let text = "#if defined(__has_include) && __has_include(<a/b.h>) || __has_include_next( \"c.h\" )";
        assert_eq!(asks(text), Some(vec!["a/b.h".into(), "c.h".into()]));
        for text in [
            "#if __has_include(NAME)",
            "#if __has_inc\\\nlude(NAME)",
            "int t = sizeof __TI\\\nME__;",
            "asm(\".incbin \\\"t\\\"\");",
            " # embed <t>",
            "int t = sizeof __TIME__;",
        ] {
            assert_eq!(asks(text), None, "{text}");
        }
    }

    #[test]
    fn absent_files_that_would_be_found_first_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["p/src/k.c", "p/second/a/x.h", "sys/s.h", "p/there.h"] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
        }
        fs::write(at("p/src/k.c"), "#if __has_include(\"there.h\") || __has_include(<nowhere.h>)").unwrap();
        let search =
            SearchPath { folders: vec![at("p"), at("p/first"), at("p/second"), at("sys")], system: vec![at("sys")] };
        let trace = |read: &[PathBuf]| search.trace(read, &at("p"), &Inputs::default(), &[]);
        let traced = trace(&[at("p/src/k.c"), at("p/second/a/x.h"), at("sys/s.h")]).unwrap();
        assert_eq!(traced.present, [at("p/there.h")]);
        for name in ["p/a/x.h", "p/first/a/x.h", "p/src/a/x.h", "p/s.h", "p/second/s.h", "p/nowhere.h", "sys/nowhere.h"]
        {
            assert!(traced.absent.contains(&at(name)), "{name}: {traced:?}");
        }
        assert!(!traced.absent.contains(&at("sys/a/x.h")), "that would be found later");
        fs::write(at("p/second/a/x.h"), "#if __has_include(X)").unwrap();
        assert_eq!(trace(&[at("p/second/a/x.h")]), None);
        fs::write(at("sys/s.h"), "#if __has_include(X)").unwrap();
        assert!(trace(&[at("sys/s.h")]).is_some(), "the compiler's own");
    }

    #[test]
    fn flags_and_macros_may_test_for_headers_too() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("p/src")).unwrap();
        fs::write(at("p/src/k.c"), "").unwrap();
        let search = SearchPath { folders: vec![at("p/include")], system: vec![] };
        let trace = |flags: &[&str], macros: &[(&str, &str)]| {
            let inputs = Inputs::of(flags.iter().copied(), &at("p"), &Files::default());
            let macros: Vec<_> = macros.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            search.trace(&[at("p/src/k.c")], &at("p"), &inputs, &macros)
        };
        let asked = trace(&["-DHAS=__has_include(<a.h>)"], &[]).unwrap().absent;
        assert_eq!(asked, [at("p/include/a.h"), at("p/src/a.h")].into());
        assert_eq!(trace(&[], &[("HAS", "__has_include(\"a.h\")")]).unwrap().absent, asked);
        assert_eq!(trace(&["-DHAS=__has_include(NAME)"], &[]), None);
        assert_eq!(trace(&[], &[("T", "__TIME__")]), None);
        let absent = trace(&["-include", "k.h"], &[]).unwrap().absent;
        assert!(absent.contains(&at("p/k.h.gch")) && absent.contains(&at("p/include/k.h.gch")), "{absent:?}");
        fs::write(at("p/k.h.gch"), "").unwrap();
        assert_eq!(trace(&["-include", "k.h"], &[]).unwrap().present, [at("p/k.h.gch")]);
        fs::remove_file(at("p/k.h.gch")).unwrap();
        fs::create_dir(at("p/k.h.gch")).unwrap();
        assert_eq!(trace(&["-include", "k.h"], &[]), None, "a folder of precompiled headers");
    }
}

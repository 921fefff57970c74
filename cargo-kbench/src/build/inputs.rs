//! Files that flags make a compiler and its linker read: named files, response files, libraries.
//!
//! Inputs that the flags do not determine are not tracked, and such a build is not kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::Files;

/// Flags by which the compiler finds programs or profiles at places of its own choice.
pub(super) const UNTRACKED: [&str; 5] = ["-B", "-wrapper", "-fbranch-probabilities", "--libdevice-directory", "-ldir="];

/// Flags for a profile with a derived name, unless they name a file.
const PROFILES: [&str; 2] = ["-fprofile-use", "-fauto-profile"];

/// Largest depth of response files in response files.
const DEPTH: usize = 8;

/// Start of the flags (`-MM`, `-MMD`) by which the compiler's list of headers lacks those of system folders.
const SHORT_LIST: &str = "-MM";

/// Flags whose value is a flag of another program.
const PASSES_ON: [&str; 3] = ["-Xlinker", "-Wl", "--for-linker"];

/// Inputs that flags name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Inputs {
    /// Files, each with its hash.
    pub(super) files: Vec<(PathBuf, String)>,
    /// The flags with expanded response files, and with arguments for other programs (`-Wl,a,b`) split.
    words: Vec<String>,
    /// Whether some input is unknown.
    pub(super) untracked: bool,
}

impl Inputs {
    /// The inputs that `flags` name, relative to `directory`.
    pub(super) fn of<'a>(flags: impl IntoIterator<Item = &'a str>, directory: &Path, files: &Files) -> Self {
        let mut inputs = Self::default();
        inputs.add(flags, directory, files, 0);
        inputs
    }

    fn add<'a>(&mut self, flags: impl IntoIterator<Item = &'a str>, directory: &Path, files: &Files, depth: usize) {
        let mut is_list = false;
        for flag in flags {
            self.untracked |= UNTRACKED.iter().any(|name| flag.starts_with(name));
            let before = self.files.len();
            for word in flag.split(',') {
                self.untracked |= word.starts_with(SHORT_LIST);
                self.words.push(word.to_owned());
                for part in word.split('=') {
                    let named = part.strip_prefix('@');
                    let path = directory.join(named.unwrap_or(part));
                    if part.is_empty() || !path.is_file() {
                        continue;
                    }
                    match files.hash(&path) {
                        Ok(hash) => self.files.push((path.clone(), hash)),
                        Err(_) => self.untracked = true,
                    }
                    if named.is_some() || is_list || word.starts_with("--options-file=") || word.starts_with("-optf=") {
                        self.expand(&path, directory, files, depth);
                    }
                }
            }
            is_list = ["--options-file", "-optf"].contains(&flag);
            self.untracked |= self.files.len() == before && PROFILES.iter().any(|name| flag.starts_with(name));
        }
    }

    fn expand(&mut self, path: &Path, directory: &Path, files: &Files, depth: usize) {
        let Ok(text) = fs::read_to_string(path) else {
            self.untracked = true;
            return;
        };
        // Each compiler has its own rules for quotes.
        self.untracked |= depth == DEPTH || text.contains(['"', '\'', '\\']);
        if !self.untracked {
            self.add(text.split_whitespace(), directory, files, depth + 1);
        }
    }

    /// The values of a flag in each of its spellings: `-lm`, `-l m`, `--library=m`, `--library m`.
    fn values<'a>(&'a self, spellings: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        // A value may follow behind another `-Xlinker` or `-Wl`.
        let mut words = self.words.iter().map(String::as_str).filter(|word| !PASSES_ON.contains(word)).peekable();
        std::iter::from_fn(move || {
            loop {
                let word = words.next()?;
                for flag in spellings {
                    match word.strip_prefix(flag) {
                        Some("") => return words.peek().copied(),
                        Some(value) if !flag.starts_with("--") => return Some(value),
                        Some(value) if value.starts_with('=') => return Some(&value[1..]),
                        _ => {}
                    }
                }
            }
        })
    }

    fn libraries(&self) -> impl Iterator<Item = &str> {
        self.values(&["-l", "--library"])
    }

    fn library_folders(&self) -> impl Iterator<Item = &str> {
        self.values(&["-L", "--library-path", "--library-directory"])
    }

    /// Whether the linker gets libraries by name.
    pub(super) fn has_libraries(&self) -> bool {
        self.libraries().chain(self.library_folders()).next().is_some()
    }

    /// The flags as one text, which macros may take names of files from.
    pub(super) fn text(&self) -> String {
        self.words.join("\n")
    }

    /// Headers that are included before the source.
    pub(super) fn forced_headers(&self) -> impl Iterator<Item = &str> {
        self.values(&["-include", "--include"])
    }

    /// Folders of headers.
    pub(super) fn header_folders(&self) -> impl Iterator<Item = &str> {
        self.values(&["-I", "-iquote", "-isystem", "-idirafter", "--include-path", "--include-directory"])
    }

    /// Names that may be those of files, such as objects and response files.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let parts = self.words.iter().flat_map(|word| word.split('='));
        parts.map(|part| part.strip_prefix('@').unwrap_or(part)).filter(|part| !part.is_empty())
    }

    /// Whether the linker reads a file because of the flags: the file itself, or a library in a folder of theirs.
    pub(super) fn names(&self, path: &Path, directory: &Path, more: &[PathBuf]) -> bool {
        let is_within = |folder: &Path| path.parent() == Some(folder);
        self.files.iter().any(|(file, _)| file == path)
            || self.library_folders().any(|folder| is_within(&directory.join(folder)))
            || more.iter().any(|folder| is_within(folder))
    }

    /// Absent files that the linker would take for its libraries if they existed. `more` are folders that it searches
    /// beside those of the flags.
    pub(super) fn absent_libraries(&self, directory: &Path, more: &[PathBuf]) -> Vec<PathBuf> {
        let folders: Vec<PathBuf> =
            self.library_folders().map(|folder| directory.join(folder)).chain(more.iter().cloned()).collect();
        let names = self.libraries().flat_map(|name| match name.strip_prefix(':') {
            Some(file) => vec![file.to_owned()],
            None => vec![format!("lib{name}.so"), format!("lib{name}.a")],
        });
        let paths = names.flat_map(|name| folders.iter().map(move |folder| folder.join(&name)).collect::<Vec<_>>());
        paths.filter(|path| !path.exists()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(folder: &Path, flags: &[&str]) -> Inputs {
        Inputs::of(flags.iter().copied(), folder, &Files::default())
    }

    #[test]
    fn inputs_that_flags_name_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        for name in ["a.o", "spec", "map", "p.so", "prof", "list"] {
            write(name, "");
        }
        write("one", "-O2 @two\n-DX=1");
        write("two", "-Llibs -l g b.o");
        write("b.o", "");
        let named = |flags: &[&str]| -> Vec<String> {
            let inputs = of(folder.path(), flags);
            assert!(!inputs.untracked, "{flags:?}");
            let name = |(path, _): &(PathBuf, String)| path.strip_prefix(folder.path()).unwrap().display().to_string();
            inputs.files.iter().map(name).collect()
        };
        assert_eq!(named(&["-O3", "-DA=1", "a.o", "-specs=spec"]), ["a.o", "spec"]);
        assert_eq!(named(&["-Wl,--version-script=map,-x", "-fplugin=p.so"]), ["map", "p.so"]);
        assert_eq!(named(&["-Xlinker", "@list", "-Wl,@list", "-fprofile-use=prof"]), ["list", "list", "prof"]);
        assert_eq!(named(&["@one"]), ["one", "two", "b.o"]);
        assert_eq!(named(&["-optf", "one"]), ["one", "two", "b.o"]);
        let inputs = of(folder.path(), &["@one"]);
        assert!(inputs.has_libraries() && !of(folder.path(), &["-O3", "--library-like"]).has_libraries());
        let absent = inputs.absent_libraries(folder.path(), &["/more".into()]);
        let libs = folder.path().join("libs");
        assert_eq!(absent, [libs.join("libg.so"), "/more/libg.so".into(), libs.join("libg.a"), "/more/libg.a".into()]);
        for flags in [
            &["-Wl,--library-path=libs", "-Wl,--library=g"][..],
            &["-Xlinker", "-L", "-Xlinker", "libs", "-Wl,-l", "-Wl,g"],
            &["--library-directory=libs", "-Wl,--library,g"],
            &["-Wl,--library-path", "-Wl,libs", "-Wl,-lg"],
        ] {
            let absent = of(folder.path(), flags).absent_libraries(folder.path(), &[]);
            assert_eq!(absent, [libs.join("libg.so"), libs.join("libg.a")], "{flags:?}");
        }
        let forced = of(folder.path(), &["-include", "a.h", "-includeb.h", "--include=c.h", "-Iincluded"]);
        assert_eq!(forced.forced_headers().collect::<Vec<_>>(), ["a.h", "b.h", "c.h"]);
    }

    #[test]
    fn untracked_inputs_are_detected() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("quoted"), "-DX='a b'").unwrap();
        fs::write(folder.path().join("round"), "@round").unwrap();
        for flags in [
            &["@quoted"][..],
            &["@round"],
            &["-Btools"],
            &["-fprofile-use"],
            &["-fprofile-use=nowhere"],
            &["-MMD"],
            &["-Wp,-MMD,k.d"],
        ] {
            assert!(of(folder.path(), flags).untracked, "{flags:?}");
        }
    }
}

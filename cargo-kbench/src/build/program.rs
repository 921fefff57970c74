//! Fingerprints of compilers' programs for keys. Two programs may have one version line, and a script may change
//! without its version.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kbench_runtime::fingerprint;
use serde::Serialize;

use super::{inputs, nvcc, text};

/// Interpreters of scripts that are examined.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

/// Largest size in bytes of an examined script.
const LONGEST: u64 = 64 << 10;

#[derive(Debug, Serialize)]
enum Part {
    /// A script, by its hash.
    Script(String),
    /// Any other program, by size and age.
    Binary { bytes: u64, modified: Option<u128> },
}

#[derive(Debug, Default, Serialize)]
struct Parts {
    /// The program and the files that scripts among them name.
    files: BTreeMap<Vec<u8>, Part>,
    /// Variables that scripts among them name.
    variables: BTreeMap<String, Option<Vec<u8>>>,
}

/// A fingerprint of a program: its size and age; for a plain shell script, its text, the programs and files that it
/// names, and the variables that it reads. `None` for any other script.
pub(super) fn identity(program: &Path) -> Option<String> {
    let mut parts = Parts::default();
    parts.add(program)?;
    Some(fingerprint::of("compiler", &parts))
}

impl Parts {
    fn add(&mut self, path: &Path) -> Option<()> {
        let path = fs::canonicalize(path).ok()?;
        if self.files.contains_key(&text(&path)) {
            return Some(());
        }
        let metadata = fs::metadata(&path).ok()?;
        let Some(script) = script(&path, metadata.len()) else {
            let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_nanos());
            let modified = metadata.modified().ok().and_then(since);
            self.files.insert(text(&path), Part::Binary { bytes: metadata.len(), modified });
            return Some(());
        };
        self.files.insert(text(&path), Part::Script(fingerprint::of_bytes(script.as_bytes())));
        let first = script.lines().next().unwrap_or_default();
        let interpreter = first.split_whitespace().last().and_then(|word| Path::new(word).file_name()?.to_str());
        if !interpreter.is_some_and(|name| SHELLS.contains(&name)) || !is_plain(&script) {
            return None;
        }
        for (at, _) in script.match_indices('$') {
            let name: String = script[at + 1..]
                .trim_start_matches('{')
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                let value = env::var_os(&name).map(text);
                self.variables.insert(name, value);
            }
        }
        let lines = || script.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = || lines().flat_map(str::split_whitespace);
        if words().any(|word| word.replace("\"$@\"", "").contains('@') || searches(word)) {
            return None;
        }
        for word in words().flat_map(|word| word.split(['"', '\'', '=', ','])) {
            if word.contains('/') && word.contains('$') {
                return None;
            }
            let named = if word.contains('/') { Some(PathBuf::from(word)) } else { nvcc::which(Path::new(word)) };
            if let Some(named) = named.filter(|named| !word.is_empty() && named.is_file()) {
                self.add(&named)?;
            }
        }
        Some(())
    }
}

/// Whether a script only sets variables and then runs one program with its own arguments. The command of any other
/// script may depend on any file.
fn is_plain(script: &str) -> bool {
    let lines = script.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut lines: Vec<&str> = lines.collect();
    let Some(last) = lines.pop() else { return false };
    let is_simple = |line: &str| !line.contains(['`', ';', '&', '|', '<', '>', '(', ')', '\\', '*', '?', '[']);
    let sets = |line: &str| {
        let assignment = line.strip_prefix("export ").unwrap_or(line);
        let name = assignment.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) && is_one_word(assignment)
    };
    let runs = last.strip_prefix("exec ").unwrap_or(last);
    is_simple(last) && runs.ends_with("\"$@\"") && lines.into_iter().all(|line| is_simple(line) && sets(line))
}

/// Whether a flag makes a compiler or a linker search for files, or find programs elsewhere.
fn searches(word: &str) -> bool {
    let word = word.trim_start_matches(['"', '\'']);
    inputs::UNTRACKED.iter().chain(&["-l", "-L", "--library", "-Wl,"]).any(|flag| word.starts_with(flag))
}

/// Whether a shell reads a text as one word.
fn is_one_word(text: &str) -> bool {
    let mut quote = None;
    !text.chars().any(|c| {
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        quote.is_none() && c.is_whitespace()
    })
}

/// The text of a script; `None` for any other program.
fn script(path: &Path, bytes: u64) -> Option<String> {
    if bytes > LONGEST {
        return None;
    }
    let text = fs::read(path).ok()?;
    text.starts_with(b"#!").then(|| String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_identity_of_a_script_covers_the_program_that_it_starts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let inner = write("inner", "\x7fELF one");
        let outer = write("outer", &format!("#!/bin/sh\nexec {} -O1 \"$@\"\n", inner.display()));
        let first = identity(&outer).unwrap();
        assert_eq!(identity(&outer).unwrap(), first);
        write("inner", "\x7fELF another");
        let second = identity(&outer).unwrap();
        assert_ne!(second, first, "what it runs");
        write("outer", &format!("#!/bin/sh\nexec {} -O2 \"$@\"\n", inner.display()));
        assert_ne!(identity(&outer).unwrap(), second, "what it says");
        for text in [
            "#!/usr/bin/env python3\nimport os\n",
            "#!/bin/sh\nexec \"$HOME/cc\" \"$@\"\n",
            "#!/bin/bash\nexec $(dirname \"$0\")/cc \"$@\"\n",
            "#!/bin/sh\nread F < factor\nexec cc -DF=$F \"$@\"\n",
            "#!/bin/sh\n. ./settings\nexec cc \"$@\"\n",
            "#!/bin/sh\nif test -e three; then set -- -DF=3 \"$@\"; fi\nexec cc \"$@\"\n",
            "#!/bin/sh\nF=1 read G\nexec cc \"$@\"\n",
            "#!/bin/sh\nexec cc @flags* \"$@\"\n",
            "#!/bin/sh\nexec cc @/flags \"$@\"\n",
            "#!/bin/sh\nF='@flags'\nexec cc $F \"$@\"\n",
            "#!/bin/sh\nexec cc -Lone -lf \"$@\"\n",
            "#!/bin/sh\nexec cc -Btools \"$@\"\n",
        ] {
            assert_eq!(identity(&write("computed", text)), None, "{text}");
        }
        let plain = "#!/bin/sh\n# faster\nexport A='b c'\nB=$HOME\nexec sh -O2 \"$@\"\n";
        assert!(identity(&write("plain", plain)).is_some());
        assert!(identity(Path::new("/bin/sh")).is_some());
        assert_eq!(identity(&folder.path().join("none")), None);
    }
}

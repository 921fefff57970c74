//! Compilations from another machine: outcomes of units, by a key without paths of the compiling machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kbench_runtime::fingerprint;
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::{Artifact, CompileError, Unit};
use crate::config::Backend;

/// Outcome of a compilation: machine code, or the compiler's refusal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarriedOutcome {
    /// Machine code.
    Code {
        /// The compiler's version line.
        compiler: String,
        /// The record that the compile cache keeps beside the code.
        record: Record,
    },
    /// The compiler refused the unit.
    Refused(CompileError),
}

impl CarriedOutcome {
    /// The carried outcome of a compilation. An error that is not about the unit is returned.
    pub fn of(compiled: Result<&Artifact, CompileError>) -> Result<Self, CompileError> {
        match compiled {
            Ok(artifact) => Ok(Self::Code { compiler: artifact.compiler.clone(), record: Record::of(artifact) }),
            Err(error) if error.is_variants_own() => Ok(Self::Refused(error)),
            Err(error) => Err(error),
        }
    }

    /// The hash of the machine code.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Code { record, .. } => Some(&record.hash),
            Self::Refused(_) => None,
        }
    }
}

/// The extension of the machine code of a backend.
pub fn extension(backend: Backend) -> &'static str {
    match backend {
        Backend::C => "so",
        Backend::Cuda => "cubin",
        Backend::Fake => "json",
    }
}

/// The key of a unit, the same on every machine. Paths are relative to the innermost of these folders.
pub fn key(unit: &Unit, folders: &[&Path]) -> String {
    let place = |path: &Path| {
        let within = |(at, folder): (usize, &&Path)| Some((at, path.strip_prefix(folder).ok()?.to_owned()));
        let (at, path) = folders.iter().enumerate().find_map(within).unwrap_or((folders.len(), path.to_owned()));
        PathBuf::from(at.to_string()).join(path)
    };
    let mut unit = Unit { source: place(&unit.source), directory: place(&unit.directory), ..unit.clone() };
    for (at, folder) in folders.iter().enumerate().filter_map(|(at, folder)| Some((at, folder.to_str()?))) {
        unit.flags.iter_mut().for_each(|flag| *flag = flag.replace(folder, &format!("${at}")));
    }
    fingerprint::of("carried 1", &unit)
}

/// Outcomes that replace compilers.
#[derive(Debug)]
pub struct Carried {
    /// Folder of the machine code; file names are hash and extension.
    pub code: PathBuf,
    /// Folder of the package, and folder of generated files.
    pub folders: [PathBuf; 2],
    /// Outcomes by key.
    pub units: BTreeMap<String, CarriedOutcome>,
}

impl Carried {
    /// The outcome of a unit. Its code was checked when it was unpacked, and is checked again here.
    pub(super) fn find(&self, unit: &Unit) -> Result<Artifact, CompileError> {
        let key = key(unit, &[&self.folders[0], &self.folders[1]]);
        let (compiler, record) = match self.units.get(&key) {
            Some(CarriedOutcome::Code { compiler, record }) => (compiler.clone(), record.clone()),
            Some(CarriedOutcome::Refused(error)) => return Err(error.again()),
            None => {
                let entries: Vec<&str> = unit.entries.iter().map(|entry| entry.name.as_str()).collect();
                let macros: Vec<String> = unit.macros.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let arch = unit.arch.as_ref().map_or_else(String::new, |arch| format!(" for {arch}"));
                return Err(CompileError::NotCarried {
                    what: format!("`{}`{arch} with {}", entries.join(", "), macros.join(" ")),
                });
            }
        };
        let code = self.code.join(format!("{}.{}", record.hash, extension(unit.backend)));
        let bytes = fs::read(&code).map_err(CompileError::io("read", &code))?;
        if fingerprint::of_bytes(&bytes) != record.hash {
            return Err(CompileError::Changed { path: code });
        }
        // The record must name the functions of the unit, which are looked up later.
        let same = record.functions.len() == unit.entries.len()
            && record.functions.iter().zip(&unit.entries).all(|(function, entry)| function.entry == entry.name);
        if !same {
            return Err(CompileError::Changed { path: code });
        }
        Ok(record.artifact(code, compiler, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Entry;

    fn unit(root: &str) -> Unit {
        let root = Path::new(root);
        Unit {
            backend: Backend::C,
            source: root.join("p/src/k.c"),
            entries: vec![Entry::new("k", Vec::new())],
            flags: vec![format!("-I{}/p/include", root.display())],
            macros: vec![("A".into(), "1".into())],
            constants: Vec::new(),
            headers: Vec::new(),
            arch: None,
            directory: root.join("p"),
        }
    }

    #[test]
    fn a_key_covers_the_whole_unit_except_folders_of_the_machine() {
        let of = |root: &str, change: fn(&mut Unit)| {
            let mut unit = unit(root);
            change(&mut unit);
            key(&unit, &[Path::new(root), Path::new("/made")])
        };
        assert_eq!(of("/home/me", |_| {}), of("/tmp/bundle", |_| {}));
        let changes: [fn(&mut Unit); 5] = [
            |unit| unit.macros[0].1 = "2".into(),
            |unit| unit.flags.push("-O1".into()),
            |unit| unit.entries[0].name = "l".into(),
            |unit| unit.source = "/elsewhere/p/src/k.c".into(),
            |unit| unit.source = "/made/p/src/k.c".into(),
        ];
        let mut keys: Vec<String> = changes.into_iter().map(|change| of("/home/me", change)).collect();
        keys.push(of("/home/me", |_| {}));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), changes.len() + 1);
    }

    #[test]
    fn a_unit_outside_of_the_bundle_ends_the_run_with_its_name() {
        let folders = ["/home/me".into(), "/made".into()];
        let carried = Carried { code: "/nowhere".into(), folders, units: BTreeMap::new() };
        let error = carried.find(&unit("/home/me")).unwrap_err();
        assert!(!error.is_variants_own());
        assert_eq!(
            error.to_string(),
            "the bundle does not carry `k` with A=1; write a bundle of this table, with `--arch` for this GPU"
        );
    }
}

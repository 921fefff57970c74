//! Conditions of measurements beside their jobs, and the form of jobs in fingerprints.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{Case, CheckJob, DeviceKind, Reference, Sequence, TimeJob};
use kbench_runtime::reference::TRANSIENT;
use serde::Serialize;

use super::{Build, Context};
use crate::file;

/// Counted up where the way of checking or measuring changes, so that no older record stands for a new one.
const METHOD: u32 = 9;

/// Prefixes of the variables by which libraries choose how many threads they start, and where, and how they allocate memory.
const OF_LIBRARIES: [&str; 9] = ["OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "MALLOC_"];

/// Variables that decide which libraries a kernel runs with, and how.
const LOADER: [&str; 5] = ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_BIND_NOW", "GLIBC_TUNABLES"];

impl Context<'_> {
    /// Conditions of measurements beside their jobs.
    pub fn circumstances(&self) -> impl Serialize {
        let kernel = self.kernel;
        let surroundings = (self.device.kind == DeviceKind::Host).then(surroundings);
        let program = (METHOD, env!("CARGO_PKG_VERSION"));
        // What starts several workers says where they run: a run goes on elsewhere, on devices of the same model.
        (program, Some(self.device.clone()), kernel.runner.clone(), kernel.timing.timeout_seconds, surroundings)
    }

    /// The hashes of the files of the package that a command names, `None` for words that name none.
    pub fn named_files(&self, command: &[String]) -> Vec<Option<String>> {
        let directory: &Path = &self.builder.package.directory;
        let file = |word: &String| file::read_bytes(&directory.join(word)).ok();
        command.iter().map(|word| Some(fingerprint::of_bytes(&file(word)?))).collect()
    }
}

/// Conditions of threads and libraries of a C kernel: environment variables, and the cores that this process may use.
fn surroundings() -> (BTreeMap<Vec<u8>, Vec<u8>>, Option<String>) {
    let bytes = |text: &OsStr| text.as_encoded_bytes().to_vec();
    let variables = std::env::vars_os().filter(|(name, _)| counts(name));
    let variables = variables.map(|(name, value)| (bytes(&name), bytes(&value))).collect();
    // `0-3,8`; only Linux says.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    (variables, cores.map(|cores| cores.trim().to_owned()))
}

/// Whether a variable changes how a C kernel runs.
fn counts(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    LOADER.contains(&&*name) || OF_LIBRARIES.iter().any(|prefix| name.starts_with(prefix))
}

/// Jobs with the identity of machine code in place of its bytes, since names and notes in the bytes may differ where the code is identical.
pub struct Named<'a> {
    /// The builds of the variant.
    pub built: &'a [Build],
}

impl Named<'_> {
    fn sequence(&self, sequence: &mut Sequence) {
        let build = self.built.iter().find(|build| build.artifact.hash == sequence.blob);
        if let Some(build) = build {
            sequence.blob.clone_from(&build.artifact.identity);
        }
    }

    /// A case.
    pub fn case(&self, case: &Case) -> Case {
        let mut case = case.clone();
        self.sequence(&mut case.sequence);
        case
    }

    /// A check.
    pub fn check(&self, job: &CheckJob) -> CheckJob {
        let mut job = CheckJob { case: self.case(&job.case), ..job.clone() };
        unnamed(&mut job.reference);
        if let Some(naive) = &mut job.options.naive {
            self.sequence(naive);
        }
        job
    }

    /// A timing.
    pub fn time(&self, job: &TimeJob) -> TimeJob {
        let mut job = job.clone();
        for timed in &mut job.cases {
            self.sequence(&mut timed.case.sequence);
            unnamed(&mut timed.reference);
        }
        job
    }
}

/// A reference has an identity of its own beside its bytes. One that is for this process alone names nothing: what its results are
/// stands for it.
fn unnamed(reference: &mut Reference) {
    reference.sequence.blob.clear();
    if reference.identity.starts_with(TRANSIENT) {
        reference.identity.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_variables_count() {
        for name in
            ["OMP_NUM_THREADS", "GOMP_CPU_AFFINITY", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX", "LD_PRELOAD", "LD_AUDIT"]
        {
            assert!(counts(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "HOME", "LD_PRELOADED", "XOMP_NUM_THREADS"] {
            assert!(!counts(OsStr::new(name)), "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_cores_are_known() {
        assert!(surroundings().1.is_some_and(|cores| cores.starts_with(|first: char| first.is_ascii_digit())));
    }
}

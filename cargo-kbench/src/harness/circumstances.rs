//! Conditions of measurements beside their jobs, and the form of jobs in fingerprints.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::OnceLock;

use kbench_runtime::driver::reference::TRANSIENT;
use kbench_runtime::fingerprint;
use kbench_runtime::protocol::{Case, CheckJob, DeviceInfo, DeviceKind, Reference, Sequence, TimeJob};

use super::context::named_files;
use super::{Build, Context};

/// Version of the method of checks and measurements; increase it when the method changes, so that older records are not
/// reused.
const METHOD: u32 = 9;

/// Prefixes of the variables by which libraries choose how many threads they start, and where, and how they allocate memory.
const OF_LIBRARIES: [&str; 9] = ["OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "MALLOC_"];

/// Variables that select libraries and their settings.
const LOADER: [&str; 5] = ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_BIND_NOW", "GLIBC_TUNABLES"];

impl Context<'_> {
    /// Fingerprint of the conditions of measurements beside their jobs, and of the limits of the check. Taken once: a search names it for
    /// each variant.
    pub fn circumstances(&self) -> &str {
        self.circumstances.get_or_init(|| {
            let kernel = self.kernel;
            let surroundings = (self.device.kind == DeviceKind::Host).then(surroundings);
            let program = (METHOD, env!("CARGO_PKG_VERSION"));
            // Commands that start several workers are left out: a run may continue elsewhere, on devices of the same model.
            let runner = (&kernel.runner, &self.runner_files);
            let (timeout, limits) = (kernel.timing.timeout_seconds, &kernel.gates.correctness);
            fingerprint::of("circumstances", &(program, &self.device, runner, timeout, surroundings, limits))
        })
    }

    /// Continues on another device.
    pub fn use_device(&mut self, device: DeviceInfo) {
        self.device = device;
        self.circumstances = OnceLock::new();
    }

    /// Hashes of the package's files that a command names; `None` for words that are not files.
    pub fn named_files(&self, command: &[String]) -> Vec<Option<String>> {
        named_files(&self.builder.package.directory, command)
    }
}

/// Conditions of a C kernel: environment variables for threads and libraries, and the allowed cores of this process.
fn surroundings() -> (BTreeMap<Vec<u8>, Vec<u8>>, Option<String>) {
    let bytes = |text: &OsStr| text.as_encoded_bytes().to_vec();
    let variables = std::env::vars_os().filter(|(name, _)| counts(name));
    let variables = variables.map(|(name, value)| (bytes(&name), bytes(&value))).collect();
    // A list such as `0-3,8`; only Linux has it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    (variables, cores.map(|cores| cores.trim().to_owned()))
}

/// Whether a variable changes how a C kernel runs.
fn counts(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    LOADER.contains(&&*name) || OF_LIBRARIES.iter().any(|prefix| name.starts_with(prefix))
}

/// Jobs with the identity of machine code in place of its bytes, since names and notes in the bytes may differ for
/// identical code.
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

    /// A case with identities.
    pub fn case(&self, case: &Case) -> Case {
        let mut case = case.clone();
        self.sequence(&mut case.sequence);
        case
    }

    /// A check with identities.
    pub fn check(&self, job: &CheckJob) -> CheckJob {
        let mut job = job.clone();
        self.sequence(&mut job.case.sequence);
        unnamed(&mut job.reference);
        if let Some(naive) = &mut job.options.naive {
            self.sequence(naive);
        }
        job
    }

    /// A timing with identities.
    pub fn time(&self, job: &TimeJob) -> TimeJob {
        let mut job = job.clone();
        for timed in &mut job.cases {
            self.sequence(&mut timed.case.sequence);
            unnamed(&mut timed.reference);
        }
        job
    }
}

/// Removes the bytes of a reference, which has an identity of its own. A reference by a program without an identity is
/// replaced by its results.
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
    fn environment_variables_of_a_measurement_are_listed() {
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

//! Bundles: one file with a table, the machine code of all its variants, and its input files, for machines without
//! compilers, cargo or the sources.
//!
//! A bundle is a gzipped tar archive. Its first entry, `bundle.json`, is the [`Manifest`], which lists every other entry with its
//! size and hash, in the order of the archive:
//!
//! ```text
//! bundle.json
//! code/<hash>.cubin       machine code (.so, .json)
//! package/…               manifests, input files, and an empty file in place of each source
//! ```
//!
//! The reader trusts no part of a bundle: see `read.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::{Deserialize, Serialize};

use crate::build::carried::CarriedOutcome;

mod read;
mod units;
mod write;

pub use read::Bundle;
pub use units::{Unsuitable, suitable};
pub use write::{Contents, write};

pub use units::is_within;

/// Name of the format in the manifest.
const FORMAT: &str = "kbench-bundle";
/// Version of the format.
const VERSION: u32 = 1;
/// Name of the manifest in the archive.
const MANIFEST: &str = "bundle.json";
/// Folder of machine code in the archive.
const CODE: &str = "code";
/// Folder of the packages in the archive.
const PACKAGE: &str = "package";
/// Largest size of all files together, in bytes.
const MOST_BYTES: u64 = 4 << 30;
/// Largest size of the manifest in bytes.
const MOST_MANIFEST: u64 = 256 << 20;
/// Largest number of files.
const MOST_FILES: usize = 1 << 20;

/// Contents of a bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// [`FORMAT`].
    format: String,
    /// [`VERSION`].
    version: u32,
    /// Version of cargo-kbench that wrote the bundle.
    kbench: String,
    /// The kernels that can be searched.
    kernels: Vec<KernelRecord>,
    /// Host that C code was compiled for; none if the bundle has no C code.
    host: Option<HostRecord>,
    /// The other entries of the archive, in this order.
    files: Vec<FileRecord>,
    /// The outcome of every compilation, by the unit's key.
    units: BTreeMap<String, CarriedOutcome>,
}

/// A kernel of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelRecord {
    /// Cargo package.
    pub package: String,
    /// Kernel.
    pub kernel: String,
    /// Architectures of the compiled code; none for C.
    pub archs: Vec<String>,
    /// Number of variants that were compiled or that the compiler refused.
    pub variants: u64,
}

/// A processor and system that C code runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostRecord {
    /// Architecture of the processor, such as `x86_64`.
    arch: String,
    /// Operating system, such as `linux`.
    os: String,
    /// Features of the processor that the code may use; empty if the code runs on any processor of the architecture.
    features: BTreeSet<String>,
}

/// An entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    /// Path in the archive.
    path: String,
    /// Size in bytes.
    bytes: u64,
    /// blake3 hash of the contents.
    hash: String,
}

impl HostRecord {
    /// This machine.
    fn here() -> Self {
        let (arch, os) = (std::env::consts::ARCH.to_owned(), std::env::consts::OS.to_owned());
        Self { arch, os, features: features(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) }
    }

    /// Reason why code for this host does not run on another; none if it runs.
    fn refused_on(&self, other: &Self) -> Option<String> {
        if (&self.arch, &self.os) != (&other.arch, &other.os) {
            let [of, here] = [self, other].map(|host| format!("{} on {}", host.arch, host.os));
            return Some(format!("its C code is for {of}, this is {here}"));
        }
        let missing: Vec<&str> = self.features.difference(&other.features).map(String::as_str).collect();
        (!missing.is_empty()).then(|| {
            format!(
                "its C code was compiled for a processor with {}, which this one does not have; write the bundle without \
                 `-march=native`, or on such a machine",
                missing.join(", ")
            )
        })
    }
}

/// The processor features that select instructions of a compiler, from the first processor of `cpuinfo`.
fn features(cpuinfo: &str) -> BTreeSet<String> {
    /// Prefixes of the names of instruction sets; other flags describe the system.
    const BEGIN: [&str; 21] = [
        "sse", "ssse", "pni", "avx", "fma", "bmi", "aes", "sha", "gfni", "vaes", "vpclmul", "pclmul", "f16c", "movbe",
        "popcnt", "adx", "rdseed", "rdrand", "amx", "movdir", "abm",
    ];
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let mut features = BTreeSet::new();
    for (name, words) in first.lines().filter_map(|line| line.split_once(':')) {
        let is_of = |word: &&str| match name.trim() {
            "flags" => BEGIN.iter().any(|begin| word.starts_with(begin)),
            "Features" => true,
            _ => false,
        };
        features.extend(words.split_whitespace().filter(is_of).map(str::to_owned));
    }
    features
}

#[cfg(test)]
mod tests;

//! What Cargo.toml says, validated. Nothing in these types fails later: names resolve, expressions parse and have
//! been evaluated at every shape with the default variant.
//!
//! Inheritance: every key of a kernel's table may stand one level up as a default, in the package's table or in
//! `[workspace.metadata.kbench]`. Tables merge key by key, everything else is replaced by the innermost; paths are
//! relative to the manifest that says them.

use std::path::PathBuf;

use kbench_runtime::fingerprint;

use crate::expr::Expr;
use crate::space::Space;

mod baseline;
mod check;
pub mod counters;
mod decode;
mod describe;
mod device;
pub mod diagnostics;
mod gates;
mod implementation;
mod keys;
mod language;
mod load;
mod manifest;
mod objective;
mod place;
mod schema;
mod settings;
mod spec;
mod tensor;
mod tree;

pub use baseline::{Baseline, BaselineKind, ProgramBaseline, Reference, ReferenceKind};
pub use counters::Counters;
pub(crate) use decode::arch_flag;
pub use describe::{KeyDescription, describe_keys, find_keys};
pub use device::{DEVICE_NAMES, DeviceModel};
pub use diagnostics::{ConfigErrors, Diagnostic, Place};
pub use gates::{
    CorrectnessLimits, Gates, Level, PerformanceBound, PerformanceLimit, ResourceLimits, Sanitize, SanitizeTool,
};
pub use implementation::{Arg, Backend, CPP_EXTENSIONS, Flag, Implementation, Launch, Layout, Word, is_cpp};
pub use language::Language;
pub use load::{LoadError, LoadOptions, load};
pub use objective::{Application, Better, Objective, ResourceName};
pub use schema::schema;
pub use settings::{Search, StrategyName, Timing, Workers};
pub use tensor::{Derivation, Init, Tensor};

/// The name that the default variant has among the baselines; no baseline of the table may have it.
pub const DEFAULT: &str = "default";

/// The packages that were asked for, and where files go.
#[derive(Debug, Clone)]
pub struct Project {
    /// The packages with a kbench table, in cargo's order.
    pub packages: Vec<Package>,
    /// Cargo's target directory.
    pub target_directory: PathBuf,
    /// The folder of the workspace's manifest.
    pub root: PathBuf,
    /// The manifests of the workspace's packages.
    manifests: Vec<PathBuf>,
}

impl Project {
    /// Where this tool keeps its own files, `target/kbench`: caches, whose entries name what they were made from.
    pub fn work_directory(&self) -> PathBuf {
        self.target_directory.join("kbench")
    }

    /// Where it keeps what belongs to this project alone: journals and proposed sources. In a target directory outside the
    /// workspace, other projects may have kernels of the same names.
    pub fn own_directory(&self) -> PathBuf {
        let work_directory = self.work_directory();
        if place::is_within(&self.target_directory, &self.root, &self.manifests) {
            return work_directory;
        }
        let hash = fingerprint::of_bytes(self.root.as_os_str().as_encoded_bytes());
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        work_directory.join("projects").join(format!("{name}-{}", &hash[..16]))
    }

    /// `elite.json`: next to the target directory where that is in the workspace, else in the workspace's root.
    pub fn elite_path(&self) -> PathBuf {
        let beside = self.target_directory.parent();
        let own = beside.filter(|beside| place::is_within(beside, &self.root, &self.manifests));
        own.unwrap_or(&self.root).join("elite.json")
    }
}

/// A package with kernels.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The folder of its manifest; sources are relative to it.
    pub directory: PathBuf,
    /// Its kernels, in the table's order.
    pub kernels: Vec<Kernel>,
}

/// One kernel of the table.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its name: the key in `kernels`.
    pub name: String,
    /// The name of its package.
    pub package: String,
    /// Its function: source, flags and launches.
    pub implementation: Implementation,
    /// Architectures to compile for (`sm_90a`); empty: the GPU that is there.
    pub arch: Vec<String>,
    /// Shapes, in the table's order; at least one.
    pub shapes: Vec<Shape>,
    /// Tensors in the table's order, except that one stands after the one it is quantised from.
    pub tensors: Vec<Tensor>,
    /// Toggles, layers, constraints and the default variant.
    pub space: Space,
    /// The reference that its outputs are compared with.
    pub reference: Reference,
    /// The baselines that it is timed against.
    pub baselines: Vec<Baseline>,
    /// Limits.
    pub gates: Gates,
    /// Settings of timing.
    pub timing: Timing,
    /// Settings of the search.
    pub search: Search,
    /// Objectives of the search: one, or two for a front.
    pub objectives: Vec<Objective>,
    /// Operations and bytes of one launch, for rates.
    pub work: Work,
    /// Command prefix that starts the worker elsewhere; empty: here.
    pub runner: Vec<String>,
    /// The workers of a search; empty: by default.
    pub workers: Vec<Workers>,
    /// The device that its expressions were read for, where one of them names `SM_COUNT` or `MAX_SHARED`: on another device its space may be another.
    pub device: Option<DeviceModel>,
    /// Fingerprint of the table, inherited keys included, without the keys that change no measurement (`search`, `runner`, `workers`).
    pub table: String,
}

impl Kernel {
    /// Command prefix of what runs where the variants run, or where the first of several workers runs.
    pub fn runner(&self) -> &[String] {
        self.workers.first().map_or(&self.runner, |workers| &workers.runner)
    }

    /// The names of some shapes.
    pub fn shape_names(&self, shapes: &[usize]) -> Vec<&str> {
        shapes.iter().map(|&shape| self.shapes[shape].name.as_str()).collect()
    }

    /// The shapes that an objective is a mean over: indices, ascending.
    pub fn mean_shapes(&self) -> impl Iterator<Item = usize> + '_ {
        self.objectives.iter().flat_map(|objective| {
            match objective {
                Objective::Mean(weights) => weights.as_slice(),
                _ => &[],
            }
            .iter()
            .map(|&(shape, _)| shape)
        })
    }
}

/// Named sizes of one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its name: the key in `shapes`.
    pub name: String,
    /// Sizes by name.
    pub dims: Vec<(String, i64)>,
    /// Made from `gates.correctness.sizes`: never timed, nor named.
    pub check_only: bool,
}

/// Operations and bytes of one launch.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Floating-point operations.
    pub flops: Option<Expr>,
    /// Bytes moved at least.
    pub bytes: Option<Expr>,
}

#[cfg(test)]
mod tests;

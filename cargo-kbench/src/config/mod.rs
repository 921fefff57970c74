//! The validated contents of Cargo.toml. Uses of these types cannot fail later: names have a meaning, expressions parse
//! and were evaluated at every shape with the default variant.
//!
//! Inheritance: every key of a kernel's table may stand one level up as a default, in the package's table or in
//! `[workspace.metadata.kbench]`. Tables merge key by key; all other values are replaced by the innermost. Paths are
//! relative to the manifest that contains them.

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
mod error;
#[cfg(test)]
pub(crate) mod fixture;
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
pub use error::LoadError;
pub use gates::{
    CorrectnessLimits, Gates, Level, PerformanceBound, PerformanceLimit, ResourceLimits, Sanitize, SanitizeTool,
};
pub use implementation::{
    Arg, ArgValue, Backend, CPP_EXTENSIONS, Flag, Implementation, Launch, Layout, TensorMap, Word, is_cpp,
};
pub use language::Language;
pub use load::{LoadOptions, load};
pub use objective::{Application, Better, Objective, ResourceName};
pub use schema::schema;
pub use settings::{Search, StrategyName, Timing, Workers};
pub use tensor::{Derivation, Init, Tensor};

/// Name of the default variant among the baselines; no baseline of the table may have it.
pub const DEFAULT: &str = "default";

/// The selected packages, and the folders of files.
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
    /// The folder of this tool's files, `target/kbench`: caches, whose entries name their inputs.
    pub fn work_directory(&self) -> PathBuf {
        self.target_directory.join("kbench")
    }

    /// The folder of files of this project alone: journals and proposed sources. Projects with kernels of the same
    /// names may share a target directory outside of the workspace.
    pub fn own_directory(&self) -> PathBuf {
        let work_directory = self.work_directory();
        if place::is_within(&self.target_directory, &self.root, &self.manifests) {
            return work_directory;
        }
        let hash = fingerprint::of_bytes(self.root.as_os_str().as_encoded_bytes());
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        work_directory.join("projects").join(format!("{name}-{}", &hash[..16]))
    }

    /// `elite.json`: next to the target directory if that is in the workspace, else in the workspace's root.
    pub fn elite_path(&self) -> PathBuf {
        let beside = self.target_directory.parent();
        let own = beside.filter(|beside| place::is_within(beside, &self.root, &self.manifests));
        own.unwrap_or(&self.root).join("elite.json")
    }
}

/// A package with kernels.
#[derive(Debug, Clone)]
pub struct Package {
    /// Name of the package.
    pub name: String,
    /// Edition of Rust, such as `2024`.
    pub edition: String,
    /// Folder of the manifest; sources are relative to it.
    pub directory: PathBuf,
    /// Kernels, in the table's order.
    pub kernels: Vec<Kernel>,
}

/// One kernel of the table.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Name: the key in `kernels`.
    pub name: String,
    /// Name of the package.
    pub package: String,
    /// The function: source, flags and launches.
    pub implementation: Implementation,
    /// Architectures to compile for, such as `sm_90a`; empty for the present GPU.
    pub arch: Vec<String>,
    /// Shapes, in the table's order; at least one.
    pub shapes: Vec<Shape>,
    /// Tensors in the table's order, except that a tensor follows the tensor that it is quantised from.
    pub tensors: Vec<Tensor>,
    /// Toggles, layers, constraints and the default variant.
    pub space: Space,
    /// The reference of the outputs.
    pub reference: Reference,
    /// The baselines.
    pub baselines: Vec<Baseline>,
    /// Limits of the gates.
    pub gates: Gates,
    /// Settings of timing.
    pub timing: Timing,
    /// Settings of the search.
    pub search: Search,
    /// Objectives of the search: one, or two for a front.
    pub objectives: Vec<Objective>,
    /// Operations and bytes of one run, for rates.
    pub work: Work,
    /// Command prefix of the worker; empty for this machine.
    pub runner: Vec<String>,
    /// Workers of a search; empty for the default.
    pub workers: Vec<Workers>,
    /// The device for the expressions, if one of them names `SM_COUNT` or `MAX_SHARED`: on another device the space may
    /// differ.
    pub device: Option<DeviceModel>,
    /// Fingerprint of the table, inherited keys included, without the keys that change no measurement (`search`, `runner`, `workers`).
    pub table: String,
}

impl Kernel {
    /// Command prefix of programs that run on the machine of the variants, or of the first of several workers.
    pub fn runner(&self) -> &[String] {
        self.workers.first().map_or(&self.runner, |workers| &workers.runner)
    }

    /// The names of some shapes.
    pub fn shape_names(&self, shapes: &[usize]) -> Vec<&str> {
        shapes.iter().map(|&shape| self.shapes[shape].name.as_str()).collect()
    }

    /// The shapes of a mean objective: indices, ascending.
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
    /// Name: the key in `shapes`.
    pub name: String,
    /// Sizes by name.
    pub dims: Vec<(String, i64)>,
    /// Whether the shape was made from `gates.correctness.sizes`: it is only checked, and has no name of its own.
    pub check_only: bool,
}

/// Operations and bytes of one launch.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Floating-point operations.
    pub flops: Option<Expr>,
    /// Smallest number of moved bytes.
    pub bytes: Option<Expr>,
}

#[cfg(test)]
mod tests;

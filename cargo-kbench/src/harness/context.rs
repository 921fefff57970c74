//! Immutable context of all evaluations of a kernel.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use kbench_runtime::fingerprint;
use kbench_runtime::protocol::DeviceInfo;

use super::{Builder, RunError, Setup};
use crate::build::resolve::Point;
use crate::config::{BaselineKind, Init, Kernel, Objective, Package};
use crate::file;
use crate::space::Variant;

/// A kernel, its device and its files.
#[derive(Clone)]
pub struct Context<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Builds its variants for the device.
    pub builder: Builder<'a>,
    /// The device.
    pub device: DeviceInfo,
    /// Hashes of the tensor files of the kernel and of those that are its baselines.
    pub files: HashMap<PathBuf, String>,
    /// Objectives that evaluations measure.
    pub objectives: Vec<Objective>,
    /// Hashes of the files that the runner's words name.
    pub runner_files: Vec<Option<String>>,
    /// See [`circumstances`](Self::circumstances).
    pub(super) circumstances: OnceLock<String>,
    /// elite.json, whose winners of other kernels an objective's program launches; empty where no objective is pursued.
    pub elite_path: PathBuf,
    /// The compiler and the folder.
    pub setup: Setup<'a>,
}

impl Context<'_> {
    /// The point at which the kernel's expressions are evaluated.
    pub fn point<'b>(&'b self, shape: usize, variant: &'b Variant) -> Point<'b> {
        self.builder.point(self.kernel, shape, variant)
    }

    /// The name of a shape.
    pub fn shape_name(&self, shape: usize) -> &str {
        &self.kernel.shapes[shape].name
    }

    /// The deadline of one launch or sample.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.kernel.timing.timeout_seconds)
    }

    /// The other shapes at which evaluations are timed.
    pub fn mean_shapes(&self) -> impl Iterator<Item = usize> + '_ {
        let wanted = self.objectives.iter().any(|objective| matches!(objective, Objective::Mean(_)));
        self.kernel.mean_shapes().filter(move |_| wanted)
    }

    /// The folder for the inputs of programs.
    pub fn scratch(&self) -> PathBuf {
        self.setup.work_directory.join("programs")
    }
}

/// Hashes of the files in a folder that a command names; `None` for words that are not files.
pub(super) fn named_files(directory: &Path, command: &[String]) -> Vec<Option<String>> {
    let hash = |word: &String| Some(fingerprint::of_bytes(&file::read_bytes(&directory.join(word)).ok()?));
    command.iter().map(hash).collect()
}

/// The hashes of the tensor files of a kernel and of those that are its baselines.
pub(super) fn files(package: &Package, kernel: &Kernel) -> Result<HashMap<PathBuf, String>, RunError> {
    let baselines = kernel.baselines.iter().filter_map(|baseline| match &baseline.kind {
        BaselineKind::Kernel(name) => package.kernels.iter().find(|kernel| kernel.name == *name),
        _ => None,
    });
    let mut files = HashMap::new();
    for tensor in std::iter::once(kernel).chain(baselines).flat_map(|kernel| &kernel.tensors) {
        let paths: &[PathBuf] = match &tensor.init {
            Init::File { path, .. } => std::slice::from_ref(path),
            Init::Command { made, .. } => made,
            _ => &[],
        };
        for path in paths {
            if !files.contains_key(path) {
                let bytes = std::fs::read(path).map_err(|error| file::in_context(path, &error))?;
                files.insert(path.clone(), fingerprint::of_bytes(&bytes));
            }
        }
    }
    Ok(files)
}

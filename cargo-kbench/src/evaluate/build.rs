//! The gates that need no device: compiles a candidate and judges its resources. Runs on many threads.

use std::time::Duration;

use crate::build::Function;
use crate::gates::at_level;
use crate::gates::resources::{self, Launched};
use crate::harness::{Builder, Built, Candidate, RunError, caught, no_geometry};
use crate::record::evaluation::Rejection;
use crate::space::Variant;

/// A variant that did not compile, or that failed gate 1.
#[derive(Debug, Clone)]
pub struct BuildFailure {
    /// The rejection.
    pub rejection: Rejection,
    /// Binaries of a variant that compiled.
    pub built: Option<Built>,
}

/// Outcome of the compilation of a variant and of gate 1.
#[derive(Debug, Clone)]
pub struct BuildOutcome {
    /// The binaries, or the failure.
    pub result: Result<Built, BuildFailure>,
    /// Findings of gates at level `warn`.
    pub warnings: Vec<String>,
}

impl BuildOutcome {
    /// Time of the compilations, also of cached ones; `None` if one failed.
    pub fn compile_time(&self) -> Option<Duration> {
        let built = self.result.as_ref().map_or_else(|failure| failure.built.as_ref(), Some)?;
        Some(built.builds.iter().map(|build| build.artifact.took).sum())
    }

    /// Whether everything was compiled before.
    pub fn is_cached(&self) -> bool {
        let built = self.result.as_ref().map_or_else(|failure| failure.built.as_ref(), Some);
        built.is_some_and(|Built { builds }| !builds.is_empty() && builds.iter().all(|build| build.artifact.cached))
    }
}

/// Compiles a candidate for every shape that it will run on, and judges its resources.
pub fn try_build(builder: &Builder<'_>, candidate: &Candidate) -> Result<BuildOutcome, RunError> {
    let mut warnings = Vec::new();
    let result = match caught(builder.compile(candidate))? {
        Err(rejection) => Err(BuildFailure { rejection, built: None }),
        Ok(built) => match judge(builder, &candidate.variant, &built, &mut warnings) {
            Some(rejection) => Err(BuildFailure { rejection, built: Some(built) }),
            None => Ok(built),
        },
    };
    Ok(BuildOutcome { result, warnings })
}

/// Judges the resources at every shape.
fn judge(builder: &Builder<'_>, variant: &Variant, built: &Built, warnings: &mut Vec<String>) -> Option<Rejection> {
    let kernel = builder.kernel;
    let limits = &kernel.gates.resources;
    builder.shapes().iter().find_map(|&shape| {
        let name = &kernel.shapes[shape].name;
        let launches = match builder.point(kernel, shape, variant).geometries(&kernel.implementation) {
            Ok(launches) => launches,
            Err(error) => return Some(no_geometry(&error, name)),
        };
        let several = kernel.implementation.launches.len() > 1;
        launches.iter().find_map(|(entry, geometry)| {
            let Function { resources, bounds, .. } = built.artifact(shape).function(entry);
            let launched = Launched { name: several.then_some(entry.as_str()), resources, bounds, geometry };
            let arch = builder.arch.as_deref();
            if let Some(refused) = resources::refused(&launched, arch, name) {
                return Some(refused);
            }
            at_level(limits.level, resources::judge(limits, &launched, arch, name), warnings)
        })
    })
}

//! Compiles variants: needs no device, and runs on many threads.

use std::sync::atomic::AtomicBool;

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Geometry;

use super::{Candidate, Halt, RunError};
use crate::build::resolve::{Point, ResolveError};
use crate::build::{Artifact, CompileError, Compiler, Unit};
use crate::config::{Arg, Backend, Diagnostic, Implementation, Kernel, Package};
use crate::record::evaluation::{BuildRecord, GateName, Reason, Rejection};
use crate::space::Variant;

/// One build of a variant and the shapes it serves.
#[derive(Debug, Clone)]
pub struct Build {
    /// Indices into [`Kernel::shapes`].
    pub shapes: Vec<usize>,
    /// The compiled artifact.
    pub artifact: Artifact,
}

/// A variant with a binary for every shape.
#[derive(Debug, Clone)]
pub struct Built {
    /// The builds; one unless a define depends on the shape.
    pub builds: Vec<Build>,
}

impl Built {
    /// The build for a shape, which must be one of the built shapes.
    pub fn artifact(&self, shape: usize) -> &Artifact {
        &self.builds.iter().find(|build| build.shapes.contains(&shape)).expect("built for every shape asked").artifact
    }

    /// Whether the same code runs at every shape, even if the sources differ.
    pub fn same_code(&self, other: &Self) -> bool {
        let shapes = || self.builds.iter().flat_map(|build| &build.shapes);
        shapes().all(|&shape| self.artifact(shape).identity == other.artifact(shape).identity)
    }

    /// The records for journal and elite.
    pub fn records(&self, kernel: &Kernel) -> Vec<BuildRecord> {
        let record = |build: &Build| BuildRecord {
            shapes: build.shapes.iter().map(|&shape| kernel.shapes[shape].name.clone()).collect(),
            command: build.artifact.command.clone(),
            link: build.artifact.link.clone(),
            compiler: build.artifact.compiler.clone(),
            source_hash: build.artifact.source_hash.clone(),
            binary_hash: build.artifact.hash.clone(),
            resources: build.artifact.resources(),
            functions: build.artifact.functions.clone(),
            messages: build.artifact.messages.clone(),
        };
        self.builds.iter().map(record).collect()
    }
}

/// Compiles variants of one kernel.
#[derive(Clone)]
pub struct Builder<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The kernel's package.
    pub package: &'a Package,
    /// The compiler.
    pub compiler: &'a Compiler,
    /// Target architecture; `None` for C.
    pub arch: Option<String>,
    /// Number of multiprocessors of the device; 1 if no device is open.
    pub(super) multiprocessors: u32,
    shapes: Vec<usize>,
    /// Flag that makes compilations unwanted.
    ended: Option<&'a AtomicBool>,
}

impl<'a> Builder<'a> {
    /// A builder for the first architecture of the table, before a device is known.
    pub fn new(package: &'a Package, kernel: &'a Kernel, compiler: &'a Compiler) -> Self {
        let mut shapes = kernel.gates.correctness.shapes.clone();
        shapes.push(kernel.search.shape);
        shapes.extend(kernel.gates.performance.iter().map(|limit| limit.shape));
        shapes.extend(&kernel.gates.counters.shapes);
        shapes.extend(kernel.mean_shapes());
        shapes.sort_unstable();
        shapes.dedup();
        Self { kernel, package, compiler, arch: kernel.arch.first().cloned(), multiprocessors: 1, shapes, ended: None }
    }

    /// The same builder; its compilations are ended once `ended` is true.
    pub fn until<'b>(&self, ended: &'b AtomicBool) -> Builder<'b>
    where
        'a: 'b,
    {
        Builder { ended: Some(ended), ..self.clone() }
    }

    /// The same builder for a changed kernel of the same package, on the same device.
    pub fn of<'b>(&self, kernel: &'b Kernel) -> Builder<'b>
    where
        'a: 'b,
    {
        Builder { kernel, ..self.clone() }
    }

    /// The same builder for a device with `multiprocessors` multiprocessors.
    #[must_use]
    pub fn on_multiprocessors(&self, multiprocessors: u32) -> Self {
        Self { multiprocessors, ..self.clone() }
    }

    /// Whether the target is known without a device.
    pub fn is_settled(&self) -> bool {
        self.kernel.implementation.backend != Backend::Cuda || self.kernel.arch.len() == 1
    }

    /// Shapes that are checked or measured: indices into [`Kernel::shapes`], ascending.
    pub fn shapes(&self) -> &[usize] {
        &self.shapes
    }

    /// The point at which the expressions of a kernel are evaluated.
    pub fn point<'b>(&self, kernel: &'b Kernel, shape: usize, variant: &'b Variant) -> Point<'b> {
        Point { kernel, shape: &kernel.shapes[shape], variant, multiprocessors: self.multiprocessors }
    }

    /// The compiler's input for a function at a shape. A reference gets every floating-point tensor as `precision`.
    pub fn unit(
        &self,
        kernel: &Kernel,
        implementation: &Implementation,
        shape: usize,
        variant: &Variant,
        precision: Option<DType>,
    ) -> Result<Unit, ResolveError> {
        let point = self.point(kernel, shape, variant);
        // A reference has its own defines; the toggles of the variant are no macros there.
        let (mut macros, constants) = match precision {
            Some(_) => (Vec::new(), Vec::new()),
            None => (point.toggles(implementation), point.constants(implementation)),
        };
        macros.extend(point.defines(implementation)?);
        Ok(Unit {
            backend: implementation.backend,
            source: point.source(implementation)?,
            entries: point.entries(implementation, precision)?,
            flags: point.flags(implementation)?,
            macros,
            constants,
            headers: implementation.headers.clone(),
            arch: self.arch.clone().filter(|_| implementation.backend == Backend::Cuda),
            directory: self.package.directory.clone(),
        })
    }

    /// Compiles any function over the tensors of a kernel, once for all shapes with the same code.
    pub fn build_implementation(
        &self,
        kernel: &Kernel,
        implementation: &Implementation,
        variant: &Variant,
        shapes: &[usize],
    ) -> Result<Built, Halt> {
        let mut builds: Vec<(Unit, Build)> = Vec::new();
        for &shape in shapes {
            let name = &kernel.shapes[shape].name;
            let unit = self.unit(kernel, implementation, shape, variant, None);
            let unit = unit.map_err(|error| no_geometry(&error, name))?;
            if let Some((_, build)) = builds.iter_mut().find(|(other, _)| *other == unit) {
                build.shapes.push(shape);
                continue;
            }
            let compiled = match self.ended {
                Some(ended) => self.compiler.compile_until(&unit, ended),
                None => self.compiler.compile(&unit),
            };
            match compiled {
                Ok(artifact) => builds.push((unit, Build { shapes: vec![shape], artifact })),
                Err(error) if error.is_variants_own() => {
                    return Err(compile_rejection(&error, implementation, name).into());
                }
                Err(error) => return Err(RunError::Tool(error).into()),
            }
        }
        Ok(Built { builds: builds.into_iter().map(|(_, build)| build).collect() })
    }

    /// Function and geometry of each launch of a variant at a shape; none if an expression has no value.
    pub fn geometries(&self, variant: &Variant, shape: usize) -> Option<Vec<(String, Geometry)>> {
        self.point(self.kernel, shape, variant).geometries(&self.kernel.implementation).ok()
    }

    /// Compiles a candidate for every shape that it will run on. Callable from many threads.
    pub fn compile(&self, candidate: &Candidate) -> Result<Built, Halt> {
        let implementation = candidate.implementation(self.kernel);
        self.build_implementation(self.kernel, implementation, &candidate.variant, &self.shapes)
    }
}

/// The rejection of a variant that has no launch at a shape.
pub fn no_geometry(error: &ResolveError, shape: &str) -> Rejection {
    Rejection::new(GateName::Compile, Reason::Geometry, error.to_string(), Some(shape))
}

/// The rejection for a compiler's error.
pub fn compile_rejection(error: &CompileError, implementation: &Implementation, shape: &str) -> Rejection {
    let (gate, reason, output) = match error {
        CompileError::ParameterType { entry, index, declared, .. } => {
            // The text of the table differs from the name if it contains toggles.
            let named = implementation.launches.iter().find(|launch| launch.entry.text() == *entry);
            let launch = named.or(implementation.launches.first().filter(|_| implementation.launches.len() == 1));
            let places = launch.into_iter().flat_map(|launch| launch.args.iter().zip(&launch.places));
            let place = places.filter(|(arg, _)| !matches!(arg, Arg::Symbol { .. })).nth(*index);
            let drawn = place.map(|(_, place)| Diagnostic::error(error.to_string()).at(place, declared).render(false));
            (GateName::Compile, Reason::CompileFailed, drawn)
        }
        CompileError::TooMuchShared { .. } => (GateName::Resources, Reason::SharedMemory, None),
        CompileError::Failed { stderr, .. } => (GateName::Compile, Reason::CompileFailed, Some(stderr.clone())),
        _ => (GateName::Compile, Reason::CompileFailed, None),
    };
    let message = match error {
        // The compiler's output is shown below the line, not in it.
        CompileError::Failed { stderr, .. } => {
            first_error(stderr).unwrap_or("the compiler failed without a message").to_owned()
        }
        error => error.to_string(),
    };
    Rejection { output, ..Rejection::new(gate, reason, message, Some(shape)) }
}

/// The line of a compiler's output that says most. A linker prints the cause before the message that there was an error.
fn first_error(stderr: &str) -> Option<&str> {
    let says = |line: &&str| !line.contains("collect2: ") && !line.contains(": skipping incompatible");
    let finds = |what: &str| stderr.lines().filter(says).find(|line| line.contains(what));
    let first = finds("undefined reference").or_else(|| finds("error")).or_else(|| finds(""));
    Some(first.or(stderr.lines().next())?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_stands_in_the_line_of_a_rejection() {
        let end = "\ncollect2: error: ld returned 1 exit status\n";
        for (said, first) in [
            ("k.c: In function `k`:\nk.c:1:1: error: no\n", "k.c:1:1: error: no"),
            ("ld: k.o: in function `k`:\nk.c: undefined reference to `f`", "k.c: undefined reference to `f`"),
            ("ld: skipping incompatible libc.so\nld: cannot find -lc", "ld: cannot find -lc"),
            ("ld: crt.o: relocation R can not be used\nld: bad value", "ld: crt.o: relocation R can not be used"),
            ("", "collect2: error: ld returned 1 exit status"),
        ] {
            assert_eq!(first_error(format!("{said}{end}").trim_start()), Some(first));
        }
        assert_eq!(first_error(""), None);
    }
}

//! The contents of an export in any language: variants with their code, and their records in elite.json. Above 400
//! lines: one pass from records to a plan.

use kbench_runtime::fingerprint;
use rayon::prelude::*;
use std::path::Path;

use super::{ExportError, File, Only, names};
use crate::build::{Artifact, Compiler, Unit};
use crate::config::{Backend, Implementation, Kernel, Launch, Package, Shape};
use crate::expr::graph::{Graph, Node, Scalar};
use crate::expr::{Expr, Template, Value};
use crate::file;
use crate::harness::{Builder, Candidate, Proposed, RunError};
use crate::record::elite::{DeviceRecord, EliteEntry, EliteFile};
use crate::space::Variant;

/// One kernel.
pub(super) struct Plan {
    /// The kernel; after the table's shapes follow those of elite.json only.
    pub(super) kernel: Kernel,
    /// The variants, those of the default first.
    pub(super) variants: Vec<Planned>,
    /// The winners in the order of elite.json.
    pub(super) tuned: Vec<Tuned>,
    /// Inputs of the plan: a name, and a hash or a version.
    pub(super) made_from: Vec<(String, String)>,
    /// Warnings.
    pub(super) warnings: Vec<String>,
}

/// A variant, as code that is compiled once.
pub(super) struct Planned {
    pub(super) candidate: Candidate,
    pub(super) is_default: bool,
    /// Input of a compilation, without the architecture.
    pub(super) unit: Unit,
    /// The function of each launch of the table; none if this variant leaves the launch out.
    pub(super) stages: Vec<Option<String>>,
    /// Values of size-dependent expressions in the compilation: the code is for sizes that give these values.
    pub(super) conditions: Vec<Condition>,
    /// The code, one for each architecture.
    pub(super) code: Vec<Code>,
    /// PTX of the lowest architecture that has PTX.
    pub(super) ptx: Option<Ptx>,
    /// Times, as text.
    pub(super) figures: Vec<String>,
}

/// An expression in the compilation that depends on sizes.
pub(super) struct Condition {
    /// Name of the define, if the expression is the value of one.
    pub(super) name: Option<String>,
    pub(super) expr: Expr,
    /// Required value.
    pub(super) value: Value,
}

impl Condition {
    /// The required value as an integer.
    pub(super) fn integer(&self, kernel: &Kernel) -> Result<i64, ExportError> {
        self.value.as_integer().ok_or_else(|| {
            let what = format!("the define `{}` depends on sizes and is a string", self.expr);
            ExportError::unsupported(kernel, &what)
        })
    }
}

/// The code of a variant for one architecture.
pub(super) struct Code {
    /// `None` for C.
    pub(super) arch: Option<String>,
    pub(super) artifact: Artifact,
    /// File with the code in the folder; empty for C.
    pub(super) file: String,
}

/// The PTX of a variant.
pub(super) struct Ptx {
    pub(super) arch: String,
    pub(super) text: Vec<u8>,
    pub(super) file: String,
}

/// A winner with its device and sizes.
pub(super) struct Tuned {
    pub(super) device: String,
    /// Compute capability such as `9.0`; none for a CPU.
    pub(super) compute_capability: Option<String>,
    /// Sizes, in the order of the kernel's dimensions.
    pub(super) dims: Vec<i64>,
    /// Index of the variant.
    pub(super) variant: usize,
}

impl Code {
    /// The functions that a variant launches, in order.
    pub(super) fn symbols(&self, planned: &Planned) -> Vec<String> {
        planned.stages.iter().flatten().map(|entry| self.artifact.function(entry).symbol.clone()).collect()
    }
}

impl Planned {
    /// The launch at an index of the table's order, with the name of its function; none if this variant leaves it out.
    pub(super) fn stage<'a>(&'a self, kernel: &'a Kernel, at: usize) -> Option<(&'a str, &'a Launch)> {
        let entry = self.stages.get(at)?.as_deref()?;
        Some((entry, &self.candidate.implementation(kernel).launches[at]))
    }

    /// The user's flags.
    pub(super) fn flags(&self) -> &[String] {
        // For a proposed source in another folder, `-I` and the folder of the kernel's own source precede the flags.
        let own = if self.candidate.source.is_some() { 2 } else { 0 };
        self.unit.flags.get(own..).unwrap_or_default()
    }

    /// Warning about a flag that compiles for the processor of the build machine.
    pub(super) fn native_note(&self) -> Option<String> {
        let flag = self.unit.flags.iter().find(|flag| flag.ends_with("=native"))?;
        (self.unit.backend == Backend::C)
            .then(|| format!("{flag} compiles for the processor that builds the program: another one than was measured has other code"))
    }

    /// Label: toggles, name of a proposed source, and defines for particular sizes.
    pub(super) fn label(&self, kernel: &Kernel) -> String {
        let named = |Condition { name, expr, value }: &Condition| match name {
            Some(name) => format!("{name}={value}"),
            None => format!("{expr}={value}"),
        };
        let conditions = self.conditions.iter().map(named);
        let is_named = !kernel.space.toggles.is_empty() || self.candidate.source.is_some();
        let candidate = is_named.then(|| self.candidate.label(kernel));
        let words: Vec<String> = candidate.into_iter().chain(conditions).collect();
        if words.is_empty() { "no toggles".to_owned() } else { words.join(" ") }
    }
}

/// Plans a kernel and compiles its variants for `archs`; empty for C.
pub(super) fn plan(
    package: &Package,
    kernel: &Kernel,
    compiler: &Compiler,
    elite: &EliteFile,
    root: &Path,
    archs: &[String],
) -> Result<Plan, ExportError> {
    let entries: Vec<&EliteEntry> = elite
        .kernels
        .iter()
        .filter(|entry| entry.package == kernel.package && entry.kernel == kernel.name && !entry.elite.is_empty())
        .collect();
    let mut plan = Plan::of_default(package, kernel, compiler)?;
    for entry in &entries {
        plan.winner(package, compiler, entry, root)?;
    }
    if entries.is_empty() {
        let message = format!("elite.json has no winner of `{}`: its default is exported", kernel.name);
        plan.warnings.push(message + "; `cargo kbench autotune` finds one");
    }
    if let Some(note) = plan.variants.iter().find_map(Planned::native_note) {
        plan.warnings.push(format!("`{}`: {note}", kernel.name));
    }
    plan.compile(compiler, archs)?;
    plan.name_files(compiler)?;
    plan.figures(&entries);
    plan.trace(&entries);
    Ok(plan)
}

/// Plans a kernel with one variant that wins at every shape on a device, beside the default, and compiles both.
pub(super) fn plan_only(
    package: &Package,
    kernel: &Kernel,
    compiler: &Compiler,
    only: Only<'_>,
    archs: &[String],
) -> Result<Plan, ExportError> {
    let mut plan = Plan::of_default(package, kernel, compiler)?;
    for (shape, Shape { dims, check_only, .. }) in kernel.shapes.iter().enumerate() {
        if !check_only {
            let variant = plan.variant(package, compiler, only.candidate.clone(), shape)?;
            plan.tuned.push(Tuned {
                device: only.device.name.clone(),
                compute_capability: DeviceRecord::from(only.device).compute_capability,
                dims: dims.iter().map(|(_, size)| *size).collect(),
                variant,
            });
        }
    }
    plan.compile(compiler, archs)?;
    plan.name_files(compiler)?;
    plan.trace(&[]);
    Ok(plan)
}

impl Plan {
    /// The default of a kernel at each shape that is timed.
    fn of_default(package: &Package, kernel: &Kernel, compiler: &Compiler) -> Result<Self, ExportError> {
        let mut plan = Self {
            kernel: kernel.clone(),
            variants: Vec::new(),
            tuned: Vec::new(),
            made_from: Vec::new(),
            warnings: Vec::new(),
        };
        for shape in 0..kernel.shapes.len() {
            if !kernel.shapes[shape].check_only {
                let default = plan.variant(package, compiler, (&kernel.space.default).into(), shape)?;
                plan.variants[default].is_default = true;
            }
        }
        Ok(plan)
    }

    /// Number of launches in the table; a variant makes all or some of them.
    pub(super) fn stages(&self) -> usize {
        self.kernel.implementation.launches.len()
    }

    /// The names of the sizes.
    pub(super) fn dims(&self) -> Vec<&str> {
        self.kernel.shapes[0].dims.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Index of the variant for the sizes of a shape; a new variant is added.
    fn variant(
        &mut self,
        package: &Package,
        compiler: &Compiler,
        candidate: Candidate,
        shape: usize,
    ) -> Result<usize, ExportError> {
        let kernel = &self.kernel;
        let unsupported = |error: &dyn std::fmt::Display| ExportError::unsupported(kernel, error);
        let implementation = candidate.implementation(kernel);
        let builder = Builder::new(package, kernel, compiler);
        let unit = builder.unit(kernel, implementation, shape, &candidate.variant, None);
        let unit = Unit { arch: None, ..unit.map_err(|error| unsupported(&error))? };
        let point = builder.point(kernel, shape, &candidate.variant);
        let made = point.launches(implementation).map_err(|error| unsupported(&error))?;
        let stage = |launch: &Launch| {
            let is_made = made.iter().any(|made| std::ptr::eq(*made, launch));
            is_made.then(|| point.entry(launch).map_err(|error| unsupported(&error))).transpose()
        };
        let stages = implementation.launches.iter().map(stage).collect::<Result<Vec<_>, _>>()?;
        let same = |known: &Planned| known.candidate == candidate && known.unit == unit && known.stages == stages;
        if let Some(at) = self.variants.iter().position(same) {
            return Ok(at);
        }
        let mut conditions: Vec<Condition> = Vec::new();
        for (name, expr) in compiled_exprs(implementation) {
            if self.depends_on_sizes(&candidate.variant, expr) && conditions.iter().all(|known| known.expr != *expr) {
                let value = expr.eval(&|name| self.value(&candidate.variant, shape, name));
                let value = value.map_err(|error| unsupported(&error))?;
                conditions.push(Condition { name, expr: expr.clone(), value });
            }
        }
        let (code, ptx, figures) = Default::default();
        self.variants.push(Planned { candidate, is_default: false, unit, stages, conditions, code, ptx, figures });
        Ok(self.variants.len() - 1)
    }

    /// Whether the value of an expression depends on sizes where the toggles have these values.
    fn depends_on_sizes(&self, variant: &Variant, expr: &Expr) -> bool {
        let mut graph = Graph::default();
        let names = expr.names();
        let toggle = |name: &&str| self.kernel.space.value(variant, name).map(|value| graph.scalar(value));
        let toggles: Vec<Option<Scalar>> = names.iter().map(toggle).collect();
        let top = graph.expression(expr, |name| {
            let at = names.iter().position(|known| *known == name).expect("one of its names");
            toggles[at].map_or(Node::Variable(at as u32), Node::Constant)
        });
        !matches!(graph.nodes[top as usize], Node::Constant(_))
    }

    /// The value of a name at a shape and variant.
    fn value(&self, variant: &Variant, shape: usize, name: &str) -> Option<Value> {
        let dim = self.kernel.shapes[shape].dims.iter().find(|(dim, _)| dim == name);
        dim.map(|(_, size)| Value::Int(*size)).or_else(|| self.kernel.space.value(variant, name).cloned())
    }

    /// Adds the winner of an entry.
    fn winner(
        &mut self,
        package: &Package,
        compiler: &Compiler,
        entry: &EliteEntry,
        root: &Path,
    ) -> Result<(), ExportError> {
        let stale = |why: String| ExportError::Elite { kernel: self.kernel.name.clone(), why };
        let winner = &entry.elite[0];
        let variant = self.kernel.space.variant(&winner.toggles).map_err(|error| stale(error.to_string()))?;
        let names = self.dims();
        let dims: Option<Vec<(String, i64)>> =
            names.iter().map(|name| Some(((*name).to_owned(), *entry.dims.get(*name)?))).collect();
        let dims = dims.filter(|dims| dims.len() == entry.dims.len());
        let dims = dims.ok_or_else(|| stale(format!("shape `{}` has other dimensions there", entry.shape)))?;
        let sizes = dims.iter().map(|(_, size)| *size).collect();
        let source = winner.source.as_ref().map(|record| Proposed::find(&self.kernel, record, root)).transpose();
        let source = source.map_err(|error| ExportError::Run(error.into()))?;
        let shape = self.kernel.shapes.iter().position(|shape| shape.dims == dims).unwrap_or_else(|| {
            self.kernel.shapes.push(Shape { name: entry.shape.clone(), dims, check_only: false });
            self.kernel.shapes.len() - 1
        });
        let candidate = Candidate { variant, source: source.map(Into::into) };
        let variant = self.variant(package, compiler, candidate, shape)?;
        self.tuned.push(Tuned {
            device: entry.device.name.clone(),
            compute_capability: entry.device.compute_capability.clone(),
            dims: sizes,
            variant,
        });
        Ok(())
    }

    fn compile(&mut self, compiler: &Compiler, archs: &[String]) -> Result<(), ExportError> {
        let kernel = &self.kernel;
        let archs: Vec<Option<String>> = if kernel.implementation.backend == Backend::Cuda {
            archs.iter().cloned().map(Some).collect()
        } else {
            vec![None]
        };
        let build = |planned: &Planned, arch: &Option<String>| {
            let unit = Unit { arch: arch.clone(), ..planned.unit.clone() };
            let artifact = compiler.compile(&unit).map_err(|error| {
                if error.is_variants_own() {
                    let of = arch.as_ref().map_or_else(String::new, |arch| format!(" for {arch}"));
                    let label = planned.label(kernel);
                    return ExportError::unsupported(kernel, &format!("{label} does not compile{of}: {error}"));
                }
                ExportError::Run(RunError::Tool(error))
            })?;
            Ok(Code { arch: arch.clone(), artifact, file: String::new() })
        };
        let jobs: Vec<(usize, &Option<String>)> =
            (0..self.variants.len()).flat_map(|at| archs.iter().map(move |arch| (at, arch))).collect();
        let built: Result<Vec<Code>, ExportError> =
            jobs.par_iter().map(|(at, arch)| build(&self.variants[*at], arch)).collect();
        for ((at, _), code) in jobs.iter().zip(built?) {
            self.variants[*at].code.push(code);
        }
        Ok(())
    }

    /// Names the files of machine code, each code once, and compiles PTX of the lowest architecture that later ones can
    /// run.
    fn name_files(&mut self, compiler: &Compiler) -> Result<(), ExportError> {
        let kernel = names::word(&self.kernel.name);
        let mut known: Vec<(String, String)> = Vec::new();
        for (variant, planned) in self.variants.iter_mut().enumerate() {
            for code in &mut planned.code {
                let Some(arch) = &code.arch else { continue };
                let own = format!("{kernel}_v{variant}.{arch}.cubin");
                let of = known.iter().find(|(hash, _)| *hash == code.artifact.hash).map(|(_, file)| file.clone());
                code.file = of.unwrap_or_else(|| {
                    known.push((code.artifact.hash.clone(), own.clone()));
                    own
                });
            }
        }
        let archs = self.variants.iter().flat_map(|planned| &planned.code).filter_map(|code| code.arch.clone());
        let number = |arch: &String| arch.strip_prefix("sm_")?.parse::<u32>().ok();
        let lowest = archs.filter_map(|arch| Some((number(&arch)?, arch))).min();
        let Some((_, arch)) = lowest else {
            if self.kernel.implementation.backend == Backend::Cuda {
                let name = &self.kernel.name;
                let warning =
                    format!("`{name}` has no PTX for later architectures: code for an architecture with `a` has none");
                self.warnings.push(warning);
            }
            return Ok(());
        };
        for variant in 0..self.variants.len() {
            let unit = Unit { arch: Some(arch.clone()), ..self.variants[variant].unit.clone() };
            let text = compiler.ptx(&unit).map_err(|error| ExportError::Run(RunError::Tool(error)))?;
            let same = self.variants.iter().filter_map(|planned| planned.ptx.as_ref()).find(|ptx| ptx.text == text);
            let file = same.map_or_else(|| format!("{kernel}_v{variant}.{arch}.ptx"), |ptx| ptx.file.clone());
            self.variants[variant].ptx = Some(Ptx { arch: arch.clone(), text, file });
        }
        Ok(())
    }

    /// The files of machine code, each once.
    pub(super) fn code_files(&self) -> Result<Vec<File>, ExportError> {
        let mut files: Vec<File> = Vec::new();
        for planned in &self.variants {
            for code in planned.code.iter().filter(|code| !code.file.is_empty()) {
                if files.iter().all(|file| file.name.as_os_str() != code.file.as_str()) {
                    let path = &code.artifact.code;
                    let bytes = std::fs::read(path).map_err(|error| file::in_context(path, &error))?;
                    files.push(File { name: code.file.clone().into(), bytes });
                }
            }
            if let Some(ptx) = &planned.ptx
                && files.iter().all(|file| file.name.as_os_str() != ptx.file.as_str())
            {
                files.push(File { name: ptx.file.clone().into(), bytes: ptx.text.clone() });
            }
        }
        Ok(files)
    }

    /// Adds the times of the winners, unless they are of another source or compiler.
    fn figures(&mut self, entries: &[&EliteEntry]) {
        for (entry, tuned) in entries.iter().zip(&self.tuned) {
            let winner = &entry.elite[0];
            let planned = &mut self.variants[tuned.variant];
            let is_same = winner.builds.iter().any(|build| {
                planned.code.iter().any(|code| {
                    (&code.artifact.source_hash, &code.artifact.compiler) == (&build.source_hash, &build.compiler)
                })
            });
            let sizes = self.kernel.shapes[0].dims.iter().map(|(name, _)| (name, &entry.dims[name]));
            let at = match &*crate::text::dims(sizes) {
                "" => format!("on `{}`", entry.device.name),
                sizes => format!("at `{sizes}` on `{}`", entry.device.name),
            };
            if is_same {
                let summary = &winner.timing.summary;
                let interval = summary.interval().map_or_else(String::new, |ends| {
                    let [low, high] = ends.map(microseconds);
                    format!(" ({low} to {high})")
                });
                let p50 = microseconds(summary.p50);
                planned.figures.push(format!("p50 {p50} µs{interval} {at}, {} cache", entry.timing.cache));
            } else {
                planned
                    .figures
                    .push(format!("won {at}, built from another source or by another compiler than this one"));
                let kernel = &self.kernel.name;
                let warning = format!("the winner of `{kernel}` {at} was measured with another source or compiler");
                self.warnings.push(warning + "; tune it again");
            }
        }
    }

    /// Records the inputs of the plan.
    fn trace(&mut self, entries: &[&EliteEntry]) {
        let codes = || self.variants.iter().flat_map(|planned| &planned.code);
        let mut sources: Vec<&str> = codes().map(|code| code.artifact.source_hash.as_str()).collect();
        sources.dedup();
        let mut compilers: Vec<&str> = codes().map(|code| code.artifact.compiler.as_str()).collect();
        compilers.dedup();
        let toggles: Vec<_> = self.kernel.space.toggles.iter().map(|toggle| (&toggle.name, &toggle.values)).collect();
        self.made_from = vec![
            ("source".to_owned(), short(&fingerprint::of("export sources", &sources))),
            ("toggles".to_owned(), short(&fingerprint::of("export toggles", &toggles))),
            ("elite.json".to_owned(), short(&fingerprint::of("export elites", entries))),
            ("compiler".to_owned(), compilers.join("; ")),
        ];
    }
}

/// The expressions in the compilation, each with its define.
fn compiled_exprs(implementation: &Implementation) -> Vec<(Option<String>, &Expr)> {
    let defines = implementation.defines.iter().map(|(name, expr)| (Some(name.clone()), expr));
    let flags = &implementation.flags;
    let entries = implementation.launches.iter().map(|launch| &launch.entry);
    let templates = flags.iter().map(|flag| &flag.text).chain(&implementation.source_of).chain(entries);
    let exprs = templates.flat_map(Template::exprs).map(|(expr, _)| expr);
    let whens = flags.iter().filter_map(|flag| flag.when.as_ref());
    let whens = whens.chain(implementation.launches.iter().filter_map(|launch| launch.when.as_ref()));
    defines.chain(exprs.chain(whens).map(|expr| (None, expr))).collect()
}

/// Nanoseconds in microseconds, with four significant digits.
fn microseconds(nanoseconds: f64) -> String {
    let value = nanoseconds / 1e3;
    let decimals = (3 - value.abs().max(1e-3).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

/// The first digits of a hash.
pub(super) fn short(hash: &str) -> String {
    hash[..32].to_owned()
}

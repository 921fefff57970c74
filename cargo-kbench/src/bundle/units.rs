//! The compilations that a search of a kernel needs, and whether a bundle can carry the kernel.

use std::path::Path;

use kbench_runtime::protocol::{DeviceInfo, DeviceKind};

use crate::build::Unit;
use crate::build::resolve::ResolveError;
use crate::config::{Backend, BaselineKind, Implementation, Init, Kernel, Package, ReferenceKind};
use crate::file;
use crate::harness::Builder;
use crate::profile::ceilings::micro;
use crate::space::Variant;

/// Reason why a bundle cannot carry a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// The reference is a program.
    #[error(
        "its reference is a program (`{0}`), which a bundle does not carry; name a function in C or CUDA as `reference`"
    )]
    Reference(String),
    /// A program writes an input.
    #[error("a program writes its input `{0}`, which a bundle does not carry; name the file that it writes as `init`")]
    Input(String),
    /// The space has more variants than a bundle can hold.
    #[error("it has more than {0} variants, too many to compile each; leave values of toggles out")]
    Variants(usize),
    /// The kernel is for a GPU, and neither the table nor a flag names an architecture.
    #[error("its table has no `arch`; add `--arch sm_90a`")]
    Arch,
    /// A macro depends on the number of multiprocessors.
    #[error("its macros depend on the number of multiprocessors, which is known only on the GPU; use a toggle instead")]
    Multiprocessors,
    /// The set of variants depends on the GPU.
    #[error(
        "its table names SM_COUNT outside of `grid`, or MAX_SHARED, and a bundle may run on any GPU; write numbers"
    )]
    Device,
    /// A file lies outside of the workspace.
    #[error("`{0}` lies outside of the workspace; move it into the workspace")]
    Outside(String),
}

/// An error where a bundle cannot carry a kernel.
pub fn suitable(kernel: &Kernel, package: &Package, root: &Path) -> Result<(), Unsuitable> {
    if let ReferenceKind::Command(command) = &kernel.reference.kind {
        return Err(Unsuitable::Reference(command.join(" ")));
    }
    if let Some(tensor) = kernel.tensors.iter().find(|tensor| matches!(tensor.init, Init::Command { .. })) {
        return Err(Unsuitable::Input(tensor.name.clone()));
    }
    if kernel.device.is_some() {
        return Err(Unsuitable::Device);
    }
    let outside = files(package).into_iter().map(|(path, _)| path).find(|path| !is_within(path, root));
    outside.map_or(Ok(()), |path| Err(Unsuitable::Outside(path.display().to_string())))
}

/// Whether a file lies below a folder, with links followed.
pub fn is_within(path: &Path, root: &Path) -> bool {
    matches!((path.canonicalize(), root.canonicalize()), (Ok(path), Ok(root)) if path.starts_with(&root))
        && file::normalized(path).starts_with(file::normalized(root))
}

/// Files that the table of a package names, and whether their contents are inputs.
pub(super) fn files(package: &Package) -> Vec<(std::path::PathBuf, bool)> {
    let mut files = Vec::new();
    for kernel in &package.kernels {
        let reference = match &kernel.reference.kind {
            ReferenceKind::Function(function) => Some(&**function),
            ReferenceKind::Command(_) => None,
        };
        let baselines = kernel.baselines.iter().filter_map(|baseline| match &baseline.kind {
            BaselineKind::Implementation(function) => Some(&**function),
            _ => None,
        });
        let functions = std::iter::once(&kernel.implementation).chain(reference).chain(baselines);
        files.extend(functions.flat_map(|function| sources(kernel, function)).map(|path| (path, false)));
        files.extend(kernel.tensors.iter().filter_map(|tensor| match &tensor.init {
            Init::File { path, .. } => Some((path.clone(), true)),
            _ => None,
        }));
    }
    files.sort();
    files.dedup();
    files
}

/// All sources that the toggles may choose.
fn sources(kernel: &Kernel, function: &Implementation) -> Vec<std::path::PathBuf> {
    let Some(template) = &function.source_of else { return vec![function.source.clone()] };
    let names: Vec<&str> = template.exprs().flat_map(|(expr, _)| expr.names()).collect();
    let variants = kernel.space.with_all_values(&names);
    let point = |variant| crate::build::resolve::Point {
        kernel,
        shape: &kernel.shapes[kernel.search.shape],
        variant,
        multiprocessors: 1,
    };
    variants.iter().filter_map(|variant| point(variant).source(function).ok()).collect()
}

/// The units that a search of these variants may compile on a device, each once.
pub(super) fn units(builder: &Builder<'_>, variants: &[Variant]) -> Vec<Unit> {
    let (kernel, package) = (builder.kernel, builder.package);
    let mut units: Vec<Unit> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    // A unit that cannot be resolved rejects the variant on the device too.
    let mut add = |unit: Result<Unit, ResolveError>| {
        if let Ok(unit) = unit
            && seen.insert(kbench_runtime::fingerprint::of("unit", &unit))
        {
            units.push(unit);
        }
    };
    let reference = |kernel: &Kernel, shape, variant: &Variant| {
        let ReferenceKind::Function(function) = &kernel.reference.kind else { return None };
        Some(builder.unit(kernel, function, shape, variant, Some(kernel.reference.precision)))
    };
    for &shape in builder.shapes() {
        let default = &kernel.space.default;
        for variant in std::iter::once(default).chain(variants) {
            add(builder.unit(kernel, &kernel.implementation, shape, variant, None));
            reference(kernel, shape, variant).into_iter().for_each(&mut add);
        }
        for baseline in &kernel.baselines {
            match &baseline.kind {
                BaselineKind::Variant(variant) => {
                    add(builder.unit(kernel, &kernel.implementation, shape, variant, None));
                    reference(kernel, shape, variant).into_iter().for_each(&mut add);
                }
                BaselineKind::Implementation(function) => {
                    for variant in std::iter::once(default).chain(variants) {
                        let variant = kernel.beside(function, variant);
                        add(builder.unit(kernel, function, shape, &variant, None));
                    }
                }
                BaselineKind::Kernel(name) => {
                    let other = package.kernels.iter().find(|other| other.name == *name).expect("validated");
                    let name = &kernel.shapes[shape].name;
                    if let Some(shape) = other.shapes.iter().position(|shape| shape.name == *name) {
                        let variant = &other.space.default;
                        add(builder.unit(other, &other.implementation, shape, variant, None));
                        reference(other, shape, variant).into_iter().for_each(&mut add);
                    }
                }
                BaselineKind::Command(_) => {}
            }
        }
    }
    units
}

/// The units that measure the ceilings of a device of an architecture, whose source lies in `folder`.
pub(super) fn ceilings(backend: Backend, arch: Option<&str>, folder: &Path) -> Vec<Unit> {
    let number: u32 = arch.and_then(|arch| arch.trim_end_matches('a').strip_prefix("sm_")?.parse().ok()).unwrap_or(0);
    let (kind, arch) = match backend {
        Backend::Cuda => {
            // The device's own architecture, as in a search on the device.
            let own = format!("sm_{number}");
            (DeviceKind::Cuda, Some(if number >= 90 { format!("{own}a") } else { own }))
        }
        Backend::C => (DeviceKind::Host, None),
        Backend::Fake => return Vec::new(),
    };
    let device = DeviceInfo {
        kind,
        index: 0,
        name: String::new(),
        driver: String::new(),
        compute_capability: (kind == DeviceKind::Cuda).then_some((number / 10, number % 10)),
        multiprocessors: 1,
        memory_bytes: 1 << 34,
        cache_bytes: 1 << 25,
        max_threads_per_block: 1024,
        max_shared_per_block: 48 << 10,
        clock_khz: 0,
    };
    let source = folder.join(micro::source(backend).0);
    let all = micro::all(&device, arch.as_deref());
    all.iter().flat_map(|micro| micro.units(&source, arch.as_deref())).collect()
}

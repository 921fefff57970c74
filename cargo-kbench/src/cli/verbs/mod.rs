//! The verbs, one file each, and the functions that several verbs use.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};

use crate::build::carried::Carried;
use crate::build::{Compiler, CompilerOptions};
use crate::bundle::{self as bundles, Bundle};
use crate::cli::{BundleArgs, MeasureArgs, SelectArgs, ToolArgs, VariantArgs, is_named};
use crate::config::{self, DeviceModel, Diagnostic, Kernel, LoadError, LoadOptions, Objective, Package, Project};
use crate::harness::{self, RunError, Setup};
use crate::interrupt::is_interrupted;
use crate::process::inputs;
use crate::report::Output;
use crate::space::Variant;
use crate::text::kernel_name;

pub mod apply;
pub mod audit;
pub mod autotune;
pub mod bench;
pub mod build;
pub mod bundle;
mod candidate;
pub mod check;
pub mod compare;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod gate;
pub mod import;
pub mod list;
pub mod man;
pub mod merge;
pub mod new;
pub mod profile;
pub mod replay;
pub mod report;
pub mod show;
pub mod toolchain;
pub mod worker;

pub use crate::harness::Exit;

/// The exit code of a verb that ended with an error; an error without a code of its own is bad usage.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    // After Ctrl-C the run counts as interrupted, also if a compiler died of the signal.
    if is_interrupted() {
        return Exit::Interrupted;
    }
    match (error.downcast_ref::<RunError>(), error.downcast_ref::<io::Error>()) {
        (Some(error), _) => error.exit(),
        (None, Some(error)) => Exit::of_file(error),
        (None, None) => Exit::Usage,
    }
}

/// Reads the configuration, and writes its warnings.
fn load(select: &SelectArgs, output: Output) -> anyhow::Result<Project> {
    load_for(select, None, output)
}

/// Reads the configuration for verbs that read results: a space that depends on the device has the variants of every
/// device.
fn load_for_results(select: &SelectArgs, output: Output) -> anyhow::Result<Project> {
    let mut project = load(select, output)?;
    let kernels = project.packages.iter_mut().flat_map(|package| &mut package.kernels);
    kernels.filter(|kernel| kernel.device.is_some()).for_each(|kernel| kernel.space.constraints.clear());
    Ok(project)
}

/// Reads the configuration for a device, if expressions name its properties.
fn load_for(select: &SelectArgs, device: Option<DeviceModel>, output: Output) -> anyhow::Result<Project> {
    Ok(warned(read(select, device)?, output))
}

fn read(select: &SelectArgs, device: Option<DeviceModel>) -> anyhow::Result<Loaded> {
    let options = LoadOptions {
        manifest_path: select.manifest_path.clone(),
        packages: select.package.clone(),
        target_dir: select.target_dir.clone(),
        device,
        ..LoadOptions::default()
    };
    let (mut project, warnings) = loaded(&options)?;
    check_names(&project, select)?;
    if !select.kernel.is_empty() {
        // Baselines may name kernels that were not selected, so these stay in their package.
        project
            .packages
            .retain(|package| package.kernels.iter().any(|kernel| select.selects(&package.name, &kernel.name)));
    }
    Ok((project, warnings))
}

/// A project and the warnings about its tables.
type Loaded = (Project, Vec<Diagnostic>);

fn warned((project, warnings): Loaded, output: Output) -> Project {
    for warning in &warnings {
        output.diagnostic(warning);
    }
    project
}

fn loaded(options: &LoadOptions) -> anyhow::Result<Loaded> {
    config::load(options).map_err(|error| match error {
        // The command line draws each of them.
        LoadError::Config(errors) => errors.into(),
        error => error.into(),
    })
}

/// An error if a selected kernel does not exist.
fn check_names(project: &Project, select: &SelectArgs) -> anyhow::Result<()> {
    for name in &select.kernel {
        let kernels = || project.packages.iter().flat_map(|package| &package.kernels);
        if !kernels().any(|kernel| is_named(name, &kernel.package, &kernel.name)) {
            let all: Vec<String> = kernels().map(|kernel| kernel_name(&kernel.package, &kernel.name)).collect();
            return Err(anyhow!("no kernel `{name}`; the kernels are {}", all.join(", ")));
        }
    }
    Ok(())
}

/// Reads the configuration for verbs that run kernels: for the device of this index, and with the inputs that programs
/// of the table write.
fn load_to_run(select: &SelectArgs, index: u32, output: Output) -> anyhow::Result<Project> {
    let mut project = warned(for_device(select, index, |device| read(select, device))?, output);
    let work_directory = project.work_directory();
    let tell = |what: &str| crate::report::status("Making", what);
    for package in &mut project.packages {
        for kernel in &mut package.kernels {
            inputs::make(kernel, &package.directory, &work_directory, &tell)
                .with_context(|| format!("kernel `{}`", kernel.name))?;
        }
    }
    Ok(project)
}

/// Reads tables, and reads them again for the device of this index if an expression of a kernel names properties of the
/// device.
fn for_device(
    select: &SelectArgs,
    index: u32,
    read: impl Fn(Option<DeviceModel>) -> anyhow::Result<Loaded>,
) -> anyhow::Result<Loaded> {
    let loaded = read(None)?;
    let project = &loaded.0;
    let dependent = selected(project, select).into_iter().find(|(_, kernel)| kernel.device.is_some());
    let Some((_, kernel)) = dependent else { return Ok(loaded) };
    let device = harness::device(kernel, index, &project.work_directory())?;
    read(Some((&device).into()))
}

/// The selected kernels, with their packages.
fn selected<'a>(project: &'a Project, select: &SelectArgs) -> Vec<(&'a Package, &'a Kernel)> {
    let pairs = project.packages.iter().flat_map(|package| package.kernels.iter().map(move |kernel| (package, kernel)));
    pairs.filter(|(package, kernel)| select.selects(&package.name, &kernel.name)).collect()
}

/// Kernels of a verb: those of a package or of a bundle.
struct Subject {
    project: Project,
    /// The arguments, with the kernels of the bundle.
    select: SelectArgs,
    carried: Option<Arc<Carried>>,
}

impl Subject {
    fn compiler(&self, tools: &ToolArgs) -> Compiler {
        let options = CompilerOptions { nvcc: tools.nvcc.clone(), carried: self.carried.clone() };
        Compiler::new(&self.project.work_directory(), options)
    }
}

/// Reads the configuration, or unpacks a bundle. `device` is the index of the device for kernels; none if no kernel
/// runs.
fn subject(select: &SelectArgs, args: &BundleArgs, device: Option<u32>, output: Output) -> anyhow::Result<Subject> {
    let Some(path) = &args.bundle else {
        let project = device.map_or_else(|| load(select, output), |index| load_to_run(select, index, output))?;
        return Ok(Subject { project, select: select.clone(), carried: None });
    };
    let here = std::env::current_dir()?;
    let target = here.join(select.target_dir.as_deref().unwrap_or(Path::new("target")));
    let work = target.join("kbench");
    let bundle = Bundle::open(path, &work.join("bundles"), &work).with_context(|| path.display().to_string())?;
    let options = LoadOptions {
        manifest_path: Some(bundle.root.join("Cargo.toml")),
        packages: bundle.kernels.iter().map(|kernel| kernel.package.clone()).collect(),
        target_dir: Some(target),
        directory: Some(bundle.root.clone()),
        // The bundle may have no package of this name.
        cargo: Some(bundle.root.join("no-cargo").into()),
        device: None,
    };
    let mut project = warned(loaded(&options)?, output);
    let mut select = select.clone();
    if select.kernel.is_empty() {
        select.kernel = bundle.kernels.iter().map(|kernel| kernel.kernel.clone()).collect();
    }
    for package in &mut project.packages {
        if !bundles::is_within(&package.directory, &bundle.root) {
            return Err(anyhow!("{}: package `{}` lies outside of it", path.display(), package.name));
        }
        let carried: Vec<_> = bundle.kernels.iter().filter(|kernel| kernel.package == package.name).collect();
        for kernel in &mut package.kernels {
            if let Some(carried) = carried.iter().find(|carried| carried.kernel == kernel.name) {
                kernel.arch.clone_from(&carried.archs);
            } else if select.selects(&package.name, &kernel.name) {
                return Err(anyhow!("{} does not hold kernel `{}`", path.display(), kernel.name));
            }
            // No command of a bundle's table is started.
            kernel.runner.clear();
            kernel.workers.clear();
            kernel.search.proposer = None;
            if kernel.objectives.iter().any(|objective| matches!(objective, Objective::Application(_))) {
                kernel.objectives = vec![Objective::P50];
                crate::report::status("Note", format_args!("{}: objective `p50` in place of a program", kernel.name));
            }
            let programs = kernel.leave_out_programs();
            if !programs.is_empty() && select.selects(&package.name, &kernel.name) {
                let names = crate::text::list(&programs);
                crate::report::status("Note", format_args!("{}: no baseline {names}, a program", kernel.name));
            }
        }
        let is_selected = |kernel: &&Kernel| select.selects(&package.name, &kernel.name);
        for kernel in package.kernels.iter().filter(is_selected) {
            bundles::suitable(kernel, package, &bundle.root).with_context(|| path.display().to_string())?;
        }
    }
    check_names(&project, &select)?;
    // Results are written to the current folder.
    project.root = here;
    Ok(Subject { project, select, carried: Some(bundle.carried) })
}

fn compiler(project: &Project, tools: &ToolArgs) -> Compiler {
    Compiler::new(&project.work_directory(), CompilerOptions { nvcc: tools.nvcc.clone(), ..CompilerOptions::default() })
}

/// State that the evaluations of a verb share.
fn setup<'a>(compiler: &'a Compiler, device: u32, work_directory: &'a Path) -> Setup<'a> {
    Setup { compiler, device, work_directory, notify: crate::report::notice }
}

/// The selected variant.
fn variant(kernel: &Kernel, args: &VariantArgs) -> anyhow::Result<Variant> {
    match &args.variant {
        None => Ok(kernel.space.default.clone()),
        Some(text) => {
            kernel.space.parse(text).map_err(|error| anyhow!("--variant of kernel `{}`: {error}", kernel.name))
        }
    }
}

/// The kernel with the overrides of this run.
fn overridden(kernel: &Kernel, measure: &MeasureArgs) -> anyhow::Result<Kernel> {
    let mut kernel = kernel.clone();
    if !measure.shapes.is_empty() {
        let mut shapes = Vec::new();
        for name in &measure.shapes {
            let found = kernel.shapes.iter().position(|shape| shape.name == *name);
            shapes.push(found.ok_or_else(|| {
                let all: Vec<&str> = kernel.shapes.iter().map(|shape| shape.name.as_str()).collect();
                anyhow!("kernel `{}` has no shape `{name}`; it has {}", kernel.name, all.join(", "))
            })?);
        }
        if !shapes.contains(&kernel.search.shape) {
            kernel.search.shape = shapes[0];
        }
        let (judged, left_out) =
            kernel.gates.performance.into_iter().partition::<Vec<_>, _>(|limit| shapes.contains(&limit.shape));
        kernel.gates.performance = judged;
        kernel.gates.performance_left_out = left_out.iter().map(|limit| limit.shape).collect();
        kernel.gates.performance_left_out.sort_unstable();
        kernel.gates.performance_left_out.dedup();
        kernel.gates.counters.shapes.retain(|shape| shapes.contains(shape));
        if kernel.gates.counters.shapes.is_empty() {
            kernel.gates.counters.shapes.push(kernel.search.shape);
        }
        for objective in &mut kernel.objectives {
            if let Objective::Mean(weights) = objective {
                weights.retain(|(shape, _)| shapes.contains(shape));
                if weights.is_empty() {
                    *objective = Objective::P50;
                }
            }
        }
        kernel.gates.correctness.shapes = shapes;
    }
    if let Some(seeds) = measure.seeds {
        kernel.gates.correctness.seeds = seeds;
    }
    if let Some(iterations) = measure.iters {
        (kernel.timing.iterations, kernel.timing.iterations_stated) = (iterations, true);
    }
    if let Some(launch) = measure.launch {
        kernel.timing.launch = launch;
    }
    if let Some(warmup) = measure.warmup {
        kernel.timing.warmup = warmup;
    }
    Ok(kernel)
}

/// The architecture if neither the table nor a device has one.
fn fallback_arch(kernel: &Kernel) -> String {
    const ARCH: &str = "sm_90a";
    crate::report::status(
        "Note",
        format_args!("{}: no GPU here and no `arch` in the table; compiling for {ARCH}", crate::report::title(kernel)),
    );
    ARCH.to_owned()
}

/// Reports why a kernel cannot run, and returns its exit code; the other kernels still run, unless the user ended the
/// run.
fn skip(kernel: &Kernel, error: RunError) -> anyhow::Result<Exit> {
    let exit = if is_interrupted() { Exit::Interrupted } else { error.exit() };
    if exit == Exit::Interrupted {
        return Err(error.into());
    }
    crate::report::error(format_args!("{}: {:#}", crate::report::title(kernel), anyhow::Error::from(error)));
    Ok(exit)
}

//! `cargo kbench build`: compilation and gate 1; needs no device.

use std::path::PathBuf;

use anyhow::anyhow;

use super::{Exit, compiler, fallback_arch, load, selected, setup, skip, variant};
use crate::cli::{SelectArgs, ToolArgs, VariantArgs};
use crate::compare::resource_diff::{Change, KernelUsage, ResourceDiff, ResourceFile};
use crate::config::{Backend, Kernel, Package};
use crate::file;
use crate::harness::{Builder, Harness, Opening, RunError, Setup};
use crate::interrupt::is_interrupted;
use crate::process::executor::ExecutorError;
use crate::report::builds::Builds;
use crate::report::{self, Finding, Output, Verbosity};
use crate::space::Variant;
use crate::tune::build_all;

/// Largest number of variants of `--all`: the work of about a day on one machine.
const MOST: usize = 100_000;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Selection of kernels.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Places of tools.
    #[command(flatten)]
    pub tools: ToolArgs,
    /// Selection of the variant.
    #[command(flatten)]
    pub variant: VariantArgs,
    /// Compile every valid variant; fails only if none passes
    #[arg(long, conflicts_with = "variant")]
    pub all: bool,
    /// Write the resources of every variant to a file, to be committed
    #[arg(long, value_name = "FILE", requires = "all")]
    pub save: Option<PathBuf>,
    /// Fail if a variant uses more resources than this file has, or has a lower occupancy
    #[arg(long, value_name = "FILE", requires = "all")]
    pub against: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let Args { select, tools, variant: variant_args, all, save, against } = args;
    let project = load(select, output)?;
    // A file that cannot be read or written is reported before a long build, not after it.
    save.as_deref().map_or(Ok(()), file::check_writable)?;
    let against = against.as_deref().map(ResourceFile::read).transpose()?;
    let compiler = compiler(&project, tools);
    let work_directory = project.work_directory();
    let mut exit = Exit::Pass;
    let anywhere = save.is_some() || against.is_some();
    let mut usages = Vec::new();
    let mut skipped = Vec::new();
    for (package, kernel) in selected(&project, select) {
        let variants: Vec<Variant> = if *all { every(kernel)? } else { vec![variant(kernel, variant_args)?] };
        let table = against.is_none() || output.verbosity() == Verbosity::Verbose;
        let setup = setup(&compiler, 0, &work_directory);
        match build(setup, package, kernel, &variants, table, anywhere, output) {
            Ok((of_kernel, of_archs)) => {
                exit = exit.max(of_kernel);
                usages.extend(of_archs);
            }
            Err(error) => {
                exit = exit.max(skip(kernel, error)?);
                skipped.push((kernel.package.as_str(), kernel.name.as_str()));
            }
        }
    }
    if let Some(against) = &against {
        // The resources of other variants, and of variants that failed to build, are unknown.
        let known = |usage: &&KernelUsage| {
            project.packages.iter().any(|package| package.name == usage.package)
                && select.selects(&usage.package, &usage.kernel)
                && !skipped.contains(&(usage.package.as_str(), usage.kernel.as_str()))
        };
        let old: Vec<&KernelUsage> = against.kernels.iter().filter(known).collect();
        if !old.iter().any(|old| usages.iter().any(|new| same_place(old, new))) && !usages.is_empty() {
            // A check without variants must not pass.
            return Err(anyhow!("the file of --against has none of these kernels for these architectures"));
        }
        exit = exit.max(tell(&old, &usages, output));
    }
    if let Some(path) = save {
        if skipped.is_empty() {
            ResourceFile::new(usages).write(path)?;
            output.status("Saved", path.display());
        } else {
            report::error(format_args!("not saved to {}: not every kernel could be built", path.display()));
        }
    }
    Ok(exit)
}

/// Every variant, if there are few enough to compile.
fn every(kernel: &Kernel) -> anyhow::Result<Vec<Variant>> {
    let going = |_: &Variant| !is_interrupted();
    let variants: Vec<Variant> = kernel.space.variants().take_while(going).take(MOST + 1).collect();
    if variants.len() > MOST {
        return Err(anyhow!(
            "kernel `{}` has more than {MOST} variants, too many for --all; `cargo kbench autotune` searches them",
            kernel.name
        ));
    }
    Ok(variants)
}

fn same_place(old: &KernelUsage, new: &KernelUsage) -> bool {
    (&old.package, &old.kernel, &old.arch) == (&new.package, &new.kernel, &new.arch)
}

/// Prints the changed resources.
fn tell(old: &[&KernelUsage], new: &[KernelUsage], output: Output) -> Exit {
    let mut diffs: Vec<ResourceDiff> = new
        .iter()
        .map(|new| ResourceDiff::between(old.iter().find(|old| same_place(old, new)).copied(), Some(new)))
        .collect();
    let gone = old.iter().filter(|old| !new.iter().any(|new| same_place(old, new)));
    diffs.extend(gone.map(|old| ResourceDiff::between(Some(old), None)));
    for diff in &diffs {
        output.show(&Finding::ResourceDiff(diff));
    }
    let count = |kind| diffs.iter().map(|diff| diff.count(kind)).sum::<usize>() as u64;
    let (worse, better) = (report::count(count(Change::Worse), "variant"), count(Change::Better));
    if count(Change::Worse) > 0 {
        report::error(format_args!("{worse} worse than the file says; where that is meant, write it anew with --save"));
        return Exit::Failed;
    }
    if better > 0 {
        let better = report::count(better, "variant");
        output.status("Improved", format_args!("{better}; write the file again with --save to record it"));
    }
    Exit::Pass
}

fn build(
    setup: Setup<'_>,
    package: &Package,
    kernel: &Kernel,
    variants: &[Variant],
    table: bool,
    anywhere: bool,
    output: Output,
) -> Result<(Exit, Vec<KernelUsage>), RunError> {
    let mut builder = Builder::new(package, kernel, setup.compiler);
    let cuda = kernel.implementation.backend == Backend::Cuda;
    if cuda && kernel.arch.is_empty() {
        // The device, if there is one, selects the architecture; but a resource file must be the same on every machine.
        match (!anywhere).then(|| Harness::open(setup, package, kernel, Opening::default())) {
            Some(Ok(harness)) => builder = harness.context.builder,
            None | Some(Err(RunError::Executor(ExecutorError::NoDevice(_)))) => {
                builder.arch = Some(fallback_arch(kernel));
            }
            Some(Err(error)) => return Err(error),
        }
    }
    let archs: Vec<Option<String>> =
        if cuda && !kernel.arch.is_empty() { kernel.arch.iter().cloned().map(Some).collect() } else { vec![None] };
    let mut exit = Exit::Pass;
    let mut usages = Vec::new();
    for arch in archs {
        if let Some(arch) = &arch {
            builder.arch = Some(arch.clone());
        }
        let outcomes = build_all(&builder, variants, &mut *output.reporter(kernel))?;
        output.show(&Finding::Builds(&Builds { builder: &builder, variants, outcomes: &outcomes, table }));
        let passed = outcomes.iter().any(|outcome| outcome.result.is_ok());
        exit = exit.max(if passed { Exit::Pass } else { Exit::Failed });
        usages.push(KernelUsage::of(&builder, variants, &outcomes));
    }
    Ok((exit, usages))
}

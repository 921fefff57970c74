//! `cargo kbench build`: compile, and gate 1; needs no device.

use std::collections::HashMap;

use anyhow::anyhow;

use super::{Exit, compiler, fallback_arch, load, selected, setup, skip, variant};
use crate::cli::{OutputArgs, ResourceDiffArgs, SelectArgs, ToolArgs, VariantArgs};
use crate::compare::resource_diff::{Change, KernelUsage, ResourceDiff, ResourceFile, Usage};
use crate::config::{Backend, Kernel, Package};
use crate::harness::{Builder, Built, Harness, Opening, Reporter, RunError, Setup};
use crate::interrupt::is_interrupted;
use crate::process::executor::ExecutorError;
use crate::record::evaluation::Evaluation;
use crate::report::{self, Verbosity, json, outln, table::Table, terminal::Terminal};
use crate::space::Variant;
use crate::tune::build_all;

/// Most variants that `--all` compiles: a day's work of a machine.
const MOST: usize = 100_000;

/// Runs the verb.
pub fn run(
    select: &SelectArgs,
    tools: &ToolArgs,
    variant_args: &VariantArgs,
    all: bool,
    diff: &ResourceDiffArgs,
    output: &OutputArgs,
) -> anyhow::Result<Exit> {
    let project = match load(select)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    // A file that cannot be read is better known before a long build than after it.
    let against = diff.against.as_deref().map(ResourceFile::read).transpose()?;
    let compiler = compiler(&project, tools);
    let work_directory = project.work_directory();
    let mut exit = Exit::Pass;
    let anywhere = diff.save.is_some() || diff.against.is_some();
    let mut usages = Vec::new();
    let mut skipped = Vec::new();
    for (package, kernel) in selected(&project, select) {
        let variants: Vec<Variant> = if all { every(kernel)? } else { vec![variant(kernel, variant_args)?] };
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
        // Of what was not asked for or could not be built, nothing is known.
        let known = |usage: &&KernelUsage| {
            project.packages.iter().any(|package| package.name == usage.package)
                && (select.kernel.is_empty() || select.kernel.contains(&usage.kernel))
                && !skipped.contains(&(usage.package.as_str(), usage.kernel.as_str()))
        };
        let old: Vec<&KernelUsage> = against.kernels.iter().filter(known).collect();
        if !old.iter().any(|old| usages.iter().any(|new| same_place(old, new))) && !usages.is_empty() {
            // A check that looks at nothing must not pass.
            return Err(anyhow!("the file to compare with has none of these kernels for these architectures"));
        }
        exit = exit.max(tell(&old, &usages, output));
    }
    if let Some(path) = &diff.save {
        if skipped.is_empty() {
            ResourceFile::new(usages).write(path)?;
            if output.verbosity() > Verbosity::Quiet && !output.json() {
                report::status("Saved", path.display());
            }
        } else {
            report::error(format_args!("not saved to {}: not every kernel could be built", path.display()));
        }
    }
    Ok(exit)
}

/// Every variant, where there are few enough to compile each.
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

/// Tells which resources changed.
fn tell(old: &[&KernelUsage], new: &[KernelUsage], output: &OutputArgs) -> Exit {
    let mut diffs: Vec<ResourceDiff> = new
        .iter()
        .map(|new| ResourceDiff::between(old.iter().find(|old| same_place(old, new)).copied(), Some(new)))
        .collect();
    let gone = old.iter().filter(|old| !new.iter().any(|new| same_place(old, new)));
    diffs.extend(gone.map(|old| ResourceDiff::between(Some(old), None)));
    for diff in &diffs {
        if output.json() {
            json::resource_diff(diff);
        } else {
            outln!("{}", report::resource_diff::resource_diff(diff, output.verbosity() == Verbosity::Verbose));
        }
    }
    let count = |kind| diffs.iter().map(|diff| diff.count(kind)).sum::<usize>() as u64;
    let (worse, better) = (report::count(count(Change::Worse), "variant"), count(Change::Better));
    if count(Change::Worse) > 0 {
        report::error(format_args!("{worse} worse than the file says; where that is meant, write it anew with --save"));
        return Exit::Failed;
    }
    if better > 0 && output.verbosity() > Verbosity::Quiet && !output.json() {
        let better = report::count(better, "variant");
        report::status("Improved", format_args!("{better}; write the file anew with --save to keep it so"));
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
    output: &OutputArgs,
) -> Result<(Exit, Vec<KernelUsage>), RunError> {
    let mut builder = Builder::new(package, kernel, setup.compiler);
    let cuda = kernel.implementation.backend == Backend::Cuda;
    if cuda && kernel.arch.is_empty() {
        // The device says what to compile for, where there is one; but a file is to be the same on every machine.
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
        let (of_arch, usage) = build_for(&builder, variants, table, output)?;
        exit = exit.max(of_arch);
        usages.push(usage);
    }
    Ok((exit, usages))
}

fn build_for(
    builder: &Builder<'_>,
    variants: &[Variant],
    shown: bool,
    output: &OutputArgs,
) -> Result<(Exit, KernelUsage), RunError> {
    let kernel = builder.kernel;
    let mut terminal = Terminal::new(output.verbosity());
    let mut json = json::Json::new(kernel);
    let reporter: &mut dyn Reporter = if output.json() { &mut json } else { &mut terminal };
    let outcomes = build_all(builder, variants, reporter)?;
    terminal.finish();

    let mut table = Table::new(["gate 1"]);
    table.columns(columns(kernel).iter().map(|&column| column.to_owned()));
    let verbose = output.verbosity() == Verbosity::Verbose;
    let mut passed = 0;
    let (mut refused, mut warned) = (Said::default(), Said::default());
    for (variant, outcome) in variants.iter().zip(&outcomes) {
        let label = kernel.space.label(variant);
        let (status, built, rejection) = match &outcome.result {
            Ok(built) => ("pass", Some(built), None),
            Err(failure) => ("FAIL", failure.built.as_ref(), Some(&failure.rejection)),
        };
        passed += usize::from(rejection.is_none());
        if output.json() {
            let mut evaluation = Evaluation::new(kernel.space.settings(variant), outcome.warnings.clone());
            evaluation.builds = built.map(|built| built.records(kernel)).unwrap_or_default();
            json::verdict(kernel, &evaluation, &status.to_lowercase(), rejection);
            continue;
        }
        let mut row = vec![status.to_owned()];
        row.extend(cells(builder, variant, built));
        row.push(match rejection {
            Some(rejection) => format!("{label}  {}/{}", rejection.gate, rejection.code),
            None => label.clone(),
        });
        table.row(row);
        if let Some(rejection) = rejection {
            let output = rejection.output.as_deref().unwrap_or_default();
            refused.add(report::rejection(rejection), output.trim_end(), &label);
        }
        for said in report::compiler_messages(&built.map(|built| built.records(kernel)).unwrap_or_default()) {
            warned.add("the compiler warns".to_owned(), said, &label);
        }
    }
    if !output.json() {
        let target = builder.arch.as_ref().map_or_else(String::new, |arch| format!(" for {arch}"));
        if shown {
            outln!("{}{target}\n\n{table}", report::title(kernel));
        }
        let mut text = refused.shown(verbose);
        if verbose {
            text += &warned.shown(true);
        }
        if !text.is_empty() {
            outln!("{text}");
        }
        let of = if shown { String::new() } else { format!("{}{target}: ", report::title(kernel)) };
        outln!("{of}{passed} of {} pass gate 1", variants.len());
    }
    let exit = if passed > 0 { Exit::Pass } else { Exit::Failed };
    Ok((exit, KernelUsage::of(builder, variants, &outcomes)))
}

/// What is said of variants, each once, with those that it is said of.
#[derive(Default)]
struct Said {
    places: HashMap<(String, String), usize>,
    /// What, the compiler's output, and the labels.
    all: Vec<(String, String, Vec<String>)>,
}

impl Said {
    fn add(&mut self, what: String, output: &str, label: &str) {
        let at = *self.places.entry((what.clone(), output.to_owned())).or_insert(self.all.len());
        if at == self.all.len() {
            self.all.push((what, output.to_owned(), Vec::new()));
        }
        self.all[at].2.push(label.to_owned());
    }

    /// A line for each; the first has its output, which says most, the others where all is to be said.
    fn shown(&self, verbose: bool) -> String {
        let mut text = String::new();
        let first = self.all.first().map(|(what, output, _)| (what, output));
        report::listed(&mut text, &self.all, verbose, |(what, output, labels)| {
            let line = match &labels[..] {
                [only] if only.is_empty() => what.clone(),
                [only] => format!("{only}: {what}"),
                labels => format!("{} variants, first {}: {what}", labels.len(), labels[0]),
            };
            let is_shown = verbose || first == Some((what, output));
            if is_shown && !output.is_empty() { format!("{line}\n{output}") } else { line }
        });
        text
    }
}

/// The columns between verdict and variant.
fn columns(kernel: &Kernel) -> &'static [&'static str] {
    match kernel.implementation.backend {
        Backend::Cuda => &["registers", "shared B", "spills B", "stack B", "code B", "occupancy", "variant"],
        Backend::C | Backend::Fake => &["stack B", "code B", "variant"],
    }
}

/// The largest values over the builds of a variant; occupancy the smallest.
fn cells(builder: &Builder<'_>, variant: &Variant, built: Option<&Built>) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let Usage { registers, spills, shared, stack, occupancy, code, .. } = Usage::of(builder, variant, built);
    if builder.kernel.implementation.backend != Backend::Cuda {
        return vec![number(stack), number(code)];
    }
    let occupancy = occupancy.map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", value * 100.0));
    vec![number(registers), number(shared), number(spills), number(stack), number(code), occupancy]
}

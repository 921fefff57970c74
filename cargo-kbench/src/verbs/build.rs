//! `cargo kbench build`: compile, and gate 1; needs no device.

use std::sync::Mutex;

use super::{Exit, compiler, fallback_arch, load, selected, skip, variant};
use crate::cli::{OutputArgs, SelectArgs, ToolArgs, VariantArgs};
use crate::compile::Compiler;
use crate::config::{Backend, Kernel, Package, Project};
use crate::evaluation::Evaluation;
use crate::executor::ExecutorError;
use crate::gates::resources::{occupancy, shared_bytes};
use crate::report::{self, json, outln, table::Table, terminal::Terminal};
use crate::session::{Reporter, build_all};
use crate::space::Variant;
use crate::workbench::{Builder, Built, RunError, Workbench};

/// Runs the verb.
pub fn run(
    select: &SelectArgs,
    tools: &ToolArgs,
    variant_args: &VariantArgs,
    all: bool,
    output: &OutputArgs,
) -> anyhow::Result<Exit> {
    let project = match load(select)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let compiler = compiler(&project, tools);
    let mut exit = Exit::Pass;
    for (package, kernel) in selected(&project, select) {
        let variants: Vec<Variant> =
            if all { kernel.space.variants().collect() } else { vec![variant(kernel, variant_args)?] };
        match build(&project, package, kernel, &compiler, &variants, output) {
            Ok(of_kernel) => exit = exit.max(of_kernel),
            Err(error) => exit = exit.max(skip(kernel, error)?),
        }
    }
    Ok(exit)
}

fn build(
    project: &Project,
    package: &Package,
    kernel: &Kernel,
    compiler: &Compiler,
    variants: &[Variant],
    output: &OutputArgs,
) -> Result<Exit, RunError> {
    let mut bench = Workbench::new(package, kernel, compiler, 0, project.work_directory().join("references"));
    let cuda = kernel.implementation.backend == Backend::Cuda;
    if cuda && kernel.arch.is_empty() {
        // The device says what to compile for, where there is one.
        match bench.open() {
            Ok(_) => {}
            Err(RunError::Executor(ExecutorError::NoDevice(_))) => bench.builder.arch = Some(fallback_arch(kernel)),
            Err(error) => return Err(error),
        }
    }
    let archs: Vec<Option<String>> =
        if cuda && !kernel.arch.is_empty() { kernel.arch.iter().cloned().map(Some).collect() } else { vec![None] };
    let mut exit = Exit::Pass;
    for arch in archs {
        if let Some(arch) = &arch {
            bench.builder.arch = Some(arch.clone());
        }
        exit = exit.max(build_for(&bench.builder, variants, output)?);
    }
    Ok(exit)
}

fn build_for(builder: &Builder<'_>, variants: &[Variant], output: &OutputArgs) -> Result<Exit, RunError> {
    let kernel = builder.kernel;
    let mut terminal = Terminal::new(output.verbosity());
    let mut json = json::Json::new(kernel);
    let reporter: &mut dyn Reporter = if output.json() { &mut json } else { &mut terminal };
    let attempts = build_all(builder, variants, &Mutex::new(reporter))?;
    terminal.finish();

    let mut table = Table::new(["gate 1"]);
    table.columns(columns(kernel).iter().map(|&column| column.to_owned()));
    let mut passed = 0;
    let mut outputs = Vec::new();
    for (variant, attempt) in variants.iter().zip(&attempts) {
        let label = kernel.space.label(variant);
        let (status, built, rejection) = match &attempt.result {
            Ok(built) => ("pass", Some(built), None),
            Err(failure) => ("FAIL", failure.built.as_ref(), Some(&failure.rejection)),
        };
        passed += usize::from(rejection.is_none());
        if output.json() {
            let mut evaluation = Evaluation::new(kernel.space.settings(variant), attempt.warnings.clone());
            evaluation.builds = built.map(|built| built.records(kernel)).unwrap_or_default();
            json::verdict(kernel, &evaluation, &status.to_lowercase(), rejection);
            continue;
        }
        let mut row = vec![status.to_owned()];
        row.extend(cells(builder, variant, built));
        row.push(match rejection {
            Some(rejection) => format!("{label}  {}/{}: {}", rejection.gate, rejection.code, rejection.message),
            None => label.clone(),
        });
        table.row(row);
        outputs.extend(rejection.and_then(|rejection| Some((label, rejection.output.clone()?))));
    }
    if !output.json() {
        let target = builder.arch.as_ref().map_or_else(String::new, |arch| format!(" for {arch}"));
        outln!("{}{target}\n\n{table}", report::title(kernel));
        for (label, text) in
            outputs.iter().take(if output.verbosity() == report::Verbosity::Verbose { usize::MAX } else { 1 })
        {
            outln!("{label}:\n{}\n", text.trim_end());
        }
        outln!("{passed} of {} pass gate 1", variants.len());
    }
    Ok(if passed > 0 { Exit::Pass } else { Exit::Failed })
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
    let resources = || built.iter().flat_map(|built| &built.builds).map(|build| build.artifact.resources);
    let stack = number(resources().filter_map(|resources| resources.stack).max());
    let code = number(resources().filter_map(|resources| resources.code_bytes).max());
    if builder.kernel.implementation.backend != Backend::Cuda {
        return vec![stack, code];
    }
    let launches: Vec<_> = built
        .iter()
        .flat_map(|built| &built.builds)
        .flat_map(|build| build.shapes.iter().map(|&shape| (build.artifact.resources, shape)))
        .filter_map(|(resources, shape)| Some((resources, builder.geometry(variant, shape)?)))
        .collect();
    let shared = launches.iter().filter_map(|(resources, geometry)| shared_bytes(resources, geometry)).max();
    let arch = builder.arch.as_deref();
    let occupancy = launches.iter().filter_map(|(resources, geometry)| occupancy(resources, geometry, arch));
    let occupancy =
        occupancy.min_by(f64::total_cmp).map_or_else(|| "-".to_owned(), |value| format!("{:.0} %", value * 100.0));
    let registers = number(resources().filter_map(|resources| resources.registers).max());
    let spills = resources().filter_map(|resources| Some(resources.spill_stores? + resources.spill_loads?)).max();
    vec![registers, number(shared), number(spills), stack, code, occupancy]
}

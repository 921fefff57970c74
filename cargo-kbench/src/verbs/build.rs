//! `cargo kbench build`: compile, and gate 1; needs no device.

use std::sync::Mutex;

use serde_json::json;

use super::{Exit, compiler, load, selected, skip, variant};
use crate::cli::{OutputArgs, SelectArgs, ToolArgs, VariantArgs};
use crate::compile::Compiler;
use crate::config::{Backend, Kernel, Package, Project};
use crate::report::{self, json, table::Table, terminal::Terminal};
use crate::session::{Reporter, build_all};
use crate::space::Variant;
use crate::workbench::{Builder, RunError, Workbench};

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
        // Only the device can say what to compile for.
        bench.open()?;
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
    let builds = build_all(builder, variants, &Mutex::new(reporter))?;
    terminal.finish();

    let mut table = Table::new(["gate 1", "resources", "variant"]);
    let mut passed = 0;
    let mut outputs = Vec::new();
    for (variant, (built, warnings)) in variants.iter().zip(&builds) {
        let label = kernel.space.label(variant);
        let (status, built, rejection) = match built {
            Ok(built) => ("pass", Some(built), None),
            Err(failure) => ("FAIL", failure.built.as_ref(), Some(&failure.rejection)),
        };
        passed += usize::from(rejection.is_none());
        if output.json() {
            let fields = json!({
                "package": kernel.package, "kernel": kernel.name, "arch": builder.arch,
                "variant": kernel.space.settings(variant), "status": status.to_lowercase(),
                "gate": rejection.map(|rejection| rejection.gate), "code": rejection.map(|rejection| rejection.code),
                "message": rejection.map(|rejection| &rejection.message),
                "output": rejection.and_then(|rejection| rejection.output.as_ref()),
                "builds": built.map(|built| built.records(kernel)).unwrap_or_default(), "warnings": warnings,
            });
            json::message("built", fields);
            continue;
        }
        let resources = built.map_or_else(String::new, |built| {
            built.builds.iter().map(|build| build.artifact.resources.to_string()).collect::<Vec<_>>().join("; ")
        });
        let why =
            rejection.map(|rejection| format!("{label}  {}/{}: {}", rejection.gate, rejection.code, rejection.message));
        outputs.extend(rejection.and_then(|rejection| Some((label.clone(), rejection.output.clone()?))));
        table.row(vec![status.to_owned(), resources, why.unwrap_or(label)]);
    }
    if !output.json() {
        let target = builder.arch.as_ref().map_or_else(String::new, |arch| format!(" for {arch}"));
        anstream::println!("{}/{}{target}\n\n{table}", kernel.package, kernel.name);
        for (label, text) in
            outputs.iter().take(if output.verbosity() == report::Verbosity::Verbose { usize::MAX } else { 1 })
        {
            anstream::println!("{label}:\n{}\n", text.trim_end());
        }
        anstream::println!("{passed} of {} pass gate 1", report::count(variants.len() as u64, "variant"));
    }
    Ok(if passed > 0 { Exit::Pass } else { Exit::Failed })
}

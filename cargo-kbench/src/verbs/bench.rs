//! `cargo kbench bench`: one variant side by side with the default and the baselines.

use std::path::Path;

use anyhow::anyhow;

use super::{Exit, compiler, load, overridden, selected, skip, variant};
use crate::bench::{BenchEntry, BenchFile, SideBySide};
use crate::cli::{MeasureArgs, OutputArgs, SelectArgs, ToolArgs, VariantArgs};
use crate::config::{Kernel, Project};
use crate::elite::{DeviceRecord, EliteFile};
use crate::report::{self, Verbosity, outln};
use crate::workbench::{Entrant, Proposed, Workbench};

/// Which variant.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The default, or what `--variant` says.
    pub variant: &'a VariantArgs,
    /// The winner of elite.json instead.
    pub elite: bool,
}

/// Runs the verb.
pub fn run(
    select: &SelectArgs,
    tools: &ToolArgs,
    candidate: &Candidate<'_>,
    measure: &MeasureArgs,
    save: Option<&Path>,
    output: &OutputArgs,
) -> anyhow::Result<Exit> {
    let project = match load(select)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let elite = candidate.elite.then(|| EliteFile::read(&project.elite_path())).transpose()?;
    let compiler = compiler(&project, tools);
    let mut exit = Exit::Pass;
    let mut entries = Vec::new();
    for (package, kernel) in selected(&project, select) {
        let kernel = overridden(kernel, measure)?;
        let asked = variant(&kernel, candidate.variant)?;
        let cache = project.work_directory().join("references");
        let mut bench = Workbench::new(package, &kernel, &compiler, measure.device, cache);
        let device = match bench.open() {
            Ok(device) => device,
            Err(error) => {
                exit = exit.max(skip(&kernel, error)?);
                continue;
            }
        };
        let timed = |shape: &usize| !kernel.shapes[*shape].check_only;
        let shapes: Vec<usize> = bench.builder.shapes().iter().copied().filter(timed).collect();
        let plan = match &elite {
            Some(elite) => winners(elite, &project, &kernel, &(&device).into(), &shapes)?,
            None => shapes.iter().map(|&shape| (shape, Entrant::Variant(asked.clone()))).collect(),
        };
        let mut side_by_side = SideBySide::new(&mut bench, &device);
        for (shape, entrant) in plan {
            if output.verbosity() > Verbosity::Quiet && !output.json() {
                let (title, shape) = (report::title(&kernel), &kernel.shapes[shape].name);
                report::status("Measuring", format_args!("{title} at {shape} on {}", device.name));
            }
            match side_by_side.measure(shape, &entrant) {
                Ok(entry) => {
                    exit = exit.max(tell(&entry, output));
                    entries.push(entry);
                }
                Err(error) => {
                    exit = exit.max(skip(&kernel, error)?);
                    break;
                }
            }
        }
    }
    // A file without a number would only stand in the way of an older one.
    if let Some(path) = save.filter(|_| !entries.is_empty()) {
        BenchFile::new(entries).write(path)?;
        if output.verbosity() > Verbosity::Quiet && !output.json() {
            report::status("Saved", path.display());
        }
    }
    Ok(exit)
}

fn tell(entry: &BenchEntry, output: &OutputArgs) -> Exit {
    if output.json() {
        report::json::bench(entry);
    } else {
        outln!("{}\n", report::bench::side_by_side(entry).trim_end());
    }
    if entry.rejection().is_some() { Exit::Failed } else { Exit::Pass }
}

/// The winner at each of the shapes that elite.json has one for.
pub(super) fn winners(
    elite: &EliteFile,
    project: &Project,
    kernel: &Kernel,
    device: &DeviceRecord,
    shapes: &[usize],
) -> anyhow::Result<Vec<(usize, Entrant)>> {
    let mut winners = Vec::new();
    for &shape in shapes {
        let place = &kernel.shapes[shape];
        let entry = elite.kernels.iter().find(|entry| {
            (&entry.package, &entry.kernel, &entry.shape) == (&kernel.package, &kernel.name, &place.name)
                && entry.device.name == device.name
                && entry.dims == place.dims.iter().cloned().collect()
        });
        let Some(winner) = entry.and_then(|entry| entry.elite.first()) else { continue };
        let variant = kernel.space.variant(&winner.toggles);
        let variant =
            variant.map_err(|error| anyhow!("elite.json, kernel `{}`: {error}; tune it again", kernel.name))?;
        let path = project.elite_path();
        let root = path.parent().unwrap_or(&path);
        winners.push((
            shape,
            match &winner.source {
                None => Entrant::Variant(variant),
                Some(record) => Entrant::Proposed(Proposed::find(kernel, record, root)?.into(), variant),
            },
        ));
    }
    if winners.is_empty() {
        let shapes: Vec<&str> = shapes.iter().map(|&shape| kernel.shapes[shape].name.as_str()).collect();
        return Err(anyhow!(
            "elite.json has no winner of `{}` at {} on {}; `cargo kbench autotune` finds one",
            kernel.name,
            crate::text::list(&shapes),
            device.name
        ));
    }
    Ok(winners)
}

//! The variant that a verb runs at each shape: the selected one, or the winner of elite.json.

use anyhow::anyhow;
use kbench_runtime::protocol::DeviceInfo;

use crate::config::{Kernel, Project};
use crate::harness::{Candidate, Proposed};
use crate::record::elite::{DeviceRecord, EliteFile};
use crate::space::Variant;

/// The candidate at each shape: the winner if there is a file, otherwise the selected variant.
pub(super) fn plan(
    elite: Option<&EliteFile>,
    asked: &Variant,
    project: &Project,
    kernel: &Kernel,
    device: &DeviceInfo,
    shapes: &[usize],
) -> anyhow::Result<Vec<(usize, Candidate)>> {
    match elite {
        Some(elite) => winners(elite, project, kernel, &device.into(), shapes),
        None => Ok(shapes.iter().map(|&shape| (shape, asked.into())).collect()),
    }
}

/// The winner at each shape for which elite.json has one.
fn winners(
    elite: &EliteFile,
    project: &Project,
    kernel: &Kernel,
    device: &DeviceRecord,
    shapes: &[usize],
) -> anyhow::Result<Vec<(usize, Candidate)>> {
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
        let source = winner.source.as_ref().map(|record| Proposed::find(kernel, record, root)).transpose()?;
        winners.push((shape, Candidate { variant, source: source.map(Into::into) }));
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

//! Sizes that do not fit, as far as the table shows it: every launch of the default variant would fail, or would leave
//! elements out.

use std::collections::HashMap;
use std::path::Path;

use kbench_runtime::driver::file;
use kbench_runtime::protocol::{Geometry, TensorSpec};

use crate::build::resolve::Point;
use crate::config::{Arg, Backend, Kernel, Launch};
use crate::expr::{Expr, Value};
use crate::gates::resources::launchable;

/// Largest size of a file that `check` reads.
const LARGEST_FILE: u64 = 1 << 30;

/// Limits that CUDA documents for every architecture.
const MOST_IN_BOX: u32 = 256;
/// Bytes of shared memory that no architecture has for a block.
const TOO_MUCH_SHARED: u32 = 227 * 1024 + 1;

/// Sizes that do not fit at some shape with the default variant: a sentence for each, in the order of the table's
/// shapes.
pub fn misfits(kernel: &Kernel) -> Vec<String> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for shape in &kernel.shapes {
        let point = Point { kernel, shape, variant: &kernel.space.default, multiprocessors: 1 };
        for misfit in at(&point) {
            match found.iter_mut().find(|(known, _)| *known == misfit) {
                Some((_, shapes)) => shapes.push(&shape.name),
                None => found.push((misfit, vec![&shape.name])),
            }
        }
    }
    found.into_iter().map(|(misfit, shapes)| format!("at {}: {misfit}", shapes.join(", "))).collect()
}

fn at(point: &Point<'_>) -> Vec<String> {
    let kernel = point.kernel;
    let mut misfits = Vec::new();
    let Ok(tensors) = point.tensors(&HashMap::new()) else { return misfits };
    misfits.extend(memory(kernel, &tensors));
    for (tensor, spec) in kernel.tensors.iter().zip(&tensors) {
        let shape = kernel.shapes.iter().position(|shape| shape.name == point.shape.name);
        if let Some((path, name)) = shape.and_then(|shape| tensor.init.file(shape))
            && let Err(why) = contents(path, name, spec)
        {
            misfits.push(format!("`{}` from {}: {why}", spec.name, path.display()));
        }
    }
    if kernel.implementation.backend == Backend::Cuda {
        for launch in point.launches(&kernel.implementation).unwrap_or_default() {
            let mut of_launch = Vec::new();
            if let Ok(geometry) = point.geometry(launch) {
                of_launch.extend(unlaunchable(&geometry));
            }
            of_launch.extend(launch.grid.iter().filter_map(|expr| rounded_down(point, expr)));
            of_launch.extend(tensor_maps(point, launch, &tensors));
            let several = kernel.implementation.launches.len() > 1;
            let named = |misfit: String| if several { format!("{}: {misfit}", launch.entry.text()) } else { misfit };
            misfits.extend(of_launch.into_iter().map(named));
        }
    }
    misfits
}

/// Checks that a file holds the tensor; an unreadable file is reported when it is used.
fn contents(path: &Path, tensor: Option<&str>, spec: &TensorSpec) -> Result<(), String> {
    if std::fs::metadata(path).map_err(|error| error.to_string())?.len() > LARGEST_FILE {
        return Ok(());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    match tensor {
        None => file::npy(&bytes, spec).map(drop),
        Some(tensor) => file::safetensors(&bytes, tensor, spec).map(drop),
    }
}

/// A C kernel's tensors lie in the memory of this machine.
fn memory(kernel: &Kernel, tensors: &[TensorSpec]) -> Option<String> {
    if kernel.implementation.backend != Backend::C || !kernel.runner().is_empty() {
        return None;
    }
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let (total, bytes): (u64, u64) = (total?, tensors.iter().map(|spec| spec.bytes() as u64).sum());
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let too_large = format!("the tensors are {:.1} GiB, this machine has {:.1} GiB", gib(bytes), gib(total * 1024));
    (bytes / 1024 > total).then_some(too_large)
}

/// Checks limits of all devices.
fn unlaunchable(geometry: &Geometry) -> Vec<String> {
    let mut misfits: Vec<String> = launchable::geometry(geometry).into_iter().map(|(_, text)| text).collect();
    if geometry.dynamic_shared >= TOO_MUCH_SHARED {
        let bytes = geometry.dynamic_shared;
        misfits.push(format!("{bytes} bytes of dynamic shared memory, more than any device gives a block"));
    }
    misfits
}

/// Finds a grid that rounds a dimension down: `N // TILE` has no block for the rest.
fn rounded_down(point: &Point<'_>, expr: &Expr) -> Option<String> {
    let text = expr.text();
    expr.names_at().find_map(|(name, range)| {
        let (_, size) = point.shape.dims.iter().find(|(dim, _)| dim == name)?;
        let before = text[..range.start].trim_end();
        let divisor = text[range.end..].trim_start().strip_prefix("//")?.trim_start();
        // Only if the dimension itself is divided.
        if !(before.is_empty() || before.ends_with(['(', ',', '+'])) {
            return None;
        }
        let end = divisor.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(divisor.len());
        let value = |name: &str| {
            let dim = point.shape.dims.iter().find(|(dim, _)| dim == name).map(|&(_, size)| Value::Int(size));
            dim.or_else(|| point.kernel.space.value(point.variant, name).cloned())
        };
        let divisor = &divisor[..end];
        let by = Expr::parse(divisor).ok()?.eval(&value).ok()?.as_integer()?;
        (by > 0 && size % by != 0).then(|| {
            format!(
                "`{name} // {divisor}` in `grid` leaves {} of {size} over; `ceil_div({name}, {divisor})` rounds up",
                size % by
            )
        })
    })
}

/// Checks a tensor map for values that the driver refuses.
fn tensor_maps(point: &Point<'_>, launch: &Launch, tensors: &[TensorSpec]) -> Vec<String> {
    let mut misfits = Vec::new();
    for arg in &launch.args {
        let Arg::TensorMap(map) = arg else { continue };
        let Ok(map) = point.tensor_map(map) else { continue };
        let (spec, swizzle) = (&tensors[map.tensor], map.swizzle);
        let name = &spec.name;
        if let Some(size) = map.r#box.iter().find(|&&size| size > MOST_IN_BOX) {
            misfits.push(format!(
                "the box of `{name}` has {size} along one dimension, at most {MOST_IN_BOX} are possible"
            ));
        }
        let bytes = |elements: u64| elements * spec.dtype.size() as u64;
        let inner = map.r#box.last().map_or(0, |&size| bytes(u64::from(size)));
        if inner % 16 != 0 {
            misfits.push(format!("a row of the box of `{name}` has {inner} bytes, no multiple of 16"));
        }
        if swizzle > 0 && inner > u64::from(swizzle) {
            misfits.push(format!("a row of the box of `{name}` has {inner} bytes, more than the swizzle of {swizzle}"));
        }
        let row = map.dims.last().map_or(0, |&size| bytes(size));
        if map.dims.len() > 1 && row % 16 != 0 {
            misfits.push(format!("a row of `{name}` has {row} bytes, no multiple of 16, which a tensor map needs"));
        }
    }
    misfits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(grid: [u32; 3], block: [u32; 3]) -> Geometry {
        Geometry { grid, block, ..Geometry::default() }
    }

    #[test]
    fn launches_that_no_device_takes() {
        assert_eq!(unlaunchable(&geometry([1 << 20, 65_535, 1], [32, 32, 1])), [""; 0]);
        let said = |grid, block| unlaunchable(&geometry(grid, block)).join("; ");
        assert_eq!(said([1; 3], [2048, 1, 1]), "a block of 2048 threads, at most 1024 can be launched");
        assert_eq!(said([1; 3], [1, 1, 128]), "128 in `block` along z, at most 64 can be launched");
        assert_eq!(said([1, 70_000, 1], [1; 3]), "70000 in `grid` along y, at most 65535 can be launched");
        let clustered = Geometry { cluster: Some([2, 1, 1]), ..geometry([3, 1, 1], [1; 3]) };
        assert_eq!(unlaunchable(&clustered), ["a grid of 3 blocks in clusters of 2: the clusters must divide it"]);
        let shared = Geometry { dynamic_shared: 300_000, ..geometry([1; 3], [1; 3]) };
        assert_eq!(unlaunchable(&shared).len(), 1);
    }
}

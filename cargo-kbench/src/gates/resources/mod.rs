//! The gate `resources`: the compiler's report and the binary, without a device.

use kbench_runtime::protocol::Geometry;

use super::{Gate, Limits, Trial, allowed};
use crate::build::occupancy::{self, Demand, compute_capability};
use crate::build::{Bounds, Resources as Used};
use crate::config::{Kernel, Level, ResourceLimits};
use crate::record::evaluation::{BuildRecord, GateName, Reason, Rejection};

pub mod launchable;

/// The gate `resources`.
pub struct Resources;

impl Gate for Resources {
    fn name(&self) -> GateName {
        GateName::Resources
    }

    fn limits(&self, kernel: &Kernel) -> Option<(Level, Vec<String>)> {
        let table = &kernel.gates.resources;
        let mut limits = Limits::default();
        limits.at_most("registers", table.max_registers);
        limits.at_most("shared bytes", table.max_shared_bytes);
        limits.at_most("spill bytes", table.max_spill_bytes);
        limits.at_most("stack bytes", table.max_stack_bytes);
        limits.at_most("code bytes", table.max_code_bytes);
        let Limits(mut words) = limits;
        words.extend(table.min_occupancy.map(|occupancy| format!("occupancy >= {occupancy}")));
        Some((table.level, words))
    }

    fn unjudged(&self, kernel: &Kernel, trial: &Trial) -> Option<String> {
        let limits = &kernel.gates.resources;
        allowed(limits.level).or_else(|| {
            let judged = |build: &BuildRecord| is_judged(limits, &build.resources);
            (!trial.evaluation.builds.iter().any(judged)).then(|| "no limits".to_owned())
        })
    }
}

/// A launch with the resources of its function.
#[derive(Debug, Clone, Copy)]
pub struct Launched<'l> {
    /// Name of the function, if the kernel has several launches.
    pub name: Option<&'l str>,
    /// Resources of the function.
    pub resources: &'l Used,
    /// The launches that its code allows.
    pub bounds: &'l Bounds,
    /// Grid, block and shared memory.
    pub geometry: &'l Geometry,
}

/// Judges one launch at one shape. If several limits are exceeded, the message names all of them, and the reason is the
/// first.
pub fn judge(limits: &ResourceLimits, launch: &Launched<'_>, arch: Option<&str>, shape: &str) -> Option<Rejection> {
    let Launched { resources, geometry, .. } = launch;
    let shared = resources.shared_bytes(geometry);
    let spills = resources.spills();
    let above = [
        (Reason::Registers, "registers", resources.registers, limits.max_registers),
        (Reason::SharedMemory, "bytes of shared memory", shared, limits.max_shared_bytes),
        (Reason::Spills, "bytes of spills", spills, limits.max_spill_bytes),
        (Reason::Stack, "bytes of stack", resources.stack, limits.max_stack_bytes),
        (Reason::CodeSize, "bytes of machine code", resources.code_bytes, limits.max_code_bytes),
    ];
    let mut findings: Vec<(Reason, String)> = above
        .into_iter()
        .filter_map(|(reason, what, value, limit)| {
            let (value, limit) = value.zip(limit)?;
            (value > limit).then(|| (reason, format!("{value} {what}, limit {limit}")))
        })
        .collect();
    let occupancy = occupancy(resources, geometry, arch);
    if let Some((occupancy, limit)) = occupancy.zip(limits.min_occupancy).filter(|(occupancy, limit)| occupancy < limit)
    {
        findings.push((Reason::Occupancy, format!("occupancy {occupancy:.3}, at least {limit} wanted")));
    }
    launch.rejection(&findings, shape)
}

/// Whether any limit applies to a value that the compiler reports. Limits of the device apply to every CUDA kernel.
pub fn is_judged(limits: &ResourceLimits, resources: &Used) -> bool {
    let pairs = [
        (limits.max_registers, resources.registers),
        (limits.max_shared_bytes, resources.static_shared),
        (limits.max_spill_bytes, resources.spills()),
        (limits.max_stack_bytes, resources.stack),
        (limits.max_code_bytes, resources.code_bytes),
    ];
    resources.registers.is_some() || pairs.iter().any(|(limit, value)| limit.and(*value).is_some())
}

/// Resources of a block; `None` for C.
pub fn demand(resources: &Used, geometry: &Geometry) -> Option<Demand> {
    let at_most = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Some(Demand {
        threads: geometry.block.iter().fold(1, |threads, &size| threads.saturating_mul(size)),
        registers: at_most(resources.registers?),
        shared_bytes: at_most(resources.shared_bytes(geometry)?),
        barriers: at_most(resources.barriers.unwrap_or_default()),
    })
}

/// Limits of the device that one launch exceeds at one shape; none for C.
pub fn refused(launch: &Launched<'_>, arch: Option<&str>, shape: &str) -> Option<Rejection> {
    let mut findings = launchable::geometry(launch.geometry);
    findings.extend(launchable::code(launch.resources, launch.geometry, arch?));
    findings.extend(launchable::bounds(launch.bounds, launch.geometry));
    launch.rejection(&findings, shape)
}

impl Launched<'_> {
    /// The reason is that of the first finding; the message names all.
    fn rejection(&self, findings: &[(Reason, String)], shape: &str) -> Option<Rejection> {
        let (reason, _) = findings.first()?;
        let message = findings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
        let message = self.name.map_or(message.clone(), |name| format!("{name}: {message}"));
        Some(Rejection::new(GateName::Resources, *reason, message, Some(shape)))
    }
}

/// Theoretical occupancy, 0 to 1; `None` for C and for unknown architectures.
pub fn occupancy(resources: &Used, geometry: &Geometry, arch: Option<&str>) -> Option<f64> {
    let demand = demand(resources, geometry)?;
    occupancy::occupancy(compute_capability(arch?)?, demand).map(occupancy::Occupancy::fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Used {
        Used {
            registers: Some(96),
            static_shared: Some(1024),
            spill_stores: Some(0),
            spill_loads: Some(0),
            stack: Some(0),
            ..Used::default()
        }
    }

    fn launched<'l>(resources: &'l Used, geometry: &'l Geometry) -> Launched<'l> {
        Launched { name: None, resources, bounds: &Bounds { block: None, cluster: None, max_cluster: None }, geometry }
    }

    fn geometry(dynamic_shared: u32) -> Geometry {
        Geometry { block: [128, 1, 1], dynamic_shared, ..Geometry::default() }
    }

    #[test]
    fn at_the_limit_passes_and_one_more_does_not() {
        let limits = ResourceLimits {
            max_registers: Some(96),
            max_shared_bytes: Some(65536),
            max_spill_bytes: Some(0),
            ..ResourceLimits::default()
        };
        assert_eq!(judge(&limits, &launched(&resources(), &geometry(65536 - 1024)), None, "s"), None);
        let shared = judge(&limits, &launched(&resources(), &geometry(65536 - 1023)), None, "s").unwrap();
        assert_eq!(shared.code, Reason::SharedMemory);
        assert_eq!(shared.message, "65537 bytes of shared memory, limit 65536");
        let spilled = Used { spill_loads: Some(4), registers: Some(97), ..resources() };
        let both = judge(&limits, &launched(&spilled, &geometry(0)), None, "s").unwrap();
        assert_eq!(both.code, Reason::Registers);
        assert_eq!(both.message, "97 registers, limit 96; 4 bytes of spills, limit 0");
    }

    #[test]
    fn occupancy_at_its_limit_passes_and_below_does_not() {
        // Blocks of 128 threads with 96 registers: five on a multiprocessor that holds 64 warps.
        let judged = |least: f64| {
            let limits = ResourceLimits { min_occupancy: Some(least), ..ResourceLimits::default() };
            judge(&limits, &launched(&resources(), &geometry(0)), Some("sm_90"), "s")
        };
        assert_eq!(judged(20.0 / 64.0), None);
        let low = judged(0.3126).unwrap();
        assert_eq!((low.code, low.message.as_str()), (Reason::Occupancy, "occupancy 0.312, at least 0.3126 wanted"));
        assert_eq!(occupancy(&resources(), &geometry(0), None), None);
    }

    #[test]
    fn what_no_device_launches_is_refused_with_the_name_of_the_launch() {
        let resources = Used { max_threads: Some(1024), ..resources() };
        let wide = Geometry { block: [2048, 1, 1], ..Geometry::default() };
        let refused = |launch: &Launched<'_>, arch| refused(launch, arch, "s").map(|rejection| rejection.message);
        let said = "a block of 2048 threads, at most 1024 can be launched";
        let compiled = "a block of 2048 threads, the code was compiled for at most 1024";
        let named = Launched { name: Some("first"), ..launched(&resources, &wide) };
        assert_eq!(refused(&named, Some("sm_90")), Some(format!("first: {said}; {compiled}")));
        assert_eq!(refused(&named, None), None, "C has no such limits");
        assert_eq!(refused(&launched(&resources, &geometry(0)), Some("sm_90")), None);
    }

    #[test]
    fn resources_that_the_compiler_does_not_report_are_not_judged() {
        let limits = ResourceLimits { max_registers: Some(1), ..ResourceLimits::default() };
        assert_eq!(judge(&limits, &launched(&Used::default(), &geometry(0)), None, "s"), None);
        assert!(!is_judged(&limits, &Used::default()));
        let of_c = Used { stack: Some(8), ..Used::default() };
        let stack = ResourceLimits { max_stack_bytes: Some(64), ..ResourceLimits::default() };
        assert!(is_judged(&stack, &of_c) && !is_judged(&limits, &of_c) && is_judged(&stack, &resources()));
    }
}

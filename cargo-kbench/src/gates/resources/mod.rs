//! Gate 1, resources: what the compiler's report and the binary say, before any device sees the kernel.

use kbench_runtime::protocol::Geometry;

use super::launchable;
use crate::build::Resources;
use crate::build::occupancy::{self, Demand, compute_capability};
use crate::config::ResourceLimits;
use crate::record::evaluation::{Gate, Reason, Rejection};

/// Judges one build at one shape. Where several limits are exceeded the message names all of them, the reason is the
/// first.
pub fn judge(
    limits: &ResourceLimits,
    resources: &Resources,
    geometry: &Geometry,
    arch: Option<&str>,
    shape: &str,
) -> Option<Rejection> {
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
    rejection(&findings, shape)
}

/// Whether any limit meets a value that the compiler reports. Limits of the device hold for every CUDA kernel.
pub fn is_judged(limits: &ResourceLimits, resources: &Resources) -> bool {
    let pairs = [
        (limits.max_registers, resources.registers),
        (limits.max_shared_bytes, resources.static_shared),
        (limits.max_spill_bytes, resources.spills()),
        (limits.max_stack_bytes, resources.stack),
        (limits.max_code_bytes, resources.code_bytes),
    ];
    resources.registers.is_some() || pairs.iter().any(|(limit, value)| limit.and(*value).is_some())
}

/// What a block needs; `None` for C.
pub fn demand(resources: &Resources, geometry: &Geometry) -> Option<Demand> {
    let at_most = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Some(Demand {
        threads: geometry.block.iter().fold(1, |threads, &size| threads.saturating_mul(size)),
        registers: at_most(resources.registers?),
        shared_bytes: at_most(resources.shared_bytes(geometry)?),
        barriers: at_most(resources.barriers.unwrap_or_default()),
    })
}

/// What no launch can pass, of one build at one shape; none of C.
pub fn refused(resources: &Resources, geometry: &Geometry, arch: Option<&str>, shape: &str) -> Option<Rejection> {
    let mut findings = launchable::geometry(geometry);
    findings.extend(launchable::code(resources, geometry, arch?));
    rejection(&findings, shape)
}

/// The reason is that of the first finding, the message names all.
fn rejection(findings: &[(Reason, String)], shape: &str) -> Option<Rejection> {
    let (reason, _) = findings.first()?;
    let message = findings.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
    Some(Rejection::new(Gate::Resources, *reason, message, Some(shape)))
}

/// Theoretical occupancy, 0 to 1; `None` for C and for architectures not known.
pub fn occupancy(resources: &Resources, geometry: &Geometry, arch: Option<&str>) -> Option<f64> {
    let demand = demand(resources, geometry)?;
    occupancy::occupancy(compute_capability(arch?)?, demand).map(occupancy::Occupancy::fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        Resources {
            registers: Some(96),
            static_shared: Some(1024),
            spill_stores: Some(0),
            spill_loads: Some(0),
            stack: Some(0),
            ..Resources::default()
        }
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
        assert_eq!(judge(&limits, &resources(), &geometry(65536 - 1024), None, "s"), None);
        let shared = judge(&limits, &resources(), &geometry(65536 - 1023), None, "s").unwrap();
        assert_eq!(shared.code, Reason::SharedMemory);
        assert_eq!(shared.message, "65537 bytes of shared memory, limit 65536");
        let spilled = Resources { spill_loads: Some(4), registers: Some(97), ..resources() };
        let both = judge(&limits, &spilled, &geometry(0), None, "s").unwrap();
        assert_eq!(both.code, Reason::Registers);
        assert_eq!(both.message, "97 registers, limit 96; 4 bytes of spills, limit 0");
    }

    #[test]
    fn what_the_compiler_does_not_report_is_not_judged() {
        let limits = ResourceLimits { max_registers: Some(1), ..ResourceLimits::default() };
        assert_eq!(judge(&limits, &Resources::default(), &geometry(0), None, "s"), None);
        assert!(!is_judged(&limits, &Resources::default()));
        let of_c = Resources { stack: Some(8), ..Resources::default() };
        let stack = ResourceLimits { max_stack_bytes: Some(64), ..ResourceLimits::default() };
        assert!(is_judged(&stack, &of_c) && !is_judged(&limits, &of_c) && is_judged(&stack, &resources()));
    }
}

//! Limits of all launches, which the resource gate tests for every table, without a GPU.
//!
//! The limits of all GPUs are from the table "Technical Specifications per Compute Capability" of the CUDA C++
//! Programming Guide; those of an architecture are from [`occupancy`](crate::build::occupancy).

use kbench_runtime::protocol::Geometry;

use super::demand;
use crate::build::occupancy::{Limit, compute_capability, multiprocessor, occupancy};
use crate::build::{Bounds, Resources};
use crate::record::evaluation::Reason;

const THREADS: u64 = 1024;
const BLOCK_Z: u32 = 64;
const GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
/// Largest cluster with the attribute for sizes that are not portable, which the worker sets.
const CLUSTER: u64 = 16;

/// Reason why no GPU can launch a block or grid of this geometry.
pub fn geometry(geometry: &Geometry) -> Vec<(Reason, String)> {
    let mut findings = Vec::new();
    let threads = product(geometry.block);
    if threads > THREADS {
        findings.push((Reason::Threads, format!("a block of {threads} threads, at most {THREADS} can be launched")));
    }
    let z = geometry.block[2];
    if z > BLOCK_Z && threads <= THREADS {
        findings.push((Reason::Threads, format!("{z} in `block` along z, at most {BLOCK_Z} can be launched")));
    }
    for ((axis, size), most) in ["x", "y", "z"].into_iter().zip(geometry.grid).zip(GRID) {
        if size > most {
            let text = format!("{size} in `grid` along {axis}, at most {most} can be launched");
            findings.push((Reason::Geometry, text));
        }
    }
    if let Some(cluster) = geometry.cluster {
        let blocks = product(cluster);
        if blocks > CLUSTER {
            findings
                .push((Reason::Geometry, format!("a cluster of {blocks} blocks, at most {CLUSTER} can be launched")));
        }
        findings.extend(undivided(geometry.grid, cluster));
    }
    findings
}

fn product(sizes: [u32; 3]) -> u64 {
    sizes.into_iter().map(u64::from).fold(1, u64::saturating_mul)
}

/// Reason why code with these resources cannot be launched, beside the findings of [`geometry`].
pub fn code(resources: &Resources, geometry: &Geometry, arch: &str) -> Vec<(Reason, String)> {
    let threads = product(geometry.block);
    let mut findings = Vec::new();
    if let Some(most) = resources.max_threads.filter(|&most| threads > most) {
        findings
            .push((Reason::Threads, format!("a block of {threads} threads, the code was compiled for at most {most}")));
    }
    let Some(capability) = compute_capability(arch) else { return findings };
    if geometry.cluster.is_some() && capability.0 < 9 {
        findings.push((Reason::Geometry, format!("{arch} has no clusters")));
    }
    let refused = demand(resources, geometry).and_then(|demand| Some((demand, occupancy(capability, demand)?)));
    let Some((demand, _)) = refused.filter(|(_, occupancy)| occupancy.blocks == 0) else { return findings };
    let most = multiprocessor(capability).map_or(0, |sm| sm.shared_per_block);
    if demand.shared_bytes > most {
        let text = format!("{} bytes of shared memory a block, {arch} has {most}", demand.shared_bytes);
        findings.push((Reason::SharedMemory, text));
    }
    let without_shared = occupancy(capability, crate::build::occupancy::Demand { shared_bytes: 0, ..demand });
    if without_shared.is_some_and(|occupancy| occupancy.blocks == 0 && occupancy.limit == Limit::Registers) {
        let text = format!("{threads} threads of {} registers, {arch} has 65536 registers", demand.registers);
        findings.push((Reason::Registers, text));
    }
    findings
}

/// Reason why code that was compiled for certain launches refuses this one.
pub fn bounds(bounds: &Bounds, geometry: &Geometry) -> Vec<(Reason, String)> {
    let by = |sizes: [u32; 3]| sizes.map(|size| size.to_string()).join(" x ");
    let mut findings = Vec::new();
    if let Some(block) = bounds.block.filter(|&block| block != geometry.block) {
        let text = format!("a block of {} threads, the code was compiled for {}", by(geometry.block), by(block));
        findings.push((Reason::Threads, text));
    }
    match (bounds.cluster, geometry.cluster) {
        (Some(cluster), None) => findings.extend(undivided(geometry.grid, cluster)),
        (Some(cluster), Some(wanted)) if wanted != cluster => {
            let text = format!("a cluster of {} blocks, the code was compiled for {}", by(wanted), by(cluster));
            findings.push((Reason::Geometry, text));
        }
        _ => {}
    }
    if let Some((most, cluster)) = bounds.max_cluster.zip(geometry.cluster)
        && product(cluster) > u64::from(most)
    {
        let blocks = product(cluster);
        let text = format!("a cluster of {blocks} blocks, the code was compiled for at most {most}");
        findings.push((Reason::Geometry, text));
    }
    findings
}

/// The finding about a grid that is no multiple of its clusters.
fn undivided(grid: [u32; 3], cluster: [u32; 3]) -> Option<(Reason, String)> {
    let at = (0..3).find(|&at| !grid[at].is_multiple_of(cluster[at]))?;
    let (grid, cluster) = (grid[at], cluster[at]);
    let text = format!("a grid of {grid} blocks in clusters of {cluster}: the clusters must divide it");
    Some((Reason::Geometry, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(grid: [u32; 3], block: [u32; 3]) -> Geometry {
        Geometry { grid, block, ..Geometry::default() }
    }

    fn codes(findings: Vec<(Reason, String)>) -> Vec<Reason> {
        findings.into_iter().map(|(code, _)| code).collect()
    }

    #[test]
    fn limits_of_all_gpus_pass_and_one_more_fails() {
        let one = [1, 1, 1];
        let of = |grid, block| codes(geometry(&launch(grid, block)));
        assert_eq!(of(one, [1024, 1, 1]), []);
        assert_eq!(of(one, [1025, 1, 1]), [Reason::Threads]);
        assert_eq!(of(one, [32, 33, 1]), [Reason::Threads]);
        assert_eq!(of(one, [1, 1, 64]), []);
        assert_eq!(of(one, [1, 1, 65]), [Reason::Threads]);
        assert_eq!(of([i32::MAX as u32, 65535, 65535], one), []);
        assert_eq!(of([1 << 31, 65536, 65536], one), [Reason::Geometry; 3]);
        assert_eq!(of(one, [u32::MAX; 3]), [Reason::Threads], "the product overflows nothing");
        let cluster = |grid, cluster| codes(geometry(&Geometry { cluster: Some(cluster), ..launch(grid, one) }));
        assert_eq!(cluster([32, 1, 1], [16, 1, 1]), []);
        assert_eq!(cluster([36, 1, 1], [18, 1, 1]), [Reason::Geometry]);
        assert_eq!(cluster([6, 1, 1], [4, 1, 1]), [Reason::Geometry]);
    }

    #[test]
    fn limits_of_an_architecture_pass_and_one_more_fails() {
        let of = |registers, shared: u32, threads, arch: &str| {
            let resources = Resources { registers: Some(registers), static_shared: Some(0), ..Resources::default() };
            codes(code(&resources, &Geometry { dynamic_shared: shared, ..launch([1; 3], [threads, 1, 1]) }, arch))
        };
        assert_eq!(of(64, 227 * 1024, 1024, "sm_90a"), []);
        assert_eq!(of(64, 227 * 1024 + 1, 1024, "sm_90a"), [Reason::SharedMemory]);
        assert_eq!(of(72, 0, 1024, "sm_90a"), [Reason::Registers]);
        assert_eq!(of(72, 227 * 1024, 1024, "sm_90a"), [Reason::Registers], "of shared memory there is just enough");
        assert_eq!(of(72, 100 * 1024, 1024, "sm_89"), [Reason::SharedMemory, Reason::Registers]);
        assert_eq!(of(72, 1 << 20, 1024, "sm_999"), [], "not known");
        let bounded = Resources { max_threads: Some(128), ..Resources::default() };
        assert_eq!(codes(code(&bounded, &launch([1; 3], [128, 1, 1]), "sm_90")), []);
        assert_eq!(codes(code(&bounded, &launch([1; 3], [160, 1, 1]), "sm_90")), [Reason::Threads]);
        let cluster = Geometry { cluster: Some([2, 1, 1]), ..launch([2, 1, 1], [32, 1, 1]) };
        assert_eq!(codes(code(&Resources::default(), &cluster, "sm_89")), [Reason::Geometry]);
        assert_eq!(codes(code(&Resources::default(), &cluster, "sm_90")), [], "the first that has them");
    }

    #[test]
    fn launches_that_the_code_was_not_compiled_for_fail() {
        let of = |bounds: Bounds, grid, block, cluster| {
            codes(super::bounds(&bounds, &Geometry { cluster, ..launch(grid, block) }))
        };
        let block = Bounds { block: Some([64, 2, 1]), ..Bounds::default() };
        assert_eq!(of(block, [1; 3], [64, 2, 1], None), []);
        assert_eq!(of(block, [1; 3], [128, 1, 1], None), [Reason::Threads], "as many threads, but otherwise");
        let cluster = Bounds { cluster: Some([2, 1, 1]), ..Bounds::default() };
        assert_eq!(of(cluster, [4, 3, 1], [32, 1, 1], None), []);
        assert_eq!(of(cluster, [3, 4, 1], [32, 1, 1], None), [Reason::Geometry]);
        assert_eq!(of(cluster, [4, 1, 1], [32, 1, 1], Some([2, 1, 1])), []);
        assert_eq!(of(cluster, [4, 1, 1], [32, 1, 1], Some([4, 1, 1])), [Reason::Geometry]);
        let most = Bounds { max_cluster: Some(2), ..Bounds::default() };
        assert_eq!(of(most, [4, 2, 1], [32, 1, 1], Some([2, 1, 1])), []);
        assert_eq!(of(most, [4, 2, 1], [32, 1, 1], Some([2, 2, 1])), [Reason::Geometry]);
        assert_eq!(of(Bounds::default(), [3, 1, 1], [32, 1, 1], None), []);
    }
}

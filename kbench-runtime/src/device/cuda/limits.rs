//! Limits of the device and the kernel, and the limits that a launch exceeds, in numbers. The driver's error for such a
//! launch is only `invalid argument`.

use cudarc::driver::sys::{CUdevice, CUdevice_attribute as Attribute, CUfunction_attribute};

use super::driver::attribute;
use super::module::CudaKernel;
use crate::protocol::Geometry;

/// Limits of a device, from the driver.
#[derive(Debug, Clone)]
pub(super) struct DeviceLimits {
    /// Compute capability.
    pub(super) capability: (u32, u32),
    /// Streaming multiprocessors.
    pub(super) multiprocessors: u32,
    /// Largest number of resident threads of a multiprocessor.
    pub(super) threads_per_multiprocessor: u32,
    /// Largest number of threads of a block.
    pub(super) threads: u32,
    /// Largest block in each dimension.
    pub(super) block: [u32; 3],
    /// Largest grid in each dimension.
    pub(super) grid: [u32; 3],
    /// Largest number of bytes of shared memory that a block may opt in to.
    pub(super) shared: u32,
    /// Whether the device has thread-block clusters.
    pub(super) clusters: bool,
    /// Whether the device has cooperative launches.
    pub(super) cooperative: bool,
    /// Whether the device has tensor maps.
    pub(super) tensor_maps: bool,
}

impl DeviceLimits {
    pub(super) fn query(device: CUdevice) -> Self {
        let get = |name| attribute(device, name);
        // Devices older than the opt-in return 0.
        let shared = get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
            .max(get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK));
        Self {
            capability: (
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            ),
            multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            threads_per_multiprocessor: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR),
            threads: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
            block: [
                get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X),
                get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y),
                get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z),
            ],
            grid: [
                get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X),
                get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y),
                get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z),
            ],
            shared,
            clusters: get(Attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH) != 0,
            cooperative: get(Attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH) != 0,
            tensor_maps: get(Attribute::CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED) != 0,
        }
    }
}

/// Limits of a compiled kernel.
#[derive(Debug, Clone)]
pub(super) struct KernelLimits {
    /// Largest number of threads of a block, by its registers and `__launch_bounds__`.
    pub(super) threads: u32,
    /// Registers of a thread.
    pub(super) registers: u32,
    /// Static shared memory in bytes.
    pub(super) shared: u32,
    /// Local memory (stack and spills) of a thread in bytes.
    pub(super) local: u32,
    /// Cluster size that the code fixes; `None` if it does not.
    pub(super) cluster: Option<[u32; 3]>,
    /// Whether it must be launched with a cluster size.
    pub(super) needs_cluster: bool,
}

impl KernelLimits {
    pub(super) fn query(kernel: &CudaKernel) -> Self {
        let get = |name| kernel.attribute(name);
        let cluster = [
            get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH),
            get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT),
            get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH),
        ];
        Self {
            threads: get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
            registers: get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_NUM_REGS),
            shared: get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES),
            local: get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES),
            cluster: cluster.iter().any(|&size| size > 0).then(|| cluster.map(|size| size.max(1))),
            needs_cluster: get(CUfunction_attribute::CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET) != 0,
        }
    }
}

/// All limits of the device or the kernel that a launch exceeds; empty if there are none.
pub(super) fn exceeded(device: &DeviceLimits, kernel: &KernelLimits, geometry: &Geometry) -> Vec<String> {
    let mut found = Vec::new();
    for (what, sizes, most) in [("grid", geometry.grid, device.grid), ("block", geometry.block, device.block)] {
        for ((axis, size), most) in ["x", "y", "z"].into_iter().zip(sizes).zip(most) {
            if size == 0 {
                found.push(format!("the {what} is 0 in {axis}"));
            } else if size > most {
                found.push(format!("a {what} of {size} in {axis} exceeds this device's {most}"));
            }
        }
    }
    let threads = product(geometry.block);
    if threads > u64::from(device.threads) {
        found.push(format!("a block of {threads} threads exceeds this device's {}", device.threads));
    } else if threads > u64::from(kernel.threads) {
        found.push(format!(
            "a block of {threads} threads exceeds the {} that this kernel can run with ({} registers a thread; see also its \
             __launch_bounds__)",
            kernel.threads, kernel.registers
        ));
    }
    let shared = u64::from(kernel.shared) + u64::from(geometry.dynamic_shared);
    if shared > u64::from(device.shared) {
        found.push(format!(
            "{shared} bytes of shared memory a block ({} static, {} dynamic) exceed this device's {}",
            kernel.shared, geometry.dynamic_shared, device.shared
        ));
    }
    if geometry.cooperative && !device.cooperative {
        found.push("this device has no cooperative launches".into());
    }
    found.extend(cluster_exceeded(device, kernel, geometry));
    found
}

fn cluster_exceeded(device: &DeviceLimits, kernel: &KernelLimits, geometry: &Geometry) -> Vec<String> {
    let mut found = Vec::new();
    let Some(cluster) = geometry.cluster else {
        if kernel.needs_cluster && kernel.cluster.is_none() {
            found.push("this kernel must be launched with a cluster size, and none is given".into());
        }
        return found;
    };
    if !device.clusters {
        let (major, minor) = device.capability;
        found.push(format!("thread-block clusters need compute capability 9.0, this device has {major}.{minor}"));
        return found;
    }
    if kernel.cluster.is_some_and(|fixed| fixed != cluster) {
        let fixed = kernel.cluster.map(sizes).unwrap_or_default();
        found.push(format!("a cluster of {} differs from the {fixed} fixed in the kernel", sizes(cluster)));
    }
    for ((axis, size), blocks) in ["x", "y", "z"].into_iter().zip(cluster).zip(geometry.grid) {
        if size == 0 {
            found.push(format!("the cluster is 0 in {axis}"));
        } else if !blocks.is_multiple_of(size) {
            found.push(format!("a grid of {blocks} in {axis} is no multiple of the cluster's {size}"));
        }
    }
    found
}

/// Blocks, threads or the like in three dimensions.
pub(super) fn product(sizes: [u32; 3]) -> u64 {
    sizes.into_iter().map(u64::from).fold(1, u64::saturating_mul)
}

fn sizes([x, y, z]: [u32; 3]) -> String {
    format!("{x}x{y}x{z}")
}

/// Description of a launch for messages.
pub(super) fn describe(kernel: &KernelLimits, geometry: &Geometry) -> String {
    let mut options = String::new();
    if let Some(cluster) = geometry.cluster {
        options = format!(", clusters of {}", sizes(cluster));
    }
    if geometry.cooperative {
        options.push_str(", cooperative");
    }
    format!(
        "a grid of {} blocks of {} threads, {} bytes of static and {} of dynamic shared memory, {} registers a thread{options}",
        sizes(geometry.grid),
        sizes(geometry.block),
        kernel.shared,
        geometry.dynamic_shared,
        kernel.registers
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hopper() -> DeviceLimits {
        DeviceLimits {
            capability: (9, 0),
            multiprocessors: 132,
            threads_per_multiprocessor: 2048,
            threads: 1024,
            block: [1024, 1024, 64],
            grid: [2_147_483_647, 65_535, 65_535],
            shared: 232_448,
            clusters: true,
            cooperative: true,
            tensor_maps: true,
        }
    }

    fn kernel() -> KernelLimits {
        KernelLimits { threads: 1024, registers: 32, shared: 0, local: 0, cluster: None, needs_cluster: false }
    }

    fn check(geometry: &Geometry) -> String {
        exceeded(&hopper(), &kernel(), geometry).join("; ")
    }

    #[test]
    fn ordinary_launches_pass() {
        let geometry =
            Geometry { grid: [1 << 20, 2, 3], block: [32, 8, 4], dynamic_shared: 232_448, ..Geometry::default() };
        assert_eq!(check(&geometry), "");
        let geometry = Geometry { grid: [8, 2, 1], cluster: Some([4, 2, 1]), cooperative: true, ..Geometry::default() };
        assert_eq!(check(&geometry), "");
    }

    #[test]
    fn too_many_threads() {
        let geometry = Geometry { block: [64, 32, 1], ..Geometry::default() };
        assert_eq!(check(&geometry), "a block of 2048 threads exceeds this device's 1024");
        let tight = KernelLimits { threads: 896, registers: 71, ..kernel() };
        let geometry = Geometry { block: [64, 16, 1], ..Geometry::default() };
        assert_eq!(
            exceeded(&hopper(), &tight, &geometry),
            [
                "a block of 1024 threads exceeds the 896 that this kernel can run with (71 registers a thread; see also its \
              __launch_bounds__)"
            ]
        );
    }

    #[test]
    fn too_much_shared_memory() {
        let kernel = KernelLimits { shared: 1024, ..kernel() };
        let geometry = Geometry { dynamic_shared: 232_448, ..Geometry::default() };
        assert_eq!(
            exceeded(&hopper(), &kernel, &geometry),
            ["233472 bytes of shared memory a block (1024 static, 232448 dynamic) exceed this device's 232448"]
        );
    }

    #[test]
    fn empty_and_oversized_dimensions() {
        let geometry = Geometry { grid: [1, 0, 70_000], block: [1, 1, 65], ..Geometry::default() };
        assert_eq!(
            check(&geometry),
            "the grid is 0 in y; a grid of 70000 in z exceeds this device's 65535; a block of 65 in z exceeds this device's 64"
        );
        let geometry = Geometry { block: [u32::MAX; 3], ..Geometry::default() };
        assert!(check(&geometry).contains("exceeds this device's 1024"));
    }

    #[test]
    fn clusters() {
        let geometry = Geometry { grid: [6, 1, 1], cluster: Some([4, 0, 1]), ..Geometry::default() };
        assert_eq!(check(&geometry), "a grid of 6 in x is no multiple of the cluster's 4; the cluster is 0 in y");
        let old = DeviceLimits { clusters: false, capability: (8, 6), ..hopper() };
        let geometry = Geometry { grid: [8, 1, 1], cluster: Some([4, 1, 1]), ..Geometry::default() };
        assert_eq!(
            exceeded(&old, &kernel(), &geometry),
            ["thread-block clusters need compute capability 9.0, this device has 8.6"]
        );
        let fixed = KernelLimits { cluster: Some([2, 1, 1]), needs_cluster: true, ..kernel() };
        assert_eq!(
            exceeded(&hopper(), &fixed, &geometry),
            ["a cluster of 4x1x1 differs from the 2x1x1 fixed in the kernel"]
        );
        assert!(exceeded(&hopper(), &fixed, &Geometry::default()).is_empty());
    }
}

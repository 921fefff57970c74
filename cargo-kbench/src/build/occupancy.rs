//! Theoretical occupancy: the number of blocks of a kernel that fit one streaming multiprocessor at once.
//!
//! The rules are those of `cuda_occupancy.h` (CUDA 13.0, NVIDIA's occupancy calculator as a header); the limits of
//! architectures are from the table "Technical Specifications per Compute Capability" of the CUDA C++ Programming
//! Guide. The largest shared-memory carveout is assumed. [`barriers`](Demand::barriers) limit from compute capability
//! 9.0 on, as there.

/// Resources of one block of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Threads of a block.
    pub threads: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Static plus dynamic shared memory in bytes, without the system's part.
    pub shared_bytes: u32,
    /// Named barriers; 0 if unknown.
    pub barriers: u32,
}

/// Occupancy of one streaming multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Occupancy {
    /// Number of resident blocks; 0 if the kernel cannot be launched.
    pub blocks: u32,
    /// Warps of the resident blocks.
    pub warps: u32,
    /// Largest number of warps of the multiprocessor.
    pub max_warps: u32,
    /// Resource that excludes another block; if there are several, the first.
    pub limit: Limit,
}

impl Occupancy {
    /// Resident warps over the largest number of warps, 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.warps) / f64::from(self.max_warps)
    }
}

/// Resource that excludes another block of a streaming multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Warp slots: full occupancy, or a block size that does not divide their number.
    Warps,
    /// Registers.
    Registers,
    /// Shared memory.
    SharedMemory,
    /// Block slots: blocks too small.
    Blocks,
    /// Named barriers.
    Barriers,
}

/// Limits of one streaming multiprocessor.
#[derive(Debug, Clone, Copy)]
pub struct Multiprocessor {
    warps: u32,
    blocks: u32,
    shared_bytes: u32,
    /// Largest shared memory that a block may opt in to, in bytes.
    pub shared_per_block: u32,
    /// Shared memory that the system takes from every block, in bytes.
    reserved: u32,
    /// Unit of allocation of shared memory, in bytes.
    granularity: u32,
    /// Number of named barriers.
    barriers: Option<u32>,
}

const REGISTERS: u32 = 64 * 1024;
const MAX_REGISTERS_PER_THREAD: u32 = 255;
const MAX_THREADS_PER_BLOCK: u32 = 1024;
const REGISTER_GRANULARITY: u32 = 256;
const PARTITIONS: u32 = 4;
const WARP: u32 = 32;

/// The limits of a compute capability; none if it is unknown.
pub fn multiprocessor((major, minor): (u32, u32)) -> Option<Multiprocessor> {
    // Compute capability; resident warps and blocks; KiB of shared memory: of all blocks, and of one; barriers for each
    // block slot.
    let (warps, blocks, shared, per_block, barriers) = match (major, minor) {
        (7, 0 | 2) => (64, 32, 96, 96, None),
        (7, 5) => (32, 16, 64, 64, None),
        (8, 0) => (64, 32, 164, 163, None),
        (8, 6) => (48, 16, 100, 99, None),
        (8, 7) => (48, 16, 164, 163, None),
        (8, 9) => (48, 24, 100, 99, None),
        (9, 0) | (10, 0 | 3) => (64, 32, 228, 227, Some(2)),
        // 10.1 is the earlier number of Thor, 11.0.
        (10, 1) | (11, 0) => (48, 24, 228, 227, Some(1)),
        (12, 0 | 1) => (48, 24, 100, 99, Some(1)),
        _ => return None,
    };
    Some(Multiprocessor {
        warps,
        blocks,
        shared_bytes: shared * 1024,
        shared_per_block: per_block * 1024,
        reserved: if major >= 8 { 1024 } else { 0 },
        granularity: if major >= 8 { 128 } else { 256 },
        barriers: barriers.map(|each| each * blocks),
    })
}

/// Major and minor of an architecture's name: `sm_90a` is 9 and 0, `sm_120` is 12 and 0.
pub fn compute_capability(arch: &str) -> Option<(u32, u32)> {
    let digits = arch.strip_prefix("sm_")?.trim_end_matches(['a', 'f']);
    let number: u32 = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    (number >= 10).then_some((number / 10, number % 10))
}

/// The occupancy of a kernel on a device of this compute capability; `None` if the architecture is unknown (the table
/// ends at 12.1) or a block has no threads.
pub fn occupancy(capability: (u32, u32), demand: Demand) -> Option<Occupancy> {
    let sm = multiprocessor(capability)?;
    if demand.threads == 0 {
        return None;
    }
    let warps = demand.threads.div_ceil(WARP);
    let by_warps = if demand.threads > MAX_THREADS_PER_BLOCK { 0 } else { sm.warps / warps };
    let by_registers = if demand.registers > MAX_REGISTERS_PER_THREAD {
        0
    } else {
        match (demand.registers * WARP).next_multiple_of(REGISTER_GRANULARITY) {
            0 => u32::MAX,
            // The launch check counts a block's warps as if they were distributed evenly over the partitions.
            warp if u64::from(warp) * u64::from(warps.next_multiple_of(PARTITIONS)) > u64::from(REGISTERS) => 0,
            warp => REGISTERS / PARTITIONS / warp * PARTITIONS / warps,
        }
    };
    let by_shared = if demand.shared_bytes > sm.shared_per_block {
        0
    } else {
        sm.shared_bytes
            .checked_div((demand.shared_bytes + sm.reserved).next_multiple_of(sm.granularity))
            .unwrap_or(u32::MAX)
    };
    let by_barriers = sm.barriers.map_or(u32::MAX, |all| all.checked_div(demand.barriers).unwrap_or(u32::MAX));
    let (blocks, limit) = [
        (by_warps, Limit::Warps),
        (by_registers, Limit::Registers),
        (by_shared, Limit::SharedMemory),
        (sm.blocks, Limit::Blocks),
        (by_barriers, Limit::Barriers),
    ]
    .into_iter()
    .min_by_key(|&(blocks, _)| blocks)?;
    Some(Occupancy { blocks, warps: blocks * warps, max_warps: sm.warps, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(capability: (u32, u32), threads: u32, registers: u32, shared_bytes: u32) -> (u32, Limit) {
        let found = occupancy(capability, Demand { threads, registers, shared_bytes, barriers: 0 }).unwrap();
        (found.blocks, found.limit)
    }

    /// Results of `cudaOccMaxActiveBlocksPerMultiprocessor` of `cuda_occupancy.h` (CUDA 13.0), with the largest
    /// carveout: compute capability, threads, registers, shared bytes, barriers; blocks.
    #[rustfmt::skip]
    const HEADER: [(u32, u32, u32, u32, u32, u32, u32); 48] = [
        (7, 0, 679, 47, 0, 2, 1), (7, 0, 732, 17, 0, 13, 2), (7, 0, 63, 101, 47002, 6, 2), (7, 0, 860, 236, 0, 13, 0),
        (7, 5, 63, 238, 64070, 10, 1), (7, 5, 216, 240, 56377, 8, 1), (7, 5, 193, 111, 25757, 9, 2), (7, 5, 270, 221, 64890, 14, 0),
        (8, 0, 133, 119, 25221, 0, 3), (8, 0, 671, 65, 0, 2, 1), (8, 0, 558, 6, 9553, 2, 3), (8, 0, 627, 203, 81042, 3, 0),
        (8, 6, 984, 49, 0, 4, 1), (8, 6, 690, 33, 30467, 0, 2), (8, 6, 165, 209, 12103, 16, 1), (8, 6, 618, 119, 0, 11, 0),
        (8, 7, 674, 74, 0, 10, 1), (8, 7, 161, 96, 0, 4, 3), (8, 7, 1019, 62, 123_886, 5, 1), (8, 7, 431, 133, 35461, 2, 0),
        (8, 9, 67, 159, 53032, 4, 1), (8, 9, 14, 106, 0, 3, 16), (8, 9, 35, 120, 0, 1, 8), (8, 9, 677, 203, 71107, 14, 0),
        (9, 0, 120, 165, 196_528, 0, 1), (9, 0, 629, 66, 0, 13, 1), (9, 0, 26, 213, 184_223, 1, 1), (9, 0, 806, 207, 0, 13, 0),
        (10, 0, 376, 65, 0, 3, 2), (10, 0, 293, 98, 108_163, 8, 1), (10, 0, 45, 31, 0, 16, 4), (10, 0, 330, 80, 233_723, 5, 0),
        (10, 3, 92, 195, 172_182, 3, 1), (10, 3, 633, 3, 113_826, 11, 2), (10, 3, 115, 49, 0, 7, 9), (10, 3, 323, 193, 0, 0, 0),
        (11, 0, 578, 4, 211_525, 5, 1), (11, 0, 388, 100, 85464, 0, 1), (11, 0, 209, 81, 101_088, 11, 2), (11, 0, 437, 254, 179_203, 15, 0),
        (12, 0, 531, 15, 90540, 7, 1), (12, 0, 209, 192, 63824, 9, 1), (12, 0, 446, 90, 0, 5, 1), (12, 0, 1027, 225, 37902, 4, 0),
        (12, 1, 356, 146, 19603, 11, 1), (12, 1, 188, 4, 60901, 14, 1), (12, 1, 44, 33, 51605, 2, 1), (12, 1, 863, 157, 39714, 11, 0),
    ];

    #[test]
    fn occupancy_equals_that_of_nvidias_header() {
        for (major, minor, threads, registers, shared_bytes, barriers, blocks) in HEADER {
            let demand = Demand { threads, registers, shared_bytes, barriers };
            assert_eq!(occupancy((major, minor), demand).unwrap().blocks, blocks, "{major}.{minor} {demand:?}");
        }
    }

    #[test]
    fn published_occupancies_are_computed() {
        // At most one block of an SM: FlashAttention-like tiles on Hopper.
        assert_eq!(blocks((9, 0), 384, 168, 200 * 1024), (1, Limit::Registers));
        assert_eq!(blocks((9, 0), 128, 48, 20480), (10, Limit::Registers));
        assert_eq!(blocks((9, 0), 256, 32, 0), (8, Limit::Warps));
        assert_eq!(blocks((9, 0), 128, 32, 65536), (3, Limit::SharedMemory));
        assert_eq!(blocks((9, 0), 32, 16, 0), (32, Limit::Blocks));
        assert_eq!(blocks((8, 6), 128, 40, 0), (12, Limit::Warps));
        assert_eq!(blocks((8, 9), 1024, 64, 0), (1, Limit::Warps));
        assert_eq!(blocks((7, 5), 256, 64, 32768), (2, Limit::SharedMemory));
        assert_eq!(blocks((12, 0), 256, 128, 99 * 1024), (1, Limit::SharedMemory));
        let full = occupancy((8, 0), Demand { threads: 256, registers: 32, ..Demand::default() }).unwrap();
        assert!((full.fraction() - 1.0).abs() < 1e-12);
        assert_eq!((full.warps, full.max_warps), (64, 64));
    }

    #[test]
    fn a_kernel_that_cannot_be_launched_has_no_occupancy() {
        // Kernel Tuner's winner for its matrix product: 71 registers x 1024 threads.
        assert_eq!(blocks((9, 0), 1024, 71, 0), (0, Limit::Registers));
        assert_eq!(blocks((9, 0), 2048, 16, 0), (0, Limit::Warps));
        assert_eq!(blocks((9, 0), 128, 16, 228 * 1024), (0, Limit::SharedMemory));
        assert_eq!(blocks((9, 0), 128, u32::MAX, 0), (0, Limit::Registers));
        assert_eq!(blocks((9, 0), 128, 16, u32::MAX), (0, Limit::SharedMemory));
        // The launch check: 5 warps with 65536 / 5 / 32 registers would fit if partitions were not counted evenly.
        assert_eq!(blocks((9, 0), 160, 255, 0), (1, Limit::Registers));
        assert_eq!(blocks((9, 0), 288, 200, 0), (0, Limit::Registers));
    }

    #[test]
    fn barriers_limit_from_hopper_on() {
        let demand = Demand { threads: 32, registers: 16, shared_bytes: 0, barriers: 16 };
        assert_eq!(occupancy((9, 0), demand).unwrap().blocks, 4);
        assert_eq!(occupancy((9, 0), demand).unwrap().limit, Limit::Barriers);
        assert_eq!(occupancy((8, 0), demand).unwrap().blocks, 32);
    }

    #[test]
    fn names_of_architectures() {
        assert_eq!(compute_capability("sm_90a"), Some((9, 0)));
        assert_eq!(compute_capability("sm_100f"), Some((10, 0)));
        assert_eq!(compute_capability("sm_121"), Some((12, 1)));
        for wrong in ["90", "sm_", "sm_9", "compute_90", "sm_+90", "sm_é"] {
            assert_eq!(compute_capability(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn unknown_architectures_are_not_guessed() {
        let demand = Demand { threads: 128, registers: 32, ..Demand::default() };
        assert_eq!(occupancy((6, 1), demand), None);
        assert_eq!(occupancy((13, 0), demand), None);
        assert_eq!(occupancy((9, 0), Demand::default()), None);
    }
}

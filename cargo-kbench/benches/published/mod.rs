//! Search spaces of published kernels, with their sizes. Parameters, constraints and counts are facts from
//! <https://github.com/AutoTuningAssociation/benchmark_hub> (MIT) and from the evaluation of Kernel Tuner's search space
//! construction (ICPP 2025); the times are of Kernel Tuner 1.5.0 with python-constraint2 2.9, Python 3.11, on two cores.

/// A space as published.
pub struct Published {
    /// The kernel.
    pub name: &'static str,
    /// Toggles with their values.
    pub toggles: Vec<(&'static str, Vec<i64>)>,
    /// Expressions that must be true.
    pub constraints: Vec<&'static str>,
    /// Points of the product.
    pub cartesian: u128,
    /// Points that satisfy the constraints.
    pub valid: u128,
    /// What Kernel Tuner takes to build it, in milliseconds; only the benchmark needs it.
    #[allow(dead_code, reason = "the tests are about counts")]
    pub kernel_tuner_ms: f64,
}

fn up_to(last: i64) -> Vec<i64> {
    (1..=last).collect()
}

fn powers(first: i64, last: i64) -> Vec<i64> {
    std::iter::successors(Some(first), |value| Some(value * 2)).take_while(|&value| value <= last).collect()
}

fn multiples(of: i64, first: i64, last: i64) -> Vec<i64> {
    (first..=last).filter(|value| value % of == 0).collect()
}

/// The eight that Kernel Tuner was measured on.
pub fn all() -> Vec<Published> {
    vec![
        convolution_milo(),
        dedispersion_milo(),
        gemm_milo(),
        hotspot_milo(),
        expdist(),
        hotspot(),
        microhh(),
        gaussian(),
    ]
}

fn convolution_milo() -> Published {
    Published {
        name: "convolution_milo",
        toggles: vec![
            ("block_size_x", multiples(16, 16, 256)),
            ("block_size_y", powers(1, 16)),
            ("tile_size_x", up_to(4)),
            ("tile_size_y", up_to(4)),
            ("read_only", vec![0, 1]),
            ("use_padding", vec![0, 1]),
            ("use_shmem", vec![0, 1]),
            ("use_cmem", vec![1]),
            ("filter_height", vec![15]),
            ("filter_width", vec![15]),
        ],
        constraints: vec![
            "use_padding == 0 or block_size_x % 32 != 0",
            "block_size_x * block_size_y <= 1024",
            "use_padding == 0 or use_shmem != 0",
            "use_shmem == 0 or (block_size_x * tile_size_x + (filter_width - 1)) \
             * (block_size_y * tile_size_y + (filter_height - 1)) < 12 * 1024",
        ],
        cartesian: 10_240,
        valid: 4_362,
        kernel_tuner_ms: 7.2,
    }
}

fn dedispersion_milo() -> Published {
    Published {
        name: "dedispersion_milo",
        toggles: vec![
            ("block_size_x", powers(1, 32)),
            ("block_size_y", multiples(8, 32, 256)),
            ("block_size_z", vec![1]),
            ("tile_size_x", up_to(4)),
            ("tile_size_y", up_to(8)),
            ("tile_stride_x", vec![0, 1]),
            ("tile_stride_y", vec![0, 1]),
            ("loop_unroll_factor_channel", vec![0]),
        ],
        constraints: vec![
            "32 <= block_size_x * block_size_y <= 1024",
            "tile_size_x > 1 or tile_stride_x == 0",
            "tile_size_y > 1 or tile_stride_y == 0",
        ],
        cartesian: 22_272,
        valid: 11_130,
        kernel_tuner_ms: 16.0,
    }
}

fn gemm_milo() -> Published {
    Published {
        name: "gemm_milo",
        toggles: vec![
            ("GEMMK", vec![0]),
            ("MWG", powers(16, 128)),
            ("NWG", powers(16, 128)),
            ("KWG", powers(16, 32)),
            ("MDIMC", powers(8, 32)),
            ("NDIMC", powers(8, 32)),
            ("MDIMA", powers(8, 32)),
            ("NDIMB", powers(8, 32)),
            ("KWI", vec![2]),
            ("VWM", powers(1, 8)),
            ("VWN", powers(1, 8)),
            ("STRM", vec![0, 1]),
            ("STRN", vec![0, 1]),
            ("SA", vec![0, 1]),
            ("SB", vec![0, 1]),
            ("KREG", vec![1]),
            ("PRECISION", vec![32]),
        ],
        constraints: vec![
            "KWG % KWI == 0",
            "MWG % (MDIMC * VWM) == 0",
            "NWG % (NDIMC * VWN) == 0",
            "MWG % (MDIMA * VWM) == 0",
            "NWG % (NDIMB * VWN) == 0",
            "KWG % ((MDIMC * NDIMC) / MDIMA) == 0",
            "KWG % ((MDIMC * NDIMC) / NDIMB) == 0",
            "not (MWG == 128 and NWG == 128 and MDIMC == 8 and NDIMC == 8)",
        ],
        cartesian: 663_552,
        valid: 116_928,
        kernel_tuner_ms: 231.0,
    }
}

fn hotspot_milo() -> Published {
    Published {
        name: "hotspot_milo",
        toggles: vec![
            ("grid_width", vec![4096]),
            ("grid_height", vec![4096]),
            ("block_size_x", [powers(1, 16), multiples(32, 32, 1024)].concat()),
            ("block_size_y", powers(1, 32)),
            ("tile_size_x", up_to(10)),
            ("tile_size_y", up_to(10)),
            ("temporal_tiling_factor", up_to(10)),
            ("max_tfactor", vec![10]),
            ("loop_unroll_factor_t", up_to(10)),
            ("sh_power", vec![0, 1]),
        ],
        constraints: vec![
            "block_size_x * block_size_y >= 32",
            "temporal_tiling_factor % loop_unroll_factor_t == 0",
            "block_size_x * block_size_y <= 1024",
            "(block_size_x * tile_size_x + temporal_tiling_factor * 2) \
             * (block_size_y * tile_size_y + temporal_tiling_factor * 2) * (2 + sh_power) * 4 <= 49152",
        ],
        cartesian: 4_440_000,
        valid: 82_984,
        kernel_tuner_ms: 343.0,
    }
}

fn hotspot() -> Published {
    let mut space = hotspot_milo();
    space.toggles.push(("blocks_per_sm", vec![0, 1, 2, 3, 4]));
    space.constraints.push(
        "blocks_per_sm == 0 or (block_size_x * tile_size_x + temporal_tiling_factor * 2) \
         * (block_size_y * tile_size_y + temporal_tiling_factor * 2) * (2 + sh_power) * 4 * blocks_per_sm <= 102400",
    );
    Published { name: "hotspot", cartesian: 22_200_000, valid: 349_853, kernel_tuner_ms: 1330.0, ..space }
}

/// Kernel Tuner adds the limit of 1024 threads by itself.
fn expdist() -> Published {
    Published {
        name: "expdist",
        toggles: vec![
            ("block_size_x", powers(32, 1024).into_iter().rev().collect()),
            ("block_size_y", powers(1, 32)),
            ("tile_size_x", up_to(8)),
            ("tile_size_y", up_to(8)),
            ("use_shared_mem", vec![0, 1, 2]),
            ("loop_unroll_factor_x", up_to(8)),
            ("loop_unroll_factor_y", up_to(8)),
            ("use_column", vec![0, 1]),
            ("use_separate_acc", vec![0]),
            ("n_y_blocks", powers(1, 1024)),
        ],
        constraints: vec![
            "use_column != 0 or n_y_blocks <= 1",
            "use_column != 0 or use_shared_mem != 2",
            "loop_unroll_factor_x <= tile_size_x and tile_size_x % loop_unroll_factor_x == 0",
            "loop_unroll_factor_y <= tile_size_y and tile_size_y % loop_unroll_factor_y == 0",
            "block_size_x * block_size_y <= 1024",
        ],
        cartesian: 9_732_096,
        valid: 294_000,
        kernel_tuner_ms: 600.0,
    }
}

fn microhh() -> Published {
    Published {
        name: "microhh",
        toggles: vec![
            ("BLOCK_SIZE_X", [powers(1, 32), powers(128, 1024)].concat()),
            ("BLOCK_SIZE_Y", powers(1, 32)),
            ("BLOCK_SIZE_Z", powers(1, 4)),
            ("STATIC_STRIDES", vec![0]),
            ("TILING_FACTOR_X", powers(1, 8)),
            ("TILING_FACTOR_Y", powers(1, 4)),
            ("TILING_FACTOR_Z", powers(1, 4)),
            ("TILING_STRATEGY", vec![0]),
            ("REWRITE_INTERP", vec![0]),
            ("BLOCKS_PER_MP", vec![0, 1, 2, 3, 4]),
            ("LOOP_UNROLL_FACTOR_X", powers(1, 8)),
            ("LOOP_UNROLL_FACTOR_Y", powers(1, 4)),
            ("LOOP_UNROLL_FACTOR_Z", powers(1, 4)),
        ],
        constraints: vec![
            "BLOCK_SIZE_X * BLOCK_SIZE_Y * BLOCK_SIZE_Z * BLOCKS_PER_MP <= 1024",
            "32 <= BLOCK_SIZE_X * BLOCK_SIZE_Y * BLOCK_SIZE_Z <= 1536",
            "LOOP_UNROLL_FACTOR_X == 0 or TILING_FACTOR_X % LOOP_UNROLL_FACTOR_X == 0",
            "LOOP_UNROLL_FACTOR_Y == 0 or TILING_FACTOR_Y % LOOP_UNROLL_FACTOR_Y == 0",
            "LOOP_UNROLL_FACTOR_Z == 0 or TILING_FACTOR_Z % LOOP_UNROLL_FACTOR_Z == 0",
            "BLOCK_SIZE_X * TILING_FACTOR_X > 0",
            "BLOCK_SIZE_Y * TILING_FACTOR_Y > 0",
            "BLOCK_SIZE_Z * TILING_FACTOR_Z > 0",
        ],
        cartesian: 1_166_400,
        valid: 138_600,
        kernel_tuner_ms: 410.0,
    }
}

/// ATF's Gaussian convolution, on 8 x 8 elements.
fn gaussian() -> Published {
    Published {
        name: "gaussian",
        toggles: vec![
            ("CACHE_L_CB", vec![0, 1]),
            ("CACHE_P_CB", vec![0, 1]),
            ("G_CB_RES_DEST_LEVEL", vec![2]),
            ("L_CB_RES_DEST_LEVEL", vec![2, 1, 0]),
            ("P_CB_RES_DEST_LEVEL", vec![2, 1, 0]),
            ("INPUT_SIZE_L_1", vec![8]),
            ("L_CB_SIZE_L_1", up_to(8)),
            ("P_CB_SIZE_L_1", up_to(8)),
            ("OCL_DIM_L_1", vec![0, 1]),
            ("NUM_WG_L_1", up_to(8)),
            ("NUM_WI_L_1", up_to(8)),
            ("INPUT_SIZE_L_2", vec![8]),
            ("L_CB_SIZE_L_2", up_to(8)),
            ("P_CB_SIZE_L_2", up_to(8)),
            ("OCL_DIM_L_2", vec![0, 1]),
            ("NUM_WG_L_2", up_to(8)),
            ("NUM_WI_L_2", up_to(8)),
            ("L_REDUCTION", vec![1]),
            ("P_WRITE_BACK", vec![0]),
            ("L_WRITE_BACK", vec![2]),
        ],
        constraints: vec![
            "L_CB_RES_DEST_LEVEL <= G_CB_RES_DEST_LEVEL",
            "P_CB_RES_DEST_LEVEL <= L_CB_RES_DEST_LEVEL",
            "INPUT_SIZE_L_1 % L_CB_SIZE_L_1 == 0",
            "L_CB_SIZE_L_1 % P_CB_SIZE_L_1 == 0",
            "(INPUT_SIZE_L_1 / L_CB_SIZE_L_1) % NUM_WG_L_1 == 0",
            "(L_CB_SIZE_L_1 / P_CB_SIZE_L_1) % NUM_WI_L_1 == 0",
            "NUM_WI_L_1 <= INPUT_SIZE_L_1 + NUM_WG_L_1 - 1 / NUM_WG_L_1",
            "INPUT_SIZE_L_2 % L_CB_SIZE_L_2 == 0",
            "L_CB_SIZE_L_2 % P_CB_SIZE_L_2 == 0",
            "OCL_DIM_L_2 != OCL_DIM_L_1",
            "(INPUT_SIZE_L_2 / L_CB_SIZE_L_2) % NUM_WG_L_2 == 0",
            "(L_CB_SIZE_L_2 / P_CB_SIZE_L_2) % NUM_WI_L_2 == 0",
            "NUM_WI_L_2 <= INPUT_SIZE_L_2 + NUM_WG_L_2 - 1 / NUM_WG_L_2",
        ],
        cartesian: 2_415_919_104,
        valid: 58_800,
        kernel_tuner_ms: 147.0,
    }
}

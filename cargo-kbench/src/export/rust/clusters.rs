/// Launches a function in clusters of blocks.
///
/// # Safety
///
/// Each argument points to a value of the type that the function takes there.
unsafe fn launch_in_clusters(
    stream: &CudaStream,
    function: &CudaFunction,
    config: LaunchConfig,
    (x, y, z): (u32, u32, u32),
    is_cooperative: bool,
    arguments: &mut [*mut std::ffi::c_void],
) -> Result<(), DriverError> {
    use sys::CUlaunchAttributeID_enum as Id;
    let attribute = |id, value| sys::CUlaunchAttribute { id, pad: [0; 4], value };
    let mut cluster = sys::CUlaunchAttributeValue { pad: [0; 64] };
    cluster.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x, y, z };
    let mut cooperative = sys::CUlaunchAttributeValue { pad: [0; 64] };
    cooperative.cooperative = i32::from(is_cooperative);
    let mut attributes = [
        attribute(Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, cluster),
        attribute(Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE, cooperative),
    ];
    // More than 8 blocks a cluster have to be asked for.
    if u64::from(x) * u64::from(y) * u64::from(z) > 8 {
        let allowed = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
        function.set_attribute(allowed, 1)?;
    }
    let config = sys::CUlaunchConfig {
        gridDimX: config.grid_dim.0,
        gridDimY: config.grid_dim.1,
        gridDimZ: config.grid_dim.2,
        blockDimX: config.block_dim.0,
        blockDimY: config.block_dim.1,
        blockDimZ: config.block_dim.2,
        sharedMemBytes: config.shared_mem_bytes,
        hStream: stream.cu_stream(),
        attrs: attributes.as_mut_ptr(),
        numAttrs: if is_cooperative { 2 } else { 1 },
    };
    stream.context().bind_to_thread()?;
    // SAFETY: the caller's; the configuration and its attributes live during the call.
    unsafe {
        sys::cuLaunchKernelEx(&raw const config, function.cu_function(), arguments.as_mut_ptr(), std::ptr::null_mut())
            .result()
    }
}


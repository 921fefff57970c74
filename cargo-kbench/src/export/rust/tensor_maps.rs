/// A tensor map by value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct TensorMap(sys::CUtensorMap);

// SAFETY: it is plain data that the driver reads.
unsafe impl DeviceRepr for TensorMap {}

/// A row-major map of a tensor; sizes and box with the innermost dimension first.
fn tensor_map<const R: usize>(
    (data_type, size): (sys::CUtensorMapDataType, u64),
    address: sys::CUdeviceptr,
    (dims, sides): ([u64; R], [u32; R]),
    swizzle: sys::CUtensorMapSwizzle,
) -> Result<TensorMap, Error> {
    let mut strides = [0; R];
    let mut bytes = size;
    for (stride, dim) in strides.iter_mut().zip(dims) {
        bytes = bytes.checked_mul(dim).ok_or(Error::Sizes)?;
        *stride = bytes;
    }
    let mut map = TensorMap(sys::CUtensorMap { opaque: [0; 16] });
    // SAFETY: the map is valid for writes, and each array holds as many values as the rank says.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut map.0,
            data_type,
            u32::try_from(R).map_err(|_| Error::Sizes)?,
            std::ptr::with_exposed_provenance_mut(usize::try_from(address).map_err(|_| Error::Sizes)?),
            dims.as_ptr(),
            strides.as_ptr(),
            sides.as_ptr(),
            [1; R].as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        .result()?;
    }
    Ok(map)
}


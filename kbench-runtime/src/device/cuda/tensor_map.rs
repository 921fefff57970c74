//! Tiled tensor maps (TMA descriptors).

use cudarc::driver::sys::{
    self, CUtensorMap, CUtensorMapDataType_enum as DataType, CUtensorMapFloatOOBfill_enum as OutOfBounds,
    CUtensorMapInterleave_enum as Interleave, CUtensorMapL2promotion_enum as Promotion,
    CUtensorMapSwizzle_enum as Swizzle,
};

use super::error::check;
use super::memory::CudaBuffer;
use crate::data::dtype::DType;
use crate::protocol::{Failure, TensorMap};

/// Size of a `CUtensorMap`.
pub(super) const BYTES: usize = size_of::<CUtensorMap>();

/// Parameters of a map for the driver: innermost dimension first, strides in bytes of all other dimensions.
#[derive(Debug, PartialEq)]
struct Layout {
    dims: Vec<u64>,
    strides: Vec<u64>,
    r#box: Vec<u32>,
    swizzle: Swizzle,
}

/// Encodes a map of the tensor of `bytes` bytes that lies `offset` bytes into `buffer`: row-major, element strides of 1, elements outside the tensor
/// read as zero, 128-byte L2 promotion.
pub(super) fn encode(
    buffer: &CudaBuffer,
    offset: usize,
    bytes: usize,
    dtype: DType,
    map: &TensorMap,
) -> Result<Vec<u8>, Failure> {
    let layout = layout(dtype, map, bytes as u64).map_err(|message| Failure::LaunchRefused { message })?;
    let address = buffer.range(offset, bytes)?;
    let ones = [1u32; 5];
    let mut encoded = CUtensorMap { opaque: [0; 16] };
    // SAFETY: `encoded` is valid for writes and aligned as its type; each array holds as many values as the rank asks for.
    check(unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut encoded,
            data_type(dtype),
            layout.dims.len() as u32,
            std::ptr::with_exposed_provenance_mut(address as usize),
            layout.dims.as_ptr(),
            layout.strides.as_ptr(),
            layout.r#box.as_ptr(),
            ones.as_ptr(),
            Interleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            layout.swizzle,
            Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            OutOfBounds::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    })
    .map_err(|error| Failure::LaunchRefused {
        message: format!("{} for {}, address {address:#x}", error.words(), describe(dtype, map)),
    })?;
    Ok(encoded.opaque.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

fn describe(dtype: DType, map: &TensorMap) -> String {
    format!("a tensor map of {dtype}, dims {:?}, box {:?}, swizzle {} bytes", map.dims, map.r#box, map.swizzle)
}

/// Checks the parameters, since the driver's errors have no details or are missing.
fn layout(dtype: DType, map: &TensorMap, tensor: u64) -> Result<Layout, String> {
    let refuse = |why: String| Err(format!("{}: {why}", describe(dtype, map)));
    let rank = map.dims.len();
    if !(1..=5).contains(&rank) || map.r#box.len() != rank {
        return refuse(format!(
            "{rank} dims and {} box sizes; 1 to 5 are possible, the same number of each",
            map.r#box.len()
        ));
    }
    let swizzle = match map.swizzle {
        0 => Swizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
        32 => Swizzle::CU_TENSOR_MAP_SWIZZLE_32B,
        64 => Swizzle::CU_TENSOR_MAP_SWIZZLE_64B,
        128 => Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
        _ => return refuse("the swizzle must be 0, 32, 64 or 128 bytes".into()),
    };
    let dims: Vec<u64> = map.dims.iter().rev().copied().collect();
    let r#box: Vec<u32> = map.r#box.iter().rev().copied().collect();
    let size = dtype.size() as u64;
    let mut strides = Vec::with_capacity(rank);
    let mut bytes = size;
    for &dim in &dims {
        let Some(next) = bytes.checked_mul(dim).filter(|&next| next > 0) else {
            return refuse("a dimension is 0, or the sizes overflow".into());
        };
        bytes = next;
        strides.push(bytes);
    }
    strides.pop();
    if bytes > tensor {
        return refuse(format!("its {bytes} bytes exceed the tensor's {tensor}"));
    }
    if let Some(stride) = strides.iter().find(|stride| !stride.is_multiple_of(16)) {
        return refuse(format!("a stride of {stride} bytes is no multiple of 16"));
    }
    if let Some(size) = r#box.iter().find(|&&size| !(1..=256).contains(&size)) {
        return refuse(format!("a box size of {size} is not in 1 to 256"));
    }
    let inner = u64::from(r#box[0]) * size;
    if !inner.is_multiple_of(16) {
        return refuse(format!("the box's innermost {inner} bytes are no multiple of 16"));
    }
    if map.swizzle != 0 && inner > u64::from(map.swizzle) {
        return refuse(format!("the box's innermost {inner} bytes exceed the swizzle's {}", map.swizzle));
    }
    Ok(Layout { dims, strides, r#box, swizzle })
}

fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::F64 => DataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
        DType::F32 => DataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        DType::F16 => DataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        DType::Bf16 => DataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        DType::F8e4m3 | DType::F8e5m2 | DType::I8 | DType::U8 => DataType::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        DType::I16 | DType::U16 => DataType::CU_TENSOR_MAP_DATA_TYPE_UINT16,
        DType::I32 => DataType::CU_TENSOR_MAP_DATA_TYPE_INT32,
        DType::U32 => DataType::CU_TENSOR_MAP_DATA_TYPE_UINT32,
        DType::I64 => DataType::CU_TENSOR_MAP_DATA_TYPE_INT64,
        DType::U64 => DataType::CU_TENSOR_MAP_DATA_TYPE_UINT64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(dims: &[u64], r#box: &[u32], swizzle: u32) -> TensorMap {
        TensorMap { tensor: 0, dims: dims.to_vec(), r#box: r#box.to_vec(), swizzle }
    }

    #[test]
    fn the_order_is_reversed() {
        let layout = layout(DType::F16, &map(&[4, 512, 64], &[1, 128, 64], 128), 262_144).unwrap();
        assert_eq!(
            layout,
            Layout {
                dims: vec![64, 512, 4],
                strides: vec![128, 65_536],
                r#box: vec![64, 128, 1],
                swizzle: Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            }
        );
        assert_eq!(BYTES, 128);
    }

    #[test]
    fn refusals_of_tensor_maps_have_a_reason() {
        let why = |map: &TensorMap| layout(DType::F32, map, u64::MAX).unwrap_err();
        assert_eq!(
            why(&map(&[8, 6], &[8, 4], 0)),
            "a tensor map of f32, dims [8, 6], box [8, 4], swizzle 0 bytes: a stride of 24 bytes is no multiple of 16"
        );
        assert!(why(&map(&[8, 64], &[8], 0)).contains("2 dims and 1 box sizes"));
        assert!(why(&map(&[], &[], 0)).contains("1 to 5"));
        assert!(why(&map(&[8, 64], &[8, 64], 128)).contains("256 bytes exceed the swizzle's 128"));
        assert!(why(&map(&[8, 64], &[8, 32], 48)).contains("must be 0, 32, 64 or 128"));
        assert!(why(&map(&[8, 64], &[8, 3], 0)).contains("12 bytes are no multiple"));
        assert!(why(&map(&[0, 64], &[8, 4], 0)).contains("a dimension is 0"));
        assert!(why(&map(&[u64::MAX, 64], &[8, 4], 0)).contains("overflow"));
        assert!(why(&map(&[512, 64], &[257, 4], 0)).contains("257"));
        let beyond = layout(DType::F32, &map(&[8, 64], &[8, 4], 0), 2047).unwrap_err();
        assert!(beyond.ends_with("its 2048 bytes exceed the tensor's 2047"), "{beyond}");
    }
}

//! Tensors from files: `.npy`, and one tensor of a `.safetensors`. Element type and shape must be the tensor's own.

use safetensors::{Dtype, SafeTensors};

use crate::data::dtype::DType;
use crate::protocol::TensorSpec;

/// The data of a `.npy` file: format 1 to 3, little endian, C order.
///
/// `NumPy` has no 8-bit floats and no bf16, so for those an unsigned integer or void type of the same size is taken as their bits.
pub fn npy(file: &[u8], spec: &TensorSpec) -> Result<Vec<u8>, String> {
    let cut = || "not a .npy file: it is cut short".to_owned();
    let rest = file.strip_prefix(b"\x93NUMPY").ok_or("not a .npy file: it does not start with \\x93NUMPY")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [major, _, ..] if *major > 3 || *major == 0 => return Err(format!("unknown .npy format {major}")),
        _ => return Err(cut()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| "the .npy header is not text")?;
    let descr = entry(header, "descr").and_then(quoted).ok_or("the .npy header names no element type")?;
    let order = entry(header, "fortran_order").ok_or("the .npy header names no order")?;
    let shape = entry(header, "shape").and_then(tuple).ok_or("the .npy header names no shape")?;
    let fortran = order.starts_with("True");
    if fortran && shape.iter().filter(|dim| **dim != 1).count() > 1 {
        return Err("the file is in Fortran order; save it with numpy.ascontiguousarray".into());
    }
    if !is_type(descr, spec.dtype) {
        return Err(format!("the file holds `{descr}`, the tensor is {}", spec.dtype));
    }
    same_shape(&shape, spec)?;
    whole(data, spec)
}

/// The value of a key in the Python dictionary of a .npy header.
fn entry<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    ['\'', '"'].iter().find_map(|quote| {
        let (_, rest) = header.split_once(&format!("{quote}{key}{quote}"))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    })
}

fn quoted(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    value[1..].split_once(quote).map(|(inside, _)| inside)
}

fn tuple(value: &str) -> Option<Vec<u64>> {
    let (inside, _) = value.strip_prefix('(')?.split_once(')')?;
    inside.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(|dim| dim.parse().ok()).collect()
}

fn is_type(descr: &str, dtype: DType) -> bool {
    let (order, kind) = match descr.chars().next() {
        Some(order @ ('<' | '>' | '|' | '=')) => (order, &descr[1..]),
        _ => ('=', descr),
    };
    if order == '>' && dtype.size() > 1 {
        return false;
    }
    let kinds: &[&str] = match dtype {
        DType::F64 => &["f8"],
        DType::F32 => &["f4"],
        DType::F16 => &["f2"],
        DType::Bf16 => &["u2", "V2"],
        DType::F8e4m3 | DType::F8e5m2 => &["u1", "V1"],
        DType::I8 => &["i1"],
        DType::I16 => &["i2"],
        DType::I32 => &["i4"],
        DType::I64 => &["i8"],
        DType::U8 => &["u1"],
        DType::U16 => &["u2"],
        DType::U32 => &["u4"],
        DType::U64 => &["u8"],
    };
    kinds.contains(&kind)
}

/// The data of one tensor of a `.safetensors` file.
pub fn safetensors(file: &[u8], tensor: &str, spec: &TensorSpec) -> Result<Vec<u8>, String> {
    let tensors = SafeTensors::deserialize(file).map_err(|error| format!("not a .safetensors file: {error}"))?;
    let view = tensors.tensor(tensor).map_err(|_| {
        let mut names = tensors.names();
        names.sort_unstable();
        format!("the file has no tensor `{tensor}`; it has {}", names.join(", "))
    })?;
    let dtype = match view.dtype() {
        Dtype::F64 => Some(DType::F64),
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::Bf16),
        Dtype::F8_E4M3 => Some(DType::F8e4m3),
        Dtype::F8_E5M2 => Some(DType::F8e5m2),
        Dtype::I8 => Some(DType::I8),
        Dtype::I16 => Some(DType::I16),
        Dtype::I32 => Some(DType::I32),
        Dtype::I64 => Some(DType::I64),
        Dtype::U8 => Some(DType::U8),
        Dtype::U16 => Some(DType::U16),
        Dtype::U32 => Some(DType::U32),
        Dtype::U64 => Some(DType::U64),
        _ => None,
    };
    if dtype != Some(spec.dtype) {
        return Err(format!("the file holds {:?}, the tensor is {}", view.dtype(), spec.dtype));
    }
    let shape: Vec<u64> = view.shape().iter().map(|dim| *dim as u64).collect();
    same_shape(&shape, spec)?;
    whole(view.data(), spec)
}

fn same_shape(shape: &[u64], spec: &TensorSpec) -> Result<(), String> {
    if shape == spec.dims {
        return Ok(());
    }
    Err(format!("the file's shape is {shape:?}, the tensor's {:?}", spec.dims))
}

fn whole(data: &[u8], spec: &TensorSpec) -> Result<Vec<u8>, String> {
    if data.len() == spec.bytes() {
        return Ok(data.to_vec());
    }
    Err(format!("the file holds {} bytes of data, the tensor {}", data.len(), spec.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Role, Source};
    use safetensors::tensor::{TensorView, serialize};

    fn spec(dtype: DType, dims: &[u64]) -> TensorSpec {
        TensorSpec { name: "t".into(), dtype, dims: dims.to_vec(), role: Role::In, source: Source::None }
    }

    /// In the format of numpy.save.
    fn saved(major: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut file = b"\x93NUMPY".to_vec();
        file.extend([major, 0]);
        let prefix = if major == 1 { 10 } else { 12 };
        let mut header = header.to_owned();
        while !(prefix + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        if major == 1 {
            file.extend((header.len() as u16).to_le_bytes());
        } else {
            file.extend((header.len() as u32).to_le_bytes());
        }
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn npy_files_of_each_format() {
        let data: Vec<u8> = (0..24).collect();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        for major in 1..=3 {
            assert_eq!(npy(&saved(major, header, &data), &spec(DType::F32, &[2, 3])), Ok(data.clone()));
        }
        let vector = "{'descr': '|u1', 'fortran_order': False, 'shape': (24,), }";
        for dtype in [DType::U8, DType::F8e4m3] {
            assert_eq!(npy(&saved(1, vector, &data), &spec(dtype, &[24])), Ok(data.clone()));
        }
        let scalar = "{'descr': '<i8', 'fortran_order': False, 'shape': (), }";
        assert_eq!(npy(&saved(1, scalar, &data[..8]), &spec(DType::I64, &[])), Ok(data[..8].to_vec()));
    }

    #[test]
    fn npy_files_that_do_not_fit() {
        let refused = |header: &str, data: &[u8], dtype, dims: &[u64]| {
            npy(&saved(1, header, data), &spec(dtype, dims)).unwrap_err()
        };
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert!(refused(header, &[0; 24], DType::F16, &[2, 3]).contains("`<f4`, the tensor is f16"));
        assert!(refused(header, &[0; 24], DType::F32, &[3, 2]).contains("shape is [2, 3]"));
        assert!(refused(header, &[0; 20], DType::F32, &[2, 3]).contains("20 bytes"));
        let fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
        assert!(refused(fortran, &[0; 24], DType::F32, &[2, 3]).contains("Fortran"));
        let big = "{'descr': '>f4', 'fortran_order': False, 'shape': (6,), }";
        assert!(refused(big, &[0; 24], DType::F32, &[6]).contains("`>f4`"));
        let whole = saved(1, header, &[0; 24]);
        for length in 0..whole.len() {
            assert!(npy(&whole[..length], &spec(DType::F32, &[2, 3])).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn safetensors_are_found_by_name() {
        let data: Vec<u8> = (0..12).collect();
        let view = TensorView::new(Dtype::BF16, vec![2, 3], &data).unwrap();
        let file = serialize([("weights", view)], None).unwrap();
        assert_eq!(safetensors(&file, "weights", &spec(DType::Bf16, &[2, 3])), Ok(data));
        assert!(safetensors(&file, "weight", &spec(DType::Bf16, &[2, 3])).unwrap_err().contains("it has weights"));
        assert!(safetensors(&file, "weights", &spec(DType::F16, &[2, 3])).unwrap_err().contains("BF16"));
        assert!(safetensors(&file, "weights", &spec(DType::Bf16, &[6])).unwrap_err().contains("shape"));
        assert!(safetensors(&file[..9], "weights", &spec(DType::Bf16, &[6])).is_err());
    }
}

//! Arguments of a launch: their bytes in stable storage, checked against the kernel's own parameters.

use std::ffi::c_void;

use super::memory::CudaBuffer;
use super::tensor_map;
use crate::device::BoundArg;
use crate::protocol::Failure;

/// The widest alignment a parameter needs, a tensor map's.
#[repr(C, align(128))]
#[derive(Clone, Copy)]
struct Chunk([u8; 128]);

/// Argument bytes, and the array of their addresses for the driver.
pub(super) struct Params {
    /// The bytes; never modified, so that the addresses stay valid when `self` moves.
    _chunks: Vec<Chunk>,
    pointers: Vec<*mut c_void>,
}

impl Params {
    fn new(values: &[Vec<u8>]) -> Self {
        let mut chunks = Vec::new();
        let mut starts = Vec::new();
        for value in values {
            starts.push(chunks.len());
            // A parameter without bytes has an address too.
            for part in value.chunks(128).chain(value.is_empty().then_some(&[][..])) {
                let mut chunk = Chunk([0; 128]);
                chunk.0[..part.len()].copy_from_slice(part);
                chunks.push(chunk);
            }
        }
        let base = chunks.as_mut_ptr();
        let pointers = starts.into_iter().map(|start| base.wrapping_add(start).cast()).collect();
        Self { _chunks: chunks, pointers }
    }

    /// The array of addresses. The driver only reads the array and the values at its addresses.
    pub(super) fn as_ptr(&self) -> *mut *mut c_void {
        self.pointers.as_ptr().cast_mut()
    }
}

/// Converts arguments to parameters, and returns the buffers that must live as long.
pub(super) fn params(
    entry: &str,
    parameters: Option<&[usize]>,
    args: &[BoundArg<CudaBuffer>],
    tensor_maps: bool,
) -> Result<(Params, Vec<CudaBuffer>), Failure> {
    let given: Vec<(usize, &str)> = args
        .iter()
        .map(|arg| match arg {
            BoundArg::Pointer(_) => (8, "a tensor's address"),
            BoundArg::Scalar(bytes) => (bytes.len(), "a scalar"),
            BoundArg::Struct { bytes, .. } => (bytes.len(), "a struct"),
            BoundArg::TensorMap { .. } => (tensor_map::BYTES, "a tensor map"),
        })
        .collect();
    if let Some(parameters) = parameters {
        mismatch(entry, parameters, &given).map_or(Ok(()), |message| Err(Failure::LaunchRefused { message }))?;
    }
    let mut values = Vec::with_capacity(args.len());
    let mut buffers = Vec::new();
    for arg in args {
        match arg {
            BoundArg::Pointer(region) => {
                values.push(region.buffer.range(region.offset, region.bytes)?.to_ne_bytes().to_vec());
                buffers.push(region.buffer.clone());
            }
            BoundArg::Scalar(bytes) => values.push(bytes.clone()),
            BoundArg::Struct { bytes, pointers } => {
                let mut bytes = bytes.clone();
                for (at, region) in pointers {
                    let address = region.buffer.range(region.offset, region.bytes)?.to_ne_bytes();
                    bytes[*at..*at + address.len()].copy_from_slice(&address);
                    buffers.push(region.buffer.clone());
                }
                values.push(bytes);
            }
            BoundArg::TensorMap { region, dtype, map } => {
                if !tensor_maps {
                    let message = "tensor maps need compute capability 9.0 and a driver for CUDA 12.0".into();
                    return Err(Failure::Unsupported { message });
                }
                values.push(tensor_map::encode(&region.buffer, region.offset, region.bytes, *dtype, map)?);
                buffers.push(region.buffer.clone());
            }
        }
    }
    Ok((Params::new(&values), buffers))
}

/// Differences between the arguments and the kernel's parameters.
fn mismatch(entry: &str, parameters: &[usize], given: &[(usize, &str)]) -> Option<String> {
    if parameters.len() != given.len() {
        return Some(format!(
            "the kernel `{entry}` takes {} parameters, `args` gives {}",
            parameters.len(),
            given.len()
        ));
    }
    let wrong: Vec<String> = (1..)
        .zip(parameters.iter().zip(given))
        .filter(|(_, (parameter, (bytes, _)))| *parameter != bytes)
        .map(|(position, (parameter, (bytes, what)))| {
            format!("parameter {position} is {parameter} bytes, `args` gives {what} of {bytes} bytes")
        })
        .collect();
    (!wrong.is_empty()).then(|| format!("the parameters of the kernel `{entry}` differ: {}", wrong.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreements_are_named() {
        let address = (8, "a tensor's address");
        assert_eq!(mismatch("add", &[8, 4], &[address, (4, "a scalar")]), None);
        assert_eq!(mismatch("none", &[], &[]), None);
        assert_eq!(
            mismatch("add", &[8, 8, 4], &[address]).unwrap(),
            "the kernel `add` takes 3 parameters, `args` gives 1"
        );
        assert_eq!(
            mismatch("add", &[8, 8, 4], &[address, (4, "a scalar"), address]).unwrap(),
            "the parameters of the kernel `add` differ: parameter 2 is 8 bytes, `args` gives a scalar of 4 bytes; \
             parameter 3 is 4 bytes, `args` gives a tensor's address of 8 bytes"
        );
    }

    #[test]
    fn bytes_stay_where_they_are() {
        let long: Vec<u8> = (0..200).collect();
        let params = Params::new(&[vec![1, 2], vec![], long.clone(), vec![9]]);
        let moved = Box::new(params);
        let at = |index: usize, bytes: usize| {
            let pointer: *const u8 = moved.pointers[index].cast();
            assert_eq!(pointer.addr() % 128, 0);
            // SAFETY: the storage is alive and holds at least that many bytes there.
            unsafe { std::slice::from_raw_parts(pointer, bytes) }.to_vec()
        };
        assert_eq!(at(0, 2), [1, 2]);
        assert_eq!(at(1, 1), [0]);
        assert_eq!(at(2, 200), long);
        assert_eq!(at(3, 1), [9]);
    }
}

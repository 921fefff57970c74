//! Memory in an address range of its own, with unmapped addresses on both sides: an access far outside of a tensor
//! makes its launch fail and cannot change other memory.
//!
//! Memory is mapped in pieces of some megabytes, so that up to one piece remains. Most of the remainder lies before the
//! buffer, whose end is as near to the end of the piece as its alignment allows. The remainder holds one byte value,
//! and is compared after each checked launch.

use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute, CUdeviceptr, CUresult};

use super::driver;
use super::error::{CudaError, check};

/// Byte of the remainder: NaN in every floating-point type.
pub(super) const REST: u8 = 0xff;

/// Size in bytes of the unmapped addresses on each side. They use no memory.
const FREE: usize = 256 << 20;

/// Alignment of the driver's own allocations.
const ALIGNMENT: usize = 512;

/// Parameters of mapped memory of a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapper {
    device: CUdevice,
    /// Size of a piece in bytes.
    piece: usize,
}

impl Mapper {
    /// `None` if the device or the driver cannot map memory.
    pub(super) fn new(device: CUdevice) -> Option<Self> {
        let supported = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED;
        if driver::attribute(device, supported) == 0 || !driver::knows_mappings() {
            return None;
        }
        let mut piece = 0;
        let minimum = sys::CUmemAllocationGranularity_flags_enum::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
        let properties = properties(device);
        // SAFETY: the pointers are valid for writes and reads.
        check(unsafe { sys::cuMemGetAllocationGranularity(&raw mut piece, &raw const properties, minimum) }).ok()?;
        (piece > 0).then_some(Self { device, piece })
    }

    /// Maps memory for `bytes` bytes.
    pub(super) fn map(self, bytes: usize) -> Result<Mapping, CudaError> {
        let Some((size, reserved)) = sizes(bytes, self.piece) else {
            // More than there are addresses; `check` makes an error of a code.
            return Err(check(CUresult::CUDA_ERROR_OUT_OF_MEMORY).unwrap_err());
        };
        let mut start = 0;
        // SAFETY: the pointer is valid for writes; 0 leaves alignment and place to the driver.
        check(unsafe { sys::cuMemAddressReserve(&raw mut start, reserved, 0, 0, 0) })?;
        let middle = start + ((reserved - size) / 2) as CUdeviceptr;
        let mut mapping = Mapping { start, reserved, mapped: middle, size: 0, address: 0, bytes };
        let properties = properties(self.device);
        let mut memory = 0;
        // SAFETY: the pointers are valid for writes and reads, the size is a multiple of the piece.
        check(unsafe { sys::cuMemCreate(&raw mut memory, size, &raw const properties, 0) })?;
        // SAFETY: the range is reserved and nothing is mapped there; the memory is as large.
        let mapped = check(unsafe { sys::cuMemMap(middle, size, 0, memory, 0) });
        // SAFETY: created above, released once. The mapping keeps the memory.
        let _ = unsafe { sys::cuMemRelease(memory) };
        mapped?;
        mapping.size = size;
        let access = sys::CUmemAccessDesc {
            location: properties.location,
            flags: sys::CUmemAccess_flags_enum::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        // SAFETY: the range is mapped, the pointer is valid for one description.
        check(unsafe { sys::cuMemSetAccess(middle, size, &raw const access, 1) })?;
        mapping.address = address_in(middle, size, bytes);
        Ok(mapping)
    }
}

/// Sizes in bytes of the mapped part for `bytes` bytes and of the whole range, `None` if there are not as many addresses.
fn sizes(bytes: usize, piece: usize) -> Option<(usize, usize)> {
    let size = bytes.max(1).checked_next_multiple_of(piece)?;
    Some((size, size.checked_add(2 * FREE.checked_next_multiple_of(piece)?)?))
}

/// Offset of a buffer in a mapping: as near to the end as the alignment allows.
fn address_in(mapped: CUdeviceptr, size: usize, bytes: usize) -> CUdeviceptr {
    mapped + ((size - bytes) / ALIGNMENT * ALIGNMENT) as CUdeviceptr
}

fn properties(device: CUdevice) -> sys::CUmemAllocationProp {
    sys::CUmemAllocationProp {
        type_: sys::CUmemAllocationType_enum::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: sys::CUmemAllocationHandleType_enum::CU_MEM_HANDLE_TYPE_NONE,
        location: sys::CUmemLocation { type_: sys::CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_DEVICE, id: device },
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: sys::CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}

/// Mapped memory.
pub(super) struct Mapping {
    /// The reserved range.
    start: CUdeviceptr,
    reserved: usize,
    /// Size of the mapped part; 0 before it is mapped.
    mapped: CUdeviceptr,
    size: usize,
    /// The buffer.
    pub(super) address: CUdeviceptr,
    bytes: usize,
}

impl Mapping {
    /// The remainder before and after the buffer: addresses and bytes.
    pub(super) fn rest(&self) -> [(CUdeviceptr, usize); 2] {
        let end = self.address + self.bytes as CUdeviceptr;
        let before = (self.address - self.mapped) as usize;
        [(self.mapped, before), (end, self.size - before - self.bytes)]
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: reserved and mapped by `Mapper::map`, freed once, in the order that the driver requires. Writes to it have ended. An
        // error leaves nothing to do.
        unsafe {
            if self.size > 0 {
                let _ = sys::cuCtxSynchronize();
                let _ = sys::cuMemUnmap(self.mapped, self.size);
            }
            let _ = sys::cuMemAddressFree(self.start, self.reserved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bytes_than_addresses_have_no_mapping() {
        assert_eq!(sizes(1, 2 << 20), Some((2 << 20, (2 << 20) + 2 * FREE)));
        assert_eq!(sizes(usize::MAX, 2 << 20), None);
        assert_eq!(sizes(usize::MAX - (4 << 20), 2 << 20), None);
    }

    #[test]
    fn a_buffer_ends_where_its_mapping_does() {
        const PIECE: usize = 2 << 20;
        for bytes in [1, 511, 512, 513, 131_072 + 20_000, PIECE - 1, PIECE, 3 * PIECE / 2 + 8] {
            let size = bytes.next_multiple_of(PIECE);
            let address = address_in(1 << 40, size, bytes);
            let mapping = Mapping { start: 0, reserved: 0, mapped: 1 << 40, size, address, bytes };
            let [(before, lead), (behind, tail)] = mapping.rest();
            assert_eq!((before, lead + bytes + tail), (1 << 40, size));
            assert_eq!(behind, address + bytes as CUdeviceptr);
            assert!(tail < ALIGNMENT && address.is_multiple_of(ALIGNMENT as CUdeviceptr), "{bytes}");
            std::mem::forget(mapping);
        }
    }
}

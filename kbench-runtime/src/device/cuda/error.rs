//! Errors of the driver API: their text, and their meaning for a job.

use std::ffi::CStr;

use cudarc::driver::sys::{self, CUresult};

use crate::protocol::Failure;

/// An error code of the driver API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CudaError(CUresult);

/// Turns a driver API return code into a result.
pub(super) fn check(code: CUresult) -> Result<(), CudaError> {
    if code == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(CudaError(code)) }
}

impl CudaError {
    /// The number, so that a code beyond the bindings reaches a wildcard arm.
    pub(super) fn code(self) -> u32 {
        self.0 as u32
    }

    /// Whether the driver said that a value, a handle or an index is unknown.
    pub(super) fn is_invalid_value(self) -> bool {
        self.0 == CUresult::CUDA_ERROR_INVALID_VALUE
    }

    /// Whether a name was not found.
    pub(super) fn is_not_found(self) -> bool {
        self.0 == CUresult::CUDA_ERROR_NOT_FOUND
    }

    /// Whether memory ran out.
    pub(super) fn is_out_of_memory(self) -> bool {
        self.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
    }

    /// Whether the work has not ended yet.
    pub(super) fn is_not_ready(self) -> bool {
        self.0 == CUresult::CUDA_ERROR_NOT_READY
    }

    /// The driver's name and text: `CUDA_ERROR_INVALID_VALUE (invalid argument)`.
    pub(super) fn words(self) -> String {
        let name = text(|out| {
            // SAFETY: `out` is valid for writes; the driver stores a static string or null there.
            unsafe { sys::cuGetErrorName(self.0, out) }
        });
        let words = text(|out| {
            // SAFETY: as above.
            unsafe { sys::cuGetErrorString(self.0, out) }
        });
        match (name, words) {
            (Some(name), Some(words)) => format!("{name} ({words})"),
            (Some(name), None) => name,
            (None, _) => format!("CUDA error {}", self.code()),
        }
    }

    /// The failure for an error that arrived during `doing`, which is neither a load nor a launch: the arguments were
    /// checked, so that an earlier kernel or the device is the cause.
    pub(super) fn failure(self, doing: &str) -> Failure {
        let message = format!("{} {doing}", self.words());
        match self.code() {
            ILLEGAL_ADDRESS | INVALID_ADDRESS_SPACE => Failure::IllegalAccess { message },
            _ => Failure::DeviceFault { message },
        }
    }

    /// The failure for an error of a load; `log` is the loader's output.
    pub(super) fn load_failure(self, log: &str) -> Failure {
        if is_sticky(self.code()) {
            return self.failure("when loading the machine code");
        }
        let log = log.trim();
        let message = if log.is_empty() { self.words() } else { format!("{}\n{log}", self.words()) };
        Failure::LoadFailed { message }
    }

    /// The failure for an error of the launch call: the kernel has not run. `details` describes the launch,
    /// `local_bytes` is the memory that the driver reserves for the threads' stacks.
    pub(super) fn launch_failure(self, details: &str, local_bytes: u64) -> Failure {
        let code = self.code();
        if self.is_out_of_memory() {
            return Failure::OutOfMemory { bytes: local_bytes };
        }
        // With lazy loading the code reaches the device at the first launch.
        if matches!(code, 200 | 209 | 218 | 221..=223 | 300..=303) {
            return self.load_failure("");
        }
        if is_sticky(code) {
            return self.failure("at the launch");
        }
        Failure::LaunchRefused { message: format!("{} for {details}", self.words()) }
    }
}

const ILLEGAL_ADDRESS: u32 = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS as u32;
const INVALID_ADDRESS_SPACE: u32 = CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE as u32;

/// Whether the context is lost after this code, which is an error of a kernel or of the device. Every other error of a
/// launch is a refusal.
fn is_sticky(code: u32) -> bool {
    // 201 and 709: no context; 214 and 220: ECC, NVLink; 226: contained; 710 to 719: assert to launch failed,
    // but 711 to 713 (peers, host memory); 721: tensor memory leak; 999: unknown.
    matches!(code, 3 | 4 | 201 | 214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721 | 999)
}

fn text(get: impl FnOnce(*mut *const std::ffi::c_char) -> CUresult) -> Option<String> {
    let mut pointer = std::ptr::null();
    if get(&raw mut pointer) != CUresult::CUDA_SUCCESS || pointer.is_null() {
        return None;
    }
    // SAFETY: on success the driver stores the address of a static NUL-terminated string.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

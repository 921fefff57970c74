//! The driver library and the objects of a context: stream, events, attributes. Each type frees its object, and a
//! failed call does not panic there: after a kernel's fault every call fails.

use std::ffi::{CStr, c_int};
use std::rc::Rc;

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdevice_attribute, CUevent, CUresult, CUstream};

use super::error::{CudaError, check};

/// The loaded driver library.
#[derive(Clone, Copy)]
pub(super) struct Driver {
    /// `1000 * major + 10 * minor`.
    pub(super) version: i32,
    /// Whether `cuFuncGetParamInfo` and `cuFuncLoad` are there (12.4).
    pub(super) knows_parameters: bool,
    /// Whether `cuTensorMapEncodeTiled` is there (12.0).
    pub(super) knows_tensor_maps: bool,
    elapsed: Elapsed,
}

type Elapsed = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> CUresult;

/// Functions that the oldest drivers lack; cudarc panics at the first call of a missing function.
const REQUIRED: [&str; 4] =
    ["cuLaunchKernelEx", "cuOccupancyMaxActiveClusters", "cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"];

impl Driver {
    /// Loads and initialises the driver library.
    pub(super) fn open() -> Result<Self, String> {
        // SAFETY: loads the driver library, whose initialisers have no preconditions.
        if !unsafe { sys::is_culib_present() } {
            return Err("the CUDA driver library (libcuda.so.1) was not found; is the NVIDIA driver installed?".into());
        }
        let Some(elapsed) = symbol("cuEventElapsedTime_v2").or_else(|| symbol("cuEventElapsedTime")) else {
            return Err("the CUDA driver library has no cuEventElapsedTime".into());
        };
        // SAFETY: both versions have this signature in cuda.h.
        let elapsed = unsafe { std::mem::transmute::<unsafe extern "C" fn(), Elapsed>(elapsed) };
        let mut version = 0;
        // SAFETY: the pointer is valid for writes; callable before `cuInit`.
        check(unsafe { sys::cuDriverGetVersion(&raw mut version) })
            .map_err(|error| format!("the CUDA driver does not report its version: {}", error.words()))?;
        let text = version_text(version);
        if let Some(missing) = REQUIRED.into_iter().find(|name| symbol(name).is_none()) {
            return Err(format!("the CUDA driver is too old: {text} has no {missing}; 11.8 or newer is needed"));
        }
        // SAFETY: 0 is the only value that the flags may have.
        check(unsafe { sys::cuInit(0) })
            .map_err(|error| format!("the CUDA driver ({text}) does not start: {}", error.words()))?;
        Ok(Self {
            version,
            knows_parameters: symbol("cuFuncGetParamInfo").is_some() && symbol("cuFuncLoad").is_some(),
            knows_tensor_maps: symbol("cuTensorMapEncodeTiled").is_some(),
            elapsed,
        })
    }

    /// The device with an index, or the reason why there is none.
    pub(super) fn device(index: u32) -> Result<CUdevice, String> {
        let mut count: c_int = 0;
        // SAFETY: the pointer is valid for writes.
        check(unsafe { sys::cuDeviceGetCount(&raw mut count) })
            .map_err(|error| format!("the CUDA driver counts no devices: {}", error.words()))?;
        if count == 0 {
            return Err("the CUDA driver sees no device".into());
        }
        if index >= count as u32 {
            let known = if count == 1 { "only device 0".into() } else { format!("devices 0 to {}", count - 1) };
            return Err(format!("there is no CUDA device {index}; this machine has {known}"));
        }
        let mut device = 0;
        // SAFETY: the pointer is valid for writes.
        check(unsafe { sys::cuDeviceGet(&raw mut device, index as c_int) })
            .map_err(|error| format!("CUDA device {index} cannot be used: {}", error.words()))?;
        Ok(device)
    }

    /// Nanoseconds from one event to the other; both must have completed.
    pub(super) fn elapsed(self, start: &Event, stop: &Event) -> Result<f64, CudaError> {
        let mut milliseconds = 0.0f32;
        // SAFETY: the pointer is valid for writes, the events live and were made with timing on.
        check(unsafe { (self.elapsed)(&raw mut milliseconds, start.raw, stop.raw) })?;
        Ok(f64::from(milliseconds) * 1e6)
    }
}

/// Whether memory can be mapped at chosen addresses (10.2).
pub(super) fn knows_mappings() -> bool {
    let needed = ["cuMemAddressReserve", "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemUnmap", "cuMemRelease"];
    needed.into_iter().all(|name| symbol(name).is_some())
}

/// `13.0` for 13000.
pub(super) fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn symbol(name: &str) -> Option<unsafe extern "C" fn()> {
    // SAFETY: called after the library was seen to be present; the type is that of any function, and the address is
    // not called as such.
    unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).ok().map(|symbol| *symbol) }
}

/// An attribute of a device; 0 if the driver does not know it.
pub(super) fn attribute(device: CUdevice, attribute: CUdevice_attribute) -> u32 {
    let mut value: c_int = 0;
    // SAFETY: the pointer is valid for writes; an unknown attribute or device is an error code.
    match check(unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, device) }) {
        Ok(()) => value.max(0) as u32,
        Err(_) => 0,
    }
}

/// The UUID of a device in the form of `CUDA_VISIBLE_DEVICES`.
pub(super) fn uuid(device: CUdevice) -> Option<String> {
    let mut uuid = sys::CUuuid_st { bytes: [0; 16] };
    // SAFETY: the pointer is valid for writes.
    check(unsafe { sys::cuDeviceGetUuid_v2(&raw mut uuid, device) }).ok()?;
    Some(uuid_text(uuid.bytes.map(|byte| byte as u8)))
}

/// `GPU-` and the bytes in hex, in groups of 4, 2, 2, 2 and 6.
fn uuid_text(bytes: [u8; 16]) -> String {
    use std::fmt::Write as _;
    let mut text = "GPU".to_owned();
    for (at, byte) in bytes.iter().enumerate() {
        let dash = if matches!(at, 0 | 4 | 6 | 8 | 10) { "-" } else { "" };
        let _ = write!(text, "{dash}{byte:02x}");
    }
    text
}

/// The PCI address of a device, such as `0000:65:00.0`.
pub(super) fn bus_id(device: CUdevice) -> Option<String> {
    let mut text = [0u8; 32];
    // SAFETY: the pointer is valid for writes of the length given.
    check(unsafe { sys::cuDeviceGetPCIBusId(text.as_mut_ptr().cast(), text.len() as i32, device) }).ok()?;
    Some(CStr::from_bytes_until_nul(&text).ok()?.to_string_lossy().into_owned())
}

/// A device's name.
pub(super) fn name(device: CUdevice) -> Result<String, CudaError> {
    let mut name = [0u8; 256];
    // SAFETY: the pointer is valid for writes of the length given.
    check(unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as c_int, device) })?;
    Ok(CStr::from_bytes_until_nul(&name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

/// A device's memory in bytes.
pub(super) fn memory(device: CUdevice) -> Result<u64, CudaError> {
    let mut bytes = 0;
    // SAFETY: the pointer is valid for writes.
    check(unsafe { sys::cuDeviceTotalMem_v2(&raw mut bytes, device) })?;
    Ok(bytes as u64)
}

/// The primary context of a device, retained and current on this thread. Not `Send`, so that it stays current.
pub(super) struct Context {
    device: CUdevice,
    raw: CUcontext,
}

impl Context {
    /// Retains the context and makes it current.
    pub(super) fn retain(device: CUdevice) -> Result<Rc<Self>, CudaError> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes, the device was enumerated.
        check(unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut raw, device) })?;
        let context = Rc::new(Self { device, raw });
        // SAFETY: the context is retained until `context` is dropped.
        check(unsafe { sys::cuCtxSetCurrent(context.raw) })?;
        Ok(context)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once by `retain`. An error leaves nothing to do.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// A stream that does not wait for the default stream.
pub(super) struct Stream {
    raw: CUstream,
    context: Rc<Context>,
}

impl Stream {
    pub(super) fn new(context: &Rc<Context>) -> Result<Rc<Self>, CudaError> {
        const NON_BLOCKING: u32 = 1; // CU_STREAM_NON_BLOCKING
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes, a context is current.
        check(unsafe { sys::cuStreamCreate(&raw mut raw, NON_BLOCKING) })?;
        Ok(Rc::new(Self { raw, context: Rc::clone(context) }))
    }

    /// Waits for all enqueued work; an error of a kernel is returned here.
    pub(super) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: the stream lives as long as `self`.
        check(unsafe { sys::cuStreamSynchronize(self.raw) })
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    pub(super) fn context(&self) -> &Rc<Context> {
        &self.context
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once. An error leaves nothing to do.
        let _ = unsafe { sys::cuStreamDestroy_v2(self.raw) };
    }
}

/// An event with timing, waited for by spinning (the blocking-sync flag would add the scheduler's wake-up time).
pub(super) struct Event {
    raw: CUevent,
    _context: Rc<Context>,
}

impl Event {
    pub(super) fn new(context: &Rc<Context>) -> Result<Self, CudaError> {
        const DEFAULT: u32 = 0; // CU_EVENT_DEFAULT
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes, a context is current.
        check(unsafe { sys::cuEventCreate(&raw mut raw, DEFAULT) })?;
        Ok(Self { raw, _context: Rc::clone(context) })
    }

    /// Enqueues the event.
    pub(super) fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        // SAFETY: event and stream live and belong to the same context.
        check(unsafe { sys::cuEventRecord(self.raw, stream.raw) })
    }

    /// Waits until the event has completed.
    pub(super) fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: the event lives.
        check(unsafe { sys::cuEventSynchronize(self.raw) })
    }

    /// Whether the event has not completed. Errors are left to the synchronisation that follows.
    pub(super) fn is_pending(&self) -> bool {
        // SAFETY: the event lives.
        check(unsafe { sys::cuEventQuery(self.raw) }).is_err_and(CudaError::is_not_ready)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once. An error leaves nothing to do.
        let _ = unsafe { sys::cuEventDestroy_v2(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_nvidia_smi_does() {
        let bytes = std::array::from_fn(|at| (at * 16 + 1) as u8);
        assert_eq!(uuid_text(bytes), "GPU-01112131-4151-6171-8191-a1b1c1d1e1f1");
    }
}

//! Modules and the functions in them.

use std::cell::Cell;
use std::ffi::{CString, c_int, c_uint, c_void};
use std::rc::Rc;

use cudarc::driver::sys::{self, CUdeviceptr, CUfunction, CUfunction_attribute, CUjit_option, CUmodule};

use super::driver::{Context, Driver};
use super::error::{CudaError, check};
use super::image;
use crate::protocol::Failure;

/// The functions of one module, one for each launch of a run. Clones share the module, the last one unloads it.
#[derive(Clone)]
pub struct CudaKernels(Rc<[CudaKernel]>);

/// A function of a module; clones share it and the module.
#[derive(Clone)]
pub(super) struct CudaKernel(Rc<Function>);

struct Function {
    raw: CUfunction,
    entry: String,
    parameters: Option<Vec<usize>>,
    calls: Calls,
    /// Bytes of the device's heap after the first launch.
    heap: Cell<Option<u64>>,
    module: Rc<Module>,
}

/// Runtime functions that the code calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calls {
    /// `printf`.
    pub(super) prints: bool,
    /// `malloc`, `new`.
    pub(super) allocates: bool,
}

impl Calls {
    /// The functions, from the external symbols of the code.
    fn of(code: &[u8]) -> Self {
        let has = |name: &[u8]| code.windows(name.len()).any(|bytes| bytes == name);
        Self { prints: has(b"\0vprintf\0"), allocates: has(b"\0malloc\0") }
    }
}

struct Module {
    raw: CUmodule,
    _context: Rc<Context>,
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `Module::load`, unloaded once. An error leaves nothing to do.
        let _ = unsafe { sys::cuModuleUnload(self.raw) };
    }
}

impl Module {
    fn load(context: &Rc<Context>, code: &[u8]) -> Result<Self, Failure> {
        let words = image::prepare(code).map_err(|message| Failure::LoadFailed { message })?;
        let mut log = vec![0u8; 16 * 1024];
        let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast(), std::ptr::without_provenance_mut::<c_void>(log.len())];
        let mut raw = std::ptr::null_mut();
        // SAFETY: the image is whole (checked) and outlives the call, as do both option arrays, whose values have the
        // form that the two options take: an address and the number of bytes there, cast to a pointer.
        check(unsafe {
            sys::cuModuleLoadDataEx(
                &raw mut raw,
                words.as_ptr().cast(),
                options.len() as c_uint,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        })
        .map_err(|error| {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            error.load_failure(&String::from_utf8_lossy(&log[..end]))
        })?;
        Ok(Self { raw, _context: Rc::clone(context) })
    }
}

impl CudaKernels {
    /// Loads machine code and finds these functions in it.
    pub(super) fn load(driver: Driver, context: &Rc<Context>, code: &[u8], entries: &[&str]) -> Result<Self, Failure> {
        let (module, calls) = (Rc::new(Module::load(context, code)?), Calls::of(code));
        let functions = entries.iter().map(|entry| CudaKernel::find(driver, &module, calls, entry));
        Ok(Self(functions.collect::<Result<_, _>>()?))
    }

    /// The functions.
    pub(super) fn all(&self) -> &[CudaKernel] {
        &self.0
    }

    /// Address and size of a global of the module.
    pub(super) fn global(&self, symbol: &str) -> Result<(CUdeviceptr, usize), Failure> {
        let missing = || Failure::SymbolNotFound { symbol: symbol.to_owned() };
        let module = &self.0.first().ok_or_else(missing)?.0.module;
        let name = CString::new(symbol).map_err(|_| missing())?;
        let (mut address, mut bytes) = (0, 0);
        // SAFETY: the pointers are valid for writes, the module is loaded, the name ends with NUL.
        check(unsafe { sys::cuModuleGetGlobal_v2(&raw mut address, &raw mut bytes, module.raw, name.as_ptr()) })
            .map_err(|error| if error.is_not_found() { missing() } else { error.failure("when finding a symbol") })?;
        Ok((address, bytes))
    }
}

impl CudaKernel {
    /// Loads machine code and finds one function in it.
    pub(super) fn load(driver: Driver, context: &Rc<Context>, code: &[u8], entry: &str) -> Result<Self, Failure> {
        Self::find(driver, &Rc::new(Module::load(context, code)?), Calls::of(code), entry)
    }

    fn find(driver: Driver, module: &Rc<Module>, calls: Calls, entry: &str) -> Result<Self, Failure> {
        let missing = || Failure::SymbolNotFound { symbol: entry.to_owned() };
        let name = CString::new(entry).map_err(|_| missing())?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: the pointer is valid for writes, the module is loaded, the name ends with NUL.
        check(unsafe { sys::cuModuleGetFunction(&raw mut raw, module.raw, name.as_ptr()) })
            .map_err(|error| if error.is_not_found() { missing() } else { error.load_failure("") })?;
        let mut function = Function {
            raw,
            entry: entry.to_owned(),
            parameters: None,
            calls,
            heap: Cell::new(None),
            module: Rc::clone(module),
        };
        if driver.knows_parameters {
            // SAFETY: the function belongs to a loaded module. Loading is lazy: this finds its errors now.
            check(unsafe { sys::cuFuncLoad(raw) }).map_err(|error| error.load_failure(""))?;
            function.parameters = Some(parameters(raw).map_err(|error| error.load_failure(""))?);
        }
        Ok(Self(Rc::new(function)))
    }

    /// Name of the function.
    pub(super) fn entry(&self) -> &str {
        &self.0.entry
    }

    /// Runtime functions that the function calls.
    pub(super) fn calls(&self) -> Calls {
        self.0.calls
    }

    /// Bytes of the device's heap that the function keeps: the loss since its first launch, after which `left` bytes
    /// were left.
    pub(super) fn kept(&self, left: u64) -> u64 {
        let first = self.0.heap.get().unwrap_or(left);
        self.0.heap.set(Some(first));
        first.saturating_sub(left)
    }

    /// Bytes of each parameter, if the driver reports them.
    pub(super) fn parameters(&self) -> Option<&[usize]> {
        self.0.parameters.as_deref()
    }

    pub(super) fn raw(&self) -> CUfunction {
        self.0.raw
    }

    /// An attribute of the function; 0 if the driver does not know it.
    pub(super) fn attribute(&self, attribute: CUfunction_attribute) -> u32 {
        let mut value: c_int = 0;
        // SAFETY: the pointer is valid for writes, the function belongs to a loaded module.
        match check(unsafe { sys::cuFuncGetAttribute(&raw mut value, attribute, self.0.raw) }) {
            Ok(()) => value.max(0) as u32,
            Err(_) => 0,
        }
    }

    /// Sets an attribute of the function.
    pub(super) fn set_attribute(&self, attribute: CUfunction_attribute, value: u32) -> Result<(), CudaError> {
        // SAFETY: the function belongs to a loaded module; a bad value is an error code.
        check(unsafe { sys::cuFuncSetAttribute(self.0.raw, attribute, value as c_int) })
    }
}

/// Queries one parameter after the other until an error. compute-sanitizer reports this error (`--report-api-errors no`
/// prevents it); a function for the number of parameters exists only from CUDA 13.2 on.
fn parameters(function: CUfunction) -> Result<Vec<usize>, CudaError> {
    let mut sizes = Vec::new();
    loop {
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the pointers are valid for writes, the function belongs to a loaded module; an index past the last
        // parameter is CUDA_ERROR_INVALID_VALUE.
        match check(unsafe { sys::cuFuncGetParamInfo(function, sizes.len(), &raw mut offset, &raw mut bytes) }) {
            Ok(()) => sizes.push(bytes),
            Err(error) if error.is_invalid_value() => return Ok(sizes),
            Err(error) => return Err(error),
        }
    }
}

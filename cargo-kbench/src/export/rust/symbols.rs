/// Copies device memory to a symbol of a module, on the stream.
///
/// # Safety
///
/// The address is valid for that many bytes.
unsafe fn copy_to_symbol(
    stream: &Arc<CudaStream>,
    module: &Arc<CudaModule>,
    symbol: &str,
    address: sys::CUdeviceptr,
    bytes: usize,
) -> Result<(), Error> {
    let mut global = module.get_global(symbol, stream)?;
    if global.len() < bytes {
        return Err(Error::Sizes);
    }
    let (place, _recorded) = global.device_ptr_mut(stream);
    // SAFETY: the caller's, and the symbol is as large.
    unsafe { cudarc::driver::result::memcpy_dtod_async(place, address, bytes, stream.cu_stream()) }?;
    Ok(())
}


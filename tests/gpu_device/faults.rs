//! Kernels that fault.

use std::time::Instant;

use kbench_runtime::gpu_device::{CudaBound, CudaBuffer, CudaDevice};
use kbench_runtime::gpu_device::{Device, Purpose};
use kbench_runtime::protocol::{CacheMode, DeviceKind, Failure};

use super::{Gpu, blocks, pointer};

/// After a kernel's fault every call fails, the way the fault did, and nothing panics or hangs.
fn everything_fails(gpu: &mut Gpu, buffer: &CudaBuffer, bound: &mut CudaBound, expected: fn(&Failure) -> bool) {
    let started = Instant::now();
    let Gpu { device, code } = gpu;
    let failures = [
        device.run(bound).err(),
        device.sample(bound, 1, CacheMode::Cold).err(),
        device.sample(bound, 10, CacheMode::Hot).err(),
        device.upload(buffer, 0, &[0]).err(),
        device.download(buffer, 0, &mut [0]).err(),
        device.fill(buffer, 0, 1, 0).err(),
        device.alloc(1 << 20).err(),
        device.load(code, &["add"], Purpose::Kernel).err(),
    ];
    for (index, failure) in failures.into_iter().enumerate() {
        let failure = failure.unwrap_or_else(|| panic!("call {index} passed after a fault"));
        assert!(expected(&failure) && failure.is_fatal(DeviceKind::Cuda), "call {index}: {failure:?}");
    }
    println!("  8 more calls: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    println!("  opened again: {:?}", CudaDevice::open(0).err());
}

fn fault(gpu: &mut Gpu, entry: &str, with_buffer: bool, expected: fn(&Failure) -> bool) {
    let buffer = gpu.alloc(4096);
    let args = if with_buffer { vec![pointer(&buffer, 4096)] } else { Vec::new() };
    let mut bound = gpu.bind(entry, &blocks(4, 32), &args).expect("a launch");
    let failure = gpu.device.run(&bound).expect_err("a fault");
    println!("  {failure}");
    assert!(expected(&failure) && failure.is_fatal(DeviceKind::Cuda), "{failure:?}");
    everything_fails(gpu, &buffer, &mut bound, expected);
}

fn is_illegal_access(failure: &Failure) -> bool {
    matches!(failure, Failure::IllegalAccess { .. })
}

fn is_device_fault(failure: &Failure) -> bool {
    matches!(failure, Failure::DeviceFault { .. })
}

pub(super) fn illegal_access(gpu: &mut Gpu) {
    fault(gpu, "far_away", true, is_illegal_access);
}

pub(super) fn misaligned(gpu: &mut Gpu) {
    fault(gpu, "misaligned", true, is_device_fault);
}

pub(super) fn traps(gpu: &mut Gpu) {
    fault(gpu, "traps", false, is_device_fault);
}

pub(super) fn fault_in_sample(gpu: &mut Gpu) {
    let buffer = gpu.alloc(4096);
    let mut bound = gpu.bind("far_away", &blocks(4, 32), &vec![pointer(&buffer, 4096)]).expect("a launch");
    let failure = gpu.device.sample(&mut bound, 10, CacheMode::Hot).expect_err("a fault");
    println!("  {failure}");
    assert!(is_illegal_access(&failure), "{failure:?}");
}

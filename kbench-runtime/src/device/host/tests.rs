use super::*;
use crate::protocol::{DeviceKind, Geometry};
use crate::testing::c_library;

const N: usize = 1000;

fn scaled(device: &mut HostDevice, entry: &str) -> (Bound, Buffer) {
    let kernel = device.load(c_library(), &[entry], Purpose::Kernel).unwrap();
    let input = device.alloc(4 * N).unwrap();
    let output = device.alloc(4 * N + 64).unwrap();
    let values: Vec<u8> = (0..N).flat_map(|i| (i as f32).to_le_bytes()).collect();
    device.upload(&input, 0, &values).unwrap();
    device.fill(&output, 0, 4 * N + 64, 0xff).unwrap();
    let args = [
        BoundArg::Pointer(Region { tensor: 0, buffer: input, offset: 0, bytes: 4 * N }),
        BoundArg::Pointer(Region { tensor: 0, buffer: output.clone(), offset: 32, bytes: 4 * N }),
        BoundArg::Scalar((N as i32).to_ne_bytes().to_vec()),
        BoundArg::Scalar(2.5_f64.to_ne_bytes().to_vec()),
    ];
    (device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap(), output)
}

fn floats(device: &mut HostDevice, buffer: &Buffer) -> Vec<f32> {
    let mut bytes = vec![0; 4 * N];
    device.download(buffer, 32, &mut bytes).unwrap();
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn a_shim_gets_pointers_and_scalars() {
    let mut device = HostDevice::open();
    let (bound, output) = scaled(&mut device, "kbench_scale");
    device.run(&bound).unwrap();
    assert!(floats(&mut device, &output).iter().enumerate().all(|(i, v)| *v == i as f32 * 2.5));
}

#[test]
fn samples_are_positive_and_both_caches_give_the_same_output() {
    let mut device = HostDevice::open();
    for (cache, batch) in [(CacheMode::Cold, 1), (CacheMode::Hot, 50)] {
        let (mut bound, output) = scaled(&mut device, "kbench_scale");
        let sample = device.sample(&mut bound, batch, cache).unwrap();
        assert!(sample > 0.0 && sample < 1e9, "{sample}");
        assert_eq!(floats(&mut device, &output)[3], 7.5);
    }
    assert!(device.shortest_sample().unwrap() >= 20_000.0);
}

#[test]
fn symbols_belong_to_one_load() {
    let mut device = HostDevice::open();
    let output = device.alloc(8).unwrap();
    let args = [BoundArg::Pointer(Region { tensor: 0, buffer: output.clone(), offset: 0, bytes: 8 })];
    let kernels = [1.5_f64, -2.0].map(|value| {
        let kernel = device.load(c_library(), &["kbench_symbol"], Purpose::Kernel).unwrap();
        device.set_symbol(&kernel, "shared_value", &value.to_ne_bytes()).unwrap();
        (value, kernel)
    });
    for (value, kernel) in kernels {
        let bound = device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap();
        device.run(&bound).unwrap();
        let mut bytes = [0; 8];
        device.download(&output, 0, &mut bytes).unwrap();
        assert_eq!(f64::from_ne_bytes(bytes), value);
        let missing = device.set_symbol(&kernel, "no_such", &[0]);
        assert!(matches!(missing, Err(Failure::SymbolNotFound { symbol }) if symbol == "no_such"));
    }
}

#[test]
fn errors_of_loading_and_of_devices_are_typed() {
    let mut device = HostDevice::open();
    let Err(Failure::LoadFailed { message }) = device.load(b"not an object", &["f"], Purpose::Kernel) else { panic!() };
    assert!(message.starts_with("dlopen failed: "), "{message}");
    let missing = device.load(c_library(), &["no_such"], Purpose::Kernel).unwrap_err();
    assert_eq!(missing, Failure::SymbolNotFound { symbol: "no_such".into() });
    for bytes in [1 << 50, usize::MAX] {
        assert_eq!(device.alloc(bytes).unwrap_err(), Failure::OutOfMemory { bytes: bytes as u64 });
    }
}

#[test]
fn the_machine_is_described() {
    let device = HostDevice::open();
    let info = device.info();
    assert_eq!(info.kind, DeviceKind::Host);
    assert!(!info.name.is_empty() && info.multiprocessors > 0);
    #[cfg(target_os = "linux")]
    assert!(info.memory_bytes > 1 << 20 && !info.driver.is_empty());
}

#[test]
#[ignore = "prints what flushing costs; run with --release"]
fn flushing_costs() {
    let mut device = HostDevice::open();
    for mib in [1_usize, 16, 64] {
        let buffer = device.alloc(mib << 20).unwrap();
        for state in ["dirty", "clean", "absent"] {
            let start = buffer.at(0, mib << 20);
            match state {
                "dirty" => device.fill(&buffer, 0, mib << 20, 1).unwrap(),
                "clean" => {
                    caches::flush(&[(start, mib << 20)]);
                    let mut copy = vec![0; mib << 20];
                    device.download(&buffer, 0, &mut copy).unwrap();
                }
                _ => {}
            }
            let clock = Instant::now();
            caches::flush(&[(start, mib << 20)]);
            println!("{mib} MiB {state}: {:?}", clock.elapsed());
        }
    }
    println!("shortest sample {} ns", device.shortest_sample().unwrap());
}

#[test]
fn a_symbol_that_is_too_small_is_refused() {
    let mut device = HostDevice::open();
    let kernel = device.load(c_library(), &["kbench_symbol"], Purpose::Kernel).unwrap();
    match device.set_symbol(&kernel, "shared_value", &[0; 9]).unwrap_err() {
        Failure::LaunchRefused { message } => {
            assert_eq!(message, "the symbol `shared_value` holds 8 bytes, its tensor has 9");
        }
        other => panic!("{other}"),
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_floating_point_environment_of_a_kernel_stays_its_own() {
    let mut device = HostDevice::open();
    let (output, input) = (device.alloc(8).unwrap(), device.alloc(8).unwrap());
    device.upload(&input, 0, &1e-310_f64.to_ne_bytes()).unwrap();
    let args = [&input, &output]
        .map(|buffer| BoundArg::Pointer(Region { tensor: 0, buffer: buffer.clone(), offset: 0, bytes: 8 }));
    let mut twice = |code: &[u8], entry: &str| {
        let kernel = device.load(code, &[entry], Purpose::Kernel).unwrap();
        let mut bound = device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap();
        device.run(&bound).unwrap();
        device.sample(&mut bound, 3, CacheMode::Hot).unwrap();
        let mut bytes = [0; 8];
        device.download(&output, 0, &mut bytes).unwrap();
        f64::from_ne_bytes(bytes)
    };
    assert_eq!(twice(crate::testing::flushing_library(), "kbench_double"), 0.0, "as its author asked for");
    assert_eq!(twice(c_library(), "kbench_double"), 2e-310);
    assert_eq!(twice(c_library(), "kbench_rounds_up"), 2e-310);
    assert_eq!(twice(c_library(), "kbench_double"), 2e-310);
}

#[test]
fn large_buffers_start_on_a_huge_page() {
    let mut device = HostDevice::open();
    for bytes in [memory::HUGE_PAGE, memory::HUGE_PAGE + 5, 5 * memory::HUGE_PAGE] {
        let buffer = device.alloc(bytes).unwrap();
        assert_eq!(buffer.at(0, bytes).addr() % memory::HUGE_PAGE, 0);
    }
}

#[test]
fn each_load_has_its_own_file() {
    let mut device = HostDevice::open();
    let kernels: Vec<Kernel> = (0..20)
        .map(|round| {
            let code = if round % 2 == 0 { c_library() } else { crate::testing::flushing_library() };
            let kernel = device.load(code, &["kbench_symbol"], Purpose::Kernel).unwrap();
            drop(device.load(c_library(), &["kbench_scale"], Purpose::Kernel).unwrap());
            device.set_symbol(&kernel, "shared_value", &f64::from(round).to_ne_bytes()).unwrap();
            kernel
        })
        .collect();
    let output = device.alloc(8).unwrap();
    for (round, kernel) in kernels.iter().enumerate() {
        let args = [BoundArg::Pointer(Region { tensor: 0, buffer: output.clone(), offset: 0, bytes: 8 })];
        let bound = device.bind(kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap();
        device.run(&bound).unwrap();
        let mut bytes = [0; 8];
        device.download(&output, 0, &mut bytes).unwrap();
        assert_eq!(f64::from_ne_bytes(bytes), round as f64);
    }
}

#[test]
fn a_kernel_that_a_tool_looks_at_works_on_the_same_contents() {
    let mut device = HostDevice::open();
    device.use_plain_allocations();
    let (bound, output) = scaled(&mut device, "kbench_scale");
    device.run(&bound).unwrap();
    assert!(floats(&mut device, &output).iter().enumerate().all(|(i, v)| *v == i as f32 * 2.5));
}

#[test]
fn many_launches_are_one_command() {
    let mut device = HostDevice::open();
    let kernel = device.load(c_library(), &["kbench_inout"], Purpose::Kernel).unwrap();
    let [x, y] = [1.0_f32, 0.0].map(|value| {
        let buffer = device.alloc(4 * N).unwrap();
        device.upload(&buffer, 0, &value.to_le_bytes().repeat(N)).unwrap();
        buffer
    });
    let pointer =
        |buffer: &Buffer| BoundArg::Pointer(Region { tensor: 0, buffer: buffer.clone(), offset: 0, bytes: 4 * N });
    let args = [pointer(&x), pointer(&y), BoundArg::Scalar((N as i32).to_ne_bytes().to_vec())];
    let bound = device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap();
    device.run_many(&bound, &[], 7).unwrap();
    let mut first = [0; 4];
    device.download(&y, 0, &mut first).unwrap();
    assert_eq!(f32::from_le_bytes(first), 7.0);
}

#[test]
fn a_large_symbol_arrives_in_parts() {
    let code = crate::testing::compile_c(
        "char table[200000]; void last(void **args) { *(char *)args[0] = table[sizeof table - 1]; }",
        "-O1",
    );
    let mut device = HostDevice::open();
    let kernel = device.load(&code, &["last"], Purpose::Kernel).unwrap();
    let output = device.alloc(1).unwrap();
    let args = [BoundArg::Pointer(Region { tensor: 0, buffer: output.clone(), offset: 0, bytes: 1 })];
    let bound = device.bind(&kernel, &[BoundLaunch::new(Geometry::default(), args.to_vec())]).unwrap();
    let mut table = vec![1; 200_000];
    table[199_999] = 42;
    device.set_symbol(&kernel, "table", &table).unwrap();
    device.run(&bound).unwrap();
    let mut last = [0];
    device.download(&output, 0, &mut last).unwrap();
    assert_eq!(last, [42]);
}

mod hostile;

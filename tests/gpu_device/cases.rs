//! What runs, and what is refused before it runs.

use std::path::PathBuf;

use kbench_runtime::dtype::DType;
use kbench_runtime::gpu_device::{BoundArg, BoundLaunch, Device, Purpose, Range, Region};
use kbench_runtime::protocol::{CacheMode, Failure, Geometry, TensorMap};

use super::{CUBIN, Gpu, OTHER, blocks, int, pointer, refused};

pub(super) fn info(gpu: &mut Gpu) {
    let info = gpu.device.info();
    println!("  {info:?}");
    assert!(!info.name.is_empty() && info.driver.contains('.'));
    assert!(info.compute_capability.is_some_and(|(major, _)| major >= 5));
    assert!(info.multiprocessors > 0 && info.memory_bytes > 1 << 30 && info.cache_bytes > 0 && info.clock_khz > 0);
    assert!(info.max_threads_per_block >= 1024 && info.max_shared_per_block >= 48 << 10);
}

pub(super) fn load_failures(gpu: &mut Gpu) {
    let code = gpu.code.clone();
    let symbol = gpu.device.load(&code, &["nothing"], Purpose::Kernel).err();
    assert_eq!(symbol, Some(Failure::SymbolNotFound { symbol: "nothing".into() }));
    let symbol = gpu.device.load(&code, &["a\0b"], Purpose::Kernel).err();
    assert_eq!(symbol, Some(Failure::SymbolNotFound { symbol: "a\0b".into() }));
    let other = std::fs::read(PathBuf::from(std::env::var_os(CUBIN).expect("a cubin")).with_file_name(OTHER));
    let other = other.expect("a cubin for another architecture");
    for bad in [b"hello".to_vec(), code[..1000].to_vec(), code[..code.len() - 100].to_vec(), other] {
        match gpu.device.load(&bad, &["add"], Purpose::Kernel).err() {
            Some(Failure::LoadFailed { message }) => println!("  {message}"),
            other => panic!("{other:?}"),
        }
    }
    // PTX goes through the driver's own compiler, whose log is what is shown.
    match gpu
        .device
        .load(b".version 7.0\n.target sm_70\n.address_size 64\nnonsense;\n", &["add"], Purpose::Kernel)
        .err()
    {
        Some(Failure::LoadFailed { message }) => println!("  {message}"),
        other => panic!("{other:?}"),
    }
    good_kernel(gpu);
}

pub(super) fn good_kernel(gpu: &mut Gpu) {
    let n = 1000;
    let values: Vec<f32> = (0..n as u16).map(f32::from).collect();
    let input = gpu.upload(&values);
    let output = gpu.alloc(4 * n);
    gpu.device.fill(&output, 0, 4 * n, 0xff).expect("a fill");
    let args = vec![
        pointer(&input, 4 * n),
        pointer(&output, 4 * n),
        int(n as i32),
        BoundArg::Scalar(0.5f32.to_ne_bytes().to_vec()),
    ];
    let mut bound = gpu.bind("add", &blocks(8, 128), &args).expect("a launch");
    drop((args, input));
    let expected: Vec<f32> = values.iter().map(|value| value + 0.5).collect();
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.floats(&output, n), expected);
    for (batch, cache) in [(1, CacheMode::Cold), (1, CacheMode::Hot), (50, CacheMode::Hot)] {
        gpu.device.fill(&output, 0, 4 * n, 0xff).expect("a fill");
        let nanoseconds = gpu.device.sample(&mut bound, batch, cache).expect("a sample");
        assert!(nanoseconds > 100.0 && nanoseconds < 1e7, "{nanoseconds}");
        assert_eq!(gpu.floats(&output, n), expected, "after {batch} {cache:?}");
    }
}

pub(super) fn memory(gpu: &mut Gpu) {
    let buffer = gpu.alloc(10);
    gpu.device.fill(&buffer, 0, 10, 7).expect("a fill");
    gpu.device.fill(&buffer, 2, 3, 9).expect("a fill");
    gpu.device.upload(&buffer, 8, &[1, 2]).expect("an upload");
    let mut bytes = [0; 9];
    gpu.device.download(&buffer, 1, &mut bytes).expect("a download");
    assert_eq!(bytes, [7, 9, 9, 9, 7, 7, 7, 1, 2]);
    for past in [gpu.device.upload(&buffer, 9, &[1, 2]), gpu.device.fill(&buffer, usize::MAX, 2, 0)] {
        assert!(matches!(past, Err(Failure::Inputs { .. })), "{past:?}");
    }
    // Large copies take another way.
    for bytes in [4 << 20, (8 << 20) + 1, (40 << 20) - 5] {
        let large: Vec<u8> = (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let buffer = gpu.alloc(bytes + 3);
        gpu.device.fill(&buffer, 0, bytes + 3, 7).expect("a fill");
        gpu.device.upload(&buffer, 2, &large).expect("a large upload");
        let mut back = vec![0; bytes + 3];
        gpu.device.download(&buffer, 0, &mut back).expect("a large download");
        assert!(back[2..bytes + 2] == large && back[..2] == [7, 7] && back[bytes + 2] == 7, "{bytes}");
        assert!(gpu.device.upload(&buffer, 4, &large).is_err() && gpu.device.download(&buffer, 1, &mut back).is_err());
    }
    let nothing = gpu.alloc(0);
    gpu.device.upload(&nothing, 0, &[]).expect("an empty upload");
}

pub(super) fn digests(gpu: &mut Gpu) {
    let key = kbench_runtime::gpu_device::key();
    for (offset, bytes) in [(0, 10), (64 << 10, 5 << 20), (8, (5 << 20) + 3), (4, 1 << 20), (3, (1 << 20) + 5)] {
        let mut data: Vec<u8> = (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let buffer = gpu.alloc(offset + bytes + 100);
        for at in [0, bytes / 2, bytes - 1] {
            data[at] ^= 1;
            gpu.device.upload(&buffer, offset, &data).expect("an upload");
            let digests = gpu.device.digests(&[Range { buffer: &buffer, offset, bytes }]).expect("a digest");
            // Few bytes are fetched.
            let expected = (bytes > 10).then(|| vec![kbench_runtime::gpu_device::digest(&data, key)]);
            assert_eq!(digests, expected, "{bytes} bytes at {offset}");
            assert!(gpu.device.holds(&buffer, offset, &data.clone().into()).expect("a look"));
            data[bytes / 3] ^= 4;
            assert!(!gpu.device.holds(&buffer, offset, &data.clone().into()).expect("a look"));
        }
    }
    // More than one launch takes, of all sizes.
    let data: Vec<u8> = (0..300_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let buffer = gpu.alloc(data.len());
    gpu.device.upload(&buffer, 0, &data).expect("an upload");
    let parts: Vec<(usize, usize)> = (0..200).map(|at| (at * 7, (at * at * 5) % (data.len() - at * 7))).collect();
    let ranges: Vec<_> = parts.iter().map(|&(offset, bytes)| Range { buffer: &buffer, offset, bytes }).collect();
    let expected =
        parts.iter().map(|&(offset, bytes)| kbench_runtime::gpu_device::digest(&data[offset..][..bytes], key));
    assert_eq!(gpu.device.digests(&ranges).expect("digests"), Some(expected.collect()));
    let small = gpu.alloc(1 << 20);
    assert!(gpu.device.digests(&[Range { buffer: &small, offset: 8, bytes: 1 << 20 }]).is_err());
}

pub(super) fn shared_memory(gpu: &mut Gpu) {
    let most = gpu.device.info().max_shared_per_block;
    for bytes in [1 << 10, 48 << 10, (64 << 10) + 16, most] {
        let words = bytes as usize / 4;
        let out = gpu.alloc(4 * words);
        let geometry = Geometry { dynamic_shared: bytes, ..blocks(1, 256) };
        gpu.run("big_shared", &geometry, &vec![pointer(&out, 4 * words), int(words as i32)]).expect("a run");
        let values = gpu.floats(&out, words);
        assert!(values.iter().rev().zip(0u32..).all(|(value, index)| *value == index as f32), "{bytes} bytes");
    }
    let out = gpu.alloc(4);
    let args = vec![pointer(&out, 4), int(0)];
    refused(
        gpu.bind("big_shared", &Geometry { dynamic_shared: most + 16, ..blocks(1, 256) }, &args),
        &format!("exceed this device's {most}"),
    );
}

pub(super) fn clusters(gpu: &mut Gpu) {
    if gpu.device.info().compute_capability < Some((9, 0)) {
        return println!("  skipped: no clusters on this device");
    }
    let out = gpu.alloc(4 * 64);
    let args = vec![pointer(&out, 4 * 64)];
    for size in [2, 4, 8, 16] {
        let geometry = Geometry { cluster: Some([size, 1, 1]), ..blocks(64, 32) };
        gpu.run("clusters", &geometry, &args).expect("a run");
        let expected: Vec<i32> = (0..64).map(|block| 100 * size as i32 + block % size as i32).collect();
        assert_eq!(gpu.integers(&out, 64), expected);
    }
    let geometry = Geometry { cluster: Some([4, 1, 1]), ..blocks(62, 32) };
    refused(gpu.bind("clusters", &geometry, &args), "no multiple of the cluster's 4");
    let geometry = Geometry { cluster: Some([32, 1, 1]), ..blocks(64, 32) };
    refused(gpu.bind("clusters", &geometry, &args), "clusters of 32x1x1");
    good_kernel(gpu);
}

pub(super) fn cooperative(gpu: &mut Gpu) {
    let sms = gpu.device.info().multiprocessors;
    let (sum, out) = (gpu.alloc(4), gpu.alloc(4 * 65_536));
    gpu.device.fill(&sum, 0, 4, 0).expect("a fill");
    let args = vec![pointer(&sum, 4), pointer(&out, 4 * 65_536)];
    let geometry = Geometry { cooperative: true, ..blocks(sms, 128) };
    let mut bound = gpu.bind("cooperative", &geometry, &args).expect("a launch");
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.integers(&out, sms as usize), vec![sms as i32; sms as usize]);
    // Every launch of a batch runs, lead included, whether it could be captured or not.
    gpu.device.fill(&sum, 0, 4, 0).expect("a fill");
    let nanoseconds = gpu.device.sample(&mut bound, 10, CacheMode::Hot).expect("a sample");
    let runs = gpu.integers(&sum, 1)[0] / sms as i32;
    println!("  cooperative: {nanoseconds:.0} ns a launch, {runs} launches for a sample of 10");
    assert!(runs >= 20 && runs % 20 == 0, "{runs}");
    let geometry = Geometry { cooperative: true, ..blocks(65_536, 128) };
    refused(gpu.bind("cooperative", &geometry, &args), "a cooperative grid of 65536 blocks exceeds the ");
}

pub(super) fn impossible_launches(gpu: &mut Gpu) {
    let out = gpu.alloc(4 * 2048);
    let args = vec![pointer(&out, 4 * 2048)];
    let square = Geometry { block: [64, 32, 1], ..Geometry::default() };
    refused(gpu.bind("bounded", &square, &args), "a block of 2048 threads exceeds this device's 1024");
    refused(gpu.bind("bounded", &blocks(1, 512), &args), "a block of 512 threads exceeds the 256 ");
    refused(gpu.bind("bounded", &blocks(0, 32), &args), "the grid is 0 in x");
    refused(gpu.bind("bounded", &Geometry { grid: [1, 70_000, 1], ..blocks(1, 32) }, &args), "70000 in y");
    gpu.run("bounded", &blocks(1, 256), &args).expect("a run");
    assert_eq!(gpu.floats(&out, 256), [1.0; 256]);
}

pub(super) fn wrong_arguments(gpu: &mut Gpu) {
    let buffer = gpu.alloc(64);
    let p = || pointer(&buffer, 64);
    refused(gpu.bind("add", &blocks(1, 1), &vec![p(), p(), int(1)]), "takes 4 parameters, `args` gives 3");
    refused(gpu.bind("add", &blocks(1, 1), &vec![p(), p(), int(1), int(1), int(1)]), "gives 5");
    refused(
        gpu.bind("add", &blocks(1, 1), &vec![p(), p(), p(), int(1)]),
        "parameter 3 is 4 bytes, `args` gives a tensor's address of 8 bytes",
    );
    refused(gpu.bind("empty", &blocks(1, 1), &vec![p()]), "takes 0 parameters, `args` gives 1");
    let past = gpu.bind("add", &blocks(1, 1), &vec![p(), pointer(&buffer, 65), int(1), int(1)]).err();
    assert!(matches!(past, Some(Failure::Inputs { .. })), "{past:?}");
}

pub(super) fn symbol(gpu: &mut Gpu) {
    let kernel = gpu.kernel("polynomial");
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
    gpu.device.set_symbol(&kernel, "coefficients", &bytes(&[1.0, 2.0, 3.0, 4.0])).expect("a symbol");
    let (input, output) = (gpu.upload(&[2.0]), gpu.alloc(4));
    let args = vec![pointer(&input, 4), pointer(&output, 4)];
    let bound = gpu.device.bind(&kernel, &[BoundLaunch::new(blocks(1, 1), args)]).expect("a launch");
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.floats(&output, 1), [49.0]);
    gpu.device.set_symbol(&kernel, "coefficients", &bytes(&[3.0])).expect("part of a symbol");
    gpu.device.run(&bound).expect("a run");
    assert_eq!(gpu.floats(&output, 1), [51.0]);
    let missing = gpu.device.set_symbol(&kernel, "coefficient", &[]);
    assert_eq!(missing, Err(Failure::SymbolNotFound { symbol: "coefficient".into() }));
    match gpu.device.set_symbol(&kernel, "coefficients", &[0; 17]) {
        Err(Failure::LaunchRefused { message }) => println!("  {message}"),
        other => panic!("{other:?}"),
    }
}

pub(super) fn tensor_map(gpu: &mut Gpu) {
    let (rows, columns) = (16usize, 64usize);
    let values: Vec<f32> = (0..(rows * columns) as u16).map(f32::from).collect();
    let (input, output) = (gpu.upload(&values), gpu.alloc(4 * 256));
    let args = |r#box: [u32; 2], swizzle, x, y| {
        let map = TensorMap { tensor: 0, dims: vec![rows as u64, columns as u64], r#box: r#box.to_vec(), swizzle };
        let bytes = 4 * rows * columns;
        let map = BoundArg::TensorMap {
            region: Region { tensor: 0, buffer: input.clone(), offset: 0, bytes },
            dtype: DType::F32,
            map,
        };
        vec![map, pointer(&output, 4 * 256), int(x), int(y)]
    };
    if gpu.device.info().compute_capability < Some((9, 0)) {
        let unsupported = gpu.bind("tensor_map", &blocks(1, 32), &args([8, 32], 0, 0, 0)).err();
        assert!(matches!(unsupported, Some(Failure::Unsupported { .. })), "{unsupported:?}");
        return;
    }
    for (swizzle, x, y) in [(0, 32, 4), (128, 32, 4), (0, 48, 12)] {
        gpu.run("tensor_map", &blocks(1, 32), &args([8, 32], swizzle, x, y)).expect("a run");
        let found = gpu.floats(&output, 256);
        for row in 0..8usize {
            for column in 0..32usize {
                // The swizzle exchanges 16-byte chunks within each row of 128 bytes.
                let chunk = if swizzle == 128 { (column / 4) ^ row } else { column / 4 };
                let (from_row, from_column) = (row + y as usize, column + x as usize);
                let inside = from_row < rows && from_column < columns;
                let expected = if inside { values[from_row * columns + from_column] } else { 0.0 };
                assert_eq!(found[row * 32 + chunk * 4 + column % 4], expected, "swizzle {swizzle}, {row}, {column}");
            }
        }
    }
    refused(gpu.bind("tensor_map", &blocks(1, 32), &args([8, 64], 128, 0, 0)), "256 bytes exceed the swizzle's 128");
    let map = TensorMap { tensor: 0, dims: vec![16, 60], r#box: vec![8, 32], swizzle: 0 };
    let map = BoundArg::TensorMap {
        region: Region { tensor: 0, buffer: input.clone(), offset: 4, bytes: 4 * 16 * 60 },
        dtype: DType::F32,
        map,
    };
    // The driver's own refusal: the address is no multiple of 16.
    let args = vec![map, pointer(&output, 4 * 256), int(0), int(0)];
    refused(gpu.bind("tensor_map", &blocks(1, 32), &args), "CUDA_ERROR_INVALID_VALUE");
}

pub(super) fn out_of_memory(gpu: &mut Gpu) {
    let bytes = gpu.device.info().memory_bytes as usize * 2;
    assert_eq!(gpu.device.alloc(bytes).err(), Some(Failure::OutOfMemory { bytes: bytes as u64 }));
    assert!(matches!(gpu.device.alloc(usize::MAX).err(), Some(Failure::OutOfMemory { .. })));
    good_kernel(gpu);
}

//! Whether samples mean what they say. Prints its figures.

use kbench_runtime::gpu_device::{BoundArg, Device};
use kbench_runtime::protocol::{CacheMode, LaunchMode};

use super::{Gpu, blocks, int, pointer};

pub(super) fn known_duration(gpu: &mut Gpu) {
    println!("  spin for      cold p50    hot p50 (batch)");
    for microseconds in [10i64, 100, 1000] {
        let nanoseconds = 1000 * microseconds;
        let args = vec![BoundArg::Scalar(nanoseconds.to_ne_bytes().to_vec())];
        let mut bound = gpu.bind("spin", &blocks(1, 1), &args).expect("a launch");
        let batch = gpu.batch(&mut bound);
        let cold = gpu.p50(&mut bound, 1, CacheMode::Cold, 20);
        let hot = gpu.p50(&mut bound, batch, CacheMode::Hot, 20);
        println!("  {microseconds:>5} us   {:>8.2} us {:>8.2} us ({batch})", cold / 1e3, hot / 1e3);
        for sample in [cold, hot] {
            let over = sample - nanoseconds as f64;
            assert!((-1100.0..8000.0).contains(&over), "{over} ns over");
        }
    }
}

pub(super) fn launch_cost(gpu: &mut Gpu) {
    let mut bound = gpu.bind("empty", &blocks(1, 32), &Vec::new()).expect("a launch");
    let cold = gpu.p50(&mut bound, 1, CacheMode::Cold, 100);
    print!("  empty kernel: cold {:.2} us; hot by batch:", cold / 1e3);
    for batch in [1, 2, 10, 100, 400, 1000] {
        let hot = gpu.p50(&mut bound, batch, CacheMode::Hot, 50);
        print!("  {batch}: {:.3} us", hot / 1e3);
    }
    println!();
    assert!(cold > 300.0 && cold < 20_000.0);
}

pub(super) fn launch_modes(gpu: &mut Gpu) {
    let mut bound = gpu.bind("empty", &blocks(1, 32), &Vec::new()).expect("a launch");
    let batch = gpu.batch(&mut bound);
    let graph = gpu.p50(&mut bound, batch, CacheMode::Hot, 100);
    let mut p50 = |mode| {
        gpu.device.launch_as(mode);
        [CacheMode::Cold, CacheMode::Hot].map(|cache| gpu.p50(&mut bound, 1, cache, 100))
    };
    let (stream, host) = (p50(LaunchMode::Stream), p50(LaunchMode::Host));
    gpu.device.launch_as(LaunchMode::Graph);
    let us = |samples: [f64; 2]| samples.map(|sample| sample / 1e3);
    println!(
        "  empty kernel: graph {:.2} us; cold and hot: stream {:.2?} us, host {:.2?} us",
        graph / 1e3,
        us(stream),
        us(host)
    );
    for (stream, host) in stream.into_iter().zip(host) {
        assert!(graph < stream && stream < 100_000.0, "a launch on an idle stream costs more than one in a graph");
        assert!(graph < host && host < 1e6, "the host waits for the launch and its end");
    }
}

pub(super) fn cold_and_hot(gpu: &mut Gpu) {
    println!("  read          cold p50    hot p50 (batch)");
    for megabytes in [4usize, 16, 64, 1024] {
        let bytes = megabytes << 20;
        let (input, output) = (gpu.alloc(bytes), gpu.alloc(4));
        gpu.device.fill(&input, 0, bytes, 0).expect("a fill");
        let args = vec![pointer(&input, bytes), pointer(&output, 4), int((bytes / 16) as i32)];
        let grid = gpu.device.info().multiprocessors * 4;
        let mut bound = gpu.bind("read_all", &blocks(grid, 512), &args).expect("a launch");
        let batch = gpu.batch(&mut bound);
        let cold = gpu.p50(&mut bound, 1, CacheMode::Cold, 30);
        let hot = gpu.p50(&mut bound, batch, CacheMode::Hot, 30);
        let rate = |sample: f64| bytes as f64 / sample;
        println!(
            "  {megabytes:>5} MB   {:>8.2} us {:>8.2} us ({batch}), {:.0} and {:.0} GB/s",
            cold / 1e3,
            hot / 1e3,
            rate(cold),
            rate(hot)
        );
        if megabytes <= 16 {
            assert!(cold > 1.1 * hot, "{cold} and {hot}");
        }
    }
}

pub(super) fn repeatability(gpu: &mut Gpu) {
    println!("  p50 of 100 samples, five times over, in us");
    let out = gpu.alloc(4 * 132 * 1024);
    for rounds in [900i32, 205_000] {
        let args = vec![pointer(&out, 4 * 132 * 1024), int(rounds)];
        let mut bound = gpu.bind("chain", &blocks(132, 1024), &args).expect("a launch");
        let batch = gpu.batch(&mut bound);
        gpu.p50(&mut bound, batch, CacheMode::Hot, 20);
        for (cache, batch) in [(CacheMode::Hot, batch), (CacheMode::Cold, 1)] {
            let repeats: Vec<f64> = (0..5).map(|_| gpu.p50(&mut bound, batch, cache, 100) / 1e3).collect();
            let low = repeats.iter().copied().fold(f64::INFINITY, f64::min);
            let high = repeats.iter().copied().fold(0.0, f64::max);
            println!(
                "  {rounds:>7} rounds {cache:?} {batch:>4}: {repeats:.3?}, spread {:.2} %",
                100.0 * (high / low - 1.0)
            );
        }
    }
}

/// The same machine code loaded again and again: how much of a short sample is where the code came to lie.
pub(super) fn placement(gpu: &mut Gpu) {
    println!("  p50 of 100 samples of 16 loads of one kernel, in us");
    let out = gpu.alloc(4 * 132 * 1024);
    let args = vec![pointer(&out, 4 * 132 * 1024), int(900)];
    let mut bounds: Vec<_> = (0..16).map(|_| gpu.bind("chain", &blocks(132, 128), &args).expect("a launch")).collect();
    for (cache, batch) in [(CacheMode::Cold, 1), (CacheMode::Hot, 50)] {
        for round in 0..3 {
            let p50s: Vec<f64> = bounds.iter_mut().map(|bound| gpu.p50(bound, batch, cache, 100) / 1e3).collect();
            let low = p50s.iter().copied().fold(f64::INFINITY, f64::min);
            let high = p50s.iter().copied().fold(0.0, f64::max);
            println!("  {cache:?} {round}: {p50s:.3?}, spread {:.2} %", 100.0 * (high / low - 1.0));
        }
    }
}

/// The board's counter, over the windows that the worker would take; says so where this GPU has none.
pub(super) fn energy(gpu: &mut Gpu) {
    let first = match gpu.device.energy() {
        Ok(first) => first,
        Err(why) => return println!("  no energy: {why}"),
    };
    let bytes = 256 << 20;
    let (input, output) = (gpu.alloc(bytes), gpu.alloc(4));
    gpu.device.fill(&input, 0, bytes, 0).expect("a fill");
    let args = vec![pointer(&input, bytes), pointer(&output, 4), int((bytes / 16) as i32)];
    let grid = gpu.device.info().multiprocessors * 4;
    for (what, entry, geometry, args) in [
        ("reading 256 MB", "read_all", blocks(grid, 512), args),
        (
            "one thread that waits 1 ms",
            "spin",
            blocks(1, 1),
            vec![BoundArg::Scalar(1_000_000i64.to_ne_bytes().to_vec())],
        ),
    ] {
        let bound = gpu.bind(entry, &geometry, &args).expect("a launch");
        let mut last = first;
        let mut moves = Vec::new();
        let (begun, mut since) = (std::time::Instant::now(), std::time::Instant::now());
        let (mut joules, mut seconds) = (0.0, 0.0);
        while begun.elapsed() < 8 * first.window {
            gpu.device.run_many(&bound, &[], 20).expect("launches");
            let now = gpu.device.energy().expect("it had one");
            if now.joules > last.joules {
                // The first step holds what was before.
                if !moves.is_empty() {
                    joules += now.joules - last.joules;
                    seconds += since.elapsed().as_secs_f64();
                }
                moves.push(since.elapsed().as_secs_f64() * 1e3);
                (last, since) = (now, std::time::Instant::now());
            }
        }
        let longest = moves.iter().skip(1).copied().fold(0.0, f64::max);
        let power = joules / seconds;
        println!("  {what}: {power:.0} W; the counter moved {} times, at most {longest:.0} ms apart", moves.len());
        assert!(longest / 1e3 < first.window.as_secs_f64() / 2.0, "windows are too short for this counter");
        assert!((10.0..2000.0).contains(&power));
    }
}

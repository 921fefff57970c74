//! Launches the exported variant of `softmax` on the GPU and checks what it computes.
mod kbench;

use cudarc::driver::{CudaContext, sys};
use kbench::softmax::{self, Dims};

fn main() -> Result<(), kbench::Error> {
    if !has_gpu() {
        println!("no GPU, or no driver: nothing was launched");
        return Ok(());
    }
    for dims in [Dims { r: 4096, c: 1024 }, Dims { r: 37, c: 1000 }] {
        let kbench::Choice { variant, rule } = softmax::pick(&CudaContext::new(0)?, dims)?;
        let error = launch(dims)?;
        println!(
            "{} x {}: {variant}, since {rule}; largest error {error:.1e}",
            dims.r, dims.c
        );
        assert!(error < 1e-4, "a row is wrong");
    }
    Ok(())
}

/// Whether there is anything to launch on. cudarc panics where the driver's library is missing.
fn has_gpu() -> bool {
    // SAFETY: it only looks for the library.
    let has_driver = unsafe { sys::is_culib_present() };
    has_driver && CudaContext::device_count().is_ok_and(|count| count > 0)
}

/// The softmax of each row, and its largest relative difference from double precision.
fn launch(dims: Dims) -> Result<f64, kbench::Error> {
    let stream = CudaContext::new(0)?.default_stream();
    let host: Vec<f32> = (0..dims.r * dims.c)
        .map(|i| (i * 7 % 101) as f32 / 20.0 - 2.5)
        .collect();
    let x = stream.clone_htod(&host)?;
    let mut y = stream.alloc_zeros::<f32>(host.len())?;
    softmax::launch(&stream, dims, &x, &mut y)?;
    let mut worst = 0.0f64;
    for (x, y) in host
        .chunks(dims.c)
        .zip(stream.clone_dtoh(&y)?.chunks(dims.c))
    {
        let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
        for (&x, &y) in x.iter().zip(y) {
            worst = worst.max((f64::from(y) * sum / f64::from(x).exp() - 1.0).abs());
        }
    }
    Ok(worst)
}

#[test]
fn the_exported_variant_is_right() {
    if has_gpu() {
        for (r, c) in [(1, 8), (5, 1000)] {
            let error = launch(Dims { r, c }).unwrap();
            assert!(error < 1e-4, "{r} x {c}: {error}");
        }
    }
}

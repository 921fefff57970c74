//! Launches the exported variant of `sdpa` on a Hopper GPU and checks what it computes.
mod kbench;

use cudarc::driver::{CudaContext, sys};
use kbench::sdpa::{self, Dims};

fn main() -> Result<(), kbench::Error> {
    if !has_gpu() {
        println!("no GPU, or no driver: nothing was launched");
        return Ok(());
    }
    for dims in [
        Dims {
            b: 2,
            h: 8,
            s: 512,
            d: 64,
        },
        Dims {
            b: 2,
            h: 3,
            s: 333,
            d: 64,
        },
    ] {
        let kbench::Choice { variant, rule } = sdpa::pick(&CudaContext::new(0)?, dims)?;
        let error = launch(dims)?;
        println!("{dims:?}: {variant}, since {rule}; largest error {error:.1e}");
        assert!(error < 0.06, "a row is wrong");
    }
    Ok(())
}

/// Whether there is anything to launch on. cudarc panics where the driver's library is missing.
fn has_gpu() -> bool {
    // SAFETY: it only looks for the library.
    let has_driver = unsafe { sys::is_culib_present() };
    has_driver && CudaContext::device_count().is_ok_and(|count| count > 0)
}

/// Numbers as E4M3 has them.
const NUMBERS: [(u8, f64); 8] = [
    (0x00, 0.0),
    (0x38, 1.0),
    (0xb8, -1.0),
    (0x30, 0.5),
    (0xb0, -0.5),
    (0x3c, 1.5),
    (0xbc, -1.5),
    (0x40, 2.0),
];

/// A number of a tensor, one of [`NUMBERS`].
fn number(tensor: usize, at: usize) -> (u8, f64) {
    let hash = (at * 3 + tensor + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    NUMBERS[hash >> 61]
}

/// The attention of all heads, and its largest difference from double precision.
fn launch(dims: Dims) -> Result<f64, kbench::Error> {
    let Dims { b, h, s, d } = dims;
    let stream = CudaContext::new(0)?.default_stream();
    let tensor =
        |tensor| -> Vec<u8> { (0..b * h * s * d).map(|at| number(tensor, at).0).collect() };
    let scales: Vec<f32> = (0..h).map(|head| 0.5 + head as f32 / 16.0).collect();
    let [q, k, v] = [0, 1, 2].map(|at| stream.clone_htod(&tensor(at)));
    let scale = stream.clone_htod(&scales)?;
    let mut o = stream.alloc_zeros::<u16>(b * h * s * d)?;
    sdpa::launch(&stream, dims, &q?, &k?, &v?, &scale, &scale, &scale, &mut o)?;
    let o = stream.clone_dtoh(&o)?;
    let mut worst = 0.0f64;
    for head in 0..b * h {
        let scale = f64::from(scales[head % h]);
        let value = |tensor, row, at| scale * number(tensor, (head * s + row) * d + at).1;
        // Some rows of each head.
        for row in (0..s).step_by(61) {
            let score = |key| {
                (0..d)
                    .map(|at| value(0, row, at) * value(1, key, at))
                    .sum::<f64>()
                    / (d as f64).sqrt()
            };
            let scores: Vec<f64> = (0..s).map(score).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for at in 0..d {
                let right: f64 = (0..s).map(|key| weights[key] * value(2, key, at)).sum();
                let own = half(o[(head * s + row) * d + at]);
                worst = worst.max((right / sum - own).abs());
            }
        }
    }
    Ok(worst)
}

/// A number in fp16.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (
        i32::from(bits >> 10 & 0x1f),
        f64::from(bits & 0x3ff) / 1024.0,
    );
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

#[test]
fn the_exported_variant_is_right() {
    if has_gpu() {
        for (b, h, s) in [(1, 1, 64), (1, 2, 100)] {
            let error = launch(Dims { b, h, s, d: 64 }).unwrap();
            assert!(error < 0.06, "{b} {h} {s}: {error}");
        }
    }
}

#[test]
fn half_precision_is_decoded() {
    for (bits, value) in [
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x3555, 0.333_251_953_125),
        (0x0001, 2f64.powi(-24)),
    ] {
        assert_eq!(half(bits).to_bits(), f64::to_bits(value));
    }
}

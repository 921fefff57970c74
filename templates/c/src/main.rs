//! Launches the exported variant of `matmul` and checks what it computes.
mod kbench;

use kbench::matmul::{self, Dims};

fn main() -> Result<(), kbench::Error> {
    for dims in [
        Dims {
            m: 192,
            n: 192,
            k: 192,
        },
        Dims {
            m: 61,
            n: 97,
            k: 83,
        },
    ] {
        let kbench::Choice { variant, rule } = matmul::pick(dims)?;
        let error = launch(dims)?;
        println!(
            "{} x {} x {}: {variant}, since {rule}; largest error {error:.1e}",
            dims.m, dims.n, dims.k
        );
        assert!(error < 1e-3, "the product is wrong");
    }
    Ok(())
}

/// Multiplies two matrices, and gives the largest difference from their product in double precision.
fn launch(dims: Dims) -> Result<f64, kbench::Error> {
    let Dims { m, n, k } = dims;
    let fill = |count: usize, step: usize| -> Vec<f32> {
        (0..count)
            .map(|i| (i * step % 17) as f32 / 17.0 - 0.5)
            .collect()
    };
    let (a, b) = (fill(m * k, 7), fill(k * n, 5));
    let mut c = vec![f32::NAN; m * n];
    matmul::launch(dims, &a, &b, &mut c)?;
    let exact = |i: usize| -> f64 {
        (0..k)
            .map(|p| f64::from(a[i / n * k + p]) * f64::from(b[p * n + i % n]))
            .sum()
    };
    Ok(c.iter()
        .enumerate()
        .map(|(i, &c)| (f64::from(c) - exact(i)).abs())
        .fold(0.0, f64::max))
}

#[test]
fn the_exported_variant_is_right() {
    for (m, n, k) in [(1, 1, 1), (3, 40, 7), (64, 64, 64)] {
        let error = launch(Dims { m, n, k }).unwrap();
        assert!(error < 1e-3, "{m} x {n} x {k}: {error}");
    }
}

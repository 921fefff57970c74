//! The logarithm of expected improvement: far from the best, the value itself is smaller than any float, and its
//! logarithm still ranks candidates.

/// Logarithm of the expected improvement of a normal value; `gap` is the distance of its mean below the best known
/// value.
pub fn log_expected(gap: f64, deviation: f64) -> f64 {
    if deviation <= 0.0 {
        return if gap > 0.0 { gap.ln() } else { f64::NEG_INFINITY };
    }
    deviation.ln() + log_unit(gap / deviation)
}

/// `ln(phi(z) + z Phi(z))`.
fn log_unit(z: f64) -> f64 {
    const LOG_ROOT_TAU: f64 = 0.918_938_533_204_672_7;
    let log_density = -0.5 * z * z - LOG_ROOT_TAU;
    // The share of the density: 1 - x m(x) with Mills' ratio m, which is small for large x.
    let x = -z;
    if x > 30.0 {
        return log_density - 2.0 * x.ln();
    }
    if x >= 0.0 {
        return log_density + (1.0 - x * mills(x)).max(1e-300).ln();
    }
    // Phi(z) = 1 - Phi(-z).
    let density = log_density.exp();
    (density + z * (1.0 - density * mills(z))).ln()
}

/// `(1 - Phi(x)) / phi(x)` for x >= 0; Numerical Recipes' rational approximation of erfc, relative error below 1.2e-7.
fn mills(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x * std::f64::consts::FRAC_1_SQRT_2);
    let power = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
    // erfc(y) = t exp(-y^2 + power) with y = x / sqrt 2.
    t * power.exp() * (std::f64::consts::PI / 2.0).sqrt()
}

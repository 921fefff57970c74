//! The Gaussian process: a Matérn-5/2 kernel with a length scale for each feature, fitted to few observations by
//! maximum a posteriori.
//!
//! The variance of the signal has a closed form, and the mean is that of generalized least squares, so that only length
//! scales and the noise are fitted. Noise is relative to the signal.

/// Width of the prior of a length scale's logarithm.
const SCALE_WIDTH: f64 = 0.5;
/// Prior of the noise, and width of its logarithm.
const NOISE: f64 = 0.001;
const NOISE_WIDTH: f64 = 1.0;
/// Number of steps of a fit, their rate, and the decay of Adam's means.
const STEPS: i32 = 15;
const RATE: f64 = 0.15;
const DECAY: (f64, f64) = (0.8, 0.95);

const ROOT_5: f64 = 2.236_067_977_499_79;

/// The fitted parameters as logarithms: length scales, then the noise.
#[derive(Debug, Clone)]
pub struct Parameters {
    logs: Vec<f64>,
}

impl Parameters {
    /// The parameters of the prior.
    pub fn prior(scales: &[f64]) -> Self {
        Self { logs: scales.iter().map(|scale| scale.ln()).chain([NOISE.ln()]).collect() }
    }

    /// Parameters from these logarithms.
    #[cfg(test)]
    pub(super) fn of(logs: Vec<f64>) -> Self {
        Self { logs }
    }

    /// Reciprocal of each length scale.
    pub fn inverse_scales(&self) -> Vec<f64> {
        self.logs[..self.logs.len() - 1].iter().map(|log| (-log).exp()).collect()
    }

    /// Variance of the noise, relative to the signal.
    pub fn noise(&self) -> f64 {
        self.logs[self.logs.len() - 1].exp()
    }

    /// Fits to observations, starting at the present parameters.
    pub fn fit(&mut self, x: &[&[f32]], y: &[f64], scales: &[f64]) {
        let prior = Self::prior(scales).logs;
        let last = prior.len() - 1;
        let width = |at: usize| if at == last { NOISE_WIDTH } else { SCALE_WIDTH };
        let (mut first, mut second) = (vec![0.0; prior.len()], vec![0.0; prior.len()]);
        let mut best = (f64::NEG_INFINITY, self.logs.clone());
        for step in 1..=STEPS {
            let Some((mut value, mut slope)) = self.likelihood(x, y) else { break };
            for (at, slope) in slope.iter_mut().enumerate() {
                let off = (self.logs[at] - prior[at]) / width(at);
                value -= 0.5 * off * off;
                *slope -= off / width(at);
            }
            if value > best.0 {
                best = (value, self.logs.clone());
            }
            for (at, slope) in slope.iter().enumerate() {
                first[at] = DECAY.0 * first[at] + (1.0 - DECAY.0) * slope;
                second[at] = DECAY.1 * second[at] + (1.0 - DECAY.1) * slope * slope;
                let mean = first[at] / (1.0 - DECAY.0.powi(step));
                let spread = (second[at] / (1.0 - DECAY.1.powi(step))).sqrt();
                let (low, high) = if at == last { (-9.2, 0.0) } else { (-4.0, 5.0) };
                self.logs[at] = (self.logs[at] + RATE * mean / (spread + 1e-8)).clamp(low, high);
            }
        }
        self.logs = best.1;
    }

    /// Logarithm of the likelihood without a constant, and its gradient; `None` if the kernel's matrix is singular.
    pub(super) fn likelihood(&self, x: &[&[f32]], y: &[f64]) -> Option<(f64, Vec<f64>)> {
        let n = x.len();
        let features = self.logs.len() - 1;
        let weights: Vec<f64> = self.inverse_scales().iter().map(|inverse| inverse * inverse).collect();
        let noise = self.noise();
        let mut kernel = vec![0.0; n * n];
        // Factor of each pair in the gradient: d kernel / d ln scale is this factor times the feature's share of the
        // distance.
        let mut steep = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..i {
                let mut squared = 0.0;
                for ((a, b), weight) in x[i].iter().zip(x[j]).zip(&weights) {
                    let delta = f64::from(a - b);
                    squared += delta * delta * weight;
                }
                let r = ROOT_5 * squared.sqrt();
                let decay = (-r).exp();
                kernel[i * n + j] = (1.0 + r + r * r / 3.0) * decay;
                steep[i * n + j] = 5.0 / 3.0 * (1.0 + r) * decay;
            }
            kernel[i * n + i] = 1.0 + noise;
        }
        let factor = Factor::of(n, |i, j| kernel[i * n + j])?;
        let (_, scaled) = factor.generalized_mean(y);
        let variance = (scaled.iter().map(|z| z * z).sum::<f64>() / n as f64).max(1e-12);
        let value = -0.5 * n as f64 * variance.ln() - factor.log_pivots();
        let alpha = factor.solve_transposed(scaled);
        let inverse = factor.inverse();
        let mut slope = vec![0.0; features + 1];
        let mut of_noise = 0.0;
        for i in 0..n {
            of_noise += 0.5 * (alpha[i] * alpha[i] / variance - inverse[i * n + i]) * noise;
            for j in 0..i {
                // Twice a half: the matrix is symmetric.
                let weight = (alpha[i] * alpha[j] / variance - inverse[i * n + j]) * steep[i * n + j];
                for (feature, (a, b)) in x[i].iter().zip(x[j]).enumerate() {
                    let delta = f64::from(a - b);
                    slope[feature] += weight * delta * delta;
                }
            }
        }
        for (slope, weight) in slope.iter_mut().zip(&weights) {
            *slope *= weight;
        }
        slope[features] = of_noise;
        Some((value, slope))
    }
}

/// The kernel of two points whose features are divided by the length scales.
pub fn kernel(a: &[f32], b: &[f32]) -> f64 {
    let squared: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let r = ROOT_5 * squared.sqrt();
    (1.0 + r + r * r / 3.0) * (-r).exp()
}

/// A lower triangular Cholesky factor that grows by rows.
#[derive(Debug, Clone, Default)]
pub struct Factor {
    rows: Vec<Vec<f64>>,
}

impl Factor {
    /// The factor of a matrix, by its lower triangle; `None` if the matrix is not positive definite.
    fn of(n: usize, entry: impl Fn(usize, usize) -> f64) -> Option<Self> {
        let mut factor = Self::default();
        for i in 0..n {
            let row: Vec<f64> = (0..i).map(|j| entry(i, j)).collect();
            let row = factor.solve(row);
            let pivot = entry(i, i) - row.iter().map(|value| value * value).sum::<f64>();
            if pivot <= 0.0 {
                return None;
            }
            factor.push(row, pivot.sqrt());
        }
        Some(factor)
    }

    /// Adds a row: the result of [`solve`](Self::solve) for the new entries, and the pivot.
    pub fn push(&mut self, mut solved: Vec<f64>, pivot: f64) {
        solved.push(pivot);
        self.rows.push(solved);
    }

    /// A row, the pivot last.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.rows[row]
    }

    pub fn truncate(&mut self, n: usize) {
        self.rows.truncate(n);
    }

    /// `L^-1 b`.
    pub fn solve(&self, mut b: Vec<f64>) -> Vec<f64> {
        for i in 0..b.len() {
            let row = &self.rows[i];
            let sum: f64 = row[..i].iter().zip(&b[..i]).map(|(l, b)| l * b).sum();
            b[i] = (b[i] - sum) / row[i];
        }
        b
    }

    /// `L^-T b`.
    pub fn solve_transposed(&self, mut b: Vec<f64>) -> Vec<f64> {
        for i in (0..b.len()).rev() {
            let row = &self.rows[i];
            b[i] /= row[i];
            let value = b[i];
            for (b, l) in b[..i].iter_mut().zip(row) {
                *b -= l * value;
            }
        }
        b
    }

    /// The mean of generalized least squares, and `L^-1 (y - mean)`.
    pub fn generalized_mean(&self, y: &[f64]) -> (f64, Vec<f64>) {
        let ones = self.solve(vec![1.0; y.len()]);
        let mut scaled = self.solve(y.to_vec());
        let dot: f64 = ones.iter().zip(&scaled).map(|(one, y)| one * y).sum();
        let mean = dot / ones.iter().map(|one| one * one).sum::<f64>();
        for (scaled, one) in scaled.iter_mut().zip(&ones) {
            *scaled -= mean * one;
        }
        (mean, scaled)
    }

    fn log_pivots(&self) -> f64 {
        self.rows.iter().map(|row| row[row.len() - 1].ln()).sum()
    }

    /// The lower triangle of the inverse of `L L^T`.
    fn inverse(&self) -> Vec<f64> {
        let n = self.rows.len();
        // Column j of L^-1, from row j on, as a row: the sums below then run over neighbouring numbers.
        let mut lower = vec![0.0; n * n];
        for j in 0..n {
            lower[j * n + j] = 1.0 / self.rows[j][j];
            for i in j + 1..n {
                let sum: f64 = self.rows[i][j..i].iter().zip(&lower[j * n + j..j * n + i]).map(|(l, v)| l * v).sum();
                lower[j * n + i] = -sum / self.rows[i][i];
            }
        }
        let mut inverse = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let (a, b) = (&lower[i * n + i..(i + 1) * n], &lower[j * n + i..(j + 1) * n]);
                inverse[i * n + j] = a.iter().zip(b).map(|(a, b)| a * b).sum();
            }
        }
        inverse
    }
}

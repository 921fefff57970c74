//! The roofline: what a launch does by the table's `work`, over its measured time, against the measured ceilings.

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Role;
use serde::Serialize;

use super::Counted;
use crate::config::{Arg, Backend, Kernel};
use crate::profile::ceilings::{Ceiling, Ceilings, Peak};

/// A tensor pipe that is active for less than this share of the time, in percent, is not what a kernel computes with.
const TENSOR_IN_USE: f64 = 1.0;

/// A kernel's place below the ceilings.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Roofline {
    /// 10^12 floating-point operations a second.
    pub tflops: Option<f64>,
    /// 10^9 bytes a second.
    pub gbytes: Option<f64>,
    /// Arithmetic intensity: operations a byte.
    pub intensity: Option<f64>,
    /// Of the peak of arithmetic.
    pub compute: Option<Share>,
    /// Of the copy bandwidth.
    pub memory: Option<Share>,
}

/// A share of a ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Share {
    /// The ceiling.
    pub ceiling: Ceiling,
    /// The share in percent.
    pub percent: f64,
    /// Why this ceiling is the one.
    pub because: String,
}

impl Roofline {
    /// The place of a launch that took `nanoseconds`; the error is what is missing.
    pub fn of(
        kernel: &Kernel,
        work: (Option<f64>, Option<f64>),
        nanoseconds: f64,
        ceilings: &Ceilings,
        counted: Option<&Counted>,
    ) -> Result<Self, String> {
        let (flops, bytes) = work;
        if flops.is_none() && bytes.is_none() {
            return Err("`work` is not in the table".to_owned());
        }
        let share = |amount: Option<f64>, peak, because: &str| {
            let rate = amount? / nanoseconds * 1e9;
            let ceiling = ceilings.of(peak)?.clone();
            Some(Share { percent: rate / ceiling.rate * 100.0, ceiling, because: because.to_owned() })
        };
        let (peak, because) = compute_peak(kernel, counted);
        Ok(Self {
            // Operations a nanosecond are 10^9 a second.
            tflops: flops.map(|flops| flops / nanoseconds / 1e3),
            gbytes: bytes.map(|bytes| bytes / nanoseconds),
            intensity: flops.zip(bytes).map(|(flops, bytes)| flops / bytes),
            compute: share(flops, peak, because),
            memory: share(bytes, Peak::Copy, "what moves through memory"),
        })
    }

    /// The ceiling that it is nearest to: that is the roof above its intensity.
    pub fn nearest(&self) -> Option<&Share> {
        let shares = [&self.compute, &self.memory].into_iter().flatten();
        shares.max_by(|a, b| a.percent.total_cmp(&b.percent))
    }

    /// Whether it is held against the peak of tensor cores.
    pub fn uses_tensor_cores(&self) -> bool {
        let peak = self.compute.as_ref().map(|share| share.ceiling.peak);
        matches!(peak, Some(Peak::TensorF16 | Peak::TensorF8))
    }
}

/// Which arithmetic a kernel's operations are held against, and why: what the counters saw, or else the narrowest floating-point
/// type among its inputs.
fn compute_peak(kernel: &Kernel, counted: Option<&Counted>) -> (Peak, &'static str) {
    if kernel.implementation.backend == Backend::C {
        return (Peak::Fp32, "one core");
    }
    if let Some(active) = counted.and_then(|counted| counted.value("sm__pipe_tensor_cycles_active")) {
        if active < TENSOR_IN_USE {
            return (Peak::Fp32, "the tensor pipe is idle");
        }
        let of = |source: &str| counted.and_then(|counted| counted.value(source));
        let fp8 = of("sm__ops_path_tensor_src_fp8").unwrap_or(0.0);
        if fp8 > 0.0 && fp8 >= of("sm__ops_path_tensor_src_fp16").unwrap_or(0.0) {
            return (Peak::TensorF8, "the tensor pipe works on fp8");
        }
        return (Peak::TensorF16, "the tensor pipe is in use");
    }
    let inputs = kernel.tensors.iter().filter(|tensor| tensor.role != Role::Out && is_argument(kernel, &tensor.name));
    let narrowest = inputs.map(|tensor| tensor.dtype).filter(|dtype| dtype.is_float()).min_by_key(|dtype| dtype.size());
    match narrowest.map(DType::size) {
        Some(1) => (Peak::TensorF8, "by the type of its inputs"),
        Some(2) => (Peak::TensorF16, "by the type of its inputs"),
        _ => (Peak::Fp32, "by the type of its inputs"),
    }
}

fn is_argument(kernel: &Kernel, name: &str) -> bool {
    kernel.implementation.args().flat_map(Arg::tensors).any(|tensor| kernel.tensors[tensor].name == name)
}

//! The roofline: `work` of the table over the measured time, against the measured ceilings.

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::Role;
use serde::Serialize;

use super::Counted;
use crate::config::{Arg, Backend, Kernel};
use crate::profile::ceilings::{Ceiling, Ceilings, Peak};

/// Activity of the tensor pipe in percent below which the kernel's arithmetic counts as other arithmetic.
const TENSOR_IN_USE: f64 = 1.0;

/// Rates of a kernel, and shares of the ceilings.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Roofline {
    /// 10^12 floating-point operations a second.
    pub tflops: Option<f64>,
    /// 10^9 bytes a second.
    pub gbytes: Option<f64>,
    /// Arithmetic intensity in operations per byte.
    pub intensity: Option<f64>,
    /// Share of the peak of arithmetic.
    pub compute: Option<Share>,
    /// Share of the copy bandwidth.
    pub memory: Option<Share>,
}

/// A share of a ceiling.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Share {
    /// The ceiling.
    pub ceiling: Ceiling,
    /// The share in percent.
    pub percent: f64,
    /// Reason for the choice of the ceiling.
    pub because: String,
}

impl Roofline {
    /// The roofline of a launch that took `nanoseconds`; the error names the missing input.
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
            // Operations a nanosecond are 10^9 operations a second.
            tflops: flops.map(|flops| flops / nanoseconds / 1e3),
            gbytes: bytes.map(|bytes| bytes / nanoseconds),
            intensity: flops.zip(bytes).map(|(flops, bytes)| flops / bytes),
            compute: share(flops, peak, because),
            memory: share(bytes, Peak::Copy, "bytes that move through memory"),
        })
    }

    /// The ceiling with the largest share, which limits a kernel of this intensity.
    pub fn nearest(&self) -> Option<&Share> {
        let shares = [&self.compute, &self.memory].into_iter().flatten();
        shares.max_by(|a, b| a.percent.total_cmp(&b.percent))
    }

    /// Whether the rate of operations is compared with the peak of tensor cores.
    pub fn uses_tensor_cores(&self) -> bool {
        let peak = self.compute.as_ref().map(|share| share.ceiling.peak);
        matches!(peak, Some(Peak::TensorF16 | Peak::TensorF8))
    }
}

/// The peak for the kernel's operations, and the reason: the arithmetic that the counters saw, otherwise the narrowest
/// floating-point type among the inputs.
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

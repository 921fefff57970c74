//! Compares the facts of a check with the limits. Causes come before consequences: a kernel that leaves a tail
//! unwritten is also wrong, and the message names the cause.

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::{OutputReport, Role, SeedReport};

use crate::config::{CorrectnessLimits, Kernel, Tensor};
use crate::gates::at_level;
use crate::record::evaluation::{GateName, Reason, Rejection, relative};
use crate::text::number;

/// Looks for one kind of fault in one report.
type Check = fn(&Judge<'_>, &SeedReport) -> Option<(Reason, String)>;

/// Limits for the reports of a shape.
struct Judge<'a> {
    limits: &'a CorrectnessLimits,
    tensors: &'a [Tensor],
    /// The report on a random input, which reports on patterns are compared with.
    ordinary: Option<&'a SeedReport>,
}

/// Judges every seed and pattern of one shape.
pub fn judge(limits: &CorrectnessLimits, tensors: &[Tensor], shape: &str, seeds: &[SeedReport]) -> Option<Rejection> {
    let checks: [Check; 7] = [out_of_bounds, input_changed, unwritten, unrepeatable, stale, nonfinite, wrong];
    let judge = Judge { limits, tensors, ordinary: seeds.iter().find(|seed| seed.pattern.is_none()) };
    // Random inputs explain a fault best: on equal inputs, a kernel that accumulates zeros appears to write nothing.
    [false, true].into_iter().find_map(|in_pattern| {
        checks.into_iter().find_map(|check| {
            seeds.iter().filter(|seed| seed.pattern.is_some() == in_pattern).find_map(|seed| {
                let (reason, message) = check(&judge, seed)?;
                Some(Rejection::new(
                    GateName::Correctness,
                    reason,
                    format!("{message} ({})", inputs(seed)),
                    Some(shape),
                ))
            })
        })
    })
}

/// Judges reports by a kernel's limits at their level.
pub fn judge_at_level(
    kernel: &Kernel,
    shape: &str,
    seeds: &[SeedReport],
    warnings: &mut Vec<String>,
) -> Option<Rejection> {
    let limits = &kernel.gates.correctness;
    at_level(limits.level, judge(limits, &kernel.tensors, shape, seeds), warnings)
}

/// Share of the absolute error that must have one sign to count as bias.
const ONE_SIGN: f64 = 0.99;

/// Number of bytes that a launch may print without a warning.
const FLOOD: u64 = 64 << 10;

/// Warnings about outputs that pass. The texts have no numbers, so that equal findings are merged.
pub fn warnings(limits: &CorrectnessLimits, tensors: &[Tensor], shape: &str, seeds: &[SeedReport]) -> Vec<String> {
    let most = |of: fn(&SeedReport) -> u64| seeds.iter().map(of).max().unwrap_or(0);
    let (printed, heap) = (most(|seed| seed.side_effects.printed), most(|seed| seed.side_effects.heap));
    let mut warnings = Vec::new();
    if printed > FLOOD {
        warnings.push(format!(
            "a launch prints more than {} KB at {shape}: the measured time is that of printing, and the driver drops text beyond its buffer",
            FLOOD >> 10
        ));
    }
    if heap > 0 {
        warnings
            .push(format!("launches keep memory of the device's heap at {shape}: `malloc` fails once it is used up"));
    }
    warnings.extend(one_sign(limits, tensors, shape, seeds));
    warnings
}

/// A warning about errors of one sign everywhere, beyond chance and rounding, if the table does not limit the bias.
/// Such an error does not average out in results that are computed from the output.
fn one_sign(limits: &CorrectnessLimits, tensors: &[Tensor], shape: &str, seeds: &[SeedReport]) -> Option<String> {
    if limits.max_bias.or(limits.max_bias_ratio).is_some() {
        return None;
    }
    let one_signed = |output: &&OutputReport| {
        let dtype = tensors.iter().find(|tensor| tensor.name == output.tensor).map(|tensor| tensor.dtype);
        let rounded = dtype.filter(|dtype| dtype.is_float()).map(|dtype| rounding(dtype) * output.rms_ref);
        rounded.is_some_and(|rounded| output.bias.abs() > rounded && bias_ratio(output) > ONE_SIGN)
    };
    let mut random = seeds.iter().filter(|seed| seed.pattern.is_none()).peekable();
    let first = random.peek().copied()?;
    let found = (0..first.outputs.len()).find_map(|index| {
        // On every seed: in an output with few errors, all may have one sign by chance.
        let outputs: Option<Vec<&OutputReport>> = random.clone().map(|seed| seed.outputs.get(index)).collect();
        let outputs = outputs?;
        let sign = outputs.first()?.bias.signum();
        let all = outputs.iter().all(|output| one_signed(output) && output.bias.signum() * sign > 0.0);
        all.then(|| outputs[0])
    });
    found.map(|output| {
        let side = if output.bias > 0.0 { "too large" } else { "too small" };
        format!(
            "`{}` is {side} everywhere at {shape}: within the limits, but no rounding error; `max_bias` limits it",
            output.tensor
        )
    })
}

/// The inputs of a report: `seed 3`, `hot row`.
fn inputs(report: &SeedReport) -> String {
    report.pattern.map_or_else(|| format!("seed {}", report.seed), |pattern| pattern.name().replace('-', " "))
}

/// Default limit on `rms(error) / rms(reference)`: rounding of the output and of a long sum in fp32, with a margin.
/// Integers are exact.
pub fn usual_rms_err(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-10,
        DType::F32 => 1e-4,
        DType::F16 => 2e-3,
        DType::Bf16 => 1e-2,
        DType::F8e4m3 => 0.06,
        DType::F8e5m2 => 0.12,
        _ => 0.0,
    }
}

/// Limit on the error of one element, over the limit `max_rms_err`, if the table states no `max_abs_err`: a mean over a
/// million elements does not show a single wrong one.
pub const WORST_ELEMENT: f64 = 20.0;

/// The limits of one output of type `dtype`, with defaults.
#[allow(clippy::struct_field_names, reason = "the names of the table")]
struct Limits {
    max_abs_err: Option<f64>,
    max_rms_err: Option<f64>,
    /// Largest error of an element over the larger of its value and `rms(reference)`.
    max_element_err: Option<f64>,
    max_bad_fraction: Option<f64>,
}

impl Limits {
    fn new(limits: &CorrectnessLimits, dtype: DType) -> Self {
        let CorrectnessLimits { max_abs_err, max_mean_err, max_rms_err, max_bad_fraction, .. } = *limits;
        if !dtype.is_float() && max_abs_err.is_none() {
            return Self { max_abs_err: Some(0.0), max_rms_err, max_element_err: None, max_bad_fraction: None };
        }
        let stated = max_abs_err.or(max_mean_err).or(max_rms_err).is_some() || limits.naive.is_some();
        let max_rms_err = max_rms_err.or((!stated).then(|| usual_rms_err(dtype)));
        let element = max_rms_err.unwrap_or_else(|| usual_rms_err(dtype)) * WORST_ELEMENT;
        Self {
            // If a share of bad elements is allowed, `max_abs_err` limits this share only.
            max_abs_err: max_abs_err.filter(|_| max_bad_fraction == 0.0),
            max_rms_err,
            max_element_err: (max_abs_err.is_none() && (max_rms_err.is_some() || limits.naive.is_none()))
                .then_some(element),
            max_bad_fraction: max_abs_err.map(|_| max_bad_fraction).filter(|&share| share > 0.0),
        }
    }
}

/// Absolute error above which an element is bad.
pub fn bad_above(limits: &CorrectnessLimits) -> f64 {
    limits.max_abs_err.unwrap_or(f64::MAX)
}

fn out_of_bounds(_: &Judge<'_>, seed: &SeedReport) -> Option<(Reason, String)> {
    let hit = seed.out_of_bounds.first()?;
    let place = if hit.offset < 0 {
        format!("{} bytes before the start of `{}`", -hit.offset, hit.tensor)
    } else {
        format!("at byte {} of `{}`, past its end", hit.offset, hit.tensor)
    };
    Some((Reason::OutOfBounds, format!("{} bytes written outside: {place}", hit.bytes)))
}

fn input_changed(_: &Judge<'_>, seed: &SeedReport) -> Option<(Reason, String)> {
    let names = seed.inputs_changed.first()?;
    Some((Reason::InputChanged, format!("input `{names}` was written")))
}

fn unwritten(_: &Judge<'_>, seed: &SeedReport) -> Option<(Reason, String)> {
    let output = seed.outputs.iter().find(|output| output.unwritten > 0)?;
    let first = output.first_unwritten.unwrap_or_default();
    let OutputReport { tensor, unwritten, elements, .. } = output;
    Some((Reason::Unwritten, format!("{unwritten} of {elements} elements of `{tensor}` never written, first {first}")))
}

fn unrepeatable(judge: &Judge<'_>, seed: &SeedReport) -> Option<(Reason, String)> {
    (judge.limits.deterministic && seed.unrepeatable > 0).then(|| {
        let count = seed.unrepeatable;
        let differ = if count == 1 { "1 element differs".to_owned() } else { format!("{count} elements differ") };
        (Reason::Unrepeatable, format!("{differ} between two runs on the same inputs"))
    })
}

fn stale(judge: &Judge<'_>, seed: &SeedReport) -> Option<(Reason, String)> {
    // For a kernel that need not be deterministic, the two causes cannot be distinguished.
    (judge.limits.deterministic && seed.stale > 0).then(|| {
        let count = seed.stale;
        (
            Reason::StaleOutput,
            format!(
                "{count} elements depend on earlier contents of the output or of other memory that the kernel did not set"
            ),
        )
    })
}

fn nonfinite(_: &Judge<'_>, seed: &SeedReport) -> Option<(Reason, String)> {
    let output = seed.outputs.iter().find(|output| output.nonfinite > 0)?;
    let OutputReport { tensor, nonfinite, elements, .. } = output;
    Some((
        Reason::Nonfinite,
        format!(
            "{nonfinite} of {elements} elements of `{tensor}` are NaN or infinite where the reference is not, or only in the reference"
        ),
    ))
}

/// An error with its name and its limit.
type Error = (&'static str, f64, Option<f64>);

fn wrong(judge: &Judge<'_>, seed: &SeedReport) -> Option<(Reason, String)> {
    seed.outputs.iter().enumerate().find_map(|(index, output)| {
        let dtype =
            judge.tensors.iter().find(|tensor| tensor.name == output.tensor).map_or(DType::F64, |tensor| tensor.dtype);
        let errors = if seed.pattern.is_none() {
            ordinary_errors(judge.limits, dtype, output)
        } else {
            let ordinary = judge.ordinary.and_then(|report| report.outputs.get(index));
            pattern_errors(judge.limits, dtype, output, ordinary)
        };
        let exceeded: Vec<String> = errors
            .into_iter()
            .filter_map(|(name, value, limit)| {
                let limit = limit?;
                // The condition is also true for a NaN.
                let within = value <= limit;
                (!within).then(|| format!("{name} {value:.3e} > {limit:.3e}"))
            })
            .collect();
        (!exceeded.is_empty()).then(|| {
            let OutputReport { tensor, max_abs_err_at, output_at, reference_at, .. } = output;
            let (output, reference) = (number(*output_at), number(*reference_at));
            let exceeded = exceeded.join(", ");
            // Integers of 64 bits are shown as f64, which does not hold all of them.
            let values = if output == reference {
                format!("not {reference}, which the reference has, but very near")
            } else {
                format!("{output} where the reference has {reference}")
            };
            (Reason::Wrong, format!("{exceeded}; worst at element {max_abs_err_at} of `{tensor}`: {values}"))
        })
    })
}

fn ordinary_errors(limits: &CorrectnessLimits, dtype: DType, output: &OutputReport) -> Vec<Error> {
    let limit = Limits::new(limits, dtype);
    let bad_fraction = output.bad as f64 / output.elements.max(1) as f64;
    let scale = output.rms_ref.max(output.reference_at.abs());
    let beside = &output.related;
    let mut errors = vec![
        ("max_abs_err", output.max_abs_err, limit.max_abs_err),
        ("mean_err", output.mean_abs_err, limits.max_mean_err),
        ("rms_err", relative(output.rms_err, output.rms_ref), limit.max_rms_err),
        ("relative error of one element", relative(output.max_abs_err, scale), limit.max_element_err),
        ("bias", relative(output.bias.abs(), output.rms_ref), limits.max_bias),
        ("bias ratio", bias_ratio(output), limits.max_bias_ratio),
        ("bad fraction", bad_fraction, limit.max_bad_fraction),
    ];
    if let Some(naive) = beside.naive.filter(|_| limits.naive.is_some()) {
        // One rounding of the result is allowed, and a single element may be worse than with another order of
        // operations.
        let (ratio, rounding) = (limits.max_naive_ratio, rounding(dtype));
        let rms = ratio * naive.rms_err + rounding * output.rms_ref;
        let worst = 2.0 * ratio * naive.max_abs_err + 2.0 * rounding * scale;
        errors.push(("rms error beside that of the naive version", output.rms_err, Some(rms)));
        errors.push(("error of one element beside the naive version's", output.max_abs_err, Some(worst)));
    }
    for (name, sizes, limit) in [
        ("quantization error", beside.quantization, limits.max_quantization_err),
        ("total error with quantization", beside.total, limits.max_total_err),
    ] {
        errors.extend(sizes.map(|sizes| (name, sizes.max_abs_err, limit)));
    }
    errors
}

/// Limits in a pattern: outputs may be much larger or smaller than those of random inputs, and small errors of the
/// inputs may change them much. So limits grow with the outputs, and allow the change of the reference by tolerated
/// errors of the inputs, and the loss by flushed subnormal numbers.
fn pattern_errors(
    limits: &CorrectnessLimits,
    dtype: DType,
    output: &OutputReport,
    ordinary: Option<&OutputReport>,
) -> Vec<Error> {
    let limit = Limits::new(limits, dtype);
    let ordinary = ordinary.map_or(output.rms_ref, |ordinary| ordinary.rms_ref);
    let size = output.rms_ref.max(ordinary);
    let growth = if ordinary > 0.0 { size / ordinary } else { 1.0 };
    let (rms, largest) = output.related.sensitivity.map_or((0.0, 0.0), |sizes| (sizes.rms_err, sizes.max_abs_err));
    let (rms, largest) = (2.0 * rms + dtype.smallest_normal(), 4.0 * largest + dtype.smallest_normal());
    let absolute = |relative: f64, size: f64| if size > 0.0 { relative * size } else { relative };
    let element = limit.max_element_err.map(|limit| absolute(limit, size.max(output.reference_at.abs())) + largest);
    let naive = output.related.naive.filter(|_| limits.naive.is_some());
    let naive = naive.map(|naive| limits.max_naive_ratio * naive.rms_err + rounding(dtype) * size + rms);
    vec![
        ("rms error beside that of the naive version", output.rms_err, naive),
        ("max_abs_err", output.max_abs_err, limit.max_abs_err.map(|limit| limit * growth + largest)),
        ("mean_err", output.mean_abs_err, limits.max_mean_err.map(|limit| limit * growth + rms)),
        ("rms of the error", output.rms_err, limit.max_rms_err.map(|limit| absolute(limit, size) + rms)),
        ("error of one element", output.max_abs_err, element),
    ]
}

/// The mean signed error over the mean absolute error; 0 if it does not exceed chance.
fn bias_ratio(output: &OutputReport) -> f64 {
    let standard_error = output.rms_err / (output.elements.max(1) as f64).sqrt();
    if output.bias.abs() <= 4.0 * standard_error { 0.0 } else { output.bias.abs() / output.mean_abs_err }
}

/// Half the distance from 1 to the next number of a type.
fn rounding(dtype: DType) -> f64 {
    let bits = match dtype {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        DType::Bf16 => 8,
        DType::F8e4m3 => 4,
        DType::F8e5m2 => 3,
        _ => return 0.0,
    };
    f64::from(bits).exp2().recip()
}

/// The tolerated relative error of the inputs, for the sensitivity of a pattern: the limit of the outputs.
pub fn tolerance(limits: &CorrectnessLimits, tensors: &[Tensor]) -> f64 {
    let outputs = tensors.iter().filter(|tensor| matches!(tensor.role, Role::Out | Role::Inout));
    let usual = outputs.map(|tensor| usual_rms_err(tensor.dtype)).fold(0.0, f64::max);
    // An integer output is exact only for exact inputs.
    limits.max_rms_err.unwrap_or(usual).clamp(0.0, 0.25)
}

#[cfg(test)]
mod tests;

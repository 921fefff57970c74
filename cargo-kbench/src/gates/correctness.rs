//! Gate 2, correctness: the facts of a check against the limits. Causes come before consequences: a kernel that
//! leaves a tail unwritten is also wrong, and the user wants to hear the first.

use kbench_runtime::dtype::DType;
use kbench_runtime::protocol::{OutputReport, SeedReport};

use crate::config::{CorrectnessLimits, Tensor};
use crate::evaluation::{Gate, Reason, Rejection, relative};

/// Looks for one kind of fault in one seed's report.
type Check = fn(&CorrectnessLimits, &[Tensor], &SeedReport) -> Option<(Reason, String)>;

/// Judges every seed of one shape.
pub fn judge(limits: &CorrectnessLimits, tensors: &[Tensor], shape: &str, seeds: &[SeedReport]) -> Option<Rejection> {
    let checks: [Check; 7] = [out_of_bounds, input_changed, unwritten, unrepeatable, stale, nonfinite, wrong];
    checks.into_iter().find_map(|check| {
        seeds.iter().find_map(|seed| {
            let (reason, message) = check(limits, tensors, seed)?;
            Some(Rejection::new(Gate::Correctness, reason, format!("{message} (seed {})", seed.seed), Some(shape)))
        })
    })
}

/// The limit on `rms(error) / rms(reference)` where the table names none: rounding of the output and of a long sum in
/// fp32, with a margin. Integers are exact.
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

/// How much larger the error of one element may be than that of all, where the table limits only that of all: a mean over a
/// million elements does not see one that is wrong.
pub const WORST_ELEMENT: f64 = 20.0;

/// The limits that hold for one output of type `dtype`, after the defaults.
#[allow(clippy::struct_field_names, reason = "the names of the table")]
struct Limits {
    max_abs_err: Option<f64>,
    max_rms_err: Option<f64>,
    /// Largest error of an element over the larger of itself and `rms(reference)`.
    max_element_err: Option<f64>,
    max_bad_fraction: Option<f64>,
}

impl Limits {
    fn new(limits: &CorrectnessLimits, dtype: DType) -> Self {
        let CorrectnessLimits { max_abs_err, max_mean_err, max_rms_err, max_bad_fraction, .. } = *limits;
        if !dtype.is_float() && max_abs_err.is_none() {
            return Self { max_abs_err: Some(0.0), max_rms_err, max_element_err: None, max_bad_fraction: None };
        }
        let stated = max_abs_err.or(max_mean_err).or(max_rms_err).is_some();
        let max_rms_err = max_rms_err.or((!stated).then(|| usual_rms_err(dtype)));
        let element = max_rms_err.unwrap_or_else(|| usual_rms_err(dtype)) * WORST_ELEMENT;
        Self {
            // With a share of bad elements allowed, that share is what `max_abs_err` limits.
            max_abs_err: max_abs_err.filter(|_| max_bad_fraction == 0.0),
            max_rms_err,
            max_element_err: max_abs_err.is_none().then_some(element),
            max_bad_fraction: max_abs_err.map(|_| max_bad_fraction).filter(|&share| share > 0.0),
        }
    }
}

/// An element is bad where its absolute error exceeds this.
pub fn bad_above(limits: &CorrectnessLimits) -> f64 {
    limits.max_abs_err.unwrap_or(f64::MAX)
}

fn out_of_bounds(_: &CorrectnessLimits, _: &[Tensor], seed: &SeedReport) -> Option<(Reason, String)> {
    let hit = seed.out_of_bounds.first()?;
    let place = if hit.offset < 0 {
        format!("{} bytes before the start of `{}`", -hit.offset, hit.tensor)
    } else {
        format!("at byte {} of `{}`, past its end", hit.offset, hit.tensor)
    };
    Some((Reason::OutOfBounds, format!("{} bytes written outside: {place}", hit.bytes)))
}

fn input_changed(_: &CorrectnessLimits, _: &[Tensor], seed: &SeedReport) -> Option<(Reason, String)> {
    let names = seed.inputs_changed.first()?;
    Some((Reason::InputChanged, format!("input `{names}` was written")))
}

fn unwritten(_: &CorrectnessLimits, _: &[Tensor], seed: &SeedReport) -> Option<(Reason, String)> {
    let output = seed.outputs.iter().find(|output| output.unwritten > 0)?;
    let first = output.first_unwritten.unwrap_or_default();
    let OutputReport { tensor, unwritten, elements, .. } = output;
    Some((Reason::Unwritten, format!("{unwritten} of {elements} elements of `{tensor}` never written, first {first}")))
}

fn unrepeatable(limits: &CorrectnessLimits, _: &[Tensor], seed: &SeedReport) -> Option<(Reason, String)> {
    (limits.deterministic && seed.unrepeatable > 0).then(|| {
        let count = seed.unrepeatable;
        (Reason::Unrepeatable, format!("{count} elements differ between two runs on the same inputs"))
    })
}

fn stale(limits: &CorrectnessLimits, _: &[Tensor], seed: &SeedReport) -> Option<(Reason, String)> {
    // Without determinism the two causes cannot be told apart.
    (limits.deterministic && seed.stale > 0).then(|| {
        let count = seed.stale;
        (Reason::StaleOutput, format!("{count} elements depend on what the output held before"))
    })
}

fn nonfinite(_: &CorrectnessLimits, _: &[Tensor], seed: &SeedReport) -> Option<(Reason, String)> {
    let output = seed.outputs.iter().find(|output| output.nonfinite > 0)?;
    let OutputReport { tensor, nonfinite, elements, .. } = output;
    Some((
        Reason::Nonfinite,
        format!("{nonfinite} of {elements} elements of `{tensor}` are NaN or infinite where the reference is not"),
    ))
}

fn wrong(limits: &CorrectnessLimits, tensors: &[Tensor], seed: &SeedReport) -> Option<(Reason, String)> {
    seed.outputs.iter().find_map(|output| {
        let dtype = tensors.iter().find(|tensor| tensor.name == output.tensor).map_or(DType::F64, |tensor| tensor.dtype);
        let limit = Limits::new(limits, dtype);
        let bad_fraction = output.bad as f64 / output.elements.max(1) as f64;
        let element_err = relative(output.max_abs_err, output.rms_ref.max(output.reference_at.abs()));
        let errors = [
            ("max_abs_err", output.max_abs_err, limit.max_abs_err),
            ("mean_err", output.mean_abs_err, limits.max_mean_err),
            ("rms_err", relative(output.rms_err, output.rms_ref), limit.max_rms_err),
            ("relative error of one element", element_err, limit.max_element_err),
            ("bias", relative(output.bias.abs(), output.rms_ref), limits.max_bias),
            ("bad fraction", bad_fraction, limit.max_bad_fraction),
        ];
        let exceeded: Vec<String> = errors
            .into_iter()
            .filter_map(|(name, value, limit)| {
                let limit = limit?;
                // Written so that a NaN would not pass.
                let within = value <= limit;
                (!within).then(|| format!("{name} {value:.3e} > {limit:.3e}"))
            })
            .collect();
        (!exceeded.is_empty()).then(|| {
            let OutputReport { tensor, max_abs_err_at, output_at, reference_at, .. } = output;
            (
                Reason::Wrong,
                format!(
                    "{}; worst at element {max_abs_err_at} of `{tensor}`: {output_at} where the reference has {reference_at}",
                    exceeded.join(", ")
                ),
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kbench_runtime::protocol::OutOfBounds;

    fn output() -> OutputReport {
        OutputReport {
            tensor: "o".into(),
            elements: 1000,
            unwritten: 0,
            first_unwritten: None,
            nonfinite: 0,
            max_abs_err: 0.05,
            max_abs_err_at: 7,
            output_at: 1.05,
            reference_at: 1.0,
            mean_abs_err: 0.01,
            bias: -0.001,
            rms_err: 0.02,
            rms_ref: 1.0,
            bad: 0,
        }
    }

    fn seed(output: OutputReport) -> SeedReport {
        SeedReport {
            seed: 3,
            outputs: vec![output],
            inputs_changed: vec![],
            out_of_bounds: vec![],
            unrepeatable: 0,
            stale: 0,
        }
    }

    fn code(limits: &CorrectnessLimits, seed: SeedReport) -> Option<Reason> {
        judge(limits, &[], "mission", &[seed]).map(|rejection| rejection.code)
    }

    fn limits() -> CorrectnessLimits {
        CorrectnessLimits { max_abs_err: Some(0.06), max_mean_err: Some(0.02), ..CorrectnessLimits::default() }
    }

    #[test]
    fn within_the_limits_passes() {
        assert_eq!(code(&limits(), seed(output())), None);
    }

    #[test]
    fn each_error_has_its_limit() {
        for (bad, limits) in [
            (OutputReport { max_abs_err: 0.061, ..output() }, limits()),
            (OutputReport { mean_abs_err: 0.021, ..output() }, limits()),
            (output(), CorrectnessLimits { max_rms_err: Some(0.019), ..limits() }),
            (output(), CorrectnessLimits { max_bias: Some(0.0009), ..limits() }),
            (OutputReport { bad: 11, ..output() }, CorrectnessLimits { max_bad_fraction: 0.01, ..limits() }),
        ] {
            assert_eq!(code(&limits, seed(bad)), Some(Reason::Wrong));
        }
        let tolerated = OutputReport { max_abs_err: 9.0, bad: 10, ..output() };
        assert_eq!(code(&CorrectnessLimits { max_bad_fraction: 0.01, ..limits() }, seed(tolerated)), None);
    }

    #[test]
    fn causes_come_before_consequences() {
        let mut all = seed(OutputReport { unwritten: 1, nonfinite: 1, max_abs_err: 9.0, ..output() });
        all.stale = 1;
        all.unrepeatable = 1;
        assert_eq!(code(&limits(), all.clone()), Some(Reason::Unwritten));
        all.inputs_changed = vec!["q".into()];
        assert_eq!(code(&limits(), all.clone()), Some(Reason::InputChanged));
        all.out_of_bounds = vec![OutOfBounds { tensor: "o".into(), offset: -4, bytes: 4 }];
        assert_eq!(code(&limits(), all.clone()), Some(Reason::OutOfBounds));
        let rejection = judge(&limits(), &[], "mission", &[all]).unwrap();
        assert_eq!(rejection.message, "4 bytes written outside: 4 bytes before the start of `o` (seed 3)");
    }

    #[test]
    fn a_kernel_declared_nondeterministic_may_differ_from_itself() {
        let mut report = seed(output());
        report.unrepeatable = 5;
        report.stale = 5;
        assert_eq!(code(&limits(), report.clone()), Some(Reason::Unrepeatable));
        assert_eq!(code(&CorrectnessLimits { deterministic: false, ..limits() }, report), None);
    }

    fn tensor(name: &str, dtype: DType) -> Tensor {
        Tensor {
            name: name.into(),
            dtype,
            dims: vec![],
            role: kbench_runtime::protocol::Role::Out,
            init: crate::config::Init::None,
        }
    }

    #[test]
    fn without_limits_the_type_of_each_output_sets_its_own() {
        let limits = CorrectnessLimits::default();
        let judged = |outputs: &[(&str, DType)], limits: &CorrectnessLimits| {
            let tensors: Vec<Tensor> = outputs.iter().map(|(name, dtype)| tensor(name, *dtype)).collect();
            let mut report = seed(output());
            report.outputs =
                outputs.iter().map(|(name, _)| OutputReport { tensor: (*name).into(), ..output() }).collect();
            judge(limits, &tensors, "s", &[report]).map(|rejection| rejection.code)
        };
        assert_eq!(judged(&[("o", DType::F32)], &limits), Some(Reason::Wrong));
        assert_eq!(judged(&[("o", DType::F8e4m3)], &limits), None);
        assert_eq!(
            judged(&[("o", DType::F8e4m3), ("i", DType::I32)], &limits),
            Some(Reason::Wrong),
            "integers are exact"
        );
        let loose = CorrectnessLimits { max_rms_err: Some(1.0), ..limits.clone() };
        assert_eq!(judged(&[("i", DType::I32)], &loose), Some(Reason::Wrong), "unless max_abs_err says otherwise");
        let stated = CorrectnessLimits { max_abs_err: Some(1.0), ..limits.clone() };
        assert_eq!(judged(&[("i", DType::I32)], &stated), None);
        // A limit on the bias says nothing about the errors themselves.
        let biased = CorrectnessLimits { max_bias: Some(1.0), ..limits };
        assert_eq!(judged(&[("o", DType::F32)], &biased), Some(Reason::Wrong));
    }

    #[test]
    fn one_wrong_element_in_a_million_is_seen() {
        let one = OutputReport { elements: 1_000_000, max_abs_err: 0.25, rms_err: 2.5e-4, ..output() };
        let limits = CorrectnessLimits { max_rms_err: Some(1e-3), ..CorrectnessLimits::default() };
        let judged = |output| judge(&limits, &[tensor("o", DType::F32)], "s", &[seed(output)]);
        let rejection = judged(one.clone()).unwrap();
        assert!(rejection.message.starts_with("relative error of one element 2.500e-1 > 2.000e-2"), "{rejection}");
        // Rounding of an element that is itself large is no fault.
        assert_eq!(judged(OutputReport { reference_at: 100.0, ..one }), None);
    }
}

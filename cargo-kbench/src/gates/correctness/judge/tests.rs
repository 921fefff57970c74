#![allow(clippy::float_cmp)]

use super::*;
use crate::config::Place;
use kbench_runtime::protocol::Pattern;
use kbench_runtime::protocol::{ErrorSizes, OutOfBounds, RelatedErrors, SideEffects};

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
        related: RelatedErrors::default(),
    }
}

fn seed(output: OutputReport) -> SeedReport {
    SeedReport {
        seed: 3,
        pattern: None,
        outputs: vec![output],
        inputs_changed: vec![],
        out_of_bounds: vec![],
        unrepeatable: 0,
        stale: 0,
        side_effects: SideEffects::default(),
    }
}

fn code(limits: &CorrectnessLimits, seed: SeedReport) -> Option<Reason> {
    judge(limits, &[], "mission", &[seed]).map(|rejection| rejection.code)
}

fn limits() -> CorrectnessLimits {
    CorrectnessLimits { max_abs_err: Some(0.06), max_mean_err: Some(0.02), ..CorrectnessLimits::default() }
}

#[test]
fn a_reference_may_be_the_side_that_is_not_finite() {
    let of = |report: SeedReport| judge(&CorrectnessLimits::default(), &[], "s", &[report]).unwrap().message;
    let said = of(seed(OutputReport { nonfinite: 2, ..output() }));
    assert!(
        said.starts_with(
            "2 of 1000 elements of `o` are NaN or infinite where the reference is not, or only in the reference"
        ),
        "{said}"
    );
    let differ = |unrepeatable| of(SeedReport { unrepeatable, ..seed(output()) });
    assert!(differ(1).starts_with("1 element differs between") && differ(2).starts_with("2 elements differ between"));
}

#[test]
fn numbers_that_look_the_same_are_not_called_so() {
    let near = OutputReport { output_at: 9_007_199_254_740_993.0, reference_at: 9_007_199_254_740_992.0, ..output() };
    let found =
        judge(&CorrectnessLimits { max_abs_err: Some(0.0), ..CorrectnessLimits::default() }, &[], "s", &[seed(near)]);
    let message = found.unwrap().message;
    assert!(message.contains("of `o`: not 9007199254740992, which the reference has, but very near"), "{message}");
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
        place: Place::nowhere(),
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
        report.outputs = outputs.iter().map(|(name, _)| OutputReport { tensor: (*name).into(), ..output() }).collect();
        judge(limits, &tensors, "s", &[report]).map(|rejection| rejection.code)
    };
    assert_eq!(judged(&[("o", DType::F32)], &limits), Some(Reason::Wrong));
    assert_eq!(judged(&[("o", DType::F8e4m3)], &limits), None);
    assert_eq!(judged(&[("o", DType::F8e4m3), ("i", DType::I32)], &limits), Some(Reason::Wrong), "integers are exact");
    let loose = CorrectnessLimits { max_rms_err: Some(1.0), ..limits.clone() };
    assert_eq!(judged(&[("i", DType::I32)], &loose), Some(Reason::Wrong), "unless max_abs_err says otherwise");
    let stated = CorrectnessLimits { max_abs_err: Some(1.0), ..limits.clone() };
    assert_eq!(judged(&[("i", DType::I32)], &stated), None);
    // A limit on the bias does not limit the errors themselves.
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
    // Rounding of a large element is allowed.
    assert_eq!(judged(OutputReport { reference_at: 100.0, ..one }), None);
}

fn sizes(error: f64) -> ErrorSizes {
    ErrorSizes { max_abs_err: 5.0 * error, mean_abs_err: 0.8 * error, rms_err: error, rms_ref: 1.0 }
}

#[test]
fn a_naive_version_limits_the_errors() {
    let limits = CorrectnessLimits { naive: Some(0), ..CorrectnessLimits::default() };
    let judged = |naive: f64| {
        let related = RelatedErrors { naive: Some(sizes(naive)), ..RelatedErrors::default() };
        judge(&limits, &[tensor("o", DType::F32)], "s", &[seed(OutputReport { related, ..output() })])
    };
    assert_eq!(judged(0.011), None, "however large");
    let rejection = judged(0.009).unwrap();
    assert!(rejection.message.starts_with("rms error beside that of the naive version 2.000e-2 > 1.800e-2"));
}

#[test]
fn beside_a_naive_version_one_element_is_limited_only_by_a_stated_rms_error() {
    // 20 times the stated 0.001, and no more than 20 times the usual error without a naive version.
    let wrong = OutputReport { max_abs_err: 0.021, rms_err: 0.0005, mean_abs_err: 0.0, ..output() };
    let with = |max_rms_err, naive| CorrectnessLimits { max_rms_err, naive, ..CorrectnessLimits::default() };
    assert_eq!(code(&with(Some(0.001), Some(0)), seed(wrong.clone())), Some(Reason::Wrong));
    assert_eq!(code(&with(Some(0.001), None), seed(wrong.clone())), Some(Reason::Wrong));
    assert_eq!(code(&with(None, Some(0)), seed(wrong)), None, "the naive version's errors limit it");
}

#[test]
fn the_share_of_bad_elements_is_limited_only_where_some_may_be() {
    let bad = OutputReport { max_abs_err: 9.0, bad: 1, ..output() };
    let rejection = judge(&limits(), &[], "s", &[seed(bad)]).unwrap();
    assert!(rejection.message.starts_with("max_abs_err 9.000e0 > 6.000e-2; "), "{}", rejection.message);
}

#[test]
fn a_bias_is_judged_against_chance() {
    let limits = CorrectnessLimits { max_bias_ratio: Some(0.25), max_abs_err: Some(1.0), ..Default::default() };
    let judged = |bias, elements| code(&limits, seed(OutputReport { bias, elements, ..output() }));
    assert_eq!(judged(0.004, 1_000_000), Some(Reason::Wrong));
    assert_eq!(judged(0.004, 100), None, "it may be chance");
    assert_eq!(judged(0.002, 1_000_000), None, "a fifth of the mean error");
}

#[test]
fn quantization_is_judged_only_where_the_table_says() {
    let related =
        RelatedErrors { quantization: Some(sizes(0.01)), total: Some(sizes(0.02)), ..RelatedErrors::default() };
    let report = || seed(OutputReport { related: related.clone(), ..output() });
    assert_eq!(code(&limits(), report()), None);
    for (max_quantization_err, max_total_err, wrong) in
        [(Some(0.06), Some(0.11), false), (Some(0.04), None, true), (None, Some(0.09), true)]
    {
        let limits = CorrectnessLimits { max_quantization_err, max_total_err, ..limits() };
        assert_eq!(code(&limits, report()).is_some(), wrong);
    }
}

#[test]
fn in_a_pattern_limits_grow_with_the_outputs_and_with_their_sensitivity() {
    let large = |error: f64, sensitivity: f64| {
        let related = RelatedErrors { sensitivity: Some(sizes(sensitivity)), ..RelatedErrors::default() };
        let (max_abs_err, rms_err) = (5.0 * error, error);
        let output = OutputReport { max_abs_err, rms_err, mean_abs_err: error, rms_ref: 64.0, related, ..output() };
        SeedReport { pattern: Some(Pattern::HotRow), ..seed(output) }
    };
    let judged = |limits: &CorrectnessLimits, report| {
        let f32 = [tensor("o", DType::F32)];
        let fine = OutputReport { max_abs_err: 1e-5, rms_err: 1e-5, mean_abs_err: 1e-5, ..output() };
        judge(limits, &f32, "s", &[seed(fine), report])
    };
    let default = CorrectnessLimits::default();
    assert_eq!(judged(&default, large(0.006, 0.0)), None, "1e-4 of the output");
    assert_eq!(judged(&default, large(0.1, 0.06)), None, "no better can be asked for");
    let rejection = judged(&default, large(0.1, 0.01)).unwrap();
    assert!(rejection.message.ends_with("(hot row)"), "{rejection}");
    assert_eq!(judged(&limits(), large(0.7, 0.0)), None, "64 times the limit of an ordinary input");
    assert!(judged(&limits(), large(0.8, 0.0)).is_some());
    let small = OutputReport { max_abs_err: 0.05, rms_ref: 0.0, ..output() };
    let small = SeedReport { pattern: Some(Pattern::Equal), ..seed(small) };
    assert_eq!(judged(&limits(), small), None, "limits never shrink");
}

#[test]
fn an_error_of_one_sign_everywhere_is_warned_of() {
    let tensors = [Tensor {
        name: "o".into(),
        place: Place::nowhere(),
        dtype: DType::F32,
        dims: Vec::new(),
        role: Role::Out,
        init: crate::config::Init::None,
    }];
    let warned = |limits: &CorrectnessLimits, outputs: &[OutputReport]| {
        let seeds: Vec<SeedReport> = outputs.iter().map(|output| seed(output.clone())).collect();
        assert_eq!(judge(limits, &tensors, "mission", &seeds), None);
        warnings(limits, &tensors, "mission", &seeds)
    };
    let biased = OutputReport { bias: 0.01, mean_abs_err: 0.01, rms_err: 0.011, ..output() };
    assert_eq!(
        warned(&limits(), &[biased.clone(), biased.clone()]),
        ["`o` is too large everywhere at mission: within the limits, but no rounding error; `max_bias` limits it"]
    );
    let other_way = OutputReport { bias: -0.01, ..biased.clone() };
    assert!(warned(&limits(), std::slice::from_ref(&other_way))[0].contains("too small everywhere"));
    let bounded = CorrectnessLimits { max_bias: Some(0.02), ..limits() };
    let by_chance = OutputReport { elements: 10, rms_err: 0.03, ..biased.clone() };
    let rounded = OutputReport { bias: 1e-8, mean_abs_err: 1e-8, rms_err: 1e-8, ..output() };
    for (limits, outputs) in [
        (&limits(), [biased.clone(), output()]),
        (&limits(), [biased.clone(), other_way]),
        (&limits(), [by_chance.clone(), by_chance]),
        (&limits(), [rounded.clone(), rounded]),
        (&bounded, [biased.clone(), biased.clone()]),
    ] {
        assert_eq!(warned(limits, &outputs), Vec::<String>::new(), "{outputs:?}");
    }
}

#[test]
fn large_output_and_leaks_of_the_device_heap_are_warnings() {
    let warned = |side_effects| {
        let seeds = [SeedReport { side_effects, ..seed(output()) }];
        warnings(&limits(), &[], "mission", &seeds)
    };
    assert_eq!(warned(SideEffects { printed: FLOOD, heap: 0 }), Vec::<String>::new());
    assert_eq!(
        warned(SideEffects { printed: 2 * FLOOD, heap: 48 << 10 }),
        [
            "a launch prints more than 64 KB at mission: the measured time is that of printing, and the driver drops text beyond its buffer",
            "launches keep memory of the device's heap at mission: `malloc` fails once it is used up",
        ]
    );
}

/// The limit of one error, by name.
fn limit_of(errors: &[Error], name: &str) -> f64 {
    errors.iter().find(|(of, ..)| *of == name).unwrap().2.unwrap()
}

fn is_close(left: f64, right: f64) -> bool {
    (left / right - 1.0).abs() < 1e-12
}

#[test]
fn beside_a_naive_version_an_output_may_be_rounded_once_more() {
    let naive = ErrorSizes { max_abs_err: 0.75, mean_abs_err: 0.0, rms_err: 0.5, rms_ref: 2.0 };
    let mut output = OutputReport { rms_ref: 2.0, reference_at: -8.0, ..output() };
    output.related.naive = Some(naive);
    let limits = CorrectnessLimits { naive: Some(0), max_naive_ratio: 3.0, ..CorrectnessLimits::default() };
    // Half a unit in the last place of E5M2 is an eighth.
    let errors = ordinary_errors(&limits, DType::F8e5m2, &output);
    assert!(is_close(limit_of(&errors, "rms error beside that of the naive version"), 3.0 * 0.5 + 0.125 * 2.0));
    let worst = limit_of(&errors, "error of one element beside the naive version's");
    assert!(is_close(worst, 2.0 * 3.0 * 0.75 + 2.0 * 0.125 * 8.0), "{worst}");
}

#[test]
fn in_a_pattern_limits_grow_with_outputs_and_with_what_errors_of_inputs_make() {
    let sizes = |rms_err, max_abs_err| ErrorSizes { max_abs_err, mean_abs_err: 0.0, rms_err, rms_ref: 1.0 };
    let mut large = OutputReport { rms_ref: 2.0, reference_at: -8.0, ..output() };
    large.related =
        RelatedErrors { sensitivity: Some(sizes(0.25, 0.5)), naive: Some(sizes(0.5, 1.0)), ..RelatedErrors::default() };
    let usual = OutputReport { rms_ref: 0.5, ..output() };
    let (dtype, flushed) = (DType::F8e5m2, DType::F8e5m2.smallest_normal());
    let (rms, largest) = (2.0 * 0.25 + flushed, 4.0 * 0.5 + flushed);

    let stated = CorrectnessLimits { naive: Some(0), max_naive_ratio: 3.0, max_abs_err: Some(0.1), ..limits() };
    let stated = CorrectnessLimits { max_mean_err: Some(0.2), ..stated };
    let errors = pattern_errors(&stated, dtype, &large, Some(&usual));
    assert!(is_close(limit_of(&errors, "max_abs_err"), 0.1 * 4.0 + largest));
    assert!(is_close(limit_of(&errors, "mean_err"), 0.2 * 4.0 + rms));
    let naive = limit_of(&errors, "rms error beside that of the naive version");
    assert!(is_close(naive, 3.0 * 0.5 + 0.125 * 2.0 + rms), "{naive}");

    let relative = CorrectnessLimits { max_rms_err: Some(0.01), ..CorrectnessLimits::default() };
    let errors = pattern_errors(&relative, dtype, &large, Some(&usual));
    assert!(is_close(limit_of(&errors, "rms of the error"), 0.01 * 2.0 + rms));
    assert!(is_close(limit_of(&errors, "error of one element"), 0.01 * WORST_ELEMENT * 8.0 + largest));
    // Outputs that are smaller than usual have the limits of the usual size.
    let usual = OutputReport { rms_ref: 16.0, ..output() };
    let errors = pattern_errors(&stated, dtype, &large, Some(&usual));
    assert!(is_close(limit_of(&errors, "max_abs_err"), 0.1 + largest));
    // For outputs that are all zero the relative limit is absolute.
    let zeros = OutputReport { rms_ref: 0.0, reference_at: 0.0, ..large };
    let errors = pattern_errors(&CorrectnessLimits { max_abs_err: Some(0.1), ..relative }, dtype, &zeros, Some(&zeros));
    assert!(is_close(limit_of(&errors, "rms of the error"), 0.01 + rms));
    assert!(is_close(limit_of(&errors, "max_abs_err"), 0.1 + largest), "no growth from nothing");
}

#[test]
fn faults_of_random_inputs_are_reported_before_those_of_patterns() {
    let outside = OutOfBounds { tensor: "o".into(), offset: 0, bytes: 4 };
    let in_pattern =
        SeedReport { pattern: Some(Pattern::Large), out_of_bounds: vec![outside.clone()], ..seed(output()) };
    let random = seed(OutputReport { max_abs_err: 9.0, ..output() });
    let both = judge(&limits(), &[], "s", &[in_pattern.clone(), random]).unwrap();
    assert!(both.code == Reason::Wrong && both.message.ends_with("(seed 3)"), "{}", both.message);
    let alone = judge(&limits(), &[], "s", &[in_pattern]).unwrap();
    assert_eq!(alone.message, "4 bytes written outside: at byte 0 of `o`, past its end (large)");
}

#[test]
fn stale_and_nonfinite_outputs_have_their_own_codes() {
    let stale = SeedReport { stale: 1, ..seed(output()) };
    assert_eq!(code(&limits(), stale), Some(Reason::StaleOutput));
    assert_eq!(code(&limits(), seed(OutputReport { nonfinite: 1, ..output() })), Some(Reason::Nonfinite));
}

#[test]
fn every_floating_point_type_has_a_usual_error_about_its_rounding_or_more() {
    // Bits of the significand, and usual errors.
    for (dtype, bits, usual) in [
        (DType::F64, 53, 1e-10),
        (DType::F32, 24, 1e-4),
        (DType::F16, 11, 2e-3),
        (DType::Bf16, 8, 1e-2),
        (DType::F8e4m3, 4, 0.06),
        (DType::F8e5m2, 3, 0.12),
    ] {
        assert!(is_close(rounding(dtype), 0.5_f64.powi(bits)) && is_close(usual_rms_err(dtype), usual), "{dtype}");
        assert!(usual_rms_err(dtype) > 0.9 * rounding(dtype));
        let tensors = [tensor("o", dtype), tensor("i", DType::I32)];
        assert!(is_close(tolerance(&CorrectnessLimits::default(), &tensors), usual));
    }
    let stated = |max_rms_err| CorrectnessLimits { max_rms_err: Some(max_rms_err), ..CorrectnessLimits::default() };
    assert!(is_close(tolerance(&stated(0.125), &[]), 0.125) && is_close(tolerance(&stated(9.0), &[]), 0.25));
    assert_eq!([rounding(DType::I32), usual_rms_err(DType::U8)], [0.0; 2]);
}

#[test]
fn an_element_is_bad_above_the_absolute_limit() {
    assert_eq!([bad_above(&limits()), bad_above(&CorrectnessLimits::default())], [0.06, f64::MAX]);
}

#[test]
fn an_error_of_one_sign_is_more_than_rounding_and_almost_all_of_the_error() {
    let is_warned_of =
        |output: OutputReport| !warnings(&limits(), &[tensor("o", DType::F16)], "s", &[seed(output)]).is_empty();
    let rounding = 100.0 * rounding(DType::F16);
    let biased = |bias: f64| OutputReport { bias, mean_abs_err: bias, rms_err: bias, rms_ref: 100.0, ..output() };
    assert!(!is_warned_of(biased(rounding)) && is_warned_of(biased(1.01 * rounding)));
    assert!(!is_warned_of(OutputReport { mean_abs_err: 1.0, ..biased(ONE_SIGN) }));
    assert!(is_warned_of(OutputReport { mean_abs_err: 1.0, ..biased(0.999) }));
}

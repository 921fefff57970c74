//! Tests of the inputs of references, the keys of their results, and their launches.

#![allow(clippy::float_cmp)]

use super::*;
use crate::data::digest::Bytes;
use crate::device::fake::FakeDevice;
use crate::protocol::{Number, TensorMap};
use crate::testing::FakeCase;
use crate::verify::session::Session;

/// A tensor of 64 elements.
fn tensor(dtype: DType, role: Role, source: Source) -> TensorSpec {
    TensorSpec { name: "t".into(), dtype, dims: vec![64], role, source }
}

#[test]
fn a_key_depends_on_everything_that_a_result_depends_on_and_nothing_else() {
    let (case, reference) = FakeCase::default().case();
    let info = FakeDevice::open(0).info().clone();
    let of = |reference: &Reference, tensors: &[TensorSpec], info: &DeviceInfo| {
        key(reference, tensors, ReferenceInputs::random(1), info)
    };
    let usual = of(&reference, &case.tensors, &info);
    assert_ne!(usual, key(&reference, &case.tensors, ReferenceInputs::random(2), &info));

    let mut other = reference.clone();
    other.sequence.blob = "other bytes".into();
    assert_eq!(of(&other, &case.tensors, &info), usual, "machine code is known by its identity");
    other.sequence.launches[0].entry = "other".into();
    assert_ne!(of(&other, &case.tensors, &info), usual);

    let scratch = |elements| {
        let scratch = TensorSpec { dims: vec![elements], ..tensor(DType::F32, Role::Scratch, Source::None) };
        [case.tensors.clone(), vec![scratch]].concat()
    };
    assert_eq!(of(&reference, &scratch(1), &info), of(&reference, &scratch(2), &info), "scratch that it does not take");
    let mut takes = reference.clone();
    takes.sequence.launches[0].args.push(Arg::Tensor(2));
    assert_ne!(of(&takes, &scratch(1), &info), of(&takes, &scratch(2), &info));
    let mut inputs = case.tensors.clone();
    inputs[0].dims = vec![20, 50];
    assert_ne!(of(&reference, &inputs, &info), usual);

    let elsewhere = DeviceInfo { name: "another device".into(), ..info.clone() };
    assert_ne!(of(&reference, &case.tensors, &elsewhere), usual);
    let program = Reference { program: true, ..reference.clone() };
    assert_eq!(
        of(&program, &case.tensors, &elsewhere),
        of(&program, &case.tensors, &info),
        "a program states its own device"
    );

    let passing = Reference { identity: format!("{TRANSIENT}1"), ..reference };
    assert!(of(&passing, &case.tensors, &info).starts_with(TRANSIENT) && !usual.starts_with(TRANSIENT));
}

#[test]
fn a_launch_takes_the_tensors_of_its_arguments() {
    let map = TensorMap { tensor: 3, dims: vec![64], r#box: vec![8], swizzle: 0 };
    let mut sequence = FakeCase::default().case().0.sequence;
    let of_second = vec![Arg::TensorMap(map), Arg::Scalar { dtype: DType::I32, value: Number::Int(4) }];
    let mut second = sequence.launches[0].clone();
    sequence.launches[0].args = vec![Arg::Tensor(1), Arg::Symbol { symbol: "s".into(), tensor: 2 }];
    second.args = of_second;
    sequence.launches.push(second);
    assert_eq!([0, 1, 2, 3, 4].map(|tensor| takes(&sequence, tensor)), [false, true, true, true, false]);
}

fn derived(from: usize) -> Source {
    let (view, axes, width) = (Vec::new(), vec![0], Vec::new());
    Source::Derived(Derived { from: vec![from], view, axes, width, border: 0.0, drawn: true })
}

#[test]
fn only_the_kernel_reads_scratch_and_derived_inputs_that_nothing_is_made_of() {
    let quantized = |from| Source::Quantize { from, scale: 3, scale_dims: vec![] };
    let given = |source| tensor(DType::F32, Role::In, source);
    let tensors = [
        given(Source::None),
        tensor(DType::F32, Role::Scratch, Source::None),
        given(quantized(0)),
        given(Source::Scale),
        given(derived(0)),
        given(derived(4)),
        given(derived(0)),
        given(quantized(6)),
        tensor(DType::F32, Role::Inout, derived(0)),
    ];
    let own: Vec<usize> = (0..tensors.len()).filter(|&index| is_kernels_own(&tensors, index)).collect();
    assert_eq!(own, [1, 5]);
    let of_quantized: Vec<usize> = (0..tensors.len()).filter(|&index| is_of_quantized(&tensors, index)).collect();
    assert_eq!(of_quantized, [2, 7]);
    assert!(!is_of_quantized(&[given(derived(0))], 0), "a tensor that is derived from itself was reported");
}

#[test]
fn a_quick_reference_runs_again_on_the_first_seed() {
    let [quick, slow] = [QUICK.mul_f64(0.999), QUICK];
    let first = ReferenceInputs::random(0);
    assert!(runs_again(first, Duration::ZERO) && runs_again(first, quick) && !runs_again(first, slow));
    assert!(!runs_again(first, 2 * slow) && !runs_again(ReferenceInputs::random(1), quick));
}

#[test]
fn a_view_changes_the_inputs_of_a_reference() {
    let specs = [
        tensor(DType::F32, Role::In, Source::None),
        tensor(DType::I32, Role::In, Source::None),
        tensor(DType::F32, Role::In, Source::Scale),
        tensor(DType::F32, Role::In, Source::Scale),
        tensor(DType::F8e4m3, Role::In, Source::Quantize { from: 0, scale: 2, scale_dims: vec![] }),
        tensor(DType::F8e4m3, Role::In, derived(4)),
        tensor(DType::F16, Role::In, derived(0)),
    ];
    let values = |value: f64| vec![value; 64];
    let input = |index: usize, value| Some(Arc::new(Bytes::from(codec::encode(specs[index].dtype, &values(value)))));
    let inputs: Inputs =
        [3.0, 100.0, 0.5, 0.25, 6.0, 6.0, 7.0].into_iter().enumerate().map(|(at, v)| input(at, v)).collect();
    let (_, mut reference) = FakeCase::default().case();
    reference.sequence.launches[0].args = (0..7).map(Arg::Tensor).collect();
    let seen = |view| -> Vec<Vec<f64>> {
        let wide = wide_inputs(&reference, &specs, &inputs, view);
        let types = wide_specs(&reference, &specs);
        wide.iter().zip(types).map(|(data, spec)| codec::decode(spec.dtype, data.as_ref().unwrap())).collect()
    };
    assert_eq!(seen(View::Given), [3.0, 100.0, 0.5, 0.25, 6.0, 6.0, 7.0].map(values));
    // The quantised tensor and the tensors derived from it have their original values and a scale of 1. A scale without a quantised tensor
    // stays, and so do tensors derived from others.
    assert_eq!(seen(View::Unquantized), [3.0, 100.0, 1.0, 0.25, 3.0, 3.0, 7.0].map(values));
    let perturbed = seen(View::Perturbed(0.125));
    assert_eq!(perturbed[1], values(100.0), "integers are exact");
    assert!(perturbed[0].iter().all(|&seen| seen == 3.0 * 1.125 || seen == 3.0 * 0.875), "{perturbed:?}");
}

#[test]
fn a_perturbation_is_relative_in_both_directions_and_flushes_subnormal_values() {
    let perturbed = |dtype, value| {
        let mut values = vec![value; 1000];
        perturb(dtype, &mut values, 0.25);
        values
    };
    let values = perturbed(DType::F64, 8.0);
    let up = values.iter().filter(|&&value| value == 10.0).count();
    assert!((400..600).contains(&up) && values.iter().all(|&value| value == 10.0 || value == 6.0), "{up}");
    // Results on disk depend on which way each value goes.
    assert_eq!(values[..8], [10.0, 6.0, 6.0, 6.0, 10.0, 10.0, 10.0, 10.0]);
    let smallest = DType::F32.smallest_normal();
    assert!(perturbed(DType::F32, smallest).iter().all(|&value| value > 0.0));
    assert!(perturbed(DType::F32, -smallest * 0.99).iter().all(|&value| value == 0.0));
    assert!(perturbed(DType::F16, DType::F16.smallest_normal() / 2.0).iter().all(|&value| value > 0.0));
}

#[test]
fn two_results_may_differ_by_the_order_of_sums() {
    let spec = tensor(DType::F64, Role::Out, Source::None);
    let of = |at_9: f64| {
        let mut values = vec![1.0; 64];
        values[9] = at_9;
        codec::encode(DType::F64, &values)
    };
    let said = |first: f64, again: f64| difference(&spec, &of(first), &of(again));
    assert_eq!([said(2.0, 2.0), said(2.0, 2.0 + 1e-9), said(f64::NAN, f64::NAN)], [const { None }; 3]);
    assert_eq!(said(2.0, 2.5).unwrap(), "`t` has 2 and then 2.5 at 9");
    assert_eq!(said(2.0, f64::INFINITY).unwrap(), "1 elements of `t` are NaN or infinite in one of both");
    let all = |value: i64| codec::encode(DType::I32, &[value as f64; 64]);
    let whole = tensor(DType::I32, Role::Out, Source::None);
    assert_eq!(difference(&whole, &all(0), &all(1)).unwrap(), "`t` has 0 and then 1 at 0");
}

#[test]
fn a_reference_is_launched_once_unless_poison_may_be_its_result() {
    let launches = |reference_fault, output| {
        let case = FakeCase { reference_fault, output, ..FakeCase::default() };
        let mut session = Session::new(FakeDevice::open(0), None);
        let job = case.check(&mut session);
        let inputs = session.inputs(&job.case.tensors, 4, None).unwrap();
        let _ = session.reference(&job.reference, &job.case.tensors, &inputs, ReferenceInputs::random(4));
        // 100 W for the nanosecond of each launch.
        (session.resources.device.energy().unwrap().joules / 100e-9).round()
    };
    assert_eq!(launches("null", DType::F16), 1.0);
    assert_eq!(launches("\"unwritten\"", DType::F16), 2.0);
    assert_eq!(launches("\"nan\"", DType::I32), 2.0);
}

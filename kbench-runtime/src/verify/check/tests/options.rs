//! Tests of checks beside the errors on random inputs.

use super::*;
use crate::protocol::{Arg, CheckOptions, Number};

fn in_patterns(entry: &str) -> Vec<SeedReport> {
    let mut session = Session::new(HostDevice::open(), None);
    let job = testing::host_check(&mut session, entry);
    let options = CheckOptions { patterns: Pattern::ALL.to_vec(), tolerance: Some(1e-3), ..CheckOptions::default() };
    session.check(&CheckJob { options, ..job }, &mut |_| {}).unwrap()
}

#[test]
fn patterns_come_after_the_seeds_with_what_an_error_makes_of_them() {
    let reports = in_patterns("kbench_scale");
    let seeds: Vec<Option<Pattern>> = reports.iter().map(|report| report.pattern).collect();
    let all: Vec<Option<Pattern>> = [None, None].into_iter().chain(Pattern::ALL.map(Some)).collect();
    assert_eq!(seeds, all);
    for report in &reports[2..] {
        let output = &report.outputs[0];
        assert!(output.rms_err <= 1e-6 * output.rms_ref && output.nonfinite == 0, "{report:?}");
        // The kernel is linear, so it passes on the error of its inputs.
        let sensitivity = output.related.sensitivity.unwrap();
        assert!((sensitivity.rms_err - 1e-3 * output.rms_ref).abs() <= 1e-6 * output.rms_ref, "{report:?}");
    }
    assert!(reports[..2].iter().all(|report| report.outputs[0].related.sensitivity.is_none()));
}

#[test]
fn checks_that_are_not_requested_are_not_run() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut job = testing::host_check(&mut session, "kbench_scale");
    job.options.patterns = vec![Pattern::Large];
    let reports = session.check(&job, &mut |_| {}).unwrap();
    assert!(reports.iter().all(|report| report.outputs[0].related.sensitivity.is_none()));
}

#[test]
fn a_fault_that_only_large_inputs_show_is_seen() {
    use Pattern::{HotRow, HotTile, Large, OutlierFirst, OutlierLast, Positive};
    let reports = in_patterns("kbench_saturates");
    let wrong = |report: &&SeedReport| report.outputs[0].max_abs_err > 1.0;
    let patterns: Vec<Pattern> = reports.iter().filter(wrong).filter_map(|report| report.pattern).collect();
    assert_eq!(patterns, [Large, HotRow, HotTile, Positive, OutlierFirst, OutlierLast], "it saturates above");
    assert!(!wrong(&&reports[0]) && !wrong(&&reports[1]));
}

#[test]
fn patterns_that_change_nothing_are_left_out() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut job = testing::host_check(&mut session, "kbench_scale");
    job.options.patterns = Pattern::ALL.to_vec();
    job.case.tensors[0].source = Source::Uniform { low: 0.5, high: 1.0 };
    assert_eq!(session.check(&job, &mut |_| {}).unwrap().len(), 2 + 7);
    job.case.tensors[0].source = Source::Arange { start: 0.0, step: 1.0 };
    assert_eq!(session.check(&job, &mut |_| {}).unwrap().len(), 2);
}

#[test]
fn a_naive_version_is_measured_beside() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut job = testing::host_check(&mut session, "kbench_scale");
    job.options.naive = Some(job.case.sequence.clone());
    job.options.naive.as_mut().unwrap().launches[0].entry = "kbench_off_by_little".into();
    for _ in 0..2 {
        let report = session.check(&job, &mut |_| {}).unwrap().remove(1);
        testing::assert_clean(&report);
        let naive = report.outputs[0].related.naive.unwrap();
        assert!((naive.max_abs_err - 0.25).abs() < 1e-4, "{naive:?}");
    }
    assert_eq!(session.naive.len(), 2, "once a seed");
    job.options.naive.as_mut().unwrap().launches[0].entry = "no_such".into();
    let failure = session.check(&job, &mut |_| {}).unwrap_err();
    let Failure::Reference { message } = failure else { panic!("{failure}") };
    assert_eq!(message, "the naive implementation: no symbol `no_such` in the machine code");
}

#[test]
fn the_error_of_quantising_is_told_from_the_kernels() {
    let mut session = Session::new(HostDevice::open(), None);
    let mut job = testing::host_check(&mut session, "kbench_scale");
    let tensor = |name: &str, dtype, dims: &[u64], source| TensorSpec {
        name: name.into(),
        dtype,
        dims: dims.to_vec(),
        role: Role::In,
        source,
    };
    job.case.tensors.push(tensor("s", DType::F32, &[], Source::Scale));
    let quantized = Source::Quantize { from: 0, scale: 2, scale_dims: vec![] };
    job.case.tensors.push(tensor("q", DType::F8e4m3, &[10, 100], quantized));
    // The kernel cheats: it reads the tensor that its input was quantised from. The reference does not.
    job.case.sequence.launches[0].args[3] = Arg::Scalar { dtype: DType::F64, value: Number::Float(1.0) };
    job.reference.sequence.launches[0].entry = "kbench_dequantize".into();
    job.reference.sequence.launches[0].args =
        vec![Arg::Tensor(3), Arg::Tensor(1), job.case.sequence.launches[0].args[2].clone(), Arg::Tensor(2)];
    job.options.patterns = vec![Pattern::Large];
    let reports = session.check(&job, &mut |_| {}).unwrap();
    let output = &reports[0].outputs[0];
    let (own, total) = (output.related.quantization.unwrap(), output.related.total.unwrap());
    assert!(output.rms_err > 0.01 && (own.rms_err / output.rms_err - 1.0).abs() < 1e-6, "{output:?}");
    assert!(total.max_abs_err < 1e-6 && (total.rms_ref - 1.0).abs() < 0.1, "{total:?}");
    assert_eq!(reports[2].outputs[0].related.quantization, None, "not in a pattern");
}

//! Controls of a time: the same launches by a second clock of the device, and the time on inputs of zeros. Neither is judged.
//!
//! A kernel whose work does not depend on values still takes longer on random numbers than on zeros where the GPU is at its limit of power: bits
//! that change take energy.

use kbench_runtime::protocol::{Case, Source, TimeJob, TimedCase, Timing, TwoClocks};
use kbench_runtime::stats::{Samples, Speedup};
use serde::{Deserialize, Serialize};

use super::compare::Contender;
use super::timing::time_job;
use crate::gates::launch::job_failed;
use crate::harness::{Candidate, Halt, Harness};

/// The controls of one variant at one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Controls {
    /// The time of launches by two clocks; none where the device has one.
    pub clocks: Option<TwoClocks>,
    /// The time on the table's inputs over the time on zeros, from paired rounds; none where no input is a floating-point number.
    pub over_zeros: Option<Speedup>,
}

/// Measures the controls of a candidate that passed the gates up to correctness at a shape.
pub fn controls(harness: &mut Harness<'_>, shape: usize, candidate: &Candidate) -> Result<Controls, Halt> {
    let kernel = harness.kernel();
    let contender = Contender::of_candidate(harness, candidate, shape)?;
    let zeros = with_zeros(&contender.case.case);
    let mut cases = vec![contender.case.clone()];
    cases.extend(zeros.map(|case| TimedCase { case, reference: contender.case.reference.clone() }));
    let job = TimeJob { second_clock: true, ..time_job(kernel, cases) };
    let shape_name = &kernel.shapes[shape].name;
    for timed in &job.cases {
        harness.refer_timed(kernel, shape_name, timed, &job)?;
    }
    let timed = harness.worker.time(job, harness.context.timeout());
    let mut timings = timed.map_err(|error| job_failed(kernel, error, shape_name))?.into_iter();
    let own = timings.next();
    let over_zeros =
        own.as_ref().zip(timings.next()).and_then(|(own, zeros)| Speedup::of(samples(own), samples(&zeros)));
    Ok(Controls { clocks: own.and_then(|own| own.second_clock), over_zeros })
}

fn samples(timing: &Timing) -> Samples<'_> {
    Samples { times: &timing.samples, slack: timing.slack }
}

/// The case with zeros in place of the floating-point numbers that it reads; none where it reads none.
fn with_zeros(case: &Case) -> Option<Case> {
    let mut zeros = case.clone();
    let mut changed = false;
    for tensor in zeros.tensors.iter_mut().filter(|tensor| tensor.dtype.is_float()) {
        let is_number = matches!(
            tensor.source,
            Source::Normal { .. }
                | Source::Uniform { .. }
                | Source::Arange { .. }
                | Source::Constant(_)
                | Source::File { .. }
        );
        if is_number && tensor.source != Source::Constant(0.0) {
            tensor.source = Source::Constant(0.0);
            changed = true;
        }
    }
    changed.then_some(zeros)
}

#[cfg(test)]
mod tests {
    use kbench_runtime::dtype::DType;
    use kbench_runtime::protocol::{DeviceKind, Role, Sequence, TensorSpec};

    use super::*;

    fn case(sources: &[(DType, Source)]) -> Case {
        let tensor = |(dtype, source): &(DType, Source)| TensorSpec {
            name: "x".into(),
            dtype: *dtype,
            dims: vec![4],
            role: Role::In,
            source: source.clone(),
        };
        let sequence = Sequence { device: DeviceKind::Host, blob: String::new(), launches: Vec::new() };
        Case { tensors: sources.iter().map(tensor).collect(), sequence }
    }

    #[test]
    fn zeros_take_the_place_of_floating_point_numbers_alone() {
        let zeros = |sources: &[(DType, Source)]| {
            with_zeros(&case(sources)).map(|case| case.tensors.into_iter().map(|spec| spec.source).collect::<Vec<_>>())
        };
        let zero = Source::Constant(0.0);
        let uniform = Source::Uniform { low: 0.0, high: 1.0 };
        let kept = [(DType::I32, Source::Arange { start: 0.0, step: 1.0 }), (DType::F32, Source::None)];
        assert_eq!(zeros(&kept), None, "the output and the index are no numbers to change");
        assert_eq!(zeros(&[(DType::F32, zero.clone())]), None, "they are zeros");
        for source in [
            Source::Normal { mean: 0.0, std: 1.0 },
            uniform.clone(),
            Source::Arange { start: 0.0, step: 1.0 },
            Source::Constant(1.0),
        ] {
            let changed = zeros(&[kept.to_vec(), vec![(DType::F16, source)]].concat());
            assert_eq!(changed, Some(vec![kept[0].1.clone(), Source::None, zero.clone()]));
        }
        assert_eq!(zeros(&[(DType::F32, uniform), (DType::F32, zero.clone())]), Some(vec![zero; 2]));
    }
}

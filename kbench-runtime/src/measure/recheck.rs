//! The check after the last sample: of the kernel as it is now, and of the outputs that samples left.

use std::sync::Arc;

use super::case::{InputSet, MeasuredCase};
use super::run::Run;
use crate::device::{Device, Purpose};
use crate::memory::kernel::{KernelMemory, Outputs};
use crate::memory::poison::{NAN, Poison};
use crate::protocol::{Case, Failure, OutputReport, Role, SeedReport, Stage, TensorSpec, TimedCase};
use crate::verify::compare::{count, element, with_reference};
use crate::verify::results::ResultCache;
use crate::verify::seed::{Expected, SeedCheck, differences};
use crate::verify::session::Resources;

/// A few consecutive elements of an output, as a sample left them.
#[derive(Debug)]
pub(super) struct OutputSnapshot {
    /// The set of inputs that the output belongs to; `None` for new inputs.
    pub set: Option<usize>,
    /// Index of the output.
    pub tensor: usize,
    /// Offset in bytes from the start of the output.
    pub at: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Reports on the outputs of the last sample of a case that is not launched again: it was cut short, since no kernel skips work to become
/// slow, or the finals launch it again.
pub(super) fn last_outputs<D: Device>(
    results: &mut ResultCache,
    case: &mut MeasuredCase<D>,
    tensors: &[TensorSpec],
    bad_above: f64,
) -> SeedReport {
    let InputSet { seed, reference, .. } = &case.sets[case.set()];
    let mut report = SeedReport::new(*seed);
    for (index, output) in &case.last_outputs {
        report.outputs.extend(results.errors(&tensors[*index], output, reference, *index, bad_above));
    }
    std::mem::take(&mut case.memory_faults).merge(&mut report);
    report
}

/// Checks the kernel on each set of inputs, and the outputs that the measured launches left.
pub(super) fn recheck<D: Device>(
    run: &mut Run<'_, D>,
    case: &mut MeasuredCase<D>,
    timed: &TimedCase,
) -> Result<SeedReport, Failure> {
    let tensors = &timed.case.tensors;
    let bad_above = run.job.bad_above;
    let mut launches = Vec::new();
    // The first set last, so that the next job finds it in memory.
    for set in (1..case.sets.len()).rev() {
        (run.heartbeat.every())(Stage::Launch);
        let device = &mut run.resources.device;
        case.memory.select_set(device, set)?;
        let inputs = case.sets[set].inputs.clone();
        case.memory.poison(device, &inputs, Poison::FINITE)?;
        device.run(&case.memory.bound)?;
        launches.push((set, case.outputs(run.resources)?));
    }
    case.memory.select_set(&mut run.resources.device, 0)?;
    let InputSet { seed, inputs, reference } = &case.sets[0];
    let expected = Expected { tensors, inputs, reference, seed: *seed, bad_above };
    let check = SeedCheck::new(expected, run.resources, &mut case.memory, run.heartbeat.every());
    // Samples ran on NaN poison, so this launch is on the other poison.
    let (mut report, first) = check.short(Poison::FINITE)?;
    (run.heartbeat.every())(Stage::Compare);
    std::mem::take(&mut case.memory_faults).merge(&mut report);
    let results = &mut run.resources.results;
    for (set, outputs) in &launches {
        // A kernel that returns memoised results of other inputs is wrong here.
        case.judge(results, *set, outputs, outputs, bad_above, &mut report);
    }
    launches.push((0, first));
    for (set, launch) in &launches {
        if *set == case.set() && case.last_outputs != *launch {
            let last = &case.last_outputs;
            report.unrepeatable = report.unrepeatable.max(differing(last, launch, tensors));
            // Outputs that need not repeat must still be right.
            case.judge(results, *set, last, launch, bad_above, &mut report);
        }
        case.compare_snapshots(*set, launch, &mut report);
    }
    if let Some((number, last)) = case.on_new.take() {
        (run.heartbeat.every())(Stage::Launch);
        let fresh = fresh_load(run.resources, case, timed, number)?;
        // The next job finds the known inputs in memory.
        case.memory.select_set(&mut run.resources.device, 0)?;
        (run.heartbeat.every())(Stage::Compare);
        report.unrepeatable = report.unrepeatable.max(differing(&last, &fresh, tensors));
        for (at, ((index, last), (_, fresh))) in last.iter().zip(&fresh).enumerate() {
            let spec = &tensors[*index];
            if last != fresh {
                merge_worst(&mut report.outputs[at], &with_reference(spec, last, spec.dtype, fresh, bad_above));
            }
        }
    }
    Ok(report)
}

/// The outputs of the same machine code on new inputs, loaded again, so that it has memoised nothing. A C kernel is loaded as the
/// second instance in its process, since a program may load it twice.
fn fresh_load<D: Device>(
    resources: &mut Resources<D>,
    case: &mut MeasuredCase<D>,
    timed: &TimedCase,
    number: u64,
) -> Result<Outputs, Failure> {
    let Resources { device, pool, results } = resources;
    let Case { tensors, sequence } = &timed.case;
    let inputs = &Arc::clone(&case.sets[0].inputs);
    let mut fresh = KernelMemory::new(device, pool, tensors, inputs, sequence, &case.code, Purpose::SecondInstance)?;
    fresh.prepare(device, None, inputs)?;
    let writes = fresh.restore_writes(device, pool, inputs)?;
    // The case fills the shared tensors, from its copies on the device; symbols belong to each load.
    case.memory.rotate_inputs(device, inputs, number)?;
    fresh.rotate_inputs(device, inputs, number)?;
    device.write(&fresh.rotated_writes(&writes, number))?;
    device.run(&fresh.bound)?;
    let digests = fresh.digests(device)?;
    fresh.outputs(device, &mut results.outputs, &digests)
}

fn is_poison(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == NAN)
}

impl<D: Device> MeasuredCase<D> {
    /// Adds the errors of outputs that were computed from one set of inputs. Elements that `first` left unwritten too are counted
    /// elsewhere.
    fn judge(
        &self,
        results: &mut ResultCache,
        set: usize,
        outputs: &Outputs,
        first: &Outputs,
        bad_above: f64,
        report: &mut SeedReport,
    ) {
        for (at, ((index, output), (_, first))) in outputs.iter().zip(first).enumerate() {
            let spec = self.memory.tensor(*index);
            let size = spec.dtype.size();
            let reference = &self.sets[set].reference;
            let Some(mut errors) = results.errors(spec, output, reference, *index, bad_above) else { continue };
            if spec.role == Role::Out && !Arc::ptr_eq(output, first) {
                (errors.unwritten, errors.first_unwritten) = count(spec.elements(), |i| {
                    is_poison(element(output, i, size)) && !is_poison(element(first, i, size))
                });
            }
            merge_worst(&mut report.outputs[at], &errors);
        }
    }

    /// Compares the snapshots of samples on one set of inputs, and those on new inputs, with the outputs of a launch on that set.
    fn compare_snapshots(&self, set: usize, launch: &Outputs, report: &mut SeedReport) {
        let (mut differ, mut at_first) = (0, None);
        for snapshot in self.snapshots.iter().filter(|snapshot| snapshot.set.is_none_or(|of| of == set)) {
            let (at, (_, output)) =
                launch.iter().enumerate().find(|(_, (index, _))| *index == snapshot.tensor).expect("an output");
            let spec = self.memory.tensor(snapshot.tensor);
            let size = spec.dtype.size();
            // The right results on new inputs are unknown, but poison is none of them, except in an integer type.
            let shows_poison = snapshot.set.is_some() || spec.dtype.is_float();
            for (i, (seen, expected)) in snapshot.bytes.chunks(size).zip(output[snapshot.at..].chunks(size)).enumerate()
            {
                differ += u64::from(snapshot.set.is_some() && seen != expected);
                if shows_poison && is_poison(seen) && !is_poison(expected) && spec.role == Role::Out {
                    let output = &mut report.outputs[at];
                    at_first = at_first.or(Some((snapshot.at / size + i) as u64));
                    output.first_unwritten = output.first_unwritten.or(at_first);
                    output.unwritten = output.unwritten.max(1);
                }
            }
        }
        report.unrepeatable = report.unrepeatable.max(differ);
    }
}

/// Makes a report on an output that is the worse of two reports in every respect.
fn merge_worst(report: &mut OutputReport, other: &OutputReport) {
    if other.unwritten > report.unwritten {
        (report.unwritten, report.first_unwritten) = (other.unwritten, other.first_unwritten);
    }
    if other.max_abs_err > report.max_abs_err {
        report.max_abs_err = other.max_abs_err;
        report.max_abs_err_at = other.max_abs_err_at;
        (report.output_at, report.reference_at) = (other.output_at, other.reference_at);
    }
    if other.bias.abs() > report.bias.abs() {
        report.bias = other.bias;
    }
    report.nonfinite = report.nonfinite.max(other.nonfinite);
    report.mean_abs_err = report.mean_abs_err.max(other.mean_abs_err);
    report.rms_err = report.rms_err.max(other.rms_err);
    report.bad = report.bad.max(other.bad);
}

/// Number of elements in which the outputs of two launches differ.
fn differing(last: &Outputs, launch: &Outputs, tensors: &[TensorSpec]) -> u64 {
    last.iter()
        .zip(launch)
        .map(|((index, last), (_, launch))| {
            let spec = &tensors[*index];
            let size = spec.dtype.size();
            differences(spec, &[(last, launch)], |i| element(last, i, size) != element(launch, i, size))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake_case::{job, sampled};
    use super::*;
    use crate::data::dtype::DType;
    use crate::protocol::{RelatedErrors, Source};

    fn report(unwritten: u64, max_abs_err: f64, bias: f64, bad: u64) -> OutputReport {
        OutputReport {
            tensor: "y".to_owned(),
            elements: 10,
            unwritten,
            first_unwritten: (unwritten > 0).then_some(unwritten),
            nonfinite: bad,
            max_abs_err,
            max_abs_err_at: max_abs_err as u64,
            output_at: 10.0 * max_abs_err,
            reference_at: 20.0 * max_abs_err,
            mean_abs_err: max_abs_err / 2.0,
            bias,
            rms_err: max_abs_err / 4.0,
            rms_ref: 1.0,
            bad,
            related: RelatedErrors::default(),
        }
    }

    #[test]
    fn the_worst_of_two_reports_is_worst_in_every_respect() {
        let one = report(3, 1.0, -2.0, 5);
        let other = report(1, 4.0, 1.0, 7);
        let worst = OutputReport { unwritten: 3, first_unwritten: Some(3), bias: -2.0, ..other.clone() };
        for (first, second) in [(&one, &other), (&other, &one)] {
            let mut merged = first.clone();
            merge_worst(&mut merged, second);
            assert_eq!(merged, worst);
        }
    }

    #[test]
    fn of_equal_errors_the_place_of_the_first_report_stays() {
        let first = report(2, 3.0, 1.5, 0);
        let later = OutputReport {
            first_unwritten: Some(9),
            max_abs_err_at: 8,
            output_at: 0.0,
            reference_at: 3.0,
            bias: -1.5,
            ..first.clone()
        };
        let mut merged = first.clone();
        merge_worst(&mut merged, &later);
        assert_eq!(merged, first);
    }

    #[test]
    fn poison_is_every_byte_of_an_element() {
        assert!(is_poison(&[NAN; 4]));
        assert!(!is_poison(&[NAN, NAN, 0, NAN]) && !is_poison(&[0; 4]));
    }

    #[test]
    fn elements_that_differ_are_counted_over_all_outputs() {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            dtype: DType::I32,
            dims: vec![4],
            role: Role::Out,
            source: Source::Constant(0.0),
        };
        let outputs = |values: [[i32; 4]; 2]| -> Outputs {
            let bytes =
                |values: [i32; 4]| Arc::new(values.into_iter().flat_map(i32::to_le_bytes).collect::<Vec<_>>().into());
            values.into_iter().map(bytes).enumerate().collect()
        };
        let tensors = [spec("y"), spec("z")];
        let of = |last, launch| differing(&outputs(last), &outputs(launch), &tensors);
        assert_eq!(of([[1, 2, 3, 4], [5; 4]], [[1, 2, 3, 4], [5; 4]]), 0);
        assert_eq!(of([[1, 2, 3, 4], [5; 4]], [[1, 0, 0, 0], [6, 6, 6, 5]]), 6);
    }

    /// A report on one output without findings.
    fn clean() -> SeedReport {
        SeedReport { outputs: vec![report(0, 0.0, 0.0, 0)], ..SeedReport::new(3) }
    }

    #[test]
    fn poison_in_a_sample_is_an_unwritten_element_at_its_place() {
        // The second of two elements from the eighth on is poison; the launch wrote zeros.
        let of = |dtype, set| {
            let (session, mut job) = job(r#"{"time_ns":1000,"noise":0}"#);
            job.cases[0].case.tensors[1].dtype = dtype;
            sampled((session, job), |case, _| {
                let bytes = [vec![0; dtype.size()], vec![NAN; dtype.size()]].concat();
                case.snapshots = vec![OutputSnapshot { set, tensor: 1, at: 8 * dtype.size(), bytes }];
                let mut report = clean();
                case.compare_snapshots(0, &case.last_outputs, &mut report);
                (report.outputs[0].unwritten, report.outputs[0].first_unwritten, report.unrepeatable)
            })
        };
        for dtype in [DType::F16, DType::I32] {
            assert_eq!(of(dtype, Some(0)), (1, Some(9), 1), "{dtype:?}");
            assert_eq!(of(dtype, Some(1)), (0, None, 0), "of other inputs");
        }
        assert_eq!(of(DType::F16, None), (1, Some(9), 0));
        assert_eq!(of(DType::I32, None), (0, None, 0), "on new inputs it may be the right number");
    }

    #[test]
    fn outputs_on_new_inputs_are_compared_with_those_of_a_fresh_load() {
        let of = |wrong: bool| {
            sampled(job(r#"{"time_ns":1000,"noise":0}"#), |case, run| {
                let mut outputs = case.last_outputs.clone();
                if wrong {
                    let bytes = vec![0x40; outputs[0].1.len()];
                    outputs[0].1 = Arc::new(bytes.into());
                }
                case.on_new = Some((1, outputs));
                let job = run.job;
                let report = recheck(run, case, &job.cases[0]).unwrap();
                (report.outputs[0].bad, report.unrepeatable)
            })
        };
        assert_eq!([false, true].map(of), [(0, 0), (1000, 1000)]);
    }

    #[test]
    fn a_tensor_that_is_read_and_written_has_no_unwritten_elements() {
        let unwritten = |role| {
            let (session, mut job) = job(r#"{"time_ns":1000,"noise":0}"#);
            let tensor = &mut job.cases[0].case.tensors[1];
            (tensor.role, tensor.source) = (role, Source::Constant(0.0));
            sampled((session, job), |case, run| {
                let bytes = vec![NAN; case.last_outputs[0].1.len()];
                let last: Outputs = vec![(1, Arc::new(bytes.into()))];
                let mut report = clean();
                case.judge(&mut run.resources.results, 0, &last, &case.last_outputs, 0.1, &mut report);
                report.outputs[0].unwritten
            })
        };
        assert_eq!([Role::Out, Role::Inout].map(unwritten), [1000, 0]);
    }
}

//! The check after the last sample: of the kernel as it is now, and of what samples were seen to leave behind.

use std::sync::Arc;

use super::{InputSet, Measured};
use crate::device::Device;
use crate::memory::kernel::{NAN, Outputs, Poison, Rig};
use crate::memory::pool::Pool;
use crate::protocol::{Case, Failure, OutputReport, Role, SeedReport, Stage, TensorSpec, TimedCase};
use crate::verify::check::{Check, OnStage, differences};
use crate::verify::compare::{count, element, with_reference};
use crate::verify::results::ResultCache;

/// Some consecutive elements of an output as a sample left them.
#[derive(Debug)]
pub(super) struct Glance {
    /// The inputs it was made of; none where they were new.
    pub set: Option<usize>,
    /// The output.
    pub tensor: usize,
    /// Bytes from its start.
    pub at: usize,
    /// What lay there.
    pub bytes: Vec<u8>,
}

/// What the last sample left behind, of a case that lost a race: nobody skips work to become slow.
pub(super) fn of_last<D: Device>(
    results: &mut ResultCache,
    case: &mut Measured<D>,
    tensors: &[TensorSpec],
    bad_above: f64,
) -> SeedReport {
    let InputSet { seed, reference, .. } = &case.sets[case.set()];
    let mut report = SeedReport::new(*seed);
    for (index, output) in &case.left {
        report.outputs.extend(results.errors(&tensors[*index], output, reference, *index, bad_above));
    }
    std::mem::take(&mut case.damage).merge(&mut report);
    report
}

/// Checks what the measured launches left behind on each set of inputs, then the kernel as it is now.
pub(super) fn after<D: Device>(
    (device, pool, results): (&mut D, &mut Pool<D::Buffer>, &mut ResultCache),
    case: &mut Measured<D>,
    timed: &TimedCase,
    bad_above: f64,
    stage: OnStage<'_>,
) -> Result<SeedReport, Failure> {
    let tensors = &timed.case.tensors;
    let mut others = Vec::new();
    // The first inputs last: there the next job finds them.
    for set in (1..case.sets.len()).rev() {
        stage(Stage::Launch);
        case.rig.switch(device, set)?;
        let inputs = case.sets[set].inputs.clone();
        case.rig.poison(device, &inputs, Poison::FINITE)?;
        device.run(&case.rig.bound)?;
        others.push((set, case.outputs(device, results)?));
    }
    case.rig.switch(device, 0)?;
    let InputSet { seed, inputs, reference } = &case.sets[0];
    let check = Check { tensors, inputs, reference, seed: *seed };
    // What samples left was made on NaN, and is compared with this.
    let (mut report, first) = check.run_again(device, results, &mut case.rig, Poison::FINITE, bad_above, stage)?;
    stage(Stage::Compare);
    std::mem::take(&mut case.damage).merge(&mut report);
    for (set, outputs) in &others {
        // A kernel that takes these inputs for the others is wrong here.
        case.judge(results, *set, outputs, outputs, bad_above, &mut report);
    }
    others.push((0, first));
    for (set, first) in &others {
        if *set == case.set() && case.left != *first {
            let left = &case.left;
            report.unrepeatable = report.unrepeatable.max(differing(left, first, tensors));
            // Judged in its own right: outputs that need not repeat must be right all the same.
            case.judge(results, *set, left, first, bad_above, &mut report);
        }
        let (mut differ, mut at_first) = (0, None);
        for glance in case.glances.iter().filter(|glance| glance.set.is_none_or(|of| of == *set)) {
            let (at, (_, first)) =
                first.iter().enumerate().find(|(_, (index, _))| *index == glance.tensor).expect("an output");
            let size = tensors[glance.tensor].dtype.size();
            let spec = &tensors[glance.tensor];
            // Of new inputs only poison tells: what is right there is not known, but it is no such NaN. Integers may be.
            let tells = glance.set.is_some() || spec.dtype.is_float();
            for (i, (seen, first)) in glance.bytes.chunks(size).zip(first[glance.at..].chunks(size)).enumerate() {
                differ += u64::from(glance.set.is_some() && seen != first);
                if tells && is_poison(seen) && !is_poison(first) && spec.role == Role::Out {
                    let output = &mut report.outputs[at];
                    at_first = at_first.or(Some((glance.at / size + i) as u64));
                    output.first_unwritten = output.first_unwritten.or(at_first);
                    output.unwritten = output.unwritten.max(1);
                }
            }
        }
        report.unrepeatable = report.unrepeatable.max(differ);
    }
    if let Some((number, left)) = case.renewed.take() {
        stage(Stage::Launch);
        let fresh = of_a_fresh_load((&mut *device, pool, &mut *results), case, timed, number)?;
        // Whoever comes next finds the known inputs.
        case.rig.switch(device, 0)?;
        stage(Stage::Compare);
        report.unrepeatable = report.unrepeatable.max(differing(&left, &fresh, tensors));
        for (at, ((index, left), (_, fresh))) in left.iter().zip(&fresh).enumerate() {
            let spec = &tensors[*index];
            if left != fresh {
                worst(&mut report.outputs[at], &with_reference(spec, left, spec.dtype, fresh, bad_above));
            }
        }
    }
    Ok(report)
}

/// What the same machine code, loaded anew, leaves on new inputs: it can remember nothing.
fn of_a_fresh_load<D: Device>(
    (device, pool, results): (&mut D, &mut Pool<D::Buffer>, &mut ResultCache),
    case: &mut Measured<D>,
    timed: &TimedCase,
    number: u64,
) -> Result<Outputs, Failure> {
    let Case { tensors, launch } = &timed.case;
    let inputs = &Arc::clone(&case.sets[0].inputs);
    let mut fresh = Rig::new(device, pool, tensors, inputs, launch, &case.code)?;
    fresh.begin(device, None, inputs)?;
    let writes = fresh.writes(device, pool, inputs)?;
    // In the same memory, by the copies that the case has on the device; symbols are each load's own.
    case.rig.renew(device, inputs, number)?;
    fresh.renew(device, inputs, number)?;
    device.write(&fresh.renewed_writes(&writes, number))?;
    device.run(&fresh.bound)?;
    let survey = fresh.survey(device)?;
    fresh.outputs(device, &mut results.outputs, &survey)
}

fn is_poison(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == NAN)
}

impl<D: Device> Measured<D> {
    /// Adds the errors of outputs that were made of one set of inputs. What `first` left unwritten too is counted elsewhere.
    fn judge(
        &self,
        results: &mut ResultCache,
        set: usize,
        outputs: &Outputs,
        first: &Outputs,
        bad_above: f64,
        report: &mut SeedReport,
    ) {
        for (at, ((index, left), (_, first))) in outputs.iter().zip(first).enumerate() {
            let spec = self.rig.tensor(*index);
            let size = spec.dtype.size();
            let reference = &self.sets[set].reference;
            let Some(mut errors) = results.errors(spec, left, reference, *index, bad_above) else { continue };
            if spec.role == Role::Out && !Arc::ptr_eq(left, first) {
                (errors.unwritten, errors.first_unwritten) = count(spec.elements(), |i| {
                    is_poison(element(left, i, size)) && !is_poison(element(first, i, size))
                });
            }
            worst(&mut report.outputs[at], &errors);
        }
    }
}

/// Makes of two reports on one output that of the worse in every respect.
fn worst(report: &mut OutputReport, other: &OutputReport) {
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

/// Elements that the last sample left otherwise than a launch from the same start does.
fn differing(left: &Outputs, first: &Outputs, tensors: &[TensorSpec]) -> u64 {
    left.iter()
        .zip(first)
        .map(|((index, left), (_, first))| {
            let spec = &tensors[*index];
            let size = spec.dtype.size();
            differences(spec, &[(left, first)], |i| element(left, i, size) != element(first, i, size))
        })
        .sum()
}

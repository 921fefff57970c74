//! The check of one seed: the kernel's effects on its memory, and the errors of its outputs.
//!
//! A seed takes two launches, each on another poison: their outputs must have the same bits. Where the bits differ, an element that holds
//! both poisons was never written. For other elements one more launch on each poison tells outputs that depend on earlier contents from
//! outputs that vary by chance.

use std::sync::Arc;

use super::compare::{count, element};
use super::reference;
use super::session::{OnStage, Resources};
use crate::data::digest::Bytes;
use crate::device::Device;
use crate::inputs::tensor::Inputs;
use crate::memory::kernel::{KernelMemory, Outputs};
use crate::memory::poison::{FINITE, LARGE, NAN, Poison};
use crate::protocol::{Failure, OutputReport, Role, SeedReport, Stage, TensorSpec};

/// The inputs and expected outputs of one seed.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    pub tensors: &'a [TensorSpec],
    pub inputs: &'a Inputs,
    pub reference: &'a Arc<reference::Outputs>,
    pub seed: u64,
    /// Largest absolute error of an element that does not count as bad.
    pub bad_above: f64,
}

/// A check in progress, on memory that was [prepared](KernelMemory::prepare) for its inputs.
pub struct SeedCheck<'a, D: Device> {
    expected: Expected<'a>,
    resources: &'a mut Resources<D>,
    memory: &'a mut KernelMemory<D>,
    stage: OnStage<'a>,
    report: SeedReport,
}

impl<'a, D: Device> SeedCheck<'a, D> {
    pub fn new(
        expected: Expected<'a>,
        resources: &'a mut Resources<D>,
        memory: &'a mut KernelMemory<D>,
        stage: OnStage<'a>,
    ) -> Self {
        Self { expected, resources, memory, stage, report: SeedReport::new(expected.seed) }
    }

    /// Checks the kernel in full. Also returns the outputs of the first launch.
    pub fn full(mut self) -> Result<(SeedReport, Outputs), Failure> {
        let first = self.launch(Poison::NAN, None)?;
        let third = self.launch(Poison::FINITE, Some(&first))?;
        self.judge([&first, &third])?;
        Ok((self.report, first))
    }

    /// Checks a kernel that passed the full check before: in one launch on the given poison, unless its outputs are suspicious. Also
    /// returns the outputs of that launch.
    pub fn short(mut self, poison: Poison) -> Result<(SeedReport, Outputs), Failure> {
        let outputs = self.launch(poison, None)?;
        (self.stage)(Stage::Compare);
        let mut is_suspicious = !self.report.out_of_bounds.is_empty() || !self.report.inputs_changed.is_empty();
        let mut reports = Vec::new();
        for (index, output) in &outputs {
            let errors = self.errors(*index, output)?;
            // NaN poison is a valid result in an integer type.
            let shows_poison = self.expected.tensors[*index].dtype.is_float() || poison.contents != NAN;
            is_suspicious |= !shows_poison || errors.nonfinite > 0 || errors.bad > 0;
            reports.push(errors);
        }
        if is_suspicious {
            let other = if poison.contents == NAN { Poison::FINITE } else { Poison::NAN };
            let others = self.launch(other, Some(&outputs))?;
            self.judge(if poison.contents == NAN { [&outputs, &others] } else { [&others, &outputs] })?;
        } else {
            self.report.outputs = reports;
        }
        Ok((self.report, outputs))
    }

    /// The errors of one output against the reference.
    fn errors(&mut self, index: usize, output: &Bytes) -> Result<OutputReport, Failure> {
        let Expected { tensors, reference, bad_above, .. } = self.expected;
        let spec = &tensors[index];
        let errors = self.resources.results.errors(spec, output, reference, index, bad_above);
        errors.ok_or_else(|| no_reference(spec))
    }

    /// Launches once on a poison. Outputs that are the same as `known` are not fetched again.
    fn launch(&mut self, poison: Poison, known: Option<&Outputs>) -> Result<Outputs, Failure> {
        (self.stage)(Stage::Launch);
        let Self { resources: Resources { device, results, .. }, memory, report, expected, .. } = self;
        memory.poison(device, expected.inputs, poison)?;
        device.poison_on_chip(if poison.contents == NAN { NAN } else { LARGE })?;
        // Effects of earlier launches, which are not this kernel's.
        let _ = device.side_effects();
        device.run(&memory.bound)?;
        let effects = device.side_effects();
        report.side_effects.printed = report.side_effects.printed.max(effects.printed);
        report.side_effects.heap = report.side_effects.heap.max(effects.heap);
        let digests = memory.digests(device)?;
        let outputs = match known {
            Some(known) => memory.outputs_or(device, &mut results.outputs, &digests, known)?,
            None => memory.outputs(device, &mut results.outputs, &digests)?,
        };
        memory.out_of_bounds(device, &digests, &mut report.out_of_bounds)?;
        memory.inputs_changed(device, &digests, expected.inputs, &mut report.inputs_changed)?;
        Ok(outputs)
    }

    /// Reports on the outputs of two launches, the first on NaN, the third on finite poison.
    fn judge(&mut self, [first, third]: [&Outputs; 2]) -> Result<(), Failure> {
        let (mut second, mut fourth) = (first.clone(), third.clone());
        if self.differ(first, third) {
            // Each poison twice running: outputs that alternate from launch to launch do not depend on the poison.
            fourth = self.launch(Poison::FINITE, Some(third))?;
            second = self.launch(Poison::NAN, Some(first))?;
        }

        (self.stage)(Stage::Compare);
        for (at, (index, output)) in first.iter().enumerate() {
            let spec = &self.expected.tensors[*index];
            let size = spec.dtype.size();
            let [second, third, fourth] = [&second, third, &fourth].map(|outputs| &outputs[at].1);
            let same = |left: &[u8], right: &[u8], i| element(left, i, size) == element(right, i, size);
            let unwritten = |i| is_unwritten(spec, output, third, i);
            let repeats = |i| same(output, second, i) && same(third, fourth, i);
            self.report.unrepeatable += differences(spec, &[(output, second), (third, fourth)], |i| !repeats(i));
            self.report.stale +=
                differences(spec, &[(output, third)], |i| repeats(i) && !same(output, third, i) && !unwritten(i));
            let mut errors = self.errors(*index, output)?;
            if output != third {
                (errors.unwritten, errors.first_unwritten) = count(spec.elements(), unwritten);
            }
            self.report.outputs.push(errors);
        }
        Ok(())
    }

    /// Whether any element that was written differs.
    fn differ(&self, first: &Outputs, third: &Outputs) -> bool {
        first.iter().zip(third).any(|((index, first), (_, third))| {
            let spec = &self.expected.tensors[*index];
            differences(spec, &[(first, third)], |i| {
                let size = spec.dtype.size();
                element(first, i, size) != element(third, i, size) && !is_unwritten(spec, first, third, i)
            }) > 0
        })
    }
}

/// The failure of a reference that has no such output.
pub fn no_reference(spec: &TensorSpec) -> Failure {
    Failure::Reference { message: format!("it gives no `{}`", spec.name) }
}

/// Whether an element held poison before and after launches on either poison.
fn is_unwritten(spec: &TensorSpec, first: &[u8], third: &[u8], index: usize) -> bool {
    let holds = |bytes: &[u8], poison: u8| element(bytes, index, spec.dtype.size()).iter().all(|byte| *byte == poison);
    spec.role == Role::Out && holds(first, NAN) && holds(third, FINITE)
}

/// The number of elements that meet a condition which no element meets if both sides of every pair have the same bytes.
pub fn differences(
    spec: &TensorSpec,
    pairs: &[(&Arc<Bytes>, &Arc<Bytes>)],
    meets: impl Fn(usize) -> bool + Sync,
) -> u64 {
    if pairs.iter().all(|(left, right)| left == right) { 0 } else { count(spec.elements(), meets).0 }
}

//! Check jobs: a kernel against its reference on every seed and pattern, and outputs of other programs against the reference.

use std::sync::Arc;

use super::compare::{sizes, with_reference};
use super::reference::{self, ReferenceInputs, View};
use super::seed::{Expected, SeedCheck, no_reference};
use super::session::{OnStage, Resources, Session};
use crate::data::digest::Bytes;
use crate::data::dtype::DType;
use crate::data::fingerprint;
use crate::device::Device;
use crate::inputs::tensor::Inputs;
use crate::memory::poison::Poison;
use crate::protocol::{
    Case, CheckJob, DeviceKind, ErrorSizes, Failure, InspectJob, RelatedErrors, SeedReport, Sequence, Stage, TensorSpec,
};

impl<D: Device> Session<D> {
    /// Compares a kernel with its reference on every seed and pattern of the job.
    pub fn check(&mut self, job: &CheckJob, stage: OnStage<'_>) -> Result<Vec<SeedReport>, Failure> {
        let checked = self.check_seeds(job, stage);
        self.inputs.finish_prefetch();
        if checked.is_err() {
            // The contents of the buffers are unknown after a failure.
            self.resources.pool.clear();
            self.reference_pool.clear();
        }
        checked
    }

    fn check_seeds(&mut self, job: &CheckJob, stage: OnStage<'_>) -> Result<Vec<SeedReport>, Failure> {
        let tensors = &job.case.tensors;
        let mut memory = None;
        let mut reports = Vec::new();
        let all: Vec<_> = job.asked().collect();
        for (at, &(seed, pattern)) in all.iter().enumerate() {
            stage(Stage::Inputs);
            let inputs = self.inputs(tensors, seed, pattern)?;
            // While a GPU works, the processor can generate the next inputs.
            if let (Some(&(seed, pattern)), DeviceKind::Cuda) = (all.get(at + 1), self.resources.device.info().kind) {
                self.inputs.prefetch(tensors, seed, pattern, &self.blobs);
            }
            stage(Stage::Reference);
            let of = ReferenceInputs { seed, pattern, view: View::Given };
            let reference = self.reference(&job.reference, tensors, &inputs, of)?;
            let others = self.others(job, &inputs, &reference, of)?;
            stage(Stage::Launch);
            let memory = match &mut memory {
                Some(memory) => memory,
                none => none.insert(self.load(&job.case, &inputs)?),
            };
            let Resources { device, pool, .. } = &mut self.resources;
            memory.prepare(device, Some(pool), &inputs)?;
            let bad_above = job.bad_above;
            let expected = Expected { tensors, inputs: &inputs, reference: &reference, seed, bad_above };
            let check = SeedCheck::new(expected, &mut self.resources, memory, stage);
            let (mut report, outputs) =
                if job.options.passed_before { check.short(Poison::MIXED)? } else { check.full()? };
            report.pattern = pattern;
            for (at, ((index, output), report)) in outputs.iter().zip(&mut report.outputs).enumerate() {
                report.related = others.related(at, *index, &tensors[*index], output, &reference);
            }
            reports.push(report);
        }
        // Unloading runs the kernel's destructors.
        stage(Stage::Launch);
        drop(memory);
        Ok(reports)
    }

    /// Further results to compare the kernel's errors with.
    fn others(
        &mut self,
        job: &CheckJob,
        inputs: &Arc<Inputs>,
        reference: &reference::Outputs,
        of: ReferenceInputs,
    ) -> Result<OtherResults, Failure> {
        let tensors = &job.case.tensors;
        let mut view = |view| self.reference(&job.reference, tensors, inputs, ReferenceInputs { view, ..of }).map(Some);
        let (mut perturbed, mut unquantized) = (None, None);
        if of.pattern.is_some() {
            if let Some(tolerance) = job.options.tolerance {
                perturbed = view(View::Perturbed(tolerance))?;
            }
        } else if reference::is_quantized(tensors, &job.reference.sequence) {
            unquantized = view(View::Unquantized)?;
        }
        let naive = match &job.options.naive {
            Some(naive) => self.naive(naive, job, inputs, reference, of)?,
            None => Vec::new(),
        };
        Ok(OtherResults { perturbed, unquantized, naive })
    }

    /// The errors of a naive implementation, one entry for each output.
    fn naive(
        &mut self,
        naive: &Sequence,
        job: &CheckJob,
        inputs: &Arc<Inputs>,
        reference: &reference::Outputs,
        of: ReferenceInputs,
    ) -> Result<Vec<ErrorSizes>, Failure> {
        let key = fingerprint::of("naive", &(naive, &job.reference, &job.case.tensors, of));
        if let Some(errors) = self.naive.get(&key) {
            return Ok(errors.clone());
        }
        let case = Case { tensors: job.case.tensors.clone(), sequence: naive.clone() };
        let outputs = self.load(&case, inputs).and_then(|mut memory| {
            let Resources { device, pool, results } = &mut self.resources;
            memory.prepare(device, Some(pool), inputs)?;
            device.run(&memory.bound)?;
            let digests = memory.digests(device)?;
            memory.outputs(device, &mut results.outputs, &digests)
        });
        let failed = |failure: Failure| match failure {
            Failure::Machine { .. } => failure,
            other => Failure::Reference { message: format!("the naive implementation: {other}") },
        };
        let errors: Vec<ErrorSizes> = outputs
            .map_err(failed)?
            .iter()
            .filter_map(|(index, output)| {
                let spec = &case.tensors[*index];
                let (wide, data) = reference.get(index)?;
                Some(sizes(spec, (spec.dtype, output), (*wide, data)))
            })
            .collect();
        self.naive.insert(key, errors.clone());
        Ok(errors)
    }

    /// Compares the outputs of another program, for one seed's inputs, with the reference. The program's memory is not examined.
    pub fn inspect(&mut self, job: &InspectJob, stage: OnStage<'_>) -> Result<SeedReport, Failure> {
        stage(Stage::Inputs);
        let inputs = self.inputs(&job.tensors, job.seed, job.pattern)?;
        stage(Stage::Reference);
        let of = ReferenceInputs { seed: job.seed, pattern: job.pattern, view: View::Given };
        let reference = self.reference(&job.reference, &job.tensors, &inputs, of)?;
        stage(Stage::Compare);
        let mut report = SeedReport { pattern: job.pattern, ..SeedReport::new(job.seed) };
        for (index, output) in &job.outputs {
            let spec =
                job.tensors.get(*index).filter(|spec| spec.bytes() == output.0.len()).ok_or_else(|| {
                    Failure::Inputs { message: format!("{} bytes for output {index}", output.0.len()) }
                })?;
            let (wide, reference) = reference.get(index).ok_or_else(|| no_reference(spec))?;
            report.outputs.push(with_reference(spec, &output.0, *wide, reference, job.bad_above));
        }
        Ok(report)
    }
}

/// Results that errors are compared with, beside the reference's.
struct OtherResults {
    /// The reference on perturbed inputs.
    perturbed: Option<Arc<reference::Outputs>>,
    /// The reference on the values before they were quantised.
    unquantized: Option<Arc<reference::Outputs>>,
    /// Errors of the naive implementation, one entry for each output.
    naive: Vec<ErrorSizes>,
}

impl OtherResults {
    /// The errors related to one output: the `at`-th output, which is the `index`-th tensor.
    fn related(
        &self,
        at: usize,
        index: usize,
        spec: &TensorSpec,
        output: &Bytes,
        reference: &reference::Outputs,
    ) -> RelatedErrors {
        let against = |other: &Option<Arc<reference::Outputs>>, values: (DType, &[u8])| {
            let (wide, data) = other.as_ref()?.get(&index)?;
            Some(sizes(spec, values, (*wide, data)))
        };
        let given = reference.get(&index).map(|(wide, data)| (*wide, &data[..]));
        RelatedErrors {
            sensitivity: given.and_then(|given| against(&self.perturbed, given)),
            naive: self.naive.get(at).copied(),
            quantization: given.and_then(|given| against(&self.unquantized, given)),
            total: against(&self.unquantized, (spec.dtype, output)),
        }
    }
}

#[cfg(test)]
mod tests;

//! References: the inputs that they get, the keys of their results, and running them.

mod cache;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;

pub use self::cache::{KEPT_RESULTS, ReferenceCache, encode};
use super::compare::{count, element, with_reference};
use crate::data::codec::{self, CHUNK};
use crate::data::digest::Bytes;
use crate::data::dtype::DType;
use crate::data::fingerprint;
use crate::device::{Device, Purpose};
use crate::inputs::derived::derive;
use crate::inputs::pattern;
use crate::inputs::tensor::{GENERATION, Inputs};
use crate::memory::kernel::KernelMemory;
use crate::memory::outputs::OutputCache;
use crate::memory::poison::{FINITE, NAN, Poison};
use crate::memory::pool::Pool;
use crate::protocol::{
    Arg, Derived, DeviceInfo, Failure, OutputReport, Pattern, Reference, Role, Sequence, Source, TensorSpec,
};

/// Longest time of a reference that runs twice on the inputs of the first seed. One whose results depend on more than its inputs makes right kernels
/// look wrong.
const QUICK: Duration = Duration::from_millis(100);

/// Largest root mean square of the difference of two runs, in that of the result.
const REPEATED: f64 = 1e-5;

/// Prefix of the identities of references whose results are valid within one process only, and of the keys of these results.
pub const TRANSIENT: &str = "passing-";

/// The reference's outputs by tensor index: element type and bytes.
pub type Outputs = BTreeMap<usize, (DType, Vec<u8>)>;

/// The inputs of one run of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReferenceInputs {
    /// Seed of the inputs.
    pub seed: u64,
    /// Pattern of the inputs; `None` for random inputs.
    pub pattern: Option<Pattern>,
    /// View of the inputs: rounded, exact or original.
    pub view: View,
}

impl ReferenceInputs {
    /// The random inputs of a seed, as the kernel gets them.
    pub fn random(seed: u64) -> Self {
        Self { seed, pattern: None, view: View::Given }
    }
}

/// Difference between the inputs of a reference and the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum View {
    /// The values that the kernel gets.
    Given,
    /// The original values in place of quantised tensors, and scales of 1.
    Unquantized,
    /// Every floating-point input off by this relative error, up or down, and subnormal inputs flushed to zero.
    Perturbed(f64),
}

/// Whether a reference can run on [`View::Unquantized`] inputs: it takes at least one quantised tensor, and every quantised tensor that it
/// takes has a floating-point type.
pub fn is_quantized(tensors: &[TensorSpec], sequence: &Sequence) -> bool {
    let mut quantized = tensors
        .iter()
        .enumerate()
        .filter(|(index, _)| takes(sequence, *index) && is_of_quantized(tensors, *index))
        .map(|(_, spec)| spec.dtype.is_float())
        .peekable();
    quantized.peek().is_some() && quantized.all(|is_float| is_float)
}

/// Whether a tensor is quantised, or derived from one that is.
fn is_of_quantized(tensors: &[TensorSpec], index: usize) -> bool {
    match &tensors[index].source {
        Source::Quantize { .. } => true,
        // A tensor that comes later in the list has no contents, and the error was reported.
        Source::Derived(derived) => derived.from.iter().any(|&from| from < index && is_of_quantized(tensors, from)),
        _ => false,
    }
}

/// Whether only the kernel may read a tensor: scratch, or an input derived from others that no further one is made of.
fn is_kernels_own(tensors: &[TensorSpec], index: usize) -> bool {
    let is_source = |spec: &TensorSpec| match &spec.source {
        Source::Quantize { from, .. } => *from == index,
        Source::Derived(derived) => derived.from.contains(&index),
        _ => false,
    };
    let TensorSpec { role, source, .. } = &tensors[index];
    let is_derived = matches!(source, Source::Derived(_)) && !role.is_output();
    *role == Role::Scratch || is_derived && !tensors.iter().any(is_source)
}

/// The key of a result: a fingerprint of everything that it depends on. The device counts for machine code only. Raise the version of the
/// fingerprint whenever the same reference could give other results, or none.
pub fn key(reference: &Reference, tensors: &[TensorSpec], of: ReferenceInputs, device: &DeviceInfo) -> String {
    // Tensors that only the kernel takes may depend on its toggles, the result of the reference does not.
    let tensors: Vec<Option<&TensorSpec>> = tensors
        .iter()
        .enumerate()
        .map(|(index, spec)| (!is_kernels_own(tensors, index) || takes(&reference.sequence, index)).then_some(spec))
        .collect();
    let device = (!reference.program).then_some((&device.name, &device.driver));
    let generation = (GENERATION, pattern::GENERATION);
    // The reference's identity stands for its machine code.
    let sequence = Sequence { blob: String::new(), ..reference.sequence.clone() };
    let content = (generation, Reference { sequence, ..reference.clone() }, tensors, of, device);
    let key = fingerprint::of("reference result 4", &content);
    if reference.identity.starts_with(TRANSIENT) { TRANSIENT.to_owned() + &key } else { key }
}

/// Whether a tensor is among the arguments of the launches.
fn takes(sequence: &Sequence, tensor: usize) -> bool {
    sequence.args().any(|arg| match arg {
        Arg::Symbol { tensor: other, .. } => *other == tensor,
        arg => arg.passed().contains(&tensor),
    })
}

/// The tensors of a reference: floating-point tensors in the reference's precision, all others in their own type.
pub fn wide_specs(reference: &Reference, tensors: &[TensorSpec]) -> Vec<TensorSpec> {
    let mut wide = tensors.to_vec();
    for spec in wide.iter_mut().filter(|spec| spec.dtype.is_float()) {
        spec.dtype = reference.precision;
    }
    wide
}

/// The inputs of a reference, in its types; `None` for tensors that it does not take.
pub fn wide_inputs(reference: &Reference, tensors: &[TensorSpec], inputs: &Inputs, view: View) -> Inputs {
    let wide = Wide { precision: reference.precision, tensors, inputs, view };
    let taken = |index: usize| takes(&reference.sequence, index).then(|| wide.of(index)).flatten();
    (0..tensors.len()).map(taken).collect()
}

/// Inputs with floating-point tensors in one precision.
struct Wide<'a> {
    precision: DType,
    tensors: &'a [TensorSpec],
    inputs: &'a Inputs,
    view: View,
}

impl Wide<'_> {
    fn dtype(&self, index: usize) -> DType {
        let own = self.tensors[index].dtype;
        if own.is_float() { self.precision } else { own }
    }

    fn of(&self, index: usize) -> Option<Arc<Bytes>> {
        let (spec, to) = (&self.tensors[index], self.dtype(index));
        match (self.view, &spec.source) {
            (View::Unquantized, Source::Quantize { from, .. }) => self.converted(*from, to),
            (View::Unquantized, Source::Scale) if self.is_scale(index) => {
                Some(Arc::new(codec::encode(to, &vec![1.0; spec.elements()]).into()))
            }
            (View::Unquantized, Source::Derived(derived)) if is_of_quantized(self.tensors, index) => {
                self.derived(index, derived)
            }
            (View::Perturbed(by), _) if spec.dtype.is_float() => {
                let mut values = codec::decode(spec.dtype, self.inputs[index].as_ref()?);
                perturb(spec.dtype, &mut values, by);
                Some(Arc::new(codec::encode(to, &values).into()))
            }
            _ => self.converted(index, to),
        }
    }

    /// The contents of a tensor in another type.
    fn converted(&self, index: usize, to: DType) -> Option<Arc<Bytes>> {
        let (from, input) = (self.tensors[index].dtype, self.inputs[index].as_ref()?);
        Some(if from == to { Arc::clone(input) } else { Arc::new(codec::convert(from, to, input).into()) })
    }

    /// Whether a tensor is quantised with these scales.
    fn is_scale(&self, index: usize) -> bool {
        let mut sources = self.tensors.iter().map(|spec| &spec.source);
        sources.any(|source| matches!(source, Source::Quantize { scale, .. } if *scale == index))
    }

    /// A tensor derived from others as they are in this view.
    fn derived(&self, index: usize, derived: &Derived) -> Option<Arc<Bytes>> {
        let spec = |index: usize| TensorSpec { dtype: self.dtype(index), ..self.tensors[index].clone() };
        let from = derived.from.iter().map(|&from| Some((spec(from), self.of(from)?))).collect::<Option<Vec<_>>>()?;
        let from: Vec<(&TensorSpec, &[u8])> = from.iter().map(|(spec, bytes)| (spec, &bytes[..])).collect();
        Some(Arc::new(derive(&spec(index), derived, &from).ok()?.into()))
    }
}

/// Changes every value by a relative error, up or down, and flushes subnormal values to zero in types in which compilers and GPUs flush them
/// in fast modes.
fn perturb(dtype: DType, values: &mut [f64], by: f64) {
    let flushed = if matches!(dtype, DType::F32 | DType::F64 | DType::Bf16) { dtype.smallest_normal() } else { 0.0 };
    values.par_iter_mut().enumerate().for_each(|(index, value)| {
        // A middle bit of a product with the golden ratio (Fibonacci hashing): pseudorandom enough.
        let up = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & 1 == 0;
        *value = if value.abs() < flushed { 0.0 } else { *value * if up { 1.0 + by } else { 1.0 - by } };
    });
}

/// The buffers of a reference.
pub struct ReferencePools<'a, B> {
    /// Buffers of its own tensors.
    pub own: &'a mut Pool<B>,
    /// Copies of large inputs, which earlier kernels may have made; `None`: no copies are kept.
    pub copies: Option<&'a mut Pool<B>>,
}

/// One run of a reference.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The reference.
    pub reference: &'a Reference,
    /// The tensors of the kernel.
    pub tensors: &'a [TensorSpec],
    /// The inputs that it runs on.
    pub of: ReferenceInputs,
    /// Machine code.
    pub code: &'a [u8],
}

impl Run<'_> {
    /// Runs the reference on a device, with inputs from [`wide_inputs`].
    ///
    /// A reference that writes out of bounds or leaves part of an output unwritten is refused: no kernel can be judged by it.
    pub fn on<D: Device>(
        self,
        device: &mut D,
        pools: ReferencePools<'_, D::Buffer>,
        inputs: Inputs,
    ) -> Result<Outputs, Failure> {
        self.try_on(device, pools, &Arc::new(inputs)).map_err(|failure| match failure {
            Failure::Reference { .. } | Failure::Machine { .. } => failure,
            other => Failure::Reference { message: other.to_string() },
        })
    }

    fn try_on<D: Device>(
        self,
        device: &mut D,
        pools: ReferencePools<'_, D::Buffer>,
        inputs: &Arc<Inputs>,
    ) -> Result<Outputs, Failure> {
        let Self { reference, tensors, of, code } = self;
        let refuse = |message: String| Failure::Reference { message };
        let wide = wide_specs(reference, tensors);
        for (index, spec) in tensors.iter().enumerate() {
            if spec.role.is_output() && !takes(&reference.sequence, index) {
                return Err(refuse(format!("it does not take the output `{}`", spec.name)));
            }
        }
        let sequence = &reference.sequence;
        let mut memory = KernelMemory::new(device, pools.own, &wide, inputs, sequence, code, Purpose::Reference)?;
        memory.prepare(device, pools.copies, inputs)?;
        let started = Instant::now();
        device.run(&memory.bound)?;
        let took = started.elapsed();
        let mut fetched = OutputCache::default();
        let digests = memory.digests(device)?;
        let outputs = memory.outputs(device, &mut fetched, &digests)?;
        let mut out_of_bounds = Vec::new();
        memory.out_of_bounds(device, &digests, &mut out_of_bounds)?;
        if let Some(write) = out_of_bounds.first() {
            return Err(refuse(format!("it writes out of bounds: `{}` at byte {}", write.tensor, write.offset)));
        }
        let is_poison = |bytes: &[u8], poison: u8| bytes.iter().all(|byte| *byte == poison);
        let has_poison = |(index, data): &(usize, Arc<Bytes>)| {
            let spec = &wide[*index];
            let size = spec.dtype.size();
            spec.role == Role::Out && count(spec.elements(), |at| is_poison(element(data, at, size), NAN)).0 > 0
        };
        if outputs.iter().any(has_poison) {
            // Poison may be a valid result (-1 is, for an integer), but not with two different poisons.
            memory.poison(device, inputs, Poison::FINITE)?;
            device.run(&memory.bound)?;
            let digests = memory.digests(device)?;
            for ((index, first), (_, second)) in outputs.iter().zip(memory.outputs(device, &mut fetched, &digests)?) {
                let spec = &wide[*index];
                let size = spec.dtype.size();
                let (unwritten, at) = count(spec.elements(), |at| {
                    is_poison(element(first, at, size), NAN) && is_poison(element(&second, at, size), FINITE)
                });
                if let Some(at) = at.filter(|_| spec.role == Role::Out) {
                    let name = &spec.name;
                    return Err(refuse(format!("it leaves {unwritten} elements of `{name}` unwritten, first {at}")));
                }
            }
        }
        if runs_again(of, took) {
            memory.upload_inputs(device, inputs)?;
            memory.poison(device, inputs, Poison::NAN)?;
            device.run(&memory.bound)?;
            let digests = memory.digests(device)?;
            for ((index, first), (_, again)) in outputs.iter().zip(memory.outputs(device, &mut fetched, &digests)?) {
                if let Some(why) = difference(&wide[*index], first, &again) {
                    return Err(refuse(format!(
                        "it gives another result on the same inputs when it runs again: {why}"
                    )));
                }
            }
        }
        drop(fetched);
        memory.wipe(device, inputs)?;
        // Two outputs with the same bytes may share them.
        let own = |data| Vec::from(Arc::unwrap_or_clone(data));
        let outputs = outputs.into_iter().map(|(index, data)| (index, (wide[index].dtype, own(data)))).collect();
        require_finite(tensors, &outputs, of)?;
        Ok(outputs)
    }
}

/// Whether a reference runs a second time on these inputs, after a launch that took this long.
fn runs_again(of: ReferenceInputs, took: Duration) -> bool {
    of == ReferenceInputs::random(0) && took < QUICK
}

/// Description of the difference of two results, if it is more than the order of sums can cause.
fn difference(spec: &TensorSpec, first: &[u8], again: &[u8]) -> Option<String> {
    if first == again {
        return None;
    }
    let report = with_reference(spec, again, spec.dtype, first, f64::MAX);
    let is_alike = report.nonfinite == 0 && report.rms_err <= REPEATED * report.rms_ref;
    let OutputReport { tensor, max_abs_err_at, output_at, reference_at, nonfinite, .. } = report;
    (!is_alike).then(|| match nonfinite {
        0 => format!("`{tensor}` has {reference_at} and then {output_at} at {max_abs_err_at}"),
        _ => format!("{nonfinite} elements of `{tensor}` are NaN or infinite in one of both"),
    })
}

/// Refuses outputs without a finite number: every kernel's NaN would agree with them. In a pattern the inputs may be the cause.
pub fn require_finite(tensors: &[TensorSpec], outputs: &Outputs, of: ReferenceInputs) -> Result<(), Failure> {
    for (index, (dtype, data)) in outputs.iter().filter(|_| of.pattern.is_none()) {
        if dtype.is_float() && !data.is_empty() && !any_finite(*dtype, data) {
            let message = format!("it gives no finite number in `{}`", tensors[*index].name);
            return Err(Failure::Reference { message });
        }
    }
    Ok(())
}

fn any_finite(dtype: DType, data: &[u8]) -> bool {
    let mut values = vec![0.0; CHUNK];
    data.chunks(CHUNK * dtype.size()).any(|data| {
        let values = &mut values[..data.len() / dtype.size()];
        codec::decode_into(dtype, data, values);
        values.iter().any(|value| value.is_finite())
    })
}

#[cfg(test)]
mod tests;

//! The initial contents of tensors: a function of the seed, the tensor's name and its description.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use rayon::prelude::*;

use crate::data::codec::{self, CHUNK};
use crate::data::digest::Bytes;
use crate::data::dtype::DType;
use crate::inputs::derived::derive;
use crate::inputs::pattern::Transform;
use crate::protocol::{Failure, Pattern, Source, TensorSpec};

/// Version in every key of results; raise it when a seed gives other numbers.
pub const GENERATION: u32 = 1;

/// Blobs by their hash.
pub type Blobs = HashMap<String, Arc<Vec<u8>>>;

/// The bytes of every tensor of a case, in its order; `None` for outputs and scratch.
pub type Inputs = Vec<Option<Arc<Bytes>>>;

/// Makes the inputs of a case.
pub fn generate(specs: &[TensorSpec], seed: u64, blobs: &Blobs) -> Result<Inputs, Failure> {
    generate_pattern(specs, seed, None, blobs)
}

/// Makes the inputs of a case, in a pattern if there is one.
pub fn generate_pattern(
    specs: &[TensorSpec],
    seed: u64,
    pattern: Option<Pattern>,
    blobs: &Blobs,
) -> Result<Inputs, Failure> {
    let mut inputs: Inputs = vec![None; specs.len()];
    let mut changed = 0;
    for (index, spec) in specs.iter().enumerate() {
        match &spec.source {
            Source::None | Source::Scale => {}
            Source::Quantize { from, scale, scale_dims } => {
                let (values, scales) = quantize(specs, &inputs, index, *from, *scale, scale_dims)
                    .map_err(|message| Failure::Inputs { message: format!("`{}`: {message}", spec.name) })??;
                inputs[index] = Some(Arc::new(values.into()));
                inputs[*scale] = Some(Arc::new(scales.into()));
            }
            Source::Derived(derived) => {
                let missing = || Failure::Inputs {
                    message: format!("`{}`: what it is derived from has no contents yet", spec.name),
                };
                let of = |&from: &usize| Some((specs.get(from)?, &inputs.get(from)?.as_ref()?[..]));
                let from: Option<Vec<_>> = derived.from.iter().map(of).collect();
                inputs[index] = Some(Arc::new(derive(spec, derived, &from.ok_or_else(missing)?)?.into()));
            }
            source => {
                let transform = pattern.and_then(|pattern| Transform::new(pattern, spec, seed, changed));
                changed += usize::from(transform.is_some());
                inputs[index] = Some(Arc::new(fresh(spec, source, seed, transform.as_ref(), blobs)?.into()));
            }
        }
    }
    if let Some(spec) = specs
        .iter()
        .zip(&inputs)
        .find_map(|(spec, input)| (spec.source == Source::Scale && input.is_none()).then_some(spec))
    {
        return Err(Failure::Inputs { message: format!("`{}`: no tensor is quantised with these scales", spec.name) });
    }
    Ok(inputs)
}

/// The size of all inputs in bytes.
pub fn bytes(inputs: &Inputs) -> usize {
    inputs.iter().flatten().map(|data| data.len()).sum()
}

pub(super) fn zeroed(spec: &TensorSpec) -> Result<Vec<u8>, Failure> {
    let bytes = spec.dims.iter().try_fold(spec.dtype.size() as u64, |size, dim| size.checked_mul(*dim));
    let too_large = Failure::OutOfMemory { bytes: bytes.unwrap_or(u64::MAX) };
    let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) else { return Err(too_large) };
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| too_large)?;
    // The system zeroes each page on its first write, which many threads do.
    Ok(vec![0; bytes])
}

fn fresh(
    spec: &TensorSpec,
    source: &Source,
    seed: u64,
    transform: Option<&Transform>,
    blobs: &Blobs,
) -> Result<Vec<u8>, Failure> {
    let refuse = |message: String| Failure::Inputs { message: format!("`{}`: {message}", spec.name) };
    if let Source::File { hash, tensor } = source {
        let blob = blobs.get(hash).ok_or_else(|| refuse(format!("its file (blob {hash}) was not sent")))?;
        let data = match tensor {
            Some(tensor) => super::file::safetensors(blob, tensor, spec),
            None => super::file::npy(blob, spec),
        };
        return data.map_err(refuse);
    }
    let mut memory = zeroed(spec)?;
    let dtype = spec.dtype;
    let generator = generator(seed, &spec.name);
    if let Source::Offsets { last } = source {
        for (value, memory) in
            offsets(spec.elements(), *last, generator).iter().zip(memory.chunks_exact_mut(dtype.size()))
        {
            memory.copy_from_slice(&codec::integer(dtype, *value));
        }
        return Ok(memory);
    }
    memory.par_chunks_mut(CHUNK * dtype.size()).enumerate().for_each_init(
        || vec![0.0; CHUNK],
        |values, (chunk, memory)| {
            let values = &mut values[..memory.len() / dtype.size()];
            let mut rng = generator.clone();
            rng.set_stream(chunk as u64);
            let first = chunk * CHUNK;
            match *source {
                Source::Normal { mean, std } => {
                    for value in &mut *values {
                        let deviation: f64 = StandardNormal.sample(&mut rng);
                        *value = mean + std * deviation;
                    }
                }
                Source::Uniform { low, high } => {
                    // The range itself may exceed f64.
                    let at = |share: f64| match high - low {
                        range if range.is_finite() => low + range * share,
                        _ => low * (1.0 - share) + high * share,
                    };
                    for value in &mut *values {
                        *value = at(rng.random::<f64>()).min(high.next_down()).max(low);
                    }
                }
                Source::Integers { low, high } => {
                    for (value, memory) in values.iter_mut().zip(memory.chunks_exact_mut(dtype.size())) {
                        let integer = rng.random_range(low.min(high)..=high.max(low));
                        *value = integer as f64;
                        // An f64 does not hold every 64-bit integer.
                        if matches!(dtype, DType::I64 | DType::U64) {
                            memory.copy_from_slice(&codec::integer(dtype, integer));
                        }
                    }
                    if matches!(dtype, DType::I64 | DType::U64) && transform.is_none() {
                        return;
                    }
                }
                Source::Arange { start, step } if matches!(dtype, DType::I64 | DType::U64) => {
                    // An f64 does not hold every 64-bit integer.
                    for (index, memory) in memory.chunks_exact_mut(dtype.size()).enumerate() {
                        let value = start as i128 + step as i128 * (first + index) as i128;
                        let value = value.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                        memory.copy_from_slice(&codec::integer(dtype, value));
                    }
                    return;
                }
                Source::Arange { start, step } => {
                    for (index, value) in values.iter_mut().enumerate() {
                        *value = start + step * (first + index) as f64;
                    }
                }
                Source::Constant(constant) => values.fill(constant),
                Source::Offsets { .. }
                | Source::File { .. }
                | Source::Quantize { .. }
                | Source::Derived(_)
                | Source::Scale
                | Source::None => {
                    unreachable!("handled by the callers")
                }
            }
            if let Some(transform) = transform {
                transform.apply(first, values);
            }
            codec::encode_into(dtype, values, memory);
        },
    );
    Ok(memory)
}

/// Starts of rows: 0 first and `last` at the end.
fn offsets(count: usize, last: u64, mut rng: ChaCha8Rng) -> Vec<i64> {
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    let mut offsets: Vec<i64> = (0..count).map(|_| rng.random_range(0..=last)).collect();
    offsets.par_sort_unstable();
    if let [first, .., end] = &mut offsets[..] {
        (*first, *end) = (0, last);
    }
    offsets
}

/// One `ChaCha8` key for each seed and name, so that tensors are independent of each other and of their order.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("kbench tensor 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// The largest finite value of a type for quantised tensors.
fn quantised_max(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F8e4m3 => Some(448.0),
        DType::F8e5m2 => Some(57344.0),
        DType::I8 => Some(127.0),
        _ => None,
    }
}

/// The index of each element's scale: the elements form runs that share a scale.
struct ScaleIndex {
    run: usize,
    /// For each dimension with several scales: its stride in runs, its size, its stride in the scale tensor.
    dims: Vec<(usize, usize, usize)>,
}

impl ScaleIndex {
    fn new(from: &TensorSpec, scale: &TensorSpec, scale_dims: &[usize]) -> Result<Self, String> {
        if scale_dims.len() != scale.dims.len() {
            return Err(format!("{} scale dimensions for {} of `{}`", scale_dims.len(), scale.dims.len(), scale.name));
        }
        let used = |dim: &usize| scale_dims.contains(dim);
        let size = |dim: usize| from.dims[dim] as usize;
        for (dim, want) in scale_dims.iter().zip(&scale.dims) {
            if from.dims.get(*dim) != Some(want) {
                return Err(format!("dimension {dim} of `{}` is not the {want} of `{}`", from.name, scale.name));
            }
        }
        let last = scale_dims.iter().copied().max();
        let run = (last.map_or(0, |last| last + 1)..from.dims.len()).map(size).product::<usize>().max(1);
        let dims = (0..from.dims.len())
            .filter(used)
            .map(|dim| {
                let stride = (dim + 1..from.dims.len()).map(size).product::<usize>() / run;
                let scale_stride = scale_dims
                    .iter()
                    .enumerate()
                    .filter(|(_, of)| **of == dim)
                    .map(|(at, _)| scale.dims[at + 1..].iter().map(|dim| *dim as usize).product::<usize>());
                (stride, size(dim), scale_stride.sum())
            })
            .collect();
        Ok(Self { run, dims })
    }

    fn of_run(&self, run: usize) -> usize {
        self.dims.iter().map(|(stride, size, scale_stride)| run / stride % size * scale_stride).sum()
    }

    /// Calls `each` for every stretch of `values`, elements from `first` on, that shares a scale.
    fn stretches(&self, first: usize, values: &mut [f64], mut each: impl FnMut(usize, &mut [f64])) {
        let mut at = 0;
        while at < values.len() {
            let run = (first + at) / self.run;
            let end = ((run + 1) * self.run - first).min(values.len());
            each(self.of_run(run), &mut values[at..end]);
            at = end;
        }
    }
}

type Quantized = Result<(Vec<u8>, Vec<u8>), Failure>;

/// Quantises one tensor: returns its bytes and those of its scales. The outer error is a message about the table.
fn quantize(
    specs: &[TensorSpec],
    inputs: &Inputs,
    index: usize,
    from: usize,
    scale: usize,
    scale_dims: &[usize],
) -> Result<Quantized, String> {
    let spec = &specs[index];
    let (Some(from_spec), Some(scale_spec)) = (specs.get(from), specs.get(scale)) else {
        return Err("quantised from or scaled by a tensor that does not exist".into());
    };
    let Some(source) = inputs[from].as_ref() else {
        return Err(format!("`{}`, which it is quantised from, has no contents yet", from_spec.name));
    };
    let Some(max) = quantised_max(spec.dtype) else {
        return Err(format!("cannot quantise to {}, only to f8e4m3, f8e5m2 and i8", spec.dtype));
    };
    if spec.dims != from_spec.dims {
        return Err(format!("its dimensions are not those of `{}`", from_spec.name));
    }
    if scale_spec.source != Source::Scale || inputs[scale].is_some() {
        return Err(format!("`{}` cannot receive its scales", scale_spec.name));
    }
    let at = ScaleIndex::new(from_spec, scale_spec, scale_dims)?;

    let (mut values, scale_bytes) = match (zeroed(spec), zeroed(scale_spec)) {
        (Ok(values), Ok(scales)) => (values, scales.len()),
        (Err(failure), _) | (_, Err(failure)) => return Ok(Err(failure)),
    };
    // Non-negative floats order as their bits do, and a maximum does not depend on the order of its arguments.
    let absmax: Vec<AtomicU64> = (0..scale_bytes / scale_spec.dtype.size()).map(|_| AtomicU64::new(0)).collect();
    let width = from_spec.dtype.size();
    source.par_chunks(CHUNK * width).enumerate().for_each_init(
        || vec![0.0; CHUNK],
        |decoded, (chunk, bytes)| {
            let decoded = &mut decoded[..bytes.len() / width];
            codec::decode_into(from_spec.dtype, bytes, decoded);
            at.stretches(chunk * CHUNK, decoded, |scale, values| {
                let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
                absmax[scale].fetch_max(largest.to_bits(), Ordering::Relaxed);
            });
        },
    );
    let scales: Vec<f64> = absmax.iter().map(|bits| f64::from_bits(bits.load(Ordering::Relaxed)) / max).collect();
    // A scale that is zero, or is zero in its type, must not be a divisor.
    let stored = codec::decode(scale_spec.dtype, &codec::encode(scale_spec.dtype, &scales));
    let scales: Vec<f64> = stored.into_iter().map(|scale| if scale > 0.0 { scale } else { 1.0 }).collect();

    let size = spec.dtype.size();
    values.par_chunks_mut(CHUNK * size).zip(source.par_chunks(CHUNK * width)).enumerate().for_each_init(
        || vec![0.0; CHUNK],
        |decoded, (chunk, (values, bytes))| {
            let decoded = &mut decoded[..bytes.len() / width];
            codec::decode_into(from_spec.dtype, bytes, decoded);
            at.stretches(chunk * CHUNK, decoded, |scale, values| {
                for value in values {
                    *value /= scales[scale];
                }
            });
            codec::encode_into(spec.dtype, decoded, values);
        },
    );
    Ok(Ok((values, codec::encode(scale_spec.dtype, &scales))))
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exactness is what is tested
mod tests;

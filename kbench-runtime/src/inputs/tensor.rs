//! The initial contents of tensors: a function of the seed, the tensor's name and its description.

use std::collections::HashMap;
use std::sync::Arc;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};
use rayon::prelude::*;

use crate::data::codec::{self, CHUNK};
use crate::data::dtype::DType;
use crate::inputs::derived::derive;
use crate::inputs::pattern::Transform;
use crate::inputs::quantize::quantize;
use crate::inputs::zeroed;
use crate::protocol::{Failure, Pattern, Source, TensorSpec};

/// Version in every key of results; raise it when a seed gives other numbers.
pub const GENERATION: u32 = 1;

pub use crate::inputs::Inputs;

/// Blobs by their hash.
pub type Blobs = HashMap<String, Arc<Vec<u8>>>;

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
        let transform = pattern.and_then(|pattern| Transform::new(pattern, spec, seed, changed));
        changed += usize::from(transform.is_some());
        let draw = Draw { spec, seed, transform: transform.as_ref() };
        let data = match spec.source {
            Source::None | Source::Scale => continue,
            Source::Quantize { from, scale, ref scale_dims } => {
                let (values, scales) = quantize(specs, &inputs, index, from, scale, scale_dims)?;
                inputs[scale] = Some(Arc::new(scales.into()));
                values
            }
            Source::Derived(ref derived) => {
                let missing = || Failure::Inputs {
                    message: format!("`{}`: what it is derived from has no contents yet", spec.name),
                };
                let of = |&from: &usize| Some((specs.get(from)?, &inputs.get(from)?.as_ref()?[..]));
                let from: Option<Vec<_>> = derived.from.iter().map(of).collect();
                derive(spec, derived, &from.ok_or_else(missing)?)?
            }
            Source::File { ref hash, ref tensor } => from_file(spec, hash, tensor.as_deref(), blobs)?,
            Source::Offsets { last } => offsets(spec, last, seed)?,
            Source::Normal { mean, std } => draw.reals(|rng, _| {
                let deviation: f64 = StandardNormal.sample(rng);
                mean + std * deviation
            })?,
            Source::Uniform { low, high } => {
                // The range itself may be more than f64 holds.
                let at = |share: f64| match high - low {
                    range if range.is_finite() => low + range * share,
                    _ => low * (1.0 - share) + high * share,
                };
                draw.reals(|rng, _| at(rng.random::<f64>()).min(high.next_down()).max(low))?
            }
            Source::Integers { low, high } => {
                draw.integers(|rng, _| rng.random_range(low.min(high)..=high.max(low)).into())?
            }
            Source::Arange { start, step } if draw.is_exact() => {
                draw.integers(|_, index| start as i128 + step as i128 * index as i128)?
            }
            Source::Arange { start, step } => draw.reals(|_, index| start + step * index as f64)?,
            Source::Constant(constant) => draw.reals(|_, _| constant)?,
        };
        inputs[index] = Some(Arc::new(data.into()));
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

/// The contents of a tensor that has a file.
fn from_file(spec: &TensorSpec, hash: &str, tensor: Option<&str>, blobs: &Blobs) -> Result<Vec<u8>, Failure> {
    let refuse = |message: String| Failure::Inputs { message: format!("`{}`: {message}", spec.name) };
    let blob = blobs.get(hash).ok_or_else(|| refuse(format!("its file (blob {hash}) was not sent")))?;
    let data = match tensor {
        Some(tensor) => super::file::safetensors(blob, tensor, spec),
        None => super::file::npy(blob, spec),
    };
    data.map_err(refuse)
}

/// A tensor whose elements are drawn, each from the generator of its chunk and its index.
struct Draw<'a> {
    spec: &'a TensorSpec,
    seed: u64,
    transform: Option<&'a Transform>,
}

impl Draw<'_> {
    /// Whether elements are integers that an f64 does not hold, and no pattern changes them.
    fn is_exact(&self) -> bool {
        matches!(self.spec.dtype, DType::I64 | DType::U64) && self.transform.is_none()
    }

    /// Draws integers, as they are where the type has 64 bits.
    fn integers(&self, draw: impl Fn(&mut ChaCha8Rng, usize) -> i128 + Sync) -> Result<Vec<u8>, Failure> {
        if !self.is_exact() {
            return self.reals(|rng, index| draw(rng, index) as f64);
        }
        let dtype = self.spec.dtype;
        self.chunks(|rng, first, _, memory| {
            for (index, memory) in memory.chunks_exact_mut(dtype.size()).enumerate() {
                let value = draw(rng, first + index).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                memory.copy_from_slice(&codec::integer(dtype, value));
            }
        })
    }

    /// Draws numbers and converts them.
    fn reals(&self, draw: impl Fn(&mut ChaCha8Rng, usize) -> f64 + Sync) -> Result<Vec<u8>, Failure> {
        self.chunks(|rng, first, values, memory| {
            for (index, value) in values.iter_mut().enumerate() {
                *value = draw(rng, first + index);
            }
            if let Some(transform) = self.transform {
                transform.apply(first, values);
            }
            codec::encode_into(self.spec.dtype, values, memory);
        })
    }

    /// Fills the tensor on many threads. `fill` gets the generator of a chunk, the index of its first element, room for its numbers, and
    /// its memory.
    fn chunks(&self, fill: impl Fn(&mut ChaCha8Rng, usize, &mut [f64], &mut [u8]) + Sync) -> Result<Vec<u8>, Failure> {
        let mut memory = zeroed(self.spec)?;
        let width = self.spec.dtype.size();
        let generator = generator(self.seed, &self.spec.name);
        memory.par_chunks_mut(CHUNK * width).enumerate().for_each_init(
            || vec![0.0; CHUNK],
            |values, (chunk, memory)| {
                let mut rng = generator.clone();
                rng.set_stream(chunk as u64);
                fill(&mut rng, chunk * CHUNK, &mut values[..memory.len() / width], memory);
            },
        );
        Ok(memory)
    }
}

/// Starts of rows: 0 first and `last` at the end.
fn offsets(spec: &TensorSpec, last: u64, seed: u64) -> Result<Vec<u8>, Failure> {
    let last = i64::try_from(last).unwrap_or(i64::MAX);
    let mut memory = zeroed(spec)?;
    let mut rng = generator(seed, &spec.name);
    let mut offsets: Vec<i64> = (0..spec.elements()).map(|_| rng.random_range(0..=last)).collect();
    offsets.par_sort_unstable();
    if let [first, .., end] = &mut offsets[..] {
        (*first, *end) = (0, last);
    }
    for (value, memory) in offsets.iter().zip(memory.chunks_exact_mut(spec.dtype.size())) {
        memory.copy_from_slice(&codec::integer(spec.dtype, *value));
    }
    Ok(memory)
}

/// One `ChaCha8` key for each seed and name, so that tensors are independent of each other and of their order.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("kbench tensor 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exactness is what is tested
mod tests;

//! Tensors that are quantised from others, with their scales.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::{Inputs, zeroed};
use crate::data::codec::{self, CHUNK};
use crate::data::dtype::DType;
use crate::protocol::{Failure, Source, TensorSpec};

/// The largest finite value of a type that can be quantised to.
fn quantised_max(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F8e4m3 => Some(448.0),
        DType::F8e5m2 => Some(57344.0),
        DType::I8 => Some(127.0),
        _ => None,
    }
}

/// The scale of each element; consecutive elements share a scale in runs of equal length.
struct ScaleIndex {
    run: usize,
    /// For each dimension along which scales differ: stride in runs, size, stride in the scale tensor.
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

/// Quantises one tensor: its bytes and those of its scales.
pub(super) fn quantize(
    specs: &[TensorSpec],
    inputs: &Inputs,
    index: usize,
    from: usize,
    scale: usize,
    scale_dims: &[usize],
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let spec = &specs[index];
    let refuse = |message: String| Failure::Inputs { message: format!("`{}`: {message}", spec.name) };
    let (Some(from_spec), Some(scale_spec)) = (specs.get(from), specs.get(scale)) else {
        return Err(refuse("quantised from or scaled by a tensor that does not exist".into()));
    };
    let Some(source) = inputs[from].as_ref() else {
        return Err(refuse(format!("`{}`, which it is quantised from, has no contents yet", from_spec.name)));
    };
    let Some(max) = quantised_max(spec.dtype) else {
        return Err(refuse(format!("cannot quantise to {}, only to f8e4m3, f8e5m2 and i8", spec.dtype)));
    };
    if spec.dims != from_spec.dims {
        return Err(refuse(format!("its dimensions are not those of `{}`", from_spec.name)));
    }
    if scale_spec.source != Source::Scale || inputs[scale].is_some() {
        return Err(refuse(format!("`{}` cannot receive its scales", scale_spec.name)));
    }
    let at = ScaleIndex::new(from_spec, scale_spec, scale_dims).map_err(refuse)?;

    let mut values = zeroed(spec)?;
    let scale_bytes = zeroed(scale_spec)?.len();
    // Non-negative floats order as their bits do, and a maximum does not depend on the order it is taken in.
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
    // A scale that is zero, or would be once stored, must not divide anything.
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
    Ok((values, codec::encode(scale_spec.dtype, &scales)))
}

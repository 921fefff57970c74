//! Contents that are made of those of other tensors: stacked, viewed as other sizes, with other axes first, inside a border.

use rayon::prelude::*;

use crate::data::codec;
use crate::protocol::{Derived, Failure, TensorSpec};

use super::zeroed;

impl Derived {
    /// The sizes of the contents, where each of the tensors that they are made of has these.
    pub fn dims(&self, from: &[u64]) -> Result<Vec<u64>, String> {
        let inner = self.inner(from)?;
        if self.width.is_empty() {
            return Ok(inner);
        }
        if self.width.len() != inner.len() {
            return Err(format!("`border` has {} widths for {} axes", self.width.len(), inner.len()));
        }
        let widened = inner.iter().zip(&self.width).map(|(size, width)| size.checked_add(width.checked_mul(2)?));
        widened.collect::<Option<_>>().ok_or_else(|| "`border` is too wide".to_owned())
    }

    /// The sizes without the border.
    fn inner(&self, from: &[u64]) -> Result<Vec<u64>, String> {
        let view = self.viewed(from)?;
        if self.axes.is_empty() {
            return Ok(view);
        }
        let mut seen = self.axes.clone();
        seen.sort_unstable();
        if !seen.into_iter().eq(0..view.len()) {
            return Err(format!("`axes` does not name each of the axes 0 to {} once", view.len().saturating_sub(1)));
        }
        Ok(self.axes.iter().map(|&axis| view[axis]).collect())
    }

    /// The sizes before the axes change places.
    fn viewed(&self, from: &[u64]) -> Result<Vec<u64>, String> {
        let stack = Some(self.from.len() as u64).filter(|&tensors| tensors > 1);
        let own: Vec<u64> = stack.into_iter().chain(from.iter().copied()).collect();
        if self.view.is_empty() {
            return Ok(own);
        }
        let product = |sizes: &[u64]| sizes.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
        let (elements, viewed) = (product(&own), product(&self.view));
        if elements.is_none() || elements != viewed {
            let count = |product: Option<u64>| product.map_or_else(|| "too many".to_owned(), |count| count.to_string());
            return Err(format!("`view` has {} elements, `from` {}", count(viewed), count(elements)));
        }
        Ok(self.view.clone())
    }
}

/// The contents of a tensor, of tensors with their bytes.
pub(crate) fn derive(spec: &TensorSpec, derived: &Derived, from: &[(&TensorSpec, &[u8])]) -> Result<Vec<u8>, Failure> {
    let refuse = |message: String| Failure::Inputs { message: format!("`{}`: {message}", spec.name) };
    let Some((first, _)) = from.first() else { return Err(refuse("derived from no tensor".to_owned())) };
    if let Some((other, _)) = from.iter().find(|(other, _)| other.dims != first.dims) {
        return Err(refuse(format!("`{}` and `{}` have different sizes", first.name, other.name)));
    }
    let dims = derived.dims(&first.dims).map_err(refuse)?;
    if dims != spec.dims {
        return Err(refuse(format!("its sizes are {:?}, and its contents have {dims:?}", spec.dims)));
    }
    let mut data = zeroed(spec)?;
    let size = spec.dtype.size();
    let mut values = Vec::new();
    for (from, bytes) in from {
        values.extend(codec::convert(from.dtype, spec.dtype, bytes));
    }
    if !derived.width.is_empty() {
        let border = codec::encode(spec.dtype, &[derived.border]);
        data.par_chunks_mut(size).for_each(|element| element.copy_from_slice(&border));
    }
    let view = derived.viewed(&first.dims).map_err(refuse)?;
    let mut strides = vec![1; view.len()];
    for axis in (1..view.len()).rev() {
        strides[axis - 1] = strides[axis] * view[axis] as usize;
    }
    let axes: Vec<usize> = if derived.axes.is_empty() { (0..view.len()).collect() } else { derived.axes.clone() };
    let width = |axis: usize| derived.width.get(axis).map_or(0, |&width| width as usize);
    let Some(last) = axes.len().checked_sub(1) else {
        data.copy_from_slice(&values);
        return Ok(data);
    };
    // Row by row: a row lies inside the border where each of its outer indices does.
    let row = dims[last] as usize;
    data.par_chunks_mut((row * size).max(1)).enumerate().for_each(|(index, row)| {
        let (mut rest, mut at) = (index, 0);
        for axis in (0..last).rev() {
            let place = rest % dims[axis] as usize;
            rest /= dims[axis] as usize;
            let inner = view[axes[axis]] as usize;
            let Some(place) = place.checked_sub(width(axis)).filter(|&place| place < inner) else { return };
            at += place * strides[axes[axis]];
        }
        let step = strides[axes[last]];
        let inner = row.chunks_exact_mut(size).skip(width(last)).take(view[axes[last]] as usize);
        for (place, element) in inner.enumerate() {
            let from = (at + place * step) * size;
            element.copy_from_slice(&values[from..from + size]);
        }
    });
    Ok(data)
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exactness is what is tested
mod tests {
    use super::super::tensor::{Blobs, generate};
    use super::*;
    use crate::data::dtype::DType;
    use crate::protocol::{Role, Source};

    fn spec(name: &str, dtype: DType, dims: &[u64], source: Source) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, dims: dims.to_vec(), role: Role::In, source }
    }

    fn arange(name: &str, dims: &[u64], start: f64) -> TensorSpec {
        spec(name, DType::F32, dims, Source::Arange { start, step: 1.0 })
    }

    fn derived(view: &[u64], axes: &[usize], width: &[u64]) -> Derived {
        let (view, axes, width) = (view.to_vec(), axes.to_vec(), width.to_vec());
        Derived { from: vec![0], view, axes, width, border: -1.0, drawn: false }
    }

    fn values(specs: &[TensorSpec]) -> Result<Vec<f64>, String> {
        let inputs = generate(specs, 1, &Blobs::new()).map_err(|failure| failure.to_string())?;
        let last = specs.len() - 1;
        Ok(codec::decode(specs[last].dtype, inputs[last].as_ref().unwrap()))
    }

    /// Of 0, 1, 2, … in these sizes, in f16.
    fn made(from: &[u64], dims: &[u64], derived: Derived) -> Result<Vec<f64>, String> {
        values(&[arange("x", from, 0.0), spec("t", DType::F16, dims, Source::Derived(derived))])
    }

    #[test]
    fn axes_change_places() {
        assert_eq!(made(&[2, 3], &[3, 2], derived(&[], &[1, 0], &[])).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let cube = made(&[2, 2, 3], &[3, 2, 2], derived(&[], &[2, 0, 1], &[])).unwrap();
        assert_eq!(cube, [0.0, 3.0, 6.0, 9.0, 1.0, 4.0, 7.0, 10.0, 2.0, 5.0, 8.0, 11.0]);
        assert_eq!(made(&[], &[], derived(&[], &[], &[])).unwrap(), [0.0]);
        assert_eq!(made(&[0, 3], &[3, 0], derived(&[], &[1, 0], &[])).unwrap(), [0.0; 0]);
    }

    #[test]
    fn a_view_makes_blocks() {
        // Pairs of rows interleaved, as instructions that multiply pairs want it.
        let pairs = made(&[4, 2], &[2, 2, 2], derived(&[2, 2, 2], &[0, 2, 1], &[])).unwrap();
        assert_eq!(pairs, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn several_tensors_are_stacked_and_interleaved() {
        let of = |dims: &[u64], axes: &[usize]| {
            let both = Derived { from: vec![0, 1], ..derived(&[], axes, &[]) };
            let last = spec("z", DType::F32, dims, Source::Derived(both));
            values(&[arange("re", &[3], 0.0), arange("im", &[3], 10.0), last]).unwrap()
        };
        assert_eq!(of(&[2, 3], &[]), [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
        assert_eq!(of(&[3, 2], &[1, 0]), [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
    }

    #[test]
    fn a_border_surrounds_the_contents() {
        let bordered = made(&[2, 2], &[4, 3], derived(&[], &[], &[1, 0]));
        assert!(bordered.unwrap_err().contains("its sizes are [4, 3], and its contents have [4, 2]"));
        let rows = made(&[2, 2], &[4, 2], derived(&[], &[], &[1, 0])).unwrap();
        assert_eq!(rows, [-1.0, -1.0, 0.0, 1.0, 2.0, 3.0, -1.0, -1.0]);
        let both = made(&[1, 2], &[4, 3], derived(&[], &[1, 0], &[1, 1])).unwrap();
        assert_eq!(both, [-1.0, -1.0, -1.0, -1.0, 0.0, -1.0, -1.0, 1.0, -1.0, -1.0, -1.0, -1.0]);
    }

    #[test]
    fn derivations_that_do_not_fit_are_errors() {
        let refused = |from: &[u64], dims: &[u64], derived| made(from, dims, derived).unwrap_err();
        assert!(refused(&[2, 3], &[2, 3], derived(&[], &[1, 0], &[])).contains("its contents have [3, 2]"));
        assert!(refused(&[2, 3], &[5], derived(&[5], &[], &[])).contains("`view` has 5 elements, `from` 6"));
        assert!(refused(&[2, 3], &[2, 3], derived(&[], &[0, 0], &[])).contains("each of the axes 0 to 1 once"));
        assert!(refused(&[2, 3], &[2, 3], derived(&[], &[], &[1])).contains("1 widths for 2 axes"));
        // A tensor after the one that is made of it has no contents yet.
        let early = [spec("t", DType::F16, &[2], Source::Derived(derived(&[], &[], &[]))), arange("x", &[2], 0.0)];
        let early = [early[0].clone(), early[1].clone()];
        assert!(generate(&early, 1, &Blobs::new()).is_err());
    }
}

//! Sets of inputs that samples alternate between, at the same addresses, and inputs that are new in every element.

use std::rc::Rc;
use std::sync::Arc;

use super::{KernelMemory, copy_all, copy_of};
use crate::device::{Device, GUARD, Write};
use crate::inputs::tensor::Inputs;
use crate::memory::pool::{Contents, Pool, PooledBuffer};
use crate::protocol::{Failure, Role, Source, TensorSpec};

/// The inputs of one seed.
pub(super) struct InputCopies<B> {
    inputs: Arc<Inputs>,
    /// Copies on the device of the tensors whose contents change from launch to launch, by tensor index.
    copies: Vec<(usize, Rc<PooledBuffer<B>>)>,
}

impl<B> InputCopies<B> {
    fn of(&self, tensor: usize) -> Option<&Rc<PooledBuffer<B>>> {
        self.copies.iter().find(|(of, _)| *of == tensor).map(|(_, copy)| copy)
    }
}

impl<D: Device> KernelMemory<D> {
    /// Keeps several sets of inputs on the device; the memory holds the first set now. On an error only the first set is available.
    pub fn add_sets(
        &mut self,
        device: &mut D,
        pool: &mut Pool<D::Buffer>,
        sets: &[Arc<Inputs>],
    ) -> Result<(), Failure> {
        self.set_only(&sets[0]);
        let differs = |index: usize| sets.iter().any(|other| other[index] != sets[0][index]);
        let mut all = Vec::new();
        for inputs in sets {
            let mut copies = Vec::new();
            for (index, spec) in self.tensors().filter(|(_, spec)| spec.role == Role::In) {
                if differs(index) || rotation(spec, index, 0).is_some() {
                    copies.push((index, copy_of(device, pool, spec, &Contents::new(inputs, index))?));
                }
            }
            all.push(InputCopies { inputs: Arc::clone(inputs), copies });
        }
        self.sets = all;
        Ok(())
    }

    /// Uses one set of inputs only, without copies on the device.
    pub fn set_only(&mut self, inputs: &Arc<Inputs>) {
        self.sets = vec![InputCopies { inputs: Arc::clone(inputs), copies: Vec::new() }];
    }

    /// Fills the tensors that the kernel reads with one of the sets of inputs.
    pub fn select_set(&mut self, device: &mut D, set: usize) -> Result<(), Failure> {
        for index in 0..self.tensors.len() {
            self.select_tensor(device, set, index)?;
        }
        self.select_symbols(device, set)
    }

    /// Fills one tensor with its contents in a set, if the kernel reads it.
    fn select_tensor(&self, device: &mut D, set: usize, index: usize) -> Result<(), Failure> {
        let spec = &self.tensors[index];
        let pooled = self.buffers[index].as_ref().filter(|_| spec.role == Role::In);
        let Some((of_set, pooled)) = self.sets.get(set).zip(pooled) else { return Ok(()) };
        let contents = Contents::new(&of_set.inputs, index);
        // Another case, which shares the buffer, may have filled it.
        if pooled.holds(&contents) {
            return Ok(());
        }
        match (of_set.of(index), contents.bytes()) {
            (Some(copy), _) => device.write(&[copy_all(spec, copy, pooled)])?,
            (None, Some(data)) => device.upload(&pooled.buffer, GUARD, data)?,
            (None, None) => return Ok(()),
        }
        pooled.set_contents(contents);
        Ok(())
    }

    /// Fills the kernel's symbols with their contents in a set.
    fn select_symbols(&mut self, device: &mut D, set: usize) -> Result<(), Failure> {
        if let Some(of_set) = self.sets.get(set).filter(|_| self.symbols_of != Some(set)) {
            let inputs = Arc::clone(&of_set.inputs);
            self.set_symbols(device, &inputs)?;
            self.symbols_of = Some(set);
        }
        Ok(())
    }

    /// Fills the tensors that the kernel reads with inputs that are new in every element: the inputs that the memory was
    /// [prepared](KernelMemory::prepare) for, each tensor rotated by a number of elements that depends on `number`, and floating-point numbers
    /// varied. Only tensors that are drawn element by element are changed: other contents may have a meaning as a whole.
    /// [`KernelMemory::select_set`] undoes it.
    pub fn rotate_inputs(&mut self, device: &mut D, inputs: &Arc<Inputs>, number: u64) -> Result<(), Failure> {
        for (index, spec) in self.tensors.iter().enumerate() {
            let Some(rotated) = rotation(spec, index, number) else {
                // Tensors that cannot be rotated have their contents in the first set.
                self.select_tensor(device, 0, index)?;
                continue;
            };
            let Some(pooled) = &self.buffers[index] else { continue };
            let contents = Contents::new(inputs, index).changed(number);
            // Another case may have rotated it. Tensors that are read and written get their contents by `rotated_writes`.
            if spec.role != Role::In || pooled.holds(&contents) {
                continue;
            }
            if let Some(copy) = self.sets.first().and_then(|set| set.of(index)) {
                device.write(&rotated_copy(spec, &copy.buffer, &pooled.buffer, rotated))?;
            } else if let Some(data) = &inputs[index] {
                device.upload(&pooled.buffer, GUARD, &data[rotated..])?;
                device.upload(&pooled.buffer, GUARD + data.len() - rotated, &data[..rotated])?;
            } else {
                continue;
            }
            device.write(variation(spec, &pooled.buffer, number).as_slice())?;
            pooled.set_contents(contents);
        }
        self.select_symbols(device, 0)?;
        for (symbol, tensor) in &self.symbols {
            let Some(rotated) = rotation(&self.tensors[*tensor], *tensor, number) else { continue };
            let Some(data) = &inputs[*tensor] else { continue };
            let mut data = data.to_vec();
            data.rotate_left(rotated);
            device.set_symbol(&self.kernel, symbol, &data)?;
            self.symbols_of = None;
        }
        Ok(())
    }

    /// Whether any tensor that the kernel reads can be rotated.
    pub fn can_rotate(&self) -> bool {
        let symbols = self.symbols.iter().map(|(_, tensor)| *tensor);
        let mut read = self.tensors().map(|(index, _)| index).chain(symbols);
        read.any(|index| rotation(&self.tensors[index], index, 0).is_some())
    }

    /// The [restoring writes](KernelMemory::restore_writes) of the first set, for [rotated](KernelMemory::rotate_inputs) inputs.
    pub fn rotated_writes(&self, writes: &[Write<D::Buffer>], number: u64) -> Vec<Write<D::Buffer>> {
        let written = self.buffers().filter(|(_, spec, _)| spec.role != Role::In);
        let each =
            written.zip(writes).flat_map(|((index, spec, to), write)| match (write, rotation(spec, index, number)) {
                (Write::Copy { from, .. }, Some(rotated)) => {
                    rotated_copy(spec, from, to, rotated).into_iter().chain(variation(spec, to, number)).collect()
                }
                _ => vec![write.clone()],
            });
        each.collect()
    }
}

/// The number of bytes that a tensor is rotated by for the inputs of that number: a multiple of the element size above 0 and below the
/// size of the tensor. `None` if its contents are not drawn element by element, or if it has one element.
fn rotation(spec: &TensorSpec, index: usize, number: u64) -> Option<usize> {
    let drawn = match &spec.source {
        Source::Normal { .. }
        | Source::Uniform { .. }
        | Source::Integers { .. }
        | Source::Quantize { .. }
        | Source::Scale => true,
        Source::Derived(derived) => derived.drawn,
        Source::Arange { .. } | Source::Constant(_) | Source::Offsets { .. } | Source::File { .. } | Source::None => {
            false
        }
    };
    let places = spec.elements().checked_sub(1).filter(|&places| drawn && places > 0)?;
    // Consecutive numbers rotate by one more element, so that no rotation comes twice before every other one has come.
    let place = number.wrapping_add(index as u64 * 0x9e37_79b9) % places as u64;
    Some((1 + place as usize) * spec.dtype.size())
}

/// The write that varies a tensor whose numbers are drawn from a range of floating-point numbers.
fn variation<B: Clone>(spec: &TensorSpec, buffer: &B, number: u64) -> Option<Write<B>> {
    let varies = matches!(spec.source, Source::Normal { .. } | Source::Uniform { .. });
    let (offset, bytes, dtype) = (GUARD, spec.bytes(), spec.dtype);
    varies.then(|| Write::Vary { buffer: buffer.clone(), offset, bytes, dtype, number })
}

/// The two writes that copy a tensor rotated.
fn rotated_copy<B: Clone>(spec: &TensorSpec, from: &B, to: &B, rotated: usize) -> [Write<B>; 2] {
    let part =
        |from_offset, offset, bytes| Write::Copy { from: from.clone(), from_offset, to: to.clone(), offset, bytes };
    let rest = spec.bytes() - rotated;
    [part(GUARD + rotated, GUARD, rest), part(GUARD, GUARD + rest, rotated)]
}

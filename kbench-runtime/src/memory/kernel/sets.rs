//! Inputs of several seeds that take turns at the same addresses.

use std::rc::Rc;
use std::sync::Arc;

use super::{Rig, copy_of};
use crate::device::{Device, GUARD, Write};
use crate::inputs::tensor::Inputs;
use crate::memory::pool::{Contents, Pool, Slot};
use crate::protocol::{Failure, Role, Source, TensorSpec};

/// The inputs of one seed.
pub(super) struct InputCopies<B> {
    inputs: Arc<Inputs>,
    /// Those that change from launch to launch: where they are kept.
    copies: Vec<(usize, Rc<Slot<B>>)>,
}

impl<B> InputCopies<B> {
    fn of(&self, tensor: usize) -> Option<&Rc<Slot<B>>> {
        self.copies.iter().find(|(of, _)| *of == tensor).map(|(_, copy)| copy)
    }
}

impl<D: Device> Rig<D> {
    /// Keeps the inputs of several seeds ready on the device, the first of which the kernel has now. Where that fails there is still
    /// the first.
    pub fn alternate(
        &mut self,
        device: &mut D,
        pool: &mut Pool<D::Buffer>,
        sets: &[Arc<Inputs>],
    ) -> Result<(), Failure> {
        self.keep_one(&sets[0]);
        let differs = |index: usize| sets.iter().any(|other| other[index] != sets[0][index]);
        let mut alternated = Vec::new();
        for inputs in sets {
            let mut copies = Vec::new();
            for (index, spec) in self.tensors_by_index().filter(|(_, spec)| spec.role == Role::In) {
                if differs(index) || turn(spec, index, 0).is_some() {
                    copies.push((index, copy_of(device, pool, spec, &Contents::new(inputs, index))?));
                }
            }
            alternated.push(InputCopies { inputs: Arc::clone(inputs), copies });
        }
        self.sets = alternated;
        Ok(())
    }

    /// Keeps the inputs of one seed, without copies on the device.
    pub fn keep_one(&mut self, inputs: &Arc<Inputs>) {
        self.sets = vec![InputCopies { inputs: Arc::clone(inputs), copies: Vec::new() }];
    }

    /// Gives the kernel the inputs of one of the sets, at the same addresses.
    pub fn switch(&mut self, device: &mut D, set: usize) -> Result<(), Failure> {
        for index in 0..self.tensors.len() {
            self.give_of(device, set, index)?;
        }
        self.give_symbols_of(device, set)
    }

    /// Gives the kernel one tensor of a set, if it reads it.
    fn give_of(&self, device: &mut D, set: usize, index: usize) -> Result<(), Failure> {
        let spec = &self.tensors[index];
        let slot = self.slots[index].as_ref().filter(|_| spec.role == Role::In);
        let Some((of_set, slot)) = self.sets.get(set).zip(slot) else { return Ok(()) };
        let contents = Contents::new(&of_set.inputs, index);
        // Another case may have given it already.
        if slot.holds(&contents) {
            return Ok(());
        }
        match (of_set.of(index), contents.bytes()) {
            (Some(copy), _) => device.write(&[whole(spec, copy, slot)])?,
            (None, Some(data)) => device.upload(&slot.buffer, GUARD, data)?,
            (None, None) => return Ok(()),
        }
        slot.now_holds(contents);
        Ok(())
    }

    /// Gives the kernel's symbols the contents of a set.
    fn give_symbols_of(&mut self, device: &mut D, set: usize) -> Result<(), Failure> {
        if let Some(of_set) = self.sets.get(set).filter(|_| self.symbols_of != set) {
            let inputs = Arc::clone(&of_set.inputs);
            self.set_symbols(device, &inputs)?;
            self.symbols_of = set;
        }
        Ok(())
    }

    /// Gives the kernel inputs that are new in every element: those of the set that the rig [began](Rig::begin) with, each tensor
    /// turned by a number of elements that depends on `number`. Only what is drawn element by element is turned; other contents may
    /// make sense only as a whole. [`Rig::switch`] undoes it.
    pub fn renew(&mut self, device: &mut D, inputs: &Arc<Inputs>, number: u64) -> Result<(), Failure> {
        for (index, spec) in self.tensors.iter().enumerate() {
            let Some(turned) = turn(spec, index, number) else {
                // What cannot be turned is the first set's too.
                self.give_of(device, 0, index)?;
                continue;
            };
            let Some(slot) = &self.slots[index] else { continue };
            let contents = Contents::new(inputs, index).turned(turned);
            // Another case may have turned it already. What is read and written gets its contents by `turned`.
            if spec.role != Role::In || slot.holds(&contents) {
                continue;
            }
            if let Some(copy) = self.sets.first().and_then(|set| set.of(index)) {
                device.write(&parts(spec, &copy.buffer, &slot.buffer, turned))?;
            } else if let Some(data) = &inputs[index] {
                device.upload(&slot.buffer, GUARD, &data[turned..])?;
                device.upload(&slot.buffer, GUARD + data.len() - turned, &data[..turned])?;
            } else {
                continue;
            }
            slot.now_holds(contents);
        }
        self.give_symbols_of(device, 0)?;
        for (symbol, tensor) in &self.symbols {
            let Some(turned) = turn(&self.tensors[*tensor], *tensor, number) else { continue };
            let Some(data) = &inputs[*tensor] else { continue };
            let mut data = data.to_vec();
            data.rotate_left(turned);
            device.set_symbol(&self.kernel, symbol, &data)?;
            self.symbols_of = usize::MAX;
        }
        Ok(())
    }

    /// Whether there is anything to make new inputs of.
    pub fn can_renew(&self) -> bool {
        let symbols = self.symbols.iter().map(|(_, tensor)| *tensor);
        let mut read = self.tensors_by_index().map(|(index, _)| index).chain(symbols);
        read.any(|index| turn(&self.tensors[index], index, 0).is_some())
    }

    /// What [`Rig::writes`] gave for the first set, for inputs that are [renewed](Rig::renew).
    pub fn renewed_writes(&self, writes: &[Write<D::Buffer>], number: u64) -> Vec<Write<D::Buffer>> {
        let written = self.slots().filter(|(_, spec, _)| spec.role != Role::In);
        let each =
            written.zip(writes).flat_map(|((index, spec, to), write)| match (write, turn(spec, index, number)) {
                (Write::Copy { from, .. }, Some(turned)) => parts(spec, from, to, turned).to_vec(),
                _ => vec![write.clone()],
            });
        each.collect()
    }
}

/// By how many bytes a tensor is turned for inputs of that number: by any number of its elements but none and all. None where its
/// contents are not drawn element by element, or it is a single one.
fn turn(spec: &TensorSpec, index: usize, number: u64) -> Option<usize> {
    let drawn = match spec.source {
        Source::Normal { .. }
        | Source::Uniform { .. }
        | Source::Integers { .. }
        | Source::Quantize { .. }
        | Source::Scale => true,
        Source::Arange { .. } | Source::Constant(_) | Source::File { .. } | Source::None => false,
    };
    let places = spec.elements().checked_sub(1).filter(|&places| drawn && places > 0)?;
    // Numbers that follow each other turn by one more element, so that none comes twice before all have come.
    let place = number.wrapping_add(index as u64 * 0x9e37_79b9) % places as u64;
    Some((1 + place as usize) * spec.dtype.size())
}

/// The two copies that turn a tensor.
fn parts<B: Clone>(spec: &TensorSpec, from: &B, to: &B, turned: usize) -> [Write<B>; 2] {
    let part =
        |from_offset, offset, bytes| Write::Copy { from: from.clone(), from_offset, to: to.clone(), offset, bytes };
    let rest = spec.bytes() - turned;
    [part(GUARD + turned, GUARD, rest), part(GUARD, GUARD + rest, turned)]
}

pub(super) fn whole<B: Clone>(spec: &TensorSpec, from: &Slot<B>, to: &Slot<B>) -> Write<B> {
    let (from, to, bytes) = (from.buffer.clone(), to.buffer.clone(), spec.bytes());
    Write::Copy { from, from_offset: GUARD, to, offset: GUARD, bytes }
}

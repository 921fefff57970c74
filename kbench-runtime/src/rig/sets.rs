//! Inputs of several seeds that take turns at the same addresses.

use std::rc::Rc;
use std::sync::Arc;

use super::{GUARD, Rig, copy_of};
use crate::device::{Device, Write};
use crate::pool::{Contents, Pool, Slot};
use crate::protocol::{Failure, Role, Source, TensorSpec};
use crate::tensor::Inputs;

/// The inputs of one seed.
pub(super) struct InputCopies<B> {
    inputs: Arc<Inputs>,
    /// Those that are not the same in all sets: where they are kept.
    copies: Vec<(usize, Rc<Slot<B>>)>,
}

impl<D: Device> Rig<D> {
    /// Keeps the inputs of several seeds ready on the device, the first of which the kernel has now.
    pub fn alternate(
        &mut self,
        device: &mut D,
        pool: &mut Pool<D::Buffer>,
        sets: &[Arc<Inputs>],
    ) -> Result<(), Failure> {
        let [first, others @ ..] = sets else { return Ok(()) };
        let differs = |index: usize| others.iter().any(|other| other[index] != first[index]);
        let mut alternated = Vec::new();
        for inputs in sets.iter().filter(|_| !others.is_empty()) {
            let mut copies = Vec::new();
            for (index, spec) in self.tensors_by_index().filter(|(_, spec)| spec.role == Role::In) {
                if differs(index) {
                    copies.push((index, copy_of(device, pool, spec, &Contents::new(inputs, index))?));
                }
            }
            alternated.push(InputCopies { inputs: Arc::clone(inputs), copies });
        }
        self.sets = alternated;
        Ok(())
    }

    /// Gives the kernel the inputs of one of the sets, at the same addresses.
    pub fn switch(&mut self, device: &mut D, set: usize) -> Result<(), Failure> {
        let Some(InputCopies { inputs, copies }) = self.sets.get(set) else { return Ok(()) };
        for (index, copy) in copies {
            let slot = self.slots[*index].as_ref().expect("only what has memory is copied");
            let contents = Contents::new(inputs, *index);
            // Another case may have switched it already.
            if !slot.holds(&contents) {
                device.write(&[whole(&self.tensors[*index], copy, slot)])?;
                slot.now_holds(contents);
            }
        }
        if self.symbols_of != set {
            self.set_symbols(device, inputs)?;
            self.symbols_of = set;
        }
        Ok(())
    }

    /// Gives the kernel inputs that it never saw: those of one set with a part of each tensor from another, up to a place that is
    /// another for each `number` as long as there are so many elements. Tensors whose contents are drawn at random, element by
    /// element, are mixed; others may make sense only as a whole. [`Rig::switch`] undoes it.
    pub fn mix(&mut self, device: &mut D, set: usize, number: usize) -> Result<(), Failure> {
        self.switch(device, set)?;
        let Some(other) = self.sets.get(1 - set) else { return Ok(()) };
        for (index, copy) in &other.copies {
            let spec = &self.tensors[*index];
            let drawn = matches!(spec.source, Source::Normal { .. } | Source::Uniform { .. });
            let Some(places) = spec.elements().checked_sub(1).filter(|&places| drawn && places > 0) else { continue };
            let slot = self.slots[*index].as_ref().expect("only what has memory is copied");
            let bytes = (1 + number % places) * spec.dtype.size();
            let (from, to) = (copy.buffer.clone(), slot.buffer.clone());
            device.write(&[Write::Copy { from, to, offset: GUARD, bytes }])?;
            slot.holds_unknown();
        }
        Ok(())
    }
}

pub(super) fn whole<B: Clone>(spec: &TensorSpec, from: &Slot<B>, to: &Slot<B>) -> Write<B> {
    Write::Copy { from: from.buffer.clone(), to: to.buffer.clone(), offset: GUARD, bytes: spec.bytes() }
}

//! Device memory kept between rigs.
//!
//! Cases that are measured together use the same buffers where their tensors are the same, so that no case is faster for where
//! its memory happens to lie. Between jobs, idle buffers wait for the next one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::device::{Device, GUARD};
use crate::inputs::tensor::Inputs;
use crate::protocol::{Failure, Role, TensorSpec};

/// Bytes of idle buffers that are kept.
const IDLE: usize = 2 << 30;

/// A tensor's contents: all inputs of a case, which of them, and by how many bytes they are turned.
#[derive(Debug, Clone)]
pub struct Contents {
    inputs: Arc<Inputs>,
    index: usize,
    turned: usize,
}

impl Contents {
    /// The contents of the `index`-th tensor.
    pub fn new(inputs: &Arc<Inputs>, index: usize) -> Self {
        Self { inputs: Arc::clone(inputs), index, turned: 0 }
    }

    /// The same with the bytes from `turned` on first, and those before it after them.
    pub fn turned(self, turned: usize) -> Self {
        Self { turned, ..self }
    }

    /// The bytes as they are before they are turned, where the tensor has any.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.inputs[self.index].as_ref().map(|data| &data[..])
    }

    fn same(&self, other: &Self) -> bool {
        let equal = match (&self.inputs[self.index], &other.inputs[other.index]) {
            (Some(data), Some(others)) => Arc::ptr_eq(data, others) || data == others,
            (data, others) => data.is_none() && others.is_none(),
        };
        self.turned == other.turned && equal
    }
}

/// A tensor's memory with its guard bands.
#[derive(Debug)]
pub struct Slot<B> {
    /// The memory.
    pub buffer: B,
    name: String,
    bytes: usize,
    role: Role,
    holds: RefCell<Option<Contents>>,
}

impl<B> Slot<B> {
    /// Whether these contents lie between the guard bands. True only of what is read and was seen to be unchanged.
    pub fn holds(&self, contents: &Contents) -> bool {
        self.holds.borrow().as_ref().is_some_and(|held| held.same(contents))
    }

    /// Says that it is not known what lies there.
    pub fn holds_unknown(&self) {
        *self.holds.borrow_mut() = None;
    }

    /// Says what lies there now.
    pub fn now_holds(&self, contents: Contents) {
        *self.holds.borrow_mut() = Some(contents);
    }
}

/// The buffers of a session.
#[derive(Debug)]
pub struct Pool<B> {
    /// The least recently used one first.
    slots: VecDeque<Rc<Slot<B>>>,
    limit: usize,
    /// Bytes of each guard band: [`GUARD`], or none.
    guard: usize,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), limit: IDLE, guard: GUARD }
    }
}

impl<B> Pool<B> {
    /// A pool of buffers without guard bands, so that a sanitizer sees where each tensor ends.
    pub fn bare() -> Self {
        Self { guard: 0, ..Self::default() }
    }

    /// Keeps so many bytes of idle buffers, if that is more.
    pub fn keep_at_least(&mut self, bytes: usize) {
        self.limit = self.limit.max(bytes);
    }

    /// Bytes of each guard band around the buffers.
    pub fn guard(&self) -> usize {
        self.guard
    }

    /// Memory for a tensor. A buffer that another rig uses is shared, unless it is only read and must hold other contents.
    pub fn take<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        spec: &TensorSpec,
        contents: &Contents,
    ) -> Result<Rc<Slot<B>>, Failure> {
        self.find(device, spec, contents, true)
    }

    /// Memory for contents that are wanted again: it does not go to others while there is room.
    pub fn keep<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        spec: &TensorSpec,
        contents: &Contents,
    ) -> Result<Rc<Slot<B>>, Failure> {
        let idle: usize = self.slots.iter().filter(|slot| is_idle(slot)).map(|slot| self.size(slot)).sum();
        self.find(device, spec, contents, idle + spec.bytes() > self.limit)
    }

    fn size(&self, slot: &Slot<B>) -> usize {
        slot.bytes + 2 * self.guard
    }

    fn find<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        spec: &TensorSpec,
        contents: &Contents,
        take_over: bool,
    ) -> Result<Rc<Slot<B>>, Failure> {
        let bytes = spec.bytes();
        let fits = |slot: &Rc<Slot<B>>| slot.name == spec.name && slot.bytes == bytes && slot.role == spec.role;
        let holds = |slot: &Rc<Slot<B>>| spec.role != Role::In || slot.holds(contents);
        let at = self.slots.iter().position(|slot| fits(slot) && holds(slot));
        let at = at.or_else(|| self.slots.iter().position(|slot| take_over && fits(slot) && is_idle(slot)));
        let known = at.and_then(|at| self.slots.remove(at));
        let slot = if let Some(slot) = known {
            slot
        } else {
            self.drop_idle(self.limit.saturating_sub(bytes));
            let size = bytes.saturating_add(2 * self.guard);
            let buffer = device.alloc(size).or_else(|_| {
                self.drop_idle(0);
                device.alloc(size)
            })?;
            let (name, role) = (spec.name.clone(), spec.role);
            Rc::new(Slot { buffer, name, bytes, role, holds: RefCell::default() })
        };
        self.slots.push_back(Rc::clone(&slot));
        Ok(slot)
    }

    /// Drops every buffer that no rig uses.
    pub fn clear(&mut self) {
        self.drop_idle(0);
    }

    /// Drops idle buffers, the least recently used ones first, until at most `keep` bytes of them are left.
    fn drop_idle(&mut self, keep: usize) {
        let mut idle: usize = self.slots.iter().filter(|slot| is_idle(slot)).map(|slot| self.size(slot)).sum();
        self.slots.retain(|slot| {
            let drop = is_idle(slot) && idle > keep;
            if drop {
                idle -= slot.bytes + 2 * self.guard;
            }
            !drop
        });
    }
}

fn is_idle<B>(slot: &Rc<Slot<B>>) -> bool {
    Rc::strong_count(slot) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dtype::DType;
    use crate::device::fake::{Buffer, FakeDevice};
    use crate::protocol::Source;

    fn spec(name: &str, elements: u64, role: Role) -> TensorSpec {
        TensorSpec { name: name.into(), dtype: DType::U8, dims: vec![elements], role, source: Source::None }
    }

    #[test]
    fn equal_tensors_share_a_buffer_unless_they_must_hold_different_contents() {
        let mut device = FakeDevice::open(0);
        let mut pool = Pool::<Buffer>::default();
        let contents = |byte: u8| Contents::new(&Arc::new(vec![Some(Arc::new(vec![byte; 8].into()))]), 0);
        let out = spec("o", 8, Role::Out);
        let first = pool.take(&mut device, &out, &contents(0)).unwrap();
        let second = pool.take(&mut device, &out, &contents(1)).unwrap();
        assert!(Rc::ptr_eq(&first, &second));
        for other in [spec("p", 8, Role::Out), spec("o", 9, Role::Out), spec("o", 8, Role::In)] {
            assert!(!Rc::ptr_eq(&first, &pool.take(&mut device, &other, &contents(0)).unwrap()));
        }

        let x = spec("x", 8, Role::In);
        let first = pool.take(&mut device, &x, &contents(1)).unwrap();
        first.now_holds(contents(1));
        assert!(Rc::ptr_eq(&first, &pool.take(&mut device, &x, &contents(1)).unwrap()), "other inputs, same bytes");
        let second = pool.take(&mut device, &x, &contents(2)).unwrap();
        assert!(!Rc::ptr_eq(&first, &second));
        let address = Rc::as_ptr(&first);
        drop((first, second));
        let again = pool.take(&mut device, &x, &contents(3)).unwrap();
        assert!(std::ptr::eq(Rc::as_ptr(&again), address), "nobody needs the old contents");
        assert!(!again.holds(&contents(3)));
    }

    #[test]
    fn idle_buffers_are_bounded_and_give_way() {
        let mut device = FakeDevice::open(0);
        let mut pool = Pool::<Buffer> { limit: 4 * (2 * GUARD + 100), ..Pool::default() };
        let contents = Contents::new(&Arc::new(vec![None]), 0);
        for index in 0..20 {
            pool.take(&mut device, &spec(&format!("t{index}"), 100, Role::Out), &contents).unwrap();
            assert!(pool.slots.len() <= 5);
        }
        let kept = pool.take(&mut device, &spec("kept", 100, Role::Out), &contents).unwrap();
        let refused = pool.take(&mut device, &spec("huge", 1 << 40, Role::Out), &contents);
        assert!(matches!(refused, Err(Failure::OutOfMemory { .. })));
        assert_eq!(pool.slots.len(), 1);
        drop(kept);
        pool.clear();
        assert!(pool.slots.is_empty());
    }
}

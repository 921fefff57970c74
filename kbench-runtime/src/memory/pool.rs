//! The pool of device buffers that kernels share.
//!
//! Cases that are measured together use the same buffers for the same tensors, so that no case is faster because of where its memory lies.
//! Idle buffers are kept from one job to the next.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::device::{Device, GUARD};
use crate::inputs::tensor::Inputs;
use crate::protocol::{Failure, Role, TensorSpec};

/// Size in bytes of all idle buffers that a pool keeps.
const IDLE: usize = 2 << 30;

/// The contents of a tensor: the inputs that it belongs to, its index, and the number of the new inputs that were made of them.
#[derive(Debug, Clone)]
pub struct Contents {
    inputs: Arc<Inputs>,
    index: usize,
    new: Option<u64>,
}

impl Contents {
    /// The contents of the `index`-th tensor.
    pub fn new(inputs: &Arc<Inputs>, index: usize) -> Self {
        Self { inputs: Arc::clone(inputs), index, new: None }
    }

    /// These contents as changed for the new inputs of a number.
    pub fn changed(self, number: u64) -> Self {
        Self { new: Some(number), ..self }
    }

    /// The bytes before the change, if the tensor has contents.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.inputs[self.index].as_ref().map(|data| &data[..])
    }

    fn same(&self, other: &Self) -> bool {
        let equal = match (&self.inputs[self.index], &other.inputs[other.index]) {
            (Some(data), Some(others)) => Arc::ptr_eq(data, others) || data == others,
            (data, others) => data.is_none() && others.is_none(),
        };
        self.new == other.new && equal
    }
}

/// Use of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BufferUse {
    /// A tensor that kernels use with this role.
    Tensor(Role),
    /// A copy of a tensor's contents, which no kernel uses.
    Copy,
}

/// The memory of a tensor with its guard bands.
#[derive(Debug)]
pub struct PooledBuffer<B> {
    /// The memory.
    pub buffer: B,
    /// Name of the tensor.
    name: String,
    /// Size of the tensor in bytes.
    bytes: usize,
    used_as: BufferUse,
    contents: RefCell<Option<Contents>>,
}

impl<B> PooledBuffer<B> {
    /// Whether the tensor is known to have these contents. Known only of tensors that are read, as long as they are unchanged.
    pub fn holds(&self, contents: &Contents) -> bool {
        self.contents.borrow().as_ref().is_some_and(|held| held.same(contents))
    }

    /// Notes that the contents are unknown.
    pub fn forget_contents(&self) {
        *self.contents.borrow_mut() = None;
    }

    /// Notes the contents.
    pub fn set_contents(&self, contents: Contents) {
        *self.contents.borrow_mut() = Some(contents);
    }
}

/// The buffers of a session.
#[derive(Debug)]
pub struct Pool<B> {
    /// The least recently used buffer first.
    buffers: VecDeque<Rc<PooledBuffer<B>>>,
    /// Size in bytes of the idle buffers that are kept.
    limit: usize,
    /// Size in bytes of each guard band: [`GUARD`] or 0.
    guard: usize,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { buffers: VecDeque::new(), limit: IDLE, guard: GUARD }
    }
}

impl<B> Pool<B> {
    /// A pool whose buffers have no guard bands, so that a sanitizer knows where each tensor ends.
    pub fn without_guard_bands() -> Self {
        Self { guard: 0, ..Self::default() }
    }

    /// Raises the size of the idle buffers that are kept to at least `bytes`.
    pub fn keep_at_least(&mut self, bytes: usize) {
        self.limit = self.limit.max(bytes);
    }

    /// Size in bytes of each guard band around the buffers.
    pub fn guard(&self) -> usize {
        self.guard
    }

    /// A buffer for a tensor. A buffer that another kernel uses is shared, unless it is only read and must hold other contents.
    pub fn take<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        spec: &TensorSpec,
        contents: &Contents,
    ) -> Result<Rc<PooledBuffer<B>>, Failure> {
        self.find(device, spec, BufferUse::Tensor(spec.role), contents, true)
    }

    /// A buffer for a copy of a tensor's contents. Idle copies of other contents are not overwritten while the pool has room.
    pub fn keep_copy<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        spec: &TensorSpec,
        contents: &Contents,
    ) -> Result<Rc<PooledBuffer<B>>, Failure> {
        let is_full = self.idle_bytes() + spec.bytes() > self.limit;
        self.find(device, spec, BufferUse::Copy, contents, is_full)
    }

    fn size(&self, pooled: &PooledBuffer<B>) -> usize {
        pooled.bytes + 2 * self.guard
    }

    fn idle_bytes(&self) -> usize {
        self.buffers.iter().filter(|pooled| is_idle(pooled)).map(|pooled| self.size(pooled)).sum()
    }

    /// Finds a buffer or allocates one. `overwrite`: whether an idle buffer with other contents may be taken.
    fn find<D: Device<Buffer = B>>(
        &mut self,
        device: &mut D,
        spec: &TensorSpec,
        used_as: BufferUse,
        contents: &Contents,
        overwrite: bool,
    ) -> Result<Rc<PooledBuffer<B>>, Failure> {
        let bytes = spec.bytes();
        let fits = |pooled: &Rc<PooledBuffer<B>>| {
            pooled.name == spec.name && pooled.bytes == bytes && pooled.used_as == used_as
        };
        let is_only_read = matches!(used_as, BufferUse::Tensor(Role::In) | BufferUse::Copy);
        let holds = |pooled: &Rc<PooledBuffer<B>>| !is_only_read || pooled.holds(contents);
        let at = self.buffers.iter().position(|pooled| fits(pooled) && holds(pooled));
        let at = at.or_else(|| self.buffers.iter().position(|pooled| overwrite && fits(pooled) && is_idle(pooled)));
        let known = at.and_then(|at| self.buffers.remove(at));
        let pooled = if let Some(pooled) = known {
            pooled
        } else {
            self.drop_idle(self.limit.saturating_sub(bytes));
            let size = bytes.saturating_add(2 * self.guard);
            let buffer = device.alloc(size).or_else(|_| {
                self.drop_idle(0);
                device.alloc(size)
            })?;
            Rc::new(PooledBuffer { buffer, name: spec.name.clone(), bytes, used_as, contents: RefCell::default() })
        };
        self.buffers.push_back(Rc::clone(&pooled));
        Ok(pooled)
    }

    /// Drops every idle buffer.
    pub fn clear(&mut self) {
        self.drop_idle(0);
    }

    /// Drops idle buffers, the least recently used ones first, until at most `keep` bytes of them are left.
    fn drop_idle(&mut self, keep: usize) {
        let mut idle = self.idle_bytes();
        let guard = self.guard;
        self.buffers.retain(|pooled| {
            let drop = is_idle(pooled) && idle > keep;
            if drop {
                idle -= pooled.bytes + 2 * guard;
            }
            !drop
        });
    }
}

/// Whether no kernel uses a buffer.
fn is_idle<B>(pooled: &Rc<PooledBuffer<B>>) -> bool {
    Rc::strong_count(pooled) == 1
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
        first.set_contents(contents(1));
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
            assert!(pool.buffers.len() <= 5);
        }
        let kept = pool.take(&mut device, &spec("kept", 100, Role::Out), &contents).unwrap();
        let refused = pool.take(&mut device, &spec("huge", 1 << 40, Role::Out), &contents);
        assert!(matches!(refused, Err(Failure::OutOfMemory { .. })));
        assert_eq!(pool.buffers.len(), 1);
        drop(kept);
        pool.clear();
        assert!(pool.buffers.is_empty());
    }
}

//! A kernel with its memory: every tensor between two guard bands, poisoned and restored before each launch.

mod findings;
mod input_sets;

use std::rc::Rc;
use std::sync::Arc;

use self::input_sets::InputCopies;
use super::poison::{NAN, Poison};
use super::pool::{Contents, Pool, PooledBuffer};
use crate::data::codec;
use crate::data::digest::Bytes;
use crate::device::{BoundArg, BoundLaunch, Device, GUARD, Purpose, Region, Write};
use crate::inputs::tensor::Inputs;
use crate::protocol::{Arg, DeviceKind, Failure, Role, Sequence, TensorSpec};

/// Size in bytes from which on an input is kept on the device between checks.
const KEPT: usize = 1 << 20;

/// The bytes of every output by tensor index.
pub type Outputs = Vec<(usize, Arc<Bytes>)>;

/// A kernel, its memory and its arguments.
pub struct KernelMemory<D: Device> {
    kernel: D::Kernel,
    /// The kernel bound to its arguments.
    pub bound: D::Bound,
    tensors: Vec<TensorSpec>,
    /// The buffer of each tensor that is an argument or an output.
    buffers: Vec<Option<Rc<PooledBuffer<D::Buffer>>>>,
    /// Initial contents of tensors that are read and written, for [`KernelMemory::restore_writes`].
    initial: Vec<Rc<PooledBuffer<D::Buffer>>>,
    /// Symbols of the machine code, and the tensors whose contents they get.
    symbols: Vec<(String, usize)>,
    /// Sets of inputs that samples alternate between, for [`KernelMemory::select_set`].
    sets: Vec<InputCopies<D::Buffer>>,
    /// The set whose contents the symbols hold; `None` if they hold rotated inputs.
    symbols_of: Option<usize>,
    /// Size in bytes of each guard band: [`GUARD`] or 0.
    guard: usize,
    /// The byte that fills the guard bands of written tensors.
    bands: u8,
}

impl<D: Device> KernelMemory<D> {
    /// Size in bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(TensorSpec::bytes).sum()
    }

    /// Loads a kernel and takes memory for the tensors among its arguments and for every output.
    pub fn new(
        device: &mut D,
        pool: &mut Pool<D::Buffer>,
        tensors: &[TensorSpec],
        inputs: &Arc<Inputs>,
        sequence: &Sequence,
        code: &[u8],
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        let entries: Vec<&str> = sequence.launches.iter().map(|launch| launch.entry.as_str()).collect();
        let kernel = device.load(code, &entries, purpose)?;
        let used = used_tensors(tensors, sequence)?;
        let buffers = tensors
            .iter()
            .zip(used)
            .enumerate()
            .map(|(index, (spec, used))| {
                used.then(|| pool.take(device, spec, &Contents::new(inputs, index))).transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let guard = pool.guard();
        let region = |tensor: usize| {
            let buffer = buffers[tensor].as_ref().expect("taken above").buffer.clone();
            Region { tensor, buffer, offset: guard, bytes: tensors[tensor].bytes() }
        };
        let mut launches = Vec::new();
        let mut symbols = Vec::new();
        for launch in &sequence.launches {
            let mut args = Vec::new();
            for arg in &launch.args {
                match arg {
                    Arg::Tensor(tensor) => args.push(BoundArg::Pointer(region(*tensor))),
                    Arg::Offset { tensor, elements } => {
                        args.push(BoundArg::Pointer(behind(region(*tensor), &tensors[*tensor], *elements)?));
                    }
                    Arg::Struct { bytes, fields } => args.push(bound_struct(*bytes, fields, tensors, region)?),
                    Arg::TensorMap(map) => args.push(BoundArg::TensorMap {
                        region: region(map.tensor),
                        dtype: tensors[map.tensor].dtype,
                        map: map.clone(),
                    }),
                    Arg::Scalar { dtype, value } => args.push(BoundArg::Scalar(codec::number(*dtype, *value))),
                    Arg::Symbol { symbol, tensor } => {
                        let symbol = (symbol.clone(), *tensor);
                        if !symbols.contains(&symbol) {
                            symbols.push(symbol);
                        }
                    }
                }
            }
            let zero = launch.zero.iter().map(|tensor| region(*tensor)).collect();
            launches.push(BoundLaunch { geometry: launch.geometry.clone(), args, zero });
        }
        let bound = device.bind(&kernel, &launches)?;
        Ok(Self {
            kernel,
            bound,
            tensors: tensors.to_vec(),
            buffers,
            initial: Vec::new(),
            symbols,
            sets: Vec::new(),
            symbols_of: Some(0),
            guard,
            bands: NAN,
        })
    }

    /// The tensors that have memory, with their indices.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, &TensorSpec)> {
        self.buffers().map(|(index, spec, _)| (index, spec))
    }

    fn buffers(&self) -> impl Iterator<Item = (usize, &TensorSpec, &D::Buffer)> {
        self.tensors
            .iter()
            .zip(&self.buffers)
            .enumerate()
            .filter_map(|(index, (spec, pooled))| Some((index, spec, &pooled.as_ref()?.buffer)))
    }

    /// The `index`-th tensor of the case.
    pub fn tensor(&self, index: usize) -> &TensorSpec {
        &self.tensors[index]
    }

    #[cfg(test)]
    pub fn shares_all_memory_with(&self, other: &Self) -> bool {
        let same = |(one, other): (&Option<Rc<_>>, &Option<Rc<_>>)| match (one, other) {
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.buffers.len() == other.buffers.len() && self.buffers.iter().zip(&other.buffers).all(same)
    }

    /// Whether a tensor of that name has memory.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().any(|(_, spec)| spec.name == name)
    }

    /// Whether the kernel overwrites tensors that it reads, so that their contents must be restored before each launch.
    pub fn is_in_place(&self) -> bool {
        self.tensors().any(|(_, spec)| spec.role.is_in_place())
    }

    /// Uploads the inputs of one seed and writes nothing else. The only method that works on memory
    /// [without guard bands](Pool::without_guard_bands).
    pub fn upload_inputs(&self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        self.set_symbols(device, inputs)?;
        let is_read = |(_, spec, _): &(usize, &TensorSpec, &D::Buffer)| spec.role.is_read();
        for (index, spec, buffer) in self.buffers().filter(is_read) {
            upload(device, buffer, self.guard, spec, inputs[index].as_ref().map(|data| &data[..]))?;
        }
        Ok(())
    }

    fn set_symbols(&self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        for (symbol, tensor) in &self.symbols {
            let spec = &self.tensors[*tensor];
            let Some(data) = &inputs[*tensor] else {
                let message = format!("`{}`, for the symbol `{symbol}`, has no contents", spec.name);
                return Err(Failure::Inputs { message });
            };
            device.set_symbol(&self.kernel, symbol, data)?;
        }
        Ok(())
    }

    /// Fills the memory for checks on one set of inputs: inputs, guard bands and NaN poison. With a pool, copies of large inputs stay on
    /// the device for the next kernel.
    pub fn prepare(
        &mut self,
        device: &mut D,
        mut pool: Option<&mut Pool<D::Buffer>>,
        inputs: &Arc<Inputs>,
    ) -> Result<(), Failure> {
        self.set_symbols(device, inputs)?;
        for (index, (spec, pooled)) in self.tensors.iter().zip(&self.buffers).enumerate() {
            let Some(pooled) = pooled.as_ref().filter(|_| spec.role == Role::In) else { continue };
            device.write(&guard_bands(&pooled.buffer, spec.bytes(), NAN))?;
            let contents = Contents::new(inputs, index);
            if !pooled.holds(&contents) || contents.bytes().is_none() {
                let is_kept = spec.bytes() >= KEPT && device.info().kind != DeviceKind::Host;
                let pool = pool.as_deref_mut().filter(|_| is_kept);
                match pool.map(|pool| copy_of(device, pool, spec, &contents)) {
                    Some(Ok(copy)) => device.write(&[copy_all(spec, &copy, pooled)])?,
                    _ => upload(device, &pooled.buffer, GUARD, spec, contents.bytes())?,
                }
                pooled.set_contents(contents);
            }
        }
        self.poison(device, inputs, Poison::NAN)
    }

    /// Fills the memory for a checked launch: poison in outputs, scratch and their guard bands, and their inputs in tensors that are read
    /// and written.
    ///
    /// The guard bands of tensors that are only read keep NaN: a read beyond an end gives NaN, and a copy of that NaN to another guard
    /// band shows in the launch on finite poison.
    pub fn poison(&mut self, device: &mut D, inputs: &Inputs, poison: Poison) -> Result<(), Failure> {
        self.bands = poison.bands;
        for (index, spec, buffer) in self.buffers() {
            match spec.role {
                Role::In => {}
                Role::Out | Role::Scratch => {
                    let (buffer, bytes, byte) = (buffer.clone(), spec.bytes(), poison.contents);
                    let contents = Write::Fill { buffer: buffer.clone(), offset: GUARD, bytes, byte };
                    let [before, after] = guard_bands(&buffer, bytes, poison.bands);
                    device.write(&[before, contents, after])?;
                }
                Role::Inout | Role::Clobbered => {
                    device.write(&guard_bands(buffer, spec.bytes(), poison.bands))?;
                    upload(device, buffer, GUARD, spec, inputs[index].as_ref().map(|data| &data[..]))?;
                }
            }
        }
        Ok(())
    }

    /// The writes that remove every trace of the launch before: NaN poison into outputs and scratch, the inputs into tensors that are read
    /// and written. Guard bands stay as they are.
    pub fn restore_writes(
        &mut self,
        device: &mut D,
        pool: &mut Pool<D::Buffer>,
        inputs: &Arc<Inputs>,
    ) -> Result<Vec<Write<D::Buffer>>, Failure> {
        let mut writes = Vec::new();
        let mut initial = std::mem::take(&mut self.initial);
        for (index, spec, buffer) in self.buffers() {
            let (to, offset, bytes) = (buffer.clone(), GUARD, spec.bytes());
            match spec.role {
                Role::In => {}
                Role::Out | Role::Scratch => writes.push(Write::Fill { buffer: to, offset, bytes, byte: NAN }),
                Role::Inout | Role::Clobbered => {
                    let copy = copy_of(device, pool, spec, &Contents::new(inputs, index))?;
                    writes.push(Write::Copy { from: copy.buffer.clone(), from_offset: offset, to, offset, bytes });
                    initial.push(copy);
                }
            }
        }
        self.initial = initial;
        Ok(writes)
    }

    /// Removes all results: another kernel may get this memory.
    pub fn wipe(&mut self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        for pooled in self.buffers.iter().flatten() {
            pooled.forget_contents();
        }
        self.poison(device, inputs, Poison::NAN)
    }

    fn output_buffer(&self, index: usize) -> &PooledBuffer<D::Buffer> {
        self.buffers[index].as_ref().expect("every output has memory")
    }

    /// Fills outputs with the bytes that a launch left in them. Other tensors stay as they are.
    pub fn set_outputs(&self, device: &mut D, outputs: &Outputs) -> Result<(), Failure> {
        for (index, data) in outputs.iter().filter(|(index, _)| self.tensors[*index].role == Role::Out) {
            let Some(pooled) = &self.buffers[*index] else { continue };
            if !device.holds(&pooled.buffer, GUARD, data)? {
                device.upload(&pooled.buffer, GUARD, data)?;
            }
        }
        Ok(())
    }

    /// Overwrites the `at`-th element of an output.
    pub fn set_element(&self, device: &mut D, index: usize, at: usize, bytes: &[u8]) -> Result<(), Failure> {
        device.upload(&self.output_buffer(index).buffer, GUARD + at * bytes.len(), bytes)
    }
}

/// The tensors that need memory: arguments of the launches, zeroed tensors, and every output.
fn used_tensors(tensors: &[TensorSpec], sequence: &Sequence) -> Result<Vec<bool>, Failure> {
    let mut used: Vec<bool> = tensors.iter().map(|spec| spec.role.is_output()).collect();
    let mut mark = |tensor: usize, needs_memory: bool| {
        let Some(used) = used.get_mut(tensor) else {
            let message = format!("a launch takes tensor {tensor}, but there are {}", tensors.len());
            return Err(Failure::Inputs { message });
        };
        *used |= needs_memory;
        Ok(())
    };
    for arg in sequence.args() {
        if let Arg::Symbol { tensor, .. } = arg {
            mark(*tensor, false)?;
        }
        arg.passed().into_iter().try_for_each(|tensor| mark(tensor, true))?;
    }
    for tensor in sequence.launches.iter().flat_map(|launch| &launch.zero) {
        mark(*tensor, true)?;
    }
    Ok(used)
}

/// The memory of a tensor from an element on.
fn behind<B>(region: Region<B>, spec: &TensorSpec, elements: u64) -> Result<Region<B>, Failure> {
    let bytes = usize::try_from(elements).ok().and_then(|elements| elements.checked_mul(spec.dtype.size()));
    let Some(bytes) = bytes.filter(|&bytes| bytes <= region.bytes) else {
        let message =
            format!("an offset of {elements} elements is beyond `{}`, which has {}", spec.name, spec.elements());
        return Err(Failure::LaunchRefused { message });
    };
    Ok(Region { offset: region.offset + bytes, bytes: region.bytes - bytes, ..region })
}

/// A struct argument of `size` bytes, with the memory of the tensors among its fields.
fn bound_struct<B>(
    size: usize,
    fields: &[(usize, Arg)],
    tensors: &[TensorSpec],
    region: impl Fn(usize) -> Region<B>,
) -> Result<BoundArg<B>, Failure> {
    let (mut bytes, mut pointers) = (vec![0; size], Vec::new());
    for (at, field) in fields {
        match field {
            Arg::Tensor(tensor) => pointers.push((*at, region(*tensor))),
            Arg::Offset { tensor, elements } => {
                pointers.push((*at, behind(region(*tensor), &tensors[*tensor], *elements)?));
            }
            Arg::Scalar { dtype, value } => {
                let value = codec::number(*dtype, *value);
                bytes[*at..*at + value.len()].copy_from_slice(&value);
            }
            Arg::Struct { .. } | Arg::TensorMap(_) | Arg::Symbol { .. } => {
                return Err(Failure::Unsupported { message: "a struct holds tensors and scalars".to_owned() });
            }
        }
    }
    Ok(BoundArg::Struct { bytes, pointers })
}

/// A buffer that holds a tensor's contents, to be copied to the buffer that the kernel reads.
fn copy_of<D: Device>(
    device: &mut D,
    pool: &mut Pool<D::Buffer>,
    spec: &TensorSpec,
    contents: &Contents,
) -> Result<Rc<PooledBuffer<D::Buffer>>, Failure> {
    let pooled = pool.keep_copy(device, spec, contents)?;
    if !pooled.holds(contents) {
        upload(device, &pooled.buffer, GUARD, spec, contents.bytes())?;
        pooled.set_contents(contents.clone());
    }
    Ok(pooled)
}

/// The write that copies a whole tensor from one buffer to another.
fn copy_all<B: Clone>(spec: &TensorSpec, from: &PooledBuffer<B>, to: &PooledBuffer<B>) -> Write<B> {
    let (from, to, bytes) = (from.buffer.clone(), to.buffer.clone(), spec.bytes());
    Write::Copy { from, from_offset: GUARD, to, offset: GUARD, bytes }
}

/// The writes that fill the guard bands around a tensor of that size.
fn guard_bands<B: Clone>(buffer: &B, bytes: usize, byte: u8) -> [Write<B>; 2] {
    [0, GUARD + bytes].map(|offset| Write::Fill { buffer: buffer.clone(), offset, bytes: GUARD, byte })
}

fn upload<D: Device>(
    device: &mut D,
    buffer: &D::Buffer,
    offset: usize,
    spec: &TensorSpec,
    data: Option<&[u8]>,
) -> Result<(), Failure> {
    match data {
        Some(data) if data.len() == spec.bytes() => device.upload(buffer, offset, data),
        Some(_) | None => Err(Failure::Inputs { message: format!("`{}` is read but has no contents", spec.name) }),
    }
}

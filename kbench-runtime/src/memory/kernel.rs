//! A kernel with all its memory: every tensor between two guard bands, poisoned and restored before each launch.

mod sets;

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use self::sets::InputCopies;
use crate::data::codec;
use crate::data::digest::{Bytes, digest, key};
use crate::device::{BoundArg, Device, GUARD, Range, Write};
use crate::inputs::tensor::Inputs;
use crate::memory::outputs::OutputCache;
use crate::memory::pool::{Contents, Pool, Slot};
use crate::protocol::{Arg, DeviceKind, Failure, Launch, OutOfBounds, Role, Source, TensorSpec};

/// Inputs of so many bytes are kept on the device.
const KEPT: usize = 1 << 20;

/// The first poison: NaN in every floating-point type, -1 or the maximum in every integer.
pub const NAN: u8 = 0xff;

/// The other poison: finite in every type, and different from the first in every byte.
pub const FINITE: u8 = 0x3c;

/// In place of the other poison where nothing is compared with it, in shared memory and registers: a large number in every type, for
/// a maximum passes over NaN and over what is small.
pub const LARGE: u8 = 0x7b;

/// What memory that a kernel may write holds before a checked launch: tensors, and the guard bands around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poison {
    /// Every byte of outputs and scratch.
    pub contents: u8,
    /// Every byte of their guard bands, and of those of tensors that are read and written.
    pub bands: u8,
}

impl Poison {
    /// [`NAN`] everywhere.
    pub const NAN: Self = Self { contents: NAN, bands: NAN };
    /// [`FINITE`] everywhere.
    pub const FINITE: Self = Self { contents: FINITE, bands: FINITE };
    /// What no tolerance takes for a result, between bands that nothing but NaN changes from.
    pub const MIXED: Self = Self { contents: NAN, bands: FINITE };
}

/// Digests of all memory of a rig, taken at once, where the device is far enough for that: nothing is fetched that is known.
pub struct Survey(Vec<Option<Held>>);

/// Digests of a tensor and of the guard bands before and after it.
#[derive(Clone, Copy)]
struct Held {
    tensor: u64,
    bands: [u64; 2],
}

impl Survey {
    fn tensor(&self, index: usize) -> Option<u64> {
        Some(self.0.get(index)?.as_ref()?.tensor)
    }

    fn band(&self, index: usize, after: bool) -> Option<u64> {
        Some(self.0.get(index)?.as_ref()?.bands[usize::from(after)])
    }
}

/// The digest of a guard band full of one byte.
fn digest_of_band(byte: u8) -> u64 {
    static DIGESTS: [OnceLock<u64>; 256] = [const { OnceLock::new() }; 256];
    *DIGESTS[usize::from(byte)].get_or_init(|| digest(&vec![byte; GUARD], key()))
}

/// A kernel, its memory and its arguments.
pub struct Rig<D: Device> {
    kernel: D::Kernel,
    /// The kernel bound to its arguments.
    pub bound: D::Bound,
    tensors: Vec<TensorSpec>,
    slots: Vec<Option<Rc<Slot<D::Buffer>>>>,
    /// Contents of tensors that are read and written, for [`Rig::writes`].
    first_contents: Vec<Rc<Slot<D::Buffer>>>,
    symbols: Vec<(String, usize)>,
    /// Inputs that take turns, for [`Rig::switch`].
    sets: Vec<InputCopies<D::Buffer>>,
    /// Whose contents the symbols hold.
    symbols_of: usize,
    /// Bytes of each guard band: [`GUARD`], or none.
    guard: usize,
    /// What the guard bands of written tensors hold.
    bands: u8,
}

impl<D: Device> Rig<D> {
    /// Loads a kernel and takes its memory: the tensors among its arguments, and every output.
    pub fn new(
        device: &mut D,
        pool: &mut Pool<D::Buffer>,
        tensors: &[TensorSpec],
        inputs: &Arc<Inputs>,
        launch: &Launch,
        code: &[u8],
    ) -> Result<Self, Failure> {
        let kernel = device.load(code, &launch.entry)?;
        let mut used: Vec<bool> = tensors.iter().map(|spec| is_output(spec.role)).collect();
        for (at, arg) in launch.args.iter().enumerate() {
            let tensor = match arg {
                Arg::Tensor(tensor) | Arg::Symbol { tensor, .. } => *tensor,
                Arg::TensorMap(map) => map.tensor,
                Arg::Scalar { .. } => continue,
            };
            let Some(used) = used.get_mut(tensor) else {
                let message = format!("argument {at} is tensor {tensor}, but there are {}", tensors.len());
                return Err(Failure::Inputs { message });
            };
            *used |= !matches!(arg, Arg::Symbol { .. });
        }
        let slots = tensors
            .iter()
            .zip(used)
            .enumerate()
            .map(|(index, (spec, used))| {
                used.then(|| pool.take(device, spec, &Contents::new(inputs, index))).transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let guard = pool.guard();
        let mut args = Vec::new();
        let mut symbols = Vec::new();
        for arg in &launch.args {
            let buffer = |tensor: usize| slots[tensor].as_ref().expect("taken above").buffer.clone();
            match arg {
                Arg::Tensor(tensor) => args.push(BoundArg::Pointer {
                    buffer: buffer(*tensor),
                    offset: guard,
                    bytes: tensors[*tensor].bytes(),
                }),
                Arg::TensorMap(map) => args.push(BoundArg::TensorMap {
                    buffer: buffer(map.tensor),
                    offset: guard,
                    bytes: tensors[map.tensor].bytes(),
                    dtype: tensors[map.tensor].dtype,
                    map: map.clone(),
                }),
                Arg::Scalar { dtype, value } => args.push(BoundArg::Scalar(codec::number(*dtype, *value))),
                Arg::Symbol { symbol, tensor } => symbols.push((symbol.clone(), *tensor)),
            }
        }
        let bound = device.bind(&kernel, &launch.geometry, &args)?;
        let (tensors, first_contents, sets) = (tensors.to_vec(), Vec::new(), Vec::new());
        Ok(Self { kernel, bound, tensors, slots, first_contents, symbols, sets, symbols_of: 0, guard, bands: NAN })
    }

    /// The tensors it has memory for, with their indices.
    pub fn tensors_by_index(&self) -> impl Iterator<Item = (usize, &TensorSpec)> {
        self.slots().map(|(index, spec, _)| (index, spec))
    }

    fn slots(&self) -> impl Iterator<Item = (usize, &TensorSpec, &D::Buffer)> {
        self.tensors
            .iter()
            .zip(&self.slots)
            .enumerate()
            .filter_map(|(index, (spec, slot))| Some((index, spec, &slot.as_ref()?.buffer)))
    }

    /// The tensors it has memory for.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorSpec> {
        self.slots().map(|(_, spec, _)| spec)
    }

    /// The `index`-th tensor of its case.
    pub fn tensor(&self, index: usize) -> &TensorSpec {
        &self.tensors[index]
    }

    #[cfg(test)]
    pub fn shares_all_memory_with(&self, other: &Self) -> bool {
        let same = |(one, other): (&Option<Rc<_>>, &Option<Rc<_>>)| match (one, other) {
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.slots.len() == other.slots.len() && self.slots.iter().zip(&other.slots).all(same)
    }

    /// Whether it has memory for a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().any(|spec| spec.name == name)
    }

    /// Whether the kernel changes what it reads, so that each launch needs its inputs restored.
    pub fn is_in_place(&self) -> bool {
        self.slots().any(|(_, spec, _)| spec.role == Role::Inout)
    }

    /// Gives the kernel the inputs of one seed and writes nothing else. All that may be done with memory of a
    /// [bare](Pool::bare) pool; the rest of this type counts on guard bands.
    pub fn give(&self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        self.set_symbols(device, inputs)?;
        let read = |(_, spec, _): &(usize, &TensorSpec, &D::Buffer)| matches!(spec.role, Role::In | Role::Inout);
        for (index, spec, buffer) in self.slots().filter(read) {
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

    /// Gives the kernel the inputs of one seed, and fresh guard bands. With a pool, copies of large inputs stay on the device for
    /// the next rig.
    pub fn begin(
        &mut self,
        device: &mut D,
        mut pool: Option<&mut Pool<D::Buffer>>,
        inputs: &Arc<Inputs>,
    ) -> Result<(), Failure> {
        self.set_symbols(device, inputs)?;
        for (index, (spec, slot)) in self.tensors.iter().zip(&self.slots).enumerate() {
            let Some(slot) = slot.as_ref().filter(|_| spec.role == Role::In) else { continue };
            device.write(&guards(&slot.buffer, spec.bytes(), NAN))?;
            let contents = Contents::new(inputs, index);
            if !slot.holds(&contents) || contents.bytes().is_none() {
                let is_far = spec.bytes() >= KEPT && device.info().kind != DeviceKind::Host;
                let pool = pool.as_deref_mut().filter(|_| is_far);
                match pool.map(|pool| copy_of(device, pool, spec, &contents)) {
                    Some(Ok(copy)) => device.write(&[sets::whole(spec, &copy, slot)])?,
                    _ => upload(device, &slot.buffer, GUARD, spec, contents.bytes())?,
                }
                slot.now_holds(contents);
            }
        }
        self.poison(device, inputs, Poison::NAN)
    }

    /// Makes the memory as it must be before a checked launch: outputs, scratch and their guard bands hold poison, tensors
    /// that are read and written hold their inputs.
    ///
    /// The guard bands of what is only read keep NaN: reading beyond an end gives NaN, and copying it to another guard band
    /// shows in the launch with the other poison.
    pub fn poison(&mut self, device: &mut D, inputs: &Inputs, poison: Poison) -> Result<(), Failure> {
        self.bands = poison.bands;
        for (index, spec, buffer) in self.slots() {
            match spec.role {
                Role::In => {}
                Role::Out | Role::Scratch => {
                    let (buffer, bytes, byte) = (buffer.clone(), spec.bytes(), poison.contents);
                    let contents = Write::Fill { buffer: buffer.clone(), offset: GUARD, bytes, byte };
                    let [before, after] = guards(&buffer, bytes, poison.bands);
                    device.write(&[before, contents, after])?;
                }
                Role::Inout => {
                    device.write(&guards(buffer, spec.bytes(), poison.bands))?;
                    upload(device, buffer, GUARD, spec, inputs[index].as_ref().map(|data| &data[..]))?;
                }
            }
        }
        Ok(())
    }

    /// What makes the tensors ready for a launch without a trace of the one before: poison in outputs and scratch, their inputs
    /// in tensors that are read and written. Guard bands stay as they are.
    pub fn writes(
        &mut self,
        device: &mut D,
        pool: &mut Pool<D::Buffer>,
        inputs: &Arc<Inputs>,
    ) -> Result<Vec<Write<D::Buffer>>, Failure> {
        let mut writes = Vec::new();
        let mut first_contents = std::mem::take(&mut self.first_contents);
        for (index, spec, buffer) in self.slots() {
            let (to, offset, bytes) = (buffer.clone(), GUARD, spec.bytes());
            match spec.role {
                Role::In => {}
                Role::Out | Role::Scratch => writes.push(Write::Fill { buffer: to, offset, bytes, byte: NAN }),
                Role::Inout => {
                    // No other tensor has a name with a blank in it.
                    let slot = copy_of(device, pool, spec, &Contents::new(inputs, index))?;
                    writes.push(Write::Copy { from: slot.buffer.clone(), from_offset: offset, to, offset, bytes });
                    first_contents.push(slot);
                }
            }
        }
        self.first_contents = first_contents;
        Ok(writes)
    }

    /// Leaves nothing of what was computed: memory that is kept may be seen by another kernel.
    pub fn wipe(&mut self, device: &mut D, inputs: &Inputs) -> Result<(), Failure> {
        for slot in self.slots.iter().flatten() {
            slot.holds_unknown();
        }
        self.poison(device, inputs, Poison::NAN)
    }

    /// Bytes of a tensor from `at` on.
    pub fn piece(&self, device: &mut D, index: usize, at: usize, bytes: usize) -> Result<Vec<u8>, Failure> {
        let slot = self.slots[index].as_ref().expect("every output has memory");
        let mut piece = vec![0; bytes];
        device.download(&slot.buffer, GUARD + at, &mut piece)?;
        Ok(piece)
    }

    /// Gives outputs the bytes that a launch left in them; other tensors stay as they are.
    pub fn set_outputs(&self, device: &mut D, outputs: &Outputs) -> Result<(), Failure> {
        for (index, data) in outputs.iter().filter(|(index, _)| self.tensors[*index].role == Role::Out) {
            let Some(slot) = &self.slots[*index] else { continue };
            if !device.holds(&slot.buffer, GUARD, data)? {
                device.upload(&slot.buffer, GUARD, data)?;
            }
        }
        Ok(())
    }

    /// Gives one element of an output other bytes.
    pub fn set_element(&self, device: &mut D, index: usize, at: usize, bytes: &[u8]) -> Result<(), Failure> {
        let slot = self.slots[index].as_ref().expect("every output has memory");
        device.upload(&slot.buffer, GUARD + at * bytes.len(), bytes)
    }

    /// The bytes of one element of an output.
    pub fn element(&self, device: &mut D, index: usize, at: usize) -> Result<Vec<u8>, Failure> {
        let size = self.tensors[index].dtype.size();
        self.piece(device, index, at * size, size)
    }

    /// Looks at all memory at once, if the device can.
    pub fn survey(&self, device: &mut D) -> Result<Survey, Failure> {
        let mut ranges = Vec::new();
        for (_, spec, buffer) in self.slots() {
            let bytes = spec.bytes();
            for (offset, bytes) in [(GUARD, bytes), (0, GUARD), (GUARD + bytes, GUARD)] {
                ranges.push(Range { buffer, offset, bytes });
            }
        }
        let Some(digests) = device.digests(&ranges)? else { return Ok(Survey(Vec::new())) };
        let mut held = vec![None; self.slots.len()];
        for ((index, ..), &[tensor, before, after]) in self.slots().zip(digests.as_chunks().0) {
            held[index] = Some(Held { tensor, bands: [before, after] });
        }
        Ok(Survey(held))
    }

    /// The bytes of every output: `known` itself where they are the same.
    pub fn outputs_or(
        &self,
        device: &mut D,
        cache: &mut OutputCache,
        survey: &Survey,
        known: &Outputs,
    ) -> Result<Outputs, Failure> {
        for (index, data) in known {
            if !self.holds(device, survey, *index, data)? {
                return self.outputs(device, cache, survey);
            }
        }
        Ok(known.clone())
    }

    /// The bytes of every output.
    pub fn outputs(&self, device: &mut D, cache: &mut OutputCache, survey: &Survey) -> Result<Outputs, Failure> {
        let outputs = self.slots().filter(|(_, spec, _)| is_output(spec.role));
        outputs
            .map(|(index, spec, buffer)| {
                let range = Range { buffer, offset: GUARD, bytes: spec.bytes() };
                Ok((index, cache.fetch(device, &range, survey.tensor(index))?))
            })
            .collect()
    }

    /// Whether a tensor holds these bytes.
    fn holds(&self, device: &mut D, survey: &Survey, index: usize, data: &Bytes) -> Result<bool, Failure> {
        match survey.tensor(index) {
            Some(digest) => Ok(digest == data.digest()),
            None => device.holds(&self.slots[index].as_ref().expect("it has memory").buffer, GUARD, data),
        }
    }

    /// Adds what guard bands show to `seen`, and repairs those of the inputs.
    pub fn out_of_bounds(&self, device: &mut D, survey: &Survey, seen: &mut Vec<OutOfBounds>) -> Result<(), Failure> {
        let mut band = vec![0; GUARD];
        for (index, spec, buffer) in self.slots() {
            let want = if spec.role == Role::In { NAN } else { self.bands };
            for after in [false, true] {
                if survey.band(index, after) == Some(digest_of_band(want)) {
                    continue;
                }
                let start = if after { GUARD + spec.bytes() } else { 0 };
                device.download(buffer, start, &mut band)?;
                let changed = |byte: &u8| *byte != want;
                let bytes = band.iter().filter(|byte| changed(byte)).count() as u64;
                let nearest = if after { band.iter().position(changed) } else { band.iter().rposition(changed) };
                let Some(nearest) = nearest else { continue };
                let offset = (start + nearest) as i64 - GUARD as i64;
                device.fill(buffer, start, GUARD, want)?;
                match seen.iter_mut().find(|other| other.tensor == spec.name && (other.offset >= 0) == after) {
                    None => seen.push(OutOfBounds { tensor: spec.name.clone(), offset, bytes }),
                    Some(other) => {
                        other.bytes = other.bytes.max(bytes);
                        other.offset = if after { other.offset.min(offset) } else { other.offset.max(offset) };
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the names of changed inputs to `seen`, and restores them.
    pub fn inputs_changed(
        &self,
        device: &mut D,
        survey: &Survey,
        inputs: &Inputs,
        seen: &mut Vec<String>,
    ) -> Result<(), Failure> {
        for (index, spec, buffer) in self.slots().filter(|(_, spec, _)| spec.role == Role::In) {
            let Some(want) = &inputs[index] else { continue };
            if !self.holds(device, survey, index, want)? {
                device.upload(buffer, GUARD, want)?;
                if !seen.contains(&spec.name) {
                    seen.push(spec.name.clone());
                }
            }
        }
        Ok(())
    }
}

/// Memory that holds a tensor's contents, to be copied to where the kernel finds it.
fn copy_of<D: Device>(
    device: &mut D,
    pool: &mut Pool<D::Buffer>,
    spec: &TensorSpec,
    contents: &Contents,
) -> Result<Rc<Slot<D::Buffer>>, Failure> {
    // No other tensor has a name with a blank in it.
    let name = format!("{} at first", spec.name);
    let copy = TensorSpec { name, role: Role::In, source: Source::None, ..spec.clone() };
    let slot = pool.keep(device, &copy, contents)?;
    if !slot.holds(contents) {
        upload(device, &slot.buffer, GUARD, spec, contents.bytes())?;
        slot.now_holds(contents.clone());
    }
    Ok(slot)
}

/// The bytes of every output by tensor index.
pub type Outputs = Vec<(usize, Arc<Bytes>)>;

/// Whether a tensor is compared with the reference's.
pub fn is_output(role: Role) -> bool {
    matches!(role, Role::Out | Role::Inout)
}

/// What fills the guard bands around a tensor of so many bytes.
fn guards<B: Clone>(buffer: &B, bytes: usize, byte: u8) -> [Write<B>; 2] {
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
